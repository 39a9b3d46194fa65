"""Every family of `minigpt import` against transformers and llama.cpp, one row each.

    python -m benchmarks.families [--gguf GEMMA.gguf]

Random tiny checkpoints of transformers' own classes, three seeds each: largest difference of a
logit in Keras and in the engine, 100 greedy tokens, the same bits after
export and import again in both formats, llama.cpp's largest difference and greedy tokens. A real
file besides gets the engine's tokens per second and memory.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import keras
import llama_cpp
import numpy as np
import torch

import minigpt_tf as mg
from minigpt_tf.errors import ConfigError
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.inference.weights import read_weights
from tests.interop.family_checkpoints import CASES, GREEDY, LONG, from_transformers, long_fields
from tests.interop.folders import LlamaCpp, engine_greedy

SEEDS, PROMPT = 3, 5


def row(case: str, folder: Path) -> str:
    """The figures of a case, as a line of a table."""
    keras_off = engine_off = llama_off = 0.0
    greedy, llama_greedy, round_trips = [], [], {"hf": True, "gguf": True}
    for seed in range(SEEDS):
        here = folder / str(seed)
        model = from_transformers(case, here / "hf", seed, **long_fields(case))
        out = mg.import_model(here / "hf", here / "out")
        contents = load_folder(out)
        engine, _ = Engine.load(contents)
        ids = np.random.default_rng(seed).integers(0, 300, LONG)
        with torch.no_grad():
            wanted = model(torch.tensor(ids)[None]).logits[0].numpy()
        loaded = keras.models.load_model(out / "model.h5", compile=False)
        of_keras = keras.ops.convert_to_numpy(loaded(ids[None], training=False))[0]
        keras_off = max(keras_off, float(np.abs(of_keras - wanted).max()))
        engine_off = max(engine_off, float(np.abs(engine.all_logits(ids) - wanted).max()))
        start = ids[:PROMPT].tolist()
        model.generation_config.eos_token_id = None
        mask = torch.ones((1, PROMPT), dtype=torch.int64)
        options = {"do_sample": False, "max_new_tokens": GREEDY, "attention_mask": mask}
        theirs = model.generate(torch.tensor([start]), **options)[0, PROMPT:].tolist()
        greedy.append(engine_greedy(engine, start, GREEDY) == theirs)
        for file_format in ("hf", "gguf"):
            name = here / ("again.gguf" if file_format == "gguf" else "again")
            try:
                exported = mg.export_model(out, name, file_format).path
            except ConfigError:
                round_trips[file_format] = None
                continue
            again = mg.import_model(exported, here / f"{file_format}-out")
            round_trips[file_format] &= same_bits(out, again)
            if file_format == "gguf":
                llama = LlamaCpp(exported)
                found = llama.logits(ids.tolist())[:, : engine.config.vocab_size]
                llama_off = max(llama_off, float(np.abs(found - engine.all_logits(ids)).max()))
                llama_greedy.append(llama.greedy(start, GREEDY) == theirs)
    kept = "/".join({True: "yes", False: "NO", None: "-"}[x] for x in round_trips.values())
    text = f"| {case} | {keras_off:.1e} | {engine_off:.1e} | {sum(greedy)} of {SEEDS} | {kept} "
    if not llama_greedy:
        return text + "| - | - |"
    return text + f"| {llama_off:.1e} | {sum(llama_greedy)} of {SEEDS} |"


def same_bits(folder: Path, other: Path) -> bool:
    """Whether two model folders have the same configuration and weights."""
    ours, theirs = load_folder(folder), load_folder(other)
    weights = [read_weights(f.path / "model.h5", f.model) for f in (ours, theirs)]
    pairs = zip(weights[0].values(), weights[1].values(), strict=True)
    return ours.model == theirs.model and all(a.tobytes() == b.tobytes() for a, b in pairs)


def real_file(file: Path, folder: Path) -> None:
    """Greedy tokens of a real GGUF in llama.cpp as float32, and the engine's speed and memory."""
    out = mg.import_model(file, folder / "real", context_length=2048)
    engine, _ = Engine.load(load_folder(out))
    start = load_folder(out).tokenizer.encode("Once upon a time there was a").tolist()
    engine.prefill(start)
    begun = time.perf_counter()
    tokens = engine_greedy(engine, start, 100)
    speed = 100 / (time.perf_counter() - begun)
    exported = mg.export_model(out, folder / "real.gguf", "gguf").path
    llama = llama_cpp.Llama(str(exported), n_ctx=256, logits_all=True, verbose=False)
    llama.eval(start)
    theirs = []
    while len(theirs) < 100:
        theirs.append(int(llama.scores[llama.n_tokens - 1].argmax()))
        llama.eval(theirs[-1:])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    equal = sum(a == b for a, b in zip(tokens, theirs, strict=True))
    print(f"{file.name}: {equal} of 100 greedy tokens are llama.cpp's on the float32 export; ")
    print(f"{speed:.1f} tokens/s, {memory:.2f} GiB at the peak, llama.cpp's copy included")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gguf", type=Path, help="a real file besides")
    parser.add_argument("--only", help="cases whose names begin so")
    arguments = parser.parse_args()
    print("| family | Keras | engine | greedy | bits hf/gguf | llama.cpp | its greedy |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for case in CASES:
            if case.startswith(arguments.only or ""):
                print(row(case, Path(scratch) / case), flush=True)
        if arguments.gguf is not None:
            real_file(arguments.gguf, Path(scratch))


if __name__ == "__main__":
    main()
