"""HTML -> tags and texts, as the HTML standard takes a page apart, in one pass over it.

The parsers that build a tree (lexbor, libxml2) need time that grows with the square of the depth,
or drop what is deep. Only the tokens are needed here, and their cost grows with the page alone.
"""

import html
import re
from collections.abc import Iterator
from typing import NamedTuple

RAW = {"script", "style", "xmp", "iframe", "noembed", "noframes", "noscript"}
"""Elements whose content has neither tags nor character references."""

ESCAPABLE = {"textarea", "title"}
"""Elements whose content has no tags."""

_WITHOUT_TAGS = RAW | ESCAPABLE | {"plaintext"}

_COMMENT_END = re.compile(r"--!?>")
_TAG = re.compile(
    r"""<(/?+)([a-zA-Z][^\s/>]*+)(>|(?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+')?+)*+(?:>|(?P<open>\Z)))"""
)
_ATTRIBUTE = re.compile(r"""([^\s/>=]++)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>]*+)))?+""")
_LONG_REFERENCE = re.compile(r"&#(?:[xX]0*[0-9a-fA-F]{7,}|0*[0-9]{8,})+;?")


class Tag(NamedTuple):
    """A start or end tag."""

    name: str
    is_end: bool
    rest: str
    """What follows the name, up to and with the >."""


def attributes_of(tag: Tag) -> dict[str, str]:
    """The attributes of a tag.

    Args:
        tag: The tag.

    Returns:
        Their values by their names in lower case, of two with the same name the first.

    Example:
        >>> attributes_of(Tag("p", False, ' ID="a&amp;b" hidden>'))
        {'id': 'a&b', 'hidden': ''}
    """
    found: dict[str, str] = {}
    for name, *values in _ATTRIBUTE.findall(tag.rest.removesuffix(">")):
        found.setdefault(name.lower(), unescape("".join(values)))
    return found


def unescape(text: str) -> str:
    """Text with its character references resolved.

    Args:
        text: As it is in the page.

    Returns:
        The text; references beyond Unicode are replaced.
    """
    return html.unescape(_LONG_REFERENCE.sub("\ufffd", text)) if "&" in text else text


def tokens(page: str) -> Iterator[Tag | str]:
    """Takes a page apart.

    Args:
        page: HTML.

    Yields:
        Tags with their names in lower case, and texts. Comments and declarations are passed over.
        The content of RAW and ESCAPABLE elements is one text; what a page opens and never closes
        ends with it.

    Example:
        >>> list(tokens("<P>1 &lt; 2"))
        [Tag(name='p', is_end=False, rest='>'), '1 < 2']
    """
    place = foreign = 0
    while (begin := page.find("<", place)) >= 0:
        if begin > place:
            yield unescape(page[place:begin])
        if found := _TAG.match(page, begin):
            if found["open"] is not None:  # the page ends within the tag
                return
            tag = Tag(found[2].lower(), found[1] == "/", found[3])
            place = found.end()
            yield tag
            if tag.name in ("svg", "math"):
                foreign = max(0, foreign + (-1 if tag.is_end else 1))
            elif tag.name in _WITHOUT_TAGS and not tag.is_end and foreign == 0:
                content, place = _content(page, tag.name, place)
                if content:
                    yield content
            continue
        following = page[begin + 1 : begin + 2]
        if page.startswith("<![CDATA[", begin) and foreign > 0:
            end = _end_of(page, "]]>", begin)
            yield page[begin + 9 : end]
            place = end + 3
        elif following in ("!", "?"):
            place = _after_comment(page, begin)
        elif following == "/" and len(page) > begin + 2:
            place = _end_of(page, ">", begin) + 1
        else:
            yield "<"
            place = begin + 1
    if place < len(page):
        yield unescape(page[place:])


def _end_of(page: str, mark: str, place: int) -> int:
    """Where a mark stands; the end of the page where it does not."""
    found = page.find(mark, place)
    return found if found >= 0 else len(page)


def _after_comment(page: str, begin: int) -> int:
    """Where a comment, a declaration or a processing instruction ends."""
    if not page.startswith("<!--", begin):
        return _end_of(page, ">", begin) + 1
    for short in (">", "->"):
        if page.startswith(short, begin + 4):
            return begin + 4 + len(short)
    found = _COMMENT_END.search(page, begin + 4)
    return found.end() if found else len(page)


def _content(page: str, name: str, place: int) -> tuple[str, int]:
    """The content of an element without tags in it, and where its end tag begins."""
    if name == "plaintext":
        return page[place:], len(page)
    found = re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE).search(page, place)
    end = found.start() if found else len(page)
    content = page[place:end]
    return (content if name in RAW else unescape(content)), end
