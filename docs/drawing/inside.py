"""The page of `minigpt inspect`, photographed in chromium, with the lecture's model."""

import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .browser import chromium
from .models import ROOT, tutorial_model
from .style import PICTURES

ANSWERED = ("who is srinivasa ramanujan", "--max-new-tokens", "6", "--greedy")
UNTRUE = ("godfrey harold hardy was an indian clerk",)
WIDTH, HEIGHT = 900, 1000
SECONDS, MARGIN = 60, 12
EDGES = """
const edge = arguments[0].getBoundingClientRect(), scale = window.devicePixelRatio;
return [edge.left, edge.top, edge.right, edge.bottom].map((x) => x * scale);
"""


def who_is() -> Path:
    """Where the lecture's model looks, as it answers."""
    return _photograph("who-is.png", ANSWERED, 8, lambda browser: [_section(browser, "looks")])


def inspect() -> Path:
    """The beginning of the page: what the model reads, and how surprised it is."""
    parts = ("header", ".stays", "section")
    return _photograph(
        "inspect.png",
        UNTRUE,
        5,
        lambda browser: [browser.find_element("css selector", part) for part in parts],
    )


def _photograph(
    name: str, words: tuple[str, ...], token: int, parts: Callable[[Any], list[Any]]
) -> Path:
    """Takes the part of the page that has these elements, after a click on a token."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder, chromium(WIDTH, HEIGHT) as browser:
        page, model = Path(folder, "page.html"), tutorial_model("ramanujan")
        command = [sys.executable, "-m", "minigpt_tf", "inspect", *words]
        command += ["--model", str(model), "--out", str(page)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        browser.get(page.as_uri())
        _wait(lambda: browser.execute_script("return document.body.dataset.ready"), name)
        browser.find_element("css selector", "[data-head='1.2']").click()
        browser.find_element("css selector", f"[data-token='{token}']").click()
        browser.execute_script("document.activeElement.blur()")
        tall = browser.execute_script("return document.documentElement.scrollHeight")
        browser.set_window_size(WIDTH, tall + HEIGHT)  # all of it is in view, nothing scrolls
        time.sleep(1)
        edges = [browser.execute_script(EDGES, part) for part in parts(browser)]
        picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    left, top = (min(edge[i] for edge in edges) for i in (0, 1))
    right, bottom = (max(edge[i] for edge in edges) for i in (2, 3))
    left, top = max(0, left - MARGIN), max(0, top - MARGIN)
    right, bottom = min(picture.width, right + MARGIN), bottom + MARGIN
    picture = picture.crop((left, top, right, bottom))
    path = PICTURES / name
    picture.quantize(64).save(path, optimize=True)
    return path


def _section(browser: Any, title: str) -> Any:
    found = browser.find_elements("css selector", "section")
    return next(s for s in found if title in s.find_element("tag name", "h2").text)


def _wait(ready: Callable[[], Any], name: str) -> None:
    end = time.monotonic() + SECONDS
    while not ready():
        if time.monotonic() > end:
            raise SystemExit(f"{name}: the page was not ready within {SECONDS} s")
        time.sleep(0.2)
