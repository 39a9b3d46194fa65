"""checkpoint/run.json of a fine-tuning run, and whether a plan is still that run."""

import json
from pathlib import Path
from typing import Any

from ..config import CHECKPOINT_NAME, FORMAT_VERSION, RUN_NAME, RecordsConfig
from ..config.settings import new_names
from ..errors import ModelFolderError, TrainingError
from ..storage.json_files import read_object, write_json
from ..storage.replacing import staging
from ..training.resume import MAY_CHANGE
from .plan import FineTuningPlan

KIND = "finetuning"

CONTENTS = {"base": "base_fingerprint", "source": "rows_fingerprint"}
"""What a path leads to, by the path's name: if that is the same, the path may be another."""


def start_run(out: Path, plan: FineTuningPlan, dtype: str) -> None:
    """Makes checkpoint/ in the folder of a new run, with a run.json.

    Args:
        out: the run's folder.
        plan: what the run is.
        dtype: float32 or mixed_bfloat16.

    Raises:
        ModelFolderError: the folder cannot be written to.
    """
    with staging(out) as scratch:
        (scratch / CHECKPOINT_NAME).mkdir()
        write_json(scratch / CHECKPOINT_NAME / RUN_NAME, _describe(plan, dtype))


def check_same_run(out: Path, plan: FineTuningPlan) -> str:
    """Checks that a plan resumes the run in a folder. Writes nothing.

    Args:
        out: the run's folder.
        plan: what the run is now.

    Returns:
        The run's dtype, float32 or mixed_bfloat16.

    Raises:
        ModelFolderError: there is no run to resume.
        TrainingError: the plan is another run; the message names what differs.
    """
    run = read_run(out)
    now = _describe(plan, run["dtype"])
    differences = [
        f"{name} was {before}, now {after}"
        for name, before, after in _differences(run, now)
        if name not in MAY_CHANGE | {"sample_queries"}
        and (name not in CONTENTS or run.get(CONTENTS[name]) != now[CONTENTS[name]])
    ]
    if differences:
        raise TrainingError(
            f"--resume continues the same run, but {'; '.join(differences)}: resume without these "
            "changes, or start anew with another --out"
        )
    return run["dtype"]


def update_run(out: Path, plan: FineTuningPlan, dtype: str) -> None:
    """Rewrites run.json with the changes that a resumed run may make.

    Args:
        out, plan, dtype: as in `start_run`.

    Raises:
        ModelFolderError: the folder cannot be written to.
    """
    with staging(out / CHECKPOINT_NAME) as scratch:
        write_json(scratch / RUN_NAME, _describe(plan, dtype))


def read_run(out: Path) -> dict[str, Any]:
    """What `start_run` or `update_run` wrote into a folder.

    Raises:
        ModelFolderError: it is missing, damaged, or of another kind or version.
    """
    file = out / CHECKPOINT_NAME / RUN_NAME
    run = read_object(file)
    if run.get("format_version") != FORMAT_VERSION or run.get("kind") != KIND:
        raise ModelFolderError(f"{file}: is not the run of a fine-tuning of this version")
    if run.get("dtype") not in ("float32", "mixed_bfloat16"):
        raise ModelFolderError(f"{file}: is damaged")
    return run | {"records": new_names(RecordsConfig, run.get("records"))}


def _describe(plan: FineTuningPlan, dtype: str) -> dict[str, Any]:
    about = {"format_version": FORMAT_VERSION, "kind": KIND, "dtype": dtype}
    return json.loads(json.dumps(about | plan.describe()))


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """(name, before, now) of what differs between two descriptions, section by section."""
    found = []
    for name, value in now.items():
        if isinstance(value, dict) and isinstance(before.get(name), dict):
            found += _differences(before[name], value)
        elif before.get(name) != value:
            found.append((name, before.get(name), value))
    return found
