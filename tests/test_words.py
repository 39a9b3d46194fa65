"""Words that this code does not use, and what it says instead.

`python tests/test_words.py` lists what is left, `--count` counts it.
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PROSE = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *(p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/*.md")),
    *(p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/[!r]*/**/*.md")),  # not reference/
]

WORDS = {
    "LoRA, low-rank update, adapter": r"changes of low rank|low[- ]rank changes?",
    "split, set": r"\b(training|validation|test|each|every|both) parts?\b",
    "fraction, ratio": r"\b(a|the|its|this|that|what|which|whose) shares?\b|\bshares? of\b",
    "most likely": r"\blikeliest\b|\blikelier\b",
    "integers": r"\bwhole numbers?\b",
    "is not a, contains no": r"(?<!there )\b(is|are|was|were) no (?!longer\b|more\b)|\bholds? no\b",
    "unsupported": r"\bnot known here\b|\bunknown here\b",
    "continues, resume": r"\b(goes|go|going|went) on\b",
    "log, report, show": r"\b(tells?|told|hears?|heard)\b(?!.{0,30}\bapart\b)|\bis said\b",
    "if absent": r"\bwhere there (is|are)\b",
    "duplicate": r"\bstands? twice\b",
    "unavailable": r"\bnot to be had\b",
    "chunks": r"\bpieces? of (the |a )?(text|file)\b",
    "weight layout": r"\bpacking\b|\bpacked\b",
    "thread pool": r"\bTeam\b",
    "truncation": r"\bshorten(s|ed|ing)?\b",
    "dropped": r"\b(is|are|be|gets?) lost\b",
    "scanned": r"\bsurvey(s|ed)?\b",
    "resume": r"\bresumptions?\b",
    "American spelling": (
        r"\b\w*(normal|optim|initial|token|memor|quant|serial|organ|recogn|summar|general|minim|maxim|parallel|"
        r"regular|random|special|final|real|util|vector|symbol|local|central|author|custom|emphas|apolog)is(e|es|ed|er|ers|ing|"
        r"ation|ations)\b|\bdisguises\b|\b(licen[c]e|colour|behaviour|neighbour|favour|honour|labour)\w*|"
        r"\b\w*(label|model|cancel|travel|channel|signal|tunnel)l(ed|ing)\b|\b(centre|grey|analyse|analysed|artefact|defence|"
        r"programme|whilst|catalogue|metre|litre)s?\b"
    ),
}
"""What to say -> a pattern, in any case, of what not to say."""

IDENTIFIERS = {
    "split, set": r"(^|_)part(s)?$|^Part$",
    "fraction, ratio": r"(^|_)share$",
    "log, report, show": r"(^|_)(tell|tells|told|hear|heard|silent)(_|$)",
    "chunks": r"(^|_)pieces(_|$)|(^|_)piece$",
    "weight layout": r"(?i)packing|packed",
    "thread pool": r"(^|_)[Tt]eam$",
    "truncation": r"(?i)shorten|^_?cut$",
    "dropped": r"(^|_)lost$",
    "scanned": r"(?i)survey",
    "resume": r"(?i)resumption",
    "LoRA, low-rank update, adapter": r"^changes$",
    "most likely": r"(?i)likeliest",
    "American spelling": r"(?i)" + WORDS["American spelling"].replace(r"\b", ""),
}
"""The same for names of functions, classes, parameters, attributes, variables and files."""

ALLOWED: dict[tuple[str, str], str] = {
    ("minigpt_tf/interop/keras_files/archive.py", "tell"): "the method of a stream",
    ("minigpt_tf/retrieval/terms.py", "tell"): "a word of questions",
    ("minigpt_tf/evaluation/memorization.py", "ngram_share"): "an old public name",
    ("minigpt_tf/inference/engine.py", "logits_in_pieces"): "an old public name",
    ("minigpt_tf/config/presets.py", "steps_share"): "an old public name",
    ("minigpt_tf/config/training.py", "eval_share"): "an old name: option, config.json, run.json",
    ("minigpt_tf/config/finetuning.py", "eval_share"): "an old name",
    ("minigpt_tf/records/schema.py", "labelled"): "an old name of a kind, in config.json",
    ("minigpt_tf/records/schema.py", "labelledrecord"): "an old public name",
}
"""(File, its words in lower case) -> why they stay: a file format, an old public name."""


OTHER_MEANINGS = {
    "interop": ("chunks", "split, set", "truncation"),
    "storage": ("split, set",),
}
"""Room -> words that mean something else there: SentencePiece's pieces, parts of a file or of a
graph, text that a tokenizer cuts into words."""


class Finding(NamedTuple):
    file: str
    line: int
    words: str
    instead: str


def findings() -> list[Finding]:
    """Every forbidden word in names, strings, docstrings and pages, in order of files."""
    found = []
    for path in sorted((ROOT / "minigpt_tf").rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        found += [Finding(file, 1, *hit) for hit in _in_name(path.stem)]
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            for name in _names(node):
                found += [Finding(file, node.lineno, *hit) for hit in _in_name(name)]
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found += _in_text(file, node.value, node.lineno)
    for page in PROSE:
        if (ROOT / page).exists():
            found += _in_text(page, (ROOT / page).read_text(encoding="utf-8"), 1)
    return [hit for hit in found if not _is_allowed(hit)]


def _is_allowed(hit: Finding) -> bool:
    room = hit.file.split("/")[1]
    return hit.instead in OTHER_MEANINGS.get(room, ()) or (hit.file, hit.words.lower()) in ALLOWED


def _in_text(file: str, text: str, first_line: int) -> Iterator[Finding]:
    for instead, pattern in WORDS.items():
        for match in re.finditer(pattern, text, re.IGNORECASE if instead != "thread pool" else 0):
            line = first_line + text.count("\n", 0, match.start())
            yield Finding(file, line, match.group(), instead)


def _in_name(name: str) -> Iterator[tuple[str, str]]:
    return ((name, instead) for instead, pattern in IDENTIFIERS.items() if re.search(pattern, name))


def _names(node: ast.AST) -> list[str]:
    """The names that a node defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return [node.id]
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        return [node.attr]
    return []


def test_the_words_are_the_fields():
    found = findings()
    listing = "\n".join(
        f"{hit.file}:{hit.line}: {hit.words!r}: {hit.instead}" for hit in found[:40]
    )
    assert not found, (
        f"{len(found)} words to replace (python tests/test_words.py lists all):\n{listing}"
    )


def test_a_forbidden_word_is_found():
    text = "It is no file.\nThe likeliest share of the whole numbers is told"
    hits = list(_in_text("x", text, 5))
    assert [(hit.line, hit.words) for hit in sorted(hits)] == [
        (5, "is no "),
        (6, "likeliest"),
        (6, "share of"),
        (6, "told"),
        (6, "whole numbers"),
    ]
    assert not list(
        _in_text("x", "There is no file; it contains no text and is no longer there.", 1)
    )
    assert [name for name, _ in _in_name("eval_share")] == ["eval_share"]
    assert not list(_in_name("partial")) + list(_in_name("raise")) + list(_in_name("tokenizer"))


if __name__ == "__main__":
    everything = findings()
    if "--count" not in sys.argv:
        for hit in everything:
            print(f"{hit.file}:{hit.line}: {hit.words!r}: {hit.instead}")
    for instead, count in Counter(hit.instead for hit in everything).most_common():
        print(f"{count:5} {instead}")
    print(f"{len(everything):5} words to replace")
