"""What the engine cannot run, refused by the layer's name before the graph's form is looked at."""

from collections import Counter

from .architecture import Refused
from .graph import Call
from .layer_weights import weight_names
from .parts import (
    ATTENTION,
    SAME_AT_INFERENCE,
    activation_of,
    attention,
    dense,
    kind_of,
    norm,
)
from .position_layers import is_positions

KNOWN = {
    *("InputLayer", "Embedding", "ReversibleEmbedding", "PositionalEncoding", "PositionEmbedding"),
    *("Add", "Multiply", "Dense", "LayerNormalization", "RMSNormalization"),
    *ATTENTION,
    *SAME_AT_INFERENCE,
}

CODE = ("Lambda", "TFSMLayer")

ADVICE = {
    "BatchNormalization": "it mixes the texts of a batch: use LayerNormalization",
    "Conv1D": "use Dense",
    "Attention": "use MultiHeadAttention",
    "AdditiveAttention": "use MultiHeadAttention",
    "GetItem": "the model should give an output for each token, not for some",
    "SlicingOpLambda": "the model should give an output for each token, not for some",
    "GlobalAveragePooling1D": "the model should give an output for each token, not for the text",
    "Flatten": "the model should give an output for each token, not for the text",
}


def check_calls(calls: list[Call]) -> None:
    """Refuses the first layer, from the input on, that the engine has nothing for."""
    for call in calls:
        _check(call)
    uses = Counter(call.layer.path for call in calls)
    for call in calls:
        shared = uses[call.layer.path] > 1 and weight_names(call.layer) != ()
        tied = call.kind == "ReversibleEmbedding" and uses[call.layer.path] == 2
        if shared and not tied:
            raise Refused(
                f"layer {call.layer} is used {uses[call.layer.path]} times with the same "
                "weights: minigpt_tf shares only those of a ReversibleEmbedding, between input and "
                "output"
            )


def _check(call: Call) -> None:
    kind, layer = kind_of(call), call.layer
    if layer.class_name.split(".")[-1] in CODE:
        raise Refused(f"layer {layer} holds code, which is never run: replace it with Keras layers")
    if call.kwargs.get("training") is True:
        raise Refused(f"layer {layer} is called with training=True: leave that out")
    if layer.config.get("logit_soft_cap") is not None:
        raise Refused(f"layer {layer} has logit_soft_cap, which is not supported")
    if kind in ATTENTION:
        attention(call)
    elif kind in ("LayerNormalization", "RMSNormalization"):
        norm(call)
    elif kind == "Dense":
        dense(call)
    elif kind not in KNOWN and activation_of(call) is None and not is_positions(call):
        raise Refused(_unknown(call, kind))


def _unknown(call: Call, kind: str) -> str:
    layer = call.layer
    if kind == "":
        return (
            f"layer {layer} is a custom class, and what it computes is not in the file: build "
            "it from Keras layers as a keras.Model, as transformer_block does"
        )
    if kind == "TFOpLambda":
        return f"the operation {layer.config.get('function')!s:.60} is not supported"
    advice = ADVICE.get(kind, "expected the layers of a GPT, as build_gpt_model makes them")
    return f"layer {layer} is not supported: {advice}"
