"""checkpoint/: everything a run needs to go on where it stopped, to the bit.

    run.json            what the run is: configurations, sources, fingerprint of the tokens
    tokenizer.*         its tokenizer
    state-00000123.npz  weights, optimizer, progress, best weights after step 123; the last two

Data order and dropout are functions of seed and step, so they need no state. A state is written
under another name and then renamed: what has a state's name is whole.
"""

import dataclasses
import json
import logging
import math
import re
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..config import (
    CHECKPOINT_NAME,
    FORMAT_VERSION,
    RUN_NAME,
    DataConfig,
    ModelConfig,
    TrainingConfig,
)
from ..errors import ConfigError, ModelFolderError, TrainingError
from ..inference.weights import Weights, check_weights
from ..modelfolder import reserve_space, staging, write_json, write_tokenizer
from ..options import from_dict, to_dict
from ..presets import PRESETS
from ..text.tokenizers import TOKENIZER_NAMES, Tokenizer, load_tokenizer
from .listener import Evaluation
from .plan import Plan

STATES_KEPT = 2

_STATE_NAME = re.compile(r"state-(\d{8,})\.npz")


@dataclass
class RunState:
    """How far a run has come, beside the variables of model and optimizer."""

    step: int = 0
    """Steps done."""
    seconds: float = 0.0
    loss_sum: float = 0.0
    accuracy_sum: float = 0.0
    steps_summed: int = 0
    """Since the last evaluation, as are the two sums."""
    history: list[Evaluation] = field(default_factory=list)
    best_loss: float = math.inf
    best_weights: Weights | None = None
    evaluations_since_best: int = 0
    stopped_early: bool = False

    def add(self, loss: float, accuracy: float) -> None:
        """Counts a step."""
        self.step += 1
        self.loss_sum += loss
        self.accuracy_sum += accuracy
        self.steps_summed += 1

    @property
    def mean_loss(self) -> float:
        """Over the steps since the last evaluation, in nats per token."""
        return self.loss_sum / self.steps_summed

    @property
    def mean_accuracy(self) -> float:
        return self.accuracy_sum / self.steps_summed


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


class StateWriter:
    """Writes states of a run in the background, one at a time, and keeps the last two."""

    def __init__(self, out: Path) -> None:
        self.folder = out / CHECKPOINT_NAME
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def save(self, variables: dict[str, Any], state: RunState) -> None:
        """Copies the state now and writes it while the run goes on.

        Waits for the state before. Raises ModelFolderError where that one could not be written.
        """
        arrays = {name: np.array(variable) for name, variable in variables.items()}
        arrays |= {f"best/{name}": weight for name, weight in (state.best_weights or {}).items()}
        progress = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
        progress["history"] = [dataclasses.asdict(evaluation) for evaluation in state.history]
        del progress["best_weights"]
        arrays["progress"] = np.frombuffer(json.dumps(progress).encode(), dtype=np.uint8)
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(arrays, state.step))
        self._thread.start()

    def wait(self) -> None:
        """Until the last state is on disk. Raises ModelFolderError where that failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _write(self, arrays: dict[str, np.ndarray], step: int) -> None:
        try:
            with staging(self.folder) as scratch:
                # A zip archive spends some hundred bytes on each array's name and place.
                reserve_space(scratch, sum(array.nbytes + 1024 for array in arrays.values()))
                np.savez(scratch / f"state-{step:08}.npz", **arrays)
            for file in list_states(self.folder)[STATES_KEPT:]:
                file.unlink(missing_ok=True)
        except Exception as error:
            self._error = error


def list_states(folder: Path) -> list[Path]:
    """The states in a checkpoint folder, the newest first."""
    matches = [match for file in folder.iterdir() if (match := _STATE_NAME.fullmatch(file.name))]
    matches.sort(key=lambda match: int(match[1]), reverse=True)
    return [folder / match[0] for match in matches]


def restore_state(out: Path, variables: dict[str, Any], config: ModelConfig) -> RunState:
    """Puts the newest sound state into the variables; returns the rest of it.

    A run that was killed before its first state starts anew. Raises ModelFolderError where all
    states are damaged or were made by another model.
    """
    states = list_states(out / CHECKPOINT_NAME)
    for file in states:
        try:
            return _read_state(file, variables, config)
        except ModelFolderError as error:
            if file == states[-1]:
                raise
            logging.getLogger(__name__).warning("%s; going on from the state before it", error)
    return RunState()


def _read_state(file: Path, variables: dict[str, Any], config: ModelConfig) -> RunState:
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive}
        progress = json.loads(arrays.pop("progress").tobytes())
        best = {n.removeprefix("best/"): arrays.pop(n) for n in list(arrays) if n[:5] == "best/"}
        if best:
            check_weights(best, config, str(file))
        history = [Evaluation(**row) for row in progress.pop("history")]
        state = RunState(**progress, history=history, best_weights=best or None)
        if not (type(state.step) is int and state.step >= 0 and state.best_loss > -math.inf):
            raise ValueError(f"step={state.step}, best_loss={state.best_loss}")
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        if {name: array.shape for name, array in arrays.items()} != shapes:
            raise ValueError("its arrays are not those of this model and optimizer")
    except ModelFolderError:
        raise
    except Exception as error:  # a damaged zip raises many kinds
        raise ModelFolderError(f"{file}: is damaged: {str(error)[:120]}") from None
    for name, variable in variables.items():
        variable.assign(arrays[name])
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


MAY_CHANGE = {
    "epochs",
    "steps",
    "eval_every",
    "eval_share",
    "sample_prompt",
    "sample_tokens",
    "keep",
    "checkpoint_every",
    "checkpoint_minutes",
}
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
