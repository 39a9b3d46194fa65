"""Draws the badges of README from setup.cfg: docs/pictures/badge-*.svg.

`python docs/make_badges.py` draws them; with `--check` it writes nothing and fails if one is stale.
"""

import argparse
import configparser
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
CHARACTER, PADDING, HEIGHT = 6.6, 9, 20
"""Widths in pixels, of text of 11 pixels."""


def badges() -> dict[Path, str]:
    """Each badge's file and drawing."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    versions = re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])
    needs = setup["options"]["install_requires"]
    keras, tensorflow = (
        re.search(rf"^{name}>=([\d.]+)", needs, re.M) for name in ("keras", "tensorflow")
    )
    texts = {
        "python": ("python", f"{versions[0]} to {versions[-1]}"),
        "keras": (f"Keras {keras[1]}", f"TensorFlow {tensorflow[1]}"),
        "license": ("license", setup["metadata"]["license"]),
    }
    return {PICTURES / f"badge-{name}.svg": _badge(*text) for name, text in texts.items()}


def _badge(left: str, right: str) -> str:
    widths = [round(len(text) * CHARACTER) + 2 * PADDING for text in (left, right)]
    width = sum(widths)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" role="img" '
        f'aria-label="{left}: {right}"><clipPath id="r"><rect width="{width}" height="{HEIGHT}" '
        f'rx="4"/></clipPath><g clip-path="url(#r)"><rect width="{widths[0]}" height="{HEIGHT}" '
        f'fill="#555"/><rect x="{widths[0]}" width="{widths[1]}" height="{HEIGHT}" fill="#2b6cb0"/>'
        '</g><g fill="#fff" text-anchor="middle" font-size="11" font-family="Verdana,DejaVu Sans,'
        f'sans-serif"><text x="{widths[0] / 2}" y="14">{left}</text>'
        f'<text x="{widths[0] + widths[1] / 2}" y="14">{right}</text></g></svg>\n'
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    check, stale = parser.parse_args().check, False
    for path, text in badges().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale = True
        if check:
            print(f"{path.relative_to(ROOT)} is stale: run `python docs/make_badges.py`")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return int(check and stale)


if __name__ == "__main__":
    sys.exit(main())
