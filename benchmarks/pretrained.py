r"""A real pretrained model from a GGUF file beside the outputs that transformers gives for it.

    python benchmarks/pretrained.py --gguf SmolLM2-135M-Instruct.Q4_1.gguf \
        [--assets ../shared/assets]

The outputs are those of smollm2-135m-golden.json, which transformers made from the same file.
Prints time and peak memory of the import, and for Keras and the engine (float32, int8) how far the
logits after each prompt are from the golden ones, how many greedy tokens are the same, and the mean
loss of the first 1,024 tokens of two texts.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.folder import ModelFolder, load_folder
from minigpt_tf.text.chat_template import message

TEXTS = {"the-verdict": "the-verdict.txt", "tinyshakespeare-head": "tinyshakespeare.txt"}
QUESTION = "What is the capital of France?"
ROOT = Path(__file__).parents[1]

Logits = Callable[[list[int]], np.ndarray]
"""ids (T,) -> logits (T, V)"""
Greedy = Callable[[list[int], int], list[int]]
"""A prompt's ids and a number of tokens -> so many new ids"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--assets", type=Path, default=ROOT.parent / "shared" / "assets")
    parser.add_argument("--import-to", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.import_to:
        import_model(arguments.gguf, arguments.import_to)
        return
    golden = json.loads((arguments.assets / "smollm2-135m-golden.json").read_text())
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "model"
        words = [sys.executable, __file__, "--gguf", str(arguments.gguf), "--import-to", str(out)]
        subprocess.run(words, check=True)
        folder = load_folder(out)
        texts = {name: (arguments.assets / file).read_text() for name, file in TEXTS.items()}
        check_tokenizer(folder, golden, texts)
        report("golden", golden)
        for name, run in (("Keras float32", keras_model), ("engine float32", engine)):
            compare(name, *run(folder), folder, golden, texts)
        compare("engine int8", *engine(folder, "int8"), folder, golden, texts)


def import_model(file: Path, out: Path) -> None:
    """Imports in a process of its own, so that its memory can be told."""
    from minigpt_tf.interop.gguf.read_gguf import open_gguf
    from minigpt_tf.interop.source import write_model_folder

    began = time.perf_counter()
    source = open_gguf(file)
    opened = time.perf_counter() - began
    write_model_folder(source, out)
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    size = (out / "model.h5").stat().st_size
    seconds = time.perf_counter() - began
    print(f"import: {seconds:.1f} s, of which {opened:.1f} s until the file is understood")
    print(f"peak memory {peak / 1e6:.0f} MB for a model.h5 of {size / 1e6:.0f} MB")


def check_tokenizer(folder: ModelFolder, golden: dict, texts: dict[str, str]) -> None:
    """Prints whether prompts and texts have the golden ids."""
    pairs = [(case["prompt"], case["ids"]) for case in golden["cases"]]
    pairs += [(texts[name], golden["mean_nll"][name]["first_ids"]) for name in texts]
    same = sum(folder.tokenizer.encode(text)[: len(ids)].tolist() == ids for text, ids in pairs)
    print(f"ids of the tokenizer: {same} of {len(pairs)} prompts and texts as golden\n")


def keras_model(folder: ModelFolder) -> tuple[Logits, Greedy]:
    """The Keras model; it computes every token anew."""
    import keras

    import minigpt_tf.model  # noqa: F401  its layers

    model = keras.models.load_model(folder.path / "model.h5")

    def logits(ids: list[int]) -> np.ndarray:
        return np.asarray(model(np.array([ids])))[0]

    def greedy(ids: list[int], count: int) -> list[int]:
        ids, start = list(ids), len(ids)
        while len(ids) < start + count:
            ids.append(int(logits(ids)[-1].argmax()))
        return ids[start:]

    return logits, greedy


def engine(folder: ModelFolder, quantize: str = "none") -> tuple[Logits, Greedy]:
    """The engine, with its cache."""
    runner, _ = Engine.load(folder, quantize)

    def greedy(ids: list[int], count: int) -> list[int]:
        new = [int(runner.prefill(ids).argmax())]
        while len(new) < count:
            new.append(int(runner.decode_step(new[-1]).argmax()))
        return new

    return runner.all_logits, greedy


def compare(
    name: str, logits: Logits, greedy: Greedy, folder: ModelFolder, golden: dict, texts: dict
) -> None:
    """Prints one way to run the model beside the golden outputs."""
    print(f"\n{name}")
    for case in golden["cases"]:
        found = logits(case["ids"])[-1]
        top = np.argsort(-found)[:5]
        wanted_ids, wanted = zip(*case["top5"], strict=True)
        distance = max(
            np.abs(found[list(wanted_ids)] - wanted).max(),
            np.abs(found[:8] - case["logits_first8"]).max(),
        )
        new = greedy(case["ids"], len(case["greedy_ids"]))
        same = next(
            (
                i
                for i, pair in enumerate(zip(new, case["greedy_ids"], strict=True))
                if len({*pair}) > 1
            ),
            len(new),
        )
        tops = "same" if top.tolist() == list(wanted_ids) else "other"
        print(
            f"  {case['prompt'][-40:]!r:<46} top 5 {tops}, "
            f"logits within {distance:.4f}, mean {found.mean():.4f} ({case['logits_mean']:.4f}), "
            f"spread {found.std():.4f} ({case['logits_std']:.4f}), greedy {same} of {len(new)} same"
        )
    print(f"  {QUESTION} {answer(greedy, folder)}")
    report(
        "  mean loss", golden, {name: loss(logits, folder, text) for name, text in texts.items()}
    )


def answer(greedy: Greedy, folder: ModelFolder, count: int = 16) -> str:
    """The answer to QUESTION by the chat template, without sampling."""
    messages = [message("user", QUESTION)]
    text = folder.chat_template.render(messages, add_generation_prompt=True)
    ids = greedy(folder.tokenizer.encode(text).tolist(), count)
    ends = [i for i, token in enumerate(ids) if token in folder.tokenizer.end_ids]
    return folder.tokenizer.decode(ids[: ends[0]] if ends else ids)


def loss(logits: Logits, folder: ModelFolder, text: str, count: int = 1024) -> float:
    """Mean loss of the first tokens of a text, each after all before it."""
    ids = folder.tokenizer.encode(text)[:count]
    scores = logits(ids.tolist())[:-1].astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    chosen = scores[np.arange(len(ids) - 1), ids[1:]]
    return float((np.log(np.exp(scores).sum(axis=-1)) - chosen).mean())


def report(title: str, golden: dict, losses: dict[str, float] | None = None) -> None:
    """Prints the mean losses."""
    wanted = {name: golden["mean_nll"][name]["nll"] for name in TEXTS}
    losses = losses or wanted
    shown = ", ".join(
        f"{name} {losses[name]:.4f} ({losses[name] - wanted[name]:+.5f})" for name in wanted
    )
    print(f"{title}: {shown}")


if __name__ == "__main__":
    main()
