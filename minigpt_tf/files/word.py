"""A .docx file -> the text that a person sees in it, with all changes accepted."""

import re
from collections.abc import Iterator
from typing import BinaryIO

from ..errors import DataError
from .html_pages import LOWERED, RAISED
from .notes import Notes
from .office import Package

SKIPPED = {
    "del": "",
    "moveFrom": "",
    "delText": "",
    "instrText": "",
    "delInstrText": "",
    "sdtPr": "",
    "sdtEndPr": "",
    "rt": "reading above a word",
    "mc:Fallback": "",
    "altChunk": "embedded document",
    "subDoc": "subdocument",
    "object": "embedded object",
    "pPrChange": "",
    "rPrChange": "",
    "tcPrChange": "",
    "trPrChange": "",
    "tblPrChange": "",
    "sectPrChange": "",
}
"""Elements whose content nobody sees, and what they are called where that is worth a word."""

_BESIDE = (
    (r"word/header\d*\.xml", "header of pages", None),
    (r"word/footer\d*\.xml", "footer of pages", None),
    (r"word/footnotes\.xml", "footnote", "footnote"),
    (r"word/endnotes\.xml", "endnote", "endnote"),
    (r"word/comments\.xml", "comment", "comment"),
    (r"word/charts/chart\d*\.xml", "chart", None),
    (r"word/diagrams/data\d*\.xml", "diagram", None),
)
"""Parts beside the text: their names, what they are, and the elements that are counted in them."""

_SYMBOL = {0x61 + place: letter for place, letter in enumerate("αβχδεφγηιϕκλμνοπθρστυϖωξψζ")}
_SYMBOL |= {0x41 + place: letter for place, letter in enumerate("ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ")}
_SYMBOL |= {0xA3: "≤", 0xB3: "≥", 0xB1: "±", 0xB4: "×", 0xB8: "÷", 0xB9: "≠", 0xBB: "≈"}
_SYMBOL |= {0xA5: "∞", 0xAE: "→", 0xAC: "←", 0xAB: "↔", 0xB0: "°", 0xB7: "•", 0xD6: "√"}
_SYMBOL |= {0xA2: "′", 0xB2: "″", 0xCE: "∈", 0xE5: "∑", 0xF2: "∫", 0xB6: "∂", 0xD1: "∇"}
_WINGDINGS = {0xFC: "✓", 0xFB: "✗", 0xA8: "☐", 0xFE: "☑", 0xFD: "☒", 0xA7: "▪", 0x6C: "●"}
_WINGDINGS |= {0xE0: "→", 0xDF: "←", 0xE8: "➔", 0x4A: "☺", 0x4C: "☹", 0x28: "☎", 0x2A: "✉"}
_FONTS = {"symbol": _SYMBOL, "wingdings": _WINGDINGS}
"""What the characters of two fonts mean that have pictures in the place of letters."""

_BREAKS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}


def text_of_docx(file: BinaryIO, notes: Notes | None = None) -> Iterator[str]:
    """The text of a Word file.

    What was inserted is there and what was deleted is not; content controls, text boxes and fields
    have their text; a row of a table is a line.

    Args:
        file: The file, open for reading.
        notes: Gets what is left out: headers, footnotes, comments, pictures, hidden text.

    Yields:
        The lines of the text, in the order in which a person reads them.

    Raises:
        DataError: The file is damaged or too large.
    """
    notes = Notes() if notes is None else notes
    package = Package(file, "DOCX")
    main = package.main_member("word/document.xml")
    reader = _Document(notes)
    for _ in package.stream(main, reader.start, reader.end, reader.text):
        yield from reader.taken()
    yield from reader.taken()
    _count_beside(package, notes)


class _Flow:
    """Paragraphs that follow each other: those of the document, a cell or a text box."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.chunks: list[str] = []
        self.boxes: list[str] = []
        """Lines of text boxes, which come behind the paragraph that they hang on."""
        self.is_covered = self.is_deleted = False
        """Of a cell: whether one above it is merged with it, or it is gone."""

    def end_paragraph(self) -> None:
        """Ends a line."""
        self.lines += "".join(self.chunks).split("\n")
        self.lines += self.boxes
        self.chunks, self.boxes = [], []


class _Row:
    """A row of a table."""

    def __init__(self) -> None:
        self.cells: list[str] = []
        self.is_deleted = False


class _Document:
    """Collects the text of a document."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self.flows = [_Flow()]
        self.rows: list[_Row] = []  # those that are open: of a table, and of tables in its cells
        self.skipping = 0
        self.in_text = self.hidden = self.capitals = self.deleted_mark = False
        self.shift = self.font = ""
        self.stack: list[str] = []
        self.controls: list[bool] = []  # whether a content control shows its placeholder
        self.run: list[str] = []
        self.choices: list[str] = []  # of the list of a form
        self.chosen = 0
        self.is_checked = False

    def taken(self) -> list[str]:
        """The lines that are complete."""
        lines, self.flows[0].lines = self.flows[0].lines, []
        return lines

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """A start tag."""
        self.stack.append(name)
        if self.skipping:
            self.skipping += 1
            if name == "showingPlcHdr" and self.controls and _is_on(attributes):
                self.controls[-1] = True
            return
        if name in SKIPPED:
            self._skip(name)
        elif name in _BREAKS:
            if self.stack[-2:-1] == ["r"]:  # a <tab> of a paragraph's settings is none of its text
                self.run.append(_BREAKS[name])
        elif name in _STARTS:
            _STARTS[name](self, attributes)

    def _skip(self, name: str) -> None:
        """Passes over an element, but for what its properties say of it."""
        parent = self.stack[-2] if len(self.stack) > 1 else ""
        if name in ("del", "moveFrom") and parent in ("rPr", "trPr"):
            within = self.stack[-3] if len(self.stack) > 2 else ""
            self.deleted_mark |= parent == "rPr" and within == "pPr"
            if parent == "trPr" and self.rows:
                self.rows[-1].is_deleted = True
            return
        if SKIPPED[name]:
            self.notes.leave_out(SKIPPED[name])
        self.skipping = 1

    def _begin_flow(self, attributes: dict[str, str]) -> None:
        self.flows.append(_Flow())

    def _begin_box(self, attributes: dict[str, str]) -> None:
        self._end_run()  # what stands in the run before the box
        self.flows.append(_Flow())

    def _begin_ruby(self, attributes: dict[str, str]) -> None:
        self._end_run()

    def _begin_row(self, attributes: dict[str, str]) -> None:
        self.rows.append(_Row())

    def _begin_run(self, attributes: dict[str, str]) -> None:
        self.run = []
        self.hidden = self.capitals = False
        self.shift, self.font = "", ""

    def _begin_text(self, attributes: dict[str, str]) -> None:
        self.in_text = True

    def _begin_control(self, attributes: dict[str, str]) -> None:
        self.controls.append(False)

    def _hide(self, attributes: dict[str, str]) -> None:
        within = self.stack[-3] if len(self.stack) > 2 else ""
        self.hidden |= _is_on(attributes) and within == "r"

    def _capitals(self, attributes: dict[str, str]) -> None:
        self.capitals = _is_on(attributes) and self.stack[-3:-1] == ["r", "rPr"]

    def _styled(self, attributes: dict[str, str]) -> None:
        if re.match("List(Bullet|Number)", attributes.get("val", "")):
            self.notes.leave_out("number or bullet of a list")

    def _shift(self, attributes: dict[str, str]) -> None:
        self.shift = attributes.get("val", "")

    def _font(self, attributes: dict[str, str]) -> None:
        self.font = attributes.get("ascii", "").lower()

    def _merge(self, attributes: dict[str, str]) -> None:
        self.flows[-1].is_covered |= attributes.get("val", "continue") == "continue"

    def _delete_cell(self, attributes: dict[str, str]) -> None:
        self.flows[-1].is_deleted = True

    def _symbol(self, attributes: dict[str, str]) -> None:
        code = attributes.get("char", "")
        if not re.fullmatch("[0-9A-Fa-f]{1,6}", code):
            return
        self.run.append(self._of_font(chr(int(code, 16) % 0x110000), attributes.get("font", "")))

    def _of_font(self, character: str, font: str) -> str:
        """A character of a font, where that has pictures in the place of letters."""
        code = ord(character)
        table = _FONTS.get(font.lower())
        if table is not None:
            found = table.get(code & 0xFF) if code < 0x100 or code >= 0xF000 else None
            if found:
                return found
        if 0xE000 <= code <= 0xF8FF or 0xD800 <= code <= 0xDFFF:
            self.notes.leave_out("symbol of a font", name=font)
            return ""
        return character

    def _begin_field(self, attributes: dict[str, str]) -> None:
        self.choices, self.chosen = [], 0

    def _choice(self, attributes: dict[str, str]) -> None:
        self.choices.append(attributes.get("val", ""))

    def _set_field(self, attributes: dict[str, str]) -> None:
        """What of a list is chosen, or whether a box is checked: a <default> stands before it."""
        number = attributes.get("val", "")
        if self.stack[-2:-1] == ["ddList"] and number.isdecimal():
            self.chosen = int(number[:6])
        elif self.stack[-2:-1] == ["checkBox"]:
            self.is_checked = _is_on(attributes)

    def _begin_check_box(self, attributes: dict[str, str]) -> None:
        self.is_checked = False

    def _end_field(self) -> None:
        self.run += self.choices[self.chosen : self.chosen + 1]

    def _end_check_box(self) -> None:
        self.run.append("☒" if self.is_checked else "☐")

    def _picture(self, attributes: dict[str, str]) -> None:
        self.notes.leave_out("picture")

    def _numbered(self, attributes: dict[str, str]) -> None:
        self.notes.leave_out("number or bullet of a list")

    def _equation(self, attributes: dict[str, str]) -> None:
        self.notes.remark("has equations, of which the characters alone are read")

    def text(self, content: str) -> None:
        """Text between tags."""
        if self.in_text and not self.skipping:
            self.run.append(content)

    def end(self, name: str) -> None:
        """An end tag."""
        self.stack.pop()
        if self.skipping:
            self.skipping -= 1
            return
        if name in ("t", "m:t"):
            self.in_text = False
            if name == "m:t":
                self._end_run()
        elif name in _ENDS:
            _ENDS[name](self)

    def _end_run(self) -> None:
        text = "".join(self.run).replace("\xad", "")
        self.run = []
        if not text:
            return
        if self.capitals:
            text = text.upper()
        if self.font in _FONTS:
            text = "".join(self._of_font(character, self.font) for character in text)
        if self.hidden:
            self.notes.leave_out("hidden text", name=text.strip())
            return
        if any(self.controls):
            self.notes.leave_out("placeholder of a form", name=text.strip())
            return
        for kind, table in (("superscript", RAISED), ("subscript", LOWERED)):
            if self.shift == kind and all(ord(character) in table for character in text):
                text = text.translate(table)
        self.flows[-1].chunks.append(text)

    def _end_paragraph(self) -> None:
        if self.deleted_mark:
            self.deleted_mark = False
        else:
            self.flows[-1].end_paragraph()

    def _end_control(self) -> None:
        self.controls.pop()

    def _end_cell(self) -> None:
        flow = self.flows.pop()
        if flow.chunks:
            flow.end_paragraph()
        if flow.is_covered:
            said = " ".join(flow.lines).strip()
            if said:
                self.notes.leave_out("text under a merged cell", name=said)
        elif self.rows and not flow.is_deleted:
            self.rows[-1].cells.append("\n".join(flow.lines))

    def _end_row(self) -> None:
        row = self.rows.pop()
        if not row.is_deleted:
            cells = " ".join(cell for cell in row.cells if cell.strip())
            self.flows[-1].lines += cells.split("\n")

    def _end_box(self) -> None:
        flow = self.flows.pop()
        if flow.chunks:
            flow.end_paragraph()
        self.flows[-1].boxes += [line for line in flow.lines if line.strip()]

    def _end_body(self) -> None:
        if self.flows[-1].chunks:
            self.flows[-1].end_paragraph()


_STARTS = {
    "tc": _Document._begin_flow,
    "txbxContent": _Document._begin_box,
    "ruby": _Document._begin_ruby,
    "tr": _Document._begin_row,
    "r": _Document._begin_run,
    "m:r": _Document._begin_run,
    "t": _Document._begin_text,
    "m:t": _Document._begin_text,
    "sdt": _Document._begin_control,
    "vanish": _Document._hide,
    "caps": _Document._capitals,
    "pStyle": _Document._styled,
    "vertAlign": _Document._shift,
    "rFonts": _Document._font,
    "vMerge": _Document._merge,
    "hMerge": _Document._merge,
    "cellDel": _Document._delete_cell,
    "sym": _Document._symbol,
    "ddList": _Document._begin_field,
    "listEntry": _Document._choice,
    "checkBox": _Document._begin_check_box,
    "default": _Document._set_field,
    "result": _Document._set_field,
    "checked": _Document._set_field,
    "x:pic": _Document._picture,
    "v:imagedata": _Document._picture,
    "numPr": _Document._numbered,
    "m:oMath": _Document._equation,
}
_ENDS = {
    "r": _Document._end_run,
    "p": _Document._end_paragraph,
    "sdt": _Document._end_control,
    "tc": _Document._end_cell,
    "tr": _Document._end_row,
    "txbxContent": _Document._end_box,
    "body": _Document._end_body,
    "ddList": _Document._end_field,
    "checkBox": _Document._end_check_box,
}


def _is_on(attributes: dict[str, str]) -> bool:
    """Whether a switch such as <w:vanish/> is on."""
    return attributes.get("val", "1") not in ("0", "false", "off")


def _count_beside(package: Package, notes: Notes) -> None:
    """Counts what stands beside the text: headers, footnotes, comments and others."""
    for pattern, what, counted in _BESIDE:
        for member in package.matching(pattern):
            _count_in(package, member, notes, what, counted)


def _count_in(package: Package, member: str, notes: Notes, what: str, counted: str | None) -> None:
    """Counts those elements of a part that say something, or the part as one."""
    chunks: list[str] = []
    found: list[str] = []
    state = {"text": False, "separator": False}

    def start(name: str, attributes: dict[str, str]) -> None:
        """Begins an element."""
        state["text"] = name in ("t", "x:t", "x:v")
        if name == counted:
            chunks.clear()
            state["separator"] = attributes.get("type", "normal") != "normal"

    def end(name: str) -> None:
        """Ends it."""
        state["text"] = False
        if name == counted and not state["separator"]:
            found.append("".join(chunks))

    def text(content: str) -> None:
        """A part of its text."""
        if state["text"]:
            chunks.append(content)

    try:
        package.parse(member, start, end, text)
    except DataError:  # the text itself is sound
        notes.leave_out(f"damaged {what}")
        return
    if counted is None:
        found = ["".join(chunks)]
    for said in found:
        if said.strip():
            notes.leave_out(what, name=said.strip())
