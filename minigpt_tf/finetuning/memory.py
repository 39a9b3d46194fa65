"""How much memory a fine-tuning run takes at its peak, from the sizes alone, and what would fit."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..config import LoraConfig, ModelConfig, TrainingConfig
from ..inference.lora_targets import kernel_sides
from ..machine import check_fits_memory, memory_size
from ..training.memory import MOST_LOGITS, block_bytes
from .method import FLOAT32_BYTES, Method

PROCESS_BYTES, LAYER_BYTES = 850 * 2**20, 5 * 2**20
"""TensorFlow with Keras; a block's layers and their nodes in the compiled steps."""

LOGITS_AT_ONCE = 4 * MOST_LOGITS
"""Logits that a model computes at once, at most: most targets of a batch of records do not count,
and those are left out before."""

SAVED_STATE, SAVED_MODEL = 16, 8
"""Bytes of copies while files are written: for each weight that is trained, of it, of the
optimizer's two averages and of the weights of the last evaluation; for each weight of the model,
of those that are read back to be compared."""


@dataclass(frozen=True)
class Run:
    """What decides how much memory a run takes."""

    model: ModelConfig
    method: Method
    lora: LoraConfig
    training: TrainingConfig
    length: int
    """Tokens of the longest row, with its padding."""
    targets: int
    """Tokens of a row that count, at most."""

    @property
    def rows(self) -> int:
        """Rows that are in memory at once."""
        records = self.training.batch_size // self.training.accumulate
        return self.method.rows_per_record * records


class Alternative(NamedTuple):
    """Settings that need less memory."""

    options: str
    bytes: float
    other_method: bool


def run_bytes(run: Run) -> float:
    """Estimates the bytes that the process of a run takes at its peak.

    Weights, gradients and averages; what the layers keep of the rows for the gradients; logits; the
    copies that are made for files, on top of all that, since TensorFlow keeps what it has ever
    taken. bfloat16 is counted only where it is asked for. Measured to be within a fifth of the
    peaks of whole runs, full, lora and qlora, of two models of 109 and 135 million parameters; not
    measured: dpo, whole runs in bfloat16, and rows of more than 256 tokens.
    """
    model, method = run.model, run.method
    trained = method.trained_parameters(model, run.lora)
    size = 2 if run.training.dtype == "mixed_bfloat16" else 4
    kernels = model.num_layers * sum(a * b for a, b in kernel_sides(model).values())
    base = FLOAT32_BYTES * (model.parameter_count - kernels)
    base_kernels = method.bytes_of_kernel_weight(size) * kernels
    if method.trains == "all":  # the base's weights are those that are trained
        weights = base + base_kernels + 12 * trained
        weights += 2 * kernels if size == 2 else 0  # kept as bfloat16 for the gradients
    else:
        weights = base + base_kernels + 16 * trained
    block = block_bytes(model, run.length, size)
    if method.trains == "last_block":
        kept = block
    elif run.training.remat:
        kept = size * model.embed_dim * model.num_layers + block
    else:
        kept = block * model.num_layers
    logits = run.rows * run.targets * model.vocab_size
    if method.logits_in_chunks:
        logits = min(logits, max(LOGITS_AT_ONCE, model.vocab_size))
    copies = max(SAVED_MODEL * model.parameter_count, SAVED_STATE * trained)
    activations = kept * run.rows * run.length + (8 + 2 * size) * logits
    process = PROCESS_BYTES + LAYER_BYTES * model.num_layers
    return process + weights + activations + copies


def alternatives(run: Run) -> Iterator[Alternative]:
    """Settings that need less memory and train on the same records, the mildest first: those of the
    same method, then other methods."""
    training = run.training
    size = training.batch_size
    lower = [n for n in range(1, math.isqrt(size) + 1) if size % n == 0]
    divisors = sorted({*lower, *(size // n for n in lower)})
    divisors = [n for n in divisors if n > training.accumulate]
    for remat in sorted({training.remat, True}):
        for n in [training.accumulate, *divisors]:
            tried = replace(training, accumulate=n, remat=remat)
            if tried != training:
                needed = run_bytes(replace(run, training=tried))
                yield Alternative(_differences(training, tried), needed, other_method=False)
    smallest = replace(training, accumulate=training.batch_size, remat=True)
    for options, method in run.method.lighter():
        for tried in (training, smallest):
            needed = run_bytes(replace(run, method=method, training=tried))
            words = f"{options} {_differences(training, tried)}".strip()
            yield Alternative(words, needed, other_method=True)


def _differences(before: TrainingConfig, after: TrainingConfig) -> str:
    """The options that lead from one configuration to the other."""
    words = []
    if after.remat and not before.remat:
        words.append("--remat")
    if after.accumulate != before.accumulate:
        words.append(f"--accumulate {after.accumulate}")
    return " ".join(words)


def check_run_fits(run: Run) -> None:
    """Raises ConfigError, with settings that would fit, if a run takes more than all memory."""
    rows = "row" if run.rows == 1 else "rows"
    name = run.method.tuning.method
    what = f"--method {name} with {run.rows} {rows} of {run.length} tokens at once"
    check_fits_memory(run_bytes(run), what, _advice(run, memory_size() or 0))


def out_of_memory(run: Run) -> str:
    """The message for a run that should have fitted and did not, as other programs need memory too:
    one line, with settings that need a fifth less."""
    needed = run_bytes(run)
    advice = _advice(run, 0.8 * needed)
    return f"out of memory: the run needs about {needed / 2**30:.1f} GiB: {advice}"


def _advice(run: Run, room: float) -> str:
    """The mildest settings that need no more than `room` bytes, of the same method and of another;
    if there are none, what else can be done."""
    fitting: dict[bool, str] = {}
    for options, needed, other_method in alternatives(run):
        if needed <= room:
            fitting.setdefault(other_method, f"{options} (needs {needed / 2**30:.1f} GiB)")
    if fitting:
        return f"{' or '.join(fitting.values())} would fit"
    return "choose a smaller base, or shorter rows with --max-length"
