"""Files of questions, in every form."""

import json

import pytest

from minigpt_tf.evaluation.questions.queries import Query, read_queries


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "one\r\n\r\n two \n"),
        ("a.json", json.dumps(["one", "two"])),
        ("a.json", json.dumps({"version": 2, "queries": [{"question": "one"}, "two"]})),
        ("a.jsonl", '{"question": "one"}\n{"instruction": "two", "input": "", "output": "x"}\n'),
        ("a.ndjson", '"one"\n{"Prompt": "two", "chosen": "x", "rejected": "y"}\n'),
        ("a.csv", "id,question\n1,one\n2,two\n"),
    ],
)
def test_queries_of_every_form(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    found = read_queries(tmp_path / name)
    assert [query.question for query in found.queries] == ["one", "two"]
    assert all(query.fact is None and query.input == "" for query in found.queries)


def test_queries_keep_input_fact_and_place(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('\n{"instruction": "who", "input": "she", "fact": "8 weeks", "more": 3}\n')
    assert read_queries(file).queries == [Query(2, "who", "she", "8 weeks")]
