"""Pictures of the fine-tuned models of the tutorial."""

import csv
import json
import re
import shutil
from pathlib import Path

from .models import ROOT, run, tutorial_model
from .style import BLUE, GRAY, GREEN, ORANGE, PICTURES, Canvas, new_figure, save

WIDTH = 92


def confusion() -> Path:
    """The confusion matrix that `minigpt finetune --method classify` has drawn."""
    return Path(
        shutil.copyfile(tutorial_model("triage") / "confusion.png", PICTURES / "confusion.png")
    )


def loss_mask() -> Path:
    """The tokens of a record; those that are trained in another color."""
    import minigpt_tf as mg
    from minigpt_tf.records.prompts import Template

    template = Template.of(mg.load_folder(tutorial_model("hr")))
    path = ROOT / "data" / "departments" / "hr.jsonl"
    record = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    messages = [
        {"role": "user", "content": record["instruction"]},
        {"role": "assistant", "content": record["output"]},
    ]
    row = template.encode(messages)
    canvas = Canvas(88, 13.4)
    x, y, chunk = 1.0, 1.0, ""
    for token_id, trained in zip(row.ids, row.mask, strict=True):
        if "\n" in chunk or x > 78:
            x, y = 1.0, y + 1.25
        token_id = int(token_id)
        chunk = template.special_ids.get(token_id) or template.tokenizer.decode([token_id])
        shown = chunk.replace("\n", "⏎").replace(" ", "␣")
        x = canvas.box(x, y, shown, GREEN if trained else GRAY) - 0.15
    canvas.text(1, y + 1.7, "gray: read, m = 0    green: trained, m = 1", GRAY)
    return save(canvas.figure, "loss-mask.png")


def ask() -> Path:
    """What `minigpt ask` prints, without most of the questions, as a terminal shows it."""
    from rich.console import Console
    from rich.text import Text

    for name in ("base", "hr"):
        tutorial_model(name)
    printed = run("minigpt ask --models models/hr")
    questions = re.split(r"\n(?=line \d+:|model  )", printed)
    right = [text for text in questions if re.search(r"^  hr +right", text, re.M)]
    wrong = [text for text in questions if re.search(r"^  hr +wrong", text, re.M)]
    console = Console(record=True, width=WIDTH, file=open("/dev/null", "w"))  # noqa: SIM115
    command = "minigpt ask --models models/hr --queries data/departments/hr.questions.jsonl"
    console.print(Text("$ ", "green") + Text(command, "bold") + Text("\n"))
    for block in (right[0], wrong[0], right[1]):
        console.print(_colored(block.strip() + "\n"))
    console.print(Text("...\n", "bright_black"))
    console.print(_colored(next(text for text in questions if text.startswith("model  ")).strip()))
    svg = console.export_svg(title="minigpt ask")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # nothing from other servers
    path = PICTURES / "ask.svg"
    path.write_text(svg, encoding="utf-8")
    return path


def _colored(text: str):
    from rich.text import Text

    shown = Text(text)
    shown.highlight_regex(r"(?m)^  \S+(?: \(base\))? +right", "green")
    shown.highlight_regex(r"(?m)^  \S+(?: \(base\))? +wrong", "red")
    shown.highlight_regex(r"(?m)^line \d+:", "bold")
    return shown


def dpo() -> Path:
    """The rewards of chosen and rejected answers on the validation set, from history.csv."""
    with open(tutorial_model("finance") / "history.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    steps = [0] + [int(row["step"]) for row in rows]
    figure, axes = new_figure(7, 2.9)
    for name, color in (("chosen", BLUE), ("rejected", ORANGE)):
        values = [0.0] + [float(row[f"rewards/{name}"]) for row in rows]
        axes.plot(steps, values, marker="o", markersize=4, color=color, label=name)
    axes.axhline(0, color=GRAY, linewidth=0.8)
    axes.set(xlabel="step", ylabel="reward")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return save(figure, "dpo.png")
