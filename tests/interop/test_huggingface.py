"""Hugging Face folders: logits of transformers, every tensor accounted for, everything refused."""

import json

import numpy as np
import pytest

from minigpt_tf import import_model
from minigpt_tf.errors import MiniGPTError
from minigpt_tf.inference.folder import load_folder
from tests.interop import checkpoints
from tests.interop.checkpoints import change_json, change_tensors, check_parity

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"n_inner": 50, "activation_function": "gelu"},
        {"activation_function": "relu", "tie_word_embeddings": False},
        {"activation_function": "gelu_pytorch_tanh", "layer_norm_epsilon": 1e-3},
    ],
)
def test_gpt2_has_the_logits_of_transformers(tmp_path, overrides):
    model = checkpoints.gpt2(tmp_path / "hf", **overrides)
    check_parity(model, import_model(tmp_path / "hf", tmp_path / "out"))


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"num_key_value_heads": 1, "tie_word_embeddings": True},
        {"num_key_value_heads": None, "head_dim": 10, "rms_norm_eps": 1e-3},
        {"rope_parameters": LLAMA3, "num_hidden_layers": 3},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 300.0}},
    ],
)
def test_llama_has_the_logits_of_transformers(tmp_path, overrides):
    model = checkpoints.llama(tmp_path / "hf", **overrides)
    check_parity(model, import_model(tmp_path / "hf", tmp_path / "out"))


def test_biases_of_attention(tmp_path):
    folder = tmp_path / "hf"
    model = checkpoints.llama(folder, attention_bias=True)
    with pytest.raises(MiniGPTError, match=r"layers\.0\.self_attn\.o_proj\.bias is not zero"):
        import_model(folder, tmp_path / "out")
    for layer in model.model.layers:
        layer.self_attn.o_proj.bias.data.zero_()
    checkpoints.saved(model, folder)
    check_parity(model, import_model(folder, tmp_path / "out"))
    name = "model.layers.1.self_attn.o_proj.bias"
    change_tensors(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(MiniGPTError, match=r"o_proj\.bias is missing"):
        import_model(folder, tmp_path / "other")


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float64"])
def test_other_types_of_numbers(tmp_path, kind):
    torch = pytest.importorskip("torch")
    model = checkpoints.llama(tmp_path / "hf")
    for parameter in model.parameters():  # not the rotary angles, which stay float32
        parameter.data = parameter.data.to(getattr(torch, kind))
    checkpoints.saved(model, tmp_path / "hf")
    for parameter in model.parameters():
        parameter.data = parameter.data.float()
    check_parity(model, import_model(tmp_path / "hf", tmp_path / "out"))


def test_bfloat16_is_exact(tmp_path):
    """Every bit pattern is the upper half of a float32."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    from minigpt_tf.interop.huggingface.read_safetensors import open_file

    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    values = bits.view(torch.bfloat16)
    save_file({"a": values}, tmp_path / "a.safetensors")
    read = open_file(tmp_path / "a.safetensors")["a"].read()
    np.testing.assert_array_equal(read.view(np.int32), values.float().numpy().view(np.int32))


def test_several_files(tmp_path):
    model = checkpoints.gpt2(tmp_path / "hf")
    (tmp_path / "hf" / "model.safetensors").unlink()
    checkpoints.saved(model, tmp_path / "hf", max_shard_size="20KB")
    shards = sorted((tmp_path / "hf").glob("model-*.safetensors"))
    assert len(shards) > 2
    check_parity(model, import_model(tmp_path / "hf", tmp_path / "out"))
    shards[1].unlink()
    with pytest.raises(MiniGPTError, match=f"{shards[1].name} is missing"):
        import_model(tmp_path / "hf", tmp_path / "other")


def test_an_index_that_lies(tmp_path):
    model = checkpoints.gpt2(tmp_path / "hf")
    (tmp_path / "hf" / "model.safetensors").unlink()
    checkpoints.saved(model, tmp_path / "hf", max_shard_size="20KB")
    index = tmp_path / "hf" / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    name, place = next(iter(places.items()))
    other = next(file for file in places.values() if file != place)
    change_json(index, weight_map={**places, name: other})
    with pytest.raises(MiniGPTError, match=f"{name} does not lie in"):
        import_model(tmp_path / "hf", tmp_path / "out")
    for file in ("../model.safetensors", "/etc/passwd", 5, None):
        change_json(index, weight_map={**places, name: file})
        with pytest.raises(MiniGPTError, match="does not give files of this folder"):
            import_model(tmp_path / "hf", tmp_path / "out")


def test_older_files_without_prefix_and_with_buffers(tmp_path):
    def older(tensors):
        """As GPT2Model and LlamaModel alone were once saved."""
        for name in list(tensors):
            tensors[name.removeprefix("transformer.").removeprefix("model.")] = tensors.pop(name)
        for layer in (0, 1):
            tensors[f"h.{layer}.attn.bias"] = np.tri(20, dtype=np.float32)[None, None]
            tensors[f"h.{layer}.attn.masked_bias"] = np.array(-1e4, dtype=np.float32)

    def older_llama(tensors):
        """With the angles of every layer."""
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name)
        for layer in (0, 1):
            tensors[f"layers.{layer}.self_attn.rotary_emb.inv_freq"] = np.ones(3, np.float32)

    model = checkpoints.gpt2(tmp_path / "gpt2")
    change_tensors(tmp_path / "gpt2", older)
    check_parity(model, import_model(tmp_path / "gpt2", tmp_path / "out"))
    model = checkpoints.llama(tmp_path / "llama")
    change_tensors(tmp_path / "llama", older_llama)
    check_parity(model, import_model(tmp_path / "llama", tmp_path / "out2"))


def test_a_head_beside_tied_embeddings(tmp_path):
    folder = tmp_path / "hf"
    model = checkpoints.gpt2(folder)
    embedding = "transformer.wte.weight"
    change_tensors(folder, lambda t: t.update({"lm_head.weight": t[embedding].copy()}))
    check_parity(model, import_model(folder, tmp_path / "out"))
    change_tensors(folder, lambda t: t.pop(embedding))  # some files keep the other one
    check_parity(model, import_model(folder, tmp_path / "out", overwrite=True))
    change_tensors(folder, lambda t: t.update({embedding: t["lm_head.weight"] + 1e-3}))
    with pytest.raises(MiniGPTError, match=r"lm_head\.weight is not equal to transformer\.wte"):
        import_model(folder, tmp_path / "other")


def test_what_ties_where_nothing_is_said(tmp_path):
    checkpoints.gpt2(tmp_path / "gpt2")
    change_json(tmp_path / "gpt2" / "config.json", remove=["tie_word_embeddings"])
    assert load_folder(import_model(tmp_path / "gpt2", tmp_path / "a")).model.tie_embeddings
    checkpoints.llama(tmp_path / "llama")
    change_json(tmp_path / "llama" / "config.json", remove=["tie_word_embeddings"])
    assert not load_folder(import_model(tmp_path / "llama", tmp_path / "b")).model.tie_embeddings


def test_rope_of_older_versions(tmp_path):
    """rope_theta and rope_scaling are what rope_parameters says in transformers 5."""
    model = checkpoints.llama(tmp_path / "hf", rope_parameters=LLAMA3)
    config = tmp_path / "hf" / "config.json"
    older = {name: value for name, value in LLAMA3.items() if name != "rope_theta"}
    change_json(config, remove=["rope_parameters"], rope_theta=500.0, rope_scaling=older)
    check_parity(model, import_model(tmp_path / "hf", tmp_path / "out"))
    other = {"rope_type": "default", "rope_theta": 500.0}
    change_json(config, rope_parameters=other)
    with pytest.raises(MiniGPTError, match="rope_parameters and rope_scaling do not say the same"):
        import_model(tmp_path / "hf", tmp_path / "other")


@pytest.mark.parametrize(
    ("family", "field", "value"),
    [
        ("gpt2", "scale_attn_by_inverse_layer_idx", True),
        ("gpt2", "scale_attn_weights", False),
        ("gpt2", "add_cross_attention", True),
        ("gpt2", "activation_function", "silu"),
        ("gpt2", "quantization_config", {"bits": 4}),
        ("gpt2", "n_head", 5),
        ("gpt2", "n_embd", "24"),
        ("llama", "hidden_act", "gelu"),
        ("llama", "mlp_bias", True),
        ("llama", "sliding_window", 16),
        ("llama", "layer_types", ["full_attention", "sliding_attention"]),
        ("llama", "partial_rotary_factor", 0.5),
        ("llama", "rope_parameters", {"rope_type": "yarn", "factor": 2.0}),
        ("llama", "rope_parameters", {"rope_type": "linear"}),
        ("llama", "rope_parameters", []),
        ("llama", "rope_interleaved", True),
        ("llama", "num_key_value_heads", 3),
        ("llama", "auto_map", {"AutoModelForCausalLM": "code.Model"}),
        ("llama", "model_type", "mixtral"),
        ("llama", "model_type", None),
        ("llama", "max_position_embeddings", None),
        ("llama", "tie_word_embeddings", 1),
    ],
)
def test_what_is_not_known_is_refused_by_name(tmp_path, family, field, value):
    getattr(checkpoints, family)(tmp_path / "hf")
    change_json(tmp_path / "hf" / "config.json", **{field: value})
    words = {"n_head": "num_heads=5", "num_key_value_heads": "num_kv_heads=3"}
    words |= {"rope_parameters": "rope_", "model_type": "known: gpt2, llama|no model_type"}
    with pytest.raises(MiniGPTError, match=words.get(field, field)) as caught:
        import_model(tmp_path / "hf", tmp_path / "out")
    assert "config.json" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("transformer.h.1.mlp.c_fc.bias"), r"lacks the tensor .*h\.1\.mlp\.c_fc"),
        (lambda t: t.update(score=t["transformer.ln_f.bias"]), "has, beyond .* transformer.score"),
        (
            lambda t: t.update({"transformer.ln_f.bias": t["transformer.ln_f.bias"][:5].copy()}),
            r"transformer\.ln_f\.bias has shape \(5,\), the configuration needs \(24,\)",
        ),
        (
            lambda t: t["transformer.h.0.ln_1.weight"].fill(np.nan),
            r"h\.0\.ln_1\.weight holds values that are not finite",
        ),
        (
            lambda t: t.update({"transformer.ln_f.bias": np.zeros(24, np.int32)}),
            r"transformer\.ln_f\.bias holds I32: known are F64, F32, F16, BF16",
        ),
    ],
)
def test_every_tensor_is_accounted_for(tmp_path, change, words):
    checkpoints.gpt2(tmp_path / "hf")
    change_tensors(tmp_path / "hf", change)
    with pytest.raises(MiniGPTError, match=words):
        import_model(tmp_path / "hf", tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_our_own_configuration(tmp_path):
    """A model without biases is expressed with zeros; `minigpt_tf` in config.json says so."""
    from minigpt_tf.config.settings import to_dict
    from minigpt_tf.interop.families import expressed
    from tests.conftest import tiny_config

    folder = tmp_path / "hf"
    own = tiny_config("gpt2", vocab_size=300, context_length=20, use_bias=False, qkv_bias=False)
    sizes = {"n_embd": 16, "n_head": 2, "n_inner": 32}
    model = checkpoints.gpt2(folder, **sizes, layer_norm_epsilon=own.norm_epsilon)
    change_json(folder / "config.json", minigpt_tf=to_dict(own))
    with pytest.raises(MiniGPTError, match=r"bias is not zero, but the configuration has no"):
        import_model(folder, tmp_path / "out")
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    checkpoints.saved(model, folder)
    change_json(folder / "config.json", minigpt_tf=to_dict(own))
    out = import_model(folder, tmp_path / "out")
    assert load_folder(out).model == own != expressed(own)
    check_parity(model, out)
    change_json(folder / "config.json", minigpt_tf={**to_dict(own), "num_layers": 4})
    with pytest.raises(MiniGPTError, match="num_layers=4, the other fields say 2"):
        import_model(folder, tmp_path / "other")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickles_are_refused(tmp_path, name):
    checkpoints.gpt2(tmp_path / "hf")
    (tmp_path / "hf" / "model.safetensors").rename(tmp_path / "hf" / name)
    with pytest.raises(MiniGPTError, match=r"can run code .*save_pretrained") as caught:
        import_model(tmp_path / "hf", tmp_path / "out")
    assert name in str(caught.value)


def test_a_damaged_file_is_told_in_one_sentence(tmp_path):
    """Flipped bits and cut ends, of every file: an error of ours, or a sound import."""
    model = checkpoints.gpt2(tmp_path / "hf", n_embd=8, n_head=2, n_layer=1, n_positions=8)
    (tmp_path / "hf" / "model.safetensors").unlink()
    checkpoints.saved(model, tmp_path / "hf", max_shard_size="6KB")
    from minigpt_tf.interop.importing import open_path
    from minigpt_tf.interop.source import check_source

    random, refused = np.random.default_rng(0), 0
    shard = sorted(file.name for file in (tmp_path / "hf").glob("*.safetensors"))[0]
    change_json(tmp_path / "hf" / "generation_config.json", eos_token_id=[258], top_k=5)
    change_json(tmp_path / "hf" / "tokenizer_config.json", eos_token="<|endoftext|>")
    for name in (shard, "model.safetensors.index.json", "config.json", "generation_config.json"):
        file = tmp_path / "hf" / name
        content = file.read_bytes()
        for _ in range(100):
            damaged = bytearray(content)
            for place in random.integers(0, min(len(content), 2000), random.integers(1, 4)):
                damaged[place] = random.integers(256)
            if random.random() < 0.3:
                damaged = damaged[: random.integers(len(damaged))]
            file.write_bytes(damaged)
            try:
                source = open_path(tmp_path / "hf", tmp_path / "hf")
                check_source(source)
                for tensor in source.tensors.values():
                    tensor.read()
            except MiniGPTError as error:
                refused += 1
                assert "\n" not in str(error) and len(str(error)) < 600
        file.write_bytes(content)
    assert refused > 200


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
        {"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
        {"a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "Q4", "shape": [2], "data_offsets": [0, 8]}},
        {"a": []},
        [],
    ],
)
def test_a_header_that_lies(tmp_path, header):
    from minigpt_tf.interop.huggingface.read_safetensors import open_file

    text = json.dumps(header).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(MiniGPTError, match=r"model\.safetensors: is damaged"):
        open_file(file)
    file.write_bytes((2**40).to_bytes(8, "little") + text)
    with pytest.raises(MiniGPTError, match=r"model\.safetensors: is damaged"):
        open_file(file)
