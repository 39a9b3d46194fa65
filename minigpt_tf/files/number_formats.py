"""Numbers and dates of a spreadsheet as a person sees them: format codes (ECMA-376, 18.8.31)."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal, InvalidOperation
from fractions import Fraction

from .date_formats import DATE_PARTS, date_text

GENERAL = "General"

BUILT_IN = {
    0: GENERAL,
    1: "0",
    2: "0.00",
    3: "#,##0",
    4: "#,##0.00",
    5: '"$"#,##0;-"$"#,##0',
    6: '"$"#,##0;-"$"#,##0',
    7: '"$"#,##0.00;-"$"#,##0.00',
    8: '"$"#,##0.00;-"$"#,##0.00',
    9: "0%",
    10: "0.00%",
    11: "0.00E+00",
    12: "# ?/?",
    13: "# ??/??",
    14: "yyyy-mm-dd",  # the order of day and month is that of each computer: here it is plain
    15: "d-mmm-yy",
    16: "d-mmm",
    17: "mmm-yy",
    18: "h:mm AM/PM",
    19: "h:mm:ss AM/PM",
    20: "h:mm",
    21: "h:mm:ss",
    22: "yyyy-mm-dd h:mm",
    37: "#,##0;(#,##0)",
    38: "#,##0;(#,##0)",
    39: "#,##0.00;(#,##0.00)",
    40: "#,##0.00;(#,##0.00)",
    41: '#,##0;-#,##0;"-"',
    42: '"$"#,##0;-"$"#,##0;"$""-"',
    43: '#,##0.00;-#,##0.00;"-"',
    44: '"$"#,##0.00;-"$"#,##0.00;"$""-"',
    45: "mm:ss",
    46: "[h]:mm:ss",
    47: "mm:ss.0",
    48: "##0.0E+0",
    49: "@",
}
BUILT_IN |= dict.fromkeys([*range(27, 32), 36, *range(50, 55), 57, 58], "yyyy-mm-dd")
BUILT_IN |= dict.fromkeys([32, 34, 55], "h:mm") | dict.fromkeys([33, 35, 56], "h:mm:ss")
"""The formats that files name by number only (18.8.30)."""

_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"?|\\(?P<escaped>.?)|_(?P<gap>.?)|\*(?P<fill>.?)'
    r"|\[\$(?P<currency>[^\]-]*)(?:-(?P<locale>[^\]]*))?\]"
    r"|\[(?P<elapsed>h+|m+|s+)\]|\[(?P<condition>[<>=]{1,2}-?[\d.]+)\]|\[(?P<color>[^\]]*)\]"
    r"|(?P<general>General)|(?P<half>AM/PM|A/P)|(?P<exponent>E[+-])"
    r"|(?P<date>y+|m+|d+|h+|s+(?:\.0+)?|e+|b+|g+|a{3,4}(?![a-z/]))|(?P<digit>[0#?])|(?P<other>.)",
    re.IGNORECASE | re.DOTALL,
)

_MOST_DECIMALS = 30
LONGEST_CODE = 500
"""Characters of a format code; spreadsheets take 255."""


@dataclass(frozen=True)
class _Section:
    """One of the parts of a format code that ; separates."""

    tokens: tuple[tuple[str, str], ...]
    """(kind, text), in their order."""
    condition: str
    locale: str

    def has(self, *kinds: str) -> bool:
        """Whether it contains a token of one of the kinds."""
        return any(kind in kinds for kind, _ in self.tokens)


@functools.lru_cache(4096)
def _sections(code: str) -> tuple[_Section, ...]:
    """A format code taken apart."""
    sections: list[_Section] = []
    tokens: list[tuple[str, str]] = []
    condition = locale = ""

    def end() -> None:
        """Ends a section."""
        sections.append(_Section(tuple(tokens), condition, locale))

    for found in _TOKEN.finditer(code):
        kind = found.lastgroup or "other"
        text = found[kind] if found[kind] is not None else ""
        if found["currency"] is not None:
            locale = found["locale"] or locale
            tokens.append(("literal", found["currency"]))
        elif kind in ("quoted", "escaped"):
            tokens.append(("literal", text))
        elif kind == "gap":
            tokens.append(("literal", " "))
        elif kind == "condition":
            condition = text
        elif kind == "other" and text == ";":
            end()
            tokens, condition, locale = [], "", ""
        elif kind == "other" and text == "@":
            tokens.append(("text", text))
        elif kind not in ("fill", "color"):
            tokens.append((kind, text))
    end()
    return tuple(sections[:4])


def format_value(value: float, code: str, *, from_1904: bool = False) -> str:
    """A number as a spreadsheet shows it.

    Args:
        value: The number of the cell; a date or time is a number of days.
        code: The format code, in English, as files have it.
        from_1904: Whether days count from 1904, as in old files of the Macintosh.

    Returns:
        What a person sees, without spaces at its ends; as much of the number as there is room for
        is not cut. "" where the format hides it.

    Example:
        >>> format_value(0.19, "0%"), format_value(1067, "00000"), format_value(1.5104, "[h]:mm")
        ('19%', '01067', '36:14')
    """
    sections = _sections(code if 0 < len(code) <= LONGEST_CODE else GENERAL)
    section, value = _choose(sections, value)
    try:
        return _tidy(_shown(value, section, from_1904))
    except InvalidOperation:  # more digits than decimal arithmetic has
        return _general(value)


def _shown(value: float, section: _Section, from_1904: bool) -> str:
    """A number in a section."""
    if section.has(*DATE_PARTS) and not section.has("general"):
        found = date_text(value, section.tokens, section.locale, from_1904=from_1904)
        return found if found is not None else _general(value)
    return _number_text(value, section)


def format_text(text: str, code: str) -> str:
    """A text as a spreadsheet shows it.

    Args:
        text: The text of the cell.
        code: Its format code.

    Returns:
        The text, and what the format writes around it; "" where the format hides it.

    Example:
        >>> format_text("042", '"No. "@')
        'No. 042'
    """
    if code in (GENERAL, "@"):
        return text
    sections = _sections(code if 0 < len(code) <= LONGEST_CODE else GENERAL)
    section = sections[3] if len(sections) == 4 else sections[-1]
    if len(sections) < 4 and not section.has("text"):
        return text
    return "".join(text if kind == "text" else written for kind, written in section.tokens)


def _tidy(text: str) -> str:
    """Without the gaps that line numbers up below each other."""
    return " ".join(text.replace("\xa0", " ").split())


def _choose(sections: Sequence[_Section], value: float) -> tuple[_Section, float]:
    """The section for a number, and the number without the sign that the section stands for."""
    numbers = [s for s in sections if not s.has("text")][:3] or [sections[0]]
    if any(section.condition for section in numbers):
        for section in numbers:
            if section.condition and _holds(section.condition, value):
                covers = section.condition[0] == "<" and section is not numbers[0]
                return section, abs(value) if covers else value
        rest = [section for section in numbers if not section.condition]
        return (rest or numbers)[-1], value
    if value < 0 and len(numbers) > 1:
        return numbers[1], -value
    if value == 0 and len(numbers) > 2:
        return numbers[2], value
    return numbers[0], value


def _holds(condition: str, value: float) -> bool:
    """Whether a condition such as >=100 holds."""
    operator = condition.rstrip("-0123456789.")
    try:
        bound = float(condition[len(operator) :])
    except ValueError:
        return False
    answers = {
        "<": value < bound,
        ">": value > bound,
        "=": value == bound,
        "<=": value <= bound,
        ">=": value >= bound,
        "<>": value != bound,
    }
    return answers.get(operator, False)


def _general(value: float) -> str:
    """A number without a format: its digits, as the line for input shows them."""
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    text = f"{value:.15g}"
    number, exponent, power = text.partition("e")
    if not exponent:
        return text
    if -10 < int(power) < 0:
        return f"{Decimal(text):f}"
    return f"{number}E{power[0]}{power[1:]}"


def _number_text(value: float, section: _Section) -> str:
    """A number in a section that is not a date."""
    if section.has("general", "text"):
        return "".join(
            _general(value) if kind in ("general", "text") else text
            for kind, text in section.tokens
        )
    if not section.has("digit"):
        return ("-" if value < 0 else "") * bool(section.tokens) + _literals(section.tokens)
    if section.has("exponent"):
        return _scientific(value, section.tokens)
    places = [place for place, token in enumerate(section.tokens) if token == ("other", "/")]
    if places and any(kind == "digit" for kind, _ in section.tokens[: places[0]]):
        return _as_fraction(value, section.tokens, places[0])
    return _decimal(value, section.tokens)


def _literals(tokens: Sequence[tuple[str, str]]) -> str:
    """What tokens without a number in them say."""
    return "".join(text for _, text in tokens)


def _exact(value: float) -> Decimal:
    """A number with the 15 digits that a spreadsheet knows."""
    return Decimal(f"{value:.15g}")


def _decimal(value: float, tokens: Sequence[tuple[str, str]]) -> str:
    """A number with placeholders for its digits."""
    number = abs(_exact(value)) * 100 ** min(8, sum(t == ("other", "%") for t in tokens))
    digits = [place for place, (kind, _) in enumerate(tokens) if kind == "digit"]
    point = next((p for p, t in enumerate(tokens) if t == ("other", ".")), None)
    split = point if point is not None else digits[-1] + 1
    commas = [place for place, token in enumerate(tokens) if token == ("other", ",")]
    whole = [place for place in digits if place < split]
    behind = whole[-1] if whole else -1
    scale = [c for c in commas if behind < c < split or c > digits[-1]] if whole else []
    scale = [c for c in scale if c <= max(split, digits[-1] + len(scale))]
    grouped = any(whole[0] < comma < behind for comma in commas) if whole else False
    number /= 1000 ** len(scale)
    decimals = min(_MOST_DECIMALS, len(digits) - len(whole))
    number = number.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    integer, _, fraction = f"{number:f}".partition(".")
    integer = integer.lstrip("0")
    kept = [t for p, t in enumerate(tokens[:split]) if p not in commas]
    text = _fill_left(integer, kept, grouped=grouped)
    rest = [t for p, t in enumerate(tokens[split:], split) if p not in commas or p not in scale]
    text += _fill_right(fraction, rest)
    return f"-{text}" if value < 0 and number else text


def _fill_left(digits: str, tokens: Sequence[tuple[str, str]], *, grouped: bool) -> str:
    """The digits before the point in their placeholders, from the right."""
    written: list[str] = []
    left = [place for place, (kind, _) in enumerate(tokens) if kind == "digit"]
    count = 0

    def put(digit: str) -> None:
        """Writes one more digit."""
        nonlocal count
        if grouped and count and count % 3 == 0 and digit != " ":
            written.append(",")
        written.append(digit)
        count += 1

    for place in range(len(tokens) - 1, -1, -1):
        kind, text = tokens[place]
        if kind != "digit":
            written.append(text[::-1])
            continue
        take = len(digits) if place == left[0] else 1
        for digit in reversed(digits[-take:] if take else ""):
            put(digit)
        if not digits and text != "#":
            put("0" if text == "0" else " ")
        digits = digits[:-take] if take else ""
    return "".join(written)[::-1]


def _fill_right(fraction: str, tokens: Sequence[tuple[str, str]]) -> str:
    """The point and the digits behind it in their placeholders."""
    written = []
    place = 0
    for kind, text in tokens:
        if kind != "digit":
            written.append(text)
            continue
        digit = fraction[place : place + 1] or "0"
        is_last = not fraction[place:].strip("0")
        place += 1
        written.append(digit if text == "0" or not is_last else " " if text == "?" else "")
    return "".join(written)


def _scientific(value: float, tokens: Sequence[tuple[str, str]]) -> str:
    """A number with an exponent; several places before the point make steps of as many powers."""
    mark = next(place for place, (kind, _) in enumerate(tokens) if kind == "exponent")
    mantissa, power = tokens[:mark], tokens[mark + 1 :]
    point = next((p for p, t in enumerate(mantissa) if t == ("other", ".")), len(mantissa))
    step = max(1, sum(kind == "digit" for kind, _ in mantissa[:point]))
    decimals = sum(kind == "digit" for kind, _ in mantissa[point:])
    number = abs(_exact(value))
    exponent = number.adjusted() // step * step if number else 0
    rounded = number.scaleb(-exponent).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    if rounded >= 10**step:
        exponent += step
    sign = "-" if exponent < 0 else "+" if tokens[mark][1][1] == "+" else ""
    digits = _decimal(float(number.scaleb(-exponent)), mantissa)
    return f"{'-' * (value < 0)}{digits}E{sign}{_decimal(abs(exponent), power)}"


def _as_fraction(value: float, tokens: Sequence[tuple[str, str]], slash: int) -> str:
    """A number as a mixed fraction, such as 5 1/4."""
    number = abs(_exact(value))
    below = "".join(text for kind, text in tokens[slash + 1 :] if kind in ("digit", "other"))
    fixed = re.match(r"\s*(\d+)", below)
    places = sum(kind == "digit" for kind, _ in tokens[slash + 1 :])
    mixed = " " in "".join(text for _, text in tokens[:slash]).strip()
    whole = number.to_integral_value(ROUND_DOWN) if mixed else Decimal(0)
    rest = Fraction(number - whole)
    if fixed and int(fixed[1]):
        denominator = int(fixed[1])
        numerator = int(rest * denominator + Fraction(1, 2))
    else:
        found = rest.limit_denominator(10 ** min(places, 7) - 1)
        numerator, denominator = found.numerator, found.denominator
    if mixed and numerator == denominator:
        whole, numerator = whole + 1, 0
    sign = "-" if value < 0 and (whole or numerator) else ""
    if mixed and not numerator:
        return f"{sign}{whole}"
    if mixed and whole:
        return f"{sign}{whole} {numerator}/{denominator}"
    return f"{sign}{numerator}/{denominator}"
