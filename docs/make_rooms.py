"""Draws docs/pictures/rooms.svg: the rooms of minigpt_tf, in the order in which they may import.

`python docs/make_rooms.py` draws it; with `--check` it writes nothing and fails if it is stale. A
room of tests/test_imports.py that is not built yet is left out; one without a caption is an error.
"""

import argparse
import ast
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "pictures" / "rooms.svg"

FLOORS: list[tuple[str, str, dict[str, str]]] = [
    (
        "what all rooms share",
        "#e8eaed",
        {
            "errors": "for people",
            "machine": "cores, memory, vectors",
            "compiled": "Numba",
            "keras_registration": "for load_model",
            "startup": "quiet TensorFlow",
            "events": "progress, notices",
            "metrics": "each formula once",
            "terminal": "no control characters",
            "console": "tables, progress",
            "config": "settings, presets",
            "storage": "the model folder",
        },
    ),
    (
        "without TensorFlow: an answer in half a second",
        "#d7ecd9",
        {
            "files": "one reader a format",
            "text": "tokens, windows",
            "inference": "engine, samplers",
            "records": "prompts, masks",
            "retrieval": "search in records",
            "classification": "labels",
            "planning": "memory, time",
        },
    ),
    (
        "Keras and TensorFlow",
        "#d8e6f7",
        {
            "model": "Keras layers",
            "training": "loop, checkpoints",
            "evaluation": "loss, copies, facts",
            "finetuning": "LoRA, DPO, ...",
            "interop": "HF, GGUF, Keras",
            "inspection": "summary, Netron",
            "serving": "API, pages",
        },
    ),
    ("what people type", "#fbe7c6", {"cli": "one file a verb", "__main__": "minigpt"}),
]
"""Title, color, room -> caption, from the bottom up."""

WIDTH, LEFT, BOX, HEIGHT, GAP = 880, 16, 134, 46, 8
IN_A_ROW = (WIDTH - 2 * LEFT + GAP) // (BOX + GAP)


def rooms() -> list[str]:
    """The rooms in their order, sub-rooms left out."""
    tree = ast.parse((ROOT / "tests" / "test_imports.py").read_text(encoding="utf-8"))
    values = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ROOMS"
    ]
    return [name for name in ast.literal_eval(values[0]) if "." not in name]


def is_built(room: str) -> bool:
    """Whether the package has such a file or folder."""
    package = ROOT / "minigpt_tf"
    return (package / f"{room}.py").exists() or (package / room / "__init__.py").exists()


def picture() -> str:
    """The drawing, as SVG. The lowest floor is what all others stand on."""
    captions = {room: text for _, _, floor in FLOORS for room, text in floor.items()}
    for room in rooms():
        if room not in captions:
            raise SystemExit(f"{Path(__file__).name}: {room} has no caption")
    shapes, y = [], 12
    for title, color, floor in reversed(FLOORS):
        names = [room for room in rooms() if room in floor and is_built(room)]
        rows = -(-len(names) // IN_A_ROW)
        height = 26 + rows * (HEIGHT + GAP) + 4
        shapes.append(
            f'<rect x="4" y="{y}" width="{WIDTH - 8}" height="{height}" rx="8" fill="{color}"/>'
            f'<text x="{LEFT}" y="{y + 18}" class="title">{escape(title)}</text>'
        )
        for i, room in enumerate(names):
            x = LEFT + i % IN_A_ROW * (BOX + GAP)
            top = y + 26 + i // IN_A_ROW * (HEIGHT + GAP)
            style = "long room" if len(room) > 16 else "room"
            shapes.append(
                f'<rect x="{x}" y="{top}" width="{BOX}" height="{HEIGHT}" rx="5" fill="#ffffff"/>'
                f'<text x="{x + 9}" y="{top + 19}" class="{style}">{escape(room)}</text>'
                f'<text x="{x + 9}" y="{top + 36}" class="what">{escape(captions[room])}</text>'
            )
        y += height + 8
    style = (
        "text{font-family:system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif;fill:#202124}"
        ".title{font-size:13px;font-weight:600}.room{font-size:13px;font-weight:600}"
        ".long.room{font-size:11px}"
        ".what{font-size:11px;fill:#5f6368}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 4}" width="{WIDTH}" '
        f'height="{y + 4}" role="img" aria-label="The rooms of minigpt_tf">'
        f'<style>{style}</style><rect width="{WIDTH}" height="{y + 4}" rx="10" fill="#ffffff"/>\n'
        + "\n".join(shapes)
        + "\n</svg>\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    text = picture()
    if parser.parse_args().check:
        stale = not PICTURE.exists() or PICTURE.read_text(encoding="utf-8") != text
        if stale:
            print(f"{PICTURE.relative_to(ROOT)} is stale: run `python docs/make_rooms.py`")
        return int(stale)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(text, encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
