"""A model's weights as named NumPy arrays, from an .h5 file or from a live Keras model.

`weight_shapes` is the one table of names and shapes: everything that reads or writes weights
checks against it. Names are layer paths, such as "block_0/attention/query/kernel".
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..config import ModelConfig
from ..errors import ModelFolderError
from ..storage.hdf5 import open_datasets

Weights = dict[str, np.ndarray]

_BLOCK_PREFIX = re.compile(r"block_\d+_")


def weight_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The one table of names and shapes.

    Args:
        config: The architecture.

    Returns:
        Name -> shape of every weight, in Keras's order.

    Example:
        >>> import minigpt_tf as mg
        >>> weight_shapes(mg.model_preset("lecture"))["block_0/attention/query/kernel"]
        (256, 8, 256)
    """
    D, F, V = config.embed_dim, config.ff_dim, config.vocab_size
    shapes: dict[str, tuple[int, ...]] = {"token_embedding/embeddings": (V, D)}
    if config.positions == "learned":
        shapes["position_encoding/embeddings"] = (config.context_length, D)
    for layer in range(config.num_layers):
        block = f"block_{layer}"
        before, behind = block_norms(config, "attention")
        for norm in before:
            shapes |= _norm_shapes(f"{block}/{norm}", config)
        shapes |= _attention_shapes(f"{block}/attention", config)
        for norm in behind:
            shapes |= _norm_shapes(f"{block}/{norm}", config)
        before, behind = block_norms(config, "feed_forward")
        for norm in before:
            shapes |= _norm_shapes(f"{block}/{norm}", config)
        if config.gated:
            shapes |= _dense_shapes(f"{block}/feed_forward_gate", D, F, config.use_bias)
        shapes |= _dense_shapes(f"{block}/feed_forward_up", D, F, config.use_bias)
        shapes |= _dense_shapes(f"{block}/feed_forward_down", F, D, config.use_bias)
        for norm in behind:
            shapes |= _norm_shapes(f"{block}/{norm}", config)
    if config.has_final_norm:
        shapes |= _norm_shapes("final_norm", config)
    if not config.tie_embeddings:
        shapes |= _dense_shapes("logits", D, V, config.logits_bias)
    return shapes


def block_norms(config: ModelConfig, sublayer: str) -> tuple[list[str], list[str]]:
    """The norms of a sublayer of a block.

    Args:
        config: The architecture.
        sublayer: "attention" or "feed_forward".

    Returns:
        Their names in the order of their use: of those before the sublayer, of those behind it.

    Example:
        >>> import minigpt_tf as mg
        >>> block_norms(mg.model_preset("modern", norm_placement="both"), "attention")
        (['attention_norm'], ['attention_output_norm'])
    """
    return {
        "before": ([f"{sublayer}_norm"], []),
        "after": ([], [f"{sublayer}_norm"]),
        "both": ([f"{sublayer}_norm"], [f"{sublayer}_output_norm"]),
        "output": ([], [f"{sublayer}_output_norm"]),
    }[config.norm_placement]


def norms_in_order(config: ModelConfig) -> list[str]:
    """The norms of a model, but for those of queries and keys, in the order of their use.

    Args:
        config: The architecture.

    Returns:
        Their paths.
    """
    norms = []
    for layer in range(config.num_layers):
        for sublayer in ("attention", "feed_forward"):
            before, behind = block_norms(config, sublayer)
            norms += [f"block_{layer}/{name}" for name in (*before, *behind)]
    return [*norms, "final_norm"] if config.has_final_norm else norms


def _attention_shapes(path: str, config: ModelConfig) -> dict[str, tuple[int, ...]]:
    D, head_dim = config.embed_dim, config.head_dim
    heads = {"query": config.num_heads, "key": config.num_kv_heads, "value": config.num_kv_heads}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, count in heads.items():
        shapes[f"{path}/{name}/kernel"] = (D, count, head_dim)
        if config.qkv_bias:
            shapes[f"{path}/{name}/bias"] = (count, head_dim)
    shapes[f"{path}/attention_output/kernel"] = (config.num_heads, head_dim, D)
    if config.use_bias:
        shapes[f"{path}/attention_output/bias"] = (D,)
    for name in ("query", "key") if config.qk_norm != "none" else ():
        width = head_dim if config.qk_norm == "head" else heads[name] * head_dim
        shapes[f"{path}/{name}_norm/scale"] = (width,)
    return shapes


def _dense_shapes(path: str, inputs: int, outputs: int, bias: bool) -> dict[str, tuple[int, ...]]:
    kernel: dict[str, tuple[int, ...]] = {f"{path}/kernel": (inputs, outputs)}
    return kernel | ({f"{path}/bias": (outputs,)} if bias else {})


def _norm_shapes(path: str, config: ModelConfig) -> dict[str, tuple[int, ...]]:
    D = config.embed_dim
    if config.norm == "rms":
        return {f"{path}/scale": (D,)}
    shapes: dict[str, tuple[int, ...]] = {f"{path}/gamma": (D,)}
    return shapes | ({f"{path}/beta": (D,)} if config.use_bias else {})


def check_shapes(found: dict[str, tuple[int, ...]], config: ModelConfig, where: str) -> None:
    """Checks the names and shapes of weights.

    Args:
        found: Name -> shape.
        config: The architecture that they should have.
        where: Names the weights in errors.

    Raises:
        ModelFolderError: A weight is missing, extra or of another shape; it is named.
    """
    shapes = weight_shapes(config)
    missing = [name for name in shapes if name not in found]
    extra = [name for name in found if name not in shapes]
    for problem, names in (("lacks", missing), ("has, beyond its configuration,", extra)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ModelFolderError(f"{where}: {problem} the weight {names[0]}{more}")
    for name, shape in shapes.items():
        if found[name] != shape:
            raise ModelFolderError(
                f"{where}: {name} has shape {found[name]}, the configuration needs {shape}"
            )


def check_weights(weights: Weights, config: ModelConfig, where: str) -> None:
    """Checks the names, shapes and values of weights.

    Args:
        weights: By name.
        config: The architecture that they should have.
        where: Names the weights in errors.

    Raises:
        ModelFolderError: A weight is missing, extra, of another shape or not finite; it is named.
    """
    check_shapes({name: weight.shape for name, weight in weights.items()}, config, where)
    for name, weight in weights.items():
        check_finite(weight, name, where)


def check_finite(values: np.ndarray, name: str, where: str) -> None:
    """Checks that all values of a weight are finite.

    Args:
        values: The weight.
        name: Its name.
        where: Names its file in the error.

    Raises:
        ModelFolderError: A value is infinite or NaN.
    """
    if values.size and not np.isfinite([values.min(), values.max()]).all():
        raise ModelFolderError(f"{where}: {name} holds values that are not finite numbers")


@contextmanager
def open_weights(path: str | Path, config: ModelConfig) -> Iterator[dict[str, Any]]:
    """A context in which the weights of a Keras .h5 file can be read, one at a time.

    Names and shapes are checked before a value is read, so a file that lies about its size
    allocates nothing.

    Args:
        path: The file.
        config: The architecture that it should have.

    Yields:
        Weight name -> dataset, which np.asarray reads.

    Raises:
        ModelFolderError: The file is missing, damaged or of another architecture, or a dataset
            cannot be read later.
    """
    with open_datasets(path, "model_weights") as datasets:
        if datasets is None:
            raise ModelFolderError(
                f"{path}: is damaged or not a Keras model file (no model_weights)"
            )
        places = ((place.partition("/"), dataset) for place, dataset in datasets.items())
        found = {full_name(layer, name): dataset for (layer, _, name), dataset in places}
        check_shapes({name: d.shape for name, d in found.items()}, config, str(path))
        for name, dataset in found.items():
            if not np.issubdtype(dataset.dtype, np.floating):
                raise ModelFolderError(
                    f"{path}: {name} holds {dataset.dtype}, not floating-point numbers"
                )
        yield found


def read_weights(path: str | Path, config: ModelConfig) -> Weights:
    """Reads all weights of a Keras .h5 file.

    Args:
        path: The file.
        config: The architecture that it should have.

    Returns:
        float32 arrays by name.

    Raises:
        ModelFolderError: The file is missing, damaged or of another architecture.
    """
    with open_weights(path, config) as found:
        return {name: np.asarray(d, dtype=np.float32) for name, d in found.items()}


def named_variables(model: Any) -> dict[str, Any]:
    """The variables of a live model by the names of `weight_shapes`.

    Args:
        model: Of `build_gpt_model` or `build_training_model`.

    Returns:
        Name -> Keras variable.
    """
    return {
        full_name(layer.name, weight.path): weight
        for layer in model.layers
        for weight in layer.weights
        if "seed_generator" not in weight.path
    }


def weights_of(model: Any) -> Weights:
    """A copy of the weights of a live model.

    Args:
        model: Of `build_gpt_model` or `build_training_model`.

    Returns:
        float32 arrays by name.
    """
    return {name: np.array(v, dtype=np.float32) for name, v in named_variables(model).items()}


def assign_weights(model: Any, weights: Mapping[str, Any]) -> None:
    """Assigns weights to a live model.

    Args:
        model: Of `build_gpt_model` or `build_training_model`.
        weights: Arrays or datasets by name; each weight of the model is among them.
    """
    for name, variable in named_variables(model).items():
        variable.assign(np.asarray(weights[name]))


def full_name(layer: str, path: str) -> str:
    """The name in `weight_shapes` of a weight of a Keras model or file.

    The path of a weight in Keras begins with its layer's name, except in a nested model. A layer
    inside a block begins with the block's name, since names in Keras's files must be unique; in
    files of earlier versions it does not.

    Args:
        layer: Name of the model's layer, such as "block_0".
        path: What Keras calls the weight there.

    Returns:
        A name of `weight_shapes`.

    Example:
        >>> full_name("block_0", "block_0_attention/query/kernel")
        'block_0/attention/query/kernel'
        >>> full_name("block_0", "attention/query/kernel")
        'block_0/attention/query/kernel'
        >>> full_name("logits", "logits/kernel")
        'logits/kernel'
    """
    return f"{layer}/{path.removeprefix(f'{layer}/').removeprefix(f'{layer}_')}"


def role_in_block(name: str) -> str:
    """ "block_0_feed_forward_up" -> "feed_forward_up"."""
    return _BLOCK_PREFIX.sub("", name)
