"""Links lead somewhere, the reference is what the code says, every page can be found."""

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.docs.pages import anchors, dead_links, links, page_files


def test_no_link_is_dead():
    dead = [link for page in page_files() for link in dead_links(page)]
    assert not dead


def test_dead_links_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.docs.pages.ROOT", tmp_path)
    (tmp_path / "other.md").write_text("# A `title` here\n\n## Twice\n\n## Twice\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md#a-title-here) [b](gone.md) ![c](gone.png)\n`[d](code.md)`\n"
        '```text\n[e](fenced.md)\n```\n[f](other.md#twice) <img src="gone.svg">\n'
        "[g](https://example.org/gone) [h](/etc/hostname)\n"
    )
    assert [link.rpartition(" ")[2] for link in dead_links(page)] == [
        "gone.md",
        "gone.png",
        "other.md#twice",
        "gone.svg",
        "/etc/hostname",
    ]
    assert anchors(tmp_path / "other.md") == {"a-title-here"}


def test_every_page_is_reached_from_the_front_page():
    reached, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        reached.add(page)
        targets = [target.partition("#")[0] for _, target in links(page) if ":" not in target]
        found = {(page.parent / target).resolve() for target in targets if target.endswith(".md")}
        left += found - reached
    assert {page for page in page_files() if page.parent != ROOT / "models"} <= reached


def test_readme_is_one_page():
    text = re.sub(r"<!--.*?-->", "", (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL)
    assert len(text.split()) <= 900


@pytest.mark.parametrize("script", ["make_reference.py", "make_rooms.py", "make_badges.py"])
def test_generated_pages_are_up_to_date(script):
    command = [sys.executable, str(ROOT / "docs" / script), "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
