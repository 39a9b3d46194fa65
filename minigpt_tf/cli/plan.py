"""The verb `plan`: what a run takes, before it is started."""

import argparse
import json
from collections.abc import Iterator
from typing import Any

from ..config.planning import PlanConfig
from ..console import as_duration, table_lines
from ..machine import shown_size
from ..planning.machines import Machine, machine_of
from ..planning.prediction import Prediction, predict
from ..planning.workload import Schedule, Workload
from .options import cli_options, given_options

DESCRIPTION = (
    "Show what a run takes, before it is started: memory, time, disk, energy and money, on this "
    "machine or another."
)

Line = tuple[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The kinds of plans, each with the options of the verb that it plans.

    Args:
        parser: The verb's; options are added to it.
    """
    from . import finetune, train

    kinds = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for name, verb, help in (
        ("train", train, "a run of minigpt train, with its options"),
        ("finetune", finetune, "a run of minigpt finetune, with its options"),
    ):
        own = kinds.add_parser(name, help=help, description=help)
        verb.add_arguments(own)
        _add_limits(own)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    """The options of every kind of plan."""
    group = parser.add_argument_group("plan")
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
    workload, schedule = _planned(arguments)
    machine = machine_of(config.machine)
    prediction = predict(workload, schedule, speed=machine.speed, experience=machine.experience)
    if arguments.json:
        print(json.dumps(_as_json(prediction, machine, config), ensure_ascii=False))
        return 0
    lines = [*_lines(prediction, machine, config)]
    print("\n".join(table_lines(lines, width=100, left=2)))
    return 0


def _planned(arguments: argparse.Namespace) -> tuple[Workload, Schedule]:
    """What the planned verb would run."""
    if arguments.what == "train":
        from .train import plan_of

        text_plan = plan_of(arguments)
        return text_plan.workload, text_plan.schedule
    from ..finetuning.schedule import schedule_of
    from .finetune import plan_of as tuning_plan_of

    plan = tuning_plan_of(arguments)
    return plan.workload, schedule_of(plan)


def _as_json(prediction: Prediction, machine: Machine, config: PlanConfig) -> dict[str, Any]:
    """The plan as plain data."""
    found = prediction.as_json() | {"machine": machine.name, "estimated": machine.estimated}
    watts = config.watts or machine.watts
    if watts is not None:
        found["kilowatt_hours"] = watts * prediction.seconds / 3.6e6
    if config.price_per_hour is not None:
        found["price"] = config.price_per_hour * prediction.seconds / 3600
    return found


def _lines(prediction: Prediction, machine: Machine, config: PlanConfig) -> Iterator[Line]:
    """The plan for people."""
    found, memory, time = _as_json(prediction, machine, config), prediction.memory, prediction.time
    limit = "" if machine.memory is None else f" of {shown_size(machine.memory)}"
    yield "machine", f"{machine.title}{', estimated' if machine.estimated else ''}"
    takers = ", ".join(f"{n} {shown_size(v)}" for n, v in vars(memory).items() if v >= 2**20)
    yield "memory", f"{shown_size(prediction.bytes)}{limit} ({takers})"
    takers = ", ".join(f"{n} {as_duration(v)}" for n, v in vars(time).items() if v >= 1)
    yield "time", f"{as_duration(prediction.seconds)} ({takers})"
    yield "disk", shown_size(prediction.disk)
    if "kilowatt_hours" in found:
        yield "energy", f"{found['kilowatt_hours']:.3g} kWh"
    if "price" in found:
        yield "price", f"{found['price']:,.2f}"
    runs = prediction.factors.runs
    if runs:
        yield "learned", f"from {runs} runs on this machine"
