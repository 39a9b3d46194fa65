"""The transformer blocks of a graph, found from its output backward."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from .architecture import Refused
from .graph import Call
from .parts import (
    ATTENTION,
    Attention,
    Dense,
    Norm,
    activation_of,
    attention,
    dense,
    kind_of,
    norm,
    stripped,
)

EXPECTED = (
    "expected blocks of causal attention and a feed-forward, each with a residual and a "
    "normalization, as transformer_block makes them"
)

FEED_FORWARD_ACTIVATIONS = ("relu", "gelu", "gelu_tanh")


@dataclass(frozen=True)
class FeedForward:
    """Two dense layers, or three with the gate of SwiGLU."""

    up: Dense
    down: Dense
    gate: Dense | None
    activation: str
    """As in ModelConfig."""
    source: Call


@dataclass(frozen=True)
class Block:
    """One block, its norms before or after its parts."""

    attention_norm: Norm
    attention: Attention
    feed_forward_norm: Norm
    feed_forward: FeedForward


@dataclass(frozen=True)
class Stack:
    """All blocks, and what goes into the first."""

    blocks: list[Block]
    final_norm: Norm | None
    """None if the blocks normalize after their parts."""
    source: Call


class _Part(Protocol):
    @property
    def source(self) -> Call: ...


P = TypeVar("P", bound=_Part)


def find_blocks(output: Call) -> Stack:
    """The blocks whose last one gives `output`, the hidden states before the head.

    Raises:
        Refused: There are none, or one is not of the kind that the engine runs.
    """
    last = stripped(output)
    final = norm(last)
    if final is None:
        if _branch(last) is None:
            raise Refused(f"its output head follows {_shown(last)}: {EXPECTED}")
        raise Refused(
            "its blocks normalize before attention and feed-forward, and nothing normalizes before "
            "its output head: add a LayerNormalization there"
        )
    summed = stripped(final.source)
    branch = _branch(summed)
    if branch is None:
        raise Refused(f"its last normalization follows {_shown(summed)}: {EXPECTED}")
    skip, _ = branch
    norm_first = norm(stripped(_feed_forward(branch[1]).source)) is not None
    norm_first &= stripped(_feed_forward(branch[1]).source) is not stripped(skip)
    below = final.source if norm_first else last
    blocks = []
    while _is_block(below, norm_first):
        ff_norm, feed_forward, middle = _sublayer(below, norm_first, _feed_forward)
        attention_norm, attended, below = _sublayer(middle, norm_first, _attention)
        blocks.append(Block(attention_norm, attended, ff_norm, feed_forward))
    return Stack(blocks[::-1], final if norm_first else None, below)


def _is_block(call: Call, norm_first: bool) -> bool:
    last: Call | None = stripped(call)
    if last is not None and not norm_first:
        after = norm(last)
        last = None if after is None else stripped(after.source)
    return last is not None and _branch(last) is not None


def _branch(call: Call) -> tuple[Call, Call] | None:
    """(what is kept, what is added to it) of a residual; None if a call is none."""
    if kind_of(call) != "Add" or len(call.tensors) != 2:
        return None
    parts = [x for x in call.tensors if _is_part(stripped(x))]
    if len(parts) != 1:
        return None
    kept = [x for x in call.tensors if x is not parts[0]]
    return (kept[0], parts[0]) if kept else None


def _is_part(call: Call) -> bool:
    return kind_of(call) in ("Dense", *ATTENTION)


def _sublayer(call: Call, norm_first: bool, part_of: Callable[[Call], P]) -> tuple[Norm, P, Call]:
    """(norm, part, input) of x + part(norm(x)), or of norm(x + part(x))."""
    last = stripped(call)
    found = None
    if not norm_first:
        found = norm(last)
        if found is None:
            raise Refused(f"{_shown(last)} is where a normalization should be: {EXPECTED}")
        last = stripped(found.source)
    branch = _branch(last)
    if branch is None:
        raise Refused(f"{_shown(last)} is where a residual should be: {EXPECTED}")
    kept, added = branch
    part = part_of(added)
    source = stripped(part.source)
    if found is None:
        found = norm(source)
        if found is None:
            raise Refused(f"{_shown(source)} is where a normalization should be: {EXPECTED}")
        source = stripped(found.source)
    if source is not stripped(kept):
        raise Refused(
            f"layer {last.layer} adds {_shown(added)} to {_shown(kept)}, but does not compute it "
            f"from that: {EXPECTED}"
        )
    return found, part, kept


def _attention(call: Call) -> Attention:
    found = attention(stripped(call))
    if found is None:
        raise Refused(f"{_shown(stripped(call))} is where attention should be: {EXPECTED}")
    return found


def _feed_forward(call: Call) -> FeedForward:
    down = dense(stripped(call))
    if down is None:
        raise Refused(f"{_shown(stripped(call))} is where a feed-forward should be: {EXPECTED}")
    if down.activation != "linear":
        raise Refused(
            f"layer {down.layer} ends a feed-forward with the activation {down.activation}: "
            "it should have none"
        )
    inner = stripped(down.source)
    if kind_of(inner) == "Multiply" and len(inner.tensors) == 2:
        return _gated(inner, down)
    up = dense(inner)
    if up is None:
        raise Refused(f"{_shown(inner)} is inside a feed-forward: expected a Dense layer")
    if up.activation not in FEED_FORWARD_ACTIVATIONS:
        raise Refused(
            f"layer {up.layer} has the activation {up.activation:.60}: minigpt_tf's "
            f"feed-forward has {', '.join(FEED_FORWARD_ACTIVATIONS)} or swiglu"
        )
    return FeedForward(up, down, None, up.activation, up.source)


def _gated(product: Call, down: Dense) -> FeedForward:
    """SwiGLU: silu(gate) * up."""
    factors = [dense(stripped(x)) for x in product.tensors]
    by_activation = {factor.activation: factor for factor in factors if factor is not None}
    if set(by_activation) != {"silu", "linear"}:
        raise Refused(
            f"layer {product.layer} multiplies what is not SwiGLU's gate: one of the two Dense "
            "layers should have the activation silu, the other none"
        )
    gate, up = by_activation["silu"], by_activation["linear"]
    if stripped(gate.source) is not stripped(up.source):
        raise Refused(f"the two inputs of its layer {product.layer} are made of different tensors")
    return FeedForward(up, down, gate, "swiglu", up.source)


def _shown(call: Call) -> str:
    """A call in an error."""
    if kind_of(call) == "InputLayer":
        return "its input"
    kind = "activation" if activation_of(call) else "layer"
    return f"{kind} {call.layer}"
