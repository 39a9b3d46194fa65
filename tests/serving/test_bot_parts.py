"""What both bots are made of: messages of a size, secrets, and what is remembered."""

import random
import threading

import pytest

from minigpt_tf.errors import ConfigError
from minigpt_tf.serving.bots.secrets import secret
from minigpt_tf.serving.bots.splitting import split_text
from minigpt_tf.serving.bots.state import BotState


def test_messages_fit_and_contain_every_word():
    chooser = random.Random(1)
    for _ in range(300):
        words = [chooser.choice("aé😀你") * chooser.randint(1, 30) for _ in range(40)]
        text = "".join(word + chooser.choice([" ", "\n", "  ", "\n\n"]) for word in words)
        most = chooser.randint(2, 90)
        messages = split_text(text, most)
        assert all(0 < len(m.encode("utf-16-le")) // 2 <= most for m in messages)
        assert all(m == m.strip() for m in messages)
        assert "".join("".join(messages).split()) == "".join(text.split())
        longest = max(len(w.encode("utf-16-le")) // 2 for w in words)
        if longest <= most:
            assert " ".join(messages).split() == text.split()


def test_a_message_ends_at_a_line_if_there_is_one():
    assert split_text("one two\nthree four", 14) == ["one two", "three four"]
    assert split_text("abcdefgh", 3) == ["abc", "def", "gh"]
    assert split_text(" \n ") == []


def test_secrets_come_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("SOME_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="the token is missing: give --f FILE, or set SOME_TOKEN"):
        secret("the token", None, "--f", "SOME_TOKEN")
    monkeypatch.setenv("SOME_TOKEN", " abc\n")
    assert secret("the token", None, "--f", "SOME_TOKEN") == "abc"
    file = tmp_path / "token"
    file.write_text("def\n")
    assert secret("the token", str(file), "--f", "SOME_TOKEN") == "def"
    file.write_text("two words")
    with pytest.raises(ConfigError, match="one line with the secret alone"):
        secret("the token", str(file), "--f", "SOME_TOKEN")
    with pytest.raises(ConfigError, match="No such file"):
        secret("the token", str(tmp_path / "none"), "--f", "SOME_TOKEN")
    file.write_text("tökén")
    with pytest.raises(ConfigError, match="characters that none can have"):
        secret("the token", str(file), "--f", "SOME_TOKEN")


def test_a_message_is_new_once_also_for_two_processes(tmp_path):
    results = []

    def note() -> None:
        state = BotState(tmp_path / "state")
        results.append(state.is_new("message 1"))
        state.close()

    threads = [threading.Thread(target=note) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 7 + [True]


def test_a_state_that_cannot_be_used_is_one_error(tmp_path):
    (tmp_path / "text").write_text("this is not a database, " * 100)
    with pytest.raises(ConfigError, match="not usable as the bot's state"):
        BotState(tmp_path / "text")
    with pytest.raises(ConfigError, match="not usable"):
        BotState(tmp_path / "no" / "folder")
