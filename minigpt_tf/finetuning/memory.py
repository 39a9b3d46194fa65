"""How much memory a fine-tuning run takes at its peak, from the sizes alone, and what would fit."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..config import LORA_TARGETS, FineTuningConfig, LoraConfig, ModelConfig, TrainingConfig
from ..inference.weights import weight_shapes
from ..machine import check_fits_memory, memory_size
from ..training.memory import MOST_LOGITS, block_bytes

PROCESS_BYTES, LAYER_BYTES = 850 * 2**20, 5 * 2**20
"""TensorFlow with Keras; a block's layers and their part of the compiled steps."""

LOGITS_AT_ONCE = 4 * MOST_LOGITS
"""Of the targets that count, at most: `models.PIECES` has the pieces."""

BYTES_OF_A_WEIGHT = {"8": 1.0, "4": 0.5 + 5 / 64}
"""Of a quantised kernel, scales and zeros of int4 among them."""

SAVED_STATE, SAVED_MODEL = 16, 8
"""Bytes of copies while files are written: for each weight that is trained, of it, of the
optimizer's two averages and of the weights of the last evaluation; for each weight of the model,
of those that are read back to be compared."""


@dataclass(frozen=True)
class Run:
    """What decides how much memory a run takes."""

    model: ModelConfig
    tuning: FineTuningConfig
    lora: LoraConfig
    training: TrainingConfig
    length: int
    """Tokens of the longest row, padding among them."""
    targets: int
    """Tokens of a row that count, at most."""

    @property
    def rows(self) -> int:
        """Rows that are in memory at once."""
        answers = 2 if self.tuning.method == "dpo" else 1
        return answers * self.training.batch_size // self.training.accumulate


def trained_parameters(run: Run) -> int:
    """Parameters that have gradients."""
    if run.tuning.way in ("full", "classify all"):
        return run.model.parameter_count
    if run.tuning.way == "classify":
        return sum(a * b for a, b in kernel_sides(run.model).values())
    sides = (sides for name, sides in kernel_sides(run.model).items() if name in run.lora.targets)
    return run.model.num_layers * run.lora.rank * sum(map(sum, sides))


def kernel_sides(model: ModelConfig) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of the kernels of a block that LoRA can change, by the names of targets."""
    D, F, H = model.embed_dim, model.ff_dim, model.head_dim
    keys = model.num_kv_heads * H
    sides = {"query": (D, model.num_heads * H), "key": (D, keys), "value": (D, keys)}
    sides |= {"attention_output": (model.num_heads * H, D), "feed_forward_gate": (D, F)}
    sides |= {"feed_forward_up": (D, F), "feed_forward_down": (F, D)}
    there = {name.split("/")[-2] for name in weight_shapes(replace(model, num_layers=1))}
    return {name: sides[name] for name in LORA_TARGETS if name in there}


def run_bytes(run: Run) -> float:
    """Bytes that a run takes at its peak, about.

    Weights, gradients and averages; what the layers keep of the rows for the gradients; logits; the
    copies that are made for files, on top of all that, since TensorFlow keeps what it has ever
    taken. bfloat16 is counted only where it is asked for. Measured to be within a fifth of the
    peaks of whole runs, full, lora and qlora, of two models of 109 and 135 million parameters; not
    measured: dpo, whole runs in bfloat16, and rows of more than 256 tokens.
    """
    model, trained = run.model, trained_parameters(run)
    size = 2 if run.training.dtype == "mixed_bfloat16" else 4
    full, last = run.tuning.way in ("full", "classify all"), run.tuning.way == "classify"
    kernels = model.num_layers * sum(a * b for a, b in kernel_sides(model).values())
    base: float = 4 * model.parameter_count
    if run.tuning.method == "qlora":
        base -= (4 - BYTES_OF_A_WEIGHT[run.tuning.base_bits]) * kernels
    elif run.tuning.low_rank:
        base -= (4 - size) * kernels
    weights = base + (12 if full else 16) * trained
    weights += 2 * kernels if full and size == 2 else 0  # kept as bfloat16 for the gradients
    block = block_bytes(model, run.length, size)
    kept = size * model.embed_dim * model.num_layers + block
    kept = kept if run.training.remat else block * model.num_layers
    kept = block if last else kept
    logits = run.rows * run.targets * model.vocab_size
    if run.tuning.method != "dpo":  # whose answers need all of theirs together
        logits = min(logits, max(LOGITS_AT_ONCE, model.vocab_size))
    copies = max(SAVED_MODEL * model.parameter_count, SAVED_STATE * trained)
    activations = kept * run.rows * run.length + (8 + 2 * size) * logits
    process = PROCESS_BYTES + LAYER_BYTES * model.num_layers
    return process + weights + activations + copies


def alternatives(run: Run) -> Iterator[tuple[str, float]]:
    """(options, bytes) of settings that need less, the mildest first; each trains on the same
    records."""
    training = run.training
    size = training.batch_size
    lower = [n for n in range(1, math.isqrt(size) + 1) if size % n == 0]
    parts = sorted({*lower, *(size // n for n in lower)})
    parts = [n for n in parts if n > training.accumulate]
    for remat in sorted({training.remat, True}):
        for n in [training.accumulate, *parts]:
            changed = replace(run, training=replace(training, accumulate=n, remat=remat))
            words = ["--remat"] * (remat and not training.remat)
            words += [f"--accumulate {n}"] * (n != training.accumulate)
            if words:
                yield " ".join(words), run_bytes(changed)
    smallest = replace(training, accumulate=training.batch_size, remat=True)
    for method, tuning in _lighter_methods(run.tuning):
        for tried, more in ((training, ""), (smallest, _differences(training, smallest))):
            yield method + more, run_bytes(replace(run, tuning=tuning, training=tried))


def _lighter_methods(tuning: FineTuningConfig) -> Iterator[tuple[str, FineTuningConfig]]:
    """(options, settings) of methods for the same records that need less, the mildest first."""
    if tuning.way == "classify all":
        yield "--classify-layers last", replace(tuning, classify_layers="last")
    order = {"full": 0, "lora": 1, "qlora": 2}
    if tuning.method not in order:
        return
    before = (order[tuning.method], tuning.base_bits == "4")
    for method, bits in (("lora", "8"), ("qlora", "8"), ("qlora", "4")):
        if (order[method], bits == "4") > before:
            words = f"--method {method}" + " --base-bits 4" * (bits == "4")
            yield words, replace(tuning, method=method, base_bits=bits)


def _differences(before: TrainingConfig, after: TrainingConfig) -> str:
    more = f" --accumulate {after.accumulate}" * (after.accumulate != before.accumulate)
    return more + " --remat" * (after.remat and not before.remat)


def check_run_fits(run: Run) -> None:
    """Raises ConfigError, saying what would fit, where a run takes more than all memory."""
    rows = "row" if run.rows == 1 else "rows"
    what = f"--method {run.tuning.method} with {run.rows} {rows} of {run.length} tokens at once"
    check_fits_memory(run_bytes(run), what, _advice(run, memory_size() or 0))


def out_of_memory(run: Run) -> str:
    """What to say where a run that should have fitted did not: other programs need memory too."""
    needed = run_bytes(run)
    advice = _advice(run, 0.8 * needed)
    return f"out of memory: the run needs about {needed / 2**30:.1f} GiB: {advice}"


def _advice(run: Run, room: float) -> str:
    """The mildest settings that need no more than `room` bytes: of the same method, and of others.

    Where there are none, what else can be done."""
    fitting: dict[bool, str] = {}
    for words, needed in alternatives(run):
        if needed <= room:
            other = words.startswith(("--method", "--classify"))
            fitting.setdefault(other, f"{words} (needs {needed / 2**30:.1f} GiB)")
    if fitting:
        return f"{' or '.join(fitting.values())} would fit"
    return "choose a smaller base, or shorter rows with --max-length"
