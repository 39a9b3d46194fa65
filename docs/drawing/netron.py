"""A block as `minigpt view` shows it: a photograph of Netron in chromium."""

import io
import re
import subprocess
import sys
import time
from pathlib import Path

from .browser import chromium
from .models import ROOT, tutorial_model
from .style import PICTURES

OPEN_BLOCK = """
const box = Array.from(document.querySelectorAll("g.node"))
    .find(node => node.textContent.startsWith("block_0"));
const handle = box && Array.from(box.querySelectorAll("g"))
    .find(part => part.textContent.startsWith("ƒ"));
if (handle) handle.dispatchEvent(new MouseEvent("click", {bubbles: true}));
"""
FRAME = """
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode())  // characters that few machines have a font for
    texts.currentNode.data = texts.currentNode.data.replace("\u3008", " ").replace("\u3009", "");
const boxes = Array.from(document.querySelectorAll("g.node"), node => node.getBoundingClientRect());
return [
    Math.min(...boxes.map(box => box.left)), Math.min(...boxes.map(box => box.top)),
    Math.max(...boxes.map(box => box.right)), Math.max(...boxes.map(box => box.bottom)),
].map(edge => edge * window.devicePixelRatio);
"""
MARGIN = 24
SECONDS = 60


def netron_block() -> Path:
    """Block 0 of the tutorial's model, opened."""
    from PIL import Image

    model = tutorial_model("course") / "model.h5"
    command = [sys.executable, "-m", "minigpt_tf", "view", "--no-browser", "--model", str(model)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with chromium(1000, 1200) as browser:
        try:
            browser.get(re.search(r"http://\S+", server.stdout.readline())[0])
            _wait(lambda: _shows(browser, "token_embedding"))
            _wait(lambda: _shows(browser, "block_0_attention", OPEN_BLOCK))
            time.sleep(2)  # the drawing moves into its place
            left, top, right, bottom = browser.execute_script(FRAME)
            picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
            picture = picture.crop(
                (left - MARGIN, top - MARGIN, right + 2 * MARGIN, bottom + MARGIN)
            )
        finally:
            server.terminate()
            server.wait()
    path = PICTURES / "netron-block.png"
    picture.quantize(64).save(path, optimize=True)
    return path


def _shows(browser, text: str, script: str = "") -> bool:
    """Whether the page shows the text; clicks away what Netron asks, and runs a script, if not."""
    nodes = browser.find_elements("css selector", "g.node")
    if any(text in node.get_attribute("textContent") for node in nodes):
        return True
    for button in browser.find_elements("tag name", "button"):
        if button.is_displayed() and button.text.strip() == "Accept":
            button.click()
    browser.execute_script(script)
    return False


def _wait(ready) -> None:
    end = time.monotonic() + SECONDS
    while not ready():
        if time.monotonic() > end:
            raise SystemExit(f"netron-block.png: Netron was not ready within {SECONDS} s")
        time.sleep(0.2)
