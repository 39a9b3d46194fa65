"""A long text as several messages."""

MOST_UNITS = 4096
"""Length of a message in Telegram, in UTF-16 code units, and in WhatsApp."""


def units(text: str) -> int:
    """Length in UTF-16 code units, as Telegram counts: an emoji has two or more.

    Args:
        text: Any text.

    Returns:
        The number of units.

    Example:
        >>> units("a😀")
        3
    """
    return len(text) + sum(character > "\uffff" for character in text)


def first_message(text: str, most: int = MOST_UNITS) -> tuple[str, str]:
    """The longest beginning of a text that fits into a message, and what follows.

    It ends at a line, else at a word, else anywhere between two characters.

    Args:
        text: Any text.
        most: UTF-16 code units.

    Returns:
        The beginning, and the remainder, both without white space around the place between them.

    Example:
        >>> first_message("one two three", most=9)
        ('one two', 'three')
    """
    text = text.lstrip()
    if units(text) <= most:
        return text, ""
    end, room = 0, most
    while (room := room - units(text[end])) >= 0:
        end += 1
    head = text[: end + 1]  # with the first character that does not fit: it may be a space
    at = head.rfind("\n")
    if at < end // 2:  # a message of half the size, only to end at a line, is no gain
        at = max(at, head.rfind(" "))
    if at <= 0:
        at = max(1, end)
    return text[:at].rstrip(), text[at:].lstrip()


def split_text(text: str, most: int = MOST_UNITS) -> list[str]:
    """A text as messages.

    Args:
        text: Any text.
        most: UTF-16 code units of a message.

    Returns:
        The messages; none if the text is only white space.

    Example:
        >>> split_text("one two three", most=7)
        ['one two', 'three']
    """
    messages = []
    rest = text.rstrip()
    while rest:
        message, rest = first_message(rest, most)
        messages.append(message)
    return messages
