"""A Keras model's configuration -> the tree of its layers.

The configuration is that of an .h5 file's `model_config`, of config.json in a .keras file or of
`json.loads(model.to_json())`: of Keras 3, or of tf.keras 2. It is plain data and stays so: no class
that it names is imported.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Path = tuple[str, ...]
"""The names of a layer and of the models that it lies in, the outermost first; () is the model."""

MOST_NESTED = 16
"""Models within models. Keras nests a block, and in it perhaps a feed-forward."""

KERAS_PACKAGES = ("keras", "tf_keras", "keras_core")

OURS = "minigpt_tf"

BASES = {
    "FastDropout": "Dropout",
    "FusedLayerNormalization": "LayerNormalization",
    "FusedRMSNormalization": "RMSNormalization",
    "FusedDense": "Dense",
    "FusedAttention": "MultiHeadAttention",
    "FusedRotaryAttention": "RotaryAttention",
}
"""Our layers that compute what another one does, with the same weights."""

KERAS_NAMES = {"GroupedQueryAttention": "GroupQueryAttention"}
"""Classes that .h5 files know by another name than .keras files."""

NO_WEIGHTS = {
    *("InputLayer", "Dropout", "SpatialDropout1D", "GaussianDropout", "GaussianNoise"),
    *("ActivityRegularization", "Identity", "Add", "Multiply", "Subtract", "Average", "Maximum"),
    *("Minimum", "Concatenate", "Activation", "ReLU", "LeakyReLU", "ELU", "Softmax", "Flatten"),
    *("Reshape", "Permute", "RepeatVector", "Masking", "GlobalAveragePooling1D"),
    *("GlobalMaxPooling1D", "Rescaling", "PositionalEncoding"),
}
"""Keras's layers without weights, and ours."""

OTHER_KERAS_LAYERS = {
    *("Dense", "Embedding", "ReversibleEmbedding", "LayerNormalization", "RMSNormalization"),
    *("MultiHeadAttention", "GroupQueryAttention", "Functional", "Sequential", "Model", "Lambda"),
    *("BatchNormalization", "GroupNormalization", "UnitNormalization", "Attention"),
    *("AdditiveAttention", "LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "TimeDistributed"),
    *("Conv1D", "SeparableConv1D", "Conv2D", "EinsumDense", "PReLU", "MaxPooling1D"),
    *("AveragePooling1D", "ZeroPadding1D", "Cropping1D", "UpSampling1D", "Normalization"),
    *("TextVectorization", "StringLookup", "IntegerLookup", "CategoryEncoding", "Hashing"),
    *("Discretization", "TFOpLambda", "SlicingOpLambda", "TFSMLayer", "Dot", "Wrapper", "GetItem"),
    *("Relu", "Gelu", "Silu", "Cast", "Arange", "Matmul"),
}
"""The names by which an .h5 file distinguishes Keras's layers and operations from one's own, beside
NO_WEIGHTS."""

_KERAS_CLASSES = (NO_WEIGHTS | OTHER_KERAS_LAYERS | KERAS_NAMES.keys()) - {"PositionalEncoding"}


class Refused(Exception):
    """Why a model is not accepted, in words for the user; whoever knows the file adds its name."""


@dataclass(eq=False)
class Layer:
    """A layer as the configuration describes it."""

    path: Path
    class_name: str
    """Without its package, such as "Dense"."""
    package: str
    """"keras", "minigpt_tf", or what the file names; "" if that is unknown."""
    config: dict[str, Any]
    calls: list[Any] = field(default_factory=list)
    """Keras's `inbound_nodes`: how often the layer is called, and with what."""
    layers: list["Layer"] | None = None
    """The layers of a nested model, in its order; None for others."""
    inputs: Any = None
    outputs: Any = None
    """Keras's `input_layers` and `output_layers` of a Functional model; None for a Sequential."""

    @property
    def name(self) -> str:
        """Its own name; the model's for the model itself."""
        return self.path[-1] if self.path else str(self.config.get("name", ""))

    @property
    def kind(self) -> str:
        """The class that says what the layer computes; "" for a custom layer."""
        if self.package == OURS:
            return BASES.get(self.class_name, self.class_name)
        if self.package != "keras":
            return ""
        return KERAS_NAMES.get(self.class_name, self.class_name)

    @property
    def trainable(self) -> bool:
        """False for a frozen layer."""
        return self.config.get("trainable") is not False

    def __str__(self) -> str:
        class_name = self.class_name if self.class_name.isprintable() else ascii(self.class_name)
        return f"{self.name!r:.60} ({class_name:.60})"

    def leaves(self) -> Iterator["Layer"]:
        """The layers that are not models, of all nested models, in order."""
        if self.layers is None:
            yield self
        else:
            for layer in self.layers:
                yield from layer.leaves()


def read_architecture(description: Any) -> Layer:
    """The model that a configuration describes.

    Args:
        description: The parsed JSON: a dict with class_name and config.

    Raises:
        Refused: It is not a Keras model's configuration, or models are nested too deeply.
    """
    return _layer(description, (), 0)


def _layer(item: Any, above: Path, depth: int) -> Layer:
    if depth > MOST_NESTED:
        raise Refused(f"its models are nested more than {MOST_NESTED} deep")
    class_name = item.get("class_name") if isinstance(item, dict) else None
    if not isinstance(class_name, str):
        raise Refused("its architecture is damaged: a layer has no class_name")
    config = item.get("config")
    if isinstance(config, list):  # a Sequential of Keras 2.0
        config = {"layers": config}
    if not isinstance(config, dict):
        raise Refused(f"its architecture is damaged: a {class_name:.60} has no config")
    path = above
    if depth:
        name = item.get("name", config.get("name"))
        if not isinstance(name, str) or not name:
            raise Refused(f"its architecture is damaged: a {class_name:.60} has no name")
        path = (*above, name)
    package, class_name = _package(item, class_name)
    layer = Layer(path, class_name, package, config)
    calls = item.get("inbound_nodes")
    layer.calls = calls if isinstance(calls, list) else []
    inner = config.get("layers")
    described = isinstance(inner, list) and all(isinstance(i, dict) for i in inner)
    if described and inner and "class_name" in inner[0]:
        layer.layers = [_layer(i, path, depth + 1) for i in inner]
        layer.inputs, layer.outputs = config.get("input_layers"), config.get("output_layers")
        _check_names(layer.layers)
    return layer


def _check_names(layers: list[Layer]) -> None:
    names = set()
    for layer in layers:
        if layer.name in names:
            raise Refused(f"its architecture is damaged: two layers have the name {layer}")
        names.add(layer.name)


def _package(item: dict[str, Any], class_name: str) -> tuple[str, str]:
    """(package, class without it), from the three places where Keras may note it."""
    registered, module = item.get("registered_name"), item.get("module")
    for name in (registered, class_name):
        if isinstance(name, str) and ">" in name:
            package, _, plain = name.rpartition(">")
            return package, plain
    if isinstance(module, str):
        root = module.split(".")[0]
        tensorflow = root == "tensorflow" and "keras" in module
        return ("keras" if root in KERAS_PACKAGES or tensorflow else module), class_name
    if isinstance(registered, str):  # of a class in a notebook
        return "", class_name
    return ("keras" if class_name in _KERAS_CLASSES else ""), class_name
