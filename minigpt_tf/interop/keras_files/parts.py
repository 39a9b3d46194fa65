"""What single calls of a graph compute: activations, norms, dense layers, attention."""

from dataclasses import dataclass
from typing import Any

from .architecture import OURS, Layer, Refused
from .graph import Call

SAME_AT_INFERENCE = {
    *("Dropout", "SpatialDropout1D", "GaussianDropout", "GaussianNoise"),
    *("ActivityRegularization", "Identity"),
}
"""Layers that give back what they get, but for training."""

ATTENTION = ("MultiHeadAttention", "GroupQueryAttention", "RotaryAttention")

ATTENTION_ARGUMENTS = (
    *("query", "value", "key", "query_mask", "value_mask", "key_mask", "attention_mask"),
    *("return_attention_scores", "training", "use_causal_mask"),
)
"""The arguments of a call of Keras's attention, in order."""

ACTIVATIONS = {
    "swish": "silu",
    "fused_silu": "silu",
    "fused_gelu": "gelu",
    "fused_gelu_tanh": "gelu_tanh",
}
"""Other names of activations, those of our training layers too."""

LARGEST_NUMBER = 1e30
"""A bound that no sensible setting reaches."""

OPERATIONS = {"__operators__.add": "Add", "math.add": "Add", "math.multiply": "Multiply"}
OPERATIONS |= {"nn.softmax": "Softmax", "nn.relu": "Relu", "nn.silu": "Silu", "nn.gelu": "Gelu"}
"""tf.keras 2's operations, by the names that Keras 3 has for them."""


def kind_of(call: Call) -> str:
    """The class that says what a call computes; "" for a custom layer."""
    if call.kind == "TFOpLambda":
        return OPERATIONS.get(str(call.layer.config.get("function")), call.kind)
    return call.kind


def stripped(call: Call) -> Call:
    """The call whose output this one gives on, as dropout does when it is not in training."""
    while kind_of(call) in SAME_AT_INFERENCE or activation_of(call) == "linear":
        call = only_input(call)
    return call


def only_input(call: Call) -> Call:
    """The one tensor that a call takes."""
    if len(call.tensors) != 1:
        raise Refused(f"layer {call.layer} takes {len(call.tensors)} tensors: expected one")
    return call.tensors[0]


def activation_of(call: Call) -> str | None:
    """The activation that a call is, by its name; None for other layers."""
    kind, config = kind_of(call), call.layer.config
    if kind == "Activation":
        return activation_name(config.get("activation"), call.layer)
    if kind in ("Relu", "Silu"):
        return kind.lower()
    if kind == "Gelu":
        approximate = config.get("approximate", call.kwargs.get("approximate"))
        return "gelu_tanh" if approximate not in (None, False) else "gelu"
    if kind == "ReLU":
        limits = (config.get(n) for n in ("max_value", "negative_slope", "threshold"))
        return "relu" if not any(limits) else "ReLU with limits"
    if kind == "Softmax":
        if config.get("axis", call.kwargs.get("axis", -1)) not in (-1, [-1], 2, [2]):
            raise Refused(f"layer {call.layer} is not over the last axis")
        return "softmax"
    return None


def activation_name(value: Any, layer: Layer) -> str:
    """Normalizes the name of an activation, however Keras serializes it.

    Args:
        value: The serialized activation.
        layer: Its layer, named in errors.

    Returns:
        The name, as in ModelConfig where that has the activation.

    Raises:
        Refused: The activation is a lambda, or damaged.
    """
    if value is None:
        return "linear"
    if isinstance(value, dict):
        if value.get("class_name") in ("__lambda__", "Lambda"):
            raise Refused(
                f"the activation of layer {layer} is a lambda, which holds code and is never "
                "run: use a Keras activation by its name"
            )
        config = value.get("config")
        value = config if isinstance(config, str) else value.get("class_name")
    if not isinstance(value, str):
        raise Refused(f"its architecture is damaged: {layer} has activation={value!r:.60}")
    name = value.removeprefix(f"{OURS}>")
    return ACTIVATIONS.get(name, "relu" if name == "ReLU" else name)


def whole(layer: Layer, name: str) -> int:
    """Reads a size from a layer's configuration.

    Args:
        layer: The layer.
        name: Of the setting.

    Returns:
        An integer, at least 1.

    Raises:
        Refused: The setting is missing or not such an integer.
    """
    value = layer.config.get(name)
    if type(value) is not int or value < 1:
        raise Refused(f"its architecture is damaged: {layer} has {name}={value!r:.40}")
    return value


def number(layer: Layer, name: str, default: float) -> float:
    """Reads a number from a layer's configuration.

    Args:
        layer: The layer.
        name: Of the setting.
        default: Used if the setting is absent.

    Returns:
        A number, at least 0.

    Raises:
        Refused: The setting is not such a number, or too large.
    """
    value = layer.config.get(name, default)
    if type(value) not in (int, float) or not 0 <= value <= LARGEST_NUMBER:
        raise Refused(f"its architecture is damaged: {layer} has {name}={value!r:.40}")
    return float(value)


def is_on(layer: Layer, name: str) -> bool:
    """Reads a switch that is on by default.

    Args:
        layer: The layer.
        name: Of the setting.

    Returns:
        False if the configuration says so, else True.
    """
    return layer.config.get(name) is not False


@dataclass(frozen=True)
class Norm:
    """A normalization over the last axis."""

    layer: Layer
    kind: str
    """layer | rms"""
    epsilon: float
    source: Call
    """What is normalized."""


def norm(call: Call) -> Norm | None:
    """The norm that a call is; None for another layer."""
    kind, layer = kind_of(call), call.layer
    if kind not in ("LayerNormalization", "RMSNormalization"):
        return None
    if layer.config.get("axis", -1) not in (-1, [-1], 2, [2]):
        raise Refused(f"layer {layer} normalizes over another axis than the last: leave axis out")
    if layer.config.get("rms_scaling"):
        raise Refused(f"layer {layer} has rms_scaling: use RMSNormalization")
    name, default = ("layer", 1e-3) if kind == "LayerNormalization" else ("rms", 1e-6)
    return Norm(layer, name, number(layer, "epsilon", default), only_input(call))


@dataclass(frozen=True)
class Dense:
    """A dense layer and the activation behind it, which may be a layer of its own."""

    layer: Layer
    activation: str
    source: Call

    @property
    def units(self) -> int:
        """Its outputs."""
        return whole(self.layer, "units")

    @property
    def bias(self) -> bool:
        """Whether it has one."""
        return is_on(self.layer, "use_bias")


def dense(call: Call) -> Dense | None:
    """The dense layer whose output, activated or not, a call gives; None for another layer."""
    activation = activation_of(call)
    inner = stripped(only_input(call)) if activation is not None else call
    if kind_of(inner) != "Dense":
        return None
    own = activation_name(inner.layer.config.get("activation"), inner.layer)
    if activation is None:
        activation = own
    elif own != "linear":
        raise Refused(f"layer {inner.layer} has two activations, {own} and {activation}")
    return Dense(inner.layer, activation, only_input(inner))


@dataclass(frozen=True)
class Attention:
    """Causal self-attention."""

    layer: Layer
    heads: int
    kv_heads: int
    head_dim: int
    qkv_bias: bool
    source: Call


def attention(call: Call) -> Attention | None:
    """The attention that a call is; None for another layer.

    Raises:
        Refused: It is not causal self-attention as the engine computes it.
    """
    kind, layer = kind_of(call), call.layer
    if kind not in ATTENTION:
        return None
    for name, plain in (("output_shape", [None]), ("attention_axes", [None, 1, [1]])):
        if layer.config.get(name) not in plain:
            raise Refused(f"layer {layer} has {name}={layer.config[name]!r:.40}: leave it out")
    for name in ("use_gate", "sliding_window"):
        if layer.config.get(name):
            raise Refused(f"layer {layer} has {name}, which is not supported: leave it out")
    source = _self_attention(call)
    bias = is_on(layer, "use_bias")
    if kind == "MultiHeadAttention":
        heads, head_dim = whole(layer, "num_heads"), whole(layer, "key_dim")
        if layer.config.get("value_dim") not in (None, head_dim):
            raise Refused(
                f"layer {layer} has value_dim={layer.config['value_dim']!r:.40} and key_dim="
                f"{head_dim}: all heads must have one width, leave value_dim out"
            )
        return Attention(layer, heads, heads, head_dim, bias, source)
    heads, kv_heads = whole(layer, "num_query_heads"), whole(layer, "num_key_value_heads")
    qkv_bias = layer.config.get("qkv_bias", bias) is not False
    return Attention(layer, heads, kv_heads, whole(layer, "head_dim"), qkv_bias, source)


def _self_attention(call: Call) -> Call:
    """What an attention attends to; refuses it if that is not one sequence up to each token."""
    layer = call.layer
    arguments = dict(zip(ATTENTION_ARGUMENTS, call.args, strict=False)) | call.kwargs
    given = [arguments[n] for n in ("query", "value", "key") if arguments.get(n) is not None]
    sources = {id(stripped(value)) for value in given if isinstance(value, Call)}
    if not given or not all(isinstance(value, Call) for value in given):
        raise Refused(f"its architecture is damaged: {layer} attends to nothing")
    if len(sources) > 1:
        raise Refused(
            f"layer {layer} attends to another sequence (cross attention): minigpt_tf runs "
            "self-attention, where query, value and key are the same tensor"
        )
    masks = [n for n in ATTENTION_ARGUMENTS if "_mask" in n and arguments.get(n) is not None]
    if [name for name in masks if name != "use_causal_mask"]:
        raise Refused(
            f"layer {layer} is given {masks[0]}, and whether that hides later tokens is not in "
            "the file: call it with use_causal_mask=True instead"
        )
    built_in = layer.package == OURS
    if arguments.get("use_causal_mask") is not True and not built_in:
        raise Refused(
            f"layer {layer} is called without use_causal_mask=True, so in training it saw "
            "the tokens it should predict: call it with use_causal_mask=True and train again"
        )
    return given[0]
