"""Dates and times of a spreadsheet: a number of days -> text, by the tokens of a format code."""

import datetime
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

DATE_PARTS = ("date", "elapsed", "half")
"""The kinds of tokens that make a section a date or a time."""

FIRST_DAY = -693_593
MOST_DAYS = 2_957_003
"""The first day of the year 1, and one of the year 9995, from both beginnings."""

_NAMES = {
    0x09: (
        "January February March April May June July August September October November December",
        "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    ),
    0x07: (
        "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
        "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
    ),
    0x0C: (
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "lundi mardi mercredi jeudi vendredi samedi dimanche",
    ),
    0x0A: (
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "lunes martes miércoles jueves viernes sábado domingo",
    ),
    0x10: (
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre "
        "dicembre",
        "lunedì martedì mercoledì giovedì venerdì sabato domenica",
    ),
    0x16: (
        "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
        "segunda-feira terça-feira quarta-feira quinta-feira sexta-feira sábado domingo",
    ),
    0x13: (
        "januari februari maart april mei juni juli augustus september oktober november december",
        "maandag dinsdag woensdag donderdag vrijdag zaterdag zondag",
    ),
    0x1D: (
        "januari februari mars april maj juni juli augusti september oktober november december",
        "måndag tisdag onsdag torsdag fredag lördag söndag",
    ),
    0x15: (
        "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października "
        "listopada grudnia",
        "poniedziałek wtorek środa czwartek piątek sobota niedziela",
    ),
    0x19: (
        "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
        "понедельник вторник среда четверг пятница суббота воскресенье",
    ),
}
"""Months and days by the low ten bits of a locale's number; others are named in English."""

_JAPANESE = 0x11
_ERAS = (
    ((2019, 5, 1), "令和", "R"),
    ((1989, 1, 8), "平成", "H"),
    ((1926, 12, 25), "昭和", "S"),
    ((1912, 7, 30), "大正", "T"),
    ((1868, 1, 25), "明治", "M"),
)
"""The first day of each era of Japan, and its names."""
_SHORT_DAYS = {0x07: 2, 0x13: 2, 0x16: 3}
_ENGLISH = 0x09


def date_text(
    value: float, tokens: Sequence[tuple[str, str]], locale: str, *, from_1904: bool
) -> str | None:
    """A date or time in a section of a format code.

    Args:
        value: Days since the end of 1899 or 1903, and fractions of a day.
        tokens: The tokens of the section.
        locale: The number of a locale in hexadecimal digits, or "".
        from_1904: Whether days count from 1904.

    Returns:
        The text; None if it is not a day, which a spreadsheet shows as ####.
    """
    whole = sum(len(text.partition(".")[2]) for kind, text in tokens if kind == "date")
    seconds = _rounded_seconds(value, min(3, whole))
    is_date = any(kind == "date" and text[0] in "yYdD" for kind, text in tokens)
    if not (FIRST_DAY if is_date else 0) <= value < MOST_DAYS:
        return None
    moment = _Moment(seconds, _language(locale), from_1904)
    half_days = any(kind == "half" for kind, _ in tokens)
    written = []
    for place, (kind, text) in enumerate(tokens):
        if kind == "elapsed":
            written.append(moment.elapsed(text))
        elif kind == "half":
            written.append(moment.half(text))
        elif kind == "date":
            is_minute = text[0] in "mM" and len(text) < 3 and _follows_hour(tokens, place)
            written.append(moment.field(text, half_days=half_days, is_minute=is_minute))
        else:
            written.append("" if kind == "text" else text)
    return "".join(written)


def _rounded_seconds(value: float, decimals: int) -> Decimal:
    """Days in seconds, rounded to what is shown of them."""
    unit = Decimal(1).scaleb(-decimals)
    return (Decimal(f"{value:.15g}") * 86400).quantize(unit, ROUND_HALF_UP)


def _language(locale: str) -> int:
    """The low bits of a locale's number, which are its language."""
    try:
        return int(locale.split(",")[0] or "0", 16) & 0x3FF
    except ValueError:
        return _ENGLISH


def _follows_hour(tokens: Sequence[tuple[str, str]], place: int) -> bool:
    """Whether the m at a place means minutes: next to hours before it, or seconds behind it."""
    dates = [p for p, (kind, _) in enumerate(tokens) if kind in ("date", "elapsed")]
    at = dates.index(place)
    before = tokens[dates[at - 1]][1][0].lower() if at else ""
    after = tokens[dates[at + 1]][1][0].lower() if at + 1 < len(dates) else ""
    return before == "h" or after == "s"


def _of_era(letter: str, size: int, date: tuple[int, int, int]) -> str:
    """The name of a day's era in Japan, or the year within it."""
    begin, name, short = next((era for era in _ERAS if era[0] <= date), _ERAS[-1])
    if letter == "e":
        return str(date[0] - begin[0] + 1).zfill(min(2, size))
    return name if size > 2 else name[:1] if size == 2 else short


class _Moment:
    """A day and a time of day, and how their parts are written."""

    def __init__(self, seconds: Decimal, language: int, from_1904: bool) -> None:
        self.seconds, self.language = seconds, language
        days, self.of_day = divmod(seconds, 86400)
        self.days, self.from_1904 = int(days), from_1904
        months, weekdays = _NAMES.get(language, _NAMES[_ENGLISH])
        self.months, self.weekdays = months.split(), weekdays.split()

    @property
    def date(self) -> tuple[int, int, int, int]:
        """Year, month, day and day of the week, of which Monday is 0."""
        if not self.from_1904 and self.days in (0, 60):  # 0 January, and 29 February, of 1900
            return (1900, 1, 0, 5) if self.days == 0 else (1900, 2, 29, 2)
        begin = datetime.date(1904, 1, 1) if self.from_1904 else datetime.date(1899, 12, 30)
        early = not self.from_1904 and 0 < self.days < 60  # before, days are those of LibreOffice
        day = begin + datetime.timedelta(days=self.days + early)
        return day.year, day.month, day.day, day.weekday()

    def elapsed(self, text: str) -> str:
        """All hours, minutes or seconds since the beginning."""
        unit = {"h": 3600, "m": 60, "s": 1}[text[0].lower()]
        return str(int(self.seconds // unit)).zfill(len(text))

    def half(self, text: str) -> str:
        """Before or after noon."""
        names = ("A", "P") if len(text) == 3 else ("AM", "PM")
        return names[self.of_day >= 43200]

    def field(self, text: str, *, half_days: bool, is_minute: bool) -> str:
        """A part of the date, or of the time of day."""
        letter, size = text[0].lower(), len(text)
        if letter == "s":
            return self._second(text)
        if letter == "h":
            hour = int(self.of_day // 3600)
            hour = (hour % 12 or 12) if half_days else hour
            return str(hour).zfill(min(2, size))
        if is_minute:
            return str(int(self.of_day // 60 % 60)).zfill(min(2, size))
        year, month, day, weekday = self.date
        if letter in "ge" and self.language == _JAPANESE:
            return _of_era(letter, size, (year, month, day))
        if letter in "yeb":
            year += 543 if letter == "b" else 0
            return str(year) if size > 2 or letter == "e" else f"{year % 100:02}"
        if letter == "m":
            return self._month(month, size)
        if letter == "d" and size < 3:
            return str(day).zfill(size)
        if letter in "da":
            name = self.weekdays[weekday]
            is_long = size > 3
            return name if is_long else name[: _SHORT_DAYS.get(self.language, 3)]
        return ""  # the names of other eras

    def _second(self, text: str) -> str:
        whole, point, decimals = text.partition(".")
        second = self.of_day % 60
        shown = str(int(second)).zfill(min(2, len(whole)))
        if not point:
            return shown
        return f"{shown}.{f'{second % 1:.9f}'[2 : 2 + len(decimals)]}"

    def _month(self, month: int, size: int) -> str:
        if size < 3:
            return str(month).zfill(size)
        name = self.months[month - 1]
        return name if size == 4 or size > 5 else name[:1] if size == 5 else name[:3]
