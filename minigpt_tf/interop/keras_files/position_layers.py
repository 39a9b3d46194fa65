"""How a graph's first layers turn token ids into the blocks' input: embedding and positions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...inference.positions import sinusoidal_table
from .architecture import Layer, Path, Refused
from .graph import CONSTANTS, Call
from .parts import kind_of, stripped, whole

Shapes = Mapping[Path, Sequence[tuple[int, ...]]]
"""The shapes of each layer's weights, in Keras's order."""

LENGTHS = {
    *("context_length", "context_size", "context_window", "block_size", "max_len", "maxlen"),
    *("max_length", "maximum_length", "max_seq_len", "max_seq_length", "max_sequence_length"),
    *("seq_len", "seq_length", "sequence_length", "max_tokens", "max_position", "max_positions"),
    *("max_position_embeddings", "maximum_position_encoding", "num_positions", "n_positions"),
    *("n_ctx", "position", "length", "max_steps", "input_length"),
}
"""What a position encoding of one's own may call the number of its positions."""

TABLE_TOLERANCE = 1e-5
"""Of float32 sines and cosines."""


@dataclass
class Start:
    """What lies before the blocks."""

    embedding: Layer
    positions: str | None
    """As in ModelConfig; None if no layer adds any."""
    layer: Layer | None = None
    """The layer that learned positions lie in, if they lie in one."""
    table: np.ndarray | None = None
    """Positions (C, D) that stand in the configuration itself."""
    context_length: int | None = None
    """How many positions there are, where that is known."""
    assumption: str = ""
    """What is not in the file and is taken so, for the user."""


def find_start(source: Call, shapes: Shapes | None) -> Start:
    """The embedding and the positions whose sum is `source`.

    Args:
        source: The input of the first block.
        shapes: Of the weights, where they are known: they distinguish learned from fixed positions.

    Returns:
        The embedding, and the kind of positions and where they lie.

    Raises:
        Refused: They are not of a kind that the engine has.
    """
    call = stripped(source)
    if kind_of(call) in ("Embedding", "ReversibleEmbedding"):
        return Start(_token_embedding(call), None)
    width = _width(call)
    if kind_of(call) == "Add":
        return _added(call, width, shapes)
    if kind_of(call) == "PositionalEncoding":
        context = whole(call.layer, "context_length")
        return Start(_embedding_below(call), "sinusoidal", context_length=context)
    if kind_of(call) == "PositionEmbedding":
        context = whole(call.layer, "context_length")
        return Start(_embedding_below(call), "learned", call.layer, context_length=context)
    if is_positions(call):
        return _own_positions(call, width, shapes, _embedding_below(call))
    raise Refused(
        f"layer {call.layer} stands between the token embedding and the blocks: expected an "
        "Embedding, a position encoding and at most dropout"
    )


def is_positions(call: Call) -> bool:
    """Whether a custom layer is a position encoding, by its class: its code is not in the file."""
    return kind_of(call) == "" and re.search("position", call.layer.class_name, re.I) is not None


def _embedding_below(call: Call) -> Layer:
    """The token embedding that a position layer is called with."""
    tensors = call.tensors
    if len(tensors) == 1:
        return _token_embedding(stripped(tensors[0]), call)
    raise Refused(f"layer {call.layer} takes {len(tensors)} tensors: expected one")


def _token_embedding(call: Call, above: Call | None = None) -> Layer:
    if kind_of(call) == "InputLayer" and above is not None:
        raise Refused(
            f"layer {above.layer} is a custom class that takes the token ids, and what it "
            "computes is not in the file: use keras.layers.Embedding and then a layer that adds "
            "positions, as build_gpt_model does"
        )
    if kind_of(call) not in ("Embedding", "ReversibleEmbedding"):
        raise Refused(f"layer {call.layer} stands where the token embedding should")
    inner = stripped(call.tensors[0]) if len(call.tensors) == 1 else None
    if inner is None or kind_of(inner) != "InputLayer":
        raise Refused(f"layer {call.layer} does not take the model's input, the token ids")
    return call.layer


def _width(call: Call) -> int | None:
    """The width of the first embedding below a call."""
    waiting, seen = [call], set()
    while waiting:
        call = waiting.pop()
        if call in seen:
            continue
        seen.add(call)
        if kind_of(call) in ("Embedding", "ReversibleEmbedding"):
            return whole(call.layer, "output_dim")
        waiting += call.tensors
    return None


def _added(call: Call, width: int | None, shapes: Shapes | None) -> Start:
    """Embedding + positions, where an Add sums both: of a table, or of a layer that gives one."""
    values = _flat([call.args, list(call.kwargs.values())])
    embeddings = [stripped(x) for x in call.tensors]
    embeddings = [x for x in embeddings if kind_of(x) in ("Embedding", "ReversibleEmbedding")]
    if len(embeddings) == 1 and len(call.tensors) == 1:
        tables = [value for value in values if isinstance(value, dict)]
        if len(tables) == 1:
            return _constant(tables[0], width, call, embeddings[0])
    others = [x for x in call.tensors if is_positions(stripped(x))]
    if len(embeddings) == 1 and len(others) == 1 and len(call.tensors) == 2:
        embedding = _token_embedding(embeddings[0])
        return _own_positions(stripped(others[0]), width, shapes, embedding)
    raise Refused(
        f"layer {call.layer} adds up what is not a token embedding and its positions: expected "
        "an Embedding and a position encoding"
    )


def _flat(value: Any) -> list[Any]:
    """The items of nested lists."""
    if not isinstance(value, list):
        return [value]
    return [item for part in value for item in _flat(part)]


def _constant(value: dict[str, Any], width: int | None, call: Call, embedding: Call) -> Start:
    """Positions that a model adds as an array, whose numbers stand in the configuration."""
    try:
        if value.get("class_name") not in CONSTANTS:
            raise ValueError
        table = np.array(value["config"]["value"], dtype=np.float32)
        table = table.reshape(table.shape[-2:]) if table.ndim == 3 else table
    except (ValueError, TypeError, KeyError, OverflowError):
        raise Refused(f"layer {call.layer} adds what is not a table of positions") from None
    if table.ndim != 2 or table.shape[1] != width or not len(table):
        raise Refused(
            f"layer {call.layer} adds an array of the shape {table.shape}: expected positions "
            f"of the shape (context_length, {width})"
        )
    if not np.isfinite(table).all():
        raise Refused(f"layer {call.layer} adds positions that are not finite numbers")
    even = table.shape[1] % 2 == 0
    if even and np.allclose(table, sinusoidal_table(*table.shape), atol=TABLE_TOLERANCE):
        return Start(_token_embedding(embedding), "sinusoidal", context_length=len(table))
    layer = _token_embedding(embedding)
    return Start(layer, "learned", table=table, context_length=len(table))


def _own_positions(call: Call, width: int | None, shapes: Shapes | None, embedding: Layer) -> Start:
    """A position encoding of one's own: learned if it has weights, else taken for sinusoidal."""
    layer = call.layer
    found = list((shapes or {}).get(layer.path, ()))
    if len(found) == 1:
        shape = found[0]
        if len(shape) == 3 and shape[0] == 1:
            shape = shape[1:]
        if len(shape) == 2 and shape[1] == width:
            return Start(
                embedding,
                "learned",
                layer,
                context_length=shape[0],
                assumption=f"the code of {layer} is not in the file: its weight of the shape "
                f"{found[0]} is taken for positions that are added to the embeddings as they are",
            )
    if found:
        raise Refused(
            f"layer {layer} has weights of the shapes {found!s:.80}: expected none, or one "
            f"table of positions (context_length, {width})"
        )
    lengths = [v for k, v in layer.config.items() if k in LENGTHS and type(v) is int and v > 0]
    return Start(
        embedding,
        "sinusoidal",
        context_length=min(lengths, default=None),
        assumption=f"the code of {layer} is not in the file: it is taken for the sinusoidal "
        "encoding of the 2017 paper, sine in the even places and cosine in the odd ones, added to "
        "the embeddings as they are",
    )


def masks_padding(embedding: Layer) -> str:
    """What to say of an embedding that masks id 0."""
    if not embedding.config.get("mask_zero"):
        return ""
    return (
        f"{embedding} masks the padding, id 0, which minigpt_tf does not: texts without padding "
        "give the same"
    )
