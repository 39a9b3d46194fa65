"""The tables of tensor names: how the weights of each family are called and laid out elsewhere."""

from dataclasses import replace

from .tensors import Entry, Table

_SIDE_BY_SIDE = {
    "qkv": ("attention/query", "attention/key", "attention/value"),
    "gate_and_up": ("feed_forward_gate", "feed_forward_up"),
}
"""Names in the tables below for our layers that are one tensor elsewhere."""


def _gpt2_table(
    embeddings: tuple[str, str],
    block: str,
    modules: dict[str, str],
    after: tuple[str, str | None],
    suffixes: tuple[str, str, str] = (".weight", ".weight", ".bias"),
    transposed: bool = False,
) -> Table:
    """GPT-2's table. `modules`: our layer -> its name in a block; `suffixes`: of a norm's scale, of
    a kernel, of a bias; `after`: the last norm, and the output head where it may have one."""
    scale, kernel, bias = suffixes
    entries = []
    for layer, name in modules.items():
        ours = [f"block_{{i}}/{path}" for path in _SIDE_BY_SIDE.get(layer, (layer,))]
        first, second = (scale, "gamma"), "beta"
        if not layer.endswith("norm"):
            first, second = (kernel, "kernel"), "bias"
        weights = tuple(f"{path}/{first[1]}" for path in ours)
        flipped = transposed and not layer.endswith("norm")
        entries.append(Entry(f"{block}{name}{first[0]}", weights, transposed=flipped))
        entries.append(Entry(f"{block}{name}{bias}", tuple(f"{path}/{second}" for path in ours)))
    norm, head = after
    last = [Entry(norm + scale, ("final_norm/gamma",)), Entry(norm + bias, ("final_norm/beta",))]
    if head is not None:
        last.append(Entry(head, ("logits/kernel",), transposed=True))
    names = ("token_embedding/embeddings", "position_encoding/embeddings")
    before = tuple(Entry(name, (weight,)) for name, weight in zip(embeddings, names, strict=True))
    return Table(before, tuple(entries), tuple(last))


def _llama_table(
    embedding: str,
    block: str,
    modules: dict[str, str],
    after: tuple[str, str],
    interleaved: bool = False,
) -> Table:
    """Llama's table. `modules`: our layer -> its name in a block; `interleaved`: the rows of query
    and key."""
    entries = []
    for layer, name in modules.items():
        ours = [f"block_{{i}}/{path}" for path in _SIDE_BY_SIDE.get(layer, (layer,))]
        module = f"{block}{name}"
        if layer.endswith("norm"):
            entries.append(Entry(f"{module}.weight", (f"{ours[0]}/scale",)))
            continue
        turned = interleaved and layer in ("attention/query", "attention/key")
        for kind, flipped in (("kernel", True), ("bias", False)):
            suffix = {"kernel": "weight", "bias": "bias"}[kind]
            weights = tuple(f"{path}/{kind}" for path in ours)
            entries.append(Entry(f"{module}.{suffix}", weights, flipped, turned))
    norm, head = after
    last = Entry(norm, ("final_norm/scale",)), Entry(head, ("logits/kernel",), transposed=True)
    return Table((Entry(embedding, ("token_embedding/embeddings",)),), tuple(entries), last)


HUGGINGFACE_GPT2 = _gpt2_table(
    ("transformer.wte.weight", "transformer.wpe.weight"),
    "transformer.h.{i}.",
    {
        "attention_norm": "ln_1",
        "qkv": "attn.c_attn",
        "attention/attention_output": "attn.c_proj",
        "feed_forward_norm": "ln_2",
        "feed_forward_up": "mlp.c_fc",
        "feed_forward_down": "mlp.c_proj",
    },
    ("transformer.ln_f", "lm_head.weight"),
)
"""Its Conv1D has (inputs, outputs), as Keras does."""

OPENAI_GPT2 = _gpt2_table(
    ("model/wte", "model/wpe"),
    "model/h{i}/",
    {
        "attention_norm": "ln_1",
        "qkv": "attn/c_attn",
        "attention/attention_output": "attn/c_proj",
        "feed_forward_norm": "ln_2",
        "feed_forward_up": "mlp/c_fc",
        "feed_forward_down": "mlp/c_proj",
    },
    ("model/ln_f", None),
    suffixes=("/g", "/w", "/b"),
)
"""Kernels have a first axis of size 1 besides."""

GGUF_GPT2 = _gpt2_table(
    ("token_embd.weight", "position_embd.weight"),
    "blk.{i}.",
    {
        "attention_norm": "attn_norm",
        "qkv": "attn_qkv",
        "attention/attention_output": "attn_output",
        "feed_forward_norm": "ffn_norm",
        "feed_forward_up": "ffn_up",
        "feed_forward_down": "ffn_down",
    },
    ("output_norm", "output.weight"),
    transposed=True,
)

_OPT = _gpt2_table(
    ("model.decoder.embed_tokens.weight", "model.decoder.embed_positions.weight"),
    "model.decoder.layers.{i}.",
    {
        "attention_norm": "self_attn_layer_norm",
        "attention/query": "self_attn.q_proj",
        "attention/key": "self_attn.k_proj",
        "attention/value": "self_attn.v_proj",
        "attention/attention_output": "self_attn.out_proj",
        "feed_forward_norm": "final_layer_norm",
        "feed_forward_up": "fc1",
        "feed_forward_down": "fc2",
    },
    ("model.decoder.final_layer_norm", "lm_head.weight"),
    transposed=True,
)
HUGGINGFACE_OPT = replace(_OPT, before=(_OPT.before[0], replace(_OPT.before[1], unused_rows=2)))

_LLAMA_ATTENTION = {
    "attention/query": "self_attn.q_proj",
    "attention/key": "self_attn.k_proj",
    "attention/value": "self_attn.v_proj",
    "attention/attention_output": "self_attn.o_proj",
}
_LLAMA_FEED_FORWARD = {
    "feed_forward_gate": "mlp.gate_proj",
    "feed_forward_up": "mlp.up_proj",
    "feed_forward_down": "mlp.down_proj",
}
_LLAMA_NORMS = {
    "attention_norm": "input_layernorm",
    "feed_forward_norm": "post_attention_layernorm",
}


def _huggingface_llama(*modules: dict[str, str]) -> Table:
    """A table of transformers' models with Llama's names outside the blocks."""
    merged = {layer: name for some in modules for layer, name in some.items()}
    ends = ("model.norm.weight", "lm_head.weight")
    return _llama_table("model.embed_tokens.weight", "model.layers.{i}.", merged, ends)


HUGGINGFACE_LLAMA = _huggingface_llama(_LLAMA_NORMS, _LLAMA_ATTENTION, _LLAMA_FEED_FORWARD)

HUGGINGFACE_PHI3 = _huggingface_llama(
    _LLAMA_NORMS,
    {"qkv": "self_attn.qkv_proj", "attention/attention_output": "self_attn.o_proj"},
    {"gate_and_up": "mlp.gate_up_proj", "feed_forward_down": "mlp.down_proj"},
)

_HEAD_NORMS = {"attention/query_norm": "self_attn.q_norm", "attention/key_norm": "self_attn.k_norm"}
_OUTPUT_NORMS = {
    "attention_output_norm": "post_attention_layernorm",
    "feed_forward_output_norm": "post_feedforward_layernorm",
}

HUGGINGFACE_QWEN3 = _huggingface_llama(
    _LLAMA_NORMS, _LLAMA_ATTENTION, _HEAD_NORMS, _LLAMA_FEED_FORWARD
)

HUGGINGFACE_OLMO2 = _huggingface_llama(
    _OUTPUT_NORMS, _LLAMA_ATTENTION, _HEAD_NORMS, _LLAMA_FEED_FORWARD
)


def _gemma(table: Table) -> Table:
    """A table whose norms are stored without their 1."""

    def from_zero(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        """The same with what has a scale marked."""
        return tuple(
            replace(entry, from_zero=entry.weights[0].endswith("/scale")) for entry in entries
        )

    return Table(table.before, from_zero(table.block), from_zero(table.after))


HUGGINGFACE_GEMMA = _gemma(HUGGINGFACE_LLAMA)

HUGGINGFACE_GEMMA2 = _gemma(
    _huggingface_llama(
        {
            **_OUTPUT_NORMS,
            "attention_norm": "input_layernorm",
            "feed_forward_norm": "pre_feedforward_layernorm",
        },
        _LLAMA_ATTENTION,
        _HEAD_NORMS,
        _LLAMA_FEED_FORWARD,
    )
)
"""Gemma 3 has the norms of queries and keys besides."""

_GGUF_ATTENTION = {
    "attention/query": "attn_q",
    "attention/key": "attn_k",
    "attention/value": "attn_v",
    "attention/attention_output": "attn_output",
}
_GGUF_FEED_FORWARD = {
    "feed_forward_gate": "ffn_gate",
    "feed_forward_up": "ffn_up",
    "feed_forward_down": "ffn_down",
}
_GGUF_NORMS = {"attention_norm": "attn_norm", "feed_forward_norm": "ffn_norm"}


def _gguf_llama(*modules: dict[str, str], interleaved: bool = False) -> Table:
    """A table of llama.cpp's models with Llama's names outside the blocks."""
    merged = {layer: name for some in modules for layer, name in some.items()}
    ends = ("output_norm.weight", "output.weight")
    return _llama_table("token_embd.weight", "blk.{i}.", merged, ends, interleaved)


GGUF_LLAMA = _gguf_llama(_GGUF_NORMS, _GGUF_ATTENTION, _GGUF_FEED_FORWARD, interleaved=True)

GGUF_QWEN2 = _gguf_llama(_GGUF_NORMS, _GGUF_ATTENTION, _GGUF_FEED_FORWARD)
"""llama.cpp rotates the same pairs as we do."""

_GGUF_HEAD_NORMS = {"attention/query_norm": "attn_q_norm", "attention/key_norm": "attn_k_norm"}
_GGUF_OUTPUT_NORMS = {
    "attention_output_norm": "post_attention_norm",
    "feed_forward_output_norm": "post_ffw_norm",
}

GGUF_QWEN3 = _gguf_llama(_GGUF_NORMS, _GGUF_ATTENTION, _GGUF_HEAD_NORMS, _GGUF_FEED_FORWARD)

GGUF_OLMO2 = _gguf_llama(_GGUF_OUTPUT_NORMS, _GGUF_ATTENTION, _GGUF_HEAD_NORMS, _GGUF_FEED_FORWARD)

GGUF_GEMMA = _gguf_llama(
    _GGUF_NORMS, _GGUF_OUTPUT_NORMS, _GGUF_ATTENTION, _GGUF_HEAD_NORMS, _GGUF_FEED_FORWARD
)
"""Of Gemma 1, 2 and 3: norms that a model does not have are left out. Their scales have the 1."""

GGUF_PHI3 = _gguf_llama(
    _GGUF_NORMS,
    {"qkv": "attn_qkv", "attention/attention_output": "attn_output"},
    {"gate_and_up": "ffn_up", "feed_forward_down": "ffn_down"},
)

HUGGINGFACE_GRANITE_HYBRID = _huggingface_llama(
    _LLAMA_NORMS,
    _LLAMA_ATTENTION,
    {"gate_and_up": "shared_mlp.input_linear", "feed_forward_down": "shared_mlp.output_linear"},
)
"""Granite 4 without experts and without Mamba."""
