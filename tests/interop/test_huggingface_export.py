"""Exported folders in transformers: the same logits, tokens, texts and chats; what is refused."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from minigpt_tf import export_model
from minigpt_tf.config import ModelConfig
from minigpt_tf.config.settings import from_dict
from minigpt_tf.errors import ConfigError, ModelFolderError
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.inference.weights import read_weights
from minigpt_tf.interop.huggingface import write_safetensors
from minigpt_tf.interop.huggingface.read_folder import open_huggingface
from minigpt_tf.interop.huggingface.write_safetensors import encode_values
from minigpt_tf.interop.source import write_model_folder
from tests.conftest import ROOT
from tests.interop.exported_folders import TEXT, make_folder

os.environ.setdefault("HF_HUB_OFFLINE", "1")

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n"
    "{{ message['content'] | trim }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
MESSAGES = [
    {"role": "user", "content": " He was? "},
    {"role": "assistant", "content": "born in Erode"},
    {"role": "user", "content": "the numbers"},
]
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_context_length": 16.0}

CASES = {
    "shakespeare": ("shakespeare", "char", {}),
    "shakespeare-untied": ("shakespeare", "char", {"tie_embeddings": False, "activation": "relu"}),
    "gpt2": ("gpt2", "bpe", {"num_heads": 4, "num_kv_heads": 4, "head_dim": 4}),
    "gpt2-no-qkv-bias": ("gpt2", "word", {"qkv_bias": False, "tie_embeddings": False}),
    "gpt2-qkv-bias-alone": ("gpt2", "bpe", {"use_bias": False, "activation": "gelu"}),
    "modern": ("modern", "bpe", {"rope_theta": 500.0}),
    "modern-biases": ("modern", "word", {"qkv_bias": True, "tie_embeddings": False}),
    "modern-wide-heads": ("modern", "char", {"head_dim": 12, "num_kv_heads": 2, "ff_dim": 20}),
    "modern-linear": ("modern", "bpe", {"rope_scaling": {"factor": 4.0}}),
    "modern-llama3": ("modern", "bpe", {"rope_scaling": LLAMA3, "norm_epsilon": 1e-2}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Name -> (model folder, exported folder), made when first asked for."""
    made = {}
    base = tmp_path_factory.mktemp("models")

    def get(name):
        if name not in made:
            preset, tokenizer, switches = CASES[name]
            folder = make_folder(base / name, preset, tokenizer, **switches)
            made[name] = folder, export_model(folder, base / "out" / name).path
        return made[name]

    return get


def engine_of(folder):
    config = load_folder(folder).model
    return Engine(config, read_weights(folder / "model.h5", config), str(folder))


def greedy(engine, ids, count):
    """The likeliest next token, again and again, from all logits anew."""
    ids = list(ids)
    for _ in range(count):
        ids.append(int(engine.all_logits(np.array(ids))[-1].argmax()))
    return ids


@pytest.fixture(scope="module")
def transformers():
    pytest.importorskip("torch")
    return pytest.importorskip("transformers")


@pytest.mark.parametrize("name", CASES)
def test_transformers_computes_the_same(name, folders, transformers):
    import torch

    folder, out = folders(name)
    engine = engine_of(folder)
    ids = np.random.default_rng(1).integers(0, engine.config.vocab_size, 48)
    expected = engine.all_logits(ids)
    model, told = transformers.AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        found = model(torch.tensor(ids[None])).logits[0].numpy()
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, atol=1e-4)
    start = torch.tensor(ids[None, :5])
    model.generation_config.eos_token_id = None
    options = {"attention_mask": torch.ones_like(start), "do_sample": False}
    generated = model.generate(start, max_new_tokens=32, **options)[0].tolist()
    assert generated == greedy(engine, ids[:5], 32)


@pytest.mark.parametrize("name", ["shakespeare", "gpt2", "modern", "modern-biases"])
def test_transformers_reads_text_as_we_do(name, folders, transformers):
    folder, out = folders(name)
    ours = load_folder(folder).tokenizer
    theirs = transformers.AutoTokenizer.from_pretrained(out)
    for text in (TEXT, "He   was\n\nzaphod ☃ <pad> <OOV>he<pad>!", "ÉTUDE ΣΑΣ", ""):
        encoded = theirs(text)
        ids = ours.encode(text).tolist()
        assert encoded["input_ids"] == ids and set(encoded) == {"input_ids", "attention_mask"}
        assert theirs.decode(ids) == ours.decode(ids)
    assert len(theirs) == ours.known_size + (ours.kind == "word")  # and padding
    assert theirs.model_max_length == 48


def test_words_are_padded_with_0(folders, transformers):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders("modern-biases")[1])
    padded = tokenizer(["he was", "he"], padding=True)
    assert padded["input_ids"][1][1] == 0 and padded["attention_mask"][1] == [1, 0]


@pytest.mark.parametrize("dtype, digits", [("f16", 11), ("bf16", 8)])
def test_half_precision_is_the_nearest(dtype, digits, folders, transformers, tmp_path):
    import torch

    folder, exact = folders("modern")
    out = export_model(folder, tmp_path / "x", dtype=dtype).path
    load = transformers.AutoModelForCausalLM.from_pretrained
    model, reference = load(out, dtype="auto"), load(exact)
    kind = {"f16": torch.float16, "bf16": torch.bfloat16}[dtype]
    assert model.dtype is kind
    stored = model.state_dict()
    for name, values in reference.state_dict().items():
        assert torch.equal(stored[name], values.to(kind)), name
    size = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    assert size < 0.6 * sum(file.stat().st_size for file in exact.glob("*.safetensors"))


def test_rounding_to_bfloat16_is_torchs(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(write_safetensors, "PIECE", 9999)
    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32)
    bits = np.append(bits & 0xFFFF8000, bits)  # ties among them
    values = bits.view(np.float32)
    values = values[np.isfinite(values) & (np.abs(values) < 3.38e38)]
    expected = torch.tensor(values).to(torch.bfloat16).view(torch.int16).numpy()
    assert np.array_equal(encode_values(values, "bf16", "w").view(np.int16), expected)


@pytest.mark.parametrize(
    "dtype, fits, exceeds", [("f16", 65519, 65520), ("bf16", 3.396e38, 3.397e38)]
)
def test_numbers_that_do_not_fit_are_refused(dtype, fits, exceeds):
    """From half a step above the largest number on, the nearest one is infinite."""
    assert encode_values(np.array([1.0, -fits], np.float32), dtype, "w").nbytes == 4
    with pytest.raises(ModelFolderError, match=rf"w: the value .* does not fit.*{dtype}"):
        encode_values(np.array([1.0, -exceeds], np.float32), dtype, "w")


def test_the_configuration_is_there_whole(folders):
    for name in ("gpt2-no-qkv-bias", "modern-llama3"):
        folder, out = folders(name)
        values = json.loads((out / "config.json").read_text())
        own = from_dict(ModelConfig, values["minigpt_tf"], "")
        assert own == load_folder(folder).model
        assert values["tie_word_embeddings"] is own.tie_embeddings
        assert values["bos_token_id"] == (0 if name == "modern-llama3" else 1)
    rope = values["rope_scaling"]
    assert rope["rope_type"] == "llama3" and rope["original_max_position_embeddings"] == 16
    assert values["rope_parameters"] == {**rope, "rope_theta": own.rope_theta}


def test_large_models_come_in_several_files(folders, transformers, tmp_path, monkeypatch):
    import torch

    folder, single = folders("gpt2")
    monkeypatch.setattr(write_safetensors, "SHARD_BYTES", 9000)
    out = export_model(folder, tmp_path / "x").path
    files = sorted(out.glob("*.safetensors"))
    assert (
        len(files) > 3 and files[-1].name == f"model-{len(files):05}-of-{len(files):05}.safetensors"
    )
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {file.name for file in files}
    load = transformers.AutoModelForCausalLM.from_pretrained
    one, several = load(single).state_dict(), load(out).state_dict()
    assert set(one) == set(several) and all(torch.equal(one[name], several[name]) for name in one)
    monkeypatch.undo()
    export_model(folder, out, overwrite=True)
    assert [file.name for file in out.glob("model*")] == ["model.safetensors"]
    assert all(torch.equal(one[name], v) for name, v in load(out).state_dict().items())


def chat_folder(path, special_tokens, tokenizer="bpe", **settings):
    return make_folder(
        path, "modern", tokenizer, chat_template=TEMPLATE, special_tokens=special_tokens, **settings
    )


@pytest.mark.parametrize("tokenizer", ["bpe", "char"])
def test_chats_are_rendered_alike(tokenizer, tmp_path, transformers):
    """Also where the template's own tokens are no special tokens of the tokenizer."""
    tokens = {"bos_token": 'He "was"\\n', "eos_token": "<|endoftext|>"}
    folder = chat_folder(tmp_path / "m", tokens, tokenizer)
    out = export_model(folder, tmp_path / "x").path
    theirs = transformers.AutoTokenizer.from_pretrained(out)
    ours = load_folder(folder)
    for add in (False, True):
        text = ours.chat_template.render(MESSAGES, add_generation_prompt=add)
        assert 'He "was"' in text
        options = {"add_generation_prompt": add}
        assert theirs.apply_chat_template(MESSAGES, tokenize=False, **options) == text
        ids = theirs.apply_chat_template(MESSAGES, return_dict=False, **options)
        assert ids == ours.tokenizer.encode(text).tolist()


def test_a_template_whose_tokens_are_special_is_kept_as_it_is(tmp_path):
    tokens = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    folder = chat_folder(tmp_path / "m", tokens)
    out = export_model(folder, tmp_path / "x").path
    assert (out / "chat_template.jinja").read_text() == TEMPLATE
    described = json.loads((out / "tokenizer_config.json").read_text())
    assert described["bos_token"] == described["eos_token"] == "<|endoftext|>"


def test_sampling_and_ends_are_recommended(tmp_path, transformers):
    advice = {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.2, "no_repeat_ngram": 3}
    folder = make_folder(tmp_path / "m", "modern", "bpe", generation=advice)
    described = json.loads((folder / "config.json").read_text())
    described["end_ids"] = [0, 7]
    (folder / "config.json").write_text(json.dumps(described))
    found = transformers.GenerationConfig.from_pretrained(export_model(folder, tmp_path / "x").path)
    assert found.do_sample and (found.temperature, found.top_p, found.top_k) == (0.7, 0.9, 0)
    assert (found.repetition_penalty, found.no_repeat_ngram_size) == (1.2, 3)
    assert found.eos_token_id == [0, 7] and found.bos_token_id == 0
    described["generation"] = {"greedy": True, "temperature": 0.7, "max_new_tokens": 9}
    (folder / "config.json").write_text(json.dumps(described))
    found = transformers.GenerationConfig.from_pretrained(export_model(folder, tmp_path / "y").path)
    assert found.do_sample is False and found.max_new_tokens == 9


def test_the_license_goes_along(folders, tmp_path):
    folder = shutil.copytree(folders("shakespeare")[0], tmp_path / "m")
    (folder / "LICENSE").write_text("Do as you like.\n")
    (folder / "NOTICE.txt").write_bytes(b"made by \xff\n")
    described = json.loads((folder / "config.json").read_text())
    described["source"] = {"license": "apache-2.0"}
    (folder / "config.json").write_text(json.dumps(described))
    out = export_model(folder, tmp_path / "x").path
    assert (out / "LICENSE").read_text() == "Do as you like.\n"
    assert (out / "NOTICE.txt").read_bytes() == b"made by \xff\n"
    assert 'license: "apache-2.0"' in (out / "README.md").read_text()
    assert not (out / "model.h5").exists()


@pytest.mark.parametrize(
    "preset, switches, reason",
    [
        ("lecture", {}, "positions=sinusoidal, no norm_placement=after"),
        ("gpt2", {"logits_bias": True, "tie_embeddings": False}, "bias in the output head"),
        ("gpt2", {"num_heads": 2, "head_dim": 4}, "heads of 4"),
        ("gpt2", {"norm": "rms"}, "norm=rms"),
        ("modern", {"activation": "gelu"}, "activation=gelu"),
        ("modern", {"num_heads": 3, "head_dim": 6}, "not a multiple of num_heads=3"),
    ],
)
def test_what_the_format_cannot_express_is_refused(preset, switches, reason, tmp_path):
    folder = make_folder(tmp_path / "m", preset, "char", **switches)
    out = tmp_path / "x" / "y"
    with pytest.raises(ConfigError, match=f"m: .*{reason}.*--format keras and --format h5"):
        export_model(folder, out)
    assert not out.exists()
    assert export_model(folder, tmp_path / "m.h5", "h5").path.is_file()


def test_numbers_that_are_not_finite_are_refused(folders, tmp_path):
    import h5py

    folder = shutil.copytree(folders("modern")[0], tmp_path / "m")
    with h5py.File(folder / "model.h5", "r+") as file:
        names = []
        file.visit(names.append)
        name = next(n for n in names if n.endswith("block_1_feed_forward_up/kernel"))
        file[name][0, 0] = np.nan
    with pytest.raises(ModelFolderError, match=r"feed_forward_up/kernel.* not finite"):
        export_model(folder, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_what_was_not_written_as_it_should_be_is_noticed(folders, tmp_path, monkeypatch):
    def damage(file, *arguments):
        sums = write(file, *arguments)
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        return sums

    write = write_safetensors._write_file
    monkeypatch.setattr(write_safetensors, "_write_file", damage)
    with pytest.raises(ModelFolderError, match="could not be read back as written"):
        export_model(folders("modern")[0], tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_tensorflow_is_not_needed(folders, tmp_path):
    folder, expected = folders("modern")
    code = (
        "import sys; from minigpt_tf import export_model\n"
        f"export_model({str(folder)!r}, {str(tmp_path / 'x')!r})\n"
        "assert not {'tensorflow', 'keras', 'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "x" / "model.safetensors").read_bytes()
    assert written == (expected / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", CASES)
def test_an_imported_export_is_the_same_model(name, folders, tmp_path):
    folder, out = folders(name)
    write_model_folder(open_huggingface(out), tmp_path / "again")
    ours, again = load_folder(folder), load_folder(tmp_path / "again")
    assert again.model == ours.model
    weights, copies = (read_weights(f.path / "model.h5", f.model) for f in (ours, again))
    assert list(weights) == list(copies)
    assert all(np.array_equal(weights[n], copies[n]) for n in weights)
    assert again.tokenizer.encode(TEXT).tolist() == ours.tokenizer.encode(TEXT).tolist()
    assert (again.start_ids, again.tokenizer.end_ids) == (
        [0] if ours.tokenizer.kind == "bpe" else ours.start_ids,
        ours.tokenizer.end_ids,
    )
