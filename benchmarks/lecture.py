"""The lecture, cell by cell: what runs, how fast it trains, what it has learned, what files hold.

    python benchmarks/lecture.py                  all of it (about 25 minutes on 2 cores)
    python benchmarks/lecture.py cells            the fifteen cells, and today's answer to each
    python benchmarks/lecture.py speed            seconds an epoch, beside plain Keras and train.py
    python benchmarks/lecture.py learn [--epochs 10] [--no-start]
    python benchmarks/lecture.py files            save, load, continue: 20 configurations

`speed` takes turns in one process, step by step, so that a busy machine is busy for both; its ratio
is the median of the pairs. train.py's rate is that of a process of its own. Every figure is this
machine's: the first line names it.
"""

import argparse
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

import minigpt_tf as mg
from minigpt_tf import (
    PositionalEncoding,
    Tokenizer,
    build_gpt_model,
    create_dataset,
    transformer_block,
)
from minigpt_tf.config.presets import PRESETS
from minigpt_tf.machine import processor_name

TEXT = Path(__file__).parents[1] / "data" / "ramanujan.txt"
WINDOW, BATCH, LOSS = 100, 32, "sparse_categorical_crossentropy"
PEOPLE = ("who is Srinivasa Ramanujan", "who is Hardy", "who is Janaki")


def main() -> None:
    parts = {"cells": cells, "speed": speed, "learn": learn, "files": files}
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}")
    parser.add_argument("--rounds", type=int, default=25, help="steps of each in `speed`")
    parser.add_argument("--epochs", type=int, default=10, help="of `learn`")
    parser.add_argument("--no-start", action="store_true", help="`learn` without the bias's start")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(parts):
        parser.error(f"unknown part: {', '.join(sorted(unknown))}")
    print(f"{processor_name()}, Keras {keras.__version__}")
    for name in arguments.parts or parts:
        print(f"\n== {name}")
        parts[name](arguments)


def windows() -> tuple[Tokenizer, list[int], np.ndarray, np.ndarray]:
    """The lecture's tokenizer, its ids of the text, and windows x and y (N, 100)."""
    text = TEXT.read_text(encoding="utf-8")
    tokenizer = Tokenizer(num_words=5000, oov_token="<OOV>")
    tokenizer.fit_on_texts([text])
    sequence = tokenizer.texts_to_sequences([text])[0]
    return tokenizer, sequence, *create_dataset(sequence, WINDOW)


# The fifteen cells


def cells(arguments: argparse.Namespace) -> None:
    """Runs each cell as it is typed, on a small model where a cell trains, and shows its result."""
    tokenizer, sequence, x, y = windows()
    with tempfile.TemporaryDirectory() as scratch:
        for number, (code, result) in enumerate(typed(tokenizer, sequence, x, y, scratch), 1):
            print(f"{number:>2}  {code:<78} {result}", flush=True)


def typed(tokenizer, sequence, x, y, scratch: str) -> Iterator[tuple[str, str]]:
    """(what is typed, what it gives) of each cell."""
    path = f"{scratch}/tokenizer.pkl"
    yield 'text = open("data.txt").read()', f"{len(TEXT.read_text()):,} characters"
    yield (
        'Tokenizer(num_words=5000, oov_token="<OOV>"); fit_on_texts',
        f"{len(tokenizer.word_index)}",
    )
    yield "texts_to_sequences([text])[0]", f"{len(sequence)} ids"
    with open(path, "wb") as file:
        pickle.dump(tokenizer, file)
    with open(path, "rb") as file:
        same = pickle.load(file).word_index == tokenizer.word_index
    yield "pickle.dump(tokenizer); pickle.load", "the same words" if same else "OTHER WORDS"
    plain_x, _ = create_dataset(sequence)
    yield "create_dataset(sequence)", f"x {plain_x.shape}"
    yield "create_dataset(sequence, window_size=100)", f"x {x.shape}, y one step later"
    yield (
        "PositionalEncoding(100, 256)",
        str(PositionalEncoding(100, 256)(np.zeros((1, 9, 256))).shape),
    )
    block = transformer_block(256, 8, 1024, dropout=0.1)
    yield "transformer_block(256, 8, 1024, dropout=0.1)", f"{block.count_params():,} parameters"
    yield "build_gpt_model()", f"{build_gpt_model().count_params():,} parameters"
    model = build_gpt_model(5000, 100, 32, 2, 64, 2)
    model.compile(optimizer=keras.optimizers.Adam(), loss=LOSS, metrics=["accuracy"])
    yield f'compile(optimizer=Adam(), loss="{LOSS}", metrics=["accuracy"])', "compiled"
    checkpoint = keras.callbacks.ModelCheckpoint(f"{scratch}/best.h5")
    fit = {"batch_size": BATCH, "validation_split": 0.1, "verbose": 0, "callbacks": [checkpoint]}
    losses = model.fit(x, y, epochs=3, **fit).history["loss"]
    yield (
        'fit(x, y, batch_size=32, epochs=3, validation_split=0.1), ModelCheckpoint("best.h5")',
        f"loss {losses[0]:.2f} -> {losses[-1]:.2f} (width 32)",
    )
    model.save(f"{scratch}/gpt.h5")
    again = keras.models.load_model(f"{scratch}/gpt.h5")
    difference = np.abs(model.predict(x[:8], verbose=0) - again.predict(x[:8], verbose=0)).max()
    yield 'model.save("gpt.h5"); load_model("gpt.h5")', f"largest difference {difference}"
    table: list[str] = []
    model.summary(print_fn=lambda text, **_: table.append(text))
    yield "model.summary()", f"{chr(10).join(table).count('block_')} rows for 2 blocks"
    answer = lecture_loop(again, tokenizer, "who is hardy", 5, temperature=0.8)
    yield "the lecture's sampling loop", repr(answer)
    answer = mg.generate_text(model, tokenizer, "who is Hardy", temperature=0.8, max_new_tokens=5)
    yield 'mg.generate_text(model, tokenizer, "who is Hardy", temperature=0.8)', repr(answer)
    mine = mg.save_model_folder(model, tokenizer, f"{scratch}/mine")
    words = [sys.executable, "-m", "minigpt_tf", "generate", "who is Hardy", "--model", str(mine)]
    done = subprocess.run([*words, "--max-new-tokens", "5"], capture_output=True, text=True)
    yield 'mg.save_model_folder(...); minigpt generate "who is Hardy"', repr(done.stdout.strip())
    words = [sys.executable, "-m", "minigpt_tf", "import", f"{scratch}/gpt.h5"]
    words += ["--tokenizer", path, "--out", f"{scratch}/imported"]
    done = subprocess.run(words, capture_output=True, text=True)
    yield "minigpt import gpt.h5 --tokenizer tokenizer.pkl", f"exit {done.returncode}"
    logits = build_gpt_model(5000, 100, 32, 2, 64, 2, head="logits")
    try:
        logits.compile("adam", LOSS)
        refused = "COMPILED"
    except mg.ConfigError as error:
        refused = str(error)
    yield "compile of a model of logits with that loss", refused


def lecture_loop(model, tokenizer, prompt: str, count: int, temperature: float) -> str:
    """The lecture's own way to sample, on probabilities."""
    ids = tokenizer.texts_to_sequences([prompt])[0]
    for _ in range(count):
        p = model.predict(np.array([ids[-WINDOW:]]), verbose=0)[0, -1].astype(np.float64)
        p = np.exp(np.log(p + 1e-10) / temperature)
        ids.append(int(np.random.choice(len(p), p=p / p.sum())))
    return tokenizer.sequences_to_texts([ids])[0]


# Speed


class TheirPositions(layers.Layer):
    """The course's layer, as a student types it."""

    def __init__(self, max_len: int, d_model: int, **kwargs) -> None:
        super().__init__(**kwargs)
        positions, dims = np.arange(max_len)[:, None], np.arange(d_model)[None]
        angles = positions / np.power(10000, 2 * (dims // 2) / d_model)
        angles[:, 0::2], angles[:, 1::2] = np.sin(angles[:, 0::2]), np.cos(angles[:, 1::2])
        self.table = angles[None].astype(np.float32)

    def call(self, x):
        return x + keras.ops.convert_to_tensor(self.table)[:, : keras.ops.shape(x)[1]]


def their_block(embed_dim: int, num_heads: int, ff_dim: int, dropout: float = 0.1) -> keras.Model:
    """The course's block in plain Keras."""
    inputs = layers.Input((None, embed_dim))
    attention = layers.MultiHeadAttention(num_heads, embed_dim)
    x = layers.Dropout(dropout)(attention(inputs, inputs, use_causal_mask=True))
    x = middle = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([inputs, x]))
    x = layers.Dense(embed_dim)(layers.Dense(ff_dim, activation="relu")(x))
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, layers.LayerNormalization(epsilon=1e-6)(layers.Add()([middle, x])))


def their_model() -> keras.Model:
    """The course's model in plain Keras."""
    inputs = layers.Input((WINDOW,))
    x = TheirPositions(WINDOW, 256)(layers.Embedding(5000, 256)(inputs))
    for _ in range(4):
        x = their_block(256, 8, 1024)(x)
    return keras.Model(inputs, layers.Dense(5000, activation="softmax")(x))


def speed(arguments: argparse.Namespace) -> None:
    """Steps of both models in turns, and train.py's own figure."""
    _, _, x, y = windows()
    x, y = x[:BATCH], y[:BATCH]
    makers: dict[str, Callable[[], keras.Model]] = {
        "minigpt_tf": build_gpt_model,
        "plain Keras": their_model,
    }
    models, times = {}, {name: [] for name in makers}
    for name, make in makers.items():
        models[name] = make()
        models[name].compile(optimizer=keras.optimizers.Adam(), loss=LOSS, metrics=["accuracy"])
        models[name].train_on_batch(x, y)  # compiles
    for turn in range(arguments.rounds):
        for name in sorted(models, reverse=turn % 2 == 1):
            began = time.perf_counter()
            models[name].train_on_batch(x, y)
            times[name].append(time.perf_counter() - began)
    ratios = [ours / theirs for ours, theirs in zip(*times.values(), strict=True)]
    for name, seconds in times.items():
        _show_speed(f"{name} fit", BATCH * WINDOW / statistics.median(seconds))
    quartiles = statistics.quantiles(ratios, n=4)
    print(
        f"{'ratio of the pairs':<20} median {statistics.median(ratios):.2f}, quartiles "
        f"{quartiles[0]:.2f} to {quartiles[2]:.2f}, of {len(ratios)} (goal: at most 1)"
    )
    for dtype in ("float32", "auto"):
        _show_speed(f"train.py {dtype}", train_py(dtype))


def _show_speed(name: str, rate: float) -> None:
    """A rate in tokens a second, and what an epoch of the lecture's 742 windows takes at it."""
    epoch = 742 * WINDOW / rate
    print(f"{name:<20} {epoch:6.1f} s an epoch, {rate:8,.0f} tokens/s", flush=True)


def train_py(dtype: str) -> float:
    """Tokens a second of two epochs by the command, of its own last progress line."""
    with tempfile.TemporaryDirectory() as scratch:
        words = [sys.executable, "-m", "minigpt_tf", "train", "--data", str(TEXT), "--out"]
        words += [f"{scratch}/m", "--epochs", "2", "--val-split", "0.1", "--dtype", dtype]
        subprocess.run(words, check=True, capture_output=True)
        rows = Path(f"{scratch}/m/history.csv").read_text().splitlines()
        names = rows[0].split(",")
        return float(rows[-1].split(",")[names.index("tokens_per_second")])


# Learning


def learn(arguments: argparse.Namespace) -> None:
    """The notebook's run: ten epochs of fit, then three questions by the lecture's own loop."""
    tokenizer, sequence, x, y = windows()
    keras.utils.set_random_seed(1)
    model = build_gpt_model()
    if not arguments.no_start:
        mg.start_from_frequencies(model, sequence)
    model.compile(optimizer=keras.optimizers.Adam(), loss=LOSS, metrics=["accuracy"])
    print(f"loss before: {model.evaluate(x[:BATCH], y[:BATCH], verbose=0)[0]:.2f}")

    class Shown(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            print(f"   epoch {epoch + 1}: {_figures(logs)}", flush=True)

    fit = {"batch_size": BATCH, "validation_split": 0.1, "verbose": 0, "callbacks": [Shown()]}
    began = time.perf_counter()
    model.fit(x, y, epochs=arguments.epochs, **fit)
    print(f"{arguments.epochs} epochs in {time.perf_counter() - began:.0f} s")
    np.random.seed(1)
    for question in PEOPLE:
        print(f"   {lecture_loop(model, tokenizer, question.lower(), 20, temperature=0.8)}")


def _figures(logs: dict[str, float]) -> str:
    return ", ".join(f"{name} {float(value):.4f}" for name, value in logs.items())


# Files


def files(arguments: argparse.Namespace) -> None:
    """Saves, loads in a new process and continues training, as .h5 and .keras; dropout is off."""
    sizes = {"vocab_size": 60, "context_length": 16, "dropout": 0.0, "embed_dim": 32}
    sizes |= {"num_heads": 4, "head_dim": 8, "ff_dim": 48}
    depths, dtypes = (1, 2, 4, 8, 12), ("float32", "mixed_bfloat16")
    x = np.random.default_rng(0).integers(0, 60, (32, 16))
    y = np.roll(x, -1, axis=1)
    worst, count = 0.0, 0
    for preset in PRESETS:
        for number, num_layers in enumerate(depths):
            head = ("softmax", "logits")[number % 2]
            dtype = dtypes[number // 2 % 2]
            more = {"num_kv_heads": 2} if preset == "modern" else {}
            config = mg.model_preset(preset, num_layers=num_layers, **sizes, **more)
            found = saved_and_continued(config, head, dtype, x, y)
            count, worst = count + 1, max(worst, *found.values())
            shown = ", ".join(f"{name} {value:.1g}" for name, value in found.items())
            print(
                f"   {preset:<12} {num_layers:>2} blocks  {head:<8} {dtype:<15} {shown}", flush=True
            )
    print(f"{count} configurations: largest difference {worst:.2g}")


CONTINUE = """
import sys, numpy as np, minigpt_tf, keras
x, y = np.load(sys.argv[1] + "/x.npy"), np.load(sys.argv[1] + "/y.npy")
for name in ("gpt.h5", "gpt.keras"):
    model = keras.models.load_model(sys.argv[1] + "/" + name)
    np.save(sys.argv[1] + "/" + name + ".loaded.npy", model.predict(x, verbose=0))
    model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    np.save(sys.argv[1] + "/" + name + ".continued.npy", model.predict(x, verbose=0))
"""


def saved_and_continued(config, head: str, dtype: str, x, y) -> dict[str, float]:
    """Largest difference of outputs: of the loaded files, and after another epoch in both."""
    model = build_gpt_model(config, head=head, dtype=dtype)
    loss = LOSS
    if head == "logits":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("gpt.h5", "gpt.keras"):
            model.save(folder / name)
        np.save(folder / "x.npy", x)
        np.save(folder / "y.npy", y)
        subprocess.run([sys.executable, "-c", CONTINUE, scratch], check=True, capture_output=True)
        expected = {"loaded": model.predict(x, verbose=0)}
        model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
        expected["continued"] = model.predict(x, verbose=0)
        return {
            f"{name.split('.')[1]} {when}": float(
                np.abs(np.load(folder / f"{name}.{when}.npy") - values).max()
            )
            for name in ("gpt.h5", "gpt.keras")
            for when, values in expected.items()
        }


if __name__ == "__main__":
    main()
