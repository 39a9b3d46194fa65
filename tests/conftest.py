"""Shared by the tests: where the assets are, and one tiny trained model."""

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what is in its background
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data" / "ramanujan.txt"


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
