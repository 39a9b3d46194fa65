"""checkpoint/run.json: what a run is, and whether a plan is still that run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import (
    CHECKPOINT_NAME,
    FORMAT_VERSION,
    RUN_NAME,
    DataConfig,
    ModelConfig,
    TrainingConfig,
)
from ..config.presets import PRESETS
from ..config.settings import from_dict, to_dict
from ..errors import ConfigError, ModelFolderError, TrainingError
from ..inference.folder import write_tokenizer
from ..storage.json_files import read_object, write_json
from ..storage.replacing import sha256_of, staging
from ..text.tokenizers import TOKENIZER_NAMES, BaseTokenizer, load_tokenizer
from .plan import Plan

MAY_CHANGE = {
    "epochs",
    "steps",
    "eval_every",
    "eval_fraction",
    "sample_prompt",
    "sample_tokens",
    "keep",
    "checkpoint_every",
    "checkpoint_minutes",
}
"""Training settings that a resumed run may set anew."""


def start_checkpoint(out: Path, plan: Plan, dtype: str) -> None:
    """Creates checkpoint/ with run.json and the tokenizer.

    Args:
        out: The model folder.
        plan: What the run is.
        dtype: Its Keras dtype policy.

    Raises:
        ModelFolderError: It cannot be written.
    """
    with staging(out) as scratch:
        folder = scratch / CHECKPOINT_NAME
        folder.mkdir()
        write_tokenizer(folder, plan.corpus.tokenizer)
        write_json(folder / RUN_NAME, _describe_run(folder, plan, dtype))


def continue_checkpoint(out: Path, plan: Plan, dtype: str) -> None:
    """Updates run.json with the settings of MAY_CHANGE that a resumed run has set anew.

    Args:
        out: The model folder.
        plan: What the run is now.
        dtype: Its Keras dtype policy.

    Raises:
        ModelFolderError: It cannot be written.
    """
    folder = out / CHECKPOINT_NAME
    with staging(folder) as scratch:
        write_json(scratch / RUN_NAME, _describe_run(folder, plan, dtype))


def _describe_run(folder: Path, plan: Plan, dtype: str) -> dict[str, Any]:
    """The content of run.json, beside the tokenizer's file in `folder`."""
    corpus = plan.corpus
    return {
        "format_version": FORMAT_VERSION,
        "preset": plan.preset,
        "sources": plan.source_names,
        "characters": corpus.characters,
        "tokens": len(corpus.train_ids) + len(corpus.val_ids),
        "fingerprint": corpus.fingerprint,
        "tokenizer_sha256": sha256_of(folder / corpus.tokenizer.file_name),
        "model": to_dict(plan.model),
        "data": to_dict(plan.data),
        "training": to_dict(plan.training),
        "dtype": dtype,
    }


@dataclass(frozen=True)
class SavedRun:
    """What run.json records of a run."""

    preset: str
    sources: list[str]
    characters: int
    tokens: int
    fingerprint: str
    model: ModelConfig
    data: DataConfig
    training: TrainingConfig
    dtype: str


def read_run(out: Path) -> SavedRun:
    """The run.json of a checkpoint, whose tokenizer is still the one that it was written with.

    Raises ModelFolderError.
    """
    file = out / CHECKPOINT_NAME / RUN_NAME
    run = read_object(file)
    if run.get("format_version") != FORMAT_VERSION:
        raise ModelFolderError(f"{file}: was not written by this version of minigpt_tf")
    kinds = {"sources": list, "characters": int, "tokens": int, "fingerprint": str}
    kinds |= {"tokenizer_sha256": str}
    sound = all(isinstance(run.get(name), kind) for name, kind in kinds.items())
    sound = sound and all(isinstance(source, str) for source in run["sources"])
    sound = sound and run.get("preset") in PRESETS
    if not sound or run.get("dtype") not in ("float32", "mixed_bfloat16"):
        raise ModelFolderError(f"{file}: is damaged, or of another version of minigpt_tf")
    try:
        saved = SavedRun(
            preset=run["preset"],
            sources=run["sources"],
            characters=run["characters"],
            tokens=run["tokens"],
            fingerprint=run["fingerprint"],
            model=from_dict(ModelConfig, run.get("model"), str(file)),
            data=from_dict(DataConfig, run.get("data"), str(file)),
            training=from_dict(TrainingConfig, run.get("training"), str(file)),
            dtype=run["dtype"],
        )
    except ConfigError as error:
        raise ModelFolderError(str(error)) from None
    _check_tokenizer(_tokenizer_file(out, saved), run["tokenizer_sha256"])
    return saved


def _check_tokenizer(file: Path, sha256: str) -> None:
    try:
        changed = sha256_of(file) != sha256
    except OSError as error:
        raise ModelFolderError(f"{file}: cannot be read: {error.strerror}") from None
    if changed:
        raise ModelFolderError(
            f"{file}: is not the tokenizer that the run began with: put that file back, or start "
            "anew with --overwrite"
        )


def _tokenizer_file(out: Path, run: SavedRun) -> Path:
    return out / CHECKPOINT_NAME / TOKENIZER_NAMES[run.data.tokenizer]


def read_tokenizer(out: Path, run: SavedRun) -> BaseTokenizer:
    """The tokenizer of a checkpoint.

    Args:
        out: The model folder.
        run: From `read_run`.

    Returns:
        The tokenizer.

    Raises:
        DataError: Its file is damaged.
    """
    return load_tokenizer(_tokenizer_file(out, run), run.data.tokenizer)


def check_same_run(run: SavedRun, plan: Plan) -> None:
    """Checks that a plan continues the run of a checkpoint.

    Args:
        run: From `read_run`.
        plan: The run that was asked for.

    Raises:
        TrainingError: They differ in more than MAY_CHANGE; the message says in what.
    """
    differences = []
    if run.preset != plan.preset:
        differences.append(f"preset was {run.preset}, now {plan.preset}")
    for section in ("model", "data", "training"):
        before, now = to_dict(getattr(run, section)), to_dict(getattr(plan, section))
        for name in now:
            if name not in MAY_CHANGE and before[name] != now[name]:
                differences.append(f"{name} was {before[name]}, now {now[name]}")
    if run.fingerprint != plan.corpus.fingerprint:
        tokens = len(plan.corpus.train_ids) + len(plan.corpus.val_ids)
        differences.append(
            "the text or its tokens are not the same (before "
            f"{_count_text(run.sources, run.characters, run.tokens)}, now "
            f"{_count_text(plan.source_names, plan.corpus.characters, tokens)})"
        )
    if differences:
        raise TrainingError(
            f"--resume continues the same run, but {'; '.join(differences)}: resume without "
            "these changes, or start anew with another --out"
        )


def _count_text(sources: list[str], characters: int, tokens: int) -> str:
    more = f" and {len(sources) - 1} more" * (len(sources) > 1)
    return f"{characters:,} characters and {tokens:,} tokens of {sources[0]}{more}"
