"""What the files beside a tokenizer.json say of it, as transformers reads them."""

import json
from pathlib import Path

import pytest
from tokenizers import normalizers, pre_tokenizers

from minigpt_tf.errors import MiniGPTError
from minigpt_tf.interop.huggingface.read_config import read_config
from minigpt_tf.interop.huggingface.read_tokenizer import (
    read_chat_template,
    read_generation,
    read_tokenizer,
)
from minigpt_tf.interop.huggingface.tokenizer_settings import special_tokens
from tests.text.test_turns import byte_level, sentencepiece

SIZE = byte_level().get_vocab_size()  # its <|endoftext|> is 0
GENERAL = {"tokenizer_class": "PreTrainedTokenizerFast"}
LLAMA = {"tokenizer_class": "LlamaTokenizerFast", "legacy": False}


def token(text, **switches):
    """An entry of added_tokens_decoder."""
    names = ("lstrip", "rstrip", "normalized", "single_word")
    return {"content": text, **dict.fromkeys(names, False), "special": True, **switches}


def prefixed():
    backend = byte_level()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return backend


def metaspace(scheme="first"):
    backend = sentencepiece()
    backend.normalizer = None
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    return backend


def folder_of(path, backend, settings, **files):
    backend.save(str(path / "tokenizer.json"))
    (path / "config.json").write_text('{"model_type": "llama"}')
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


LISTED = {str(SIZE): token("<|im_start|>"), str(SIZE + 1): token("<|im_end|>")}
ADDED = {"<|im_start|>": SIZE, "<|im_end|>": SIZE + 1}
MAP = {"eos_token": token("<|im_end|>", rstrip=True), "additional_special_tokens": ["<|im_start|>"]}
STRIPPING = {
    str(SIZE): token("<|im_start|>", rstrip=True),
    str(SIZE + 1): token("<|im_end|>", lstrip=True),
    str(SIZE + 2): token("<think>", special=False, normalized=True),
}
FOLDERS = {
    "listed": (byte_level, {**GENERAL, "added_tokens_decoder": LISTED}, {}),
    "listed, GPT-2": (
        byte_level,
        {"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": LISTED},
        {},
    ),
    "switches": (byte_level, {**GENERAL, "added_tokens_decoder": STRIPPING}, {}),
    "added_tokens.json": (byte_level, {**GENERAL, "eos_token": "<|im_end|>"}, {"added": ADDED}),
    "all files": (byte_level, GENERAL, {"added": ADDED, "special": MAP}),
    "named alone": (byte_level, {**GENERAL, "eos_token": "<a>", "pad_token": "<b>"}, {}),
    "extra": (byte_level, {**GENERAL, "extra_special_tokens": ["<a>", "<b>"]}, {}),
    "in the vocabulary": (sentencepiece, {**GENERAL, "bos_token": "<s>", "eos_token": "</s>"}, {}),
    "prefix": (byte_level, {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}, {}),
    "prefix of the file": (prefixed, {"tokenizer_class": "GPT2TokenizerFast"}, {}),
    "prefix, general": (byte_level, {**GENERAL, "add_prefix_space": True}, {}),
    "Llama": (metaspace, LLAMA, {}),
    "Llama, no prefix": (metaspace, {**LLAMA, "add_prefix_space": False}, {}),
    "Llama, no Prepend": (sentencepiece, {**LLAMA, "add_prefix_space": False}, {}),
    "Llama, prefix": (lambda: metaspace("never"), {**LLAMA, "add_prefix_space": True}, {}),
}
FILES = {"added": "added_tokens", "special": "special_tokens_map"}
TEXTS = ["what is it", " it", "", "<|im_start|>user\n it <|im_end|> \nnow", "<s>it</s> <a>b<b>  is"]
TEXTS += ["<think> it </think>", "<|endoftext|>it"]


@pytest.mark.parametrize("name", FOLDERS)
def test_ids_and_texts_are_those_of_transformers(tmp_path, name):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    make, settings, files = FOLDERS[name]
    files = {FILES[key]: content for key, content in files.items()}
    folder = folder_of(tmp_path, make(), settings, **files)
    theirs = transformers.AutoTokenizer.from_pretrained(str(folder))
    ours, _ = read_tokenizer(folder, {}, 400)
    for text in TEXTS:
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text).tolist() == ids
        assert ours.decode(ids) == theirs.decode(ids)
    assert ours.end_ids == ({theirs.eos_token_id} - {None})


def test_tokens_that_only_the_settings_list(tmp_path):
    settings = {**GENERAL, "added_tokens_decoder": LISTED, "eos_token": "<|im_end|>"}
    tokenizer, _ = read_tokenizer(folder_of(tmp_path, byte_level(), settings), {}, 400)
    ids = tokenizer.encode("<|im_start|>it<|im_end|>").tolist()
    assert ids[0] == SIZE and ids[-1] == SIZE + 1 and tokenizer.end_ids == {SIZE + 1}
    assert tokenizer.added_tokens["<|im_end|>"] == (SIZE + 1, True)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    for added, special in ((ADDED, {}), (ADDED, MAP)):
        folder_of(tmp_path, byte_level(), GENERAL, added_tokens=added, special_tokens_map=special)
        tokenizer, _ = read_tokenizer(tmp_path, {"eos_token_id": SIZE + 1}, 400)
        assert tokenizer.encode("<|im_start|>it<|im_end|>").tolist() == ids
        assert tokenizer.added_tokens["<|im_end|>"] == (SIZE + 1, bool(special))


def test_tokens_without_a_row_are_left_out_and_named(tmp_path):
    settings = {**GENERAL, "added_tokens_decoder": LISTED, "pad_token": "<pad>"}
    left_out = []
    folder = folder_of(tmp_path, byte_level(), settings)
    tokenizer, _ = read_tokenizer(folder, {}, SIZE + 1, left_out)
    assert tokenizer.vocab_size == SIZE + 1
    assert left_out == [
        f"token '<|im_end|>' of tokenizer_config.json: its id {SIZE + 1} has no row",
        f"token '<pad>' of tokenizer_config.json: its id {SIZE + 1} has no row",
    ]


def test_a_token_of_images_without_a_row_is_left_out(tmp_path):
    """Gemma 3's tokenizer.json has one behind the rows of its models without a tower."""
    backend = byte_level()
    backend.add_special_tokens(["<turn>", "<image>"])
    left_out = []
    settings = {**GENERAL, "eos_token": "<turn>", "image_token": "<image>"}
    folder = folder_of(tmp_path, backend, settings)
    tokenizer, _ = read_tokenizer(folder, {}, SIZE + 1, left_out)
    assert left_out == [f"token '<image>': its id {SIZE + 1} has no row"]
    assert tokenizer.vocab_size == SIZE + 1 and tokenizer.end_ids == {SIZE}
    assert SIZE + 1 not in tokenizer.encode("a<image>b<turn>").tolist()
    assert read_tokenizer(folder, {}, SIZE + 2)[0].vocab_size == SIZE + 2  # a model with its row


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"added_tokens_decoder": {"299": token("<a>")}}, f"the id 299, but gets {SIZE}"),
        ({"added_tokens_decoder": {"5": token("<a>")}}, "should have the id 5"),
        ({"added_tokens_decoder": {"x": token("<a>")}}, "is damaged at 'x'"),
        ({"added_tokens_decoder": {"299": "<a>"}}, "is damaged at '299'"),
    ],
)
def test_ids_that_do_not_fit_are_refused(tmp_path, settings, words):
    with pytest.raises(MiniGPTError, match=words):
        read_tokenizer(folder_of(tmp_path, byte_level(), GENERAL | settings), {}, 400)


def test_a_first_space_needs_a_place(tmp_path):
    backend = byte_level()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = None
    backend.normalizer = normalizers.NFC()
    settings = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}
    with pytest.raises(MiniGPTError, match="add_prefix_space has no place"):
        read_tokenizer(folder_of(tmp_path, backend, settings), {}, 400)
    settings["tokenizer_class"] = "MyTokenizer"
    assert read_tokenizer(folder_of(tmp_path, backend, settings), {}, 400)


def test_names_of_special_tokens(tmp_path):
    older = {"eos_token": "<old>", "cls_token": "<cls>"}
    folder_of(tmp_path, byte_level(), {**GENERAL, "eos_token": "<new>"}, special_tokens_map=older)
    assert special_tokens(tmp_path) == {"eos_token": "<old>", "cls_token": "<cls>"}
    settings = {**GENERAL, "eos_token": "<new>", "cls_token": None, "added_tokens_decoder": {}}
    folder_of(tmp_path, byte_level(), settings, special_tokens_map=older)
    assert special_tokens(tmp_path) == {"eos_token": "<new>"}
    folder_of(tmp_path, byte_level(), {"tokenizer_class": "LlamaTokenizer"}, special_tokens_map={})
    assert special_tokens(tmp_path)["eos_token"] == "</s>"


def test_several_templates(tmp_path):
    named = [{"name": "rag", "template": "a"}, {"name": "tool_use", "template": "b"}]
    left_out = []
    folder_of(tmp_path, byte_level(), {**GENERAL, "chat_template": named})
    assert read_chat_template(tmp_path, left_out) is None
    assert left_out == [
        "chat templates 'rag', 'tool_use' of tokenizer_config.json: none is the default"
    ]
    for several in ([*named, {"name": "default", "template": "c"}], {"default": "c", "rag": "a"}):
        folder_of(tmp_path, byte_level(), {**GENERAL, "chat_template": several})
        assert read_chat_template(tmp_path).source == "c"


def test_recommendations_out_of_range_are_left_out_and_named(tmp_path):
    values = {"temperature": -1, "top_k": -1, "top_p": 0.9, "min_p": True, "do_sample": True}
    (tmp_path / "generation_config.json").write_text(json.dumps(values))
    left_out = []
    assert read_generation(tmp_path, left_out) == {"top_p": 0.9}
    assert [text.partition(":")[2].partition("=")[0] for text in left_out] == [
        " temperature",
        " top_k",
        " min_p",
    ]


# config.json


def config_of(**values):
    sizes = {"model_type": "llama", "vocab_size": 300, "hidden_size": 24, "intermediate_size": 40}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
    return read_config({**sizes, **values}, Path("config.json")).config


FULL = {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}


def test_rotary_parameters_by_type_of_layer():
    flat = config_of(rope_parameters=FULL)
    assert (flat.rope_theta, flat.rope_scaling) == (500.0, {"factor": 2.0})
    both = {"full_attention": FULL, "sliding_attention": dict(FULL)}
    apart = {**both, "sliding_attention": {"rope_theta": 1.0}}
    types = ["full_attention"] * 2
    for rope in ({"full_attention": FULL}, both):
        assert config_of(rope_parameters=rope) == flat
    assert config_of(rope_parameters=apart, layer_types=types) == flat
    for values, words in (
        (
            {"rope_parameters": {**both, "sliding_attention": {"rope_theta": 1.0}}},
            "sliding_attention differ",
        ),
        (
            {"rope_parameters": {"sliding_attention": FULL}, "layer_types": types},
            "no parameters for",
        ),
        ({"rope_parameters": {"full_attention": None}, "layer_types": types}, "no parameters for"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "'yarn' is unknown"),
    ):
        with pytest.raises(MiniGPTError, match=rf"config\.json: rope_parameters.*{words}"):
            config_of(**values)
