"""The Telegram bot in front of a fake Telegram and a fake API, with the faults of both."""

import subprocess
import sys
import time

import pytest

pytest.importorskip("telegram", reason="python-telegram-bot is not installed")

from minigpt_tf.config.bots import BotConfig, ClientConfig, TelegramConfig
from minigpt_tf.serving.bots.conversations import BROKEN, BUSY, HELP, READS_TEXT, TROUBLE
from minigpt_tf.serving.bots.running import run_telegram
from tests.conftest import ROOT
from tests.serving.fake_api import FakeApi, serving, wait_for
from tests.serving.fake_telegram import TOKEN, FakeTelegram
from tests.serving.running_bots import running


@pytest.fixture
def api():
    fake = FakeApi(models={"tiny": {"kind": "chat"}, "hr": {"kind": "chat"}})
    with serving(fake.application()) as fake.url:
        yield fake


@pytest.fixture
def telegram():
    fake = FakeTelegram()
    with serving(fake.application()) as fake.url:
        yield fake


@pytest.fixture
def start(api, telegram, tmp_path):
    """Starts the bot, with other settings if they are given."""
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")

    def begin(api_url=None, poll_seconds=1, edit_seconds=0.1, history=20, system="", **bot):
        client = ClientConfig(api=api_url or f"{api.url}/v1", history=history, system=system)
        own = BotConfig(token_file=str(token), state=str(tmp_path / "bot.sqlite"), **bot)
        config = TelegramConfig(
            telegram_api=telegram.url, poll_seconds=poll_seconds, edit_seconds=edit_seconds
        )
        return running(run_telegram, client, own, config)

    return begin


def test_an_answer_is_drafted_while_it_grows_and_then_sent(api, telegram, start):
    api.words, api.pause = ["*_[a](b) ", "😀 ", "<b>c", " & d"], 0.4
    with start(system="Be brief."):
        telegram.write("Hi")
        wait_for(lambda: telegram.texts())
    drafts = [call["text"] for call in telegram.called("sendMessageDraft")]
    assert drafts and all("*_[a](b) 😀 <b>c & d".startswith(draft) for draft in drafts)
    assert (
        sorted(drafts, key=len) == drafts
        and len({c["draft_id"] for c in telegram.called("sendMessageDraft")}) == 1
    )
    assert telegram.texts() == ["*_[a](b) 😀 <b>c & d"]
    assert telegram.called("sendChatAction") and not telegram.called("editMessageText")
    sent = api.requests[0]["messages"]
    assert sent == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


def test_a_group_is_answered_when_the_bot_is_mentioned_and_by_edits(api, telegram, start):
    api.words, api.pause = ["one ", "two ", "three"], 0.5
    with start():
        telegram.write("not for the bot", chat=-5)
        telegram.write("@other_bot hello", chat=-5)
        telegram.write("/reset@other_bot", chat=-5)
        telegram.write("what is @Mini_Bot two?", chat=-5)
        wait_for(lambda: telegram.texts(-5) == ["one two three"] and not api.running)
        time.sleep(0.3)  # until the bot has seen the end as well
        reply = {
            "reply_to_message": {
                "message_id": 9,
                "date": 1,
                "chat": {"id": -5, "type": "group"},
                "from": {"id": 99, "is_bot": True, "first_name": "x"},
            }
        }
        telegram.write("and three?", chat=-5, **reply)
        wait_for(lambda: len(api.requests) == 2)
        wait_for(lambda: len(telegram.texts(-5)) == 2)
    assert api.requests[0]["messages"] == [{"role": "user", "content": "what is  two?"}]
    assert telegram.called("editMessageText") and not telegram.called("sendMessageDraft")
    assert telegram.called("sendMessage")[0]["reply_parameters"]


def test_flood_control_is_obeyed(api, telegram, start):
    api.words, api.pause = [f"{n} " for n in range(30)], 0.1
    telegram.faults = [("sendMessageDraft", "2")]
    with start():
        telegram.write("Count")
        wait_for(lambda: telegram.texts())
    refused = next(at for at, name, _ in telegram.calls if name == "sendMessageDraft")
    meanwhile = [n for at, n, _ in telegram.calls if refused < at < refused + 1.9]
    assert set(meanwhile) <= {"getUpdates"}
    assert telegram.texts() == ["".join(api.words).strip()]


def test_the_last_message_waits_as_long_as_telegram_asks(api, telegram, start):
    telegram.faults = [("sendMessage", "1"), ("sendMessage", 500), ("sendMessage", "drop")]
    with start():
        telegram.write("Hi")
        wait_for(lambda: telegram.texts() == ["Hello there."])
    times = [at for at, name, _ in telegram.calls if name == "sendMessage"]
    assert len(times) == 4 and times[1] - times[0] >= 0.95


def test_a_server_without_drafts_gets_edits(api, telegram, start):
    api.words, api.pause = ["one ", "two ", "three"], 0.4
    telegram.methods_missing = ("sendMessageDraft",)
    with start():
        telegram.write("Hi")
        wait_for(lambda: telegram.texts() == ["one two three"])
    assert len(telegram.called("sendMessageDraft")) == 1


@pytest.mark.parametrize("chat", [1, -5])
def test_a_long_answer_is_several_messages(chat, api, telegram, start):
    text = " ".join(f"word{n}" for n in range(1100)) + " 😀" * 100
    api.words = [text[at : at + 97] for at in range(0, len(text), 97)]
    api.pause = 0.01
    with start():
        telegram.write("@mini_bot Write a book", chat=chat)
        wait_for(lambda: " ".join(telegram.texts(chat)) == text)
    assert len(telegram.texts(chat)) == 3
    assert all(len(t.encode("utf-16-le")) // 2 <= 4096 for t in telegram.texts(chat))


def test_a_restart_repeats_no_answer(api, telegram, start):
    telegram.keeps_updates = True
    with start(remember=True):
        telegram.write("first")
        wait_for(lambda: telegram.texts() == ["Hello there."])
    with start(remember=True):
        telegram.write("second")
        wait_for(lambda: len(telegram.texts()) == 2)
        time.sleep(0.3)
    assert len(telegram.texts()) == 2
    contents = [message["content"] for message in api.requests[-1]["messages"]]
    assert contents == ["first", "Hello there.", "second"]
    telegram.write("third")
    with start():  # which keeps no conversations
        wait_for(lambda: len(telegram.texts()) == 3)
    assert len(api.requests[-1]["messages"]) == 1


def test_commands(api, telegram, start):
    with start():
        for text in ("/start", "/model", "/model hr", "/model none", "hello", "/reset", "again"):
            before = len(telegram.texts())
            telegram.write(text)
            wait_for(lambda before=before: len(telegram.texts()) == before + 1)
    replies = telegram.texts()
    assert replies[0] == HELP
    assert replies[1].splitlines()[:2] == ["→ tiny", "· hr"]
    assert replies[2] == "hr answers from now on."
    assert replies[3].startswith("There is no model 'none'.\n· tiny\n→ hr")
    assert replies[5] == "We start anew."
    assert [(r["model"], len(r["messages"])) for r in api.requests] == [("hr", 1), ("hr", 1)]


def test_stop_ends_the_answer_on_the_server(api, telegram, start):
    api.words, api.pause = ["on and on "] * 500, 0.05
    with start():
        telegram.write("Talk")
        wait_for(lambda: telegram.called("sendMessageDraft"))
        telegram.write("And?")
        wait_for(lambda: BUSY in telegram.texts())
        telegram.write("/stop")
        wait_for(lambda: "Stopped." in telegram.texts())
        wait_for(lambda: api.canceled == 1)
        said = telegram.texts()[1]
        assert said.startswith("on and on") and len(said) < 3000
        telegram.write("/stop")
        wait_for(lambda: "I am not answering." in telegram.texts())
        api.words = ["Yes"]
        telegram.write("More?")
        wait_for(lambda: "Yes" in telegram.texts())
    assert api.requests[-1]["messages"][1]["content"].startswith("on and on")


def test_two_users_are_answered_at_the_same_time(api, telegram, start):
    api.words, api.pause = ["one ", "two"], 0.5
    with start():
        telegram.write("from Ann", chat=1)
        telegram.write("from Bob", "bob", chat=2)
        wait_for(lambda: api.running == 2)
        wait_for(lambda: telegram.texts(1) and telegram.texts(2))
    asked = sorted(request["messages"][-1]["content"] for request in api.requests)
    assert asked == ["from Ann", "from Bob"]


def test_only_those_on_the_list_are_answered(api, telegram, start):
    with start(allow=("@Ann", "7")):
        telegram.write("Hi", "eve", chat=3)
        wait_for(lambda: telegram.texts(3))
        telegram.write("Hi", "ann")
        wait_for(lambda: telegram.texts(1))
    assert telegram.texts(3)[0].startswith("This bot is private. Your id is ")
    assert len(api.requests) == 1


def test_what_is_not_text_is_answered_in_words(api, telegram, start):
    with start():
        telegram.write(None, photo=[])
        wait_for(lambda: telegram.texts() == [READS_TEXT])


def test_trouble_with_the_api_is_said_and_reported(api, telegram, start):
    api.breaks_after = 2
    with start() as recorder:
        telegram.write("Hi")
        wait_for(lambda: telegram.texts() == [f"Hello there\n\n{BROKEN}"])
    assert "the engine failed" in recorder.notices
    with start(api_url="http://127.0.0.1:9/v1") as recorder:
        telegram.write("Hi again")
        wait_for(lambda: telegram.texts()[1:] == [TROUBLE])
    assert "http://127.0.0.1:9/v1: it cannot be reached" in recorder.notices
    assert not any("Hi again" in notice for notice in recorder.notices)


def test_a_busy_api_is_asked_again(api, telegram, start):
    api.fails, api.breaks_after = 2, None
    with start():
        telegram.write("Hi")
        wait_for(lambda: telegram.texts() == ["Hello there."])
    assert len(api.requests) == 3


def test_telegram_may_be_away_for_a_while(api, telegram, start):
    telegram.faults = [("getUpdates", 500), ("getUpdates", "drop"), ("getUpdates", "1")]
    with start() as recorder:
        telegram.write("Hi")
        wait_for(lambda: telegram.texts() == ["Hello there."])
    assert any("cannot be reached" in notice for notice in recorder.notices)


def command(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "minigpt_tf", "bot", "telegram", *words],
        cwd=ROOT,
        env={"PATH": "", "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_wrong_token_is_one_line_without_the_token(telegram, tmp_path):
    words = ["--telegram-api", telegram.url, "--state", str(tmp_path / "s")]
    done = command(*words, MINIGPT_TELEGRAM_TOKEN="1:wrong-secret")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: Telegram refuses the token")
    assert "wrong-secret" not in done.stderr + done.stdout and "Traceback" not in done.stderr
    done = command(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "give --token-file FILE, or set MINIGPT_TELEGRAM_TOKEN" in done.stderr
    empty = tmp_path / "empty"
    empty.write_text("\n")
    done = command(*words, "--token-file", str(empty))
    assert done.returncode == 2 and "expected one line" in done.stderr
    done = command(*words, "--phone-id", "1")
    assert done.returncode == 2 and "--phone-id is an option of whatsapp" in done.stderr
