"""What a person sees in a terminal: text without control characters, tables, and a Listener.

This is the one module that knows `rich`, and it imports it when there is first something to lay
out: neither `--help` nor the first token waits for that.
"""

import contextlib
import io
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING, Literal, TextIO

from .events import Evaluation, Listener, Progress
from .terminal import printable, unguarded

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

UNLIMITED = 1 << 16
"""Columns of a file or a pipe: a cell is never cut there."""

GAP = 2
"""Columns between those of a table."""

NARROWEST = 12
"""Columns to which a column of text may be folded."""

BAR = 20
"""Columns of a progress bar."""

LONGEST_LABEL = 24
"""Characters of a label that are shown."""

MOST_CHARACTERS = 2_000
"""Of a notice, which may quote a file."""


def one_line(text: str, longest: int = 200) -> str:
    """A printable text in one line of at most `longest` characters.

    Args:
        text: Any text.
        longest: Characters; of a longer text the end is replaced by an ellipsis.

    Returns:
        The text without line ends and control characters.
    """
    text = printable(text[: 2 * longest + 2]).replace("\n", " ")
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def announce(lines: Iterable[str]) -> None:
    """Prints what is about to be done, which is done even if nobody reads that any more.

    The reader of a pipe may have gone, as that of `| head -1` has after a line. What is printed
    later fails as well, and then there is something to save.

    Args:
        lines: Each is seen at once.
    """
    with contextlib.suppress(BrokenPipeError):
        for line in lines:
            print(line, flush=True)


def terminal_width(stream: IO[str], pipe: int | None = None) -> int:
    """How wide a text may be.

    Args:
        stream: Where the text will be written.
        pipe: Columns of what is not a terminal (unset: `COLUMNS`, or 80).

    Returns:
        Columns.
    """
    if pipe and not is_terminal(stream):
        return pipe
    return max(NARROWEST, min(_console(stream).width, UNLIMITED))  # COLUMNS may be anything


def table_lines(
    rows: Sequence[Sequence[str]],
    *,
    width: int,
    header: Sequence[str] = (),
    left: int = 1,
    indent: int = 0,
    widest: int | None = None,
    gap: int = GAP,
) -> list[str]:
    """Rows of cells as the lines of a table.

    Text cells are folded where the table is wider than `width`, and nothing is cut. A table with a
    header whose numbers leave no room for that is turned: a column for each row; and where that is
    too wide as well, each row becomes a block of lines.

    Args:
        rows: The cells, all rows of the same length. They are made printable.
        width: Columns that the lines may take.
        header: Names of the columns; absent by default.
        left: How many of the first columns hold text, aligned left; the others hold numbers.
        indent: Columns before the table.
        widest: Columns of the first column, at most.
        gap: Columns between two columns.

    Returns:
        The lines, without spaces at their ends.

    Example:
        >>> rows = [["a", "1,000"], ["b", "7"]]
        >>> for line in table_lines(rows, width=80, header=["model", "tokens"]):
        ...     print(line)
        model  tokens
        a       1,000
        b           7
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    if header and _least_width(rows, header, left) + indent > width:
        header, *rows = map(list, zip(header, *rows, strict=True))  # a column for each row
        if _least_width(rows, header, 1) + indent > width:
            blocks = _blocks(list(zip(header, *rows, strict=True)), width - indent)
            return [" " * indent + line for line in blocks]
        left = 1
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=None, show_header=bool(header), pad_edge=False, padding=(0, gap, 0, 0), header_style=""
    )
    for place in range(len(rows[0]) if rows else 0):
        text = place < left
        table.add_column(
            header[place] if header else "",
            justify="left" if text else "right",
            overflow="fold",
            no_wrap=not text,
            max_width=widest if place == 0 else None,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    return _lines(Padding(table, (0, 0, 0, indent)), width)


def _least_width(rows: Sequence[Sequence[str]], header: Sequence[str], left: int) -> int:
    """Columns in which no number has to be cut, and text is not folded beyond reading."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(header, *rows, strict=True)]
    widths[:left] = (min(size, NARROWEST) for size in widths[:left])
    return sum(widths) + GAP * (len(widths) - 1)


def _blocks(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Each row but the header as lines "name: value" below its first cell."""
    lines: list[str] = []
    header, *others = rows
    for first, *cells in others:
        pairs = [(f"{name}:", cell) for name, cell in zip(header[1:], cells, strict=True)]
        lines += [*wrap(first, width), *table_lines(pairs, width=width, left=2, indent=GAP)]
    return lines


def wrap(text: str, width: int) -> list[str]:
    """A text in lines of at most `width` columns, which end at white space where they can.

    Args:
        text: Any text; it is made printable. Its own line ends are kept.
        width: Columns, of which a Chinese character takes two.

    Returns:
        The lines, at least one.

    Example:
        >>> wrap("ab日本語 c", width=5)
        ['ab日', '本語', 'c']
    """
    from rich.text import Text

    return _lines(Text(printable(text), overflow="fold"), width)


def _lines(renderable: "RenderableType", width: int) -> list[str]:
    """What is drawn, as plain lines without spaces at their ends."""
    file = io.StringIO()
    _console(file, width).print(renderable)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def _console(stream: IO[str], width: int | None = None) -> "Console":
    """Writes to a terminal in colors, and to anything else plain text."""
    from rich.console import Console

    return Console(
        file=unguarded(stream),
        width=width,
        force_terminal=is_terminal(stream),
        force_jupyter=False,
        highlight=False,
        markup=False,
        emoji=False,
    )


def is_terminal(stream: IO[str]) -> bool:
    """Whether what is written to a stream is seen at once, by a terminal that can move its cursor.

    Args:
        stream: A text stream.

    Returns:
        False for a file, a pipe, and where `TERM` is "dumb".
    """
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


Styled = Sequence[tuple[str, str]]
"""A cell in parts, each a text and its style, such as "bold" ("": none)."""


def print_framed(
    title: str,
    header: Sequence[tuple[str, int]],
    rows: Sequence[Sequence[Styled]],
    notes: Sequence[Styled],
    widest: int,
) -> None:
    """Prints a table with a frame and a line between its rows, as Keras's summary has them.

    Args:
        title: The line above.
        header: Name and relative width of each column; a name with "#" is of numbers.
        rows: The cells.
        notes: The lines below.
        widest: Columns of the table on a terminal, at most. In a file it is as wide as its cells.
    """
    from rich.table import Table
    from rich.text import Text

    def assembled(cell: Styled) -> "Text":
        """A cell as one text."""
        return Text.assemble(*((printable(text), style) for text, style in cell))

    terminal = is_terminal(sys.stdout)
    console = _console(sys.stdout, None if terminal else UNLIMITED)
    table = Table(width=min(widest, console.width) if terminal else None, show_lines=True)
    for name, ratio in header:
        justify: Literal["left", "right"] = "right" if "#" in name else "left"
        table.add_column(name, justify=justify, ratio=ratio if terminal else None, overflow="fold")
    for row in rows:
        table.add_row(*map(assembled, row))
    console.print(Text(printable(title), style="bold"))
    console.print(table)
    for note in notes:
        console.print(assembled(note))


def as_duration(seconds: float) -> str:
    """Seconds for people.

    Args:
        seconds: Any number of seconds, at least 0.

    Returns:
        m:ss, or h:mm:ss from an hour on.

    Example:
        >>> as_duration(3725.8)
        '1:02:05'
    """
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class ConsoleListener(Listener):
    """Progress on a line that rewrites itself, and a paragraph for each evaluation.

    A file or a pipe gets a line of progress now and then instead.

    Args:
        stream: Where to write (unset: standard output).

    Example:
        >>> listener = ConsoleListener()
        >>> listener.notice("the text is short")
        note: the text is short
    """

    SECONDS_BETWEEN_UPDATES = 0.2
    SECONDS_BETWEEN_LINES = 10

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.terminal = is_terminal(self.stream)
        self.updated = time.monotonic()
        self.preparing, self.began = "", self.updated
        self._live: Live | None = None

    def notice(self, text: str) -> None:
        """A line of its own.

        Args:
            text: What a person should know.
        """
        self._line(f"note: {one_line(text, MOST_CHARACTERS)}")

    def preparation(self, what: str, done: int, total: int) -> None:
        """As `progress`, with what is being done; nothing of what is done at once.

        Args:
            what: The work, such as "encoding".
            done: How much of it is done.
            total: How much there is; 0 if unknown.
        """
        now = time.monotonic()
        if what != self.preparing:
            self.preparing, self.began = what, now
        if done == total > 0:
            self.clear()
        elif total == 0:  # it may be long before the next call
            if self.terminal:
                self._rewrite(f"{what} ...")
        elif self._is_time():
            seconds_left = (now - self.began) * (total - done) / max(1, done)
            self._update(
                f"{what}  {done / total:.0%}  ETA {as_duration(seconds_left)}", done, total
            )

    def progress(self, progress: Progress) -> None:
        """Rewrites the progress line; in a file, adds one now and then.

        Args:
            progress: The step and the means since the last evaluation.
        """
        if self._is_time() or progress.step == progress.total_steps:
            text = (
                f"step {progress.step:,}/{progress.total_steps:,}  epoch {progress.epoch:.2f}  "
                f"loss {progress.loss:.3f}  accuracy {progress.accuracy:.1%}  "
                f"{progress.tokens_per_second:,.0f} tokens/s  "
                f"ETA {as_duration(progress.seconds_left)}"
            )
            self._update(text, progress.step, progress.total_steps)

    def _is_time(self) -> bool:
        pause = self.SECONDS_BETWEEN_UPDATES if self.terminal else self.SECONDS_BETWEEN_LINES
        return time.monotonic() - self.updated >= pause

    def _update(self, text: str, done: int, total: int) -> None:
        self.updated = time.monotonic()
        if self.terminal:
            self._rewrite(text, done, total)
        else:
            self._line(plain_bar(done, total) + text)

    def _rewrite(self, text: str, done: int = 0, total: int = 0) -> None:
        """Shows a text in place of the last one, behind a bar where the total is known."""
        from rich.live import Live
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if self._live is None:
            self._live = Live(
                console=_console(self.stream),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
            self._live.console.show_cursor(True)  # a run that is killed leaves it visible
        line = Table.grid(padding=(0, 1, 0, 0))
        bar = [ProgressBar(total, done, width=BAR)] if total else []
        line.add_row(*bar, Text(printable(text), overflow="fold"))
        self._live.update(line, refresh=True)

    def evaluation(self, evaluation: Evaluation) -> None:
        """The figures in one line, the sample in the next.

        Args:
            evaluation: The row of history.csv, and the sample.
        """
        text = (
            f"step {evaluation.step:,}  epoch {evaluation.epoch:.2f}  "
            f"{as_duration(evaluation.seconds)}  loss {evaluation.loss:.4f}  "
            f"accuracy {evaluation.accuracy:.1%}"
        )
        if evaluation.val_loss is not None:
            text += f"  validation loss {evaluation.val_loss:.4f}"
        if evaluation.val_perplexity is not None:
            text += f"  perplexity {evaluation.val_perplexity:,.1f}"
        for name, value in evaluation.metrics.items():
            text += f"  {name} {value:.4f}"
        if evaluation.tokens_per_second:
            text += f"  {evaluation.tokens_per_second:,.0f} tokens/s"
        self._line(text)
        self._line(f"    {evaluation.sample!r}")

    def clear(self) -> None:
        """Takes the progress line away, for something else to be written."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _line(self, text: str) -> None:
        self.clear()
        self.stream.write(text + "\n")
        self.stream.flush()


def plain_bar(done: int, total: int) -> str:
    """The bar in a file or a notebook; nothing if the total is unknown.

    Args:
        done: How much is done.
        total: Of how much.

    Returns:
        The bar, and a space.

    Example:
        >>> plain_bar(1, 4)
        '[=====               ] '
    """
    if not total:
        return ""
    filled = BAR * done // total
    return f"[{'=' * filled}{' ' * (BAR - filled)}] "
