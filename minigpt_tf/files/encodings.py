"""Which encoding bytes are in, judged by what they would say in it."""

import codecs
import re
import unicodedata
from collections.abc import Iterator

SAMPLE = 1 << 16
"""So many bytes show what a file is."""

MOST_FOREIGN = 2_000
"""So many characters outside ASCII are judged."""

CANDIDATES = (
    "cp1252",
    "cp1250",
    "iso8859-2",
    "cp850",
    "cp437",
    "cp858",
    "cp852",
    "cp1251",
    "koi8-r",
    "cp866",
    "cp1253",
    "cp1254",
    "cp1255",
    "cp1256",
    "cp857",
    "iso8859-15",
    "mac-roman",
    "shift_jis",
    "gb18030",
    "big5",
    "euc_jp",
    "euc_kr",
)
"""What texts of people are in that are not UTF-8; the first wins where several read alike."""

MULTIBYTE = {"shift_jis", "cp932", "gb18030", "big5", "euc_jp", "euc_kr", "cp949", "johab"}

_USUAL = set("äöüßéèêëàâçôîûùïñóíáúåøæãõœřšžčěůýąćęłńśźżőűşğı")
_KNOWN = set("ìòňťďľđţăčšžțșÿ")
"""Letters of the languages that are written most, and of the others; both in lower case."""

_GROUPS = ("ąęłżźśćń", "řěůťďĺľňšžčđ", "ğış", "åøæ", "ãõ", "őű", "èàùìò")
"""Letters of languages that one text hardly mixes."""

_COMMON_HAN = {
    "gb18030": (0xB0, 0xD7),
    "shift_jis": (0x88, 0x97),
    "cp932": (0x88, 0x97),
    "euc_jp": (0xB0, 0xCF),
    "big5": (0xA4, 0xC6),
}
"""The first bytes of those Chinese characters that an encoding lists first, as the common ones."""

_PUNCTUATION = set("“”„‘’‚–—…«»‹›¿¡§€£¥°µ±²³¼½¾×÷©®™•·´\xa0№")
_WITHIN_WORDS = set("’'·\xad")
_BEFORE_DIGITS = set("€£¥§±№¹²³°")


def guess_encoding(content: bytes) -> str | None:
    """The most likely encoding of text that is not UTF-8.

    Args:
        content: The text, or its beginning.

    Returns:
        The name of an encoding; None for what looks like binary data.

    Example:
        >>> content = "Die Straße nach München".encode("cp850")
        >>> content.decode(guess_encoding(content))
        'Die Straße nach München'
    """
    sample = content[:SAMPLE]
    if wide := _wide_encoding(sample):
        return wide
    if not looks_like_text(sample):
        return None
    if b"\x1b$" in sample or b"\x1b(J" in sample:
        return "iso2022_jp"
    import chardet

    sample = sample.replace(b"\0", b"")
    found = chardet.detect(sample)["encoding"]
    first = None if found is None else _codec_name(found)
    candidates = list(CANDIDATES)
    if first and first not in candidates and sum(byte > 127 for byte in sample) > 20:
        candidates.append(first)
    scores = {name: _plausibility(sample, name, first == name) for name in candidates}
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] > -1.5 else None


def looks_like_text(sample: bytes) -> bool:
    """Whether bytes in an encoding of 8-bit units hold few control characters; zeros may pad them.

    Args:
        sample: The bytes.

    Returns:
        Whether it may be text.
    """
    used = sample.replace(b"\0", b"")
    runs = len(re.findall(b"\0+", sample))
    controls = sum(used.count(byte) for byte in range(32) if byte not in b"\t\n\r\f\x1b")
    return controls <= 0.01 * len(used) and runs <= max(16, 0.005 * len(sample)) and bool(used)


def _codec_name(name: str) -> str | None:
    """Python's name for an encoding; None where it has no codec, or one of more than 8 bits."""
    try:
        return codecs.lookup(name).name
    except LookupError:
        return None


def _wide_encoding(sample: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark: what reads as letters of few scripts, and spaces."""
    if len(sample) < 4:
        return None
    best, most = None, 0.7
    for name, width in (("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2)):
        whole = sample[: len(sample) // width * width]
        try:
            text = whole.decode(name)
        except UnicodeDecodeError as error:
            if error.start < len(whole) - width:
                continue
            text = whole[: error.start].decode(name)
        text = text[:MOST_FOREIGN]
        # A space or line end is the sign: as UTF-16, bytes of another text hardly ever make one.
        spaces = sum(character in " \n\t,.:。、，" for character in text)
        known = sum(_is_common(character) for character in text)
        fraction = known / max(1, len(text))
        if spaces and b"\0" in sample and fraction > most:
            best, most = name, fraction
    return best


def _is_common(character: str) -> bool:
    """Whether a character is a letter, digit or mark that texts consist of."""
    code = ord(character)
    if code < 128:
        return code >= 32 or character in "\t\n\r\f"
    return code < 0xE000 and unicodedata.category(character)[0] in "LNPZ"


def _plausibility(sample: bytes, encoding: str, named: bool) -> float:
    """How well bytes read in an encoding, about from -3 to 1.5."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(sample)
    except (UnicodeError, LookupError, AssertionError):
        return -9.0
    foreign, total = 0, 0.0
    groups = [0] * len(_GROUPS)
    for before, character, after in _foreign_characters(text):
        foreign += 1
        if "\u3400" <= character <= "\u9fff" and not _is_common_han(character, encoding):
            total += 0.1
        else:
            total += _fits(before, character, after)
        for number, letters in enumerate(_GROUPS):
            groups[number] += character.lower() in letters
        if foreign == MOST_FOREIGN:
            break
    if not foreign:
        return -9.0
    mixed = sorted(groups)[-2]
    # The library has seen the words of many languages; with few letters it has seen nothing.
    known = min(foreign, 40) / 40
    return (total - 1.5 * mixed) / foreign + (0.35 * known if named else 0)


def _foreign_characters(text: str) -> Iterator[tuple[str, str, str]]:
    """Every character outside ASCII between its neighbors."""
    padded = f" {text} "
    for place, character in enumerate(padded):
        if character > "\x7f":
            yield padded[place - 1], character, padded[place + 1]


def _fits(before: str, character: str, after: str) -> float:
    """How usual a character is between two others."""
    category = unicodedata.category(character)
    letters = before.isalpha() + after.isalpha()
    if category[0] == "C" or character == "¤":
        return -0.5 if character == "\xad" else -3
    if category[0] == "L":
        return _letter_fits(before, character, after)
    if character in _WITHIN_WORDS and letters == 2:
        return 0.8
    if character in _PUNCTUATION:
        if letters == 2:
            return -4
        near_digit = before.isdigit() or after.isdigit()
        return 0.8 if near_digit or character not in _BEFORE_DIGITS else 0.6
    if "\u3000" <= character < "\u3040" or "\uff00" <= character < "\uff61":
        return 0.9  # punctuation of East Asia
    if category[0] == "M":
        return 0.2 if letters else -1
    return -2 * letters or -1


def _is_common_han(character: str, encoding: str) -> bool:
    """Whether a Chinese character is one that texts in the encoding consist of."""
    first, last = _COMMON_HAN.get(encoding, (1, 0))
    return first <= character.encode(encoding, "replace")[0] <= last


def _letter_fits(before: str, character: str, after: str) -> float:
    """How usual a letter is between two others: of their script, in a word of one case."""
    script = _script(character)
    scripts = [_script(other) for other in (before, after) if other.isalpha()]
    if any(other != script for other in scripts):
        return -1.5
    if script == "WIDE":
        hangul = character >= "\uac00"
        return 1.1 if scripts and hangul else 1.0 if scripts else 0.5
    if (character.isupper() and before.islower()) or (character.islower() and after.isupper()):
        return -1.0 if (before, character) != ("", "ß") else 0.5
    if script != "LATIN":
        return 0.8 if scripts else 0.1
    lower = character.lower()
    usual = 0.9 if lower in _USUAL else 0.6 if lower in _KNOWN else 0.0
    return usual if scripts else usual - 0.3 if lower in "àéèóòíìúæyeoa" else usual - 0.7


def _script(character: str) -> str:
    """The script of a letter, roughly: LATIN, CYRILLIC, ..., WIDE for those of East Asia."""
    if character < "\u0250":
        return "LATIN"
    if "\u3040" <= character <= "\ud7ff" or "\uf900" <= character <= "\ufaff":
        return "WIDE"
    return unicodedata.name(character, "OTHER").split(" ")[0]
