"""The pages of `minigpt inspect` in real Chromium: drawn, clicked, by keyboard, narrow and dark."""

import json
import re

import numpy as np
import pytest

import minigpt_tf as mg
from minigpt_tf.__main__ import main
from minigpt_tf.inspection import text_page
from tests.chromium import chromium

TEXT = "he was an indian mathematician who died"
MARKUP = "</script><b>bold</b><img src=x onerror=alert(1)>"
DESKTOP, PHONE = (1200, 900), (360, 740)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as window:
        yield window


@pytest.fixture
def opened(browser, trained_folder, tmp_path, request):
    """Writes a page by the command and opens it; checks at the end that nothing went wrong on it
    and that nothing was asked for."""

    def open_page(*words, size=DESKTOP, dark=False, models=(trained_folder,)):
        file = tmp_path / "page.html"
        given = [*map(str, models)] if "--history" in words else ["--model", str(models[0])]
        assert main(["inspect", *words, *given, "--out", str(file)]) == 0
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        browser.get(file.as_uri())
        wait(browser, "return document.body.dataset.ready === 'yes'")
        return browser

    yield open_page
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    log = browser.get_log("browser")
    assert [entry["message"] for entry in log if entry["level"] == "SEVERE"] == []


def wait(browser, script):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 30, 0.05).until(lambda b: b.execute_script(script))


def texts(browser, selector):
    """What is written in the elements, without what is not seen."""
    return [element.text for element in browser.find_elements("css selector", selector)]


def press(browser, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def section(browser, title):
    found = browser.find_elements("css selector", "section")
    return next(s for s in found if s.find_element("tag name", "h2").text == title)


def test_each_token_shows_the_model_s_numbers(opened, trained_folder):
    browser = opened(TEXT)
    found = mg.look_inside(trained_folder, TEXT)
    reads = section(browser, "What it reads")
    buttons = reads.find_elements("css selector", "button.token")
    assert [b.find_element("class name", "piece").text for b in buttons] == TEXT.split()
    under = [b.find_element("class name", "under").text for b in buttons]
    assert under == ["–", *(f"{value:.2f}" for value in found.surprise)]
    for t in (1, 4):
        buttons[t].click()
        probability = float(np.exp(-found.surprise[t - 1]))
        shown = re.search(r"probability (\S+) · surprise (\S+) nats.*rank (\d+) of 500", reads.text)
        assert float(shown[1].replace("−", "-")) == pytest.approx(probability, abs=6e-5, rel=6e-3)
        assert float(shown[2]) == pytest.approx(found.surprise[t - 1], abs=6e-5)
        assert int(shown[3]) == found.ranks[t - 1]
        tokenizer = mg.load_folder(trained_folder).tokenizer
        expected = [tokenizer.decode([i]) for i in found.lens_ids[-1, t - 1]]
        named = [name.text for name in reads.find_elements("css selector", ".bars .name")]
        assert named[:5] == expected and named[5] == TEXT.split()[t]  # an untrained guess


def strongest(browser):
    return json.loads(
        browser.execute_script("return document.querySelector('[data-weights]').dataset.weights")
    )


@pytest.mark.parametrize("exact", [True, False])
def test_a_click_on_a_head_shows_its_weights(exact, opened, trained_folder, monkeypatch):
    monkeypatch.setattr(text_page, "EXACT_WEIGHTS", 4_000_000 if exact else 10)
    browser = opened(TEXT)
    attention = mg.attention(trained_folder, TEXT)
    precision = 2e-5 if exact else 3e-3
    for layer, head, query in ((1, 1, 6), (0, 0, 5), (0, 1, 3)):
        browser.find_element("css selector", f"[data-head='{layer}.{head}']").click()
        browser.find_element("css selector", f"[data-token='{query}']").click()
        row = attention[layer, head, query]
        best = strongest(browser)
        assert [weight for weight, _ in best] == pytest.approx(
            sorted(row, reverse=True)[:3], abs=precision
        )
        for weight, key in best:
            assert weight == pytest.approx(row[key], abs=precision)
        heading = section(browser, "Where it looks").find_elements("tag name", "h3")[0].text
        assert heading == f"Block {layer}, head {head}"
        looks = texts(browser, ".looks .token .under")
        assert looks[query + 1 :] == ["–"] * (6 - query)
        assert [float(text) for text in looks[: query + 1]] == pytest.approx(
            row[: query + 1].tolist(), abs=0.0051 + precision
        )
    browser.find_element("id", "mean").click()
    assert [weight for weight, _ in strongest(browser)] == pytest.approx(
        sorted(attention[0, :, 3].mean(axis=0), reverse=True)[:3], abs=precision
    )


PIXEL = """
const canvas = document.querySelector("canvas.triangle"), { cell, margin } = canvas.place;
const [query, key] = arguments, scale = canvas.width / canvas.getBoundingClientRect().width;
const x = (margin + (key + 0.5) * cell) * scale, y = (query + 0.5) * cell * scale;
return Array.from(canvas.getContext("2d").getImageData(x, y, 1, 1).data.slice(0, 3));
"""


def test_the_triangle_is_darker_where_a_head_looks_more(opened, trained_folder):
    browser = opened(TEXT)
    browser.find_element("css selector", "[data-head='1.0']").click()
    row = mg.attention(trained_folder, TEXT)[1, 0]
    white, blue = np.array([255, 255, 255]), np.array([0x24, 0x58, 0xD3])
    for query in range(1, 6):  # the chosen token's row has a frame
        for key in range(query + 1):
            wanted = white + (blue - white) * row[query, key] ** 0.6
            assert browser.execute_script(PIXEL, query, key) == pytest.approx(wanted, abs=2)
        assert browser.execute_script(PIXEL, query, 6) == [0xEE, 0xF0, 0xF4]  # the future
    size = "const c = document.querySelector('canvas.triangle').getBoundingClientRect();"
    place = "const p = document.querySelector('canvas.triangle').place;"
    at = (
        f"{size}{place} return [p.margin + 1.5 * p.cell - c.width / 2, 4.5 * p.cell - c.height / 2]"
    )
    x, y = browser.execute_script(at)
    from selenium.webdriver.common.action_chains import ActionChains

    canvas = browser.find_element("css selector", "canvas.triangle")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    ActionChains(browser).move_to_element_with_offset(canvas, int(x), int(y)).click().perform()
    said = section(browser, "Where it looks").find_element("class name", "readout").text
    assert said == f"mathematician pays {row[4, 1]:.4f} of its attention to was"
    chosen = browser.find_element("css selector", ".token[aria-pressed='true'] .piece").text
    assert chosen == "mathematician"


def test_all_can_be_reached_by_keyboard(opened, trained_folder):
    from selenium.webdriver.common.keys import Keys

    browser = opened(TEXT)

    def focused(name):
        return browser.execute_script(f"return document.activeElement.getAttribute('{name}')")

    def tab_to(name):
        for _ in range(20):
            press(browser, Keys.TAB)
            if focused(name) is not None:
                return
        raise AssertionError(f"Tab reaches no {name}")

    tab_to("data-token")
    assert focused("data-token") == "6"  # the chosen one, the last
    press(browser, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert focused("data-token") == "4" and focused("aria-pressed") == "true"
    assert "token 5 of 7: mathematician" in texts(browser, ".stays .what")
    press(browser, Keys.HOME)
    assert focused("data-token") == "0"
    tab_to("data-head")
    attention = mg.attention(trained_folder, TEXT)
    between = [[attention[..., q, 1:q].max(axis=-1)] for q in range(2, 7)]
    surest = np.argmax(np.sum(between, axis=(0, 1)))
    assert focused("data-head") == f"{surest // 2}.{surest % 2}"
    press(browser, Keys.HOME, Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    assert focused("data-head") == "1.1" and focused("aria-pressed") == "true"
    press(browser, Keys.ARROW_RIGHT)  # there is none
    assert focused("data-head") == "1.1"


def test_the_layers_and_the_steps_of_the_loss(opened, trained_folder):
    browser = opened(TEXT)
    found = mg.look_inside(trained_folder, TEXT)
    tokenizer = mg.load_folder(trained_folder).tokenizer
    says = section(browser, "What each layer would say")
    rows = says.find_elements("class name", "options")
    for layer, row in enumerate(rows):
        wanted = found.lens_ids[layer, -1], found.lens_probabilities[layer, -1]
        shown = [
            f"{tokenizer.decode([i]) if i else '[0]'}{p:.2f}" for i, p in zip(*wanted, strict=True)
        ]
        assert re.sub(r"\s", "", row.text) == "".join(shown)
    assert len(rows) == 3
    says.find_element("tag name", "summary").click()
    wait(browser, "return document.querySelectorAll('.lens td button').length === 21")
    says.find_elements("css selector", ".lens td button")[2].click()
    assert "token 3 of 7: an" in texts(browser, ".stays .what")
    steps = section(browser, "The loss in six steps").find_elements("css selector", ".steps > li")
    assert [step.find_element("tag name", "b").text for step in steps] == [
        *("Logits", "Probabilities", "Target probabilities", "Logarithms", "Mean"),
        "Negative: the loss",
    ]
    logarithms = [float(x.replace("−", "-")) for x in re.findall(r"−[\d.]+", steps[3].text)]
    assert logarithms == pytest.approx((-found.surprise).tolist(), abs=6e-5)
    results = [step.find_element("class name", "result").text for step in steps[4:]]
    loss = f"{found.surprise.mean():.4f}"
    assert results == [f"−{loss}", loss]
    assert "was an indian mathematician who" in texts(browser, ".passage mark")


@pytest.mark.parametrize("words", [[TEXT], ["--embeddings", "hardy"], ["--history"]], ids=str)
def test_a_page_fits_a_phone_and_follows_dark_and_light(words, opened):
    browser = opened(*words, size=PHONE)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    color = "return getComputedStyle(document.body).{}"
    light = [browser.execute_script(color.format(name)) for name in ("backgroundColor", "color")]
    browser = opened(*words, size=PHONE, dark=True)
    dark = [browser.execute_script(color.format(name)) for name in ("backgroundColor", "color")]
    assert light == ["rgb(246, 245, 241)", "rgb(27, 35, 48)"]
    assert dark == ["rgb(16, 20, 27)", "rgb(232, 236, 243)"]


def test_markup_in_tokens_stays_text(opened, tmp_path):
    tokenizer = mg.train_tokenizer("char", [MARKUP], 60)
    size = tokenizer.vocab_size
    config = mg.ModelConfig(
        vocab_size=size, context_length=60, embed_dim=8, num_heads=2, num_layers=1
    )
    folder = mg.save_model_folder(mg.build_gpt_model(config), tokenizer, tmp_path / "<i>m")
    browser = opened(MARKUP, models=[folder])
    shown = "".join(texts(browser, "section:first-of-type > .tokens .piece"))
    assert shown == MARKUP.replace(" ", "␣")
    assert (
        browser.execute_script("return document.querySelectorAll('img, main b b, h1 i').length")
        == 0
    )
    assert texts(browser, "h1") == ["Inside <i>m"]


def test_one_token_and_a_continuation(opened):
    browser = opened("hardy")
    assert "needs at least two tokens" in section(browser, "The loss in six steps").text
    browser = opened("he was", "--max-new-tokens", "3", "--greedy")
    assert len(texts(browser, "button.token.generated")) == 3


def test_the_map_finds_and_chooses_tokens(opened):
    browser = opened("hardy", "--embeddings")
    heading = "return document.querySelector('h3').textContent"
    assert browser.execute_script(heading) == "Nearest to hardy"
    first = texts(browser, ".near button")[0]
    browser.find_element("css selector", ".near button").click()
    assert browser.execute_script(heading) == f"Nearest to {first}"
    browser.find_element("id", "search").send_keys("ramanuj")
    assert browser.execute_script(heading).startswith("Nearest to ramanuj")
    pixels = """
        const canvas = document.querySelector(".map canvas"), all = canvas.getContext("2d")
            .getImageData(0, 0, canvas.width, canvas.height).data;
        let found = 0;
        for (let i = 0; i < all.length; i += 4)
            if (all[i] === 0xe8 && all[i + 1] === 0x55 && all[i + 2] === 0x2d) found++;
        return found;
    """
    assert browser.execute_script(pixels) > 40  # the chosen point
    before = browser.execute_script("return document.querySelector('.map canvas').toDataURL()")
    browser.find_element("css selector", "[aria-label='nearer']").click()
    after = browser.execute_script("return document.querySelector('.map canvas').toDataURL()")
    assert before != after


def test_runs_are_compared(opened, trained_folder, folder_copy):
    rows = (folder_copy / "history.csv").read_text().splitlines()
    (folder_copy / "history.csv").write_text(
        "\n".join([rows[0].replace("gradient_norm", "x"), *rows[1:]])
    )
    browser = opened("--history", models=[trained_folder, folder_copy])
    titles = texts(browser, "section h2")
    assert {"Loss", "Accuracy", "Learning rate", "Gradient norm", "What it wrote"} <= set(titles)
    loss = section(browser, "Loss")
    assert len(loss.find_elements("css selector", "path.curve")) == 4
    assert "tiny, training" in loss.text and "copy, validation" in loss.text
    assert len(section(browser, "Gradient norm").find_elements("css selector", "path.curve")) == 1
    samples = texts(browser, ".sample")
    assert len(samples) == 2 and all("step 6" in text for text in samples)
    browser.execute_script(
        "const slider = document.querySelector('[type=range]'); slider.value = 0;"
        "slider.dispatchEvent(new Event('input'))"
    )
    assert all("step 3" in text for text in texts(browser, ".sample"))
    browser.find_element("css selector", "#axis option[value='epoch']").click()
    shown = "return document.querySelector('section svg').textContent.includes('epoch')"
    wait(browser, shown)
    assert "epoch" in loss.find_element("css selector", "svg").get_attribute("textContent")
