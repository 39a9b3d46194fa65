"""config.json of each family: its fields and our settings, one table for reading and writing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...config import ModelConfig
from ...errors import ModelFolderError
from ...storage.json_files import integer
from ..families import Family

REQUIRED = object()
"""Marks an integer that each file must have."""


@dataclass(frozen=True)
class Field:
    """A field of config.json, and the setting of ModelConfig that it is."""

    name: str
    ours: str
    default: Any = REQUIRED
    """What transformers takes where it is absent or null; None: ModelConfig fills it in."""
    values: Mapping[str, str] | None = None
    """Their values -> ours; of several for one of ours, the first is written."""
    others: tuple[str, ...] = ()
    """Other names in files."""
    copies: tuple[str, ...] = ()
    """Fields that are written with the same value, and not read."""

    def read(self, values: Mapping[str, Any], file: Path) -> Any:
        """Reads the field.

        Args:
            values: The content of config.json.
            file: Names it in errors.

        Returns:
            The setting; None if ModelConfig fills it in.

        Raises:
            ModelFolderError: It is missing, unknown or of another type.
        """
        if self.default is REQUIRED:
            return integer(dict(values), self.name, file, *self.others)
        value = values.get(self.name)
        value = self.default if value is None else value
        if isinstance(self.default, bool) and not isinstance(value, bool):
            raise ModelFolderError(f"{file}: {self.name}={value!r:.40}: expected true or false")
        if self.values is None:
            return value
        if not isinstance(value, str) or value not in self.values:
            known = ", ".join(self.values)
            raise ModelFolderError(f"{file}: {self.name}={value!r:.40} is unknown; known: {known}")
        return self.values[value]

    def written(self, config: ModelConfig) -> dict[str, Any]:
        """The inverse of `read`.

        Args:
            config: The model's configuration.

        Returns:
            The field and its copies by name.
        """
        value = getattr(config, self.ours)
        if self.values is not None:
            value = next(theirs for theirs, ours in self.values.items() if ours == value)
        value = float(value) if isinstance(value, float) else value
        return dict.fromkeys((self.name, *self.copies), value)


@dataclass(frozen=True)
class ConfigFields:
    """What config.json says of a family's models."""

    architecture: str
    """The class in transformers."""
    fields: tuple[Field, ...]
    fixed: Mapping[str, tuple[Any, ...]]
    """Fields -> the values with which the computation is ours, beside null. The first one is
    written."""
    must_be: Mapping[str, tuple[Any, ...]] | None = None
    """The same as `fixed` for fields whose absence is something else."""
    window: str | None = None
    """The field that switches the window of sliding attention on; "" where it is always on."""
    default_window: int | None = None
    """The window where a file does not say it."""
    folds_multipliers: bool = False
    """Whether there are Granite's four multipliers, which become part of the weights."""


GPT2_ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
}
"""Of transformers -> ours."""

_GPT2 = ConfigFields(
    "GPT2LMHeadModel",
    (
        Field("vocab_size", "vocab_size"),
        Field("n_positions", "context_length", others=("max_position_embeddings",)),
        Field("n_embd", "embed_dim", others=("hidden_size",)),
        Field("n_layer", "num_layers", others=("num_hidden_layers",)),
        Field("n_head", "num_heads", others=("num_attention_heads",)),
        Field("n_inner", "ff_dim", None),
        Field("activation_function", "activation", "gelu_new", GPT2_ACTIVATIONS),
        Field("layer_norm_epsilon", "norm_epsilon", 1e-5),
        Field("resid_pdrop", "dropout", 0.1, copies=("embd_pdrop", "attn_pdrop")),
        Field("tie_word_embeddings", "tie_embeddings", True),
    ),
    {"scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,)},
)

_SIZES = (
    Field("vocab_size", "vocab_size"),
    Field("max_position_embeddings", "context_length"),
    Field("hidden_size", "embed_dim"),
    Field("num_hidden_layers", "num_layers"),
    Field("num_attention_heads", "num_heads"),
)
_ROTARY = (
    *_SIZES,
    Field("num_key_value_heads", "num_kv_heads", None),
    Field("head_dim", "head_dim", None),
    Field("attention_dropout", "dropout", 0.0),
)
_FEED_FORWARD = Field("intermediate_size", "ff_dim")
_TIED = Field("tie_word_embeddings", "tie_embeddings", False)
_QKV_BIAS = Field("attention_bias", "qkv_bias", False)
_SILU: dict[str, tuple[Any, ...]] = {"hidden_act": ("silu", "swish")}


def _rms_epsilon(default: float) -> Field:
    return Field("rms_norm_eps", "norm_epsilon", default)


_BASE = (*_ROTARY, _FEED_FORWARD, _rms_epsilon(1e-6), _TIED)

CONFIG_FIELDS = {
    "gpt2": _GPT2,
    "llama": ConfigFields("LlamaForCausalLM", (*_BASE, _QKV_BIAS), {**_SILU, "mlp_bias": (False,)}),
    "qwen2": ConfigFields("Qwen2ForCausalLM", _BASE, _SILU, window="use_sliding_window"),
    "mistral": ConfigFields("MistralForCausalLM", _BASE, _SILU, window="", default_window=4096),
    "granite": ConfigFields(
        "GraniteForCausalLM",
        (*_BASE, _QKV_BIAS),
        {**_SILU, "mlp_bias": (False,)},
        folds_multipliers=True,
    ),
    "granitemoehybrid": ConfigFields(
        "GraniteMoeHybridForCausalLM",
        (
            *_ROTARY,
            Field("shared_intermediate_size", "ff_dim"),
            _rms_epsilon(1e-6),
            _TIED,
            _QKV_BIAS,
        ),
        _SILU,
        must_be={"position_embedding_type": ("rope",), "num_local_experts": (0,)},
        folds_multipliers=True,
    ),
    "phi3": ConfigFields(
        "Phi3ForCausalLM", (*_ROTARY, _FEED_FORWARD, _rms_epsilon(1e-5), _TIED), _SILU, window=""
    ),
    "opt": ConfigFields(
        "OPTForCausalLM",
        (
            *_SIZES,
            Field("ffn_dim", "ff_dim"),
            Field("dropout", "dropout", 0.1),
            Field("activation_function", "activation", "relu", {"relu": "relu", "gelu": "gelu"}),
            Field("tie_word_embeddings", "tie_embeddings", True),
        ),
        {
            "do_layer_norm_before": (True,),
            "_remove_final_layer_norm": (False,),
            "enable_bias": (True,),
            "layer_norm_elementwise_affine": (True,),
        },
    ),
}
"""By the names of `families.FAMILIES`."""


def settings_of(family: Family, values: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Reads the fields of a family.

    Args:
        family: The family.
        values: The content of config.json.
        file: Names it in errors.

    Returns:
        Settings of ModelConfig, all but those of rotary angles.

    Raises:
        ModelFolderError: A field is missing, unknown or of another type.
    """
    fields = CONFIG_FIELDS[family.name].fields
    settings = {name: allowed[0] for name, allowed in family.needs.items()}
    settings |= {"dropout": 0.0, "logits_bias": False}
    read = {field.ours: field.read(values, file) for field in fields}
    return settings | {name: value for name, value in read.items() if value is not None}


def fields_of(family: Family, config: ModelConfig) -> dict[str, Any]:
    """The inverse of `settings_of`: fields of config.json.

    Args:
        family: One that can express the model.
        config: The model's configuration.

    Returns:
        Their values by name.
    """
    known = CONFIG_FIELDS[family.name]
    fields = {"architectures": [known.architecture], "model_type": family.name}
    fields |= {name: allowed[0] for name, allowed in known.fixed.items()}
    for field in known.fields:
        fields |= field.written(config)
    return fields
