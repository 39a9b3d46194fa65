"""Strings and UTF-8. NumPy is not imported here: a command line is read before it is."""


def well_formed(text: str) -> str:
    """A text that UTF-8 can write.

    Args:
        text: Any text, perhaps with half a pair of surrogates, as a JSON string may have.

    Returns:
        The text: pairs are characters, and what is half a pair is U+FFFD.

    Example:
        >>> well_formed("half \\ud83d, whole \\ud83d\\ude00") == "half \\ufffd, whole \\U0001f600"
        True
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
