"""Word files of raw XML: what a person sees, and what is named as left out."""

import zipfile

import pytest

from minigpt_tf.errors import DataError
from minigpt_tf.files.documents import read_document

NAMES = (
    'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
    'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape" '
    'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math" '
    'xmlns:v="urn:schemas-microsoft-com:vml" '
    'xmlns:pic="http://schemas.openxmlformats.org/drawingml/2006/picture"'
)


def a_document(path, body, **parts):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "word/document.xml", f"<w:document {NAMES}><w:body>{body}</w:body></w:document>"
        )
        for name, content in parts.items():
            archive.writestr(f"word/{name}.xml", content)
    return path


def run(text, properties=""):
    properties = f"<w:rPr>{properties}</w:rPr>" if properties else ""
    return f'<w:r>{properties}<w:t xml:space="preserve">{text}</w:t></w:r>'


def paragraph(*content):
    return f"<w:p>{''.join(content)}</w:p>"


def cell(*content, properties=""):
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{''.join(content)}</w:tc>"


def row(*cells, properties=""):
    return f"<w:tr><w:trPr>{properties}</w:trPr>{''.join(cells)}</w:tr>"


def read(tmp_path, *body, **parts):
    document = read_document(a_document(tmp_path / "a.docx", "".join(body), **parts))
    return document.text, document.notes


def test_changes_are_accepted(tmp_path):
    deleted = "<w:del><w:r><w:delText>two</w:delText></w:r></w:del>"
    moved = f"<w:moveFrom>{run('gone')}</w:moveFrom>"
    text, notes = read(
        tmp_path,
        paragraph(run("Notice: "), deleted, f"<w:ins>{run('four')}</w:ins>", run(" weeks"), moved),
        paragraph("<w:pPr><w:rPr><w:del/></w:rPr></w:pPr>", run("joined ")),
        paragraph(run("to this"), f"<w:moveTo>{run(', moved')}</w:moveTo>"),
        f"<w:tbl>{row(cell(paragraph(run('old'))), properties='<w:del/>')}"
        f"{row(cell(paragraph(run('new'))))}</w:tbl>",
        paragraph(
            "<w:pPr><w:pPrChange><w:pPr><w:numPr/></w:pPr></w:pPrChange></w:pPr>", run("end")
        ),
    )
    assert text == "Notice: four weeks\njoined to this, moved\nnew\nend" and notes == ()


def test_content_controls_have_their_text_and_no_placeholders(tmp_path):
    control = "<w:sdt><w:sdtPr>{0}</w:sdtPr><w:sdtContent>{1}</w:sdtContent></w:sdt>"
    table_row = row(control.format("", cell(paragraph(run("in a cell")))))
    text, notes = read(
        tmp_path,
        control.format("", paragraph(run("a block, "), control.format("", run("a word")))),
        control.format("<w:showingPlcHdr/>", paragraph(run("Click here to enter text"))),
        f"<w:tbl>{control.format('', table_row)}</w:tbl>",
    )
    assert text.split("\n") == ["a block, a word", "", "in a cell"]
    assert notes == ("left out: 1 placeholder of a form ('Click here to enter text')",)


def test_a_text_box_is_read_once(tmp_path):
    box = f"<w:txbxContent>{paragraph(run('In the box'))}{paragraph(run('twice'))}</w:txbxContent>"
    drawing = (
        f"<mc:AlternateContent><mc:Choice Requires='wps'><w:drawing><wps:txbx>{box}</wps:txbx>"
        f"</w:drawing></mc:Choice><mc:Fallback><w:pict><v:textbox>{box}</v:textbox></w:pict>"
        "</mc:Fallback></mc:AlternateContent>"
    )
    old = f"<w:r><w:pict><v:textbox>{box.replace('twice', 'old')}</v:textbox></w:pict></w:r>"
    text, _ = read(
        tmp_path,
        f"<w:p><w:r><w:t>Before, </w:t>{drawing}<w:t>after</w:t></w:r></w:p>",
        paragraph(old, run("last")),
    )
    assert text == "Before, after\nIn the box\ntwice\nlast\nIn the box\nold"


def test_tables_have_each_cell_once(tmp_path):
    inner = f"<w:tbl>{row(cell(paragraph(run('i1'))), cell(paragraph(run('i2'))))}</w:tbl>"
    wide = '<w:gridSpan w:val="100000000"/>'
    text, notes = read(
        tmp_path,
        "<w:tbl>",
        row(cell(paragraph(run("wide")), properties=wide)),
        row(cell(paragraph(run("tall")), properties='<w:vMerge w:val="restart"/>'), cell(inner)),
        row(
            cell(paragraph(run("under")), properties="<w:vMerge/>"),
            cell(paragraph(run("b")), paragraph(run("c"))),
        ),
        "</w:tbl>",
    )
    assert text == "wide\ntall i1 i2\nb\nc"
    assert notes == ("left out: 1 text under a merged cell ('under')",)


def test_signs_of_a_run(tmp_path):
    raised, lowered = ('<w:vertAlign w:val="superscript"/>', '<w:vertAlign w:val="subscript"/>')
    text, notes = read(
        tmp_path,
        paragraph(
            "<w:pPr><w:tabs><w:tab w:val='left'/></w:tabs></w:pPr>",
            "<w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t><w:noBreakHyphen/>"
            "<w:t>d\xade</w:t></w:r>",
            run(" 10"),
            run("6", raised),
            run(" H"),
            run("2", lowered),
            run("O 1"),
            run("st", raised),
        ),
        paragraph(
            '<w:r><w:sym w:font="Symbol" w:char="F061"/></w:r>',
            '<w:r><w:sym w:font="Wingdings" w:char="F0FC"/></w:r>',
            '<w:r><w:sym w:font="Strange" w:char="F0FC"/></w:r>',
            run("hidden", "<w:vanish/>"),
            run("caps ", "<w:caps/>"),
            "<w:r><w:fldChar/><w:instrText> REF x </w:instrText></w:r>",
            run("field"),
            f"<w:hyperlink>{run(' link')}</w:hyperlink>",
            "<w:r><w:ruby><w:rt><w:r><w:t>かん</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>漢</w:t></w:r>"
            "</w:rubyBase></w:ruby></w:r>",
            "<m:oMath><m:r><m:t>x+y</m:t></m:r></m:oMath>",
        ),
    )
    assert text == "a\tb\nc-de 10⁶ H₂O 1st\nα✓CAPS field link漢x+y"
    assert notes == (
        "left out: 1 symbol of a font ('Strange'), 1 hidden text ('hidden'), "
        "1 reading above a word",
        "has equations, of which the characters alone are read",
    )


def field(content, instruction):
    return (
        f'<w:r><w:fldChar w:fldCharType="begin"><w:ffData>{content}</w:ffData></w:fldChar></w:r>'
        f"<w:r><w:instrText> {instruction} </w:instrText></w:r>"
        '<w:r><w:fldChar w:fldCharType="end"/></w:r>'
    )


def test_fields_of_old_forms_show_what_is_chosen(tmp_path):
    choices = '<w:listEntry w:val="red"/><w:listEntry w:val="blue"/>'
    lists = ["", '<w:default w:val="1"/>', '<w:default w:val="1"/><w:result w:val="0"/>']
    text, _ = read(
        tmp_path,
        *(
            paragraph(
                run("It is "), field(f"<w:ddList>{chosen}{choices}</w:ddList>", "FORMDROPDOWN")
            )
            for chosen in [*lists, '<w:result w:val="7"/>']
        ),
        *(
            paragraph(field(f"<w:checkBox>{switch}</w:checkBox>", "FORMCHECKBOX"), run(" yes"))
            for switch in (
                '<w:default w:val="0"/>',
                '<w:default w:val="1"/>',
                '<w:default w:val="0"/><w:checked/>',
                '<w:default w:val="1"/><w:checked w:val="0"/>',
            )
        ),
    )
    assert text.splitlines()[:4] == ["It is red", "It is blue", "It is red", "It is "]
    assert text.splitlines()[4:] == ["☐ yes", "☒ yes", "☒ yes", "☐ yes"]


def test_what_a_document_refers_to_is_named(tmp_path):
    ruby = (
        f"<w:r><w:ruby><w:rt>{run('kan')}</w:rt><w:rubyBase>{run('漢')}</w:rubyBase></w:ruby></w:r>"
    )
    text, notes = read(tmp_path, paragraph(ruby), "<w:subDoc/>")
    assert text == "漢" and notes == ("left out: 1 reading above a word, 1 subdocument",)


def test_what_stands_beside_the_text_is_named(tmp_path):
    def part(kind, *content):
        return f"<w:{kind} {NAMES}>{''.join(content)}</w:{kind}>"

    notes_of = "<w:footnote w:type='separator'><w:p/></w:footnote><w:footnote>{}</w:footnote>"
    text, notes = read(
        tmp_path,
        paragraph(
            "<w:pPr><w:numPr/></w:pPr>", run("Text"), "<w:r><w:drawing><pic:pic/></w:drawing></w:r>"
        ),
        header1=part("hdr", paragraph(run("Annual report"))),
        header2=part("hdr", paragraph()),
        footnotes=part("footnotes", notes_of.format(paragraph(run("See page 2.")))),
        comments=part("comments", *(f"<w:comment>{paragraph(run(c))}</w:comment>" for c in "ab")),
    )
    assert text == "Text"
    assert notes == (
        "left out: 1 number or bullet of a list, 1 picture, 1 header of pages ('Annual report'), "
        "1 footnote ('See page 2.'), 2 comments ('a', 'b')",
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>", "it declares a document type"),
        ("<a>" * 3000, "elements are nested more than 2,000 deep"),
        ("<a></b>", "mismatched tag"),
        ("", "no element found"),
    ],
)
def test_damaged_xml_is_refused(tmp_path, content, expected):
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
        archive.writestr("word/document.xml", content)
    with pytest.raises(DataError, match=f"is not a readable DOCX file: .*{expected}"):
        read_document(tmp_path / "a.docx")


def test_what_unpacks_to_too_much_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.docx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", f"<a>{'x' * (20 << 20)}</a>")
    with pytest.raises(DataError, match=r"unpacks to more than .* save its text in another format"):
        read_document(tmp_path / "a.docx")
    with zipfile.ZipFile(tmp_path / "b.docx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "word/document.xml",
            f"<w:document {NAMES}><w:body>{paragraph(run('text'))}</w:body></w:document>",
        )
        archive.writestr("word/media/a.png", bytes(100 << 20))
    assert read_document(tmp_path / "b.docx").text == "text"
