"""`minigpt view` in real Chromium: the page draws the graph and every weight of every block."""

import collections
import re
import shutil
import subprocess
import sys

import pytest

from minigpt_tf.config import ModelConfig
from minigpt_tf.inference.weights import weight_shapes
from minigpt_tf.model import build_gpt_model
from tests.conftest import ROOT, tiny_config

FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync
--disable-background-networking --disable-component-update --window-size=1400,2000""".split()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no chromium and chromedriver on this machine")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    window = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    yield window
    window.quit()


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


@pytest.mark.parametrize("preset", ["lecture", "gpt2", "modern"])
def test_the_page_shows_every_weight_of_every_block(preset, served, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    config = tiny_config(preset, vocab_size=50, context_length=12)
    browser.get(served(config))
    wait = WebDriverWait(browser, 30)
    for button in browser.find_elements(By.TAG_NAME, "button"):
        if button.is_displayed() and button.text.strip() == "Accept":  # Netron asks at first
            button.click()
    wait.until(lambda b: any("block_0" in node for node in nodes(b)))
    names = ["token_embedding", "block_0", "block_1", "logits"]
    assert all(any(name in node for node in nodes(browser)) for name in names)
    outside = expected_shapes(config, "")
    for layer in range(config.num_layers):
        outside -= expected_shapes(config, f"block_{layer}/")
    assert not outside - drawn_shapes(browser)

    for layer in range(config.num_layers):
        block = f"block_{layer}"
        functions = browser.find_elements(By.CSS_SELECTOR, "g.node g.node-item")
        opening = [item for item in functions if item.text.strip() == "ƒ"]
        assert len(opening) == config.num_layers
        opening[layer].click()
        wait.until(lambda b, block=block: any(f"{block}/attention" in node for node in nodes(b)))
        expected = expected_shapes(config, f"{block}/")
        assert drawn_shapes(browser) == expected
        browser.find_element(By.ID, "toolbar-path-back-button").click()
        wait.until(lambda b: any("token_embedding" in node for node in nodes(b)))
