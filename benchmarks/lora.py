"""Seconds and memory of a LoRA step, beside transformers and peft on the same job, in one run.

    pip install -r benchmarks/requirements.txt
    python benchmarks/lora.py --base models/smollm2 [--rounds 5]

The job: the base's weights, rank 8 on all attention projections, the batches of 8 of the HR
records, AdamW, clipping. Every peer is a process of its own that is started once and then takes a
few steps whenever it is its turn, so that a change of the machine's speed meets all alike. Prints
the loss of the first batch, which shows that all do the same; medians of the seconds of a step; the
ratio to peft in the same precision (median of the rounds' ratios); the most memory that the process
had; and how long it was until the second step could begin, compilation included.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from training import Turns

from minigpt_tf.config import FineTuningConfig, RecordsConfig
from minigpt_tf.config.presets import fine_tuning_preset
from minigpt_tf.finetuning.plan import FineTuningPlan
from minigpt_tf.finetuning.preparation import make_finetuning_plan

RECORDS = Path(__file__).parents[1] / "data" / "departments" / "hr.jsonl"
RIVALS = {
    "ours lora mixed_bfloat16": "peft bfloat16",
    "ours lora float32": "peft float32",
    "ours qlora-8 mixed_bfloat16": "peft bfloat16",
    "ours qlora-4 mixed_bfloat16": "peft bfloat16",
}
STEPS = 3
"""Steps in a turn."""

Step = Callable[[int], float]
"""Takes the step of a number, returns its loss."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trainer", help=argparse.SUPPRESS)
    parser.add_argument("--exported", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.trainer:
        serve(arguments.trainer, arguments.base, arguments.exported)
        return
    with tempfile.TemporaryDirectory() as scratch:
        exported = f"{scratch}/base"
        words = ["export", "--model", arguments.base, "--format", "hf", "--out", exported]
        subprocess.run(
            [sys.executable, "-m", "minigpt_tf", *words], check=True, stdout=subprocess.DEVNULL
        )
        compare(arguments.base, exported, arguments.rounds)


def compare(base: Path, exported: str, rounds: int) -> None:
    """Measures and prints."""
    words = [sys.executable, __file__, "--base", str(base), "--exported", exported]
    names = (*RIVALS, *dict.fromkeys(RIVALS.values()))
    trainers, first = {}, {}
    for name in names:
        trainers[name] = Turns([*words, "--trainer", name])
        first[name] = trainers[name].turn()
    results = {name: [] for name in names}
    for _ in range(rounds):
        for name, trainer in trainers.items():
            results[name].append(trainer.turn())
    for trainer in trainers.values():
        trainer.close()
    print(
        f"{'':<30}{'loss':>8}{'s/step':>8}{'min':>7}{'max':>7}{'to peft':>9}{'GB':>7}{'start':>8}"
    )
    seconds = {name: [turn["seconds"] for turn in turns] for name, turns in results.items()}
    for name in names:
        times, ratio = seconds[name], ""
        if name in RIVALS:
            pairs = zip(times, seconds[RIVALS[name]], strict=True)
            ratio = f"{statistics.median(ours / peer for ours, peer in pairs):.2f}"
        row = f"{name:<30}{first[name]['loss']:>8.4f}{statistics.median(times):>8.2f}"
        row += f"{min(times):>7.2f}{max(times):>7.2f}{ratio:>9}{results[name][-1]['memory']:>7.2f}"
        print(f"{row}{first[name]['start']:>6.0f} s", flush=True)


def serve(name: str, base: Path, exported: str) -> None:
    """In a process of its own: for each line of input, the median seconds of a few steps."""
    program, *settings = name.split()
    began = time.perf_counter()
    step = ours(base, *settings) if program == "ours" else peft(plan_of(base), exported, *settings)
    loss, taken = None, 0
    for _ in sys.stdin:
        if loss is None:
            loss, taken, start = step(0), 1, time.perf_counter() - began
        times = []
        for _ in range(STEPS):
            before = time.perf_counter()
            step(taken)
            taken += 1
            times.append(time.perf_counter() - before)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        result = {"seconds": statistics.median(times), "memory": memory}
        print(json.dumps(result | {"loss": loss, "start": start}), flush=True)


def plan_of(
    base: Path, method: str = "lora", bits: str = "8", dtype: str = "auto"
) -> FineTuningPlan:
    """The job."""
    tuning = FineTuningConfig(method=method, base_bits=bits)
    training = fine_tuning_preset(method, dtype=dtype)
    return make_finetuning_plan(base, RECORDS, tuning, RecordsConfig(), training)


def ours(base: Path, method: str, dtype: str) -> Step:
    from minigpt_tf.finetuning.supervised import SupervisedJob
    from minigpt_tf.training.step import TrainingStep

    method, _, bits = method.partition("-")
    plan = plan_of(base, method, bits or "8", dtype)
    with tempfile.TemporaryDirectory() as scratch:
        job = SupervisedJob(plan, Path(scratch), dtype)
    clip_norm = plan.training.clip_norm
    step = TrainingStep(job.model, job.optimizer, clip_norm=clip_norm, signature=job.signature)
    return lambda number: step(*job.batch(number), step=number).loss


def peft(plan: FineTuningPlan, exported: str, dtype: str) -> Step:
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(2)
    model = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32)
    names = ["q_proj", "k_proj", "v_proj", "o_proj"]
    lora = plan.lora
    model = peft.get_peft_model(
        model,
        peft.LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=0.0, target_modules=names),
    )
    model.train()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=plan.training.learning_rate)
    batches = plan.batches(plan.dataset.train)

    def step(number: int) -> float:
        x, y, mask = (torch.from_numpy(array) for array in batches.batch(number))
        targets = torch.where(mask > 0, y, -100).long()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = model(input_ids=x.long()).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, plan.training.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


if __name__ == "__main__":
    main()
