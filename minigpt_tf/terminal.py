"""What is written to a terminal cannot steer it: control characters are written out.

A model, a template, a file's name or a message that quotes one may contain anything. Everything
that is printed passes through here if a terminal shows it; a file or a pipe gets it as it is.
"""

from typing import Any, TextIO

JOINERS = "\u200c\u200d"
"""Characters without a width that belong to words and emoji of many languages."""

KEPT = f"\n\t\u200e\u200f{JOINERS}"
"""Characters that are not printable, and harmless: marks of direction act on themselves alone."""

STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of characters that move the cursor, reverse what follows, or are not text."""


def printable(text: str) -> str:
    r"""A text whose control characters are written out, so that it cannot steer a terminal.

    Args:
        text: Any text, such as a model's answer or a label from a file.

    Returns:
        The text with, for example, an escape character as the four characters `\x1b`. Line ends
        and joiners stay; tabs and unusual spaces become spaces.

    Example:
        >>> print(printable("\x1b[31mred\tand so on"))
        \x1b[31mred and so on
    """
    return "".join(map(_printable, text.replace("\r\n", "\n")))


def _printable(character: str) -> str:
    if character == "\n" or character.isprintable() or character in JOINERS:
        return character
    if character == "\t" or _category(character) == "Zs":
        return " "
    return character.encode("unicode_escape").decode()


def without_controls(text: str) -> str:
    r"""A text as `printable` gives it, with its tabs and spaces as they are.

    Args:
        text: Any text.

    Returns:
        The text, in which characters that steer a terminal are written out.

    Example:
        >>> print(without_controls("a\tb\x07"), without_controls("\u202etxt.exe"))
        a	b\x07 \u202etxt.exe
    """
    if text.isprintable():  # nearly always, and quick
        return text
    return "".join(map(_without_control, text.replace("\r\n", "\n")))


def _without_control(character: str) -> str:
    if character in KEPT or _category(character) not in STEERING:
        return character
    return character.encode("unicode_escape").decode()


def _category(character: str) -> str:
    import unicodedata  # rarely needed, and a library to load

    return unicodedata.category(character)


class TerminalStream:
    """A text stream to a terminal, which writes control characters out.

    Args:
        terminal: The stream itself. What draws on the terminal writes to this one.
    """

    def __init__(self, terminal: TextIO) -> None:
        self.terminal = terminal

    def write(self, text: str) -> int:
        """Writes a text without control characters.

        Args:
            text: Any text.

        Returns:
            Its length.
        """
        self.terminal.write(without_controls(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes texts, each as `write` does."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.terminal, name)


def guarded(stream: TextIO) -> TextIO:
    """A stream that cannot steer a terminal.

    Args:
        stream: Any text stream.

    Returns:
        The same, unless a terminal shows it.
    """
    if stream.isatty() and not isinstance(stream, TerminalStream):
        return TerminalStream(stream)  # type: ignore[return-value]
    return stream


def unguarded(stream: Any) -> Any:
    """The stream below a guarded one, for what draws.

    Args:
        stream: Any text stream.

    Returns:
        The terminal itself, or the same stream.
    """
    return stream.terminal if isinstance(stream, TerminalStream) else stream
