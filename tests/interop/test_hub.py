"""Ids of Hugging Face: what is asked for, and what is told where it cannot be had."""

import errno
import shutil

import huggingface_hub as hub
import pytest
from huggingface_hub import constants, errors

from minigpt_tf import import_model
from minigpt_tf.errors import MiniGPTError
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.interop.huggingface.hub import download, looks_like_id
from tests.interop import checkpoints

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and no network."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


def fill(cache, model_id):
    """Puts a model into the cache, laid out as huggingface_hub has it; returns its files."""
    repository = cache / f"models--{model_id.replace('/', '--')}"
    files = repository / "snapshots" / COMMIT
    checkpoints.gpt2(files)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return files


def failing(monkeypatch, error):
    """Lets the download raise the error."""

    def fail(*arguments, **options):
        """In place of huggingface_hub.snapshot_download."""
        raise error

    monkeypatch.setattr(hub, "snapshot_download", fail)


def answer(status):
    """What the hub answered, in huggingface_hub's own network library."""
    import importlib

    # It was requests, is httpx, and has had other names since.
    base = next(k for k in errors.HfHubHTTPError.__mro__[1:] if k.__name__ == "HTTPError")
    library = importlib.import_module(base.__module__.partition(".")[0])
    request = library.Request("GET", "https://huggingface.co")
    return library.Response(status, request=request)


def test_a_cached_model_needs_no_network(cache, tmp_path):
    fill(cache, "someone/tiny")
    out = import_model("someone/tiny", tmp_path / "out")
    source = load_folder(out).description["source"]
    assert source["from"] == "someone/tiny" and source["revision"] == COMMIT


def test_what_exists_here_wins(cache, tmp_path, monkeypatch):
    fill(cache, "someone/tiny")
    monkeypatch.chdir(tmp_path)
    checkpoints.gpt2(tmp_path / "someone" / "tiny", n_layer=1)
    assert load_folder(import_model("someone/tiny", tmp_path / "out")).model.num_layers == 1
    with pytest.raises(MiniGPTError, match="exists here: --revision is for ids"):
        import_model("someone/tiny", tmp_path / "other", revision="main")


def test_only_what_is_needed_is_asked_for(monkeypatch, tmp_path):
    from huggingface_hub.utils import filter_repo_objects

    wanted = ["config.json", "model.safetensors", "model-00001-of-00002.safetensors", "README.md"]
    wanted += ["model.safetensors.index.json", "tokenizer.json", "vocab.json", "merges.txt"]
    wanted += ["tokenizer.model", "chat_template.jinja", "LICENSE", "LICENSE.txt", "USE_POLICY.md"]
    others = ["pytorch_model.bin", "tf_model.h5", "onnx/model.safetensors", "onnx/config.json"]
    others += ["consolidated.00.pth", "modeling.py", "original/params.json", "flax_model.msgpack"]
    asked = {}

    def take(model_id, **options):
        """In place of huggingface_hub.snapshot_download."""
        asked.update(options)
        (tmp_path / "model.safetensors").write_bytes(b"")
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", take)
    assert download("a/b", "v1") == tmp_path and asked["revision"] == "v1"
    patterns = {name: asked[name] for name in ("allow_patterns", "ignore_patterns")}
    kept = list(filter_repo_objects([*others, *wanted], **patterns))
    assert kept == wanted


def test_no_network(cache):
    with pytest.raises(MiniGPTError, match=r"a/b is not in the cache .*HF_HUB_OFFLINE"):
        download("a/b")
    fill(cache, "someone/tiny")
    with pytest.raises(MiniGPTError, match=r"\(there: someone/tiny\)"):
        download("a/b")
    with pytest.raises(MiniGPTError, match="someone/tiny at v2 is not in the cache"):
        download("someone/tiny", "v2")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (lambda: errors.GatedRepoError("no", response=answer(403)), "is gated: accept .*HF_TOKEN"),
        (
            lambda: errors.RepositoryNotFoundError("no", response=answer(404)),
            "no such model on Hugging Face",
        ),
        (
            lambda: errors.RevisionNotFoundError("no", response=answer(404)),
            "has no revision 'v9'",
        ),
        (
            lambda: errors.HfHubHTTPError("503\nService Unavailable", response=answer(503)),
            "could not be downloaded .503 Service Unavailable",
        ),
        (lambda: OSError(errno.ENOSPC, "No space left"), "the disk of .* is full: .*HF_HOME"),
        (lambda: ConnectionError(), "could not be downloaded .ConnectionError"),
        (lambda: errors.LocalEntryNotFoundError("no"), "Hugging Face cannot be reached"),
    ],
)
def test_what_goes_wrong_is_told_in_one_sentence(monkeypatch, tmp_path, error, words):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    failing(monkeypatch, error())
    with pytest.raises(MiniGPTError, match=words) as caught:
        download("a/b", "v9")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["pytorch_model.bin", "config.json"], "pytorch_model.bin, a pickle, which can run code"),
        (["tiny.Q4_0.gguf"], "hf download a/b tiny.Q4_0.gguf"),
        (["README.md"], r"contains no model\.safetensors"),
    ],
)
def test_a_repository_without_safetensors(monkeypatch, tmp_path, names, words):
    monkeypatch.setattr(hub, "snapshot_download", lambda *a, **k: str(tmp_path))
    monkeypatch.setattr(hub, "list_repo_files", lambda *a, **k: names)
    with pytest.raises(MiniGPTError, match=words):
        download("a/b")


def test_what_can_be_an_id(tmp_path):
    assert looks_like_id("gpt2") and looks_like_id("HuggingFaceTB/SmolLM2-135M-Instruct")
    for path in ("./gpt2", "a/b/c", "/a/b", "a b", "", "../a", "a\\b"):
        assert not looks_like_id(path)
        with pytest.raises(MiniGPTError, match=r"no such file or folder"):
            import_model(path or "n o", tmp_path / "out")
    with pytest.raises(MiniGPTError, match=r"x\.gguf: no such file"):
        import_model("x.gguf", tmp_path / "out")


def test_an_incomplete_copy_in_the_cache(cache, tmp_path):
    files = fill(cache, "someone/tiny")
    shutil.move(files / "model.safetensors", files / "pytorch_model.bin")
    with pytest.raises(MiniGPTError, match="its copy in the cache contains no safetensors"):
        import_model("someone/tiny", tmp_path / "out")
