"""Text for a terminal: how wide it is, broken into lines, without what steers the terminal."""

import unicodedata

JOINERS = "\u200c\u200d"
"""Characters without a width that belong to words and emoji of many languages."""


def printable(text: str) -> str:
    r"""A text with everything but line ends that has no picture written out, such as \x1b."""
    return "".join(map(_shown, text.replace("\r\n", "\n")))


def _shown(character: str) -> str:
    if character == "\n" or character.isprintable() or character in JOINERS:
        return character
    if character == "\t" or unicodedata.category(character) == "Zs":
        return " "
    return character.encode("unicode_escape").decode()


def display_width(text: str) -> int:
    """Columns of a terminal that a printable text takes: two for a Chinese character."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):  # they stand upon the one before
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fill(text: str, width: int) -> list[str]:
    """A printable text in lines of at most `width` columns, at least 2; without blank lines.

    Lines end at white space where they can, and where the text's own lines do.
    """
    lines = []
    for own_line in text.split("\n"):
        line, taken = "", 0
        for word in own_line.split():
            pieces = _pieces(word, width)
            for number, piece in enumerate(pieces):
                size = display_width(piece)
                space = int(bool(line) and number == 0)
                if line and (number or taken + space + size > width):
                    lines.append(line)
                    line, taken, space = "", 0, 0
                line, taken = line + " " * space + piece, taken + space + size
        if line:
            lines.append(line)
    return lines


def _pieces(word: str, width: int) -> list[str]:
    """A word in pieces of at most `width` columns; nearly always one."""
    if display_width(word) <= width:
        return [word]
    pieces, piece, taken = [], "", 0
    for character in word:
        size = _columns(character)
        if taken + size > width:
            pieces.append(piece)
            piece, taken = "", 0
        piece, taken = piece + character, taken + size
    return [*pieces, piece]


def pad(text: str, width: int) -> str:
    """A printable text with spaces behind it, up to `width` columns."""
    return text + " " * (width - display_width(text))
