"""Which weights a layer has, in Keras's order: by that order a file's weights find their layers."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from .architecture import NO_WEIGHTS, Layer, Path

PROJECTIONS = ("query", "key", "value", "attention_output")


class Named(Protocol):
    """A weight in a file."""

    @property
    def name(self) -> str:
        """Its path within the layer or model whose weights are listed."""


W = TypeVar("W")
N = TypeVar("N", bound=Named)


def weight_names(layer: Layer) -> tuple[str, ...] | None:
    """Names of a layer's weights in Keras's order, as `inference.weights` has them.

    None if they are not known: of a custom layer, or of one that no GPT has.
    """
    config, kind = layer.config, layer.kind
    bias = config.get("use_bias") is not False
    if kind in NO_WEIGHTS:
        return ()
    if kind == "Dense":
        return ("kernel", "bias") if bias else ("kernel",)
    if kind in ("Embedding", "PositionEmbedding"):
        return ("embeddings",)
    if kind == "ReversibleEmbedding":
        tied = config.get("tie_weights") is not False
        return ("embeddings",) if tied else ("embeddings", "reverse_embeddings")
    if kind == "LayerNormalization":
        has = {"gamma": config.get("scale"), "beta": config.get("center")}
        return tuple(name for name, value in has.items() if value is not False)
    if kind == "RMSNormalization":
        return ("scale",)
    if kind in ("MultiHeadAttention", "GroupQueryAttention", "RotaryAttention"):
        return _attention_weights(bias, config.get("qkv_bias", bias) is not False)
    return None


def _attention_weights(bias: bool, qkv_bias: bool) -> tuple[str, ...]:
    names = []
    for projection in PROJECTIONS:
        names.append(f"{projection}/kernel")
        if bias if projection == "attention_output" else qkv_bias:
            names.append(f"{projection}/bias")
    return tuple(names)


def by_layer(model: Layer, weights: Sequence[N]) -> dict[Path, list[N]]:
    """Assigns the weights of a model to its layers.

    By their order if the number of weights of each layer is known, else by their names.

    Args:
        model: The model.
        weights: Its weights in the order of an .h5 file.

    Returns:
        The weights by the path of their layer; those of no layer belong to the model's own path.
    """
    leaves = list(model.leaves())
    names = [weight_names(leaf) for leaf in leaves]
    known = [name for name in names if name is not None]
    if len(known) == len(names) and sum(map(len, known)) == len(weights):
        # Keras lists frozen layers' weights after all others, unless the model itself is frozen.
        order = list(range(len(leaves)))
        if model.trainable:
            order = sorted(order, key=lambda i: not leaves[i].trainable)
        found, first = {}, 0
        for i in order:
            found[leaves[i].path] = list(weights[first : first + len(known[i])])
            first += len(known[i])
        return {leaf.path: found[leaf.path] for leaf in leaves}
    found = {leaf.path: [] for leaf in leaves}
    by_name = {leaf.name: leaf.path for leaf in leaves}
    for weight in weights:
        named = (by_name[part] for part in weight.name.split("/")[:-1] if part in by_name)
        found.setdefault(next(named, model.path), []).append(weight)
    return found


def live_weights(model: Any) -> dict[Path, list[Any]]:
    """The variables of a live Keras model by the path of their layer, in Keras's order."""
    found: dict[Path, list[Any]] = {}
    waiting: list[tuple[Path, Any]] = [((), model)]
    while waiting:
        path, layer = waiting.pop()
        inner = getattr(layer, "layers", None)
        if isinstance(inner, list):
            waiting += [((*path, part.name), part) for part in reversed(inner)]
        else:
            found[path] = list(layer.weights)
    return found


def shapes_of(weights: Mapping[Path, Sequence[Any]]) -> dict[Path, list[tuple[int, ...]]]:
    """The shapes of weights by layer: what `recognition.recognize` takes."""
    return {path: [tuple(weight.shape) for weight in all_] for path, all_ in weights.items()}
