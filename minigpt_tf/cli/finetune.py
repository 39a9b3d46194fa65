"""The verb `finetune`."""

import argparse
import dataclasses
import functools
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..config import (
    MODELS_DIRECTORY,
    FineTuningConfig,
    LoraConfig,
    RecordsConfig,
    TrainingConfig,
)
from ..config.finetuning import FINE_TUNING_HELP, FOR_TEXTS_ONLY
from ..config.presets import fine_tuning_preset
from ..config.settings import to_dict
from ..console import UNLIMITED, ConsoleListener, announce, terminal_width
from ..errors import ConfigError
from ..events import SILENT, Listener, LostListener
from ..finetuning.methods import all_methods
from ..finetuning.plan import FineTuningPlan
from ..finetuning.preparation import plan_finetuning, plan_of_run
from ..startup import quiet_import
from ..storage.model_folder import CONFUSION_NAME, check_apart, check_output, read_description
from ..storage.paths import real_path
from .classify import figures_table, split_lines
from .events import add_tensorboard, with_tensorboard
from .options import cli_options, given_options

DESCRIPTION = "Adapt a model folder to your own records, and write another model folder."

EXAMPLE_LENGTH = 1200
"""Characters of the example that is shown."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options: base, records, and how the model is adapted.

    Args:
        parser: the verb's.
    """
    parser.add_argument("--base", type=Path, metavar="DIR", help="model folder to adapt")
    parser.add_argument(
        "--data",
        metavar="RECORDS",
        help="file of records (.json .jsonl .csv .tsv .xlsx .txt), or sqlite:///FILE with --query",
    )
    out = "model folder to write (unset: models/BASE-RECORDS)"
    parser.add_argument("--out", type=Path, metavar="DIR", help=out)
    parser.add_argument("--overwrite", action="store_true", help="replace the model in --out")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    add_tensorboard(parser)
    for title, cls in (("method", FineTuningConfig), ("LoRA", LoraConfig)):
        cli_options(parser.add_argument_group(title), cls, preset_decides=False)
    cli_options(parser.add_argument_group("records"), RecordsConfig, preset_decides=False)
    group = parser.add_argument_group("training (defaults of the method)")
    fields = dataclasses.fields(TrainingConfig)
    helps = {f.name: _training_help(f) for f in fields if f.name not in FOR_TEXTS_ONLY}
    cli_options(group, TrainingConfig, preset_decides=True, only=helps, helps=helps)


def _training_help(item: dataclasses.Field) -> str:
    """The help text of a field of TrainingConfig with the default of each method."""
    text = FINE_TUNING_HELP.get(item.name, item.metadata["help"])
    users: dict[object, list[str]] = {}
    for method in all_methods():
        tuning = method.tuning
        default = getattr(fine_tuning_preset(tuning.method, tuning.classify_layers), item.name)
        users.setdefault(default, []).append(method.command)
    if None in users:
        return text
    if len(users) == 1:
        return f"{text} (default: {next(iter(users))})"
    defaults = (f"{default} for {', '.join(names)}" for default, names in users.items())
    return f"{text} (default: {'; '.join(defaults)})"


def run(arguments: argparse.Namespace) -> int:
    """Trains. The records are read and reported on before TensorFlow is imported.

    Args:
        arguments: the command line.

    Returns:
        The exit status: 0, or 130 if the run was interrupted.

    Raises:
        MiniGPTError: as `finetune` does.
    """
    _check_options(arguments)
    out = arguments.out or _default_out(arguments)
    if arguments.base:
        check_apart(arguments.base, out)
    check_output(out, overwrite=arguments.overwrite, resume=arguments.resume)
    listener = ConsoleListener()
    try:
        plan = plan_of(arguments, LostListener(listener))
    finally:
        listener.clear()
    announce(_plan_lines(plan))
    with quiet_import():
        from ..finetuning.trainer import finetune

    result = finetune(
        plan,
        out,
        overwrite=arguments.overwrite,
        resume=arguments.resume,
        listener=with_tensorboard(arguments, out, listener),
    )
    files = ", ".join(sorted(path.name for path in out.iterdir() if path.is_file()))
    print(f"wrote {out}/: {files}")
    if result.interrupted:
        print(f"stopped at step {result.steps} of {plan.total_steps}; to resume:")
        print(f"    minigpt finetune --resume --out {shlex.quote(str(out))}")
        return 130
    for line in _result_lines(plan, out):
        print(line)
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    """Raises ConfigError for options that contradict each other, or are missing."""
    if arguments.resume and arguments.overwrite:
        raise ConfigError("--resume and --overwrite exclude each other")
    needed = () if arguments.resume and arguments.out else ("base", "data")  # the run has them
    for name in needed:
        if not getattr(arguments, name):
            raise ConfigError(f"--{name} is missing")


def plan_of(arguments: argparse.Namespace, listener: Listener = SILENT) -> FineTuningPlan:
    """The plan of the run that the options describe.

    Args:
        arguments: The options that were given, parsed.
        listener: Notified of how far reading has come.

    Returns:
        The plan, checked. Nothing is written.

    Raises:
        MiniGPTError: As `run` does before it trains.
    """
    _check_options(arguments)
    settings: dict[str, Any] = {}
    for kind in (FineTuningConfig, LoraConfig, RecordsConfig, TrainingConfig):
        settings |= given_options(arguments, kind)
    out = arguments.out or _default_out(arguments)
    make = functools.partial(plan_of_run, out) if arguments.resume else plan_finetuning
    return make(arguments.base, arguments.data, listener=listener, **settings)


def _plan_lines(plan: FineTuningPlan) -> Iterator[str]:
    """What is shown before training: the records, an example of them, the run, all settings."""
    report = plan.dataset.report
    yield from report.lines()
    marks = "" if plan.dataset.labels else ", what is trained in [[ ]]"
    yield f"an example{marks}:\n{report.example[:EXAMPLE_LENGTH]}"
    from ..finetuning.schedule import schedule_of
    from ..planning.prediction import predict

    takes = predict(plan.workload, schedule_of(plan)).summary()
    for name, value in (*plan.report(), ("takes about", takes)):
        yield f"{name:>18}: {value}"
    for config in (plan.tuning, plan.lora, plan.records, plan.training):
        settings = " ".join(f"{name}={value}" for name, value in to_dict(config).items())
        yield f"{type(config).__name__:>18}: {settings}"


def _result_lines(plan: FineTuningPlan, out: Path) -> Iterator[str]:
    """What is shown at the end: what a classifier has learned, and the next command to type."""
    model = shlex.quote(str(out))
    if plan.method.writes_answers:
        yield f"talk to it:\n    minigpt chat --model {model}"
        return
    metrics = read_description(out)["metrics"]
    for name, value in split_lines(metrics["parts"]):
        yield f"{name:>18}: {value}"
    yield f"of the {metrics['part']} set, drawn in {out / CONFUSION_NAME}:"
    yield from figures_table(metrics, terminal_width(sys.stdout, pipe=UNLIMITED))
    yield f'use it:\n    minigpt classify "TEXT" --model {model}'


def _default_out(arguments: argparse.Namespace) -> Path:
    """models/BASE-RECORDS"""
    name = f"{real_path(arguments.base).name}-{Path(arguments.data).stem}"
    return Path(MODELS_DIRECTORY) / (re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model")
