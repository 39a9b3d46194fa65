"""What `minigpt plan hardware` shows: the course's table, its formula, and published runs."""

from collections.abc import Iterator
from typing import Any

from ..config import ModelConfig
from ..config.planning import PlanConfig, UseConfig
from ..console import table_lines
from ..errors import ConfigError
from ..machine import shown_size
from ..planning.bases import BASES
from ..planning.hardware import METHODS, UTILIZATION, GpuMethod, gpu_run
from ..planning.machines import AS_OF, GPUS, SHEETS, Sheet
from ..planning.published import RUNS
from ..planning.serving import gpu_server, sizing

TUNING_TOKENS, TOKENS_PER_PARAMETER, ROW_LENGTH = 10e6, 20, 2048
"""Of the table: tokens of a fine-tuning; of a pretraining for each parameter (Hoffmann et al.,
2022); of a row."""

SIZES = {
    "1B": "Llama-3.2-1B",
    "3B": "Llama-3.2-3B",
    "8B": "Llama-3.1-8B",
    "13B": "Llama-2-13B",
    "32B": "Qwen2.5-32B",
    "70B": "Llama-3.1-70B",
}
"""Of the table -> the model whose sizes are taken."""


def hardware_data(
    config: PlanConfig, use: UseConfig, tokens: float | None = None
) -> dict[str, Any]:
    """The table of sizes and methods as plain data.

    Args:
        config: The GPU, H100 unless another is named; and its price.
        use: How much the models answer.
        tokens: Of each run (unset: what is usual).

    Returns:
        Rows, and what the formula makes of published runs.

    Raises:
        ConfigError: The machine is not a GPU.
    """
    name = "h100" if config.machine == "here" else config.machine
    if name not in GPUS:
        raise ConfigError(f"machine={name}: the table is of GPUs: choose {', '.join(GPUS)}")
    sheet = SHEETS[name]
    rows: list[dict[str, Any]] = []
    for size, base in SIZES.items():
        model, names = BASES[base], {"size": size, "model": base}
        for method in METHODS:
            rows.append(names | _training(model, method, sheet, tokens))
        rows.append(names | _answers(model, sheet, use))
    for row in rows:
        if config.price_per_hour is not None and "gpu_hours" in row:
            row["price"] = row["gpu_hours"] * config.price_per_hour
    found = {"machine": name, "estimated": True, "as_of": AS_OF}
    return found | {"rows": rows, "published": _published()}


def _training(
    model: ModelConfig, method: GpuMethod, sheet: Sheet, tokens: float | None
) -> dict[str, Any]:
    """A row of the table: a run."""
    usual = TUNING_TOKENS
    if method == "pretraining":
        usual = TOKENS_PER_PARAMETER * model.parameter_count
    chosen = usual if tokens is None else tokens
    return {"what": method, "tokens": chosen} | vars(
        gpu_run(model, method, sheet, chosen, ROW_LENGTH)
    )


def _answers(model: ModelConfig, sheet: Sheet, use: UseConfig) -> dict[str, Any]:
    """A row of the table: a model in use."""
    needed = sizing(model, gpu_server(sheet), use)
    if needed is None:
        return {"what": "answers"}
    return {
        "what": "answers",
        "memory": 2 * model.parameter_count,
        "gpus": needed.machines,
        "gpu_hours": needed.machines * use.hours_per_day,
        "together": needed.together,
        "answers_per_second": needed.answers_per_second,
    }


def _published() -> list[dict[str, Any]]:
    """What the formula makes of runs whose makers said what they took."""
    return [
        {
            "run": run.name,
            "flops": run.flops,
            "stated": run.stated,
            "unit": f"{run.gpu.upper()} hours" if run.gpu else "operations",
            "by_formula": run.by_formula,
            "utilization": run.utilization,
            "source": run.source,
        }
        for run in RUNS
    ]


def hardware_lines(data: dict[str, Any], width: int) -> Iterator[str]:
    """The table for people.

    Args:
        data: Of `hardware_data`.
        width: Columns.

    Yields:
        Lines.
    """
    yield f"{SHEETS[data['machine']].title}, estimated from its data sheet of {data['as_of']}"
    priced = any("price" in row for row in data["rows"])
    rows = []
    for row in data["rows"]:
        tokens = _count(row["tokens"]) if "tokens" in row else "each day"
        memory = shown_size(row["memory"]) if "memory" in row else "-"
        numbers = [f"{row[name]:,.4g}" if name in row else "-" for name in ("gpus", "gpu_hours")]
        price = [f"{row['price']:,.2f}" if "price" in row else "-"] if priced else []
        rows.append((row["size"], row["what"], tokens, memory, *numbers, *price))
    header = ["size", "what", "tokens", "memory", "GPUs", "GPU hours", *["price"] * priced]
    yield from table_lines(rows, width=width, header=header, left=2)
    yield ""
    yield from FORMULA
    yield ""
    published = [
        (
            run["run"],
            f"{run['stated']:,.4g} {run['unit']}",
            f"{run['by_formula']:,.4g}",
            f"{run['by_formula'] / run['stated']:.2f}",
        )
        for run in data["published"]
    ]
    header = ["published run", "stated", "by the formula", "ratio"]
    yield from table_lines(published, width=width, header=header, left=2)


def _count(number: float) -> str:
    """10M, 24.7B, 1.41T"""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:,.0f}"


FORMULA = (
    "operations  (6 N + 12 L T E) D in full, (4 N + 12 L T E) D with frozen weights, 2 N D more",
    "            for DPO's reference; N weights in products, L layers of width E, T tokens of a",
    "            row, D tokens of the run",
    f"GPU hours   operations / ({UTILIZATION} of the promised bfloat16 operations a second)",
    "memory      16 N bytes in full; 2 N with LoRA, 0.53 N with QLoRA; 16 for each weight of an",
    "            adapter; and what the layers keep of 8 rows, computed again for their gradients",
    "answers     2 N bytes, read once for each token of all answers under way, at 0.7 of the",
    "            promised bandwidth; or 2 N operations for each of them, whichever takes longer",
)
