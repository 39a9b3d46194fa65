"""Answers from records: the departments' questions, with and without an answer in the records.

    python benchmarks/retrieval.py [--model models/smollm2]
    python benchmarks/retrieval.py --model models/smollm2 --tune 3

For each of data/departments: for how many of its 20 questions the best entry contains the fact; how
many of 20 general questions, and of each 20 of the other departments', are refused; and with
--model how many answers contain the fact. --tune: the same of the model after an epoch on prompts
with the department's records, for so many seeds.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from minigpt_tf.config import EngineConfig
from minigpt_tf.config.presets import asking_preset
from minigpt_tf.evaluation.questions.comparison import choose_models, compare
from minigpt_tf.evaluation.questions.facts import contains_fact
from minigpt_tf.evaluation.questions.queries import Queries, read_queries
from minigpt_tf.machine import processor_name
from minigpt_tf.retrieval.library import Library

RECORDS = Path(__file__).parents[1] / "data" / "departments"
DEPARTMENTS = ("hr", "finance", "healthcare", "marketing", "sales")
GENERAL = (
    "What is the capital of France?",
    "Who won the world cup in 2018?",
    "How do I bake bread?",
    "What is the boiling point of water?",
    "Tell me a joke",
    "Who wrote Hamlet?",
    "How far is the moon?",
    "What is the weather tomorrow?",
    "Can you write a poem about spring?",
    "What is the square root of 144?",
    "Which planet is the largest?",
    "How do I reset my router?",
    "What is photosynthesis?",
    "When did the Second World War end?",
    "Translate hello into Spanish",
    "What is the best phone to buy?",
    "How many people live in Japan?",
    "Where can I buy cheap shoes?",
    "What does the law say about speeding?",
    "Who is the president of the United States?",
)


def tuned(base: Path, name: str, seed: int, epochs: int, out: Path) -> Path:
    """The base after training on a department's questions, behind the entries that they find. The
    records of finance are preferences."""
    records = RECORDS / f"{name}.jsonl"
    words = ["--base", base, "--data", records, "--records", records, "--epochs", epochs]
    words += ["--method", "dpo" if name == "finance" else "lora"]
    words += ["--seed", seed, "--out", out, "--overwrite"]
    command = [sys.executable, "-m", "minigpt_tf", "finetune", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out


def answered(model: Path, queries: Queries, library: Library, quantize: str) -> int:
    """How many answers of a model contain the fact."""
    models = choose_models([model], with_bases=False)
    engine = EngineConfig(quantize=quantize)
    return compare(models, queries, asking_preset(), engine, library=library).facts_right(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, help="a model folder that is asked")
    parser.add_argument("--quantize", default="none", choices=("none", "int8", "int4"))
    parser.add_argument("--tune", type=int, default=0, metavar="SEEDS", help="tune it first")
    parser.add_argument("--epochs", type=int, default=1, help="of --tune (1)")
    parser.add_argument("--only", nargs="+", default=DEPARTMENTS, choices=DEPARTMENTS)
    arguments = parser.parse_args()
    if arguments.tune and not arguments.model:
        parser.error("--tune needs --model: the base")
    print(processor_name())
    queries = {name: read_queries(RECORDS / f"{name}.questions.jsonl") for name in DEPARTMENTS}
    asked = {
        name: [f"{query.question} {query.input}" for query in found.queries]
        for name, found in queries.items()
    }
    for name in arguments.only:
        library = Library([RECORDS / f"{name}.jsonl"])
        found = [library.find(question) for question in asked[name]]
        facts = [query.fact or "" for query in queries[name].queries]
        best = sum(
            bool(entries) and contains_fact(entries[0].entry.text, fact)
            for entries, fact in zip(found, facts, strict=True)
        )
        refused = {
            other: sum(not library.find(question) for question in questions)
            for other, questions in {"general": GENERAL, **asked}.items()
            if other != name
        }
        line = (
            f"{name}: best entry has the fact for {best} of {len(facts)}; refused of 20: {refused}"
        )
        if arguments.model and not arguments.tune:
            right = answered(arguments.model, queries[name], library, arguments.quantize)
            line += f"; answers with the fact: {right}"
        if arguments.tune:
            rights: list[int] = []
            for seed in range(arguments.tune):
                with tempfile.TemporaryDirectory() as scratch:
                    model = tuned(
                        arguments.model, name, seed, arguments.epochs, Path(scratch) / name
                    )
                    rights.append(answered(model, queries[name], library, arguments.quantize))
            line += f"; tuned, answers with the fact: {rights}, median {statistics.median(rights)}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
