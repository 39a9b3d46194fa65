"""checkpoint/: everything a run needs to resume where it stopped, to the bit.

    run.json            what the run is (`resume`): configurations, fingerprint of the tokens
    tokenizer.*         its tokenizer
    state-00000123.npz  weights, optimizer, progress, best weights after step 123; the last two

Data order and dropout are functions of seed and step, so they need no state. A state is written
under another name and then renamed: what has a state's name is whole. The folder itself appears
with run.json and the tokenizer in it: a run that has a checkpoint/ can resume.
"""

import dataclasses
import json
import math
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..config import CHECKPOINT_NAME
from ..errors import ModelFolderError, TrainingError
from ..events import Evaluation, Listener
from ..inference.weights import Weights, check_finite
from ..storage.regular import check_regular
from ..storage.replacing import reserve_space, staging

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
    gradient_norm_sum: float = 0.0
    steps_summed: int = 0
    """Since the last evaluation, as are the three sums."""
    before: dict[str, float] = field(default_factory=dict)
    """What the model achieved on held-out data before its first step, if that was measured."""
    history: list[Evaluation] = field(default_factory=list)
    best_loss: float = math.inf
    best_weights: Weights | None = None
    evaluations_since_best: int = 0
    stopped_early: bool = False

    def add(self, loss: float, accuracy: float, gradient_norm: float) -> None:
        """Counts a step.

        Args:
            loss: Its mean loss, in nats.
            accuracy: The fraction of its targets that were the most likely token.
            gradient_norm: Of all gradients together, before clipping.
        """
        self.step += 1
        self.loss_sum += loss
        self.accuracy_sum += accuracy
        self.gradient_norm_sum += gradient_norm
        self.steps_summed += 1

    @property
    def mean_loss(self) -> float:
        """Over the steps since the last evaluation, in nats per token."""
        return self.loss_sum / self.steps_summed

    @property
    def mean_accuracy(self) -> float:
        """Over the same steps."""
        return self.accuracy_sum / self.steps_summed


class StateWriter:
    """Writes states of a run in the background, one at a time, and keeps the last two.

    Args:
        out: The model folder; states go into its checkpoint/.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / CHECKPOINT_NAME
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def save(self, variables: dict[str, Any], state: RunState) -> None:
        """Copies the state now and writes it while the run continues.

        Waits for the state before it.

        Args:
            variables: All that a step changes, by name.
            state: How far the run has come.

        Raises:
            ModelFolderError: The state before could not be written.
            TrainingError: The state before has values that are not finite.
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
        """Waits until the last state is on disk.

        Raises:
            ModelFolderError: It could not be written.
            TrainingError: It has values that are not finite: it is not written, and the states
                before it stay.
        """
        self.close()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def close(self) -> None:
        """Waits as `wait` does, but raises nothing: for a run that has failed already."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _write(self, arrays: dict[str, np.ndarray], step: int) -> None:
        try:
            _check_all_finite(arrays, step)
            with staging(self.folder) as scratch:
                # A zip archive spends some hundred bytes on each array's name and place.
                reserve_space(scratch, sum(array.nbytes + 1024 for array in arrays.values()))
                np.savez(scratch / state_name(step), allow_pickle=False, **arrays)
            states = list_states(self.folder)
            newest = [file.name for file in states].index(state_name(step))
            # One of a later step can only be damaged: the run continued from a state before it.
            for file in states[:newest] + states[newest + STATES_KEPT :]:
                file.unlink(missing_ok=True)
        except Exception as error:
            self._error = error


def _check_all_finite(arrays: dict[str, np.ndarray], step: int) -> None:
    try:
        for name, array in arrays.items():
            check_finite(array, name, f"step {step}")
    except ModelFolderError as error:
        raise TrainingError(str(error)) from None


def state_name(step: int) -> str:
    """The name of the state after so many steps."""
    return f"state-{step:08}.npz"


def list_states(folder: Path) -> list[Path]:
    """The files of the states in a checkpoint folder, the newest first."""
    matches = [match for file in folder.iterdir() if (match := _STATE_NAME.fullmatch(file.name))]
    matches.sort(key=lambda match: int(match[1]), reverse=True)
    return [folder / match[0] for match in matches]


def restore_state(
    out: Path,
    variables: dict[str, Any],
    check_best: Callable[[Weights, str], None],
    listener: Listener,
) -> RunState:
    """Loads the newest valid state.

    A run that was killed before its first state starts anew.

    Args:
        out: The model folder.
        variables: All that a step changes, by name; they get the values of the state.
        check_best: Called with the best weights and the name of their file; raises
            ModelFolderError if they are not those of this model.
        listener: Receives a notice for each newer state that is damaged.

    Returns:
        How far the run has come.

    Raises:
        ModelFolderError: All states are damaged, or are those of another model.
    """
    errors: list[ModelFolderError] = []
    for file in list_states(out / CHECKPOINT_NAME):
        try:
            state = _read_state(file, variables, check_best)
        except ModelFolderError as error:
            errors.append(error)
            continue
        for passed_over in errors:
            listener.notice(
                f"{passed_over}; continuing from step {state.step}, the state before it"
            )
        return state
    if errors:
        raise ModelFolderError(f"{errors[0]}; no other state is left: start anew with --overwrite")
    listener.notice("the run had saved no state yet: continuing from step 0")
    return RunState()


def _read_state(
    file: Path, variables: dict[str, Any], check_best: Callable[[Weights, str], None]
) -> RunState:
    check_regular(file)
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive}
        progress = json.loads(arrays.pop("progress").tobytes())
        best = {n.removeprefix("best/"): arrays.pop(n) for n in list(arrays) if n[:5] == "best/"}
        if best:
            check_best(best, str(file))
        history = [Evaluation(**row) for row in progress.pop("history")]
        state = RunState(**progress, history=history, best_weights=best or None)
        if not (type(state.step) is int and state.step >= 0 and state.best_loss > -math.inf):
            raise ValueError(f"step={state.step}, best_loss={state.best_loss}")
        kinds = {n: (tuple(v.shape), np.dtype(v.dtype)) for n, v in variables.items()}
        if {name: (array.shape, array.dtype) for name, array in arrays.items()} != kinds:
            raise ValueError("its arrays are not those of this model and optimizer")
    except (ModelFolderError, MemoryError):
        raise
    except OSError as error:
        raise ModelFolderError(f"{file}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a damaged zip raises many kinds
        raise ModelFolderError(f"{file}: is damaged: {str(error)[:120]}") from None
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return state
