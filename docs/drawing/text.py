"""Pictures of text: tokens, windows, merges. They need no model."""

import itertools
import re
from collections import Counter
from pathlib import Path

import numpy as np

import minigpt_tf as mg

from .models import ROOT
from .style import BLUE, GRAY, GREEN, ORANGE, Canvas, new_figure, save

TEXT = (ROOT / "data" / "ramanujan.txt").read_text(encoding="utf-8")
COLORS = (BLUE, ORANGE, GREEN)


def tokens() -> Path:
    """A sentence as three tokenizers cut it, and the ids."""
    sentence = "In 1919 he returned to India."
    canvas = Canvas(62, 11.2)
    y = 0.9
    for kind in ("word", "bpe", "char"):
        tokenizer = mg.train_tokenizer(kind, [TEXT], vocab_size=1000)
        ids = [int(i) for i in tokenizer.encode(sentence)]
        canvas.text(1, y, kind, weight="bold")
        canvas.text(7, y, f"{len(ids)} tokens out of {tokenizer.vocab_size:,}", GRAY)
        x = small = 1.0
        for i, token_id in enumerate(ids):
            chunk = tokenizer.decode([token_id]).replace(" ", "␣")
            right = canvas.box(x, y + 1.1, chunk, COLORS[i % 3])
            small = (x + right - 0.25) / 2
            canvas.text(small, y + 2.05, str(token_id), GRAY, size=8, ha="center")
            x = right
        y += 3.7
    return save(canvas.figure, "tokens.png")


def windows() -> Path:
    """Two windows of a text, and the targets of the first."""
    words = mg.Tokenizer().split_words(TEXT)[:9]
    canvas = Canvas(72, 11.6)
    rows = (
        ("text", words, GRAY, 0),
        ("x[0]", words[:6], BLUE, 0),
        ("y[0]", words[1:7], ORANGE, 1),
        ("x[1]", words[1:7], BLUE, 1),
        ("y[1]", words[2:8], ORANGE, 2),
    )
    left = [8.0]
    for word in words:
        left.append(left[-1] + len(word) + 1.4)
    for i, (name, chosen, color, start) in enumerate(rows):
        y = 1.0 + 1.7 * i + (0.7 if i > 0 else 0) + (0.7 if i > 2 else 0)
        canvas.text(1, y, name, weight="bold")
        for k, word in enumerate(chosen):
            canvas.box(left[start + k], y, word, color)
    canvas.text(8, 10.6, "Window size 6, stride 1: the next window starts one word later.", GRAY)
    return save(canvas.figure, "windows.png")


def positions() -> Path:
    """The table of sines and cosines, and four of its columns."""
    places = np.arange(100)[:, None]
    i = np.arange(64)[None]
    angles = places / 10000 ** (2 * (i // 2) / 64)
    table = np.where(i % 2 == 0, np.sin(angles), np.cos(angles))
    figure, (left, right) = new_figure(9.5, 3.2, 2)
    image = left.imshow(table, cmap="RdBu", aspect="auto", interpolation="nearest")
    left.set(xlabel="dimension (D = 64)", ylabel="position")
    figure.colorbar(image, ax=left, ticks=(-1, 0, 1))
    for k, color in zip((0, 8, 16, 32), (BLUE, ORANGE, GREEN, GRAY), strict=True):
        right.plot(table[:, k], color=color, label=f"dimension {k}", linewidth=1.3)
    right.set(xlabel="position", ylim=(-1.1, 1.9), yticks=(-1, 0, 1))
    right.legend(frameon=False, ncols=2, loc="upper center", fontsize=9)
    return save(figure, "positions.png")


ON_INTEL = "int8 decoding, SmolLM2-135M,\nbeside llama.cpp q8_0, Intel Xeon"


def benchmark() -> Path:
    """How many times as fast as others, of the rows of docs/figures.md."""
    page = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    ratio = r"([\d.]+)"
    training = re.search(
        rf"nanoGPT's CPU size \|.*?: {ratio}, {ratio} and {ratio} times PyTorch", page
    )
    decoding = re.search(
        rf"GPT-2 124M, float32 \| .*?llama.cpp \({ratio}\), {ratio} times transformers", page
    )
    intel = re.search(rf"int8 weights, one .*? \| slower .*?: {ratio} to {ratio} of .*?Intel", page)
    int8 = re.search(rf"with int8 weights, GPT-2 124M; .*?: {ratio} and {ratio} of llama", page)
    start = re.search(rf"whole process, 1 word; .*? \| {ratio} s; .*? of the {ratio} s", page)
    if not (training and decoding and int8 and intel and start):
        raise SystemExit("docs/figures.md: a row that benchmark.png shows is gone")
    bars = {
        "first word, beside\n`import tensorflow` alone": float(start[2]) / float(start[1]),
        ON_INTEL: (float(intel[1]) + float(intel[2])) / 2,
        "int8 decoding, GPT-2 124M,\nbeside llama.cpp q8_0": float(int8[1]),
        "float32 decoding, GPT-2 124M,\nbeside llama.cpp": float(decoding[1]),
        "float32 decoding, GPT-2 124M,\nbeside transformers": float(decoding[2]),
        "training nanoGPT's CPU size,\nbeside PyTorch": float(training[3]),
        "training GPT-2 124M,\nbeside PyTorch": float(training[2]),
        "training the course's size,\nbeside PyTorch": float(training[1]),
    }
    figure, axes = new_figure(8, 4.4)
    colors = [ORANGE if name == ON_INTEL else BLUE for name in bars]
    drawn = axes.barh(list(bars), list(bars.values()), color=colors, height=0.62)
    axes.bar_label(drawn, fmt="%.2f ×", padding=4, size=9)
    axes.axvline(1, color=GRAY, linewidth=1, linestyle="--")
    axes.set(
        xlabel="times as fast; two cores of an AMD EPYC (Zen 5), or of an Intel Xeon where named",
        xlim=(0, 7.4),
    )
    axes.tick_params(axis="y", labelsize=9, left=False)
    return save(figure, "benchmark.png")


def merges() -> Path:
    """Words of the text after the first 5, 20, ... merges of byte-pair encoding."""
    sentence, learned = "Hardy and Ramanujan found a formula", _learn_merges(TEXT.split(), 150)
    canvas = Canvas(81, 10.2)
    for i, count in enumerate((0, 5, 20, 60, 150)):
        y = 1.0 + 2 * i
        canvas.text(1, y, f"{count:3} merges", GRAY)
        x = 13.0
        for word in sentence.split():
            chunks = list(word)
            for pair in learned[:count]:
                chunks = _merged(chunks, pair)
            for k, chunk in enumerate(chunks):
                x = canvas.box(x, y, chunk, COLORS[k % 3]) - 0.1
            x += 0.8
    return save(canvas.figure, "merges.png")


def _learn_merges(words: list[str], count: int) -> list[tuple[str, str]]:
    """As docs/tutorial/07-gpt2.md does it."""
    counts = Counter(words)
    cut, learned = {word: list(word) for word in counts}, []
    for _ in range(count):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in counts.items():
            for pair in itertools.pairwise(cut[word]):
                pairs[pair] += times
        learned.append(max(pairs, key=lambda pair: (pairs[pair], pair)))
        cut = {word: _merged(chunks, learned[-1]) for word, chunks in cut.items()}
    return learned


def _merged(chunks: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for chunk in chunks:
        if merged and (merged[-1], chunk) == pair:
            merged[-1] += chunk
        else:
            merged.append(chunk)
    return merged
