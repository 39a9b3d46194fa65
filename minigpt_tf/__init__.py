"""Train a small GPT on your own text, talk to it, look inside it.

The public names below are imported on first use (PEP 562), so `import minigpt_tf` is instant and
only what needs TensorFlow imports it.
"""

import importlib
from typing import Any

from .keras_registration import register_when_keras_is_imported

__version__ = "0.2.0"

_HOMES = {
    "config": (
        "DataConfig",
        "EngineConfig",
        "EvaluationConfig",
        "ExportConfig",
        "FineTuningConfig",
        "LoraConfig",
        "ModelConfig",
        "RecordsConfig",
        "SamplingConfig",
        "TrainingConfig",
    ),
    "config.presets": ("fine_tuning_preset", "model_preset"),
    "errors": ("ConfigError", "DataError", "MiniGPTError", "ModelFolderError", "TrainingError"),
    "files.documents": ("read_documents",),
    "text.tokenizers": ("Tokenizer", "load_tokenizer", "tokenizer_from_json", "train_tokenizer"),
    "text.windows": ("create_dataset", "window_batches"),
    "storage.model_folder": ("newest_folder",),
    "inference.folder": ("load_folder",),
    "inference.engine": ("Engine",),
    "inference.answer": ("Generation",),
    "inference.generate": ("Conversation", "TextGenerator"),
    "inference.prompt": ("Prompt",),
    "model": ("PositionalEncoding", "build_gpt_model", "transformer_block"),
    "training.plan": ("make_plan", "plan_from_preset"),
    "model.start": ("start_from_frequencies",),
    "events": ("Evaluation", "Listener", "Progress"),
    "training.trainer": ("train",),
    "evaluation.memorization": ("find_copied",),
    "evaluation.recall": ("recall",),
    "evaluation.repetition": ("distinct", "loop_rate"),
    "evaluation.scoring": ("loss_of_batch", "loss_over", "score"),
    "inference.adapter": ("load_adapter", "merge"),
    "retrieval.library": ("Library",),
    "classification.classifier": ("Classifier",),
    "finetuning.preparation": ("make_finetuning_plan", "plan_finetuning"),
    "finetuning.trainer": ("finetune",),
    "interop.export": ("export_model",),
    "interop.importing": ("import_model",),
    "interop.live_model": ("generate_text", "load", "save_model_folder"),
    "inspection.inside": ("Inside", "attention", "look_inside"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]


register_when_keras_is_imported()
