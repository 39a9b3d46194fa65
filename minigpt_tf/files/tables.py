"""CSV and TSV: text -> rows of cells, for texts and for records alike.

How a table is written is decided by what its rows look like: what separates cells, what encloses
them, and what stands for a quote within one.
"""

import csv
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import DataError
from .notes import Notes, counted

DELIMITERS = ",\t;|"
"""What may separate the cells of a table; the first wins where several fit equally well."""

SAMPLE = 1 << 18
"""So many characters show what separates cells; whether quotes are sound is asked of all."""

LEAST_EQUAL = 0.6
LEAST_BELOW_TITLES = 0.8
"""Where a smaller fraction of the lines has as many cells, they are not rows: prose has commas."""

HEAD = 10
"""Rows among which the one with the names is looked for: titles may stand above it."""

TAB_ENDINGS = {".tsv", ".tab"}
"""Files whose cells are separated by tabs unless they look otherwise."""

NumberedRow = tuple[int, list[str]]
"""The line in which a row begins, counted from 1, and its cells."""

_NAMED_DELIMITER = re.compile(r'"?sep=(.)"?[,;\t|]*(?:\n|\Z)', re.IGNORECASE)
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_ESCAPED_QUOTE = re.compile(r"\\([\"\\])")
_FORMULA_OF_TEXT = re.compile(r'\A\s*="((?:[^"]|"")*)"\s*\Z')
_RULE = re.compile(r"\s*(?:(?:-{3,}|:-+:?|-+:)\s*)?")
_NUMBER = re.compile(r"[-+]?[\d.,:/ %€$-]*")


@dataclass(frozen=True)
class Dialect:
    """How a table is written."""

    delimiter: str
    """What separates cells; "" where each line is one cell."""
    quote: str = '"'
    """What encloses cells that need it."""
    escape: str = ""
    """What stands before a quote within a cell; "" where the quote is doubled."""


def read_table(
    text: str,
    preferred: str = ",",
    is_name: Callable[[str], bool] = lambda cell: False,
    quoting: Literal["auto", "always", "never"] = "auto",
    notes: Notes | None = None,
) -> Iterable[NumberedRow]:
    """The rows of a table.

    Args:
        text: The table, with line ends as \\n. Its first line may name the delimiter, as sep=;.
        preferred: The delimiter that wins where several fit equally well.
        is_name: Whether a cell is a name that the header should have.
        quoting: Whether " encloses cells. auto: where the whole file agrees with that; where it
            does not, tabs separate cells as they stand, and elsewhere a quote is taken for what it
            can be.
        notes: Gets what looks wrong: quotes that are not closed, cells that hold rows.

    Returns:
        Each row's line and cells; they are made anew whenever they are asked for, since a list of
        a million would be too large.

    Raises:
        DataError: The text is not a table.

    Example:
        >>> list(read_table('name;text\\nAda;"first; of all"\\n'))
        [(1, ['name', 'text']), (2, ['Ada', 'first; of all'])]
    """
    notes = Notes() if notes is None else notes
    named = _NAMED_DELIMITER.match(text)
    line = 1
    if named:
        text, line = text[named.end() :], 2
        delimiter = named[1]
    else:
        delimiter = find_delimiter(text, preferred, is_name)
    rows = split_cells(text, delimiter, quoting, notes, line)
    return _AsSeen(rows, delimiter == "|") if delimiter == "|" or '="' in text else rows


def find_delimiter(
    text: str, preferred: str = ",", is_name: Callable[[str], bool] = lambda cell: False
) -> str:
    """What separates the cells of a table: the header's names decide, else rows of equal width.

    Args:
        text: The table, with line ends as \\n.
        preferred: Wins where several fit equally well.
        is_name: Whether a cell of the header is a name that is looked for.

    Returns:
        One of DELIMITERS; "" where the lines are not rows.

    Example:
        >>> from minigpt_tf.files.tables import find_delimiter
        >>> find_delimiter("name;text\\nAda;first, programmer\\n")
        ';'
    """
    sample = text[:SAMPLE].lstrip("\n")
    if len(text) > SAMPLE:
        sample = sample[: sample.rfind("\n") + 1] or sample
    best, best_score = "", (-1, 0.0, False)
    for delimiter in DELIMITERS:
        rows = [cells for _, cells in _tolerant(sample, Dialect(delimiter)) if any(cells)]
        widths = Counter(len(cells) for cells in rows if len(cells) > 1)
        if not widths:
            continue
        count = max(widths.values())
        names = max(sum(map(is_name, cells)) for cells in rows[:HEAD])
        titles = next(place for place, cells in enumerate(rows) if len(cells) > 1)
        equal = count / (len(rows) - min(titles, HEAD))
        if not names and equal < (LEAST_BELOW_TITLES if titles else LEAST_EQUAL):
            continue  # a column of texts below its name, or prose
        score = (names, equal * _clean(rows, delimiter), delimiter == preferred)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _clean(rows: list[list[str]], delimiter: str) -> float:
    """The fraction of cells without another delimiter, but for the comma, which texts have."""
    others = re.compile("[" + "".join(set(";\t|") - {delimiter}) + "]")
    cells = [cell for row in rows for cell in row]
    return sum(others.search(cell) is None for cell in cells) / len(cells)


def split_cells(
    text: str,
    delimiter: str,
    quoting: Literal["auto", "always", "never"] = "auto",
    notes: Notes | None = None,
    line: int = 1,
) -> Iterable[NumberedRow]:
    """The rows of a table whose delimiter is known.

    Args:
        text: The table, with line ends as \\n.
        delimiter: What separates cells; "" for nothing.
        quoting: As in `read_table`.
        notes: As in `read_table`.
        line: The number of the first line.

    Returns:
        As in `read_table`.

    Raises:
        DataError: The text is not a table.
    """
    notes = Notes() if notes is None else notes
    form: dict[str, Any] = {
        "delimiter": delimiter or "\0",
        "skipinitialspace": delimiter not in ("\t", ""),
    }
    as_letters = _Rows(text, {**form, "quoting": csv.QUOTE_NONE}, line)
    strict = _Rows(text, {**form, "strict": True}, line)
    if quoting != "auto":
        return as_letters.sound() if quoting == "never" else _Rows(text, form, line).sound()
    if _has_single_quotes(text, delimiter):
        return list(_tolerant(text, Dialect(delimiter, "'"), notes, line))
    try:
        swallowed = _swallowed(strict, delimiter)
    except csv.Error:
        if delimiter == "\t":
            return as_letters.sound()
        return _with_stray_quotes(text, delimiter, notes, line)
    for place in swallowed:
        notes.remark(
            "a cell between quotes holds lines that look like rows: if they are, a quote is "
            "missing or too many (finetune reads quotes as letters with --quoting never)",
            f"line {place}",
        )
    return strict


@dataclass(frozen=True)
class _AsSeen:
    """Rows as a person sees them: ="01067" is Excel's way to keep a zero, and a line of dashes is
    the rule of a table in Markdown."""

    rows: Iterable[NumberedRow]
    has_rules: bool

    def __iter__(self) -> Iterator[NumberedRow]:
        for line, cells in self.rows:
            seen = [_FORMULA_OF_TEXT.sub(_its_text, cell) for cell in cells]
            if not self.has_rules:
                yield line, seen
            elif not any(cells) or not all(_RULE.fullmatch(cell) for cell in cells):
                yield line, [cell.strip() for cell in seen]


def _its_text(formula: re.Match[str]) -> str:
    return formula[1].replace('""', '"')


@dataclass(frozen=True)
class _Rows:
    """The rows that the csv module finds."""

    text: str
    form: dict[str, Any]
    line: int

    def __iter__(self) -> Iterator[NumberedRow]:
        csv.field_size_limit(2**31 - 1)  # the default refuses cells above 128 kB
        lines = (found[0] for found in _LINE.finditer(self.text))  # StringIO has 4 bytes a letter
        reader = csv.reader(lines, **self.form)
        begins = 1
        for cells in reader:
            yield begins + self.line - 1, cells
            begins = reader.line_num + 1

    def sound(self) -> "_Rows":
        """The same. Raises DataError where they cannot be read."""
        try:
            for _ in self:
                pass
        except csv.Error as error:
            raise DataError(f"is not a readable table: {error}") from None
        return self


def _has_single_quotes(text: str, delimiter: str) -> bool:
    """Whether ' encloses the cells: nine in ten of those that are not numbers."""
    sample = text[:SAMPLE]
    if delimiter == "" or (f"{delimiter}'" not in sample and "\n'" not in sample):
        return False
    body = sample[sample.find("\n") + 1 :]  # a header may be without
    cells = [
        cell.strip()
        for _, row in _tolerant(body, Dialect(delimiter, "'"), keep_quotes=True)
        for cell in row
        if not _NUMBER.fullmatch(cell)
    ]
    begun = [cell for cell in cells if cell.startswith("'")]
    enclosed = [cell for cell in begun if len(cell) > 1 and cell.endswith("'")]
    if any("''" in cell[1:-1] for cell in enclosed):
        return len(enclosed) == len(begun)
    return len(enclosed) >= max(4, 0.9 * len(cells))


def _with_stray_quotes(text: str, delimiter: str, notes: Notes, line: int) -> list[NumberedRow]:
    """The rows of a table in which quotes are not as they should be."""
    kinds = [Dialect(delimiter, escape="\\"), Dialect(delimiter)]
    found = []
    for dialect in kinds if '\\"' in text else kinds[1:]:
        about = Notes()
        rows = list(_tolerant(text, dialect, about, line))
        widths = Counter(len(cells) for _, cells in rows)
        wrong = sum(map(len, about.remarks.values()))
        found.append((-max(widths.values()) / len(rows), wrong, rows, about))
    best = min(found, key=lambda item: item[:2])
    for remark, places in best[3].remarks.items():
        notes.remarks.setdefault(remark, []).extend(places)
    return best[2]


def _cell_pattern(dialect: Dialect) -> re.Pattern[str]:
    """A cell and what ends it. All of it is read once, whatever the text."""
    delimiter, quote = re.escape(dialect.delimiter), re.escape(dialect.quote)
    end = rf"(?:{delimiter}|\n|\Z)" if delimiter else r"(?:\n|\Z)"
    outside = rf"[^{delimiter}\n]*+"
    space = "" if dialect.delimiter in ("\t", "") else " *+"
    if dialect.escape:
        inner = rf"(?:[^{quote}\\]++|\\.|{quote}{quote})*+"
    else:
        inner = rf"[^{quote}]*+(?:{quote}{quote}[^{quote}]*+)*+"
    return re.compile(
        rf"{space}(?:{quote}(?P<quoted>{inner}){quote}[ \t]*+(?P<end>{end})"
        rf"|(?P<plain>{outside})(?P<plain_end>{end}))",
        re.DOTALL,
    )


class _Closings:
    """Finds the next quote that ends a cell, and the next end of a line, each looked for once."""

    def __init__(self, text: str, dialect: Dialect) -> None:
        delimiter, quote = re.escape(dialect.delimiter), re.escape(dialect.quote)
        end = rf"(?:{delimiter}|\n|\Z)" if delimiter else r"(?:\n|\Z)"
        self.pattern = re.compile(rf"{quote}[ \t]*+(?P<end>{end})")
        self.text, self.found, self.line_end = text, self.pattern.search(text), -1

    def after(self, begin: int) -> re.Match[str] | None:
        """The one behind a place, if it is in the same line."""
        while self.found is not None and self.found.start() < begin:
            self.found = self.pattern.search(self.text, begin)
        if self.line_end < begin:
            found = self.text.find("\n", begin)
            self.line_end = found if found >= 0 else len(self.text)
        if self.found is None or self.found.start() > self.line_end:
            return None
        return self.found


def _tolerant(
    text: str,
    dialect: Dialect,
    notes: Notes | None = None,
    line: int = 1,
    *,
    keep_quotes: bool = False,
) -> Iterator[NumberedRow]:
    """The rows of a table, in which a quote that cannot enclose a cell is a character of it."""
    pattern, closings = _cell_pattern(dialect), _Closings(text, dialect)
    quote = dialect.quote
    cells: list[str] = []
    position, begins = 0, line
    while position < len(text) or cells:
        found = pattern.match(text, position)
        if found is None:  # cannot be: a plain cell may be empty
            raise DataError("is not a readable table")
        end, position_of_next = found[found.lastgroup or 0], found.end()
        if found["quoted"] is not None:
            cell = found["quoted"]
            if not keep_quotes:
                cell = cell.replace(2 * quote, quote)
                cell = _ESCAPED_QUOTE.sub(r"\1", cell) if dialect.escape else cell
            is_enclosed = True
        else:
            cell = found["plain"]
            begin = found.start("plain") + 1
            closing = closings.after(begin) if cell.startswith(quote) else None
            is_enclosed = closing is not None
            if closing is not None:  # quotes within, which should be doubled
                cell = text[begin : closing.start()]
                end, position_of_next = closing["end"], closing.end()
            elif cell.startswith(quote) and notes is not None:
                place = f"line {line}"
                notes.remark("a quote opens a cell and is not closed: read as it stands", place)
        cells.append(f"{quote}{cell}{quote}" if keep_quotes and is_enclosed else cell)
        line += text.count("\n", position, position_of_next)
        position = position_of_next
        if end != dialect.delimiter or not end:
            yield begins, cells if cells != [""] else []
            cells, begins = [], line
            if end == "":
                return


def _swallowed(rows: Iterable[NumberedRow], delimiter: str) -> list[int]:
    """The lines of cells whose lines look like rows: a quote may be missing where they begin."""
    width = max((len(cells) for _, cells in itertools.islice(rows, 1000)), default=0)
    found = []
    for line, cells in rows:
        if (joined := delimiter.join(cells)).count("\n"):
            lines = joined.split("\n")
            if width > 1 and all(item.count(delimiter) == width - 1 for item in lines):
                found.append(line)
    return found


def note_ragged(rows: Iterable[NumberedRow], notes: Notes) -> None:
    """Notes rows that have more or fewer cells than the others.

    Args:
        rows: The rows of a table.
        notes: Gets how many there are, and the first.
    """
    filled = ((line, len(cells)) for line, cells in rows if any(cells))
    below_titles = itertools.dropwhile(lambda row: row[1] == 1, filled)
    widths: Counter[int] = Counter()
    first: dict[int, int] = {}
    for line, width in below_titles:
        widths[width] += 1
        first.setdefault(width, line)
    if not widths:
        return
    usual, count = widths.most_common(1)[0]
    others = [line for width, line in first.items() if width != usual]
    if others and usual > 1:
        notes.remark(
            f"{counted(widths.total() - count, 'row')} with more or fewer cells than the {count:,} "
            f"others (line {min(others)})"
        )
