"""The verb `finetune`."""

import argparse
import dataclasses
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from ..config import (
    MODELS_DIRECTORY,
    FineTuningConfig,
    LoraConfig,
    RecordsConfig,
    TrainingConfig,
)
from ..config.presets import fine_tuning_preset
from ..config.settings import to_dict
from ..console import UNLIMITED, ConsoleListener, terminal_width
from ..errors import ConfigError
from ..finetuning.bases import check_apart
from ..finetuning.plan import make_finetuning_plan
from ..startup import quiet_import
from ..storage.model_folder import CONFUSION_NAME, check_output, read_description
from .classify import figures_table, parts_lines
from .options import cli_options, given_options

DESCRIPTION = "Adapt a model folder to your own records, and write another model folder."

CLASSIFY_BY_LORA = "classify --classify-layers lora"

EXAMPLE_LENGTH = 1200
"""Characters of the example that is shown."""


OF_TEXTS = {"eval_share", "sample_prompt"}
"""Settings of training that are for texts, not for records."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Base, records, and how the model is adapted."""
    parser.add_argument("--base", type=Path, metavar="DIR", help="model folder to adapt")
    parser.add_argument(
        "--data",
        metavar="RECORDS",
        help="file of records (.json .jsonl .csv .tsv .xlsx .txt), or sqlite:///FILE with --query",
    )
    out = "model folder to write (unset: models/BASE-RECORDS)"
    parser.add_argument("--out", type=Path, metavar="DIR", help=out)
    parser.add_argument("--overwrite", action="store_true", help="replace the model in --out")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    for title, cls in (
        ("method", FineTuningConfig),
        ("changes of low rank", LoraConfig),
        ("records", RecordsConfig),
    ):
        cli_options(parser.add_argument_group(title), cls, preset_decides=False)
    training = {field.name for field in dataclasses.fields(TrainingConfig)} - OF_TEXTS
    group = parser.add_argument_group("training (unset: as the method has it)")
    cli_options(group, TrainingConfig, preset_decides=True, only=training)


def run(arguments: argparse.Namespace) -> int:
    """Trains. The records are read and reported on before TensorFlow is imported."""
    if arguments.resume and arguments.overwrite:
        raise ConfigError("--resume and --overwrite exclude each other")
    for name in ("base", "data"):
        if not getattr(arguments, name):
            raise ConfigError(f"--{name} is missing")
    out = arguments.out or _default_out(arguments)
    check_apart(arguments.base, out)
    check_output(out, overwrite=arguments.overwrite, resume=arguments.resume)
    tuning = FineTuningConfig(**given_options(arguments, FineTuningConfig))
    _check_method(arguments, tuning)
    training = fine_tuning_preset(tuning.way, **given_options(arguments, TrainingConfig))
    listener = ConsoleListener()
    try:
        plan = make_finetuning_plan(
            arguments.base,
            arguments.data,
            tuning,
            RecordsConfig(**given_options(arguments, RecordsConfig)),
            training,
            LoraConfig(**given_options(arguments, LoraConfig)),
            listener=listener,
        )
    finally:
        listener.clear()
    for line in plan.dataset.report.lines():
        print(line)
    marks = "" if plan.dataset.labels else ", what is trained in [[ ]]"
    print(f"an example{marks}:\n{plan.dataset.report.example[:EXAMPLE_LENGTH]}")
    for name, value in plan.report():
        print(f"{name:>18}: {value}")
    for config in (plan.tuning, plan.lora, plan.records, plan.training):
        settings = " ".join(f"{name}={value}" for name, value in to_dict(config).items())
        print(f"{type(config).__name__:>18}: {settings}", flush=True)
    with quiet_import():
        from ..finetuning.trainer import finetune

    result = finetune(
        plan, out, overwrite=arguments.overwrite, resume=arguments.resume, listener=listener
    )
    files = ", ".join(sorted(path.name for path in out.iterdir() if path.is_file()))
    print(f"wrote {out}/: {files}")
    if result.interrupted:
        print(f"stopped at step {result.steps} of {plan.total_steps}; to go on, add --resume")
        return 130
    if plan.tuning.method == "classify":
        for line in _classifier_lines(out):
            print(line)
        print(f'use it:\n    minigpt classify "TEXT" --model {shlex.quote(str(out))}')
    else:
        print(f"talk to it:\n    minigpt chat --model {shlex.quote(str(out))}")
    return 0


def _classifier_lines(out: Path) -> Iterator[str]:
    """What config.json tells of how well a classifier guesses."""
    metrics = read_description(out)["metrics"]
    for name, value in parts_lines(metrics["parts"]):
        yield f"{name:>18}: {value}"
    yield f"of the {metrics['part']} part, drawn in {out / CONFUSION_NAME}:"
    yield from figures_table(metrics, terminal_width(sys.stdout, pipe=UNLIMITED))


def _check_method(arguments: argparse.Namespace, tuning: FineTuningConfig) -> None:
    """Raises ConfigError where an option was given that the method does nothing with."""
    if tuning.method == "full" and hasattr(arguments, "base_bits"):
        raise ConfigError(
            "--method full trains all weights, and those of a quantised base are whole numbers, "
            "which cannot be trained: drop --base-bits, or choose --method qlora"
        )
    writes = ("full", "lora", "qlora", "dpo")
    options: dict[str, tuple[str, ...]] = {
        "base_bits": ("qlora",),
        "beta": ("dpo",),
        "classify_layers": ("classify",),
    }
    options |= {"sample_tokens": writes, "train_on": ("full", "lora", "qlora")}
    low_rank = ("lora", "qlora", "dpo", CLASSIFY_BY_LORA)
    options |= dict.fromkeys(given_options(arguments, LoraConfig), low_rank)
    found: set[str] = {tuning.method}
    if tuning.way == "classify lora":
        found.add(CLASSIFY_BY_LORA)
    for name, methods in options.items():
        if hasattr(arguments, name) and not found.intersection(methods):
            raise ConfigError(
                f"--{name.replace('_', '-')} is for --method {' or '.join(methods)}, not "
                f"{tuning.method}: drop it"
            )


def _default_out(arguments: argparse.Namespace) -> Path:
    """models/BASE-RECORDS"""
    name = f"{arguments.base.resolve().name}-{Path(arguments.data).stem}"
    return Path(MODELS_DIRECTORY) / (re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model")
