"""The verb `import`: what it says, what it writes, and that a failure writes nothing."""

import json
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

from minigpt_tf.__main__ import main
from minigpt_tf.inference.folder import load_folder
from tests.conftest import ROOT
from tests.interop import checkpoints
from tests.interop.checkpoints import TEMPLATE, change_json, check_parity


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A Llama for chats and a GPT-2, by their names."""
    folder = tmp_path_factory.mktemp("sources")
    models = {"tiny-llama": checkpoints.llama(folder / "tiny-llama")}
    models["tiny-gpt2"] = checkpoints.gpt2(folder / "tiny-gpt2")
    settings = folder / "tiny-llama" / "tokenizer_config.json"
    change_json(settings, chat_template=TEMPLATE, eos_token="<|endoftext|>")
    (folder / "tiny-llama" / "LICENSE").write_text("free")
    return folder, models


def test_what_it_says(sources, tmp_path, monkeypatch, capsys):
    folder, models = sources
    monkeypatch.chdir(tmp_path)
    assert main(["import", str(folder / "tiny-llama")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    count = sum(p.numel() for p in models["tiny-llama"].parameters())
    wanted = [
        "llama: 2 layers of width 24, 4 heads in 2 groups",
        f"{count:,} parameters",
        "32 tokens",
    ]
    wanted += ["BPE, 259 tokens", "chat template: yes", "license: LICENSE", "model.h5"]
    for words in [*wanted, "next: minigpt chat --model models/tiny-llama"]:
        assert words in said
    check_parity(models["tiny-llama"], tmp_path / "models" / "tiny-llama")
    assert main(["import", str(folder / "tiny-gpt2"), "--out", "other"]) == 0
    said = capsys.readouterr().out
    assert 'next: minigpt generate "Once upon a time" --model other' in said
    assert "not stated" in said


def test_an_imported_model_generates_and_chats(sources, tmp_path, capsys, monkeypatch):
    import torch

    folder, models = sources
    out = tmp_path / "out"
    main(["import", str(folder / "tiny-gpt2"), "--out", str(out)])
    capsys.readouterr()
    words = ["the thin", "--greedy", "--max-new-tokens", "8", "--model", str(out), "--json"]
    assert main(["generate", *words]) == 0
    found = json.loads(capsys.readouterr().out)["ids"]
    ids = load_folder(out).tokenizer.encode("the thin").tolist()
    for _ in found:
        with torch.no_grad():
            logits = models["tiny-gpt2"](torch.tensor([ids])).logits[0, -1].numpy()
        ids.append(int(np.argmax(logits[:259])))  # ids from 259 on stand for no text
    assert 1 <= len(found) <= 8 and ids[-len(found) :] == found


def test_a_shorter_context(sources, tmp_path, capsys):
    folder, models = sources
    for name in models:
        out = tmp_path / name
        source = str(folder / name)
        assert main(["import", source, "--out", str(out), "--context-length", "8"]) == 0
        assert load_folder(out).model.context_length == 8
        check_parity(models[name], out)
        words = ["import", source, "--out", str(tmp_path / "x"), "--context-length"]
        assert main([*words, "33"]) == 2
        assert "positions" in capsys.readouterr().err
        assert main([*words, "0"]) == 2
        assert "context_length=0: must be at least 1" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_what_is_there_stays_unless_it_is_to_be_replaced(sources, tmp_path, capsys):
    folder, _ = sources
    out = tmp_path / "out"
    command = ["import", str(folder / "tiny-gpt2"), "--out", str(out)]
    assert main(command) == 0
    before = (out / "model.h5").read_bytes()
    assert main(command) == 2
    assert "exists: --overwrite replaces it" in capsys.readouterr().err
    broken = tmp_path / "broken"
    checkpoints.gpt2(broken)
    checkpoints.change_tensors(broken, lambda t: t["transformer.ln_f.bias"].fill(np.inf))
    assert main(["import", str(broken), "--out", str(out), "--overwrite"]) == 2
    assert "not finite" in capsys.readouterr().err
    assert (out / "model.h5").read_bytes() == before
    assert not list(out.glob(".saving-*"))
    assert main([*command, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([""], "SOURCE is empty"),
        (["no/such/folder"], "no such file or folder"),
        ([__file__], "is neither a .gguf, .h5 or .keras file nor a folder"),
        (["EMPTY"], "contains no supported model"),
        (["EMPTY", "--out", "EMPTY"], "is the source itself"),
        (["MODEL"], "is a model folder already"),
    ],
)
def test_what_is_refused(words, error, tmp_path, trained_folder, capsys):
    (tmp_path / "empty").mkdir()
    paths = {"EMPTY": str(tmp_path / "empty"), "MODEL": str(trained_folder)}
    words = [paths.get(word, word) for word in words]
    if "--out" not in words:
        words += ["--out", str(tmp_path / "out")]
    assert main(["import", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and error in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_full_disk(sources, tmp_path, capsys, monkeypatch):
    def full(folder, size):
        """In place of storage.replacing.reserve_space."""
        raise OSError(28, "No space left on device")

    import minigpt_tf.model.keras_file

    monkeypatch.setattr(minigpt_tf.model.keras_file, "reserve_space", full)
    folder, _ = sources
    assert main(["import", str(folder / "tiny-gpt2"), "--out", str(tmp_path / "out")]) == 2
    assert "saving failed (No space left on device)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_prefix_needs_room_in_the_context(sources, tmp_path, capsys):
    folder = shutil.copytree(sources[0] / "tiny-llama", tmp_path / "source")
    settings = {"add_bos_token": True, "bos_token": "<|endoftext|>"}
    change_json(folder / "tokenizer_config.json", **settings)
    command = ["import", str(folder), "--out", str(tmp_path / "out"), "--context-length"]
    assert main([*command, "1"]) == 2
    assert "a context of 1 has no room" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*command, "2"]) == 0
    assert load_folder(tmp_path / "out").tokenizer.prefix_ids == (258,)


def test_what_to_type_next_is_quoted(sources, tmp_path, capsys):
    out = tmp_path / "two words"
    assert main(["import", str(sources[0] / "tiny-llama"), "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(said) == ["next:", "minigpt", "chat", "--model", str(out)]


def test_bad_sources_are_told_before_tensorflow_is_imported(sources, tmp_path):
    checkpoints.gpt2(tmp_path / "hf")
    checkpoints.change_tensors(tmp_path / "hf", lambda t: t.pop("transformer.wte.weight"))
    words = ["import", str(tmp_path / "hf"), "--out", str(tmp_path / "out")]
    code = (
        f"import sys\nfrom minigpt_tf.__main__ import main\nassert main({words}) == 2\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "lacks the tensor transformer.wte.weight" in done.stderr
