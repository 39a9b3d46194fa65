"""Workbooks as programs write them, and raw XML as only some programs write it."""

import datetime
import zipfile

import pytest

from minigpt_tf.config import RecordsConfig
from minigpt_tf.errors import DataError
from minigpt_tf.files.documents import read_document
from minigpt_tf.records.reading import read_records

openpyxl = pytest.importorskip("openpyxl", reason="the test extra is not installed")

MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"


def a_workbook(path, sheet, texts="", styles="", states=("visible",)):
    """An .xlsx file of raw XML; `sheet` is the XML of every sheet."""
    names = [f"S{number}" for number in range(1, len(states) + 1)]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook {MAIN} xmlns:r="{RELATIONS}"><sheets>'
            + "".join(
                f'<sheet name="{name}" sheetId="{n}" state="{state}" r:id="r{n}"/>'
                for n, (name, state) in enumerate(zip(names, states, strict=True), start=1)
            )
            + "</sheets></workbook>",
        )
        related = [(f"r{n}", "worksheet", f"worksheets/s{n}.xml") for n in range(1, len(names) + 1)]
        related += [
            ("rt", "sharedStrings", "sharedStrings.xml"),
            ("rs", "styles", "/xl/styles.xml"),
        ]
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{PACKAGE}">'
            + "".join(
                f'<Relationship Id="{i}" Type="{RELATIONS}/{kind}" Target="{target}"/>'
                for i, kind, target in related
            )
            + "</Relationships>",
        )
        archive.writestr("xl/sharedStrings.xml", f"<sst {MAIN}>{texts}</sst>")
        archive.writestr("xl/styles.xml", f"<styleSheet {MAIN}>{styles}</styleSheet>")
        for number in range(1, len(names) + 1):
            archive.writestr(
                f"xl/worksheets/s{number}.xml", f"<worksheet {MAIN}>{sheet}</worksheet>"
            )
    return path


def a_book(path, rows, change=lambda sheet: None):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    change(book.active)
    book.save(path)
    return path


def test_cells_are_texts_as_excel_shows_them(tmp_path):
    def change(sheet):
        for name, code in (("A1", "0%"), ("B1", "00000"), ("C1", "[h]:mm"), ("D1", "d. mmm yyyy")):
            sheet[name].number_format = code

    day = datetime.date(2026, 3, 1)
    book = a_book(tmp_path / "a.xlsx", [[0.19, 1067, 1.5, day, True, "00123"]], change)
    assert read_document(book).text == "19% 01067 36:00 1. Mar 2026 TRUE 00123"


def test_texts_of_a_workbook_are_taken_whole(tmp_path):
    texts = (
        "<si><r><t>rich </t></r><r><rPr><b/></rPr><t>text</t></r></si>"
        "<si><t>漢字</t><rPh sb='0' eb='2'><t>かんじ</t></rPh></si>"
        "<si><t>one_x000D_\ntwo _x005F_x000D_</t></si>"
    )
    row = "".join(f'<c t="s"><v>{number}</v></c>' for number in range(3))
    row += '<c t="inlineStr"><is><r><t>in </t></r><r><t>line</t></r></is></c>'
    book = a_workbook(tmp_path / "a.xlsx", f"<sheetData><row>{row}</row></sheetData>", texts)
    assert read_document(book).text == "rich text 漢字 one\ntwo _x000D_ in line"


def test_what_nobody_sees_is_left_out_and_named(tmp_path):
    def change(sheet):
        sheet.row_dimensions[3].hidden = True
        sheet.column_dimensions["C"].hidden = True
        secret = sheet.parent.create_sheet("Secret")
        secret.append(["hidden text"])
        secret.sheet_state = "hidden"

    rows = [["instruction", "output", "notes"], ["q1", "a1", "n1"], ["q2", "a2"], ["q3", "a3"]]
    book = a_book(tmp_path / "a.xlsx", rows, change)
    said = (
        "left out: 1 hidden sheet ('Secret'), 1 hidden row (Sheet, row 3), 2 cells of a hidden "
        "column ('Sheet!C')"
    )
    document = read_document(book)
    assert document.text == "instruction output\nq1 a1\nq3 a3" and document.notes == (said,)
    found = read_records(book, RecordsConfig())
    assert [(r.row, r.texts[0]) for r in found.records] == [(2, "q1"), (4, "q3")]
    assert found.notes == (said,)
    given = a_workbook(
        tmp_path / "b.xlsx",
        '<sheetData><row r="7"><c t="inlineStr"><is><t>x</t></is></c></row></sheetData>',
        states=("hidden", "veryHidden"),
    )
    with pytest.raises(
        DataError, match=r"contains no text; left out: 2 hidden sheets \('S1', 'S2'\)"
    ):
        read_document(given)
    with pytest.raises(DataError, match="has no sheet that is seen: give --sheet 'S1'"):
        read_records(given, RecordsConfig())


def test_formulas_without_values_are_said(tmp_path):
    rows = [["instruction", "output"], ["q", '=A2&"!"'], ["r", "=1+1"]]
    book = a_book(tmp_path / "a.xlsx", rows)
    with pytest.raises(DataError, match=r"'output' is a formula without a stored value: open the"):
        read_records(book, RecordsConfig())
    assert read_document(book).notes == (
        "left out: 2 formulas without a stored value (the first in Sheet!B2)",
    )
    only = a_book(tmp_path / "b.xlsx", [["=1+1"]])
    with pytest.raises(DataError, match="contains no text, but 1 formula without a stored value"):
        read_document(only)


def test_formulas_with_values_and_errors(tmp_path):
    cells = (
        '<c t="str"><f>A1</f><v>made</v></c><c><f>1+1</f><v>2</v></c><c t="str"><f>X</f><v></v></c>'
        '<c t="e"><f>1/0</f><v>#DIV/0!</v></c><c t="b"><v>0</v></c>'
    )
    book = a_workbook(tmp_path / "a.xlsx", f"<sheetData><row>{cells}</row></sheetData>")
    document = read_document(book)
    assert document.text == "made 2 FALSE"
    assert document.notes == ("left out: 1 cell with an error ('#DIV/0!'; S1!D1)",)


def test_merged_cells_stand_for_each_row_that_they_cover(tmp_path):
    rows = [["text", "label"], ["one", "ham"], ["two"], ["three", "spam"], ["four"]]
    book = a_book(
        tmp_path / "a.xlsx",
        rows,
        lambda sheet: [sheet.merge_cells(place) for place in ("B2:B3", "B4:B5")],
    )
    found = read_records(book, RecordsConfig())
    assert [r.label for r in found.records] == ["ham", "ham", "spam", "spam"]
    assert read_document(book).text == "text label\none ham\ntwo\nthree spam\nfour"


def test_the_first_sheet_with_cells_is_read(tmp_path):
    def change(sheet):
        for title, word in (("Data", "q"), ("More", "r")):
            other = sheet.parent.create_sheet(title)
            for row in ([], [None, "instruction", "output"], [None, word, "a"]):
                other.append(row)

    book = a_book(tmp_path / "a.xlsx", [], change)
    found = read_records(book, RecordsConfig())
    assert [(r.row, r.texts[0]) for r in found.records] == [(3, "q")]
    assert found.notes == ("left out: 2 other sheets ('Sheet', 'More')",)
    assert read_records(book, RecordsConfig(sheet="More")).records[0].texts[0] == "r"


def test_comments_and_pictures_beside_the_cells_are_counted(tmp_path):
    from openpyxl.comments import Comment

    def change(sheet):
        sheet["A1"].comment = Comment("a remark", "me")

    book = a_book(tmp_path / "a.xlsx", [["text"]], change)
    with zipfile.ZipFile(book, "a") as archive:
        archive.writestr("xl/media/image1.png", b"")
    assert read_document(book).notes == ("left out: 1 comment, 1 picture",)


def test_titles_above_the_header_are_named(tmp_path):
    rows = [["Questions of 2026"], [], ["instruction", "output"], ["q", "a"], ["r", "b"]]
    found = read_records(a_book(tmp_path / "a.xlsx", rows), RecordsConfig())
    assert [r.row for r in found.records] == [4, 5]
    assert found.notes == ("left out: 1 row above the header ('Questions of 2026'; row 1)",)


def test_a_claimed_size_costs_nothing(tmp_path):
    cell = '<c r="A{0}" t="inlineStr"><is><t>{1}</t></is></c>'
    rows = "".join(
        f'<row r="{n}">{cell.format(n, word)}<c r="XFD{n}" s="0"/></row>'
        for n, word in ((1, "first"), (1_048_576, "last"))
    )
    sheet = f'<dimension ref="A1:XFD1048576"/><sheetData>{rows}</sheetData>'
    assert read_document(a_workbook(tmp_path / "a.xlsx", sheet)).text == "first\nlast"
    sheet = sheet.replace('r="1048576"', 'r="99999999"')
    with pytest.raises(DataError, match="has more than 1,048,576 rows"):
        read_document(a_workbook(tmp_path / "a.xlsx", sheet))


def test_a_file_with_a_password_is_told_apart(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600))
    with pytest.raises(DataError, match="it is protected by a password, or is in the format of"):
        read_document(tmp_path / "a.xlsx")
