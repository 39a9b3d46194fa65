"""JSON as people and programs write it, for texts and for records."""

import json

import pytest

from minigpt_tf.errors import DataError
from minigpt_tf.files.documents import read_document
from minigpt_tf.files.json_values import DuplicateName, parse_json_file


def texts(tmp_path, content, name="a.json"):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
    return read_document(tmp_path / name)


def test_numbers_are_as_they_are_written(tmp_path):
    document = texts(
        tmp_path, '{"a": [0.10, 1e5, 30, true, false, null, NaN], "b": ' + "9" * 5000 + "}"
    )
    assert document.text.split("\n") == ["0.10", "1e5", "30", "true", "false", "9" * 5000]
    assert document.notes == ("left out: 1 value NaN, 2 names of values ('a', 'b')",)


def test_a_name_that_comes_twice_has_both_values_as_text(tmp_path):
    assert texts(tmp_path, '{"a": "one", "a": "two"}').text == "one\ntwo"
    _, [(_, value)] = parse_json_file('{"a": 1, "a": 2}')
    assert isinstance(value, DuplicateName) and value.name == "a"


@pytest.mark.parametrize(
    "value",
    [
        {"question": ["q1", "q2"], "answer": ["a1", 2]},
        {"question": {"0": "q1", "1": "q2"}, "answer": {"0": "a1", "1": 2}},
    ],
)
def test_columns_are_read_row_by_row(tmp_path, value):
    (tmp_path / "a.json").write_text(json.dumps(value))
    document = read_document(tmp_path / "a.json")
    assert document.text == "q1\na1\nq2\n2"
    assert document.notes == ("left out: 2 names of values ('question', 'answer')",)


@pytest.mark.parametrize(
    "value",
    [
        {"a": ["1", "2"], "b": ["3"]},
        {"a": ["1", "2", "3"]},
        {"a": {"x": "1", "y": "2"}, "b": {"z": "3"}},
    ],
)
def test_what_has_no_rows_is_read_as_it_stands(tmp_path, value):
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read_document(tmp_path / "a.json").text == "1\n2\n3"


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(
    "content",
    [
        '{"t": "one"}\n{"t": "two"}\n',
        '{"t": "one"}{"t": "two"}',
        '{"t":\n "one"}\n{"t":\n "two"}',
        '{"t": "one"},\n{"t": "two"},\n',
        '[{"t": "one"},\n {"t": "two"}]',
        '\ufeff{"t": "one"}\n\ufeff{"t": "two"}\n',
        '\x1e{"t": "one"}\n\x1e{"t": "two"}\n',
        '"one"\n\n"two"',
    ],
)
def test_values_may_follow_each_other_in_any_file(tmp_path, name, content):
    assert texts(tmp_path, content, name).text == "one\ntwo"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-8-sig"])
def test_the_first_bytes_show_the_encoding(tmp_path, encoding):
    assert texts(tmp_path, '{"t": "größer"}'.encode(encoding)).text == "größer"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{"t": "a"}\n{"t": \n', 2),
        ("[1,\n2,\n3", 3),
        ('{"t": "a"}\n\nnot json\n', 3),
        ("{'t': 1}", 1),
    ],
)
def test_what_is_wrong_is_named_by_its_line(tmp_path, content, line):
    for name in ("a.json", "a.jsonl"):
        with pytest.raises(DataError, match=rf"is not valid JSON \(line {line}: "):
            texts(tmp_path, content, name)


def test_deep_nesting_is_refused(tmp_path):
    for deep in ("[" * 200_000, '{"a":' * 200_000):
        with pytest.raises(DataError, match="is JSON nested too deeply to read"):
            texts(tmp_path, deep)
