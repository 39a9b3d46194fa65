"""The default run on the sample text: its time, its loss, what it remembers, what it answers.

    python benchmarks/recall.py                            trains first, into a folder of its own
    python benchmarks/recall.py --model models/ramanujan   measures a model that exists

Prints the wall time of the whole training command, the training loss, the recall (greedy
continuation by 20 tokens of 50 random 8-token passages of the training part) and the answers.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from minigpt_tf.config import DataConfig, SamplingConfig
from minigpt_tf.config.settings import from_dict
from minigpt_tf.evaluation.recall import recall
from minigpt_tf.files.documents import read_documents
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.inference.generate import TextGenerator
from minigpt_tf.text.corpus import build_corpus

ROOT = Path(__file__).parents[1]
QUESTIONS = ["who is Srinivasa Ramanujan", "who is Hardy", "who is Janaki"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, help="a model folder (unset: train one)")
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "ramanujan.txt")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random passages")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.model or train(arguments.data, Path(scratch) / "model")
        measure(folder, arguments.data, arguments.seed)


def train(data: Path, out: Path) -> Path:
    command = [sys.executable, str(ROOT / "train.py"), "--data", str(data), "--out", str(out)]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print(f"training, whole command  {time.perf_counter() - began:.0f} s")
    return out


def measure(folder: Path, data: Path, seed: int) -> None:
    contents = load_folder(folder)
    metrics = contents.description["metrics"]
    settings = contents.description["data"]
    fields = {name: settings[name] for name in DataConfig.__dataclass_fields__ if name in settings}
    config = from_dict(DataConfig, fields, str(folder))
    corpus = build_corpus(read_documents(data, config.encoding), contents.tokenizer, config)
    if corpus.fingerprint != settings["fingerprint"]:
        raise SystemExit(f"{folder} was not trained on {data}")
    generator = TextGenerator.load(folder)
    share = recall(generator.engine, corpus.train_ids, seed=seed)
    print(f"training loss            {metrics['loss']:.4f} after {metrics['steps']} steps")
    print(f"recall                   {share:.1%} of 50 x 20 tokens")
    for question in QUESTIONS:
        for sampling in (SamplingConfig(greedy=True), *(SamplingConfig(seed=s) for s in (1, 2, 3))):
            how = "greedy" if sampling.greedy else f"T=0.8, seed {sampling.seed}"
            print(f"{question} ({how}):{generator.generate(question, sampling).text[:150]}")


if __name__ == "__main__":
    main()
