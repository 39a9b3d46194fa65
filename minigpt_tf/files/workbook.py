"""What the sheets of an .xlsx file share: their names, texts, and formats of cells."""

import re
from dataclasses import dataclass, field

from ..errors import DataError
from .number_formats import BUILT_IN, GENERAL
from .office import Package

_ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")


def unescape(text: str) -> str:
    """Text of a workbook with its escapes resolved: _x000D_ is a carriage return.

    Args:
        text: As it is in the file.

    Returns:
        The text, with line ends as \\n.

    Example:
        >>> unescape("one_x000D_\\ntwo, and _x005F_x000D_ as it stands")
        'one\\ntwo, and _x000D_ as it stands'
    """
    if "_x" in text:
        text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    return text.replace("\r\n", "\n").replace("\r", "\n")


@dataclass
class SheetPart:
    """Where a sheet is, and whether a person sees it."""

    title: str
    member: str
    is_hidden: bool
    is_table: bool = True
    """Whether it has cells; a sheet may be a chart."""


@dataclass
class Workbook:
    """The parts of an .xlsx file but for the sheets' cells."""

    package: Package
    sheets: list[SheetPart] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)
    """Format codes by the number of a cell's style."""
    from_1904: bool = False

    @classmethod
    def of(cls, package: Package) -> "Workbook":
        """Reads a workbook.

        Args:
            package: The file.

        Returns:
            The workbook.

        Raises:
            DataError: It is damaged.
        """
        book = cls(package)
        main = package.main_member("xl/workbook.xml")
        related = package.relationships(main)
        members = {identity: (kind, target) for identity, kind, target in related}

        def start(name: str, attributes: dict[str, str]) -> None:
            """Collects the sheets, and from when days count."""
            if name == "sheet":
                kind, member = members.get(attributes.get("r:id", ""), ("", ""))
                state = attributes.get("state", "visible")
                title = attributes.get("name", "")
                book.sheets.append(
                    SheetPart(title, member, state != "visible", kind == "worksheet")
                )
            elif name == "workbookPr":
                book.from_1904 = attributes.get("date1904") in ("1", "true")

        package.parse(main, start, lambda name: None, lambda text: None)
        for _, kind, member in related:
            if kind == "sharedStrings" and member in package:
                book._read_texts(member)
            elif kind == "styles" and member in package:
                book._read_formats(member)
        return book

    def text(self, index: str) -> str:
        """A shared text. Raises DataError."""
        try:
            number = int(index)
            if number < 0:
                raise IndexError
            return self.texts[number]
        except (ValueError, IndexError):
            raise DataError(
                f"is not a readable XLSX file: a cell has the text number {index!r:.20}"
            ) from None

    def _read_texts(self, member: str) -> None:
        """The texts that cells refer to, without what is written above them to be read aloud."""
        chunks: list[str] = []
        state = {"text": False, "aloud": False}

        def start(name: str, attributes: dict[str, str]) -> None:
            """Begins a text."""
            if name == "si":
                chunks.clear()
            elif name == "rPh":
                state["aloud"] = True
            elif name == "t":
                state["text"] = not state["aloud"]

        def end(name: str) -> None:
            """Ends it."""
            if name == "si":
                self.texts.append(unescape("".join(chunks)))
            elif name == "rPh":
                state["aloud"] = False
            elif name == "t":
                state["text"] = False

        def text(content: str) -> None:
            """A part of it."""
            if state["text"]:
                chunks.append(content)

        self.package.parse(member, start, end, text)

    def _read_formats(self, member: str) -> None:
        """The format codes of the styles of cells."""
        codes = dict(BUILT_IN)
        styles: list[int] = []
        within = False

        def start(name: str, attributes: dict[str, str]) -> None:
            """Collects formats and styles."""
            nonlocal within
            if name == "numFmt":
                codes[_number(attributes.get("numFmtId"))] = attributes.get("formatCode", GENERAL)
            elif name == "cellXfs":
                within = True
            elif name == "xf" and within:
                styles.append(_number(attributes.get("numFmtId")))

        def end(name: str) -> None:
            """Ends the styles."""
            nonlocal within
            within = within and name != "cellXfs"

        self.package.parse(member, start, end, lambda text: None)
        self.formats = [codes.get(number, GENERAL) for number in styles]


def _number(text: str | None) -> int:
    """An id of a format; 0 where it is none."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else 0
