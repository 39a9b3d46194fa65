"""`minigpt view` in real Chromium: the page draws the graph and every weight of every block."""

import collections
import re
import subprocess
import sys
import urllib.request

import keras
import pytest

from minigpt_tf.config import ModelConfig
from minigpt_tf.inference.weights import weight_shapes
from minigpt_tf.model import build_gpt_model
from tests.chromium import chromium
from tests.conftest import ROOT, tiny_config
from tests.interop import lecture

CLICK_FUNCTION = """
const box = Array.from(document.querySelectorAll("g.node"))
    .find(node => node.textContent.startsWith(arguments[0]));
const handle = box && Array.from(box.querySelectorAll("g"))
    .find(part => part.textContent.startsWith("ƒ"));
if (handle) handle.dispatchEvent(new MouseEvent("click", {bubbles: true}));
"""
"""Clicks the ƒ of the box whose text begins with the argument."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as window:
        yield window


@pytest.fixture
def served(tmp_path):
    """Serves a model by the command; gives its address."""
    processes = []

    def serve(config):
        build_gpt_model(config).save(tmp_path / "model.h5")
        command = [sys.executable, "-m", "minigpt_tf", "view", "--no-browser", "--model"]
        process = subprocess.Popen(
            [*command, str(tmp_path / "model.h5")], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        return re.search(r"http://\S+", process.stdout.readline()).group()

    yield serve
    for process in processes:
        process.terminate()
        process.wait()


def nodes(browser):
    """The text of each box that the page draws."""
    return browser.execute_script(
        "return Array.from(document.querySelectorAll('g.node')).map(node => node.textContent)"
    )


def drawn_shapes(browser):
    """How often each weight shape stands in the picture, such as {(16, 2, 8): 3}."""
    shapes = re.findall(r"〈([\d×]+)〉", "".join(nodes(browser)))
    return collections.Counter(tuple(map(int, shape.split("×"))) for shape in shapes)


def expected_shapes(config: ModelConfig, prefix: str):
    shapes = weight_shapes(config).items()
    return collections.Counter(shape for name, shape in shapes if name.startswith(prefix))


class Page:
    """Netron's page, with what a person does on it."""

    def __init__(self, browser, address):
        from selenium.webdriver.support.ui import WebDriverWait

        self.browser, self.wait = browser, WebDriverWait(browser, 30)
        browser.get(address)
        self.wait.until(self._accepted)

    def _accepted(self, browser):
        """Clicks away what Netron asks at first; whether the graph is there."""
        for button in browser.find_elements("tag name", "button"):
            if button.is_displayed() and button.text.strip() == "Accept":
                button.click()
        return any("token_embedding" in node for node in nodes(browser))

    def wait_for(self, text):
        self.wait.until(lambda b: any(text in node for node in nodes(b)))

    def open_function(self, name, inside):
        """Opens what a box stands for; clicks again while the page is still moving."""

        def opened(browser):
            if any(inside in node for node in nodes(browser)):
                return True
            browser.execute_script(CLICK_FUNCTION, name)
            return False

        self.wait.until(opened)

    def back(self):
        self.browser.find_element("id", "toolbar-path-back-button").click()
        self.wait_for("block_0block_0")


@pytest.mark.parametrize("preset", ["lecture", "gpt2", "modern"])
def test_the_page_shows_every_weight_of_every_block(preset, served, browser):
    config = tiny_config(preset, vocab_size=50, context_length=12)
    page = Page(browser, served(config))
    names = ["token_embedding", "block_0", "block_1", "logits"]
    assert all(any(name in node for node in nodes(browser)) for name in names)

    outside = expected_shapes(config, "")
    for layer in range(config.num_layers):
        outside -= expected_shapes(config, f"block_{layer}/")
    shown = drawn_shapes(browser)
    if config.tie_embeddings:  # used twice, so it is drawn as a function too
        page.open_function("token_embedding", "ReversibleEmbedding")
        shown += drawn_shapes(browser)
        page.back()
    assert shown == outside

    for layer in range(config.num_layers):
        page.open_function(f"block_{layer}", f"block_{layer}_attention")
        assert drawn_shapes(browser) == expected_shapes(config, f"block_{layer}/")
        page.back()


def test_a_keras_file_with_unknown_layers_is_served(tmp_path):
    """The lecture's own classes: Netron needs no more than the file."""
    file = tmp_path / "gpt.keras"
    lecture.build(keras).save(file)
    command = [sys.executable, "-m", "minigpt_tf", "view", "--no-browser", "--model", str(file)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://\S+", process.stdout.readline()).group()
        with urllib.request.urlopen(f"{address}/data/gpt.keras") as answer:
            assert answer.read() == file.read_bytes()
    finally:
        process.terminate()
        process.wait()
