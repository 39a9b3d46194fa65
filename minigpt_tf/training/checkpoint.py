"""checkpoint/: everything a run needs to go on where it stopped.

`model` is a built and compiled Keras model; Keras itself is not imported here.
"""

import dataclasses
import json
import math
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config import (
    CHECKPOINT_NAME,
    FORMAT_VERSION,
    PRESETS,
    RUN_NAME,
    DataConfig,
    ModelConfig,
    TrainingConfig,
)
from ..errors import ConfigError, ModelFolderError, TrainingError
from ..inference.weights import Weights, check_weights
from ..modelfolder import STATE_NAME, reserve_space, staging, write_json, write_tokenizer
from ..options import from_dict, to_dict
from ..text.tokenizers import TOKENIZER_NAMES, Tokenizer, load_tokenizer
from .listener import Evaluation
from .plan import Plan


@dataclass
class RunState:
    """How far a run has come, beside what Keras's variables hold."""

    step: int = 0
    seconds: float = 0.0
    history: list[Evaluation] = field(default_factory=list)
    best_loss: float = float("inf")
    best_weights: Weights | None = None
    evaluations_since_best: int = 0


def start_checkpoint(out: Path, plan: Plan, dtype: str) -> None:
    """Empties checkpoint/ and writes what the run is."""
    folder = out / CHECKPOINT_NAME
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    write_run(out, plan, dtype)


def write_run(out: Path, plan: Plan, dtype: str) -> None:
    """Writes what the run is, and its tokenizer; a resumed run may differ in MAY_CHANGE."""
    run = {
        "format_version": FORMAT_VERSION,
        "preset": plan.preset,
        "sources": [str(source.resolve()) for source in plan.sources],
        "fingerprint": plan.corpus.fingerprint(),
        "model": to_dict(plan.model),
        "data": to_dict(plan.data),
        "training": to_dict(plan.training),
        "dtype": dtype,
    }
    with staging(out / CHECKPOINT_NAME) as scratch:
        write_json(scratch / RUN_NAME, run)
        write_tokenizer(scratch, plan.corpus.tokenizer)


def save_state(out: Path, model: Any, state: RunState) -> None:
    """Writes the state of a run, atomically."""
    arrays = {f"model/{i}": np.asarray(v) for i, v in enumerate(model.variables)}
    arrays |= {f"optimizer/{i}": np.asarray(v) for i, v in enumerate(model.optimizer.variables)}
    arrays |= {f"best/{name}": weight for name, weight in (state.best_weights or {}).items()}
    progress = dataclasses.asdict(replace(state, best_weights=None))
    arrays["progress"] = np.frombuffer(json.dumps(progress).encode(), dtype=np.uint8)
    with staging(out / CHECKPOINT_NAME) as scratch:
        # A zip archive spends some hundred bytes on each array's name and place.
        reserve_space(scratch, sum(array.nbytes + 1024 for array in arrays.values()))
        np.savez(scratch / STATE_NAME, **arrays)


def restore_state(out: Path, model: Any, config: ModelConfig) -> RunState:
    """Puts a checkpoint's variables into a model; returns the rest of the state.

    Raises ModelFolderError where the file is damaged or was made by another model.
    """
    file = out / CHECKPOINT_NAME / STATE_NAME
    try:
        with np.load(file, allow_pickle=False) as arrays:
            for group, variables in (
                ("model", model.variables),
                ("optimizer", model.optimizer.variables),
            ):
                for i, variable in enumerate(variables):
                    variable.assign(arrays[f"{group}/{i}"])
            progress = json.loads(arrays["progress"].tobytes())
            best = {n.removeprefix("best/"): arrays[n] for n in arrays if n.startswith("best/")}
        if best:
            check_weights(best, config, str(file))
        history = [Evaluation(**row) for row in progress.pop("history")]
        state = RunState(**{**progress, "history": history, "best_weights": best or None})
        if not (type(state.step) is int and state.step >= 0 and state.best_loss > -math.inf):
            raise ValueError(f"step={state.step}, best_loss={state.best_loss}")
    except FileNotFoundError:
        raise ModelFolderError(f"{file}: is missing, so there is nothing to resume") from None
    except ModelFolderError:
        raise
    except Exception as error:  # a damaged zip raises many kinds
        raise ModelFolderError(f"{file}: is damaged: {str(error)[:120]}") from None
    return state


@dataclass(frozen=True)
class SavedRun:
    """What run.json tells of a run."""

    preset: str
    sources: list[str]
    fingerprint: str
    model: ModelConfig
    data: DataConfig
    training: TrainingConfig
    dtype: str


def read_run(out: Path) -> SavedRun:
    """The run.json of a checkpoint. Raises ModelFolderError."""
    file = out / CHECKPOINT_NAME / RUN_NAME
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFolderError(f"{file}: cannot be read: {error}") from None
    if not isinstance(run, dict) or run.get("format_version") != FORMAT_VERSION:
        raise ModelFolderError(f"{file}: was not written by this version of minigpt_tf")
    sources, fingerprint = run.get("sources"), run.get("fingerprint")
    sound = isinstance(sources, list) and all(isinstance(source, str) for source in sources)
    sound = sound and isinstance(fingerprint, str) and run.get("preset") in PRESETS
    if not sound or run.get("dtype") not in ("float32", "mixed_bfloat16"):
        raise ModelFolderError(f"{file}: is damaged")
    try:
        return SavedRun(
            preset=run["preset"],
            sources=sources,
            fingerprint=fingerprint,
            model=from_dict(ModelConfig, run.get("model"), str(file)),
            data=from_dict(DataConfig, run.get("data"), str(file)),
            training=from_dict(TrainingConfig, run.get("training"), str(file)),
            dtype=run["dtype"],
        )
    except ConfigError as error:
        raise ModelFolderError(str(error)) from None


def read_tokenizer(out: Path, run: SavedRun) -> Tokenizer:
    """The tokenizer of a checkpoint. Raises DataError."""
    kind = run.data.tokenizer
    return load_tokenizer(out / CHECKPOINT_NAME / TOKENIZER_NAMES[kind], kind)


MAY_CHANGE = {"epochs", "steps", "eval_every", "sample_prompt", "sample_tokens", "keep"}
"""Training settings that a resumed run may set anew."""


def check_same_run(run: SavedRun, plan: Plan) -> None:
    """Raises TrainingError that names what differs between the checkpoint's run and the plan."""
    differences = []
    if run.preset != plan.preset:
        differences.append(f"preset was {run.preset}, now {plan.preset}")
    for section in ("model", "data", "training"):
        before, now = to_dict(getattr(run, section)), to_dict(getattr(plan, section))
        for name in now:
            if name not in MAY_CHANGE and before[name] != now[name]:
                differences.append(f"{name} was {before[name]}, now {now[name]}")
    if run.fingerprint != plan.corpus.fingerprint():
        differences.append("the text or its tokens are not the same")
    if differences:
        raise TrainingError(
            f"--resume goes on with the same run, but {'; '.join(differences)}: resume without "
            "these changes, or start anew with another --out"
        )
