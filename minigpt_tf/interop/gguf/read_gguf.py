"""GGUF files, in: the format of llama.cpp."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...config import ModelConfig
from ...config.settings import from_dict
from ...errors import ConfigError, ModelFolderError
from ...inference.positions import frequencies_of_pairs, rotary_divisors
from ..families import GGUF_FAMILIES, Family, expressed, unsupported
from ..multipliers import folded_multipliers
from ..source import Source, recommended
from ..tensors import FirstRows, Tensor
from .architectures import check_widths, multipliers_of, settings_of
from .metadata import MODEL_KEY, Metadata
from .read_vocabulary import Vocabulary, read_vocabulary
from .rope_divisors import TOLERANCE, scaling_of
from .split_files import read_model_header

EMBEDDING, HEAD, DIVISORS = "token_embd.weight", "output.weight", "rope_freqs.weight"

SAMPLING = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}
"""Names under general.sampling, and of the same in SamplingConfig."""


def open_gguf(path: str | Path) -> Source:
    """The model in a GGUF file; its weights are read when they are asked for.

    Raises ModelFolderError where the file is damaged or of an unsupported kind.
    """
    file = Path(path)
    header = read_model_header(file)
    values = Metadata(file, header.metadata)
    family = _family(values)
    tensors: dict[str, Tensor] = dict(header.tensors)
    try:
        if MODEL_KEY in values:
            config, whole = _own_config(values, family)
            factors = {}
            tensors = _own_rows(tensors, config)
        else:
            config = whole = _config(values, family, tensors)
            multipliers = multipliers_of(family, values)
            factors = folded_multipliers(multipliers, config) if multipliers else {}
        config = _scaled(values, config, tensors, known=MODEL_KEY in values)
        whole = dataclasses.replace(whole, rope_scaling=config.rope_scaling)
        vocabulary = read_vocabulary(values, config)
        left_out: list[str] = []
        generation = _generation(values, left_out)
    except ConfigError as error:
        raise ModelFolderError(f"{file}: {error}") from None
    return Source(
        where=str(file),
        config=config,
        expressed=whole,
        table=family.gguf_table,
        tensors=tensors,
        factors=factors,
        tokenizer=vocabulary.tokenizer,
        start_ids=vocabulary.start_ids,
        chat_template=vocabulary.chat_template,
        generation=generation,
        origin=_origin(values, vocabulary),
        left_out=tuple(left_out),
    )


def _family(values: Metadata) -> Family:
    name = values.text("general.architecture", "")
    if name not in GGUF_FAMILIES:
        raise ModelFolderError(f"{values.file}: {unsupported(name, GGUF_FAMILIES)}")
    return GGUF_FAMILIES[name]


def _own_config(values: Metadata, family: Family) -> tuple[ModelConfig, ModelConfig]:
    """The configuration that this package has written into the file, and what the tensors hold."""
    config = from_dict(ModelConfig, values.json(MODEL_KEY), MODEL_KEY)
    problems = family.problems(config)
    if problems:
        raise ModelFolderError(
            f"{values.file}: {MODEL_KEY}: {family.name} has no {', no '.join(problems)}"
        )
    return config, expressed(config, family)


def _own_rows(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The tensors without the row of the end token that export may have added."""
    own = dict(tensors)
    for name in (EMBEDDING, HEAD):
        if name in own and own[name].shape[0] == config.vocab_size + 1:
            own[name] = FirstRows(own[name], config.vocab_size)
    return own


def _config(values: Metadata, family: Family, tensors: dict[str, Tensor]) -> ModelConfig:
    """The configuration that the metadata describe."""
    settings = settings_of(family, values, tensors)
    if EMBEDDING not in tensors:
        raise ModelFolderError(f"{values.file}: lacks the tensor {EMBEDDING}")
    config = ModelConfig(
        **settings, vocab_size=tensors[EMBEDDING].shape[0], tie_embeddings=HEAD not in tensors
    )
    check_widths(family, values, config)
    return config


def _scaled(
    values: Metadata, config: ModelConfig, tensors: dict[str, Tensor], *, known: bool
) -> ModelConfig:
    """The configuration with the stretching of rotary angles that the file has; takes its tensor
    away. `known`: the configuration says it already."""
    tensor = tensors.pop(DIVISORS, None)
    if config.positions != "rotary":
        return config
    factor = _linear_factor(values)
    if known:
        if tensor is not None:
            _check_divisors(values, config, tensor)
        return config
    if tensor is None:
        return dataclasses.replace(config, rope_scaling={"factor": factor} if factor else None)
    if factor:
        raise ModelFolderError(f"{values.file}: stretches rotary angles in two ways at once")
    frequencies = frequencies_of_pairs(config.head_dim, config.rope_theta)
    try:
        scaling = scaling_of(_read_divisors(values, config, tensor), frequencies)
    except ValueError as error:
        raise ModelFolderError(f"{values.file}: {DIVISORS} holds {error}") from None
    return dataclasses.replace(config, rope_scaling=scaling)


def _linear_factor(values: Metadata) -> float | None:
    """The factor of linear scaling, or None."""
    root = values.text("general.architecture")
    kind = values.text(f"{root}.rope.scaling.type", "none")
    factor = values.number(f"{root}.rope.scaling.factor")
    if f"{root}.rope.scaling.type" not in values:
        factor = values.number(f"{root}.rope.scale_linear")  # of older files
        kind = "linear" if factor else "none"
    if kind not in ("none", "linear"):
        raise ModelFolderError(
            f"{values.file}: unsupported scaling of rotary angles {kind!r:.40}: supported "
            "are linear and Llama 3's"
        )
    return factor if kind == "linear" and factor not in (None, 0.0, 1.0) else None


def _read_divisors(values: Metadata, config: ModelConfig, tensor: Tensor) -> np.ndarray:
    if tensor.shape != (config.head_dim // 2,):
        raise ModelFolderError(
            f"{values.file}: {DIVISORS} has shape {tensor.shape}, a head of {config.head_dim} "
            f"needs {(config.head_dim // 2,)}"
        )
    return tensor.read()


def _check_divisors(values: Metadata, config: ModelConfig, tensor: Tensor) -> None:
    frequencies = frequencies_of_pairs(config.head_dim, config.rope_theta)
    wanted = rotary_divisors(frequencies, config.rope_scaling)
    if not np.allclose(_read_divisors(values, config, tensor), wanted, rtol=TOLERANCE):
        raise ModelFolderError(f"{values.file}: {DIVISORS} does not fit to {MODEL_KEY}")


def _generation(values: Metadata, left_out: list[str]) -> dict[str, Any]:
    """The sampling settings that the file recommends, as far as they are possible."""
    stated: dict[str, tuple[str, Any]] = {}
    for theirs, ours in SAMPLING.items():
        key = f"general.sampling.{theirs}"
        value = values.values.get(key)
        if isinstance(value, float):  # the shortest decimal that is the same in float32
            value = values.number(key)
        stated[key] = ours, value
    return recommended(stated, left_out)


def _origin(values: Metadata, vocabulary: Vocabulary) -> dict[str, Any]:
    """Where the model comes from, as plain data."""
    license = values.text("general.license")
    if license == "other":
        license = values.text("general.license.name") or license
    known = {
        "name": values.text("general.name"),
        "license": license,
        "license_link": values.text("general.license.link"),
        "url": values.text("general.source.url") or values.text("general.url"),
    }
    origin = {"format": "gguf", "architecture": values.text("general.architecture")}
    origin["file"] = values.file.name
    return origin | {name: text for name, text in known.items() if text}
