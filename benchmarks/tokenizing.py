"""Tokenizing a long text: memory from file to ids on disk, and speed beside tiktoken.

    python benchmarks/tokenizing.py --data enwik8.txt [--vocab-size 8000] [--runs 5]

First, in a process of its own and with an empty cache, the text is read, a byte-level BPE is
learned from it and the text is encoded: prints the time of each stage and the most memory that the
process had. Again, with what is kept in the cache, and for the first megabyte of the text alone.
Then a model is trained for a few steps on both: prints the most memory of its own that the process
had, without the pages of the mapped ids, which the system takes back when it needs them.

Then the same vocabulary encodes the same pieces on the same cores, tiktoken with its threads and
this package, in turns, so that a change of the machine's speed meets both alike; prints medians,
and the median of the pairs' ratios. "From the file" is a new process that reads, checks, hashes,
encodes and writes all that training needs; "first run" is all of such a process, its imports too,
where it finds no compiled code.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from minigpt_tf.config import END_OF_TEXT, DataConfig
from minigpt_tf.files.documents import read_documents
from minigpt_tf.machine import usable_cores
from minigpt_tf.text.chunks import rechunk
from minigpt_tf.text.compiled.byte_level import byte_symbols
from minigpt_tf.text.corpus import ENCODED_AT_ONCE, build_corpus, learn_tokenizer
from minigpt_tf.text.tokenizers import BytePairTokenizer, load_tokenizer

DATA = DataConfig(tokenizer="bpe")
SHORT_NAME = "first-megabyte.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="a text file of 100 MB or so")
    parser.add_argument("--vocab-size", type=int, default=8000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tokenizer", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--stages", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stages:
        print(json.dumps(run_stages(arguments.data, arguments.vocab_size, arguments.tokenizer)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        report_stages(arguments, Path(scratch))
        report_training(arguments, Path(scratch))
        report_speed(arguments, Path(scratch))


def run_stages(data: Path, vocab_size: int, tokenizer_file: Path | None) -> dict[str, float]:
    """Seconds of each stage and the most memory in MB; of this process, which has no children."""
    documents = timed(read_documents, data)
    if tokenizer_file is None:
        tokenizer = timed(learn_tokenizer, documents[1], "bpe", vocab_size)
    else:
        tokenizer = timed(load_tokenizer, tokenizer_file)
    corpus = timed(build_corpus, documents[1], tokenizer[1], DATA)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    seconds = {"read": documents[0], "learn": tokenizer[0], "encode": corpus[0]}
    return {**seconds, "memory": int(peak[1]) / 1000, "tokens": int(corpus[1].counts.sum())}


def timed(function, *arguments) -> tuple[float, object]:
    began = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - began, result


def stages(data: Path, vocab_size: int, tokenizer: Path | None = None, **environment: str) -> dict:
    """`run_stages` in a process of its own, whose whole time counts."""
    words = [sys.executable, __file__, "--stages", "--data", str(data)]
    words += ["--vocab-size", str(vocab_size)]
    words += ["--tokenizer", str(tokenizer)] if tokenizer else []
    began = time.perf_counter()
    done = subprocess.run(
        words, env={**os.environ, **environment}, check=True, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    found["all"] = time.perf_counter() - began
    return found


def report_stages(arguments: argparse.Namespace, scratch: Path) -> None:
    short = scratch / SHORT_NAME
    with open(arguments.data, "rb") as file:
        short.write_bytes(file.read(1_000_000).decode(errors="ignore").encode())
    cache = str(scratch / "cache")
    print(f"{'text':<22}{'read s':>8}{'learn s':>9}{'encode s':>10}{'all s':>8}{'memory MB':>11}")
    for name, data in [
        ("all", arguments.data),
        ("all, from the cache", arguments.data),
        ("its first MB", short),
    ]:
        found = stages(data, arguments.vocab_size, XDG_CACHE_HOME=cache)
        print(
            f"{name:<22}{found['read']:>8.2f}{found['learn']:>9.2f}{found['encode']:>10.2f}", end=""
        )
        print(f"{found['all']:>8.2f}{found['memory']:>11.0f}")


def report_training(arguments: argparse.Namespace, scratch: Path) -> None:
    """The ids come from the cache that `report_stages` has filled."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(scratch / "cache")}
    print(f"\n{'training on':<22}{'own MB':>8}{'all MB':>8}")
    for name, data in [("all", arguments.data), ("its first MB", scratch / SHORT_NAME)]:
        words = [sys.executable, "-m", "minigpt_tf", "train", "--preset", "modern", "--steps", "40"]
        words += ["--vocab-size", str(arguments.vocab_size), "--out", str(scratch / "model")]
        words += ["--data", str(data), "--overwrite"]
        most = {"RssAnon": 0, "VmHWM": 0}
        with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                status = Path(f"/proc/{process.pid}/status").read_text()
                for field in most:
                    found = re.search(rf"{field}:\s+(\d+) kB", status)  # none once it has ended
                    most[field] = max(most[field], int(found[1]) if found else 0)
                time.sleep(0.05)
        if process.returncode:
            raise SystemExit(process.returncode)
        print(f"{name:<22}{most['RssAnon'] / 1000:>8.0f}{most['VmHWM'] / 1000:>8.0f}")


def report_speed(arguments: argparse.Namespace, scratch: Path) -> None:
    os.environ["XDG_CACHE_HOME"] = str(scratch / "cache")
    documents = read_documents(arguments.data)
    tokenizer = learn_tokenizer(documents, "bpe", arguments.vocab_size)
    (scratch / "tokenizer.json").write_bytes(tokenizer.to_bytes())
    peer, cores = tiktoken_encoding(tokenizer), usable_cores()
    (document,) = documents.documents
    pieces = list(rechunk(document.chunks(), ENCODED_AT_ONCE, tokenizer.cut_before))
    megabytes = arguments.data.stat().st_size / 1e6

    def theirs() -> list[list[int]]:
        return peer.encode_ordinary_batch(pieces, num_threads=cores)

    def ours() -> list[np.ndarray]:
        with ThreadPoolExecutor(cores) as team:
            return list(team.map(tokenizer.chunk_encoder(document.characters), pieces))

    same = [np.array_equal(a, b) for a, b in zip(theirs(), ours(), strict=True)]
    print(f"\n{cores} cores, {len(pieces)} pieces, {sum(same)} with tiktoken's very ids")
    ways = {"tiktoken": theirs, "pieces in memory": ours}
    times: dict[str, list[float]] = {name: [] for name in [*ways, "from the file", "first run"]}
    for run in range(arguments.runs):
        for name, way in ways.items():
            times[name].append(timed(way)[0])
        for name in ("from the file", "first run"):
            with tempfile.TemporaryDirectory() as empty:
                places = {"XDG_CACHE_HOME": empty}
                if name == "first run":
                    places["NUMBA_CACHE_DIR"] = empty
                found = stages(arguments.data, 0, scratch / "tokenizer.json", **places)
            times[name].append(
                found["all"] if name == "first run" else found["read"] + found["encode"]
            )
        print(f"\rround {run + 1} of {arguments.runs}", end="", file=sys.stderr)
    print(file=sys.stderr)
    print(f"{'':<22}{'median s':>10}{'min':>8}{'max':>8}{'MB/s':>8}{'ratio':>8}", end="")
    print(f"   ({arguments.runs} runs, {megabytes:.0f} MB)")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        pairs = zip(times["tiktoken"], seconds, strict=True)
        ratio = statistics.median(theirs / ours for theirs, ours in pairs)
        print(f"{name:<22}{median:>10.2f}{min(seconds):>8.2f}{max(seconds):>8.2f}", end="")
        print(f"{megabytes / median:>8.1f}{ratio:>8.2f}")


def tiktoken_encoding(tokenizer: BytePairTokenizer):
    """tiktoken's encoding with the vocabulary of a byte-level tokenizer."""
    import tiktoken
    from tiktoken_ext.openai_public import r50k_pat_str

    byte_of = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
    vocabulary = tokenizer.backend.get_vocab()
    special = {END_OF_TEXT: vocabulary.pop(END_OF_TEXT)}
    ranks = {bytes(map(byte_of.__getitem__, token)): rank for token, rank in vocabulary.items()}
    return tiktoken.Encoding(
        "learned", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens=special
    )


if __name__ == "__main__":
    main()
