"""The verb `train`."""

import argparse
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..config import (
    MODELS_DIRECTORY,
    MOST_DOWNLOAD_BYTES,
    DataConfig,
    ModelConfig,
    TrainingConfig,
    WorkersConfig,
)
from ..config.presets import (
    DEFAULT_PRESET,
    PRESETS,
    RECIPES,
    Preset,
    Recipe,
    data_preset,
    model_preset,
    training_preset,
)
from ..config.settings import to_dict
from ..console import ConsoleListener, announce
from ..errors import ConfigError
from ..events import Listener, LostListener
from ..files.sources import is_url
from ..startup import quiet_import
from ..storage.model_folder import check_output, has_checkpoint
from ..storage.paths import real_path
from ..training.cluster import Cluster, choose_cluster
from ..training.plan import Plan, make_plan, plan_from_preset
from ..training.resume import read_run, read_tokenizer
from .events import add_tensorboard, with_tensorboard
from .options import cli_options, given_options

if TYPE_CHECKING:
    from ..training.trainer import TrainingResult

DESCRIPTION = "Train a GPT on text files and write a model folder."

DATA_HELP = (
    f"text files, folders, or http(s) URLs of files of up to {MOST_DOWNLOAD_BYTES >> 30} GiB; "
    "these are downloaded once, into the cache folder"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `train`; those that are not given are the preset's.

    Args:
        parser: The verb\'s; options are added to it.
    """
    parser.add_argument("--data", nargs="+", metavar="PATH", help=DATA_HELP)
    parser.add_argument("--out", type=Path, metavar="DIR", help="model folder (unset: models/NAME)")
    parser.add_argument("--preset", choices=PRESETS, help=_help(PRESETS, DEFAULT_PRESET))
    parser.add_argument("--recipe", choices=RECIPES, help=_help(RECIPES, "the preset's"))
    parser.add_argument("--overwrite", action="store_true", help="replace the model in --out")
    parser.add_argument("--resume", action="store_true", help="resume the run in --out")
    add_tensorboard(parser)
    for title, cls in (("data", DataConfig), ("training", TrainingConfig), ("model", ModelConfig)):
        group = parser.add_argument_group(f"{title} (unset: as the preset has it)")
        cli_options(group, cls, preset_decides=True)
    group = parser.add_argument_group("several machines")
    cli_options(group, WorkersConfig, preset_decides=False)


def _help(choices: dict[str, Preset] | dict[str, Recipe], default: str) -> str:
    names = "; ".join(f"{name}: {choice.help}" for name, choice in choices.items())
    return f"{names} (default: {default})"


def run(arguments: argparse.Namespace) -> int:
    """Trains. The text is read and reported on before TensorFlow is imported.

    Args:
        arguments: The options that were given, parsed.

    Returns:
        The exit status.
    """
    _check_options(arguments)
    cluster = choose_cluster(WorkersConfig(**given_options(arguments, WorkersConfig)))
    out = arguments.out or _default_out(arguments)
    if cluster is not None and not cluster.is_chief:
        return _work_for_chief(arguments, out, cluster)
    check_output(out, overwrite=arguments.overwrite, resume=arguments.resume)
    listener = ConsoleListener()
    make = _resumed_plan if arguments.resume else _new_plan
    try:
        plan = make(arguments, out, LostListener(listener))
    finally:
        listener.clear()
    announce(_plan_lines(plan))
    if cluster is not None:
        announce([f"waiting for the other {len(cluster.workers) - 1} of the workers"])
    with quiet_import():
        from ..training.trainer import train

    result = train(
        plan,
        out,
        overwrite=arguments.overwrite,
        resume=arguments.resume,
        listener=with_tensorboard(arguments, out, listener),
    )
    return _conclude(plan, result)


def _check_options(arguments: argparse.Namespace) -> None:
    """Raises ConfigError for options that contradict each other."""
    if arguments.resume and arguments.overwrite:
        raise ConfigError("--resume and --overwrite exclude each other")
    if {"epochs", "steps"} <= vars(arguments).keys():
        raise ConfigError("--epochs and --steps exclude each other")
    if arguments.resume and arguments.recipe:
        raise ConfigError("--resume keeps the recipe of the run: drop --recipe")
    if arguments.resume and not (arguments.out or arguments.data):
        raise ConfigError("--resume needs --out: the folder of the run to resume")


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The plan of the run that the options describe.

    Args:
        arguments: The options that were given, parsed.

    Returns:
        The plan, checked. Nothing is written.

    Raises:
        MiniGPTError: As `run` does before it trains.
    """
    _check_options(arguments)
    out = arguments.out or _default_out(arguments)
    return (_resumed_plan if arguments.resume else _new_plan)(arguments, out, Listener())


def _plan_lines(plan: Plan) -> Iterator[str]:
    """What is shown before training: the run and all settings."""
    from ..planning.prediction import predict

    takes = predict(plan.workload, plan.schedule).summary()
    for name, value in (*plan.report(), ("takes about", takes)):
        yield f"{name:>18}: {value}"
    for config in (plan.model, plan.data, plan.training):
        settings = " ".join(f"{name}={value}" for name, value in to_dict(config).items())
        yield f"{type(config).__name__:>18}: {settings}"


def _work_for_chief(arguments: argparse.Namespace, out: Path, cluster: Cluster) -> int:
    """Trains as one of the workers that write nothing."""
    # The folder of the run may be on the chief's machine alone; then the options are the same.
    make = _resumed_plan if arguments.resume and has_checkpoint(out) else _new_plan
    plan = make(arguments, out, Listener())
    name, chief = cluster.name(cluster.index), cluster.name(0)
    announce([f"{name} works and waits for {chief}, which shows how it goes and writes {out}/"])
    with quiet_import():
        from ..training.trainer import train

    return 130 if train(plan, out).interrupted else 0


def _default_out(arguments: argparse.Namespace) -> Path:
    if not arguments.data:
        raise ConfigError("--data is missing: name a text file or a folder of them")
    first = arguments.data[0]
    if is_url(first):
        first = unquote(re.split("[?#]", first)[0])
    name = real_path(first).stem
    return Path(MODELS_DIRECTORY) / (re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model")


def _new_plan(arguments: argparse.Namespace, out: Path, listener: Listener) -> Plan:
    if not arguments.data:
        raise ConfigError("--data is missing: name a text file or a folder of them")
    settings: dict[str, Any] = {}
    for kind in (ModelConfig, DataConfig, TrainingConfig):
        settings |= given_options(arguments, kind)
    return plan_from_preset(
        arguments.data,
        arguments.preset or DEFAULT_PRESET,
        recipe=arguments.recipe,
        listener=listener,
        **settings,
    )


def settings_of(
    arguments: argparse.Namespace,
) -> tuple[ModelConfig, DataConfig, TrainingConfig]:
    """The settings of the preset with those that were given, before any text is read.

    Args:
        arguments: The options that were given, parsed.

    Returns:
        Model, data and training.

    Raises:
        ConfigError: A value is out of range.
    """
    preset = arguments.preset or DEFAULT_PRESET
    return (
        model_preset(preset, **given_options(arguments, ModelConfig)),
        data_preset(preset, **given_options(arguments, DataConfig)),
        training_preset(
            preset, recipe=arguments.recipe, **given_options(arguments, TrainingConfig)
        ),
    )


def _resumed_plan(arguments: argparse.Namespace, out: Path, listener: Listener) -> Plan:
    """The checkpoint's run with what the command line changes; the trainer refuses most of that."""
    run = read_run(out)
    model = given_options(arguments, ModelConfig)
    known, asked = run.model.vocab_size, model.pop("vocab_size", run.model.vocab_size)
    if asked < known or (asked > known and run.data.tokenizer != "bpe"):  # bpe may find fewer
        raise ConfigError(f"--resume keeps the vocabulary of {known}: drop --vocab-size")
    training = given_options(arguments, TrainingConfig)
    if "epochs" in training:
        training["steps"] = None
    return make_plan(
        arguments.data or run.sources,
        replace(run.model, **model),
        replace(run.data, **given_options(arguments, DataConfig)),
        replace(run.training, **training),
        preset=arguments.preset or run.preset,
        may_leave_gaps=True,
        tokenizer=read_tokenizer(out, run),
        listener=listener,
    )


def _conclude(plan: Plan, result: "TrainingResult") -> int:
    """Says what was written and what to type next; the exit status."""
    out = result.out
    files = ", ".join(sorted(path.name for path in out.iterdir() if path.is_file()))
    print(f"wrote {out}/: {files}")
    validated = [(e.val_loss, e.step) for e in result.history if e.val_loss is not None]
    lowest, step = min(validated, default=(0.0, 0))
    if validated and step != validated[-1][1] and result.kept == "last":
        print(
            f"note: the validation loss was lowest at step {step} ({lowest:.4f}); "
            "model.h5 holds the last weights, --resume --keep best writes those instead"
        )
    if result.interrupted:
        print(f"stopped at step {result.steps} of {plan.total_steps}; to resume:")
        print(f"    minigpt train --resume --out {shlex.quote(str(out))}")
        return 130
    if result.stopped_early:
        print(f"stopped early at step {result.steps}: the validation loss no longer fell")
    print("ask it:")
    print(f"    minigpt generate {shlex.quote(plan.sample_prompt)} --model {shlex.quote(str(out))}")
    return 0
