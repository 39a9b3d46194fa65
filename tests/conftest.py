"""Shared by the tests: where the assets are, and one tiny trained model."""

import os
import signal
from pathlib import Path

import pytest

from minigpt_tf.events import Listener

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what is in its background
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data" / "ramanujan.txt"


class Recorder(Listener):
    """Keeps what it is given: `notices`, and `work` as (what, done, total)."""

    def __init__(self):
        self.notices, self.work = [], []

    def notice(self, text):
        self.notices.append(text)

    def preparation(self, what, done, total):
        self.work.append((what, done, total))


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory) -> Path:
    """Tokenised texts are kept here, and not in the home of who runs the tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


def tiny_config(preset, **overrides):
    """A preset's switches at 2 layers of width 16; `modern` keeps its grouped heads."""
    from minigpt_tf.config.presets import model_preset

    sizes = {"embed_dim": 16, "num_layers": 2, "num_heads": 2, "head_dim": 8, "ff_dim": 32}
    sizes["num_kv_heads"] = 1 if preset == "modern" else 2
    return model_preset(preset, **{**sizes, **overrides})


@pytest.fixture(scope="session")
def assets() -> Path:
    folder = Path(os.environ.get("MINIGPT_ASSETS", ROOT.parent / "shared" / "assets"))
    if not folder.is_dir():
        pytest.skip(f"no assets in {folder}: set MINIGPT_ASSETS")
    return folder


@pytest.fixture
def gpt2_files(assets, monkeypatch) -> Path:
    monkeypatch.setenv("MINIGPT_ASSETS", str(assets))
    return assets / "gpt2-bpe"


def tiny_plan(**training):
    """A word model of 2 layers on the sample text; 6 steps unless told otherwise."""
    from minigpt_tf.config.presets import data_preset, training_preset
    from minigpt_tf.training.plan import make_plan

    settings = {"steps": 6, "batch_size": 8, "eval_every": 3, "dtype": "float32", **training}
    model = tiny_config("lecture", context_length=16, vocab_size=500)
    return make_plan([SAMPLE], model, data_preset(), training_preset("lecture", **settings))


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory) -> Path:
    """A model folder made by the trainer. Tests must not change it."""
    from minigpt_tf.training.trainer import train

    return train(tiny_plan(), tmp_path_factory.mktemp("models") / "tiny").out


@pytest.fixture
def folder_copy(trained_folder, tmp_path) -> Path:
    """A copy of the trained folder, to damage."""
    import shutil

    return Path(shutil.copytree(trained_folder, tmp_path / "copy"))


# ---------------------------------------------------------------- the quick lane

SLOW_FILE = Path(__file__).with_name("slow.txt")
"""FILE::FUNCTION of each test that `pytest -m quick` leaves out; a file without its folder."""
SLOW = frozenset(SLOW_FILE.read_text(encoding="utf-8").split())
SLOW_SECONDS = 0.4
"""Of the processor, all parameters of a test function together."""
SLOW_FIXTURE_SECONDS = 2.0
"""A module's fixture that takes longer makes all tests slow that use it."""


NOT_MEASURED = (
    *("test_notebook.py", "test_notebooks.py", "test_short_notebooks.py"),
    *("test_page.py", "test_telegram.py", "test_whatsapp.py", "test_streamlit_page.py"),
    *("test_nginx.py", "test_lock.py", "test_image.py"),
)
"""Files whose kernels or browsers outlive the test that starts them, or that wait for others: the
processor's seconds of their tests say little, and their names are put into the list by hand."""


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "rewrite tests/slow.txt for the tests that run"
    parser.addoption("--record-slow", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "quick: not in tests/slow.txt (set by itself)")
    if config.getoption("--record-slow"):
        import tensorflow  # noqa: F401  (else it counts for the first test that imports it)

        config.pluginmanager.register(SlowRecorder())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if lane_name(item) not in SLOW:
            item.add_marker("quick")


def lane_name(item: pytest.Item) -> str:
    """FILE::FUNCTION"""
    return f"{item.path.name}::{item.originalname}"


def processor_seconds() -> float:
    """Of this process and of those that it has started and that have ended."""
    return sum(os.times()[:4])


class SlowRecorder:
    """Rewrites tests/slow.txt: wall time on a busy machine says little, so the processor's counts.

    Fixtures of a session count for no test, those of a module for all that use them.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._shared = 0.0
        self._slow_fixtures: set[tuple[str, str]] = set()  # (file, name)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef, request: pytest.FixtureRequest):
        began = processor_seconds()
        try:
            return (yield)
        finally:
            spent = processor_seconds() - began
            if fixturedef.scope != "function":
                self._shared += spent
            if fixturedef.scope == "module" and spent > SLOW_FIXTURE_SECONDS:
                self._slow_fixtures.add((request.path.name, fixturedef.argname))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item):
        began, self._shared = processor_seconds(), 0.0
        try:
            return (yield)
        finally:
            spent = processor_seconds() - began - self._shared
            if any((item.path.name, name) in self._slow_fixtures for name in item.fixturenames):
                spent += SLOW_FIXTURE_SECONDS
            self.seconds[lane_name(item)] = self.seconds.get(lane_name(item), 0.0) + spent

    def pytest_sessionfinish(self) -> None:
        slow = {name for name in SLOW if name not in self.seconds or name.startswith(NOT_MEASURED)}
        slow |= {name for name, spent in self.seconds.items() if spent > SLOW_SECONDS}
        SLOW_FILE.write_text("\n".join(sorted(slow)) + "\n", encoding="utf-8")
