"""GGUF files out: against llama.cpp, the gguf package, and back in again."""

import dataclasses

import gguf
import h5py
import numpy as np
import pytest
import tokenizers

from minigpt_tf.errors import ConfigError, MiniGPTError, ModelFolderError
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.inference.weights import open_weights, weight_shapes
from minigpt_tf.interop.gguf.read_gguf import open_gguf
from minigpt_tf.interop.gguf.write_gguf import export_gguf
from minigpt_tf.interop.gguf.write_vocabulary import notice_of_text, written_tokenizer
from minigpt_tf.interop.source import write_model_folder
from minigpt_tf.interop.vocabularies import (
    byte_level_tokenizer,
    sentencepiece_from_pieces,
    sentencepiece_tokenizer,
)
from minigpt_tf.text.chat_template import ChatTemplate
from minigpt_tf.text.compiled.byte_level import byte_symbols
from minigpt_tf.text.tokenizers import (
    BytePairTokenizer,
    CharTokenizer,
    ImportedTokenizer,
    WordTokenizer,
)
from tests.conftest import SAMPLE
from tests.interop.folders import TEXT, LlamaCpp, engine_greedy, family_config, make_folder

STRANGE = TEXT + "ü文ķ<|endoftext|>\r\n\t x"
"""With characters that no char tokenizer of TEXT knows, some of whose bytes it does."""


def tokenizer_of(kind):
    if kind == "char":
        return CharTokenizer.train([TEXT])
    return BytePairTokenizer.train([TEXT] * 3, 290)


@pytest.fixture
def llama_cpp():
    """llama.cpp, where it is installed."""
    pytest.importorskip("llama_cpp", reason="llama.cpp is not installed")
    return LlamaCpp


def folder_of(tmp_path, family, kind, **overrides):
    tokenizer = tokenizer_of(kind)
    size = tokenizer.vocab_size if kind == "char" else 300
    config = family_config(family, **{"vocab_size": size, **overrides})
    return make_folder(tmp_path / "model", config, tokenizer)


def surest_prompt(engine, vocab_size, count):
    """The prompt of one token after which the greedy tokens are farthest from any other: how far,
    in logits, and the prompt."""
    best = (-1.0, [0])
    for first in range(0, vocab_size, vocab_size // 15):
        logits, margins = engine.prefill([first]), []
        for _ in range(count):
            second, top = np.sort(logits)[-2:]
            margins.append(top - second)
            logits = engine.decode_step(int(logits.argmax()))
        best = max(best, (float(min(margins)), [first]))
    return best


NOISE = {"f32": 0.02, "f16": 0.1, "q8_0": 1.0}
"""Largest difference of a logit, whose spread is 2 to 6. llama.cpp has a table of half-precision
numbers for GPT-2's GELU, and rounds activations too where weights are in 8 bits."""


@pytest.mark.parametrize("kind", ["char", "bpe"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_llama_cpp_gives_the_same_text(tmp_path, llama_cpp, family, tied, kind):
    folder = folder_of(tmp_path, family, kind, tie_embeddings=tied)
    engine, _ = Engine.load(folder)
    size = folder.tokenizer.vocab_size
    ids = folder.tokenizer.encode(TEXT).tolist()[:40]
    margin, prompt = surest_prompt(engine, size, 32)
    for dtype, noise in NOISE.items():
        file = tmp_path / f"{dtype}.gguf"
        export_gguf(folder, file, dtype)
        theirs = llama_cpp(file)
        assert theirs.encode(STRANGE) == folder.tokenizer.encode(STRANGE).tolist()
        ours, found = engine.all_logits(ids), theirs.logits(ids)
        exact = 1e-4 if (family, dtype) == ("llama", "f32") else noise
        np.testing.assert_allclose(found[:, :size], ours[:, :size], atol=exact)
        if kind == "char":  # a token that ends texts, and that is never the likeliest
            assert found.shape[1] == size + 1 and (found[:, size] < found.max(axis=1)).all()
            np.testing.assert_allclose(found[:, size], ours.mean(axis=1), atol=noise)
        assert theirs.greedy(prompt, 32) == engine_greedy(engine, prompt, 32), (dtype, margin)


@pytest.mark.parametrize(
    "scaling",
    [
        {"factor": 4.0},
        {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_context_length": 16.0,
        },
    ],
)
def test_llama_cpp_stretches_rotary_angles_as_we_do(tmp_path, llama_cpp, scaling):
    folder = folder_of(
        tmp_path, "llama", "bpe", rope_scaling=scaling, qkv_bias=True, head_dim=16, num_kv_heads=1
    )
    export_gguf(folder, tmp_path / "m.gguf", "f32")
    ids = np.random.default_rng(0).integers(0, 290, 60).tolist()
    expected = Engine.load(folder)[0].all_logits(ids)
    found = llama_cpp(tmp_path / "m.gguf").logits(ids)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert open_gguf(tmp_path / "m.gguf").config == folder.model


TEMPLATE = ChatTemplate(
    "{% for m in messages %}<|im_start|>{{ m['content'] }}{{ eos_token }}{% endfor %}",
    {"bos_token": "<s>", "eos_token": "<|im_end|>"},
)


def chat_tokenizer():
    """A byte-level tokenizer with special tokens and a gap."""
    tokens = [*byte_symbols(), "ab", "", "<s>", "<|im_end|>", "<|im_start|>", "<mark>"]
    types = [1] * 257 + [5] + [3] * 3 + [4]
    backend = byte_level_tokenizer(tokens, ["a b"], "smollm", types)
    return ImportedTokenizer(backend, end_ids=[259, 260], prefix_ids=[258])


def test_special_tokens_template_and_origin_are_in_the_file(tmp_path, llama_cpp):
    folder = make_folder(
        tmp_path / "model",
        family_config("llama"),
        chat_tokenizer(),
        template=TEMPLATE,
        generation={"temperature": 0.5, "top_k": 7, "repetition_penalty": 1.5},
        source={"name": "Tiny", "license": "apache-2.0", "url": "https://example.org"},
    )
    file = tmp_path / "m.gguf"
    export_gguf(folder, file, "f16")
    theirs = llama_cpp(file)
    metadata = theirs.model.metadata
    assert metadata["tokenizer.chat_template"] == TEMPLATE.source
    assert metadata["general.name"] == "Tiny" and metadata["general.license"] == "apache-2.0"
    assert metadata["tokenizer.ggml.pre"] == "smollm"
    vocabulary = theirs.api.llama_model_get_vocab(theirs.model.model)
    assert theirs.api.llama_vocab_bos(vocabulary) == 258
    assert theirs.api.llama_vocab_eos(vocabulary) == 259
    assert theirs.api.llama_vocab_get_add_bos(vocabulary)
    ends = [i for i in range(300) if theirs.api.llama_vocab_is_eog(vocabulary, i)]
    assert ends == [259, 260]
    for text in (STRANGE, "<s>ab<|im_start|>12 <mark> b[PAD1]"):
        assert theirs.encode(text) == folder.tokenizer.encode(text).tolist()
    back = open_gguf(file)
    assert back.tokenizer.to_bytes() == folder.tokenizer.to_bytes()
    assert (back.tokenizer.end_ids, back.tokenizer.prefix_ids) == ({259, 260}, (258,))
    assert back.chat_template == TEMPLATE and back.start_ids == folder.start_ids == [1]
    assert back.generation == folder.generation
    assert back.origin["license"] == "apache-2.0" and back.origin["url"] == "https://example.org"


def sentencepiece_like(tmp_path):
    """A tokenizer as Llama 2's."""
    sentencepiece = pytest.importorskip("sentencepiece")
    sentencepiece.SentencePieceTrainer.train(
        input=str(SAMPLE),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=500,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    backend = sentencepiece_tokenizer(tmp_path / "tokenizer.model")
    return ImportedTokenizer(backend, end_ids=[2], prefix_ids=[1])


def test_sentencepiece_tokenizers_become_llama_vocabularies(tmp_path, llama_cpp):
    tokenizer = sentencepiece_like(tmp_path)
    folder = make_folder(tmp_path / "model", family_config("llama", vocab_size=512), tokenizer)
    export_gguf(folder, tmp_path / "m.gguf", "f16")
    theirs, back = llama_cpp(tmp_path / "m.gguf"), open_gguf(tmp_path / "m.gguf").tokenizer
    texts = [TEXT, "a</s>b", "  two  spaces ", *SAMPLE.read_text().splitlines()]
    for text in texts:
        expected = tokenizer.encode(text).tolist()
        assert theirs.encode(text) == expected and back.encode(text).tolist() == expected, text
    assert back.end_ids == {2} and back.prefix_ids == (1,)


ROUND_TRIPS = {
    "gpt2": ("gpt2", "bpe", {}),
    "no biases, no float32 blocks": (
        "gpt2",
        "char",
        {"use_bias": False, "qkv_bias": False, "activation": "gelu", "embed_dim": 20},
    ),
    "untied": ("gpt2", "char", {"tie_embeddings": False, "qkv_bias": False}),
    "llama": ("llama", "bpe", {"rope_scaling": {"factor": 2.0}, "head_dim": 6}),
    "biases of queries": ("llama", "char", {"qkv_bias": True, "tie_embeddings": False}),
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_import_of_an_export_is_the_same_model(tmp_path, name):
    family, kind, overrides = ROUND_TRIPS[name]
    folder = folder_of(tmp_path, family, kind, **overrides)
    export_gguf(folder, tmp_path / "m.gguf", "f32")
    write_model_folder(open_gguf(tmp_path / "m.gguf"), tmp_path / "back")
    back = load_folder(tmp_path / "back")
    assert back.model == folder.model and back.start_ids == folder.start_ids
    assert type(back.tokenizer) is type(folder.tokenizer)
    assert back.tokenizer.kind == folder.tokenizer.kind
    assert back.tokenizer.end_ids == folder.tokenizer.end_ids
    assert (back.tokenizer.encode(STRANGE) == folder.tokenizer.encode(STRANGE)).all()
    files = [f.path / "model.h5" for f in (folder, back)]
    with open_weights(files[0], folder.model) as own, open_weights(files[1], back.model) as other:
        assert own.keys() == other.keys()
        assert all((np.asarray(own[n]) == np.asarray(other[n])).all() for n in own)


def test_types_of_tensors(tmp_path):
    folder = folder_of(tmp_path, "gpt2", "bpe", ff_dim=48)
    for dtype, matrix in (("f32", "F32"), ("f16", "F16"), ("q8_0", "Q8_0")):
        export_gguf(folder, tmp_path / "m.gguf", dtype)  # the file before is replaced
        reader = gguf.GGUFReader(tmp_path / "m.gguf")
        types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
        assert types["token_embd.weight"] == types["blk.0.ffn_up.weight"] == matrix
        narrow = "F16" if dtype == "q8_0" else matrix  # rows of 48 are no whole blocks of 32
        assert types["blk.0.ffn_down.weight"] == narrow
        assert types["position_embd.weight"] == types["blk.0.attn_norm.weight"] == "F32"
        assert types["blk.1.ffn_up.bias"] == "F32"


@pytest.mark.parametrize(
    "overrides, reason",
    [
        ({"activation": "relu"}, "activation=relu: llama.cpp"),
        ({"norm_first": False}, "gpt2, has no norm_placement=after"),
        ({"positions": "sinusoidal"}, "no positions=sinusoidal"),
    ],
)
def test_models_that_do_not_fit_are_refused(tmp_path, overrides, reason):
    folder = folder_of(tmp_path, "gpt2", "char")
    folder = dataclasses.replace(folder, model=dataclasses.replace(folder.model, **overrides))
    with pytest.raises(ConfigError, match=reason):
        export_gguf(folder, tmp_path / "m.gguf", "f32")
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def bpe_with(**changes):
    """A byte-level tokenizer, one part of which llama.cpp cannot do."""
    backend = tokenizers.Tokenizer.from_str(tokenizer_of("bpe").backend.to_str())
    for name, value in changes.items():
        setattr(backend, name, value)
    return ImportedTokenizer(backend)


def lacking_a_merge():
    """Joins a and b, and not b and b, though that is a token too."""
    vocabulary = {"a": 0, "b": 1, "ab": 2, "bb": 3, "abb": 4, "<0x41>": 5}
    model = tokenizers.models.BPE(vocabulary, [("a", "b"), ("ab", "b")], byte_fallback=True)
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = tokenizers.normalizers.Replace(" ", "\u2581")
    return ImportedTokenizer(backend)


TOKENIZERS = {
    "word tokenizer fits into no GGUF": lambda: WordTokenizer.train([TEXT], 50),
    "cuts text in a way that has no name": lambda: bpe_with(
        pre_tokenizer=tokenizers.pre_tokenizers.Whitespace()
    ),
    "known are gpt-2": lambda: bpe_with(normalizer=tokenizers.normalizers.Lowercase()),
    "no pieces for single bytes": lambda: bpe_with(
        decoder=tokenizers.decoders.Fuse(), pre_tokenizer=None
    ),
    "merges are not those of SentencePiece": lacking_a_merge,
    "kind WordLevel": lambda: ImportedTokenizer(
        tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, "a"))
    ),
    r"prefix_ids=\[1, 2\]": lambda: ImportedTokenizer(tokenizer_of("bpe").backend, [0], [1, 2]),
    r"end_ids=\[1, 2, 3, 4\]": lambda: ImportedTokenizer(tokenizer_of("bpe").backend, [1, 2, 3, 4]),
}


def test_a_tokenizer_that_composes_letters_is_written_with_a_notice(tmp_path):
    """Qwen's: llama.cpp, whose converter leaves this away, has the ids of composed texts."""
    folder = folder_of(tmp_path, "gpt2", "bpe")
    composing = bpe_with(normalizer=tokenizers.normalizers.NFC())
    plain = notice_of_text(folder.tokenizer)
    folder = dataclasses.replace(folder, tokenizer=composing)
    export_gguf(folder, tmp_path / "m.gguf", "f32")
    assert plain is None and "NFC" in notice_of_text(composing)
    again = open_gguf(tmp_path / "m.gguf").tokenizer
    composed, apart = "caf\u00e9", "cafe\u0301"
    assert composing.encode(apart).tolist() == composing.encode(composed).tolist()
    assert again.encode(composed).tolist() == composing.encode(composed).tolist()
    assert again.encode(apart).tolist() != composing.encode(apart).tolist()


def test_gemmas_runs_of_spaces_stand_whole(tmp_path):
    """Its tokenizer.json lists them as added tokens, and their merges in an order of their own."""
    run = "\u2581"
    pieces = ["<unk>", *(f"<0x{b:02X}>" for b in range(256)), "a", "b", run, 2 * run, 3 * run]
    pieces += ["ab", run + "a", run + "ab"]
    merges = [(2 * run, run), (run, run), (run, 2 * run), ("a", "b"), (run, "a"), (run, "ab")]
    model = tokenizers.models.BPE(
        {piece: i for i, piece in enumerate(pieces)},
        [*merges, (run + "a", "b")],
        unk_token="<unk>",
        byte_fallback=True,
        fuse_unk=True,
    )
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = tokenizers.normalizers.Replace(" ", run)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split(" ", "merged_with_previous")
    backend.add_tokens([tokenizers.AddedToken(n * run, normalized=False) for n in (2, 3)])
    written = written_tokenizer(ImportedTokenizer(backend))
    again = sentencepiece_from_pieces(
        written.tokens, written.scores, written.types, written.add_space_prefix
    )
    for text in ("ab", " ab", "a  b", "    ab", " ab ab   a ", 8 * " ", "b\t\u00e9  a"):
        assert again.encode(text).ids == backend.encode(text).ids
        assert again.decode(again.encode(text).ids) == text


@pytest.mark.parametrize("reason", TOKENIZERS)
def test_tokenizers_that_do_not_fit_are_refused(tmp_path, reason):
    folder = folder_of(tmp_path, "gpt2", "bpe")
    folder = dataclasses.replace(folder, tokenizer=TOKENIZERS[reason]())
    with pytest.raises(MiniGPTError, match=reason):
        export_gguf(folder, tmp_path / "m.gguf", "f32")
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_places_and_weights_that_do_not_serve_change_nothing(tmp_path):
    folder = folder_of(tmp_path, "gpt2", "char")
    with pytest.raises(ModelFolderError, match="lies in a folder that does not exist"):
        export_gguf(folder, tmp_path / "none" / "m.gguf", "f32")
    with pytest.raises(ModelFolderError, match="is a folder"):
        export_gguf(folder, folder.path, "f32")
    with pytest.raises(ConfigError, match="dtype='f8': choose one of f32, f16, q8_0"):
        export_gguf(folder, tmp_path / "m.gguf", "f8")
    file = tmp_path / "m.gguf"
    file.write_bytes(b"before")
    with h5py.File(folder.path / "model.h5", "r+") as h5:
        names = []
        h5.visit(names.append)
        kernel = h5[next(n for n in names if n.endswith("block_1_feed_forward_up/kernel"))]
        kernel[0, 0] = 1e6
    with pytest.raises(
        ModelFolderError, match=r"blk.1.ffn_up.weight holds numbers too large for F16"
    ):
        export_gguf(folder, file, "f16")
    assert file.read_bytes() == b"before"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["m.gguf", "model"]
    export_gguf(folder, file, "f32")
    assert open_gguf(file).config == folder.model


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, "llama", "bpe")
    file = tmp_path / "m.gguf"
    file.write_bytes(b"before")

    def full(*arguments):
        """What writing does then."""
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", full)
    with pytest.raises(ModelFolderError, match=r"m.gguf: cannot be written: No space left"):
        export_gguf(folder, file, "f16")
    assert file.read_bytes() == b"before"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["m.gguf", "model"]


def test_weights_that_are_not_numbers_are_named(tmp_path):
    folder = folder_of(tmp_path, "llama", "bpe")
    with h5py.File(folder.path / "model.h5", "r+") as h5:
        names = []
        h5.visit(names.append)
        h5[next(n for n in names if n.endswith("final_norm/scale"))][3] = np.nan
    with pytest.raises(ModelFolderError, match=r"output_norm.weight holds values that are not fin"):
        export_gguf(folder, tmp_path / "m.gguf", "q8_0")
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_many_layers_are_planned_in_one_pass(monkeypatch):
    """A damaged configuration may say 10,000: their shapes are listed once, not for each tensor."""
    from minigpt_tf.interop import tensors
    from minigpt_tf.interop.gguf import write_gguf

    calls = []

    def counted(config):
        calls.append(config)
        return weight_shapes(config)

    monkeypatch.setattr(tensors, "weight_shapes", counted)
    monkeypatch.setattr(write_gguf, "weight_shapes", counted)
    plan = write_gguf._Plan(family_config("llama", num_layers=40), "f32")
    assert len(plan.tensors) > 40 and len(calls) < 5
