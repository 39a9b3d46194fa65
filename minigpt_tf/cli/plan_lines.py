"""What `minigpt plan` shows: plans as plain data, and as lines for people."""

from collections.abc import Iterator
from typing import Any

from ..config import ModelConfig
from ..config.planning import PlanConfig, UseConfig
from ..console import as_duration, table_lines
from ..machine import shown_size
from ..planning.decoding import Storage, decoding_of
from ..planning.machines import GPUS, SHEETS, Machine
from ..planning.prediction import Prediction
from ..planning.serving import engine_server, gpu_server, sizing

STORAGES: tuple[Storage, ...] = ("float32", "int8", "int4")


def run_data(prediction: Prediction, machine: Machine, config: PlanConfig) -> dict[str, Any]:
    """A run as plain data.

    Args:
        prediction: What it takes.
        machine: Where.
        config: Price and power.

    Returns:
        Bytes, seconds, kWh and money.
    """
    found = {"machine": machine.name, "estimated": machine.estimated} | prediction.as_json()
    watts = config.watts or machine.watts
    if watts is not None:
        found["kilowatt_hours"] = watts * prediction.seconds / 3.6e6
    if config.price_per_hour is not None:
        found["price"] = config.price_per_hour * prediction.seconds / 3600
    return found


def run_lines(data: dict[str, Any], machine: Machine) -> Iterator[str]:
    """A run for people.

    Args:
        data: Of `run_data`.
        machine: Where it runs.

    Yields:
        Lines.
    """
    limit = "" if machine.memory is None else f" of {shown_size(machine.memory)}"
    takers = {name: shown_size(value) for name, value in data["memory_by_use"].items() if value}
    times = {n: as_duration(value) for n, value in data["seconds_by_use"].items() if value >= 1}
    rows = [
        ("machine", machine.title + ", estimated from its data sheet" * machine.estimated),
        ("memory", f"{shown_size(data['memory'])}{limit}: {_listed(takers)}"),
        ("time", f"{as_duration(data['seconds'])}: {_listed(times)}"),
        ("disk", shown_size(data["disk"])),
    ]
    if "kilowatt_hours" in data:
        rows.append(("energy", f"{data['kilowatt_hours']:.3g} kWh"))
    if "price" in data:
        rows.append(("price", f"{data['price']:,.2f}"))
    if data["learned_from_runs"]:
        rows.append(("learned", f"from {data['learned_from_runs']} runs on this machine"))
    for name, found in data.get("fits", {}).items():
        if isinstance(found, dict):
            rows += [("largest base", f"{o}: {b or 'none'}") for o, b in found.items()]
        elif name == "as it is":
            rows.append(("fits", "yes" if found else "no"))
        else:
            rows.append(("at most", f"{name} {found:,}" if found else f"no {name} fits"))
    yield from table_lines(rows, width=100, left=2)


def _listed(takers: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in takers.items())


# ---------------------------------------------------------------- a model in use


def model_data(
    name: str, model: ModelConfig, machine: Machine, config: PlanConfig, use: UseConfig
) -> dict[str, Any]:
    """A model in use as plain data.

    Args:
        name: Of the model.
        model: Its sizes.
        machine: Where it answers.
        config: Price and power.
        use: How much it answers.

    Returns:
        What an answer takes by each storage of the weights, and the machines for all answers.
    """
    found: dict[str, Any] = {
        "model": name,
        "parameters": model.parameter_count,
        "machine": machine.name,
        "estimated": machine.estimated,
        "decoding": {
            storage: vars(
                decoding_of(
                    model,
                    machine.speed,
                    storage=storage,
                    prompt=use.prompt_tokens,
                    answer=use.answer_tokens,
                )
            )
            for storage in STORAGES
        },
    }
    is_gpu = machine.name in GPUS
    server = gpu_server(SHEETS[machine.name]) if is_gpu else engine_server(machine)
    if is_gpu:
        del found["decoding"]  # the engine runs on processors
    needed = sizing(model, server, use)
    found["sizing"] = None
    if needed is not None:
        hours = use.hours_per_day * needed.machines
        found["sizing"] = vars(needed) | {
            "machines": needed.machines,
            "tokens_per_second": needed.answers_per_second * use.answer_tokens,
            "machine_hours_per_day": hours,
        }
        if config.price_per_hour is not None:
            found["sizing"]["price_per_day"] = hours * config.price_per_hour
        if watts := config.watts or machine.watts:
            found["sizing"]["kilowatt_hours_per_day"] = hours * watts / 1000
    return found


def model_lines(data: dict[str, Any], width: int) -> Iterator[str]:
    """A model in use for people.

    Args:
        data: Of `model_data`.
        width: Columns.

    Yields:
        Lines.
    """
    estimated = ", estimated" * data["estimated"]
    yield f"{data['model']}: {data['parameters']:,} parameters, on {data['machine']}{estimated}"
    rows = [
        (
            storage,
            shown_size(found["memory"]),
            f"{found['tokens_per_second']:,.1f}",
            f"{found['prompt_seconds']:,.2f}",
            f"{found['answer_seconds']:,.1f}",
        )
        for storage, found in data.get("decoding", {}).items()
    ]
    header = ("weights", "memory", "tokens/s", "first token (s)", "answer (s)")
    if rows:
        yield from table_lines(rows, width=width, header=header)
    needed = data["sizing"]
    if needed is None:
        yield "so many answers: no number of these machines is fast enough, or has the memory"
        return
    yield (
        f"so many answers: {needed['machines']} machines ({needed['copies']} copies of the model "
        f"on {needed['per_copy']} each), {needed['together']} answers at once in "
        f"{needed['answer_seconds']:.1f} s, at most {needed['answers_per_second']:.3g} a second "
        f"of a copy"
    )
    if "price_per_day" in needed:
        yield f"price: {needed['price_per_day']:,.2f} a day"
    if "kilowatt_hours_per_day" in needed:
        yield f"energy: {needed['kilowatt_hours_per_day']:.3g} kWh a day"
