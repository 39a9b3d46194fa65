"""The project's pages: their snippets, links and headings.

A snippet is a fenced block of `bash` or `python`; the `text` block right below it is what it
prints. A comment right above it, such as `<!-- snippet: quick; numbers 10% -->`, says more:

    quick           runs with the normal tests; the others run with `--all-snippets`
    numbers P%      a printed number may differ from the page's by P percent
    continues       Python that runs after the Python blocks above it on the page, as in a notebook
    needs NAME      needs models/NAME, which tests/docs/workspace.py puts there (if need be by the
                    snippet with `--out models/NAME`), or a file of the assets, such as sms.tsv
    not run: WHY    cannot run here, for the reason given

In what is printed `...` stands for anything, and a line of `...` for any lines.
`python tests/docs/pages.py` counts the snippets and lists those that are not run.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = "docs/reference/"
"""Its examples are docstrings, which tests/test_examples.py runs."""

FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```[ ]*$", re.MULTILINE | re.DOTALL)
DIRECTIVE = re.compile(r"<!-- snippet: ((?:(?!-->).)*) -->\s*\Z", re.DOTALL)


def page_files() -> list[Path]:
    """All pages, in the order in which their snippets run."""
    top = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY")]
    return [*top, ROOT / "models" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Snippet:
    page: str
    line: int
    language: str
    code: str
    expected: str | None
    """What the page says that it prints; None if it shows nothing."""
    quick: bool = False
    numbers: float = 0.0
    """By what fraction a number may differ."""
    needs: tuple[str, ...] = ()
    not_run: str = ""
    earlier: tuple[str, ...] = field(default=(), repr=False)
    """The Python that it continues."""

    @property
    def name(self) -> str:
        """README.md:20"""
        return f"{self.page}:{self.line}"


def snippets(path: Path) -> list[Snippet]:
    """The snippets of a page, in order."""
    text, page = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
    blocks = list(FENCE.finditer(text))
    found: list[Snippet] = []
    for i, block in enumerate(blocks):
        if block[2] not in ("bash", "python"):
            continue
        expected = None
        if i + 1 < len(blocks) and blocks[i + 1][2] == "text":
            between = text[block.end() : blocks[i + 1].start()]
            expected = _dedented(blocks[i + 1]) if not between.strip() else None
        options = _options(text[: block.start()], f"{page}:{text.count(chr(10), 0, block.start())}")
        code = _dedented(block)
        if options.pop("continues", False):
            before = [item for item in found if item.language == "python"][-1]
            options["earlier"] = (*before.earlier, before.code)
        line = text.count("\n", 0, block.start()) + 1
        found.append(Snippet(page, line, block[2], code, expected, **options))
    return found


def _dedented(block: re.Match[str]) -> str:
    return re.sub(f"^{block[1]}", "", block[3], flags=re.MULTILINE)


def _options(before: str, where: str) -> dict:
    directive = DIRECTIVE.search(before)
    words, _, reason = directive[1].partition("not run: ") if directive else ("", "", "")
    options: dict = {"not_run": " ".join(reason.split())}
    for word in filter(None, words.split("; ")):
        if word in ("quick", "continues"):
            options[word] = True
        elif match := re.fullmatch(r"numbers (\d+)%", word):
            options["numbers"] = int(match[1]) / 100
        elif match := re.fullmatch(r"needs ([\w. -]+)", word):
            options["needs"] = tuple(match[1].split())
        else:
            raise ValueError(f"{where}: unknown words in a snippet's comment: {word!r}")
    return options


def all_snippets() -> list[Snippet]:
    """Every snippet of every page that is written by hand."""
    pages = [page for page in page_files() if GENERATED not in page.as_posix()]
    return [snippet for page in pages for snippet in snippets(page)]


# ---------------------------------------------------------------- what is printed

NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
MOST_LINES = 40
"""Of the output, shown in an error."""


def difference(expected: str, printed: str, tolerance: float = 0.0) -> str:
    """What is wrong with the output; empty if it is what the page shows. Widths do not count."""
    lines = [re.sub(" +", " ", line).rstrip() for line in printed.strip("\n").splitlines()]
    wanted = [re.sub(" +", " ", line).rstrip() for line in expected.strip("\n").splitlines()]
    if _lines_match(wanted, lines, tolerance):
        return ""
    shown = "\n".join(lines[-MOST_LINES:])
    return "the page shows\n" + "\n".join(wanted) + "\nbut this was printed\n" + shown


def _lines_match(wanted: list[str], lines: list[str], tolerance: float) -> bool:
    if not wanted:
        return not lines
    if wanted[0] == "...":
        return any(_lines_match(wanted[1:], lines[i:], tolerance) for i in range(len(lines) + 1))
    same = lines and _line_matches(wanted[0], lines[0], tolerance)
    return bool(same) and _lines_match(wanted[1:], lines[1:], tolerance)


def _line_matches(wanted: str, line: str, tolerance: float) -> bool:
    pattern = "".join(
        ".*"
        if part == "..."
        else r"([\d.,]+)"
        if tolerance and NUMBER.fullmatch(part)
        else _text(part)
        for part in re.split(r"(\.\.\.|" + NUMBER.pattern + ")", wanted)
    )
    match = re.fullmatch(pattern, line)
    if not match or not tolerance:
        return bool(match)
    numbers = [float(number.replace(",", "")) for number in NUMBER.findall(wanted)]
    found = [float(number.strip(".,").replace(",", "")) for number in match.groups()]
    return all(abs(a - b) <= tolerance * abs(a) for a, b in zip(numbers, found, strict=True))


def _text(part: str) -> str:
    return re.escape(part)


# ---------------------------------------------------------------- links

LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^()\s]+)\)|(?:src|href)=\"([^\"]+)\"")


def links(path: Path) -> Iterator[tuple[int, str]]:
    """(Line, target) of each link and picture outside of code."""
    text = _without_code(path.read_text(encoding="utf-8"))
    for match in LINK.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match[1] or match[2]


def _without_code(text: str) -> str:
    """The same number of lines, without fenced blocks, comments and code."""
    for pattern in (FENCE, re.compile(r"<!--.*?-->", re.DOTALL)):
        text = pattern.sub(lambda match: "\n" * match[0].count("\n"), text)
    return re.sub(r"`[^`\n]*`", "`code`", text)


def dead_links(path: Path) -> list[str]:
    """The relative links of a page that lead nowhere, as PAGE:LINE: TARGET."""
    dead = []
    for line, target in links(path):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        ok = place.exists() and (ROOT in place.parents or place == ROOT)
        if ok and anchor:
            ok = place.suffix == ".md" and anchor in anchors(place)
        if not ok:
            dead.append(f"{path.relative_to(ROOT)}:{line}: {target}")
    return dead


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, where GitHub and MkDocs agree on them."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    found: dict[str, int] = {}
    for title in re.findall(r"^#+ +(.+?)(?: +#+)?$", text, re.MULTILINE):
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").strip().lower()
        slug = re.sub(r"[^\w\s-]", "", title).strip().replace(" ", "-")
        if slug == re.sub(r"[-\s]+", "-", slug):
            found[slug] = found.get(slug, 0) + 1
    return {slug for slug, count in found.items() if count == 1}


# ---------------------------------------------------------------- commands in a line of text


def inline_commands(path: Path) -> Iterator[tuple[int, str]]:
    """(Line, command) of each `minigpt ...`, `python train.py ...` between backquotes."""
    text = FENCE.sub(lambda m: "\n" * m[0].count("\n"), path.read_text(encoding="utf-8"))
    for match in re.finditer(r"`((?:minigpt|python (?:train|generate)\.py) [^`\n]+)`", text):
        yield text.count("\n", 0, match.start()) + 1, match[1].replace("\\|", "|")


if __name__ == "__main__":
    everything = all_snippets()
    left = [snippet for snippet in everything if snippet.not_run]
    quick = sum(snippet.quick for snippet in everything)
    weekly = len(everything) - quick - len(left)
    print(f"{len(everything)} snippets: {quick} quick, {weekly} weekly, {len(left)} not run:")
    for item in left:
        print(f"  {item.name}: {item.not_run}: {item.code.splitlines()[0]}")
    broken = [link for page in page_files() for link in dead_links(page)]
    print(f"{len(broken)} dead links", *broken, sep="\n  ")
    words = re.sub(r"<!--.*?-->", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S)
    print(f"{len(words.split())} words in README.md")
