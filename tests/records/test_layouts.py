"""Records in the layouts that other tools write, and what is said of those that are not read."""

import json

import pytest

from minigpt_tf.config import RecordsConfig
from minigpt_tf.errors import DataError
from minigpt_tf.records.reading import read_records

ROWS = [
    {"instruction": "what is it", "input": "MK-07", "output": "a form"},
    {"instruction": "how many", "input": "", "output": 30},
]
TEXTS = [("what is it", "MK-07", "a form"), ("how many", "", "30")]
TALK = [("system", "be brief"), ("user", "hi"), ("assistant", "hello")]
FLAT = tuple(word for turn in TALK for word in turn)


def read(tmp_path, content, name="a.json", kinds=None, **settings):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_records(path, RecordsConfig(**settings), *([kinds] if kinds else []))


def columns(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.mark.parametrize(
    "value",
    [
        ROWS,
        {"data": ROWS},
        {"train": ROWS, "test": ROWS[:1]},
        {"version": "1.0", "license": "MIT", "data": ROWS},
        {"dataset": {"records": ROWS}},
        columns(ROWS),
        {"version": 2, **columns(ROWS)},
        {"train": columns(ROWS)},
        {name: dict(enumerate(values)) for name, values in columns(ROWS).items()},
        dict(enumerate(ROWS)),
        {"columns": list(ROWS[0]), "index": [0, 1], "data": [list(row.values()) for row in ROWS]},
        {"schema": {"fields": [{"name": "index"}]}, "data": ROWS},
        {"features": [{}], "rows": [{"row_idx": i, "row": row} for i, row in enumerate(ROWS)]},
        [list(ROWS[0]), *(list(row.values()) for row in ROWS)],
    ],
    ids=["list", "data", "splits", "about", "nested", "lists", "beside", "splits of columns",
         "pandas", "index", "split", "table", "hub", "header"],
)  # fmt: skip
def test_records_in_any_frame(tmp_path, value):
    found = read(tmp_path, value)
    assert [record.texts for record in found.records] == TEXTS and not found.dropped


def test_splits_that_are_not_read_are_named(tmp_path):
    found = read(tmp_path, {"train": ROWS, "test": ROWS[:1]})
    assert found.notes == ("left out: 1 record of the list 'test'",)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"instruction": ["a", "b"], "output": ["c"]}, "columns of different lengths"),
        ([["a", "b"], ["c", "d"]], r"list of lists without names \(pandas: orient='values'\)"),
        ({"one": ROWS, "two": ROWS}, r"holds several lists of records \('one': 2, 'two': 2\)"),
        ({"data": [{"title": "x", "paragraphs": []}]}, "SQuAD's layout of paragraphs"),
        ([{"prompt": "p", "completion": "c", "label": True}], r"TRL's layout of single judgments"),
        ([{"question": "q", "context": "c", "answers": {"text": ["a"]}}], "it is SQuAD's layout"),
        (
            [{"question": "q", "answer": "a"}],
            "give --map instruction=question --map output=answer$",
        ),
        (
            [{"instruction": "i", "context": "c", "response": "r"}],
            "give --map output=response --map input=context$",
        ),
        ([{"user question": "q", "Answer": "a"}], "give --map 'instruction=user question' --map"),
        ([{"text": "only"}], "texts without more are for minigpt train"),
        ([{"human": "q", "assistant": "a"}], "--map instruction=human --map output=assistant$"),
        ([{"Frage": "q", "Antwort": "a"}], "such as --map instruction=Frage --map output=Antwort$"),
        ([{"items": [{"from": "human", "value": "q"}]}], "give --map messages=items$"),
        ([{"custom_id": "1", "body": {"messages": []}}], "requests for OpenAI's batch API"),
        ([{"x": "y"}], "say which is which, such as --map output=answer"),
    ],
)
def test_what_is_not_read_is_named_with_its_remedy(tmp_path, value, expected):
    with pytest.raises(DataError, match=expected):
        read(tmp_path, value, kinds=["conversation", "instruction"])


def test_the_options_of_the_advice_read_the_file(tmp_path):
    rows = [{"question": "q", "context": "c", "response": "r"}]
    with pytest.raises(DataError) as error:
        read(tmp_path, rows, kinds=["instruction"])
    words = str(error.value).rpartition("give ")[2].split("--map ")[1:]
    given = dict(word.strip().split("=", 1) for word in words)
    assert read(tmp_path, rows, map=given).records[0].texts == ("q", "c", "r")


def test_a_table_without_a_header_is_told_how_to_read_it(tmp_path):
    text = "What is the notice period?,Four weeks.\nWho signs?,The manager.\n"
    with pytest.raises(DataError, match="if its first row is a record, give --map instruction=1"):
        read(tmp_path, text, "a.csv", kinds=["instruction"])
    found = read(tmp_path, text, "a.csv", map={"instruction": "1", "output": "2"})
    assert [r.texts[0] for r in found.records] == ["What is the notice period?", "Who signs?"]


def as_messages(role="role", content="content", names=None, wrap=lambda text: text):
    return [{role: (names or {}).get(who, who), content: wrap(said)} for who, said in TALK]


SHAREGPT = {"user": "human", "assistant": "gpt"}


@pytest.mark.parametrize(
    "row",
    [
        {"messages": as_messages()},
        {"conversations": as_messages("from", "value", SHAREGPT)},
        {"conversations": as_messages("from", "value", {"user": "user", "assistant": "chatgpt"})},
        {"conversations": as_messages("from", "value", {"user": "human", "assistant": "bing"})},
        {"conversations": as_messages("from", "value", SHAREGPT)[1:], "system": "be brief"},
        {"conversations": as_messages()},
        {"messages": as_messages(wrap=lambda text: [{"type": "text", "text": text}])},
        {"messages": as_messages()[1:], "system": [{"text": "be brief"}]},
        {"messages": as_messages(names={"system": "developer"})},
        {"messages": as_messages(names={"user": "User", "assistant": "Chatbot"})},
        {"contents": as_messages(content="parts", names={"assistant": "model"},
                                 wrap=lambda text: [{"text": text}])},
        {"prompt": as_messages()[:2], "completion": as_messages()[2:]},
    ],
)  # fmt: skip
def test_conversations_in_any_words(tmp_path, row):
    for content, name in (([row], "a.json"), (json.dumps(row), "a.jsonl"), (row, "b.json")):
        found = read(tmp_path, content, name)
        assert found.kind == "conversation" and found.records[0].texts == FLAT
        assert found.notes == ()


def test_conversations_may_be_lists_of_messages(tmp_path):
    lines = "\n".join(json.dumps(as_messages()) for _ in range(2))
    for content, name in (([as_messages()] * 2, "a.json"), (lines, "a.jsonl")):
        assert [r.texts for r in read(tmp_path, content, name).records] == [FLAT, FLAT]


def test_what_messages_hold_beside_their_texts_is_named(tmp_path):
    talk = as_messages()
    talk[2] |= {"reasoning_content": "hm", "name": "bob"}
    found = read(tmp_path, [{"messages": talk}])
    assert found.notes == ("left out: 1 unused value of a message ('reasoning_content'; entry 1)",)


def test_conversations_in_the_cells_of_a_table(tmp_path):
    import csv
    import io

    for written in (json.dumps(as_messages()), repr(as_messages())):  # as pandas writes them
        out = io.StringIO()
        csv.writer(out).writerows([["id", "messages"], ["1", written]])
        found = read(tmp_path, out.getvalue(), "a.csv")
        assert found.records[0].texts == FLAT
        assert found.notes == ("left out: 1 unused column ('id')",)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            {"role": "assistant", "content": None, "tool_calls": [{}]},
            "'messages' hold calls of tools",
        ),
        (
            {"role": "assistant", "content": "x", "weight": 0},
            "'messages' hold a message of weight 0",
        ),
        ({"role": "tool", "content": "x"}, "'messages' hold the role 'tool'"),
        (
            {"role": "assistant", "content": [{"type": "image_url", "image_url": {}}]},
            "'messages' hold 'image_url', where a text is needed",
        ),
    ],
)
def test_messages_of_something_else_drop_their_row(tmp_path, message, reason):
    good = {"messages": as_messages()}
    bad = {"messages": [*as_messages()[:2], message]}
    found = read(tmp_path, [good, bad])
    assert [item.row for item in found.dropped] == [2]
    assert found.dropped[0].reason.startswith(reason)


USER, GOOD, BAD = (
    {"role": role, "content": said}
    for role, said in (("user", "q"), ("assistant", "good"), ("assistant", "bad"))
)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": "q", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {
            "input": {"messages": [USER], "tools": []},
            "preferred_output": [GOOD],
            "non_preferred_output": [BAD],
        },
        {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
    ],
)
def test_pairs_of_answers_in_any_words(tmp_path, row):
    record = read(tmp_path, [row]).records[0]
    assert (record.instruction, record.chosen, record.rejected) == ("q", "good", "bad")
    assert [item["content"] for item in record.question] == ["q"]


def test_one_pair_of_openais_is_a_record(tmp_path):
    row = {"input": {"messages": [USER]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]}
    assert read(tmp_path, json.dumps(row), "a.jsonl").records[0].chosen == "good"


def test_a_pair_may_answer_a_conversation(tmp_path):
    before = [{"role": "system", "content": "s"}, USER, GOOD, USER]
    record = read(tmp_path, [{"prompt": before, "chosen": [GOOD], "rejected": [BAD]}]).records[0]
    assert record.question == before and record.chosen == "good"


def test_what_is_not_used_is_named(tmp_path):
    rows = [
        {"instruction": "i", "output": "o", "history": [["a", "b"]], "id": 7, "empty": ""},
        {"instruction": "j", "output": "p", "history": [], "source": "x"},
    ]
    assert read(tmp_path, rows).notes == ("left out: 3 unused columns ('history', 'id', 'source')",)
    talk = {"messages": [USER, GOOD, USER]}
    assert read(tmp_path, [talk]).notes == ("left out: 1 message behind the last answer (entry 1)",)


def test_json_that_is_named_otherwise_is_told_so(tmp_path):
    with pytest.raises(DataError, match=r"holds JSON, not a table: name it \.jsonl"):
        read(tmp_path, json.dumps(ROWS[0]), "a.csv")


def test_files_that_were_joined_and_titles_above_a_header(tmp_path):
    part = "instruction,output\nq1,a1\nq2,a2\n"
    found = read(tmp_path, "Export of 2026\n\n" + part + part, "a.csv")
    assert [r.row for r in found.records] == [4, 5, 7, 8]
    assert [(d.row, d.reason) for d in found.dropped] == [(6, "it repeats the header")]
    assert found.notes == ("left out: 1 line above the header ('Export of 2026'; line 1)",)


def test_letters_and_labels_that_are_written_in_two_ways_are_said(tmp_path):
    rows = [{"text": "one", "label": "caf\u00e9"}, {"text": "two", "label": "cafe\u0301"}]
    said, labels = read(tmp_path, rows).notes
    assert said.startswith("'é' (1) is written as one character and as several")
    assert labels == "the label 'café' is written in 2 ways: 2 labels"


def test_excels_unicode_text_is_a_table(tmp_path):
    text = 'instruction\toutput\r\n"say ""hi"""\t"two\nlines"\r\nplain\t"a, b"\r\n'
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode("utf-16"))
    found = read_records(path, RecordsConfig())
    assert [r.texts[::2] for r in found.records] == [('say "hi"', "two\nlines"), ("plain", "a, b")]
