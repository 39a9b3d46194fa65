"""config.json of each family: its fields and our settings, one table for reading and writing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    nullable: bool = False
    """Whether null says something else than an absent field: None."""

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
        if value is None and not (self.nullable and self.name in values):
            value = self.default
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
    kinds: Callable[[Mapping[str, Any], int], str] | None = None
    """Letters of a layer pattern for each layer, where no layer_types say it."""
    default_window: int | None = None
    """The window where a file does not say it."""
    window_switch: str = ""
    """The field that switches the window on; none where it is always on."""
    default_thetas: tuple[float, float | None] = (10000.0, None)
    """Bases of the rotary angles where a file does not say them: of all layers, and of those with
    a window if they have their own."""
    written: Callable[[ModelConfig], dict[str, Any]] | None = None
    """Further fields of a model that is exported."""
    own: Mapping[str, Any] = field(default_factory=dict)
    """Further fields that are read, with what transformers takes where they are absent."""
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
_QKV_BIAS = Field("attention_bias", "qkv_bias", False)
_SILU: dict[str, tuple[Any, ...]] = {"hidden_act": ("silu", "swish")}


def _rotary(
    head_dim: int | None = None,
    epsilon: float = 1e-6,
    tied: bool = False,
    feed_forward: str = "intermediate_size",
) -> tuple[Field, ...]:
    """The fields of models with rotary positions, with what is taken where a file is silent."""
    return (
        *_SIZES,
        Field("num_key_value_heads", "num_kv_heads", None),
        Field("head_dim", "head_dim", head_dim),
        Field("attention_dropout", "dropout", 0.0),
        Field(feed_forward, "ff_dim"),
        Field("rms_norm_eps", "norm_epsilon", epsilon),
        Field("tie_word_embeddings", "tie_embeddings", tied),
    )


GATES_OF_GEMMA = {"gelu_pytorch_tanh": "geglu_tanh", "gelu_new": "geglu_tanh", "gelu": "geglu"}
"""Of transformers -> ours."""
_GEMMA = _rotary(head_dim=256, tied=True)
_GEMMA_FIXED: dict[str, tuple[Any, ...]] = {
    "attention_bias": (False,),
    "use_bidirectional_attention": (False,),
}
_TYPES = {"G": "full_attention", "L": "sliding_attention", "N": "full_attention"}
"""Letters of a layer pattern -> transformers' layer_types."""


def _last_layers(values: Mapping[str, Any], layers: int) -> str:
    """Qwen's windows: in the layers from max_window_layers on."""
    first = values.get("max_window_layers", 28)
    first = first if type(first) is int and 0 <= first <= layers else layers
    return "G" * first + "L" * (layers - first)


def _all_but_every_sixth(values: Mapping[str, Any], layers: int) -> str:
    """Gemma 3's windows."""
    period = values.get("sliding_window_pattern", 6)
    period = period if type(period) is int and 1 <= period <= layers else 6
    return (("L" * (period - 1) + "G") * layers)[:layers]


def _layer_types(config: ModelConfig) -> dict[str, Any]:
    """Qwen3's fields for windows."""
    return {
        "layer_types": [_TYPES[kind] for kind in config.layer_kinds],
        "use_sliding_window": config.window is not None,
        "sliding_window": config.window,
        "max_window_layers": config.num_layers,
    }


def _smollm3(config: ModelConfig) -> dict[str, Any]:
    """SmolLM3's fields for layers without rotation."""
    fields = _layer_types(config)
    del fields["max_window_layers"]
    return {**fields, "no_rope_layers": [int(kind != "N") for kind in config.layer_kinds]}


def _gemma2(config: ModelConfig) -> dict[str, Any]:
    """Gemma's fields for windows, and for scores that are divided as ours are."""
    fields = _layer_types(config)
    window = config.window or config.context_length
    return {
        "layer_types": fields["layer_types"],
        "sliding_window": window,
        "query_pre_attn_scalar": config.head_dim,
    }


CONFIG_FIELDS = {
    "gpt2": _GPT2,
    "llama": ConfigFields(
        "LlamaForCausalLM", (*_rotary(), _QKV_BIAS), {**_SILU, "mlp_bias": (False,)}
    ),
    "qwen2": ConfigFields(
        "Qwen2ForCausalLM",
        _rotary(),
        _SILU,
        kinds=_last_layers,
        default_window=4096,
        window_switch="use_sliding_window",
    ),
    "qwen3": ConfigFields(
        "Qwen3ForCausalLM",
        _rotary(head_dim=128),
        {**_SILU, "attention_bias": (False,)},
        kinds=_last_layers,
        default_window=4096,
        window_switch="use_sliding_window",
        written=_layer_types,
    ),
    "smollm3": ConfigFields(
        "SmolLM3ForCausalLM",
        _rotary(tied=True),
        {**_SILU, "attention_bias": (False,), "mlp_bias": (False,)},
        kinds=lambda values, layers: "G" * layers,
        window_switch="use_sliding_window",
        written=_smollm3,
    ),
    "olmo2": ConfigFields(
        "Olmo2ForCausalLM",
        _rotary(epsilon=1e-5),
        {**_SILU, "attention_bias": (False,)},
    ),
    "gemma": ConfigFields(
        "GemmaForCausalLM",
        (*_GEMMA, Field("hidden_act", "activation", "gelu_pytorch_tanh", GATES_OF_GEMMA)),
        _GEMMA_FIXED,
    ),
    "gemma2": ConfigFields(
        "Gemma2ForCausalLM",
        (
            *_GEMMA,
            Field("hidden_activation", "activation", "gelu_pytorch_tanh", GATES_OF_GEMMA),
            Field("attn_logit_softcapping", "attention_softcap", 50.0, nullable=True),
            Field("final_logit_softcapping", "logits_softcap", 30.0, nullable=True),
        ),
        _GEMMA_FIXED,
        kinds=lambda values, layers: ("LG" * layers)[:layers],
        default_window=4096,
        own={"query_pre_attn_scalar": 256},
        written=_gemma2,
    ),
    "gemma3_text": ConfigFields(
        "Gemma3ForCausalLM",
        (
            *_GEMMA,
            Field("hidden_activation", "activation", "gelu_pytorch_tanh", GATES_OF_GEMMA),
            Field("attn_logit_softcapping", "attention_softcap", None),
            Field("final_logit_softcapping", "logits_softcap", None),
        ),
        _GEMMA_FIXED,
        kinds=_all_but_every_sixth,
        default_window=4096,
        default_thetas=(1000000.0, 10000.0),
        own={"query_pre_attn_scalar": 256},
        written=_gemma2,
    ),
    "mistral": ConfigFields(
        "MistralForCausalLM",
        _rotary(),
        _SILU,
        kinds=lambda values, layers: "L" * layers,
        default_window=4096,
        written=lambda config: {"sliding_window": config.window},
    ),
    "granite": ConfigFields(
        "GraniteForCausalLM",
        (*_rotary(), _QKV_BIAS),
        {**_SILU, "mlp_bias": (False,)},
        folds_multipliers=True,
    ),
    "granitemoehybrid": ConfigFields(
        "GraniteMoeHybridForCausalLM",
        (*_rotary(feed_forward="shared_intermediate_size"), _QKV_BIAS),
        _SILU,
        must_be={"position_embedding_type": ("rope",), "num_local_experts": (0,)},
        folds_multipliers=True,
    ),
    "phi3": ConfigFields(
        "Phi3ForCausalLM",
        _rotary(epsilon=1e-5),
        _SILU,
        kinds=lambda values, layers: "L" * layers,
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
    settings = {name: allowed[0] for name, allowed in family.needs.items() if allowed}
    settings |= {"dropout": 0.0, "logits_bias": False}
    read = {each.ours: each.read(values, file) for each in fields}
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
    for each in known.fields:
        fields |= each.written(config)
    return fields | (known.written(config) if known.written else {})
