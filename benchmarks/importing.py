"""Memory and time of `minigpt import`, and the round trip through every format.

    MINIGPT_ASSETS=assets python benchmarks/importing.py

Makes GPT-2 124M with random weights as a folder for transformers, imports it, exports the model
folder in each format that can come back, imports that again, and prints for each import the most
memory that the whole command had, TensorFlow included, beside the size of the model in float32, and
whether the weights have the same bits. Needs GPT-2's tokenizer and 4 GB of disk.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from minigpt_tf.config import MODEL_NAME
from minigpt_tf.config.presets import model_preset
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.inference.weights import open_weights, weight_shapes
from minigpt_tf.interop.families import family_of
from minigpt_tf.interop.tensors import entries, to_tensor
from minigpt_tf.text.tokenizers import BytePairTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--num-layers", type=int, default=12)
    config = model_preset("gpt2", num_layers=parser.parse_args().num_layers)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_source(folder / "source", config)
        size = 4 * config.parameter_count
        print(f"{config.parameter_count:,} parameters, {size / 1e6:.0f} MB in float32\n")
        print(f"{'source':<24}{'s':>6}{'peak MB':>9}{'of size':>9}  weights")
        show(folder, "source", "first", size, None)
        for name, words in (
            ("hf f32", ["--format", "hf"]),
            ("gguf f32", ["--format", "gguf"]),
            ("gguf q8_0", ["--format", "gguf", "--dtype", "q8_0"]),
        ):
            out = name.replace(" ", "-") + (".gguf" if "gguf" in name else "")
            run(["export", "--model", str(folder / "first"), "--out", str(folder / out), *words])
            show(folder, out, f"again-{out}", size, folder / "first")


def make_source(folder: Path, config) -> None:
    """A folder as transformers writes it, with random weights."""
    folder.mkdir()
    random = np.random.default_rng(0)
    weights = {
        name: random.normal(scale=0.02, size=shape).astype(np.float32)
        for name, shape in weight_shapes(config).items()
    }
    table = family_of(config).huggingface
    tensors = {e.name: to_tensor(e, weights.__getitem__, config) for e in entries(table, config)}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    fields = {
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_embd": config.embed_dim,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.norm_epsilon,
        "bos_token_id": 50256,
        "eos_token_id": 50256,
    }
    (folder / "config.json").write_text(json.dumps(fields))
    (folder / "tokenizer.json").write_bytes(BytePairTokenizer.gpt2().to_bytes())


def show(folder: Path, source: str, out: str, size: int, before: Path | None) -> None:
    """Imports, and prints what it took."""
    words = ["import", str(folder / source), "--out", str(folder / out)]
    seconds, peak = run(words)
    same = "" if before is None else compare(before, folder / out)
    print(f"{source:<24}{seconds:>6.1f}{peak / 1e6:>9.0f}{peak / size:>9.2f}  {same}", flush=True)


def run(words: list[str]) -> tuple[float, int]:
    """One command: seconds, and the most resident memory in bytes."""
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "minigpt_tf", *words], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"minigpt {' '.join(words)} failed")
    return time.perf_counter() - began, usage.ru_maxrss * 1024


def compare(one: Path, other: Path) -> str:
    """Whether two model folders have the same weights."""
    folders = [load_folder(path) for path in (one, other)]
    files = [folder.path / MODEL_NAME for folder in folders]
    with (
        open_weights(files[0], folders[0].model) as first,
        open_weights(files[1], folders[1].model) as second,
    ):
        most = max(float(np.abs(first[n][()] - second[n][()]).max()) for n in first)
    return "the same bits" if most == 0 else f"within {most:.1e}"


if __name__ == "__main__":
    main()
