"""Pictures of the tutorial's model: its loss, attention, choices and surprise."""

import csv
import os
from pathlib import Path

import numpy as np

from .models import tutorial_model
from .style import BLUE, GRAY, GREEN, ORANGE, RED, Canvas, new_figure, save

SENTENCE = "who is janaki janaki was the wife of ramanujan they were married in july 1909"


def loss() -> Path:
    """Training and validation loss, from history.csv."""
    with open(tutorial_model("course") / "history.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["step"]) for row in rows]
    figure, axes = new_figure(7, 2.9)
    for name, label, color in (("loss", "training", BLUE), ("val_loss", "validation", ORANGE)):
        values = [float(row[name]) for row in rows]
        axes.plot(steps, values, marker="o", markersize=3, color=color, label=label)
        axes.annotate(
            f"{values[-1]:.2f}",
            (steps[-1], values[-1]),
            (6, 4),
            textcoords="offset points",
            va="center",
            color=color,
        )
    axes.set(xlabel="step", ylabel="loss (nats per token)", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="center right")
    return save(figure, "loss.png")


def attention_weights(layer: int) -> tuple[list[str], np.ndarray]:
    """The words of SENTENCE, and the weights (H, T, T) with which a block's heads look at them."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    import minigpt_tf as mg

    generator = mg.load(tutorial_model("course"))
    model, ids = generator.keras_model(), generator.tokenizer.encode(SENTENCE)[None]
    # What goes into a block: the outputs of the layers before it.
    x = model.get_layer("position_encoding")(model.get_layer("token_embedding")(ids))
    for i in range(layer):
        x = model.get_layer(f"block_{i}")(x)
    attention = model.get_layer(f"block_{layer}").get_layer(f"block_{layer}_attention")
    _, weights = attention(x, x, use_causal_mask=True, return_attention_scores=True)
    return SENTENCE.split(), keras.ops.convert_to_numpy(weights)[0]


def attention() -> Path:
    """Two heads of the first block, and one of the last."""
    figure, axes = new_figure(10, 3.8, 3)
    for place, (layer, head) in zip(axes, ((0, 0), (0, 2), (1, 1)), strict=True):
        words, weights = attention_weights(layer)
        place.imshow(weights[head], cmap="Blues", vmin=0, vmax=1)
        place.set_title(f"block {layer}, head {head}", size=10)
        place.set_xticks(range(len(words)), words, rotation=90, size=8)
        place.set_yticks(range(len(words)), words, size=8)
        place.spines[:].set_visible(False)
        above = np.triu(np.ones_like(weights[head]), 1)
        hidden = np.ma.masked_where(above == 0, above)
        place.imshow(hidden, cmap="gray", vmin=0, vmax=1.12)
    figure.supylabel("this word looks ...", size=9)
    figure.supxlabel("... at this one. Gray: masked, as it comes later", size=9)
    return save(figure, "attention.png")


def next_words(prompt: str) -> tuple[list[str], np.ndarray]:
    """All words, and the logits of the one that follows the prompt."""
    import minigpt_tf as mg

    generator = mg.load(tutorial_model("course"))
    tokenizer = generator.tokenizer
    logits = generator.engine.prefill(tokenizer.encode(prompt)).astype("float64")
    return [tokenizer.decode([i]) for i in range(len(logits))], logits


def sampling() -> Path:
    """The most likely next words under four settings."""
    from minigpt_tf.inference.samplers import apply_temperature, apply_top_p
    from minigpt_tf.metrics import softmax

    prompt = "in the"
    words, logits = next_words(prompt)
    settings = {
        "temperature 1": logits,
        "temperature 0.5": apply_temperature(logits, 0.5),
        "temperature 2": apply_temperature(logits, 2.0),
        "top-p 0.5": apply_top_p(logits, 0.5),
    }
    shown = np.argsort(-logits)[:10][::-1]
    figure, axes = new_figure(9.5, 3.2, 4, sharey=True, sharex=True)
    for place, (title, changed) in zip(axes, settings.items(), strict=True):
        p = softmax(changed)
        place.barh([words[i] for i in shown], p[shown], color=BLUE)
        for y, i in enumerate(shown):
            text = f"{p[i]:.2f}" if p[i] else "0"
            place.text(p[i] + 0.02, y, text, va="center", size=8, color=GRAY)
        place.set_title(title, size=10)
        place.tick_params(left=False)
    axes[0].set(xlim=(0, 0.85), xticks=(0, 0.25, 0.5, 0.75))
    figure.supxlabel(f"probability of the word after “{prompt}”", size=9)
    return save(figure, "sampling.png")


def surprise() -> Path:
    """How surprised the model is by each word of two sentences."""
    import minigpt_tf as mg
    from minigpt_tf.metrics import log_softmax

    generator = mg.load(tutorial_model("course"))
    sentences = (
        "who is hardy godfrey harold hardy was an english mathematician",
        "who is hardy godfrey harold hardy was an indian clerk",
    )
    figure, axes = new_figure(9.5, 2.9, 2, sharey=True)
    for place, sentence in zip(axes, sentences, strict=True):
        ids = generator.tokenizer.encode(sentence)
        log_p = log_softmax(generator.engine.all_logits(ids))
        losses = [-float(log_p[t, ids[t + 1]]) for t in range(len(ids) - 1)]
        words = sentence.split()[1:]
        colors = [RED if value > 3 else ORANGE if value > 1 else GREEN for value in losses]
        place.bar(range(len(words)), losses, color=colors)
        place.set_xticks(range(len(words)), words, rotation=40, ha="right", size=9)
        for x, value in enumerate(losses):
            place.text(x, value + 0.15, f"{value:.1f}", ha="center", size=8, color=GRAY)
    axes[0].set_ylabel("loss (nats)")
    return save(figure, "surprise.png")


def loss_steps() -> Path:
    """From a word to its loss in six steps, with the numbers of the tutorial's model."""
    import minigpt_tf as mg
    from minigpt_tf.metrics import softmax

    generator = mg.load(tutorial_model("course"))
    tokenizer = generator.tokenizer
    prompt, target = "who is hardy godfrey harold", "hardy"
    ids = [int(i) for i in tokenizer.encode(prompt)]
    hidden = generator.engine.hidden(ids)
    logits = generator.engine.prefill(ids).astype("float64")
    p, (goal,) = softmax(logits), (int(i) for i in tokenizer.encode(target))
    best = [int(i) for i in np.argsort(-logits)[:3]]
    few = ", ".join(f"{value:.2f}" for value in hidden[:5])
    steps = (
        ("1  text", f"“{prompt}” → “{target}”", "what it reads, and what comes next"),
        ("2  ids", f"{ids} → {goal}", "(T,)"),
        ("3  hidden state", f"[{few}, ...]", f"(D,) = ({len(hidden)},), of the last token"),
        (
            "4  logits",
            "  ".join(f"{tokenizer.decode([i])} {logits[i]:.2f}" for i in best) + "  ...",
            f"(V,) = ({len(logits)},)",
        ),
        (
            "5  probabilities",
            "  ".join(f"{tokenizer.decode([i])} {p[i]:.4f}" for i in best) + "  ...",
            "softmax: they sum to 1",
        ),
        ("6  loss", f"−log p({target}) = −log {p[goal]:.4f} = {-np.log(p[goal]):.4f}", "nats"),
    )
    canvas = Canvas(66, 14)
    for i, (name, value, note) in enumerate(steps):
        y = 1.2 + 2.2 * i
        canvas.text(1, y, name, weight="bold")
        canvas.box(20, y, value, BLUE if i < 5 else ORANGE)
        canvas.text(20.5, y + 0.95, note, GRAY, size=8.5)
    return save(canvas.figure, "loss-steps.png")
