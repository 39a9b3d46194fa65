# ruff: noqa: F811  (fixtures of another file)
"""`minigpt chat`, and `minigpt generate --chat`, with a model that has a chat template."""

import io
import signal
import subprocess
import sys
import time

from minigpt_tf.__main__ import main
from minigpt_tf.cli.generate import chat_sampling
from minigpt_tf.config import SamplingConfig
from minigpt_tf.inference.generate import TextGenerator
from minigpt_tf.text.chat_template import message
from tests.conftest import ROOT
from tests.inference.test_chat import chat_folder, make_chat  # noqa: F401

GREEDY = ["--greedy", "--max-new-tokens", "4"]


def test_what_the_makers_recommend_holds_unless_something_was_given():
    _, generator = make_chat()
    generator.generation = {"temperature": 0.3, "greedy": True}
    assert chat_sampling(generator, {}).greedy
    asked = chat_sampling(generator, {"temperature": 0.9})
    assert (asked.temperature, asked.greedy, asked.max_new_tokens) == (0.9, False, 512)


def test_the_commands_ask_by_the_template(chat_folder, capsys, monkeypatch):
    generator = TextGenerator.load(chat_folder)
    prompt = generator.prepare_chat([message("user", "who is Hardy")])
    answer = generator.generate(prompt, SamplingConfig(greedy=True, max_new_tokens=6)).text
    assert main(["generate", "who is Hardy", "--chat", "--model", str(chat_folder)]) == 0
    assert capsys.readouterr().out == f"> who is Hardy\n{answer}\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("who is Hardy\n/quit\n"))
    assert main(["chat", "--model", str(chat_folder)]) == 0
    assert answer.lstrip() in capsys.readouterr().out
    raw = generator.generate("who is Hardy", SamplingConfig(greedy=True, max_new_tokens=6))
    plain = ["generate", "who is Hardy", "--model", str(chat_folder)]
    assert main([*plain, "--greedy", "--max-new-tokens", "6"]) == 0
    assert capsys.readouterr().out == f"who is Hardy{raw.text}\n"
    assert raw.prompt.ids[0] == generator.tokenizer.prefix_ids[0]


def test_a_damaged_description_of_a_chat_model_is_named(chat_folder, capsys):
    description = (chat_folder / "config.json").read_text()
    damages = {
        '"greedy": true': '"greedy": 3',
        '"special_tokens": {}': '"special_tokens": 5',
        '"end_ids": [': '"end_ids": [-4, ',
    }
    for old, new in damages.items():
        (chat_folder / "config.json").write_text(description.replace(old, new))
        assert main(["generate", "a", "--model", str(chat_folder)]) == 2
        assert "config.json: " in capsys.readouterr().err


def chat(folder, lines, *options):
    words = [sys.executable, "-m", "minigpt_tf", "chat", "--model", str(folder), *GREEDY, *options]
    done = subprocess.run(words, input=lines, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def test_chat_answers_line_by_line(trained_folder, capsys):
    assert main(["generate", "he was", "--model", str(trained_folder), *GREEDY]) == 0
    answer = capsys.readouterr().out.removeprefix("he was ")
    done = chat(trained_folder, "he was\nzaphod\n/reset\n/dance\nhe was\n/quit\nhe was\n")
    lines = done.stdout.splitlines()
    assert "/reset forgets" in lines[0] and "/quit ends it" in lines[0]
    assert [line.removeprefix("> ") for line in (lines[1], lines[5])] == [answer.strip()] * 2
    assert "starts anew" in lines[3] and "/dance is not a command" in lines[4]
    assert "not in the model's vocabulary: 'zaphod'" in done.stderr
    assert len(lines) == 7 or lines[-1] in ("> ", "")


def test_chat_ends_with_its_input(trained_folder):
    assert chat(trained_folder, "he was").stdout.count(">") == 2


def test_memory_makes_a_difference(trained_folder):
    forgetful = chat(trained_folder, "he was\nthe river\n").stdout
    remembering = chat(trained_folder, "he was\nthe river\n", "--memory").stdout
    assert forgetful.splitlines()[1] == remembering.splitlines()[1]
    assert "--memory" in forgetful and "--memory" not in remembering


def test_ctrl_c_stops_an_answer_and_not_the_chat(trained_folder):
    words = [sys.executable, "-m", "minigpt_tf", "chat", "--model", str(trained_folder), "--greedy"]
    process = subprocess.Popen(
        [*words, "--max-new-tokens", "1000000"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(3):
        process.stdin.write("he was\n")
        process.stdin.flush()
        seen = ""
        while len(seen) < 400 and (character := process.stdout.read(1)):
            seen += character
        process.send_signal(signal.SIGINT)
        while not seen.endswith(" ...\n") and (character := process.stdout.read(1)):
            seen += character
    time.sleep(0.1)
    _, err = process.communicate("/quit\n", timeout=60)
    assert process.returncode == 0 and "Traceback" not in err


def test_a_chat_answers_from_records_alone(chat_folder, tmp_path, capsys):
    records = tmp_path / "faq.csv"
    records.write_text("question,answer\nwho is Hardy,A friend of Ramanujan.\n")
    done = chat(chat_folder, "who wrote Hamlet\nwho is Hardy\n/quit\n", "--records", str(records))
    lines = done.stdout.splitlines()
    assert lines[1] == "> The records do not contain that." and done.returncode == 0
    assert lines[2] == "> [faq.csv, line 2]"
    words = ["chat", "--model", str(chat_folder), "--records"]
    assert main([*words, str(tmp_path / "x.csv")]) == 2
    assert "x.csv: no such file" in capsys.readouterr().err
