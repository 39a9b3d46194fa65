"""What README and docs tell people to type works, and prints what the page shows."""

import argparse
import contextlib
import importlib
import io
import shlex

import pytest

from minigpt_tf.__main__ import VERBS
from tests.conftest import ROOT
from tests.docs.pages import (
    Snippet,
    all_snippets,
    difference,
    inline_commands,
    page_files,
    snippets,
)


def test_snippet(snippet, workspaces):
    printed = workspaces(snippet.page).run(snippet)
    if snippet.expected is not None:
        wrong = difference(snippet.expected, printed, snippet.numbers)
        assert not wrong, wrong


def test_commands_between_backquotes_have_only_options_that_exist():
    wrong = []
    for page in page_files():
        for line, command in inline_commands(page):
            if "..." not in command and not _parses(command):
                wrong.append(f"{page.relative_to(ROOT)}:{line}: {command}")
    assert not wrong


def _parses(command: str) -> bool:
    program, *words = shlex.split(command, comments=True)
    verb = words.pop(0).removesuffix(".py") if program == "python" else words.pop(0)
    if verb == "VERB" or verb.startswith("--") or not words:
        return True
    parser = argparse.ArgumentParser(prog=verb)
    module = importlib.import_module(VERBS[verb][0])
    module.add_arguments(parser)
    parser.add_argument("--debug", action="store_true")
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            parser.parse_args(words)
        except SystemExit as stop:
            return stop.code == 0
    return True


PAGE = """
<!-- snippet: quick; needs small sms.tsv; numbers 5% -->
```python
one
```

```text
printed
```

<!-- snippet: continues -->
```python
two
```
text
```text
not what it prints
```
<!-- a comment -->
<!-- snippet: not run: needs a network; and more -->
```bash
three
```
"""


def test_comments_of_snippets(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.docs.pages.ROOT", tmp_path)
    (tmp_path / "page.md").write_text(PAGE)
    one, two, three = snippets(tmp_path / "page.md")
    assert one == Snippet(
        "page.md", 3, "python", "one\n", "printed\n", True, 0.05, ("small", "sms.tsv")
    )
    assert two == Snippet("page.md", 12, "python", "two\n", None, earlier=("one\n",))
    assert three.language == "bash" and three.not_run == "needs a network; and more"
    (tmp_path / "page.md").write_text(PAGE.replace("continues", "continued"))
    with pytest.raises(ValueError, match=r"page\.md:11: unknown words .* 'continued'"):
        snippets(tmp_path / "page.md")


def test_what_is_not_run_says_why():
    everything = all_snippets()
    assert len(everything) > 20
    assert all(len(snippet.not_run.split()) > 2 for snippet in everything if snippet.not_run)


@pytest.mark.parametrize(
    ("expected", "printed", "tolerance", "same"),
    [
        ("a\nb\n", "a\nb\n", 0, True),
        ("a\nb\n", "a\nc\n", 0, False),
        ("a\n...\nd", "a\nb\nc\nd", 0, True),
        ("a\n...", "a", 0, True),
        ("a ... d", "a b c d", 0, True),
        ("loss 2.00 in 1,000 s", "loss 2.10 in 1,090 s", 0.1, True),
        ("loss 2.00 in 1,000 s", "loss 2.10 in 1,900 s", 0.1, False),
        ("loss 2.00 for 3", "gain 2.00 for 3", 0.1, False),
        ("7.", "7.", 0.1, True),
        ("a", "a\nb", 0, False),
    ],
)
def test_difference(expected, printed, tolerance, same):
    assert (difference(expected, printed, tolerance) == "") == same
