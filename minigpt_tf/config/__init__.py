"""Every setting of the package, with its default and its help text. No other module has defaults.

A setting is a dataclass field (`settings.setting`), and an option of the command line;
`__post_init__` refuses what cannot work.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .architecture import ModelConfig
from .constants import (
    ANSWER_TOKENS,
    ATTENTION_PROJECTIONS,
    CACHE_DAYS,
    CACHE_NAME,
    CHAT_TOKENS,
    CHECKPOINT_NAME,
    CONFIG_NAME,
    END_OF_TEXT,
    EXPORT_DTYPES,
    EXPORTS_DIRECTORY,
    FORMAT_VERSION,
    KERAS_SUFFIXES,
    LLAMA3_SCALING,
    LORA_TARGETS,
    MODEL_NAME,
    MODELS_DIRECTORY,
    MOST_DOWNLOAD_BYTES,
    MOST_EVALUATION_TOKENS,
    MOST_GUESSES,
    MOST_LAYERS,
    MOST_THREADS,
    OOV_TOKEN,
    RUN_NAME,
    USEFUL_THREADS,
    WINDOW_SIZE,
    WORD_TOKENIZER_FILTERS,
)
from .running import EngineConfig, EvaluationConfig, ExportConfig, SamplingConfig

if TYPE_CHECKING:
    from .finetuning import FineTuningConfig, LoraConfig
    from .retrieval import RetrievalConfig
    from .serving import ServingConfig
    from .training import DataConfig, RecordsConfig, TrainingConfig, WorkersConfig, check_encoding

__all__ = [
    "ANSWER_TOKENS",
    "ATTENTION_PROJECTIONS",
    "CACHE_DAYS",
    "CACHE_NAME",
    "CHAT_TOKENS",
    "CHECKPOINT_NAME",
    "CONFIG_NAME",
    "END_OF_TEXT",
    "EXPORTS_DIRECTORY",
    "EXPORT_DTYPES",
    "FORMAT_VERSION",
    "KERAS_SUFFIXES",
    "LLAMA3_SCALING",
    "LORA_TARGETS",
    "MODELS_DIRECTORY",
    "MODEL_NAME",
    "MOST_DOWNLOAD_BYTES",
    "MOST_EVALUATION_TOKENS",
    "MOST_GUESSES",
    "MOST_LAYERS",
    "MOST_THREADS",
    "OOV_TOKEN",
    "RUN_NAME",
    "USEFUL_THREADS",
    "WINDOW_SIZE",
    "WORD_TOKENIZER_FILTERS",
    "DataConfig",
    "EngineConfig",
    "EvaluationConfig",
    "ExportConfig",
    "FineTuningConfig",
    "LoraConfig",
    "ModelConfig",
    "RecordsConfig",
    "RetrievalConfig",
    "SamplingConfig",
    "ServingConfig",
    "TrainingConfig",
    "WorkersConfig",
    "check_encoding",
]

_HOME_OF = {
    **dict.fromkeys(("FineTuningConfig", "LoraConfig"), "finetuning"),
    "RetrievalConfig": "retrieval",
    "ServingConfig": "serving",
    **dict.fromkeys(("DataConfig", "RecordsConfig", "TrainingConfig"), "training"),
    **dict.fromkeys(("WorkersConfig", "check_encoding"), "training"),
}
"""Names that few verbs need, imported on first use: a short answer does not wait for them."""


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)
