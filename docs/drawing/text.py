"""Pictures of text: tokens, windows, merges. They need no model."""

from pathlib import Path

import minigpt_tf as mg

from .style import BLUE, GRAY, GREEN, ORANGE, Canvas, save

ROOT = Path(__file__).resolve().parents[2]
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
