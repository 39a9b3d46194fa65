"""Files and databases of records: what is read, what is dropped, and what is refused."""

import json
import sqlite3
import subprocess
import sys
import tracemalloc

import pytest

from minigpt_tf.config import RecordsConfig
from minigpt_tf.errors import ConfigError, DataError
from minigpt_tf.files import database
from minigpt_tf.records import schema
from minigpt_tf.records.reading import read_records
from minigpt_tf.records.schema import (
    ConversationRecord,
    InstructionRecord,
    LabeledRecord,
    PreferenceRecord,
)
from tests.conftest import ROOT

QUESTIONS = [
    InstructionRecord(1, "what is it", "a form", "MK-07"),
    InstructionRecord(2, "who, then", 'she said "no"', ""),
]
ROWS = [
    {"instruction": "what is it", "input": "MK-07", "output": "a form"},
    {"instruction": "who, then", "input": "", "output": 'she said "no"'},
]


def written(folder, name, content):
    """A file with this text, these bytes, or this as JSON."""
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
    return path


def read(folder, name, content, kinds=None, **settings):
    path = written(folder, name, content)
    return read_records(path, RecordsConfig(**settings), *([kinds] if kinds else []))


def reasons(found):
    return [(item.row, item.reason) for item in found.dropped]


# Sources


@pytest.mark.parametrize(
    ("name", "content", "unit", "rows"),
    [
        ("a.json", ROWS, "entry", [1, 2]),
        ("a.json", {"version": 1, "data": ROWS}, "entry", [1, 2]),
        ("a.jsonl", "\n\n".join(map(json.dumps, ROWS)) + "\n", "line", [1, 3]),
        ("a.json", "\n".join(map(json.dumps, ROWS)), "line", [1, 2]),
        (
            "a.csv",
            'instruction,input,output\nwhat is it,MK-07,a form\n"who, then",,"she said ""no"""\n',
            "line",
            [2, 3],
        ),
        (
            "a.csv",
            'Output;Instruction ;Input\r\na form;what is it;MK-07\r\nshe said "no";who, then;\r\n',
            "line",
            [2, 3],
        ),
        (
            "a.tsv",
            'instruction\tinput\toutput\nwhat is it\tMK-07\ta form\n\nwho, then\t\tshe said "no"\n',
            "line",
            [2, 4],
        ),
        (
            "a.txt",
            "Instruction: what is it\nInput: MK-07\nOutput: a form\n\nInstruction:\nwho, then\n\n"
            '### Output:\nshe said "no"\n',
            "line",
            [1, 5],
        ),
    ],
)
def test_every_format_gives_the_same_records(tmp_path, name, content, unit, rows):
    found = read(tmp_path, name, content)
    assert (found.kind, found.unit) == ("instruction", unit)
    assert [record.texts for record in found.records] == [record.texts for record in QUESTIONS]
    assert [record.row for record in found.records] == rows
    assert found.dropped == []


def test_sheets_give_what_a_person_sees_in_them(tmp_path):
    openpyxl = pytest.importorskip("openpyxl", reason="the documents extra is not installed")
    import datetime

    book = openpyxl.Workbook()
    book.active.append(["other"])
    sheet = book.create_sheet("HR")
    for row in [
        ["instruction", "output"],
        ["how many days", 30],
        ["from when", datetime.date(2026, 3, 1)],
        ["which share", 2.5],
        [],
        ["no answer", None],
        ["an error", "#N/A"],
    ]:
        sheet.append(row)
    book.save(tmp_path / "a.xlsx")
    found = read_records(tmp_path / "a.xlsx", RecordsConfig(sheet="HR"))
    assert [(r.row, r.output) for r in found.records] == [
        (2, "30"),
        (3, "2026-03-01"),
        (4, "2.5"),
    ]
    assert reasons(found) == [
        (6, "'output' is missing"),
        (7, "'output' is the error #N/A"),
    ]
    assert found.notes == (
        "left out: 1 cell with an error ('#N/A'; HR!B7), 1 other sheet ('Sheet')",
    )
    with pytest.raises(DataError, match=r"a\.xlsx: has no sheet 'X': there are 'Sheet', 'HR'"):
        read_records(tmp_path / "a.xlsx", RecordsConfig(sheet="X"))


@pytest.mark.parametrize("kind", ["not a zip", "empty zip"])
def test_a_damaged_sheet_is_refused(tmp_path, kind):
    pytest.importorskip("openpyxl", reason="the documents extra is not installed")
    import zipfile

    path = written(tmp_path, "a.xlsx", b"PK not a zip")
    if kind == "empty zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a", "b")
    with pytest.raises(DataError, match=r"a\.xlsx: is not a readable XLSX file"):
        read_records(path, RecordsConfig())


def test_a_sheet_is_not_believed_about_its_size(tmp_path):
    openpyxl = pytest.importorskip("openpyxl", reason="the documents extra is not installed")
    import zipfile

    book = openpyxl.Workbook()
    book.active.append(["text", "label"])
    book.active.append(["hello", "ham"])
    book.save(tmp_path / "a.xlsx")
    with (
        zipfile.ZipFile(tmp_path / "a.xlsx") as old,
        zipfile.ZipFile(tmp_path / "b.xlsx", "w") as new,
    ):
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("sheet1.xml"):
                assert b'ref="A1:B2"' in content
                content = content.replace(b'ref="A1:B2"', b'ref="A1:XFD1048576"')
            new.writestr(name, content)
    found = read_records(tmp_path / "b.xlsx", RecordsConfig())
    assert found.records == [LabeledRecord(2, "hello", "ham")]


def test_plain_text_of_questions_and_answers(tmp_path):
    text = "\nQ: one?\nmore of it\n\nA: first\n\nsecond: yes\nQ: two?\nA:\nQ: three?\nA: x\nA: y\n"
    found = read(tmp_path, "a.txt", text)
    assert found.records == [InstructionRecord(2, "one?\nmore of it", "first\n\nsecond: yes")]
    assert reasons(found) == [
        (8, "'output' is empty"),
        (10, "the name 'output' is in it twice"),
    ]
    found = read(tmp_path, "a.txt", "Title\n\nQuestion: one?\nAnswer: first\nQ: two?\nA: second\n")
    assert found.records == [InstructionRecord(3, "one?", "first\nQ: two?\nA: second")]
    assert found.notes == (
        "left out: 1 line above the first record ('Title')",
        "line 5: begins with 'Q', where records begin with 'Question': it is part of the record "
        "above",
    )
    with pytest.raises(DataError, match=r'a\.txt: contains no records: expected "Q: \.\.\."'):
        read(tmp_path, "a.txt", "Once upon a time\nthere was a text.")


def test_lines_of_label_and_text_need_no_header(tmp_path):
    lines = 'ham\tOk lar\nspam\t"Free" entry\nham\t"unclosed\nspam\tcall now\n'
    expected = [
        LabeledRecord(1, "Ok lar", "ham"),
        LabeledRecord(2, '"Free" entry', "spam"),
        LabeledRecord(3, '"unclosed', "ham"),
        LabeledRecord(4, "call now", "spam"),
    ]
    for name in ("a.tsv", "a.txt"):
        assert read(tmp_path, name, lines).records == expected
    turned = "".join("\t".join(line.split("\t")[::-1]) + "\n" for line in lines.splitlines())
    assert read(tmp_path, "b.tsv", turned).records == expected
    numbered = "7,ham,Ok lar\n8,spam,call\n"
    found = read(tmp_path, "c.csv", numbered, map={"label": "2", "text": "3"})
    assert [record.texts for record in found.records] == [("Ok lar", "ham"), ("call", "spam")]


def test_the_sms_collection_is_read_whole_or_as_a_csv_reader_reads_it(assets):
    found = read_records(assets / "sms.tsv", RecordsConfig())
    assert len(found.records) == 5574 and found.labels == ["ham", "spam"]
    assert sum(record.label == "spam" for record in found.records) == 747
    quoted = read_records(assets / "sms.tsv", RecordsConfig(quoting="always"))
    assert len(quoted.records) == 5572 and quoted.dropped == []


def test_the_machine_are_read(assets):
    found = read_records(assets / "instruction-data.json", RecordsConfig())
    assert (found.kind, len(found.records)) == ("instruction", 1100)
    pairs = assets / "instruction-data-with-preference.json"
    found = read_records(pairs, RecordsConfig())
    assert (found.kind, len(found.records)) == ("preference", 1094)
    same = "'chosen' and 'rejected' are the same"
    assert reasons(found) == [(row, same) for row in (123, 227, 401, 567, 629, 677)]
    found = read_records(pairs, RecordsConfig(), ["instruction", "conversation"])
    assert (found.kind, len(found.records)) == ("instruction", 1100)


# Kinds and names


def test_kinds_are_told_by_their_names(tmp_path):
    talk = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
    ]
    cases = [
        ({"prompt": "p", "chosen": "c", "rejected": "r"}, PreferenceRecord(1, "p", "c", "r")),
        ({"text": "t", "label": 1, "id": 7}, LabeledRecord(1, "t", "1")),
        ({"text": "t", "label": " spam"}, LabeledRecord(1, "t", "spam")),
        ({"instruction": "i", "output": "o", "input": None}, InstructionRecord(1, "i", "o")),
        ({"messages": [*talk, talk[1]]}, ConversationRecord(1, tuple(talk))),
        (
            {"instruction": "i", "input": "n", "output": "o", "chosen": "c", "rejected": "r"},
            PreferenceRecord(1, "i", "c", "r", "n"),
        ),
    ]
    for values, record in cases:
        assert read(tmp_path, "a.json", [values]).records == [record]


def test_other_names_are_mapped(tmp_path):
    rows = [{"question": "q", "answer": "a", "output": "not this"}, {"question": "r"}]
    found = read(tmp_path, "a.json", rows, map={"instruction": "question", "output": "answer"})
    assert found.records == [InstructionRecord(1, "q", "a")]
    assert reasons(found) == [(2, "'answer' is missing")]
    with pytest.raises(DataError, match="no 'reply', but 'question', 'answer', 'output'"):
        read(tmp_path, "a.json", rows, map={"output": "reply"})
    with pytest.raises(ConfigError, match="'result' is not one of chosen, input, instruction"):
        read(tmp_path, "a.json", rows, map={"result": "answer"})
    with pytest.raises(ConfigError, match="'answer' is given to two names"):
        read(tmp_path, "a.json", rows, map={"output": "answer", "input": "answer"})
    with pytest.raises(DataError, match=r"has 'q', 'a', where these are needed: .*--map output="):
        read(tmp_path, "b.json", [{"q": "x", "a": "y"}])


def test_the_map_is_an_option_of_the_command_line():
    import argparse

    from minigpt_tf.cli.options import cli_options, given_options

    parser = argparse.ArgumentParser(exit_on_error=False)
    cli_options(parser, RecordsConfig, preset_decides=False)
    words = ["--map", "output=answer", "--map", "input=more = less", "--balance"]
    given = given_options(parser.parse_args(words), RecordsConfig)
    assert given == {"map": {"output": "answer", "input": "more = less"}, "balance": True}
    with pytest.raises(argparse.ArgumentError, match="expected two names, such as output=answer"):
        parser.parse_args(["--map", "output"])


def test_mixed_kinds_are_refused_by_row(tmp_path):
    rows = [{"instruction": "i", "output": "o"}, {"instruction": "i"}, {"text": "t", "label": "l"}]
    expected = (
        r"a\.json: entry 3 is a record of the kind labeled \(text, label\), but entry 1 of the "
        r"kind instruction"
    )
    with pytest.raises(DataError, match=expected):
        read(tmp_path, "a.json", rows)


def test_a_kind_that_does_not_serve_is_refused(tmp_path):
    expected = r"holds labeled records \(text, label\), where preference records \(prompt, chosen"
    with pytest.raises(DataError, match=expected):
        read(tmp_path, "a.json", [{"text": "t", "label": "l"}], ["preference"])


# Rows that are dropped


def test_rows_are_dropped_with_reason_and_place(tmp_path):
    good = {"instruction": "i", "output": "o"}
    rows = [
        good,
        {"instruction": "i"},
        {"instruction": "i", "output": " \n"},
        {"instruction": "i", "output": None},
        {"instruction": ["i"], "output": "o"},
        {"instruction": "i", "output": float("nan")},
        {"instruction": "i", "output": "o", "input": {"a": 1}},
        {"instruction": "i", "output": "x" * 1_000_001},
        "text",
        None,
        good,
    ]
    found = read(tmp_path, "a.json", rows)
    assert [record.row for record in found.records] == [1, 11]
    assert reasons(found) == [
        (2, "'output' is missing"),
        (3, "'output' is empty"),
        (4, "'output' is missing"),
        (5, "'instruction' is a list, not text"),
        (6, "'output' is missing"),
        (7, "'input' is an object, not text"),
        (8, "'output' has more than 1,000,000 characters"),
        (9, "it is not an object of names and values"),
        (10, "it is not an object of names and values"),
    ]


def test_a_name_that_stands_twice_drops_its_row(tmp_path):
    text = '{"instruction": "i", "output": "a", "output": "b"}\n{"instruction": "i", "output": "o"}'
    found = read(tmp_path, "a.jsonl", text)
    assert found.records == [InstructionRecord(2, "i", "o")]
    assert reasons(found) == [(1, "the name 'output' is in it twice")]


def test_rows_of_tables_with_other_columns_are_dropped(tmp_path):
    text = "text,label\nfine,ham\nshort\nlong,ham,x\nnan,ham\n,spam\nlast,spam\n"
    found = read(tmp_path, "a.csv", text)
    assert [record.row for record in found.records] == [2, 7]
    assert reasons(found) == [
        (3, "it has fewer columns than the header's 2"),
        (4, "it has more columns than the header's 2"),
        (5, "'text' is missing"),
        (6, "'text' is empty"),
    ]


def test_lines_of_cells_with_line_ends_are_counted(tmp_path):
    text = 'text,label\n"one\r\nline",ham\ntwo,spam\nthree,\n'
    found = read(tmp_path, "a.csv", text)
    assert [record.row for record in found.records] == [2, 4]
    assert found.records[0].text == "one\nline" and reasons(found) == [(5, "'label' is empty")]


def test_rows_of_a_large_table_are_held_one_at_a_time(tmp_path):
    """Of a million rows with twenty columns, lists of all cells would take gigabytes."""
    head = ",".join(["instruction", "output", *(f"column {i}" for i in range(20))])
    rows = (f"what is {i}?,{i}{',some words of a cell' * 20}\n" for i in range(5000))
    path = written(tmp_path, "wide.csv", f"{head}\n{''.join(rows)}")
    tracemalloc.start()
    try:
        found = read_records(path, RecordsConfig())
        assert tracemalloc.get_traced_memory()[1] < 3.6 * path.stat().st_size
    finally:
        tracemalloc.stop()
    assert len(found.records) == 5000
    assert found.notes[0].startswith("left out: 20 unused columns ('column 0', ")


def test_conversations_are_checked(tmp_path):
    user, answer = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
    rows = [
        [user, answer],
        [user],
        [answer],
        [],
        "hi",
        [user, {"role": "assistant", "content": ""}],
        [user, {"role": "robot", "content": "x"}],
        [user, {"role": "assistant", "content": {"a": 5}}],
        [user, "hello"],
        [user, {"role": "assistant"}],
    ]
    found = read(tmp_path, "a.json", [{"messages": messages} for messages in rows])
    assert found.records == [ConversationRecord(1, (user, answer))]
    assert reasons(found) == [
        (2, "'messages' contains no answer of the assistant"),
        (3, "'messages' begin with the assistant"),
        (4, "'messages' contains no answer of the assistant"),
        (5, "'messages' is text, not a list"),
        (6, "'messages' hold an empty message"),
        (7, "'messages' hold the role 'robot', which is none of system, user, assistant"),
        (8, "'messages' is an object, not text"),
        (9, "'messages' hold something other than messages with role and content"),
        (10, "'messages' hold an empty message"),
    ]


def test_nothing_left_is_an_error(tmp_path):
    rows = [{"prompt": "p", "chosen": "a", "rejected": "a "}] * 3
    expected = r"a\.json: no row can be used: 'chosen' and 'rejected' are the same \(3 rows, the "
    with pytest.raises(DataError, match=expected + "first is entry 1"):
        read(tmp_path, "a.json", rows)


def test_halves_of_characters_and_line_ends_are_mended(tmp_path):
    found = read(tmp_path, "a.json", '[{"instruction": "a\\ud800", "output": "b\\r\\nc"}]')
    assert found.records == [InstructionRecord(1, "a\ufffd", "b\nc")]


# Files that are refused


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", "", r"a\.json: is empty"),
        ("a.jsonl", "\n \n", r"a\.jsonl: is empty"),
        ("a.csv", "", r"a\.csv: is empty"),
        ("a.txt", "\n\n", r"a\.txt: is empty"),
        ("a.csv", "text,label\n", r"a\.csv: contains no records"),
        ("a.json", "[]", r"a\.json: contains no records"),
        ("a.json", '{"a": 1}', "is not a list of records"),
        ("a.json", "5", "is not a list of records"),
        ("a.json", '"text"', "is not a list of records"),
        ("a.json", '{"a": [1], "b": [2]}', r"holds several lists \('a', 'b'\)"),
        ("a.json", '{"a": [], "a": []}', "the name 'a' is in it twice"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", "[" + "9" * 5000 + "]", "no row can be used: it is not an object"),
        ("a.json", "[1, 2", r"is not valid JSON \(line 1"),
        ("a.json", "[1, 2]", "no row can be used: it is not an object"),
        ("a.jsonl", '{"text": "t", "label": "l"}\n{"text":\n', r"is not valid JSON \(line 2"),
        ("a.csv", "text,text,label\na,b,c\n", "the column 'text' is in the header twice"),
        ("a.csv", "name,age\nAda,36\n", r"has 'name', 'age', where these are needed"),
        ("a.csv", bytes(range(256)) * 20, "looks like binary data"),
        ("a.json", b"\x89PNG\r\n\x1a\n\0\0", "looks like binary data"),
        ("a.txt", "Q: Größe?\nA: groß\n".encode("cp1252"), "is not UTF-8 .*name its encoding"),
        ("a.parquet", b"PAR1", r"files ending in \.parquet are not read \(readable: \.json"),
        ("a", "x", "files without an ending are not read"),
    ],
)
def test_what_holds_no_records_is_refused(tmp_path, name, content, expected):
    with pytest.raises(DataError, match=expected):
        read(tmp_path, name, content)


def test_a_named_encoding_is_used(tmp_path):
    text = "Q: Größe?\nA: groß\n".encode("cp1252")
    found = read(tmp_path, "a.txt", text, encoding="cp1252")
    assert found.records == [InstructionRecord(1, "Größe?", "groß")]


def test_places_that_hold_no_file_are_refused(tmp_path):
    config = RecordsConfig()
    with pytest.raises(DataError, match=r"nowhere\.json: no such file"):
        read_records(tmp_path / "nowhere.json", config)
    with pytest.raises(DataError, match="is a folder: name the file with the records"):
        read_records(tmp_path, config)
    with pytest.raises(DataError, match="--query asks a database"):
        read(tmp_path, "a.json", "[]", query="SELECT 1")


# Databases


@pytest.fixture
def answers(tmp_path):
    """A database with a table of two questions, one without an answer."""
    path = tmp_path / "a b?.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE faq (question TEXT, answer TEXT, days INTEGER)")
        connection.execute("INSERT INTO faq VALUES ('how long', 'two days', 2), ('who', NULL, 3)")
    connection.close()
    return path


def test_a_query_gives_records(answers):
    query = "SELECT question AS instruction, answer AS output FROM faq ORDER BY days"
    for source in (f"sqlite:///{answers}", str(answers)):
        found = read_records(source, RecordsConfig(query=query))
        assert found.records == [InstructionRecord(1, "how long", "two days")]
        assert reasons(found) == [(2, "'output' is missing")] and found.unit == "row"
    query = "WITH t AS (SELECT upper(question) AS text, days AS label FROM faq) SELECT * FROM t"
    found = read_records(answers, RecordsConfig(query=query))
    assert found.records == [LabeledRecord(1, "HOW LONG", "2"), LabeledRecord(2, "WHO", "3")]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("DELETE FROM faq", "does more than SELECT"),
        ("DROP TABLE faq", "does more than SELECT"),
        ("ATTACH '/tmp/minigpt-attached.db' AS other", "does more than SELECT"),
        ("PRAGMA writable_schema = 1", "does more than SELECT"),
        ("SELECT load_extension('/tmp/x.so')", "does more than SELECT|the query fails"),
        ("SELECT 1; DELETE FROM faq", "the query fails: You can only execute one statement"),
        ("SELECT reply FROM faq", "the query fails: no such column: reply"),
        ("SELEC", "the query fails: near"),
        ("", "the query gives no rows"),
        ("SELECT 1\0", "the query fails"),
        ("SELECT question, question FROM faq", "gives the column 'question' twice"),
        ("SELECT zeroblob(1000000000) AS text", "the query fails: string or blob too big"),
        (
            "SELECT question AS text, zeroblob(9) AS label FROM faq",
            "no row can be used: 'label' is",
        ),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
            "SELECT count(*) AS text, 1 AS label FROM n",
            "the query does not end",
        ),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
            "SELECT i AS text, 1 AS label FROM n",
            "gives more than 1,000 rows",
        ),
    ],
)
def test_queries_only_read_and_end(answers, monkeypatch, query, expected):
    monkeypatch.setattr(database, "MOST_ROWS", 1000)
    monkeypatch.setattr(database, "MOST_SECONDS", 1)
    before = answers.read_bytes()
    with pytest.raises(DataError, match=expected):
        read_records(f"sqlite:///{answers}", RecordsConfig(query=query))
    assert answers.read_bytes() == before


def test_what_a_query_gives_is_bounded_as_a_whole(answers, monkeypatch):
    """The product of rows and cells, and what SQLite needs by itself."""
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) "
    query = f"{many}SELECT printf('%1000d', i) AS text, 'a' AS label FROM n"
    monkeypatch.setattr(database, "MOST_TOTAL", 1 << 24)
    with pytest.raises(DataError, match="gives more than 16 MiB: add a LIMIT"):
        read_records(answers, RecordsConfig(query=query))
    monkeypatch.setattr(database, "MOST_MEMORY", 1 << 27)
    wide = ", ".join(f"zeroblob(60000000) AS c{i}" for i in range(20))
    for costly in (f"SELECT {wide}", f"{many}SELECT printf('%9000d', i) AS text FROM n ORDER BY 1"):
        with pytest.raises(DataError, match="needs more than 0 GiB of memory"):
            read_records(answers, RecordsConfig(query=costly))


def test_cells_come_as_sqlite_has_them(answers):
    query = "SELECT 'é' AS a, 1 << 62 AS b, 0.1 AS c, x'00ff' AS d, NULL AS e, 9e999 AS f"
    values = {"a": "é", "b": 1 << 62, "c": 0.1, "d": b"\0\xff", "e": None, "f": float("inf")}
    assert database.read_query(str(answers), query) == [values]


def test_databases_that_cannot_be_asked_are_refused(answers, tmp_path):
    config = RecordsConfig(query="SELECT 1")
    with pytest.raises(DataError, match="is a database: say which rows, with --query"):
        read_records(answers, RecordsConfig())
    with pytest.raises(DataError, match="databases of the kind postgresql are not read: save the"):
        read_records("postgresql://host/db", config)
    with pytest.raises(DataError, match="is not on this machine: download it"):
        read_records("https://example.org/a.json", config)
    with pytest.raises(DataError, match="expected sqlite:///FILE"):
        read_records("sqlite://", config)
    with pytest.raises(DataError, match=r"nowhere\.db: no such file"):
        read_records(f"sqlite:///{tmp_path}/nowhere.db", config)
    assert not (tmp_path / "nowhere.db").exists()
    path = written(tmp_path, "b.db", "no database")
    with pytest.raises(DataError, match=r"b\.db: is not an SQLite database"):
        read_records(path, config)
    path = written(tmp_path, "c.db", b"SQLite format 3\0" + b"\xff" * 500)
    with pytest.raises(DataError, match="the query fails"):
        read_records(path, RecordsConfig(query="SELECT * FROM faq"))


def test_tensorflow_is_not_imported():
    code = "import sys, minigpt_tf.records.dataset\n"
    code += "assert not {'tensorflow', 'keras', 'openpyxl', 'jinja2'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_labeled_records_have_their_old_names_too(tmp_path):
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "hello", "label": "ham"}\n')
    assert schema.LabelledRecord is LabeledRecord
    assert read_records(source, RecordsConfig(), ["labelled"]).records == [
        LabeledRecord(1, "hello", "ham")
    ]
    with pytest.raises(AttributeError, match="has no attribute 'Missing'"):
        schema.Missing  # noqa: B018
