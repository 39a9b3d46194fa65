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
from ..storage.hdf5 import child, children, datasets, open_hdf5, while_looking

Weights = dict[str, np.ndarray]

_BLOCK_PREFIX = re.compile(r"block_\d+_")


def weight_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every weight of the model that `config` describes, in Keras's order."""
    D, F, V = config.embed_dim, config.ff_dim, config.vocab_size
    shapes: dict[str, tuple[int, ...]] = {"token_embedding/embeddings": (V, D)}
    if config.positions == "learned":
        shapes["position_encoding/embeddings"] = (config.context_length, D)
    for layer in range(config.num_layers):
        block = f"block_{layer}"
        if config.norm_first:
            shapes |= _norm_shapes(f"{block}/attention_norm", config)
        shapes |= _attention_shapes(f"{block}/attention", config)
        if not config.norm_first:
            shapes |= _norm_shapes(f"{block}/attention_norm", config)
        if config.norm_first:
            shapes |= _norm_shapes(f"{block}/feed_forward_norm", config)
        if config.activation == "swiglu":
            shapes |= _dense_shapes(f"{block}/feed_forward_gate", D, F, config.use_bias)
        shapes |= _dense_shapes(f"{block}/feed_forward_up", D, F, config.use_bias)
        shapes |= _dense_shapes(f"{block}/feed_forward_down", F, D, config.use_bias)
        if not config.norm_first:
            shapes |= _norm_shapes(f"{block}/feed_forward_norm", config)
    if config.norm_first:
        shapes |= _norm_shapes("final_norm", config)
    if not config.tie_embeddings:
        shapes |= _dense_shapes("logits", D, V, config.logits_bias)
    return shapes


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
    """Raises ModelFolderError that names a weight which is missing, extra or of another shape."""
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
    """Raises ModelFolderError that names a weight which is missing, extra, of another shape or not
    finite."""
    check_shapes({name: weight.shape for name, weight in weights.items()}, config, where)
    for name, weight in weights.items():
        check_finite(weight, name, where)


def check_finite(values: np.ndarray, name: str, where: str) -> None:
    """Raises ModelFolderError that names a weight with values that are not finite."""
    if values.size and not np.isfinite([values.min(), values.max()]).all():
        raise ModelFolderError(f"{where}: {name} holds values that are not finite numbers")


@contextmanager
def open_weights(path: str | Path, config: ModelConfig) -> Iterator[dict[str, Any]]:
    """The datasets in a Keras .h5 model file by weight name, checked against the configuration.

    Names and shapes are checked before a value is read, so that a file that lies about its size
    allocates nothing. Raises ModelFolderError, also where a dataset cannot be read later on.
    """
    with open_hdf5(path) as file:
        with while_looking(path):
            found = dict(_named_datasets(file, path))
            check_shapes({name: d.shape for name, d in found.items()}, config, str(path))
            for name, dataset in found.items():
                if not np.issubdtype(dataset.dtype, np.floating):
                    raise ModelFolderError(
                        f"{path}: {name} holds {dataset.dtype}, not floating-point numbers"
                    )
        yield found


def read_weights(path: str | Path, config: ModelConfig) -> Weights:
    """The float32 weights in a Keras .h5 model file. Raises ModelFolderError."""
    with open_weights(path, config) as found:
        return {name: np.asarray(d, dtype=np.float32) for name, d in found.items()}


def _named_datasets(file: Any, path: str | Path) -> Iterator[tuple[str, Any]]:
    """(weight name, dataset) for each dataset of the file's layers."""
    weights = child(file, "model_weights")
    if weights is None:
        raise ModelFolderError(f"{path}: is damaged or not a Keras model file (no model_weights)")
    for layer, group in children(weights):
        for name, dataset in datasets(group):
            yield full_name(layer, name), dataset


def named_variables(model: Any) -> dict[str, Any]:
    """Name -> Keras variable of every weight of a live model that `build_gpt_model` made."""
    return {
        full_name(layer.name, weight.path): weight
        for layer in model.layers
        for weight in layer.weights
        if "seed_generator" not in weight.path
    }


def weights_of(model: Any) -> Weights:
    """A float32 copy of the weights of a live model that `build_gpt_model` made."""
    return {name: np.array(v, dtype=np.float32) for name, v in named_variables(model).items()}


def assign_weights(model: Any, weights: Mapping[str, Any]) -> None:
    """Puts the weights, arrays or datasets, into a live model that `build_gpt_model` made."""
    for name, variable in named_variables(model).items():
        variable.assign(np.asarray(weights[name]))


def full_name(layer: str, path: str) -> str:
    """The name in `weight_shapes` of a weight that Keras calls `path` in the model's layer `layer`.

    Keras leaves a nested model's name out of its weights' paths, and no other layer's. What lies in
    a block has the block's name before its own, since Keras's files need names that are unique;
    files written before that have it not.

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
