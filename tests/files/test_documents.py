"""Files of every kind -> text, and what is said of files that cannot be read."""

import contextlib
import datetime
import json
import os
import subprocess
import sys

import pytest

from minigpt_tf.config import RecordsConfig
from minigpt_tf.errors import DataError
from minigpt_tf.files import documents, readers
from minigpt_tf.files.decoding import decode_text
from minigpt_tf.files.documents import read_document, read_documents
from minigpt_tf.records.reading import read_records
from tests.conftest import ROOT

TEXT = "Grüße aus Köln.\nZweite Zeile: 日本語 and 😀."


def test_plain_text_and_markdown_are_taken_as_they_stand(tmp_path):
    for name in ("a.txt", "b.md", "c.TXT"):
        (tmp_path / name).write_text(TEXT, encoding="utf-8")
        assert read_document(tmp_path / name).text == TEXT


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_decides_the_encoding(encoding):
    assert decode_text(TEXT.encode(encoding)) == TEXT


def test_line_ends_become_newlines(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\rthree\n")
    assert read_document(tmp_path / "a.txt").text == "one\ntwo\nthree\n"


def test_a_named_encoding_is_used():
    assert decode_text("café".encode("cp1252"), "cp1252") == "café"


def test_another_encoding_is_refused_by_name():
    russian = "Привет, как дела? Это обычный русский текст для проверки.".encode("cp1251")
    with pytest.raises(DataError, match=r"is not UTF-8 \(byte 0, line 1\); it looks like cp1251"):
        decode_text(russian)
    with pytest.raises(DataError, match="looks like text in utf-16-le: add --encoding utf-16-le"):
        decode_text("a text without a mark".encode("utf-16-le"))


def test_binary_data_is_refused():
    with pytest.raises(DataError, match="looks like binary data"):
        decode_text(bytes(range(256)) * 20)


def test_html_gives_the_visible_text(tmp_path):
    page = (
        "<html><head><title>Title</title><style>p {color: red}</style></head><body><script>x()"
        "</script><p>One &amp; <b>two</b>\n words.</p><ul><li>a</li><li>b</li></ul></body></html>"
    )
    (tmp_path / "a.html").write_text(page)
    assert read_document(tmp_path / "a.html").text == "Title\nOne & two words.\na\nb"


def test_csv_rows_become_lines(tmp_path):
    (tmp_path / "a.csv").write_text('name,text\nAda,"first, programmer"\nAlan,machines\n')
    assert (
        read_document(tmp_path / "a.csv").text == "name text\nAda first, programmer\nAlan machines"
    )
    (tmp_path / "b.csv").write_text("name;text\nAda;first\nAlan;second\n")
    assert read_document(tmp_path / "b.csv").text == "name text\nAda first\nAlan second"


def test_a_delimiter_makes_rows_of_equal_width(tmp_path):
    (tmp_path / "a.csv").write_text("id,body\n1,x; y; z\n2,'p; q'\n3,v; w\n")
    assert read_document(tmp_path / "a.csv").text == "id body\n1 x; y; z\n2 'p; q'\n3 v; w"
    (tmp_path / "b.csv").write_text('text\n"Hello, world"\n"a, b, c"\n')
    assert read_document(tmp_path / "b.csv").text == "text\nHello, world\na, b, c"
    (tmp_path / "c.csv").write_text('size|note\n3" pipe|old\n4" pipe|new\n')  # not a quoted cell
    assert read_document(tmp_path / "c.csv").text == 'size note\n3" pipe old\n4" pipe new'


@pytest.mark.parametrize("ending", ["tsv", "tab"])
def test_cells_between_tabs_are_taken_as_they_stand(ending, tmp_path):
    file = tmp_path / f"a.{ending}"
    file.write_text('ham\the said "no\nspam\tbuy, buy, buy\n')
    assert read_document(file).text == 'ham he said "no\nspam buy, buy, buy'


def test_a_table_has_one_set_of_rows_for_texts_and_records(tmp_path):
    """What stands in the cells is the same, whoever reads the file."""
    file = tmp_path / "a.csv"
    for content in (
        'instruction;output\n"one; two";"three\nfour"\nfive;six, seven\n',
        "instruction\toutput\none\t2,5\nthree\t4,5\n",
        'instruction|output\na "quote|b\nc|d" e\n',
    ):
        file.write_text(content)
        cells = [record.texts[::2] for record in read_records(file, RecordsConfig()).records]
        lines = [" ".join(row) for row in [("instruction", "output"), *cells]]
        assert read_document(file).text == "\n".join(lines)


def test_json_lines_may_be_named_json(tmp_path):
    lines = "\n".join(json.dumps({"text": word}) for word in ("one", "two", "three"))
    for name in ("a.json", "a.jsonl", "a.ndjson"):
        (tmp_path / name).write_text(lines)
        assert read_document(tmp_path / name).text == "one\ntwo\nthree"


def test_json_gives_its_values_in_order(tmp_path):
    records = [{"q": "one", "n": 3, "more": ["two", {"deep": "three"}]}, None, "four"]
    (tmp_path / "a.json").write_text(json.dumps(records))
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(record) for record in records) + "\n\n")
    for name in ("a.json", "a.jsonl"):
        document = read_document(tmp_path / name)
        assert document.text == "one\n3\ntwo\nthree\nfour"
        assert document.notes == ("left out: 4 names of values ('q', 'n', 'more', 'deep')",)


def test_damaged_json_names_the_line(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": "b"}\n{"a": \n')
    with pytest.raises(DataError, match=r"a\.jsonl: is not valid JSON \(line 2"):
        read_document(tmp_path / "a.jsonl")


def test_docx_gives_paragraphs_and_tables(tmp_path):
    docx = pytest.importorskip("docx", reason="the documents extra is not installed")
    document = docx.Document()
    document.add_paragraph("First paragraph.")
    table = document.add_table(rows=1, cols=2)
    table.cell(0, 0).text, table.cell(0, 1).text = "left", "right"
    document.add_paragraph("Last.")
    document.save(tmp_path / "a.docx")
    assert read_document(tmp_path / "a.docx").text == "First paragraph.\nleft right\nLast."


def test_pdf_gives_its_text(tmp_path):
    pytest.importorskip("pypdf", reason="the documents extra is not installed")
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    figure = Figure()
    figure.text(0.1, 0.5, "Ramanujan was here")
    FigureCanvasPdf(figure).print_pdf(tmp_path / "a.pdf")
    assert "Ramanujan was here" in read_document(tmp_path / "a.pdf").text


def a_book(path, **sheets):
    """An .xlsx file with the rows of each sheet."""
    openpyxl = pytest.importorskip("openpyxl", reason="the documents extra is not installed")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_xlsx_gives_all_its_sheets_row_by_row(tmp_path):
    rows = [
        ["name", "born", "share"],
        ["Ada", datetime.date(1815, 12, 10), 0.5],
        [],
        [None, "first, programmer ", None, 7.0, True],
    ]
    book = a_book(tmp_path / "a.xlsx", People=rows, Empty=[], More=[["Grüße", None, "日本語 😀"]])
    assert read_document(book).text == (
        "name born share\nAda 1815-12-10 0.5\nfirst, programmer 7 TRUE\n\nGrüße 日本語 😀"
    )
    found = read_documents(tmp_path)
    assert found.texts == [read_document(book).text] and not found.skipped
    empty = a_book(tmp_path / "b.xlsx", Empty=[[None]], Blank=[[" "]])
    with pytest.raises(DataError, match=r"b\.xlsx: contains no text"):
        read_document(empty)


def test_a_sheet_too_wide_is_refused_rather_than_cut(tmp_path):
    book = a_book(tmp_path / "a.xlsx", Wide=[["a"], ["x"] * 256, ["x"] * 257])
    with pytest.raises(
        DataError, match=r"a\.xlsx: has more than 256 columns in row 3 of the sheet 'Wide'"
    ):
        read_document(book)


def test_a_sheet_that_is_cut_off_is_refused(tmp_path):
    book = a_book(tmp_path / "a.xlsx", One=[[f"cell {n}"] for n in range(5000)])
    content = book.read_bytes()
    for size in (len(content) // 2, len(content) - 5):
        book.write_bytes(content[:size])
        with pytest.raises(DataError, match=r"a\.xlsx: is not a readable XLSX file: "):
            read_document(book)


@pytest.mark.parametrize("name", ["a.pdf", "a.docx", "a.xlsx"])
def test_a_damaged_document_is_refused(tmp_path, name):
    pytest.importorskip("pypdf", reason="the documents extra is not installed")
    pytest.importorskip("docx", reason="the documents extra is not installed")
    pytest.importorskip("openpyxl", reason="the documents extra is not installed")
    (tmp_path / name).write_bytes(b"not what it says")
    with pytest.raises(DataError, match=f"{name}: is not a readable"):
        read_document(tmp_path / name)


def test_a_folder_is_read_in_order_and_says_what_it_skipped(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.md").write_text("first")
    (tmp_path / "sub" / "c.txt").write_text("third")
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xfa\x00\x01")
    (tmp_path / ".hidden.txt").write_text("not read")
    found = read_documents(tmp_path)
    assert found.texts == ["first", "second", "third"]
    skipped = {path.name: reason for path, reason in found.skipped}
    assert skipped.keys() == {"empty.txt", "picture.png", "bad.txt"}
    assert skipped["empty.txt"] == "contains no text"
    assert "files ending in .png are not read" in skipped["picture.png"]


def test_models_pipes_and_unreadable_places_are_passed_over(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    model = tmp_path / "models" / "mine"
    (model / "checkpoint").mkdir(parents=True)
    (model / "checkpoint" / "run.json").write_text("{}")
    (model / "samples.txt").write_text("generated")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "bad.html").write_text("text <![A ")
    (tmp_path / "bad.json").write_text("[" * 100_000)
    found = read_documents(tmp_path)
    assert "text" in found.texts and "generated" not in found.texts
    skipped = {path.name: reason for path, reason in found.skipped}
    assert skipped["mine"] == "is a model folder"
    assert skipped["pipe.txt"] == "is not a regular file"
    assert skipped["bad.json"] == "is JSON nested too deeply to read"


def test_halves_of_characters_are_replaced(tmp_path):
    (tmp_path / "a.json").write_text('["ab\\ud800c"]')
    assert read_document(tmp_path / "a.json").text == "ab\ufffdc"


def test_several_paths_are_read_in_their_order(tmp_path):
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text(name)
    assert read_documents([tmp_path / "b.txt", tmp_path / "a.txt"]).texts == ["b.txt", "a.txt"]


def test_what_is_missing_or_empty_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.txt: no such file or folder"):
        read_documents(tmp_path / "nowhere.txt")
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match=r"empty.txt: contains no text"):
        read_documents(tmp_path / "empty.txt")
    with pytest.raises(DataError, match=r"no text found .*empty.txt: contains no text"):
        read_documents(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_an_error(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.txt").chmod(0)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        read_document(tmp_path / "a.txt")


def test_long_texts_come_in_pieces_that_make_them_up(tmp_path):
    lines = [f"Zeile {number}: 日本語 😀" for number in range(150_000)]
    (tmp_path / "a.txt").write_bytes("\r\n".join(lines).encode())
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps({"text": line}) for line in lines))
    for document in read_documents(tmp_path).documents:
        pieces = list(document.chunks())
        assert len(pieces) > 3 and max(map(len, pieces)) < 1_500_000
        assert "".join(pieces) == document.text == "\n".join(lines)
        assert document.characters == len(document.text)


def test_what_takes_work_is_read_from_its_file_once(tmp_path, monkeypatch):
    calls = []

    def read_slowly(file, encoding, notes):
        calls.append(file.name)
        yield from ("text of ", f"{file.name[-6:]}\r", "\nand more")

    monkeypatch.setitem(readers.READERS, ".pdf", read_slowly)
    monkeypatch.setattr(documents._Spool, "IN_MEMORY", 10)
    for name in ("a.pdf", "b.pdf"):
        (tmp_path / name).write_bytes(b"")
    found = read_documents(tmp_path)
    for _ in range(2):
        assert found.texts == [f"text of /{name}.pdf\nand more" for name in "ab"]
    assert len(calls) == 2


def test_damage_in_the_middle_is_found_at_once(tmp_path):
    content = b"a line of text\n" * 150_000
    (tmp_path / "a.txt").write_bytes(content + b"\xff\n" + content)
    with pytest.raises(DataError, match=r"a\.txt: is not UTF-8 \(byte 2250000, line 150001\)"):
        read_documents(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_text("sound")
    found = read_documents(tmp_path)
    assert found.texts == ["sound"] and found.skipped[0][0].name == "a.txt"


SMALL_DISK = """
import resource, sys
from minigpt_tf.errors import MiniGPTError
from minigpt_tf.files.documents import read_documents
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
try:
    read_documents(sys.argv[1])
except MiniGPTError as error:
    print(error)
"""


def test_a_full_temporary_folder_is_no_fault_of_a_document(tmp_path):
    (tmp_path / "a.txt").write_text("a sound text")
    (tmp_path / "b.csv").write_text("some cells, more cells\n" * 100_000)
    done = subprocess.run(
        [sys.executable, "-c", SMALL_DISK, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert "cannot hold the text of the documents: File too large: make room" in done.stdout
    assert done.stderr == ""


def test_what_a_library_thinks_of_a_damaged_pdf_is_not_printed(tmp_path, caplog):
    """pypdf logs each oddity; for some of them the logging itself fails, with a traceback."""
    from tests.fuzz.seeds import pdf

    sound = pdf("a line\nanother")
    for before, after in ((b"0000000", b"0 0 0 0"), (b" 00000 n", b"  /A")):
        (tmp_path / "a.pdf").write_bytes(sound.replace(before, after, 3))
        with contextlib.suppress(DataError):
            read_documents([tmp_path / "a.pdf"])
    assert not caplog.records
