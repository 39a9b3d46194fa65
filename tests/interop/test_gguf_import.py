"""GGUF files in: against the gguf package, transformers, hand-made numbers, and damage."""

import json
import re
import struct
import tracemalloc

import gguf
import numpy as np
import pytest

from minigpt_tf.errors import MiniGPTError, ModelFolderError
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.inference.positions import frequencies_of_pairs, rotary_divisors
from minigpt_tf.inference.weights import open_weights
from minigpt_tf.interop.gguf.header import READABLE, read_header
from minigpt_tf.interop.gguf.read_gguf import open_gguf
from minigpt_tf.interop.gguf.rope_divisors import scaling_of
from minigpt_tf.interop.source import write_model_folder
from minigpt_tf.interop.tensors import check_tensors, entries, to_weights
from minigpt_tf.text.compiled.byte_level import byte_symbols
from tests.interop.folders import family_config, random_weight

TEMPLATE = "{% for m in messages %}{{ bos_token }}{{ m['content'] }}{{ eos_token }}{% endfor %}"


def llama_metadata(**changes):
    """Metadata of a tiny Llama: width 32, 4 heads, 2 of keys."""
    values = {
        "llama.context_length": 64,
        "llama.embedding_length": 32,
        "llama.block_count": 2,
        "llama.feed_forward_length": 64,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.rope.dimension_count": 8,
        "llama.rope.freq_base": 500000.0,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "general.name": "tiny",
        "general.license": "mit",
        "tokenizer.ggml.bos_token_id": 257,
        "tokenizer.ggml.eos_token_id": 258,
        "tokenizer.chat_template": TEMPLATE,
    }
    return {name: v for name, v in {**values, **changes}.items() if v is not None}


def write_gguf(file, tensors, values, arch="llama", kind=None, tokenizer="gpt2"):
    """A GGUF file, written by the gguf package. `kind`: of all matrices."""
    writer = gguf.GGUFWriter(file, arch)
    adders = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    adders |= {bool: writer.add_bool, list: writer.add_array}
    for name, value in values.items():
        adders[type(value)](name, value)
    special = ["<pad>", "<s>", "<|im_end|>"]
    writer.add_tokenizer_model(tokenizer)
    if "tokenizer.ggml.pre" not in values:
        writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*byte_symbols(), *special, "ab"])
    writer.add_token_types([1] * 256 + [3] * 3 + [1])
    writer.add_token_merges(["a b"])
    for name, tensor in tensors.items():
        if kind is not None and tensor.ndim > 1:
            writer.add_tensor(name, gguf.quantize(tensor, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def llama_tensors(ff=64, width=32, vocab=260):
    """The tensors of `llama_metadata`, random."""
    shapes = {"token_embd.weight": (vocab, width), "output_norm.weight": (width,)}
    shapes["output.weight"] = (vocab, width)
    for i in range(2):
        sizes = {"attn_norm": (width,), "ffn_norm": (width,), "attn_output": (width, width)}
        sizes |= {"attn_q": (width, width), "attn_k": (width // 2, width)}
        sizes |= {"attn_v": (width // 2, width), "ffn_down": (width, ff)}
        sizes |= {"ffn_gate": (ff, width), "ffn_up": (ff, width)}
        shapes |= {f"blk.{i}.{name}.weight": shape for name, shape in sizes.items()}
    return {name: random_weight(name, shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A sound file of a tiny Llama."""
    return write_gguf(
        tmp_path_factory.mktemp("gguf") / "tiny.gguf", llama_tensors(), llama_metadata()
    )


def weights_of_source(source):
    """All weights by our names, without a folder."""
    wanted = entries(source.table, source.expressed)
    check_tensors(source.tensors, wanted, source.expressed, source.where)
    weights = {}
    for entry in wanted:
        weights |= to_weights(entry, source.tensors[entry.name].read(), source.expressed)
    return weights


def test_metadata_become_configuration_tokenizer_and_template(tiny):
    source = open_gguf(tiny)
    config = source.config
    assert config == family_config(
        "llama", vocab_size=260, rope_theta=500000.0, tie_embeddings=False
    )
    tokenizer = source.tokenizer
    assert tokenizer.encode("ab<s>é").tolist() == [259, 257, 0xC3, 0xA9]
    assert (tokenizer.end_ids, tokenizer.prefix_ids, source.start_ids) == ({258}, (), [257])
    messages = [{"role": "user", "content": "hi"}]
    text = source.chat_template.render(messages, add_generation_prompt=False)
    assert text == "<s>hi<|im_end|>"
    assert source.origin == {
        "format": "gguf",
        "architecture": "llama",
        "file": "tiny.gguf",
        "name": "tiny",
        "license": "mit",
    }


def test_optional_metadata(tmp_path):
    tensors = llama_tensors()
    del tensors["output.weight"]
    for i in range(2):
        for name, rows in (("q", 32), ("k", 16), ("v", 16)):
            tensors[f"blk.{i}.attn_{name}.bias"] = random_weight(f"{name}{i}", (rows,))
    values = llama_metadata(
        **{
            "llama.rope.scaling.type": "linear",
            "llama.rope.scaling.factor": 4.0,
            "llama.attention.head_count": [4, 4],
            "tokenizer.ggml.add_bos_token": True,
            "tokenizer.ggml.eot_token_id": 256,
            "general.sampling.temp": 0.6,
            "general.sampling.top_k": 5,
        }
    )
    source = open_gguf(write_gguf(tmp_path / "m.gguf", tensors, values))
    assert source.config.tie_embeddings and source.config.qkv_bias
    assert source.config.rope_scaling == {"factor": 4.0}
    assert source.tokenizer.prefix_ids == (257,) and source.tokenizer.end_ids == {256, 258}
    assert source.generation == {"temperature": 0.6, "top_k": 5} and not source.left_out
    values |= {"general.sampling.top_k": -1.0, "general.sampling.temp": -0.5}
    values |= {"general.sampling.top_p": 0.25, "general.sampling.min_p": "x"}
    source = open_gguf(write_gguf(tmp_path / "m.gguf", tensors, values))
    assert source.generation == {"top_p": 0.25}
    assert [text.partition("=")[0] for text in source.left_out] == [
        f"general.sampling.{name}" for name in ("temp", "top_k", "min_p")
    ]


BLOCKS = {"F32": 0.0, "F16": 1e-3, "BF16": 8e-3, "Q8_0": 1e-2, "Q4_0": 0.2, "Q4_1": 0.2}
"""Largest error relative to a row's largest number."""


@pytest.mark.parametrize("kind", BLOCKS)
def test_types_of_tensors_are_dequantised(tmp_path, kind):
    tensors, quantization = llama_tensors(), gguf.GGMLQuantizationType[kind]
    file = write_gguf(tmp_path / "m.gguf", tensors, llama_metadata(), kind=quantization)
    source = open_gguf(file)
    weights_of_source(source)  # names and shapes
    for name, original in tensors.items():
        read = source.tensors[name].read()
        if original.ndim > 1:
            raw = gguf.quantize(original, quantization)
            assert (read == gguf.dequantize(raw, quantization)).all()
        assert np.abs(read - original).max() <= BLOCKS[kind] * np.abs(original).max()


def q6_k(block):
    """The 256 numbers of a block of 210 bytes, one by one, as ggml documents the layout."""
    low, high = block[:128], block[128:192]
    scales = np.frombuffer(block[192:208], dtype=np.int8)
    (scale,) = struct.unpack("<e", block[208:])
    numbers = []
    for i in range(256):
        half, within = divmod(i, 128)
        part, place = divmod(within, 32)
        byte = low[64 * half + place + 32 * (part % 2)]
        bits = (byte >> 4 * (part // 2)) & 15
        bits |= ((high[32 * half + place] >> 2 * part) & 3) << 4
        numbers.append(scale * float(scales[i // 16]) * (bits - 32))
    return numbers


def q4_k(block):
    """The 256 numbers of a block of 144 bytes, one by one."""
    scale, least = struct.unpack("<ee", block[:4])
    packed, bits = block[4:16], block[16:]
    numbers = []
    for i in range(256):
        group, place = divmod(i, 32)
        if group < 4:
            factor, shift = packed[group] & 63, packed[group + 4] & 63
        else:
            factor = (packed[group + 4] & 15) | (packed[group - 4] >> 6 << 4)
            shift = (packed[group + 4] >> 4) | (packed[group] >> 6 << 4)
        byte = bits[32 * (group // 2) + place]
        numbers.append(scale * factor * ((byte >> 4 * (group % 2)) & 15) - least * shift)
    return numbers


@pytest.mark.parametrize("kind, by_hand", [("Q4_K", q4_k), ("Q6_K", q6_k)])
def test_blocks_of_256_are_dequantised(tmp_path, kind, by_hand):
    quantization = gguf.GGMLQuantizationType[kind]
    size = gguf.GGML_QUANT_SIZES[quantization][1]
    raw = np.random.default_rng(0).integers(0, 256, (8, 2 * size), dtype=np.uint8)
    halves = np.float16([0.25, 0.5]).view(np.uint8)
    for start in (0, size):
        first = start + (0 if kind == "Q4_K" else size - 2)
        width = 4 if kind == "Q4_K" else 2
        raw[:, first : first + width] = halves[:width]
    tensors = llama_tensors() | {"token_embd.weight": np.zeros((260, 32), dtype=np.float32)}
    file = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_tensor("x", raw, raw_dtype=quantization)
    writer.add_tensor("y", tensors["output_norm.weight"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tensor = read_header(file).tensors["x"]
    blocks = raw.reshape(-1, size)
    expected = [number for block in blocks for number in by_hand(block.tobytes())]
    assert tensor.shape == (8, 512)
    np.testing.assert_allclose(tensor.read().ravel(), expected, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- transformers


def engine_of(source):
    return Engine(source.config, weights_of_source(source))


def permuted(matrix, heads):
    """Rows as llama.cpp's converter orders them."""
    rows = matrix.reshape(heads, 2, len(matrix) // heads // 2, -1)
    return np.ascontiguousarray(rows.swapaxes(1, 2).reshape(len(matrix), -1))


def test_logits_of_llama_are_those_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.manual_seed(0)
    scaling = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0}
    scaling |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling["original_max_position_embeddings"] = 16
    config = transformers.LlamaConfig(
        vocab_size=260,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        rope_parameters=scaling,
        initializer_range=0.3,
        tie_word_embeddings=False,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    parts = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k"}
    parts |= {"self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output"}
    parts |= {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    parts |= {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    for i in range(2):
        names |= {f"model.layers.{i}.{a}": f"blk.{i}.{b}" for a, b in parts.items()}
    tensors = {f"{b}.weight": state[f"{a}.weight"] for a, b in names.items()}
    for i in range(2):
        for part, heads in (("q", 4), ("k", 2)):
            name = f"blk.{i}.attn_{part}.weight"
            tensors[name] = permuted(tensors[name], heads)
    ours = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    ours["original_context_length"] = 16.0
    divisors = rotary_divisors(frequencies_of_pairs(8, 500000.0), ours)
    inverse = 1 / (model.model.rotary_emb.inv_freq.numpy() * 500000.0 ** (np.arange(4) / 4))
    np.testing.assert_allclose(inverse, divisors, rtol=1e-5)  # as transformers has it
    tensors["rope_freqs.weight"] = inverse.astype(np.float32)
    source = open_gguf(write_gguf(tmp_path / "m.gguf", tensors, llama_metadata()))
    ids = np.random.default_rng(0).integers(0, 260, 60)
    expected = model(torch.tensor(ids[None])).logits[0].detach().numpy()
    np.testing.assert_allclose(engine_of(source).all_logits(ids), expected, atol=1e-4)


def test_logits_of_gpt2_are_those_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=260, n_positions=64, n_embd=32, n_layer=2, n_head=4, n_inner=64
    )
    config.initializer_range = 0.3
    model = transformers.GPT2LMHeadModel(config).eval()
    for weight in model.parameters():
        if weight.ndim == 1:
            weight.data += 0.2 * torch.randn(weight.shape)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    parts = {"attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up"}
    parts |= {"mlp.c_proj": "ffn_down", "ln_1": "attn_norm", "ln_2": "ffn_norm"}
    names = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}
    for i in range(2):
        names |= {f"h.{i}.{a}": f"blk.{i}.{b}" for a, b in parts.items()}
    tensors = {}
    for theirs, name in names.items():
        weight = state[f"transformer.{theirs}.weight"]
        kernel = ".c_" in theirs
        tensors[f"{name}.weight"] = np.ascontiguousarray(weight.T) if kernel else weight
        if f"transformer.{theirs}.bias" in state:
            tensors[f"{name}.bias"] = state[f"transformer.{theirs}.bias"]
    values = {
        name.replace("llama.", "gpt2."): value
        for name, value in llama_metadata().items()
        if "kv" not in name and "rope" not in name and "rms" not in name
    }
    values["gpt2.attention.layer_norm_epsilon"] = 1e-5
    file = write_gguf(tmp_path / "m.gguf", tensors, values, arch="gpt2")
    write_model_folder(open_gguf(file), tmp_path / "model")
    folder = load_folder(tmp_path / "model")
    engine, _ = Engine.load(folder)
    ids = np.random.default_rng(0).integers(0, 260, 60)
    expected = model(torch.tensor(ids[None])).logits[0].detach().numpy()
    np.testing.assert_allclose(engine.all_logits(ids), expected, atol=1e-4)
    with open_weights(folder.path / "model.h5", folder.model) as weights:
        kept = np.asarray(weights["block_1/feed_forward_down/kernel"])
    assert (kept == state["transformer.h.1.mlp.c_proj.weight"]).all()
    assert folder.tokenizer.end_ids == {258} and folder.start_ids == [257]


# ---------------------------------------------------------------- rotary divisors


@pytest.mark.parametrize("width, theta", [(128, 500000.0), (64, 500000.0), (8, 10000.0)])
@pytest.mark.parametrize(
    "factor, low, high, original",
    [
        (8.0, 1.0, 4.0, 8192.0),
        (32.0, 1.0, 4.0, 8192.0),
        (8.0, 1.0, 3.0, 4096.0),
        (4.0, 2.0, 8.0, 1000.0),
        (2.5, 1.0, 1.5, 333.0),
        (1.5, 1.0, 4.0, 20.0),
    ],
)
def test_divisors_are_turned_back_into_the_scaling(width, theta, factor, low, high, original):
    scaling = {"factor": factor, "low_freq_factor": low, "high_freq_factor": high}
    scaling["original_context_length"] = original
    frequencies = frequencies_of_pairs(width, theta)
    divisors = rotary_divisors(frequencies, scaling).astype(np.float32)
    found = scaling_of(divisors, frequencies)
    again = rotary_divisors(frequencies, found)
    np.testing.assert_allclose(again, divisors, rtol=1e-4)
    if (width, high) in ((128, 4.0), (64, 4.0), (128, 8.0)):  # else many scalings serve
        normal = {**scaling, "low_freq_factor": 1.0, "high_freq_factor": high / low}
        assert found == pytest.approx(normal | {"original_context_length": original / low})


def test_other_divisors():
    frequencies = frequencies_of_pairs(16, 10000.0)
    assert scaling_of(np.ones(8, dtype=np.float32), frequencies) is None
    assert scaling_of(np.full(8, 4, dtype=np.float32), frequencies) == {"factor": 4.0}
    for wrong in (np.arange(1, 9), 1 / np.arange(1, 9), np.zeros(8), np.ones(7), [1, 8] * 4):
        with pytest.raises(ValueError, match="rotary divisors"):
            scaling_of(np.array(wrong, dtype=np.float32), frequencies)


# ---------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"llama.rope.dimension_count": 4}, "rope.dimension_count=4 is not the width of a head"),
        ({"llama.attention.value_length": 4}, "value_length=4 is not"),
        ({"llama.rope.scaling.type": "yarn"}, "rotary angles 'yarn': supported are linear"),
        ({"split.count": 3}, "is one of 3 files of a model: they are found by their names"),
        ({"llama.expert_count": 8}, "llama.expert_count is not supported"),
        ({"llama.block_count": None}, "lack llama.block_count"),
        ({"llama.block_count": "two"}, "block_count=two: expected an integer"),
        ({"llama.block_count": 3}, r"lacks the tensor blk\.2\."),
        ({"llama.block_count": 1}, r"beyond its architecture, the tensor blk\.1\."),
        ({"llama.block_count": 2**31}, "must be at most"),
        ({"llama.attention.head_count": [4, 2]}, "differs from layer to layer"),
        ({"llama.attention.head_count": 3, "llama.rope.dimension_count": None}, "divide"),
        ({"llama.feed_forward_length": 65}, r"ffn_gate.weight has shape \(64, 32\)"),
        ({"llama.attention.layer_norm_rms_epsilon": None}, "lack llama.attention.layer_norm_rms"),
        ({"tokenizer.ggml.pre": "bloom"}, "unsupported pre-tokenizer 'bloom'"),
        ({"minigpt_tf.model": "{"}, "minigpt_tf.model is damaged"),
        ({"minigpt_tf.model": json.dumps({"vocab_size": 5})}, "ModelConfig lacks"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(tmp_path, changes, reason):
    file = write_gguf(tmp_path / "m.gguf", llama_tensors(), llama_metadata(**changes))
    with pytest.raises(ModelFolderError, match=reason) as caught:
        weights_of_source(open_gguf(file))
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_unknown_kinds_are_named(tmp_path):
    tensors = llama_tensors()
    file = write_gguf(tmp_path / "a.gguf", tensors, llama_metadata(), arch="mamba")
    with pytest.raises(
        ModelFolderError, match=r"the architecture 'mamba' is unsupported: .* known: gpt2"
    ):
        open_gguf(file)
    file = write_gguf(tmp_path / "b.gguf", tensors, llama_metadata(), tokenizer="bert")
    with pytest.raises(
        ModelFolderError, match="unsupported kind of tokenizer 'bert': supported are gpt2"
    ):
        open_gguf(file)
    mxfp4 = gguf.GGMLQuantizationType.MXFP4
    file = write_gguf(tmp_path / "c.gguf", tensors, llama_metadata(), kind=mxfp4)
    with pytest.raises(ModelFolderError, match=f"type MXFP4, .*{', '.join(READABLE)}"):
        open_gguf(file)


def test_a_vocabulary_larger_than_the_embedding_writes_nothing(tmp_path):
    tensors = llama_tensors(vocab=259)
    source = open_gguf(write_gguf(tmp_path / "m.gguf", tensors, llama_metadata()))
    with pytest.raises(ModelFolderError, match="ids up to 259, but its token embedding has 259"):
        write_model_folder(source, tmp_path / "model")
    assert not (tmp_path / "model").exists()


# ---------------------------------------------------------------- damage


def opened(file):
    """Opens a file and looks at all its tensors' names and shapes; the error, if any."""
    try:
        source = open_gguf(file)
        wanted = entries(source.table, source.expressed)
        check_tensors(source.tensors, wanted, source.expressed, source.where)
        return None
    except MiniGPTError as error:
        return str(error)


HUGE = struct.pack("<Q", 2**60)


def header(count=0, pairs=b"", tensors=b"", tensor_count=0):
    return b"GGUF" + struct.pack("<IQQ", 3, tensor_count, count) + pairs + tensors + bytes(256)


def text(content):
    return struct.pack("<Q", len(content)) + content


TENSOR = text(b"x") + struct.pack("<I", 2)


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "not a GGUF file"),
        (b"PK\x03\x04" + bytes(100), "not a GGUF file"),
        (b"GGUF", "ends within its header"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(50), "version 1"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(50), "version 50331648"),
        (header(count=2**60), "metadata, more than it has bytes"),
        (header(tensor_count=2**60), "tensors and 0 metadata, more"),
        (header(1, HUGE), "a size in its header is wrong"),
        (header(1, text(b"a") + struct.pack("<I", 8) + HUGE), "size in its header"),
        (header(1, text(b"a") + struct.pack("<I", 99)), "unknown type 99 for a"),
        (header(1, text(b"a") + struct.pack("<II", 9, 8) + HUGE), "texts for a"),
        (header(1, text(b"a") + struct.pack("<II", 9, 4) + HUGE), "size in its header"),
        (header(1, text(b"a") + struct.pack("<II", 9, 9) + HUGE), "list of the unknown type 9"),
        (header(1, text(b"\xff") + struct.pack("<II", 4, 4)), "not UTF-8"),
        (header(2, 2 * (text(b"a") + struct.pack("<II", 4, 4))), "the key a twice"),
        (header(tensors=text(b"x") + struct.pack("<I", 2**31), tensor_count=1), "axes"),
        (header(tensors=TENSOR + HUGE * 2, tensor_count=1), "ends before the values|is of type"),
        (
            header(tensors=TENSOR + HUGE * 2 + struct.pack("<IQ", 0, 0), tensor_count=1),
            "ends before the values",
        ),
        (
            header(tensors=TENSOR + struct.pack("<QQIQ", 0, 4, 0, 0), tensor_count=1),
            "the shape",
        ),
        (
            header(tensors=TENSOR + struct.pack("<QQIQ", 4, 4, 0, 2**60), tensor_count=1),
            "ends before",
        ),
        (
            header(tensors=TENSOR + struct.pack("<QQIQ", 4, 4, 0, 5), tensor_count=1),
            "wrongly where",
        ),
        (
            header(tensors=2 * (TENSOR + struct.pack("<QQIQ", 2, 2, 0, 0)), tensor_count=2),
            "twice",
        ),
        (
            header(1, text(b"general.alignment") + struct.pack("<II", 4, 0)),
            "general.alignment=0",
        ),
    ],
)
def test_lies_are_refused_at_once(tmp_path, content, reason):
    file = tmp_path / "m.gguf"
    file.write_bytes(content)
    tracemalloc.start()
    error = opened(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error is not None and re.search(reason, error) and str(file) in error
    assert peak < 2**20


def test_random_damage_gives_one_line_or_a_sound_model(tiny, tmp_path):
    whole = tiny.read_bytes()
    begin = len(whole) - sum(t.nbytes for t in read_header(tiny).tensors.values())
    random = np.random.default_rng(0)
    file, refused = tmp_path / "m.gguf", 0
    tracemalloc.start()
    for number in range(400):
        damaged = bytearray(whole)
        if number % 4 == 0:
            del damaged[random.integers(begin if number % 8 else len(whole)) :]
        else:
            for _ in range(random.integers(1, 4)):
                place = random.integers(begin)
                size = random.choice([1, 4, 8])
                damaged[place : place + size] = random.bytes(size)
        file.write_bytes(damaged)
        error = opened(file)
        refused += error is not None
        assert error is None or (str(file) in error and "\n" not in error and len(error) < 500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24 and refused > 200
    assert opened(tiny) is None


def test_reading_takes_the_memory_of_one_tensor(tmp_path):
    large = {f"x{i}": np.ones((1024, 1024), dtype=np.float32) for i in range(8)}
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    for name, tensor in large.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    del large
    tracemalloc.start()
    tensors = read_header(tmp_path / "m.gguf").tensors
    assert all(tensor.read().sum() == 2**20 for tensor in tensors.values())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 4 * 2**20  # a tensor of 4 MiB, and pieces of it
