"""The page of `minigpt export --format web`, served as files and opened in real Chromium."""

import contextlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

import minigpt_tf as mg
from minigpt_tf.interop.export import export_model
from tests.chromium import chromium

ASKED = "he was an indian"


class Quiet(SimpleHTTPRequestHandler):
    """Any server of files."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as window:
        yield window


@contextlib.contextmanager
def served(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def wait(browser, script):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60, 0.05).until(lambda b: b.execute_script(script))


@pytest.fixture(scope="module")
def page(trained_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("web") / "page"
    export_model(trained_folder, out, "web")
    return out


def test_the_page_writes_the_engines_tokens(browser, page, trained_folder):
    from selenium.webdriver.common.keys import Keys

    generator = mg.TextGenerator.load(trained_folder)
    expected = generator.generate(ASKED, max_new_tokens=32, temperature=0).ids
    with served(page) as address:
        browser.get(address)
        wait(browser, "return document.body.dataset.ready === 'yes'")
        text = browser.find_element("id", "text")
        text.clear()
        text.send_keys(ASKED)
        count = browser.find_element("id", "count")
        count.clear()
        count.send_keys("32", Keys.ENTER)  # by keyboard alone
        wait(browser, "return document.body.dataset.done === 'yes'")
        found = browser.execute_script("return document.body.dataset.ids")
        names = "return performance.getEntriesByType('resource').map((e) => e.name)"
        assert all(name.startswith(address) for name in browser.execute_script(names))
        said = browser.find_element("id", "out").text
    assert [int(i) for i in found.split()] == expected
    assert said == f"{ASKED} {generator.tokenizer.decode(expected)}"
    log = browser.get_log("browser")
    assert [entry["message"] for entry in log if entry["level"] == "SEVERE"] == []


def test_the_page_fits_a_phone(browser, page):
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    with served(page) as address:
        browser.get(address)
        wait(browser, "return document.body.dataset.ready === 'yes'")
        wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.execute_script(wide) == 0
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("content", [None, b"hello"], ids=["missing", "other"])
def test_the_page_says_what_is_wrong_with_the_model(browser, page, tmp_path, content):
    for name in ("index.html", "model.js", "worker.js"):
        (tmp_path / name).write_bytes((page / name).read_bytes())
    if content is not None:
        (tmp_path / "model.bin").write_bytes(content)
    with served(tmp_path) as address:
        browser.get(address)
        wait(browser, "return document.body.dataset.done === 'yes'")
        said = browser.find_element("id", "state").text
    assert ("404" if content is None else "is not what minigpt export") in said
    browser.get_log("browser")


def test_a_browser_without_modules_is_told_so(browser, page):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    with served(page) as address:
        browser.get(address)
        assert "this browser lacks" in browser.find_element("id", "state").text
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
