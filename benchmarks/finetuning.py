"""Fine-tuning SmolLM2-135M-Instruct on this machine's CPU: does it learn what it is shown?

    python benchmarks/finetuning.py departments --base models/smollm2 [--only hr sales]
    MINIGPT_ASSETS=assets python benchmarks/finetuning.py course --base models/smollm2
    MINIGPT_ASSETS=assets python benchmarks/finetuning.py spam --base models/smollm2

departments: each of data/departments by one method; the loss of the validation part before and
after, and in how many answers to 20 questions, which no record asks in these words, the fact
stands. For preferences also how many of the 20 held-out pairs the model ranks as people do, and by
how much it is more perplexed by what its base writes, and by a book (with MINIGPT_ASSETS).

course: the course's 1,100 instructions, and the same with preferences.

spam: the balanced SMS collection; SmolLM2's last block and head, and all weights of a model of
GPT-2's shape that starts at random.

Everything is run as a user runs it; the models stay in --out for `minigpt chat`.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from minigpt_tf.config import (
    CONFIG_NAME,
    LORA_TARGETS,
    MODEL_NAME,
    RecordsConfig,
    SamplingConfig,
)
from minigpt_tf.config.presets import model_preset
from minigpt_tf.evaluation.questions.answers import answer_all
from minigpt_tf.evaluation.scoring import score
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.folder import ModelFolder, describe_model, load_folder, write_tokenizer
from minigpt_tf.inference.weights import weights_of
from minigpt_tf.metrics import negative_log_likelihood
from minigpt_tf.records.prompts import Template
from minigpt_tf.records.reading import read_records
from minigpt_tf.records.rendering import render
from minigpt_tf.records.schema import KINDS, InstructionRecord
from minigpt_tf.records.truncation import Row
from minigpt_tf.storage.json_files import write_json
from minigpt_tf.text.tokenizers import BytePairTokenizer

RECORDS = Path(__file__).parents[1] / "data" / "departments"


@dataclass(frozen=True)
class Run:
    """A department's method, and the share of facts that it is to answer rightly."""

    method: str
    goal: float
    options: Sequence[str] = ()


EVERY_KERNEL = tuple(word for name in LORA_TARGETS for word in ("--targets", name))
LOW_RANK = ("--rank", "16", "--alpha", "32", "--learning-rate", "1e-3", *EVERY_KERNEL)
DEPARTMENTS = {
    "hr": Run("full", 0.7, ("--epochs", "4")),
    "healthcare": Run("lora", 0.7, ("--epochs", "4", *LOW_RANK)),
    "sales": Run("lora", 0.7, ("--epochs", "4", *LOW_RANK)),
    "marketing": Run("qlora", 0.6, ("--epochs", "4", *LOW_RANK)),
    "finance": Run("dpo", 0.0),
}
MOST_MINUTES = 25
LEAST_ACCURACY = 0.9
MOST_PERPLEXITY = 1.1

COURSE = ("--eval-every", "39", "--val-split", "0.05", "--test-split", "0.1", "--seed", "123")
"""The course's 935 records to train on, 55 to validate and 110 to test."""
COURSE_OPTIONS = {
    "full": ("--epochs", "2", "--learning-rate", "5e-5", "--weight-decay", "0.1"),
    "dpo": ("--epochs", "1"),
}

SPAM = ("--quoting", "always", "--balance", "--val-split", "0.1", "--test-split", "0.2")
SPAM += ("--seed", "123")
SPAM_OPTIONS = {"last": (), "all": ("--weight-decay", "0.1")}
"""The course's settings for all layers; the rest is the method's own."""
SPAM_GOALS = {"last": 0.96, "all": 0.9367}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("departments", "course", "spam"))
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="where the models land (unset: thrown away)")
    parser.add_argument("--only", nargs="*", help="some of the departments, or parts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = arguments.out or Path(scratch)
        globals()[arguments.what](arguments.base, out, arguments.only)


def departments(base: Path, out: Path, only: Sequence[str] | None) -> None:
    """Every department by its method."""
    for name in only or DEPARTMENTS:
        run = DEPARTMENTS[name]
        folder = out / name
        minutes = finetune(base, RECORDS / f"{name}.jsonl", folder, run.method, *run.options)
        before, after = facts(folder, RECORDS / f"{name}.questions.jsonl")
        losses = metrics(folder)
        print(f"{name}: {run.method}, {minutes:.1f} minutes (goal at most {MOST_MINUTES})")
        print(f"    validation loss {losses['before']['loss']:.3f} -> {losses['val_loss']:.3f}")
        goal = f" (goal {run.goal:.0%})" if run.goal else ""
        print(f"    facts right {before} -> {after} of 20{goal}", flush=True)
        if run.method == "dpo":
            preferences_of(base, folder, RECORDS / f"{name}.questions.jsonl")


def preferences_of(base: Path, tuned: Path, pairs: Path) -> None:
    """How a model of preferences ranks held-out pairs, and what it has forgotten."""
    records = read_records(pairs, RecordsConfig(), KINDS).records
    folders = [load_folder(path) for path in (base, tuned)]
    folder, template = folders[0], Template.of(folders[0])
    base_engine, engine = map(engine_of, folders)
    rows = [render(record, template, 512, RecordsConfig()) for record in records]
    rewards = [
        [np.sum(target_losses(base_engine, row) - target_losses(engine, row)) for row in pair]
        for pair in rows
    ]
    right = np.mean([chosen > rejected for chosen, rejected in rewards])
    print(f"    held-out pairs ranked rightly {right:.0%} (goal {LEAST_ACCURACY:.0%})")
    before, after = perplexities([base_engine, engine], template, folder)
    for name in before:
        print(
            f"    perplexity of {name} {before[name]:.2f} -> {after[name]:.2f}, times "
            f"{after[name] / before[name]:.3f} (goal below {MOST_PERPLEXITY})",
            flush=True,
        )


def engine_of(folder: ModelFolder) -> Engine:
    """With a context that takes less memory than the model's own."""
    return Engine.load(replace(folder, model=replace(folder.model, context_length=1024)))[0]


def perplexities(
    engines: Sequence[Engine], template: Template, base: ModelFolder
) -> list[dict[str, float]]:
    """Of each engine, for texts that the first one writes to questions of other departments, a
    sample of its own probabilities, and for a book."""
    others = [name for name in DEPARTMENTS if name != "finance"]
    questions = [q for name in others for q in questions_of(name)[:8]]
    sampling = SamplingConfig(temperature=1.0, top_k=0, top_p=1.0, seed=1, max_new_tokens=60)
    answers = answer_all(engines[0], template, base.start_ids, questions, sampling)
    records = [
        InstructionRecord(row, instruction=question, input="", output=answer)
        for row, (question, answer) in enumerate(zip(questions, answers, strict=True))
        if answer
    ]
    rows = [render(record, template, 512, RecordsConfig())[0] for record in records]
    found = [
        {"base text": float(np.exp(np.mean(np.concatenate([target_losses(e, r) for r in rows]))))}
        for e in engines
    ]
    if assets := os.environ.get("MINIGPT_ASSETS"):
        text = (Path(assets) / "the-verdict.txt").read_text(encoding="utf-8")
        ids = base.tokenizer.encode(text)[:2048]
        for engine, texts in zip(engines, found, strict=True):
            texts["a book"] = score(engine, ids, context_length=1024).perplexity
    return found


def questions_of(department: str) -> list[str]:
    lines = (RECORDS / f"{department}.questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["question"] for line in lines]


def target_losses(engine: Engine, row: Row) -> np.ndarray:
    """Losses in nats of the targets of a row that count."""
    counted = row.mask[1:]
    logits = engine.all_logits(row.ids[:-1])[counted]
    return negative_log_likelihood(logits, row.ids[1:][counted])


def course(base: Path, out: Path, only: Sequence[str] | None) -> None:
    """The course's instructions, all weights trained, and its preferences."""
    assets = Path(os.environ["MINIGPT_ASSETS"])
    files = {"instruction-data": "full", "instruction-data-with-preference": "dpo"}
    for name, method in files.items():
        if only and method not in only:
            continue
        folder = out / name
        options = (*COURSE, *COURSE_OPTIONS[method])
        minutes = finetune(base, assets / f"{name}.json", folder, method, *options)
        print(f"{name}: {method}, {minutes:.1f} minutes")
        found = metrics(folder)
        print(f"    before: {shown(found['before'])}")
        for row in history(folder):
            print(f"    epoch {float(row.pop('epoch')):.2f}: {shown(row)}")
        print(f"    test part: {shown(found['test'])}", flush=True)


def spam(base: Path, out: Path, only: Sequence[str] | None) -> None:
    """The SMS collection, by the head and the last block, and by all weights from random ones."""
    records = Path(os.environ["MINIGPT_ASSETS"]) / "sms.tsv"
    shape = out / "gpt2-random"
    for layers, start in {"last": base, "all": shape}.items():
        if only and layers not in only:
            continue
        if layers == "all":
            write_random_gpt2(shape)
        folder = out / f"spam-{layers}"
        options = (*SPAM, "--classify-layers", layers, *SPAM_OPTIONS[layers])
        minutes = finetune(start, records, folder, "classify", *options)
        print(f"{layers} layers of {start.name}: {minutes:.1f} minutes")
        accuracy = metrics(folder)["parts"]["test"]["accuracy"]
        print(f"    test accuracy {accuracy:.2%} (goal {SPAM_GOALS[layers]:.2%})", flush=True)


def write_random_gpt2(folder: Path) -> None:
    """A model folder of GPT-2 124M's shape and tokenizer, with the weights it starts from."""
    from minigpt_tf.model import build_gpt_model
    from minigpt_tf.model.keras_file import write_keras_file

    config, tokenizer = model_preset("gpt2", dropout=0.0), BytePairTokenizer.gpt2()
    weights = weights_of(build_gpt_model(config, seed=123))
    folder.mkdir(parents=True)
    write_keras_file(folder / MODEL_NAME, config, weights.__getitem__)
    write_json(folder / CONFIG_NAME, describe_model(config, tokenizer, sorted(tokenizer.end_ids)))
    write_tokenizer(folder, tokenizer)


def finetune(base: Path, records: Path, out: Path, method: str, *options: str) -> float:
    """Runs the command; returns the minutes it took."""
    words = ["finetune", "--base", base, "--data", records, "--out", out, "--overwrite"]
    began = time.perf_counter()
    run([*words, "--method", method, *options])
    return (time.perf_counter() - began) / 60


def facts(tuned: Path, questions: Path) -> list[int]:
    """In how many answers the fact stands: of the base, and of the tuned model."""
    answers = json.loads(run(["ask", "--models", tuned, "--queries", questions, "--json"]))
    return [model["facts_right"] for model in answers["models"]]


def run(words: Sequence[str | Path]) -> str:
    """Standard output of a `minigpt` command; what it reports on the way is not shown."""
    command = [sys.executable, "-m", "minigpt_tf", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr}")
    return done.stdout


def metrics(folder: Path) -> dict[str, float]:
    return load_folder(folder).description["metrics"]


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def shown(values: dict[str, float | str]) -> str:
    hidden = {"step", "seconds", "learning_rate", "tokens_per_second", "best"}
    there = {name: value for name, value in values.items() if name not in hidden and value != ""}
    return ", ".join(f"{name} {float(value):.4g}" for name, value in there.items())


if __name__ == "__main__":
    main()
