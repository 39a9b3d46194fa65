"""Answers from records over the API: what the model sees, what is refused, what is named."""

import shutil

import pytest

from minigpt_tf.__main__ import main
from minigpt_tf.config import EngineConfig, RetrievalConfig, SamplingConfig, ServingConfig
from minigpt_tf.errors import ConfigError
from minigpt_tf.inference.generate import TextGenerator
from minigpt_tf.retrieval.context import UNKNOWN, messages_with
from minigpt_tf.retrieval.library import Library
from minigpt_tf.serving.engine.loading import plan_models, with_records
from tests.serving.conftest import serving

ROWS = "question,answer\nwho is Hardy,A friend.\nwhere is the river,In the north.\n"


@pytest.fixture(scope="module")
def home(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    shutil.copytree(models / "talk", folder / "talk")
    shutil.copytree(models / "words", folder / "words")
    (folder / "faq.csv").write_text(ROWS)
    return folder


@pytest.fixture(scope="module")
def server(home):
    with serving(home / "talk", home / "words", records=[str(home / "faq.csv")]) as running:
        yield running


def test_the_entries_stand_before_the_question(home, server):
    found = Library([home / "faq.csv"]).find("who is Hardy")
    generator = TextGenerator.load(home / "talk", EngineConfig(speculate="off"))
    prompt = generator.prepare_chat(messages_with(found, "who is Hardy"))
    sampling = SamplingConfig(greedy=True, max_new_tokens=8, context_full="stop")
    alone = generator.generate(prompt, sampling)
    answer = server.chat("who is Hardy", temperature=0, max_tokens=8)
    assert answer["choices"][0]["message"]["content"] == alone.text
    assert answer["usage"]["prompt_tokens"] == len(prompt.ids)
    assert [entry["source"] for entry in answer["records"]] == ["faq.csv, line 2"]
    asked = [{"role": "user", "content": "who is Hardy"}]
    body = {"model": "talk", "messages": asked, "temperature": 0, "max_tokens": 8}
    chunks = server.stream("/v1/chat/completions", **body)
    assert chunks[0]["records"] == answer["records"] and chunks[0]["choices"]
    assert not any("records" in chunk for chunk in chunks[1:])
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == alone.text


@pytest.mark.parametrize("n", [1, 2])
def test_where_nothing_fits_the_model_is_not_asked(server, n):
    answer = server.chat("what is the weather tomorrow", n=n)
    texts = [choice["message"]["content"] for choice in answer["choices"]]
    assert texts == [UNKNOWN] * n and answer["records"] == []
    assert {choice["finish_reason"] for choice in answer["choices"]} == {"stop"}
    assert answer["usage"]["completion_tokens"] == 0
    assert server.stream_text("what is the weather tomorrow") == UNKNOWN
    assert server.idle()


def test_a_question_that_goes_on_is_about_the_one_before(server):
    messages = [
        {"role": "user", "content": "where is the river"},
        {"role": "assistant", "content": "In the north."},
        {"role": "user", "content": "and what else?"},
    ]
    body = {"model": "talk", "messages": messages, "max_tokens": 2}
    found = server.post("/v1/chat/completions", **body).json()
    assert found["records"][0]["text"] == "In the north."


def test_a_changed_record_counts_in_the_next_answer(home, server):
    try:
        (home / "faq.csv").write_text(ROWS.replace("A friend.", "A mathematician."))
        answer = server.chat("who is Hardy", max_tokens=1)
        assert answer["records"][0]["text"] == "A mathematician."
    finally:
        (home / "faq.csv").write_text(ROWS)


def test_other_endpoints_do_not_change(server):
    assert "records" not in server.complete("he was", max_tokens=2)
    described = {model["id"]: model for model in server.client.get("/info").json()["models"]}
    assert described["talk"]["records"] == 2 and "records" not in described["words"]


def test_records_are_given_to_the_models_that_are_named(home, capsys):
    folders = [f"a={home / 'talk'}", f"b={home / 'talk'}", str(home / "words")]
    plans = plan_models(folders, ServingConfig(slots=1), EngineConfig())
    file = str(home / "faq.csv")
    given = with_records(plans, [f"b={file}"], RetrievalConfig())
    assert [plan.library is None for plan in given] == [True, False, True]
    given = with_records(plans, [file], RetrievalConfig())
    assert given[0].library is given[1].library is not None and given[2].library is None
    with pytest.raises(ConfigError, match="words has no chat template"):
        with_records(plans, [f"words={file}"], RetrievalConfig())
    with pytest.raises(ConfigError, match="no model has a chat template"):
        with_records(plans[2:], [file], RetrievalConfig())
    words = ["serve", "--models", str(home / "talk"), "--port", "0"]
    assert main([*words, "--records", str(home / "none.csv")]) == 2
    assert "none.csv: no such file" in capsys.readouterr().err
    assert main([*words, "--num-entries", "2"]) == 2
    assert "--num-entries: needs --records" in capsys.readouterr().err
