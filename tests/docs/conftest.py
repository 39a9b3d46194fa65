"""`python -m pytest tests/docs --all-snippets` runs every snippet of README and docs."""

import pytest

from tests.docs.pages import all_snippets
from tests.docs.workspace import Shelf, Workspace


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "run every snippet of README and docs, not only the quick ones (an hour or more)"
    parser.addoption("--all-snippets", action="store_true", help=text)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "snippet" in metafunc.fixturenames:
        everything = metafunc.config.getoption("--all-snippets", default=False)
        chosen = [s for s in all_snippets() if not s.not_run and (s.quick or everything)]
        metafunc.parametrize("snippet", chosen, ids=[snippet.name for snippet in chosen])


@pytest.fixture(scope="session")
def workspaces(tmp_path_factory, pytestconfig):
    """The workspace of a page, by the page's name."""
    folder = tmp_path_factory.mktemp("pages")
    shelf, made = (
        Shelf(folder / "shelf", pytestconfig.getoption("--all-snippets", default=False)),
        {},
    )

    def workspace(page: str) -> Workspace:
        if page not in made:
            made[page] = Workspace(folder / page.replace("/", "-").removesuffix(".md"), shelf)
        return made[page]

    yield workspace
    shelf.close()


def pytest_terminal_summary(terminalreporter) -> None:
    everything = all_snippets()
    left = [snippet for snippet in everything if snippet.not_run]
    terminalreporter.write_line(
        f"{len(everything)} snippets in README and docs, {sum(s.quick for s in everything)} quick; "
        f"{len(left)} are never run: `python tests/docs/pages.py` lists them with the reason"
    )
