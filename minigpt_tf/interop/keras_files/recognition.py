"""A Keras model's configuration -> our ModelConfig, and where each weight lies.

Nothing is known by the names of layers, only by classes, settings and what is called with what.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ...config import ModelConfig
from ...errors import ConfigError, ModelFolderError
from ...inference.weights import weight_shapes
from .architecture import OURS, Layer, Path, Refused, read_architecture
from .blocks import Stack, find_blocks
from .checks import check_calls
from .graph import Call, read_graph
from .layer_weights import weight_names
from .parts import Dense, activation_of, dense, is_on, kind_of, number, only_input, stripped, whole
from .position_layers import Shapes, Start, find_start, masks_padding


@dataclass(frozen=True)
class Place:
    """Where a weight lies: in the layer of that path, as its `index`-th."""

    layer: Path
    index: int


POSITIONS = "position_encoding/embeddings"

Head = Literal["logits", "softmax"]


@dataclass
class Recognized:
    """A model that the engine runs."""

    config: ModelConfig
    head: Head
    """What the model puts out: logits, or their softmax."""
    places: dict[str, Place | np.ndarray | float]
    """For each weight of `weight_shapes(config)` its place, or its values if no layer has it: zeros
    for a missing bias, ones for a missing scale, a table of positions in the configuration."""
    assumptions: list[str] = field(default_factory=list)
    """What is not in the configuration and is taken so: sentences for the user."""

    def weight(self, name: str, read: Callable[[Path, int], Any]) -> np.ndarray:
        """A weight as float32, of its shape in `weight_shapes(config)`.

        Args:
            name: As there, such as "block_0/attention/query/kernel".
            read: Gives the values of a layer's weight, by the layer's path and the weight's index.

        Returns:
            The values, in memory.
        """
        place = self.places[name]
        if isinstance(place, float):
            return np.full(weight_shapes(self.config)[name], place, dtype=np.float32)
        if isinstance(place, Place):
            place = np.asarray(read(place.layer, place.index), dtype=np.float32)
        if name == POSITIONS:  # (C, D) or (1, C, D), perhaps of a longer C
            place = place.reshape(-1, place.shape[-1])[: self.config.context_length]
        return place


def recognize(
    description: Any,
    shapes: Shapes | None = None,
    *,
    context_length: int | None = None,
    where: str = "this Keras model",
) -> Recognized:
    """The GPT that a Keras model's configuration describes. No code of the model is run.

    Args:
        description: The configuration: `model_config` of an .h5 file, config.json of a .keras file,
            or `json.loads(model.to_json())`.
        shapes: The shapes of each layer's weights (`layer_weights.shapes_of`), which are checked;
            without them a position encoding of one's own is taken to have none.
        context_length: The longest sequence, if the configuration does not say.
        where: Names the model in errors.

    Returns:
        The configuration of the model, and where each of its weights lies.

    Raises:
        ModelFolderError: The engine cannot run the model; names the layer, and says what to do.

    Example:
        >>> import json
        >>> from minigpt_tf import build_gpt_model, model_preset
        >>> model = build_gpt_model(model_preset("lecture", num_layers=2, embed_dim=32))
        >>> found = recognize(json.loads(model.to_json()))
        >>> found.config.num_layers, found.head, found.places["logits/bias"]
        (2, 'logits', Place(layer=('logits',), index=1))
    """
    try:
        return _recognize(read_architecture(description), shapes, context_length)
    except Refused as error:
        raise ModelFolderError(f"{where}: {error}") from None
    except ConfigError as error:
        raise ModelFolderError(f"{where}: its sizes do not fit together: {error}") from None
    except RecursionError:
        raise ModelFolderError(f"{where}: its architecture is nested too deeply") from None


def _recognize(model: Layer, shapes: Shapes | None, context_length: int | None) -> Recognized:
    graph = read_graph(model)
    check_calls(graph.calls)
    head, logits = _without_softmax(graph.output)
    tied = kind_of(logits) == "ReversibleEmbedding"
    output = None if tied else _output_head(logits)
    stack = find_blocks(only_input(logits) if output is None else output.source)
    if not stack.blocks:
        raise Refused("it has no transformer blocks")
    start = find_start(stack.source, shapes)
    if tied and logits.layer is not start.embedding:
        raise Refused(f"its output head {logits.layer} is another layer than its token embedding")
    if tied and logits.kwargs.get("reverse") is not True:
        raise Refused(f"its output head {logits.layer} is called without reverse=True")
    if tied and not is_on(logits.layer, "tie_weights"):
        raise Refused(f"layer {logits.layer} has tie_weights=False: use Dense as output head")
    context = _context_length(graph.input, start, stack, context_length)
    config = _config(stack, start, output, context)
    recognized = Recognized(config, head, _places(config, stack, start, output))
    notes = [start.assumption, masks_padding(start.embedding), *_own_classes(model)]
    recognized.assumptions = [note for note in notes if note]
    if shapes is not None:
        _check_shapes(recognized, shapes)
    return recognized


def _without_softmax(output: Call) -> tuple[Head, Call]:
    """(head, the call that gives the logits)."""
    call = stripped(output)
    if activation_of(call) == "softmax":
        if (inner := dense(stripped(only_input(call)))) and inner.activation != "linear":
            raise Refused(f"layer {call.layer} is a softmax of an activation: keep only one")
        return "softmax", stripped(only_input(call))
    last = dense(call)
    return ("softmax" if last and last.activation == "softmax" else "logits"), call


def _output_head(call: Call) -> Dense:
    head = dense(call)
    if head is None:
        raise Refused(
            f"it ends in the layer {call.layer}: expected a Dense layer with an output for each "
            "word of the vocabulary"
        )
    if head.activation not in ("linear", "softmax"):
        raise Refused(
            f"its output head {head.layer} has the activation {head.activation:.60}: expected "
            "softmax, or none for logits"
        )
    return head


def _own_classes(model: Layer) -> Iterable[str]:
    """Models whose class is one's own, and may do something else than its layers say."""
    waiting = [model]
    while waiting:
        layer = waiting.pop()
        if layer.layers is not None:
            waiting += layer.layers
            if layer.package not in ("keras", OURS):
                yield f"the class of {layer} is taken for what its layers compute"


def _context_length(first: Call, start: Start, stack: Stack, given: int | None) -> int:
    """The longest sequence: as many tokens as input, positions and attention all allow."""
    shape = first.layer.config.get("batch_shape", first.layer.config.get("batch_input_shape"))
    if isinstance(shape, list) and len(shape) != 2:
        raise Refused(f"its input has the shape {shape!s:.60}: expected token ids, (batch, time)")
    lengths = [start.context_length, shape[1] if isinstance(shape, list) else None]
    lengths += [block.attention.layer.config.get("context_length") for block in stack.blocks]
    known = [length for length in lengths if type(length) is int and length > 0]
    if known:
        return min(known)
    if given is None:
        raise Refused(
            "its longest sequence is not in the file: give it by --context-length N (in Python "
            "context_length=N), such as the max_len of its position encoding"
        )
    return given


def _config(stack: Stack, start: Start, output: Dense | None, context: int) -> ModelConfig:
    block = stack.blocks[0]
    embedding, attention = start.embedding, block.attention
    V, D = whole(embedding, "input_dim"), whole(embedding, "output_dim")
    if output is not None and output.units != V:
        raise Refused(
            f"its token embedding has {V} rows and its output head {output.units} outputs: "
            "both must be the number of token ids"
        )
    for name in ("qk_norm", "window", "softcap"):
        value = attention.layer.config.get(name)
        if value not in (None, "none"):
            raise Refused(
                f"its attention has {name}={value!r:.40}, which is not read from Keras files: use "
                "the model folder, or an export for transformers"
            )
    rotary = attention.layer.kind == "RotaryAttention"
    rotary &= attention.layer.config.get("rope_theta") is not None
    if rotary == (start.positions is not None):
        if rotary:
            raise Refused("it has rotary attention and adds positions to its embeddings: keep one")
        raise Refused(
            "its blocks do not know the order of the tokens: add a PositionalEncoding or a "
            "PositionEmbedding to the token embedding, as build_gpt_model does"
        )
    known = {
        "vocab_size": V,
        "context_length": context,
        "embed_dim": D,
        "num_layers": len(stack.blocks),
        **_dropout(stack),
        "positions": "rotary" if rotary else start.positions,
        "norm_placement": "after" if stack.final_norm is None else "before",
        "logits_bias": output is not None and output.bias,
        "tie_embeddings": output is None,
        **_alike(stack),
        **_biases(stack),
    }
    if rotary:
        known["rope_theta"] = number(attention.layer, "rope_theta", 10000.0)
    else:
        del known["rope_theta"], known["rope_scaling"]
    return ModelConfig(**known)


def _alike(stack: Stack) -> dict[str, Any]:
    """The settings that all blocks have in common; refuses blocks that differ."""
    first: dict[str, Any] = {}
    for i, block in enumerate(stack.blocks):
        attention, feed_forward = block.attention, block.feed_forward
        norms = [block.attention_norm, block.feed_forward_norm]
        norms += [stack.final_norm] if stack.final_norm else []
        for norm in norms:
            found = {
                "num_heads": attention.heads,
                "num_kv_heads": attention.kv_heads,
                "head_dim": attention.head_dim,
                "ff_dim": feed_forward.up.units,
                "activation": feed_forward.activation,
                "norm": norm.kind,
                "norm_epsilon": norm.epsilon,
                "rope_theta": attention.layer.config.get("rope_theta"),
                "rope_scaling": attention.layer.config.get("rope_scaling"),
            }
            first = first or found
            for name, value in found.items():
                if value != first[name]:
                    raise Refused(
                        f"its block {i} has {name}={value}, where block 0 has {first[name]}: "
                        "all blocks must be alike"
                    )
    return first


def _biases(stack: Stack) -> dict[str, bool]:
    """Which biases the model has; where only some layers have one, the others get zeros."""
    use_bias = qkv_bias = False
    for block in stack.blocks:
        feed_forward = block.feed_forward
        denses = [feed_forward.up, feed_forward.down, feed_forward.gate]
        use_bias |= any(item.bias for item in denses if item is not None)
        use_bias |= is_on(block.attention.layer, "use_bias")
        norms = (block.attention_norm, block.feed_forward_norm)
        use_bias |= any("beta" in (weight_names(n.layer) or ()) for n in norms)
        qkv_bias |= block.attention.qkv_bias
    final = stack.final_norm
    use_bias |= final is not None and "beta" in (weight_names(final.layer) or ())
    return {"use_bias": use_bias, "qkv_bias": qkv_bias}


def _dropout(stack: Stack) -> dict[str, Any]:
    """The largest dropout that is used, which counts when the training continues, and whether it
    is also on attention weights or embeddings."""
    inner = [block.attention.layer.config.get("dropout") for block in stack.blocks]
    if kind_of(stack.source) == "Dropout":
        inner.append(stack.source.layer.config.get("rate"))
    outer = [call.layer.config.get("rate") for call in _dropouts(stack)]
    most = [
        max((rate for rate in rates if isinstance(rate, int | float) and 0 <= rate < 1), default=0)
        for rates in (inner, outer)
    ]
    return {"dropout": float(max(most)), "dropout_everywhere": most[0] > 0 or not any(most)}


def _dropouts(stack: Stack) -> Iterable[Call]:
    """The dropout behind attention and feed-forward."""
    for block in stack.blocks:
        for norm in (block.attention_norm, block.feed_forward_norm):
            for call in norm.source.tensors:
                if kind_of(call) == "Dropout":
                    yield call


def _places(
    config: ModelConfig, stack: Stack, start: Start, output: Dense | None
) -> dict[str, Place | np.ndarray | float]:
    """The place of each weight of the configuration."""
    layers: dict[str, Layer | None] = {"token_embedding": start.embedding}
    layers["position_encoding"] = start.layer
    for i, block in enumerate(stack.blocks):
        feed_forward = block.feed_forward
        layers[f"block_{i}/attention_norm"] = block.attention_norm.layer
        layers[f"block_{i}/attention"] = block.attention.layer
        layers[f"block_{i}/feed_forward_norm"] = block.feed_forward_norm.layer
        layers[f"block_{i}/feed_forward_up"] = feed_forward.up.layer
        layers[f"block_{i}/feed_forward_down"] = feed_forward.down.layer
        layers[f"block_{i}/feed_forward_gate"] = (
            feed_forward.gate.layer if feed_forward.gate else None
        )
    layers["final_norm"] = stack.final_norm.layer if stack.final_norm else None
    layers["logits"] = output.layer if output else None
    places: dict[str, Place | np.ndarray | float] = {}
    for name in weight_shapes(config):
        path, _, weight = name.rpartition("/")
        if path not in layers:  # of a projection of an attention
            path, _, projection = path.rpartition("/")
            weight = f"{projection}/{weight}"
        layer = layers[path]
        names = (weight_names(layer) or ()) if layer is not None and layer.kind else ()
        if path == "position_encoding" and layer is not None:
            places[name] = Place(layer.path, 0)
        elif path == "position_encoding" and start.table is not None:
            places[name] = start.table
        elif layer is not None and weight in names:
            places[name] = Place(layer.path, names.index(weight))
        else:  # a bias or a scale that this layer does without
            places[name] = 1.0 if weight == "gamma" else 0.0
    return places


def _check_shapes(recognized: Recognized, shapes: Shapes) -> None:
    """Refuses weights that are missing, extra or of other shapes than the configuration says."""
    used = set()
    for name, shape in weight_shapes(recognized.config).items():
        place = recognized.places[name]
        if not isinstance(place, Place):
            continue
        used.add((place.layer, place.index))
        found = shapes.get(place.layer, ())
        layer = repr("/".join(place.layer))
        if place.index >= len(found):
            raise Refused(f"the weight {name} is missing: its layer {layer:.80} has {len(found)}")
        there = tuple(found[place.index])
        fits = there == shape
        if name == POSITIONS:
            plain = there[1:] if len(there) == 3 and there[0] == 1 else there
            fits = len(plain) == 2 and plain[1] == shape[1] and plain[0] >= shape[0]
        if not fits:
            raise Refused(
                f"the weight {name} has the shape {there} in its layer {layer:.80}: its "
                f"configuration says {shape}"
            )
    for path, found in shapes.items():
        extra = [i for i in range(len(found)) if (path, i) not in used]
        if extra:
            raise Refused(
                f"layer {'/'.join(path)!r:.80} has {len(extra)} weights that no part "
                f"of a GPT uses, the first of the shape {tuple(found[extra[0]])}"
            )
