"""Takes the pictures of the chat page and of an exported page: real models, headless Chromium.

    minigpt serve --models models/smollm2 models/ramanujan
    python docs/make_screenshots.py [http://127.0.0.1:8000]

    minigpt export --format web --model models/ramanujan
    python -m http.server --directory exports/ramanujan-web 8001
    python docs/make_screenshots.py --web http://127.0.0.1:8001

Texts are generated with a seed, so that a new run changes a picture only if the page has changed.
"""

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from selenium.webdriver.support.ui import Select  # noqa: E402

from tests.chromium import chromium  # noqa: E402
from tests.serving.browsing import ChatPage  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
QUESTION = "What is gravity? Answer in two sentences."
SECOND = "Write a Python function that adds two numbers."
TEXT = "who is Srinivasa"


def main(url: str) -> None:
    """Writes page.png, page-dark.png, page-narrow.png and page-continue.png."""
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile), 1200, 860) as window:
        page = ChatPage(window, url).open()
        page.size(1200, 760)
        page.scheme("light")
        page.click("Settings")
        page.script(
            "for (const [id, value] of [['set-temperature', 0.3], ['set-seed', 1]]) {"
            "  const field = document.getElementById(id); field.value = value;"
            "  field.dispatchEvent(new Event('change'));"
            "}"
        )
        page.click("Close the settings")
        for count, question in enumerate((QUESTION, SECOND), start=1):
            page.ask(question)
            _complete(page, count)
        save(page, "page")
        page.scheme("dark")
        page.click("Settings")
        save(page, "page-dark")
        page.click("Close the settings")
        page.scheme("light")
        page.size(360, 740)
        page.script("document.getElementById('conversation').scrollTop = 0")
        save(page, "page-narrow")
        page.size(1200, 620)
        page.click("New chat")
        Select(page.find("#model")).select_by_value("ramanujan")
        page.find("#text").send_keys(TEXT)
        page.click("Continue")
        page.script("document.getElementById('settings').hidden = true")
        _complete(page, 0)
        save(page, "page-continue")


def exported(url: str) -> None:
    """Writes web-export.png."""
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile), 760, 700) as window:
        page = ChatPage(window, url)
        window.get(url)
        page.size(760, 560)
        page.scheme("light")
        while not page.script("return document.body.dataset.ready === 'yes'"):
            time.sleep(0.2)
        page.script("document.getElementById('text').value = arguments[0]", "who is Ramanujan")
        page.script("document.getElementById('count').value = 40")
        page.script("document.getElementById('ask').click()")
        while not page.script("return document.body.dataset.done === 'yes'"):
            time.sleep(0.2)
        save(page, "web-export")


def _complete(page: ChatPage, answers: int) -> None:
    code = "return document.querySelector('#halt').hidden"
    while len(page.find_all(".answer .stats")) < answers or not page.script(code):
        time.sleep(0.2)


def save(page: ChatPage, name: str) -> None:
    """Writes a picture once the page has come to rest."""
    page.script("document.activeElement.blur()")
    time.sleep(0.5)
    page.window.save_screenshot(str(PICTURES / f"{name}.png"))
    print(f"wrote docs/pictures/{name}.png")


if __name__ == "__main__":
    if "--web" in sys.argv[1:]:
        exported(sys.argv[-1])
    else:
        main((sys.argv[1:] or ["http://127.0.0.1:8000"])[0])
