"""The tree of a model's layers -> one graph of calls, from its input to its output.

Nested models dissolve into the calls of their layers. Both ways in which Keras writes a graph down
are read: that of Keras 3, {"args": [tensor, ...], "kwargs": {...}}, and that of tf.keras 2,
[["name", 0, 0, {"kwarg": ...}], ...].
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .architecture import Layer, Refused

MOST_CALLS = 200_000
"""Of layers and models, in all: more than 10,000 blocks have; models that call models many times
could have more than fit into memory."""

CONSTANTS = ("__tensor__", "__numpy__")
"""What Keras 3 calls an array of numbers in a configuration."""


class Ref(NamedTuple):
    """What a layer puts out when it is called for the `call`-th time."""

    layer: str
    call: int
    output: int


@dataclass(eq=False)
class Call:
    """One use of a layer: its arguments, in which other calls stand for their output."""

    layer: Layer
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """As of the layer."""
        return self.layer.kind

    @property
    def tensors(self) -> list["Call"]:
        """All calls among the arguments, in order."""
        return [*_calls(self.args), *_calls(list(self.kwargs.values()))]


@dataclass
class Graph:
    """The calls of a model, each after those whose output it takes."""

    calls: list[Call]
    input: Call
    output: Call


def read_graph(model: Layer) -> Graph:
    """The graph of a model with one input and one output.

    Raises:
        Refused: The layers are not in the file, or do not form such a graph.
    """
    if model.layers is None:
        raise Refused(
            f"its model {model} is a subclass, and the file does not say which layers it calls: "
            "build the model with keras.Model(inputs, outputs), as build_gpt_model does"
        )
    flattening = _Flattening()
    inputs = _input_layers(model)
    if len(inputs) != 1:
        raise Refused(f"it has {len(inputs)} inputs: expected one, the token ids")
    first = flattening.call(inputs[0], [], {})
    outputs = flattening.outputs_of(model, [first])
    if len(outputs) != 1:
        raise Refused(f"it has {len(outputs)} outputs: expected one, for each token the next")
    return Graph(flattening.calls, first, outputs[0])


def _input_layers(model: Layer) -> list[Layer]:
    """The InputLayer of each input; a Sequential need not have one."""
    by_name = {layer.name: layer for layer in model.layers or ()}
    if model.outputs is None:
        first = (model.layers or [])[0]
        known = first.kind == "InputLayer"
        return [first if known else Layer(("input",), "InputLayer", "keras", {})]
    names = [ref.layer for ref in refs(model.inputs)]
    if any(name not in by_name for name in names):
        raise Refused("its architecture is damaged: an input is not among its layers")
    return [by_name[name] for name in names]


class _Flattening:
    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._count = 0

    def call(self, layer: Layer, args: list[Any], kwargs: dict[str, Any]) -> Call:
        """Notes a call of a layer that is not a model."""
        self.calls.append(Call(layer, args, kwargs))
        return self.calls[-1]

    def outputs_of(self, model: Layer, inputs: list[Call]) -> list[Call]:
        """What a model puts out for these inputs, all its layers called."""
        if model.outputs is None:
            return self._through_sequential(model, inputs)
        names = [layer.name for layer in _input_layers(model)]
        if len(names) != len(inputs):
            raise Refused(f"{model} has {len(names)} inputs and is given {len(inputs)}")
        done = {(name, 0): [value] for name, value in zip(names, inputs, strict=True)}
        by_name = {layer.name: layer for layer in model.layers or ()}
        wanted = refs(model.outputs)
        waiting = [(ref.layer, ref.call) for ref in reversed(wanted)]
        arguments: dict[tuple[str, int], tuple[list[Any], dict[str, Any]]] = {}
        while waiting:  # a stack: recursion would end at a thousand layers
            key = waiting[-1]
            if key in done:
                waiting.pop()
                continue
            first_seen = key not in arguments
            if first_seen:
                arguments[key] = _arguments(by_name, *key)
            args, kwargs = arguments[key]
            needed = {ref[:2] for ref in _found([args, kwargs], Ref) if ref[:2] not in done}
            if needed and not first_seen:
                raise Refused(f"its architecture is damaged: {by_name[key[0]]} is its own input")
            waiting += sorted(needed)
            if not needed:
                done[key] = self._apply(by_name[key[0]], _filled(args, done), _filled(kwargs, done))
                waiting.pop()
        return [_chosen(done, ref) for ref in wanted]

    def _through_sequential(self, model: Layer, inputs: list[Call]) -> list[Call]:
        values = inputs
        for layer in model.layers or ():
            if layer.kind != "InputLayer":
                values = self._apply(layer, values, {})
        return values

    def _apply(self, layer: Layer, args: list[Any], kwargs: dict[str, Any]) -> list[Call]:
        self._count += 1
        if self._count > MOST_CALLS:
            raise Refused(f"it calls more than {MOST_CALLS:,} layers")
        if layer.layers is not None:
            return self.outputs_of(layer, Call(layer, args, kwargs).tensors)
        return [self.call(layer, args, kwargs)]


def _arguments(by_name: dict[str, Layer], name: str, call: int) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a layer's `call`-th call."""
    layer = by_name.get(name)
    if layer is None:
        raise Refused(f"its architecture is damaged: no layer is called {name!r:.60}")
    if len(layer.calls) == 1 and layer.layers is not None and call == 1:
        call = 0  # tf.keras 2 counts the call that made a nested model
    if not 0 <= call < len(layer.calls):
        raise Refused(f"its architecture is damaged: {layer} is not called {call + 1} times")
    return call_arguments(layer, layer.calls[call])


def call_arguments(layer: Layer, node: Any) -> tuple[list[Any], dict[str, Any]]:
    """Reads the arguments of one call of a layer, as Keras 2 or Keras 3 writes them.

    Args:
        layer: The layer, named in errors.
        node: One of its `inbound_nodes`.

    Returns:
        Positional and keyword arguments, in which a `Ref` represents a tensor.

    Raises:
        Refused: The node is damaged.
    """
    if isinstance(node, dict):
        args, kwargs = node.get("args"), node.get("kwargs", {})
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise Refused(f"its architecture is damaged: {layer} is called without arguments")
        return _keras_3(args), _keras_3(kwargs)
    entries = node if isinstance(node, list) and node and isinstance(node[0], list) else [node]
    args, kwargs = [], {}
    for entry in entries:
        if not isinstance(entry, list) or not 3 <= len(entry) <= 4:
            raise Refused(f"its architecture is damaged: {layer} is called without arguments")
        constant = entry[0] == "_CONSTANT_VALUE"
        args.append(entry[2] if constant else _keras_2(entry[:3]))
        if len(entry) == 4 and isinstance(entry[3], dict):
            kwargs |= {key: _keras_2(value) for key, value in entry[3].items()}
    return args, kwargs


def _keras_3(value: Any) -> Any:
    """Arguments with `Ref` in place of Keras 3's tensors."""
    if isinstance(value, list):
        return [_keras_3(item) for item in value]
    if not isinstance(value, dict) or value.get("class_name") in CONSTANTS:
        return value
    if value.get("class_name") == "__keras_tensor__":
        config = value.get("config")
        ref = _ref(config.get("keras_history") if isinstance(config, dict) else None)
        if ref is None:
            raise Refused("its architecture is damaged: a tensor comes from nowhere")
        return ref
    return {key: _keras_3(item) for key, item in value.items()}


def _keras_2(value: Any) -> Any:
    """Arguments with `Ref` in place of tf.keras 2's tensors, which are ["name", 0, 0]."""
    if isinstance(value, dict):
        return {key: _keras_2(item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    return _ref(value) or [_keras_2(item) for item in value]


def _ref(history: Any) -> Ref | None:
    if not isinstance(history, list) or len(history) != 3 or not isinstance(history[0], str):
        return None
    return Ref(*history) if all(type(index) is int for index in history[1:]) else None


def refs(value: Any) -> list[Ref]:
    """All tensors in nested arguments, or in Keras's `input_layers` or `output_layers`."""
    return list(_found(_keras_2(value), Ref))


def _calls(value: Any) -> list[Call]:
    return list(_found(value, Call))


def _found(value: Any, kind: type) -> Iterator[Any]:
    if isinstance(value, kind):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _found(item, kind)
    elif isinstance(value, dict) and value.get("class_name") not in CONSTANTS:
        for item in value.values():
            yield from _found(item, kind)


def _filled(value: Any, done: dict[tuple[str, int], list[Call]]) -> Any:
    """Arguments with the calls that the refs stand for."""
    if isinstance(value, Ref):
        return _chosen(done, value)
    if isinstance(value, list):
        return [_filled(item, done) for item in value]
    if isinstance(value, dict) and value.get("class_name") not in CONSTANTS:
        return {key: _filled(item, done) for key, item in value.items()}
    return value


def _chosen(done: dict[tuple[str, int], list[Call]], ref: Ref) -> Call:
    outputs = done[ref[:2]]
    if not 0 <= ref.output < len(outputs):
        raise Refused(
            f"it uses output {ref.output} of layer {ref.layer!r:.60}, which has {len(outputs)}"
        )
    return outputs[ref.output]
