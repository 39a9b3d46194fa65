"""Named starting points: presets (a model, its data, its training) and recipes (ways to train)."""

from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError
from . import ANSWER_TOKENS, DataConfig, ModelConfig, SamplingConfig, TrainingConfig
from .finetuning import FINE_TUNING, METHODS, MethodDefaults
from .settings import accepts_old_names


@accepts_old_names
@dataclass(frozen=True)
class Recipe:
    """A named way to train: arguments of TrainingConfig, and how it changes a preset's run."""

    help: str
    training: dict[str, Any]
    batch_factor: int = 1
    """The preset's batch times this."""
    steps_fraction: float = field(default=1.0, metadata={"old_name": "steps_share"})
    """The preset's steps, where it counts in steps, times this."""


RECIPES = {
    "adam": Recipe(
        "the lecture's Adam",
        {"optimizer": "adam", "learning_rate": 1e-3, "schedule": "cosine"}
        | {"weight_decay": 0.0, "beta_2": 0.999, "epsilon": 1e-7},
    ),
    "adamw": Recipe(
        "AdamW as nanoGPT has it",
        {"optimizer": "adamw", "learning_rate": 1e-3, "schedule": "cosine"}
        | {"weight_decay": 0.1, "beta_2": 0.99, "epsilon": 1e-8},
    ),
    "fast": Recipe(
        "Muon, batches twice as large, a quarter of the steps",
        {"optimizer": "muon", "learning_rate": 5e-3, "schedule": "linear"}
        | {"weight_decay": 0.1, "beta_2": 0.99},
        batch_factor=2,
        steps_fraction=1 / 4,
    ),
}


@dataclass(frozen=True)
class Preset:
    """A named starting point: arguments of the three configurations."""

    help: str
    model: dict[str, Any]
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    recipe: str = "adam"


PRESETS: dict[str, Preset] = {
    "lecture": Preset(
        help="the course's model: words, post-norm, sinusoidal positions, 13.1 M parameters",
        # The lecture passes key_dim=embed_dim, so a head is as wide as the model.
        model={"head_dim": "embed_dim", "dropout_everywhere": False},
    ),
    "gpt2": Preset(
        help="GPT-2 124M",
        model={
            "vocab_size": 50257,
            "context_length": 1024,
            "embed_dim": 768,
            "num_layers": 12,
            "num_heads": 12,
            "positions": "learned",
            "norm_placement": "before",
            "norm_epsilon": 1e-5,
            "activation": "gelu_tanh",
            "logits_bias": False,
            "tie_embeddings": True,
        },
        data={"tokenizer": "gpt2", "stride_fraction": 1.0},
        training={"batch_size": 2, "learning_rate": 4e-4},
        recipe="adamw",
    ),
    "shakespeare": Preset(
        help="characters; the size of nanoGPT's example for a CPU, 0.8 M parameters",
        model={
            "vocab_size": 65,
            "context_length": 64,
            "embed_dim": 128,
            "num_heads": 4,
            "dropout": 0.0,
            "positions": "learned",
            "norm_placement": "before",
            "norm_epsilon": 1e-5,
            "activation": "gelu",
            "use_bias": False,
            "qkv_bias": False,
            "logits_bias": False,
            "tie_embeddings": True,
        },
        data={"tokenizer": "char"},
        training={"steps": 2000, "batch_size": 12},
        recipe="adamw",
    ),
    "modern": Preset(
        help="rotary positions, RMS norm, SwiGLU, grouped heads, byte-level BPE",
        model={
            "vocab_size": 4096,
            "context_length": 256,
            "num_kv_heads": 4,
            "ff_dim": 704,
            "dropout": 0.0,
            "positions": "rotary",
            "norm": "rms",
            "norm_placement": "before",
            "norm_epsilon": 1e-5,
            "activation": "swiglu",
            "use_bias": False,
            "qkv_bias": False,
            "logits_bias": False,
            "tie_embeddings": True,
        },
        data={"tokenizer": "bpe", "stride_fraction": 0.25},
        training={"batch_size": 8},
        recipe="adamw",
    ),
}

DEFAULT_PRESET = "lecture"


def fine_tuning_preset(
    method: str, classify_layers: str | None = None, **overrides: Any
) -> TrainingConfig:
    """How a method of fine-tuning trains, with some fields replaced.

    Args:
        method: one of `config.finetuning.METHODS`. ("classify lora" and "classify all", as in
            version 0.1, still name the layers too.)
        classify_layers: with "classify", what is trained beside the head (unset: last).
        overrides: fields of TrainingConfig, such as `epochs=2`.

    Returns:
        The TrainingConfig.

    Raises:
        ConfigError: there is no such method, or a field is out of range.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.fine_tuning_preset("dpo", batch_size=4).learning_rate
        0.0001
    """
    name, _, layers = method.partition(" ")
    known: dict[str, MethodDefaults] = dict(METHODS.items())
    if name not in known:
        raise ConfigError(f"method {method!r} is unknown: choose {', '.join(known)}")
    chosen = known[name]
    arguments = {**FINE_TUNING, **chosen.training}
    arguments |= chosen.by_layers.get(classify_layers or layers, {})
    if overrides.get("optimizer") == "adam":  # which has no weight decay
        del arguments["weight_decay"]
    return TrainingConfig(**{**arguments, **overrides})


DICE = {"temperature", "top_k", "top_p", "min_p", "seed"}
"""Settings of sampling that do nothing if the most likely token is taken."""


def asking_preset(**overrides: Any) -> SamplingConfig:
    """How models are asked side by side, with some fields replaced.

    Args:
        overrides: Fields of SamplingConfig.

    Returns:
        A SamplingConfig that takes the most likely token, unless one of DICE is given.

    Raises:
        ConfigError: A value is out of range.
    """
    common = {"greedy": not DICE & overrides.keys(), "max_new_tokens": ANSWER_TOKENS}
    return SamplingConfig(**{**common, "context_full": "stop", **overrides})


def model_preset(name: str = DEFAULT_PRESET, **overrides: Any) -> ModelConfig:
    """The architecture of a preset, with some fields replaced.

    Args:
        name: One of `config.presets.PRESETS`, such as "lecture", "gpt2" or "shakespeare".
        overrides: Fields of ModelConfig.

    Returns:
        The ModelConfig.

    Raises:
        ConfigError: There is no such preset, or a value is out of range.

    Example:
        >>> import minigpt_tf as mg
        >>> mg.model_preset("gpt2").parameter_count
        124439808
        >>> mg.model_preset("shakespeare", num_layers=2).num_layers
        2
    """
    arguments = {**_preset(name).model, **overrides}
    if arguments.get("head_dim") == "embed_dim":
        arguments["head_dim"] = arguments.get("embed_dim", ModelConfig.embed_dim)
    return ModelConfig(**arguments)


def data_preset(name: str = DEFAULT_PRESET, **overrides: Any) -> DataConfig:
    """How a preset makes windows of a text, with some fields replaced.

    Args:
        name: One of `config.presets.PRESETS`.
        overrides: Fields of DataConfig. A stride replaces the preset's stride_fraction.

    Returns:
        The DataConfig.

    Raises:
        ConfigError: There is no such preset, or a value is out of range.
    """
    arguments = dict(_preset(name).data)
    if overrides.get("stride") is not None:
        arguments.pop("stride_fraction", None)
    return DataConfig(**{**arguments, **overrides})


def training_preset(
    name: str = DEFAULT_PRESET, *, recipe: str | None = None, **overrides: Any
) -> TrainingConfig:
    """How a preset trains, with some fields replaced.

    Args:
        name: One of `config.presets.PRESETS`.
        recipe: One of RECIPES, instead of the preset's own.
        overrides: Fields of TrainingConfig. Epochs replace the preset's steps.

    Returns:
        The TrainingConfig.

    Raises:
        ConfigError: There is no such preset, or a value is out of range.
    """
    preset = _preset(name)
    arguments = {**RECIPES[preset.recipe].training, **preset.training}
    if recipe is not None:
        chosen = RECIPES[recipe]
        batch_size = arguments.get("batch_size", TrainingConfig.batch_size)
        arguments |= chosen.training | {"batch_size": chosen.batch_factor * batch_size}
        if arguments.get("steps"):
            arguments["steps"] = round(chosen.steps_fraction * arguments["steps"])
    arguments |= overrides
    if "epochs" in overrides and "steps" not in overrides:
        arguments.pop("steps", None)
    return TrainingConfig(**arguments)


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r} is unknown: choose {', '.join(PRESETS)}")
    return PRESETS[name]
