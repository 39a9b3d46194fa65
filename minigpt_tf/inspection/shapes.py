"""The output shapes of a model's layers, from what its configuration says of them.

Keras 3 notes the shape of each tensor that a layer is called with; what it does not note, and what
tf.keras 2 does not, is computed for the layers whose rule is simple.
"""

from typing import Any

from ..interop.keras_files.architecture import Layer, Refused
from ..interop.keras_files.graph import Ref, call_arguments, refs
from ..interop.keras_files.parts import ATTENTION, SAME_AT_INFERENCE

Shape = tuple[int | None, ...]
"""None for a size that is not fixed."""

SAME_SHAPE = {
    *("Activation", "ReLU", "LeakyReLU", "ELU", "Softmax", "Add", "Multiply", "Subtract"),
    *("LayerNormalization", "RMSNormalization", "BatchNormalization", "PositionalEncoding"),
    *("PositionEmbedding", "TFOpLambda"),
    *ATTENTION,
    *SAME_AT_INFERENCE,
}
"""Layers whose output has the shape of their first input."""


def connections(model: Layer) -> dict[str, list[str]]:
    """What each layer of a Functional model is called with.

    Args:
        model: The tree of its layers.

    Returns:
        Layer -> inputs, as Keras writes them: `name[call][output]`.
    """
    return {
        name: [f"{ref.layer}[{ref.call}][{ref.output}]" for ref in found]
        for name, found in _inputs(model).items()
    }


def _inputs(model: Layer) -> dict[str, list[Ref]]:
    """The tensors that each layer is called with, in all its calls, each once."""
    found: dict[str, list[Ref]] = {}
    for layer in (model.layers or ()) if model.outputs is not None else ():
        for node in layer.calls:
            try:
                inputs = refs(list(call_arguments(layer, node)))
            except (Refused, RecursionError):  # damaged: the other layers can still be shown
                continue
            known = found.setdefault(layer.name, [])
            known += [ref for ref in dict.fromkeys(inputs) if ref not in known]
    return found


def output_shapes(model: Layer) -> dict[str, Shape]:
    """The output shapes of a model's layers.

    Args:
        model: The tree of its layers.

    Returns:
        Layer -> shape, of the layers for which it is known.
    """
    known = _noted(model)
    inputs = _inputs(model)
    shapes: dict[str, Shape] = {}
    before: Shape | None = None
    for layer in model.layers or ():
        if model.outputs is None:
            first = before
        else:
            taken = [ref[:2] for ref in inputs.get(layer.name, ())]
            first = next((known[call] for call in taken if call in known), None)
        shape = known.get((layer.name, 0)) or _computed(layer, first)
        if shape is not None:
            shapes[layer.name] = known[layer.name, 0] = shape
        before = shape
    return shapes


def _noted(model: Layer) -> dict[tuple[str, int], Shape]:
    """What Keras 3 notes of a tensor wherever a layer is called with it, by the call it is from."""
    found: dict[tuple[str, int], Shape] = {}
    waiting: list[Any] = [layer.calls for layer in model.layers or ()]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, dict) and item.get("class_name") == "__keras_tensor__":
            config = item.get("config")
            config = config if isinstance(config, dict) else {}
            ref, shape = refs(config.get("keras_history")), _shape(config.get("shape"))
            if ref and shape:
                found[ref[0][:2]] = shape
        elif isinstance(item, dict) and item.get("class_name") != "__tensor__":
            waiting += item.values()
    return found


def _shape(value: Any) -> Shape | None:
    sound = isinstance(value, list) and all(size is None or type(size) is int for size in value)
    return tuple(value) if sound else None


def _computed(layer: Layer, first: Shape | None) -> Shape | None:
    """The output shape of a layer whose first input has that shape."""
    config, kind = layer.config, layer.kind
    if kind == "InputLayer":
        return _shape(config.get("batch_shape", config.get("batch_input_shape")))
    if layer.layers:
        inner = output_shapes(layer)
        if layer.outputs is None:
            return inner.get(layer.layers[-1].name)
        try:
            last = refs(layer.outputs)
        except RecursionError:
            return None
        return inner.get(last[0].layer) if len(last) == 1 else None
    if first is None:
        return None
    if kind in SAME_SHAPE:
        return first
    if kind == "Dense" and type(config.get("units")) is int:
        return (*first[:-1], config["units"])
    if kind in ("Embedding", "ReversibleEmbedding") and type(config.get("output_dim")) is int:
        return (*first, config["output_dim"])
    return None
