"""Draws the pictures of the pages: docs/pictures/*.png and *.svg.

`python docs/make_pictures.py` draws all of them, offline; with names it draws those. Models that
they show are trained first, into build/pictures/, and used again the next time. The picture of
Netron and those of minigpt inspect need chromium, chromedriver and the extra test.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from drawing import finetuned, inside, netron, text, trained  # noqa: E402

PICTURES: dict[str, Callable[[], Path]] = {
    "tokens.png": text.tokens,
    "windows.png": text.windows,
    "positions.png": text.positions,
    "loss.png": trained.loss,
    "attention.png": trained.attention,
    "sampling.png": trained.sampling,
    "surprise.png": trained.surprise,
    "netron-block.png": netron.netron_block,
    "inspect.png": inside.inspect,
    "who-is.png": inside.who_is,
    "loss-steps.png": trained.loss_steps,
    "merges.png": text.merges,
    "confusion.png": finetuned.confusion,
    "loss-mask.png": finetuned.loss_mask,
    "ask.svg": finetuned.ask,
    "dpo.png": finetuned.dpo,
    "benchmark.png": text.benchmark,
}
LARGEST = 150_000
"""Bytes that a picture may have."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as tokens.png (unset: all)")
    names = parser.parse_args().names or list(PICTURES)
    for name in names:
        if name not in PICTURES:
            parser.error(f"{name}: expected one of {', '.join(PICTURES)}")
        start = time.perf_counter()
        size = PICTURES[name]().stat().st_size
        print(f"{name:20} {size / 1000:5.0f} kB {time.perf_counter() - start:6.1f} s", flush=True)
        if size > LARGEST:
            raise SystemExit(f"{name}: more than {LARGEST:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
