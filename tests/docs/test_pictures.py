"""Pictures of the pages are drawn by a script, shown somewhere, and small."""

import importlib.util
import sys

import pytest

from tests.conftest import ROOT
from tests.docs.pages import links, page_files

PICTURES = ROOT / "docs" / "pictures"
OTHERS = {
    *("rooms.svg", "terminal.svg", "badge-keras.svg", "badge-license.svg", "badge-python.svg"),
    *("page.png", "page-dark.png", "page-narrow.png", "page-continue.png"),
    "web-export.png",
}
"""Drawn by make_rooms.py, make_terminal.py, make_badges.py and make_screenshots.py."""


@pytest.fixture(scope="module")
def script():
    path = list(sys.path)
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "make_pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path


def test_every_picture_is_drawn_by_a_script_and_small(script):
    files = {path.name: path.stat().st_size for path in PICTURES.iterdir()}
    assert files.keys() - OTHERS == script.PICTURES.keys()
    assert max(files.values()) < script.LARGEST


def test_every_picture_is_shown():
    targets = {target for page in page_files() for _, target in links(page)}
    shown = {target.rpartition("/")[2] for target in targets if "pictures/" in target}
    assert {path.name for path in PICTURES.iterdir()} <= shown


def test_pictures_are_drawn(script, tmp_path, monkeypatch):
    monkeypatch.setattr("drawing.style.PICTURES", tmp_path)
    monkeypatch.setattr(sys, "argv", ["make_pictures.py", "tokens.png"])
    assert script.main() == 0
    assert (tmp_path / "tokens.png").read_bytes() == (PICTURES / "tokens.png").read_bytes()
