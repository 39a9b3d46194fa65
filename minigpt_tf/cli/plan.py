"""The verb `plan`: what a run or an answer takes, before it is started."""

import argparse
import functools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..config import ModelConfig, TrainingConfig
from ..config.constants import CONFIG_NAME, MOST_EVALUATION_TOKENS
from ..config.planning import PlanConfig, UseConfig
from ..config.settings import from_dict
from ..console import terminal_width
from ..errors import ConfigError
from ..planning.machines import Machine, machine_of
from ..planning.prediction import predict
from ..planning.workload import Schedule, Workload, text_schedule, text_workload
from .options import cli_options, given_options

DESCRIPTION = (
    "Show what a run or an answer takes, before it is started: memory, time, disk, energy and "
    "money, on this machine or another, and what fits within limits."
)

KINDS = {
    "train": "a run of minigpt train, with its options; without --data, by --steps alone",
    "finetune": "a run of minigpt finetune, with its options",
    "model": "a model in use: memory and speed of its answers, and machines for many of them",
    "hardware": "GPU hours and memory to train models of 1 to 70 billion parameters, and use them",
}


class Planned(NamedTuple):
    """A run, and the same run by other methods or with other bases."""

    workload: Workload
    schedule: Schedule
    methods: dict[str, Callable[[ModelConfig], Workload]]
    """By the options that choose a method: the run with a base."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The kinds of plans, each with the options of the verb that it plans.

    Args:
        parser: The verb's; options are added to it.
    """
    from . import finetune, train

    kinds = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for name, text in KINDS.items():
        own = kinds.add_parser(name, help=text, description=f"Plan {text}.")
        if name in ("train", "finetune"):
            {"train": train, "finetune": finetune}[name].add_arguments(own)
        elif name == "model":
            text = (
                "model folder, Hugging Face's config.json or its folder, or the name of a known "
                "model, such as SmolLM2-135M or Llama-3.1-8B"
            )
            own.add_argument("base", metavar="BASE", help=text)
        if name in ("model", "hardware"):
            cli_options(own.add_argument_group("use"), UseConfig, preset_decides=False)
        if name == "hardware":
            text = "tokens of each run (unset: 20 a parameter, or 10 million to adapt a model)"
            own.add_argument("--tokens", type=float, metavar="F", help=text)
        group = own.add_argument_group("plan")
        cli_options(group, PlanConfig, preset_decides=False)
        group.add_argument("--json", action="store_true", help="print one JSON object")
        group.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Prints the plan.

    Args:
        arguments: The options that were given, parsed.

    Returns:
        The exit status.

    Raises:
        MiniGPTError: As the planned verb does.
    """
    config = PlanConfig(**given_options(arguments, PlanConfig))
    makers = {"train": _run_plan, "finetune": _run_plan, "model": _model, "hardware": _hardware}
    data, lines = makers[arguments.what](arguments, config)
    if arguments.json:
        print(json.dumps(data, ensure_ascii=False, allow_nan=False))
        return 0
    for line in lines:
        print(line)
    return 0


Shown = tuple[dict[str, Any], Iterator[str]]
"""A plan as data, and as lines."""


# ---------------------------------------------------------------- runs


def _run_plan(arguments: argparse.Namespace, config: PlanConfig) -> Shown:
    from .plan_lines import run_data, run_lines

    machine = _machine(config)
    if getattr(arguments, "dtype", "auto") == "auto" and machine.estimated:
        arguments.dtype = machine.auto_dtype
    planned = _text_run(arguments) if arguments.what == "train" else _tuning_run(arguments)
    prediction = predict(
        planned.workload, planned.schedule, speed=machine.speed, experience=machine.experience
    )
    data = run_data(prediction, machine, config)
    if config.memory or config.hours:
        data["fits"] = _fits(planned, machine, config)
    return data, run_lines(data, machine)


def _machine(config: PlanConfig) -> Machine:
    """The machine of the settings."""
    machine = machine_of(config.machine)
    if config.memory and machine.memory and config.memory * 2**30 > machine.memory:
        raise ConfigError(
            f"memory={config.memory}: {machine.title} has only {machine.memory / 2**30:.1f} GiB"
        )
    return machine


def _text_run(arguments: argparse.Namespace) -> Planned:
    """What `train` would run."""
    from .train import plan_of, settings_of

    if arguments.data or arguments.resume:
        plan = plan_of(arguments)
        return Planned(plan.workload, plan.schedule, {})
    if "steps" not in arguments:
        raise ConfigError("--data is missing: name a text, or give --steps to plan without one")
    model, data, training = settings_of(arguments)
    schedule = text_schedule(
        model,
        training,
        steps=training.steps or 1,
        eval_every=training.eval_every or 250,
        scored=MOST_EVALUATION_TOKENS if data.val_split else 0,
    )
    return Planned(text_workload(model, training), schedule, {})


def _tuning_run(arguments: argparse.Namespace) -> Planned:
    """What `finetune` would run."""
    from ..config import FineTuningConfig, LoraConfig
    from ..config.presets import fine_tuning_preset
    from ..finetuning.methods import all_methods, method_of
    from ..finetuning.schedule import schedule_of
    from .finetune import plan_of

    if arguments.data or arguments.resume:
        plan = plan_of(arguments)
        workload, schedule = plan.workload, schedule_of(plan)
        method, lora, training = plan.method, plan.lora, plan.training
    else:
        if not arguments.base:
            raise ConfigError("--base is missing")
        if "steps" not in arguments:
            raise ConfigError("--data is missing: name records, or give --steps to plan without")
        method = method_of(FineTuningConfig(**given_options(arguments, FineTuningConfig)))
        method.check_options(vars(arguments).keys() - {"base", "data"}, all_methods())
        lora = LoraConfig(**given_options(arguments, LoraConfig))
        tuning = method.tuning
        given = given_options(arguments, TrainingConfig)
        training = fine_tuning_preset(tuning.method, tuning.classify_layers, **given)
        model = base_model(str(arguments.base))
        length = min(tuning.max_length or model.context_length, model.context_length)
        workload = method.workload(model, lora, training, length=length, targets=length // 2)
        schedule = _even_schedule(workload)

    def by(chosen: Any) -> Callable[[ModelConfig], Workload]:
        return lambda model: chosen.workload(
            model, lora, training, length=workload.length, targets=workload.targets
        )

    others = {options: by(other) for options, other in method.lighter()}
    return Planned(workload, schedule, {f"--method {method.command}": by(method), **others})


def _even_schedule(workload: Workload) -> Schedule:
    """The schedule of a run whose rows are all as long as the longest."""
    training = workload.training
    rows = workload.rows_per_record * training.batch_size
    steps = training.steps or 1
    return Schedule(
        steps=steps,
        tokens=rows * workload.length,
        attended=rows * workload.length**2,
        targets=rows * workload.targets,
        evaluations=-(-steps // (training.eval_every or steps)),
        scored=0,
        scored_attended=0,
        scored_targets=0,
        sampled=3 * training.sample_tokens,
    )


def _fits(planned: Planned, machine: Machine, config: PlanConfig) -> dict[str, Any]:
    """The largest sizes within the limits."""
    from ..planning import largest
    from ..planning.bases import BASES

    memory = config.memory * 2**30 if config.memory else machine.memory
    limits = largest.Limits(memory, config.hours * 3600 if config.hours else None)
    run = planned.workload, planned.schedule
    found: dict[str, Any] = {"as it is": limits.hold(largest.predicted(run, machine))}
    if limits.seconds is not None:
        found["--steps"] = largest.most_steps(run, machine, limits)
        run = run[0], replace(run[1], steps=max(1, found["--steps"]))  # what follows is as long
    found["--batch-size"] = largest.largest_batch(run, machine, limits)
    if planned.workload.on_text:
        found["--context-length"] = largest.longest_rows(run, machine, limits, 2**17)
        found["--num-layers"] = largest.most_layers(run, machine, limits)
        return found
    most = planned.workload.model.context_length
    found["--max-length"] = largest.longest_rows(run, machine, limits, most)
    found["base"] = {
        options: largest.largest_base(
            BASES, functools.partial(_with_base, of, planned.schedule), machine, limits
        )
        for options, of in planned.methods.items()
    }
    return found


def _with_base(
    of: Callable[[ModelConfig], Workload], schedule: Schedule, model: ModelConfig
) -> tuple[Workload, Schedule]:
    """The run with another base."""
    return of(model), schedule


# ---------------------------------------------------------------- models and hardware


def base_model(name: str) -> ModelConfig:
    """The sizes of a model: of a folder, of Hugging Face's config.json, or of a known name.

    Args:
        name: A path, or a name.

    Returns:
        The architecture.

    Raises:
        ModelFolderError: `minigpt import` would refuse the configuration too, by the same sentence.
        ConfigError: There is no such path, and no such name.
    """
    from ..interop.huggingface.read_config import read_config
    from ..planning.bases import base_of
    from ..storage.json_files import read_object
    from ..storage.model_folder import read_description

    path = Path(name)
    if not path.exists():
        return base_of(name)
    file = path / CONFIG_NAME if path.is_dir() else path
    values = read_object(file) if file.is_file() else read_description(path)
    if "format_version" in values:
        return from_dict(ModelConfig, values.get("model"), str(file))
    return read_config(values, file).config


def _model(arguments: argparse.Namespace, config: PlanConfig) -> Shown:
    from .plan_lines import model_data, model_lines

    model, machine = base_model(arguments.base), _machine(config)
    use = UseConfig(**given_options(arguments, UseConfig))
    data = model_data(arguments.base, model, machine, config, use)
    return data, model_lines(data, terminal_width(sys.stdout))


def _hardware(arguments: argparse.Namespace, config: PlanConfig) -> Shown:
    from .plan_hardware import hardware_data, hardware_lines

    use = UseConfig(**given_options(arguments, UseConfig))
    if arguments.tokens is not None and not 1 <= arguments.tokens < 1e18:
        raise ConfigError(f"tokens={arguments.tokens}: must be at least 1, and below 1e18")
    data = hardware_data(config, use, arguments.tokens)
    return data, hardware_lines(data, terminal_width(sys.stdout))
