"""HTML -> the text that a reader of the page sees."""

import codecs
import re
from collections import Counter
from collections.abc import Iterator

from .decoding import decode_text
from .html_tokens import Tag, attributes_of, tokens
from .notes import Notes

_BLOCK_NAMES = (
    "address article aside blockquote body br caption center dd details dialog dir div dl dt "
    "fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li "
    "listing main menu nav ol optgroup option p plaintext pre search section summary table tbody "
    "tfoot thead title tr ul xmp"
)
BLOCKS = set(_BLOCK_NAMES.split())
"""What begins and ends a line: display: block, list-item or table-row in the HTML standard's
chapter on rendering (15.3), and <br>."""

CELLS = {"button", "img", "input", "label", "marquee", "meter", "progress", "select", "td"}
CELLS |= {"svg", "textarea", "th"}
"""What stands apart in its line: cells, and boxes that are set as a character is."""

PREFORMATTED = {"listing", "plaintext", "pre", "textarea", "xmp"}

_PLAIN_BLOCKS = BLOCKS - PREFORMATTED - {"dialog", "ol", "title"}

NEVER_SEEN = {"script", "style", "meta", "link", "base", "datalist", "param"}
HIDDEN = {"template", "noscript", "noembed", "noframes", "iframe", "audio", "video", "canvas"}
HIDDEN |= {"object", "desc", "metadata", "annotation", "annotation-xml"}
"""Elements that show nothing, or something else than their content."""

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param"}
VOID |= {"source", "track", "wbr"}

_ENDS_BEFORE = {
    "p": BLOCKS - {"br", "caption", "legend", "option", "title"},
    "li": {"li"},
    "dd": {"dd", "dt"},
    "dt": {"dd", "dt"},
    "td": {"td", "th", "tr", "tbody", "tfoot"},
    "th": {"td", "th", "tr", "tbody", "tfoot"},
    "tr": {"tr", "tbody", "tfoot"},
    "option": {"option", "optgroup"},
    "optgroup": {"optgroup"},
    "rp": {"rp", "rt"},
}
"""Elements that need no end tag, and the start tags that end them."""

RAISED = str.maketrans("0123456789+-=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿ")
LOWERED = str.maketrans("0123456789+-=()", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎")
"""What Unicode has of numbers above and below the line: 10⁶ is not 106."""

_DISPLAY_NONE = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.I)
_DISPLAY_BLOCK = re.compile(
    r"(?:^|;)\s*display\s*:\s*(?:block|flex|grid|flow-root|list-item|table|table-row)\b", re.I
)
_INVISIBLE = {0xAD: None, 0x200B: None}
_MARK = "\x01"
"""Stands for a space of preformatted text, until the line is whole."""

_DECLARED = re.compile(
    rb"""<meta[^>]{1,500}?charset\s*=\s*["']?\s*([\w:.-]{2,40})|<\?xml[^>]{1,200}?encoding\s*=\s*"""
    rb"""["']([\w:.-]{2,40})""",
    re.I,
)
_AS_BROWSERS = {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030", "gbk": "gb18030"}
_AS_BROWSERS |= {"shift_jis": "cp932", "euc_kr": "cp949", "iso8859-9": "cp1254"}
"""Encodings for which browsers take a larger one."""


def decode_html(content: bytes, encoding: str, notes: Notes) -> str:
    """The page in a file, in the encoding that it declares where none is named.

    Args:
        content: The bytes of the file.
        encoding: Of the file; the default gives way to what the page says of itself.
        notes: Gets what is left out, and a page that is not in the encoding that it declares.

    Returns:
        The page.

    Raises:
        DataError: It is not text in the encoding.
    """
    found = _DECLARED.search(content[:4096])
    name = (found[1] or found[2]).decode() if found and encoding == "utf-8" else encoding
    try:
        declared = codecs.lookup(name).name
    except LookupError:
        return decode_text(content, encoding, notes)
    declared = _AS_BROWSERS.get(declared, declared) if found else declared
    if found and not declared.startswith("utf"):
        try:
            page = content.decode()
        except UnicodeDecodeError:
            pass
        else:
            if not page.isascii():
                notes.remark(f"says that it is {name}, but is UTF-8, and was read so")
            return page
        return decode_text(content, declared, notes)
    return decode_text(content, encoding, notes)


def text_of_html(page: str, notes: Notes | None = None) -> str:
    """The text of a page, as a reader of it would see it.

    Args:
        page: HTML.
        notes: Gets what is left out: pictures, hidden elements, fields of forms, numbers of lists.

    Returns:
        The text, with a line for each block that is not empty.

    Example:
        >>> from minigpt_tf.files.html_pages import text_of_html
        >>> text_of_html("<h1>Title</h1><p>One &amp; two<script>x()</script></p>").split("\\n")
        ['Title', 'One & two']
    """
    lines = (" ".join(line.split()).replace(_MARK, " ").rstrip() for line in _lines(page, notes))
    return "\n".join(line for line in lines if line.strip())


def _lines(page: str, notes: Notes | None) -> Iterator[str]:
    """The lines of a page, with white space as it is."""
    reader = _Reader(Notes() if notes is None else notes)
    for token in tokens(page):
        if isinstance(token, str):
            reader.text(token)
        elif token.is_end:
            reader.end(token.name)
        else:
            reader.start(token)
    reader.finish()
    return iter("".join(reader.chunks).split("\n"))


class _Hidden:
    """An element that shows nothing: where it ends, and what it says."""

    def __init__(self, name: str, *, is_counted: bool) -> None:
        self.open, self.count = [name], Counter([name])
        self.is_counted, self.says = is_counted, ""

    def start(self, name: str) -> bool:
        """A start tag within it, or behind it; returns whether it has ended before."""
        root = self.open[0]
        blocks = sum(self.count[other] for other in ("ul", "ol", "dl", "table", "div", "select"))
        if name in _ENDS_BEFORE.get(root, ()) and blocks == (root in ("ul", "ol")):
            return True
        if name not in VOID:
            self.open.append(name)
            self.count[name] += 1
        return False

    def end(self, name: str) -> bool | None:
        """An end tag; True where the element ends with it, None where it has ended before."""
        if not self.count[name]:
            return None if self.open[0] in _ENDS_BEFORE and name in BLOCKS | {"td", "th"} else False
        while True:
            last = self.open.pop()
            self.count[last] -= 1
            if last == name:
                return not self.open


class _Reader:
    """Collects what a reader of the page sees."""

    def __init__(self, notes: Notes) -> None:
        self.notes, self.chunks = notes, list[str]()
        self.hidden: _Hidden | None = None
        self.preformatted = self.drawings = 0
        self.shift: tuple[str, int] | None = None  # <sup> or <sub>, and where its text begins
        self.styled: dict[str, list[bool]] = {}  # by name: whether those that are open are blocks

    def start(self, tag: Tag) -> None:
        """A start tag."""
        name = tag.name
        if self.hidden is not None:
            if not self.hidden.start(name):
                return
            self.leave()
        if tag.rest == ">" and name in _PLAIN_BLOCKS:
            self.chunks.append("\n")
            return
        attributes = self._look(tag)
        if attributes is None:
            return
        is_block = _DISPLAY_BLOCK.search(attributes.get("style", "")) is not None
        if (is_block or self.styled.get(name)) and name not in BLOCKS | VOID:
            self.styled.setdefault(name, []).append(is_block)
        if name in BLOCKS or is_block:
            self.chunks.append("\n")
        elif name in CELLS or (self.drawings and name == "text"):
            self.chunks.append(" ")
        if name in PREFORMATTED:
            self.preformatted += 1
        elif name in ("sup", "sub"):
            self.shift = name, len(self.chunks)
        elif name == "q":
            self.chunks.append("“")
        elif name == "img":
            self.notes.leave_out("picture", name=attributes.get("alt", "").strip())
        elif name == "ol":
            self.notes.leave_out("numbering of a list")
        elif name == "input" and attributes.get("type", "").lower() != "hidden":
            says = attributes.get("value") or attributes.get("placeholder") or ""
            if says:
                self.notes.leave_out("field of a form", name=says)

    def _look(self, tag: Tag) -> dict[str, str] | None:
        """The attributes of an element; None where it shows nothing."""
        name = tag.name
        if name in ("svg", "math"):
            self.drawings += 1
        never = name in NEVER_SEEN
        in_drawing = self.drawings > 0 and name in ("title", "style", "script")
        attributes = attributes_of(tag) if len(tag.rest) > 1 else {}
        unseen = "hidden" in attributes and attributes["hidden"] != "until-found"
        unseen |= _DISPLAY_NONE.search(attributes.get("style", "")) is not None
        unseen |= name == "dialog" and "open" not in attributes
        if name in VOID:
            return None if never or unseen else attributes
        if never or in_drawing or unseen or name in HIDDEN:
            if name == "iframe" and not unseen:
                self.notes.leave_out("page within the page", name=attributes.get("src", ""))
            self.hidden = _Hidden(name, is_counted=not never and not in_drawing)
            if name in BLOCKS:
                self.chunks.append("\n")
            return None
        return attributes

    def end(self, name: str) -> None:
        """An end tag."""
        if self.hidden is not None:
            ended = self.hidden.end(name)
            if ended is False:
                return
            self.leave()
            if ended:
                self.chunks.append("\n" if name in BLOCKS else "")
                return
        if name in _PLAIN_BLOCKS:
            self.chunks.append("\n")
            return
        if name in ("svg", "math"):
            self.drawings = max(0, self.drawings - 1)
        if name in PREFORMATTED:
            self.preformatted = max(0, self.preformatted - 1)
        if self.shift and name == self.shift[0]:
            self._shifted(*self.shift)
            self.shift = None
        if name in BLOCKS or (self.styled.get(name) and self.styled[name].pop()):
            self.chunks.append("\n")
        elif name in CELLS:
            self.chunks.append(" ")
        elif name == "q":
            self.chunks.append("”")

    def _shifted(self, name: str, begin: int) -> None:
        """Writes a number above or below the line with the characters for it."""
        text = "".join(self.chunks[begin:])
        table = RAISED if name == "sup" else LOWERED
        if text and all(ord(character) in table for character in text):
            self.chunks[begin:] = [text.translate(table)]

    def text(self, text: str) -> None:
        """Text between tags."""
        if self.hidden is not None:
            if self.hidden.is_counted and len(self.hidden.says) < 100:
                self.hidden.says += text[:100]
            return
        if not text.isascii():
            text = text.translate(_INVISIBLE)
        if self.preformatted:
            text = text.replace("\t", "    ").replace(" ", _MARK)
            self.chunks.append(text)
        else:
            self.chunks.append(text.replace("\n", " "))

    def leave(self) -> None:
        """The end of a hidden element, which is counted if it says something."""
        if self.hidden is not None and self.hidden.is_counted:
            says = " ".join(self.hidden.says.split())
            if says:
                self.notes.leave_out("hidden element", name=says)
        self.hidden = None

    def finish(self) -> None:
        """The end of the page."""
        self.leave()
