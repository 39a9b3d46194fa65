"""`minigpt export`: what is written and said, the other formats, outputs that are in the way."""

import json
import os
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest

from minigpt_tf import export_model
from minigpt_tf.__main__ import main
from minigpt_tf.errors import ConfigError, ModelFolderError
from minigpt_tf.inference.folder import load_folder
from tests.conftest import ROOT
from tests.interop.exported_folders import make_folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder models/ with a GPT-2, and the course's model, which fits no other tool's format."""
    models = tmp_path_factory.mktemp("work") / "models"
    make_folder(models / "gpt", "shakespeare", "char")
    make_folder(models / "lecture", "lecture", "word", head_dim=12)
    return models


def export(arguments, capsys):
    assert main(["export", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def error_of(arguments, capsys):
    assert main(["export", *map(str, arguments)]) == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: ") and output.err.count("\n") == 1
    return output.err


FILES = [
    *(("hf", "x"), ("gguf", "x.gguf"), ("keras", "x.keras"), ("h5", "x.h5")),
    *(("tflite", "x.tflite"), ("litert", "x.litertlm")),
]


def needs_litert(format):
    if format in ("tflite", "litert"):
        pytest.importorskip("litert_lm_builder", reason="no LiteRT: [litert]")


def tree(folder):
    """Name -> content of all files below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_newest_model_goes_to_exports(models, tmp_path, capsys, monkeypatch):
    shutil.copytree(models, tmp_path / "models")
    os.utime(tmp_path / "models" / "gpt" / "config.json")
    os.utime(tmp_path / "models" / "lecture" / "config.json", (1, 1))
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path / "models")
    said = export([], capsys)
    assert said.startswith("wrote exports/gpt-hf\n") and "model.safetensors" in said
    files = {path.name for path in (tmp_path / "exports" / "gpt-hf").iterdir()}
    assert files >= {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
    assert "AutoModelForCausalLM.from_pretrained('exports/gpt-hf')" in said
    assert tree(tmp_path / "models") == before
    said = export(["--format", "h5", "--model", "models/lecture"], capsys)
    assert said.startswith("wrote exports/lecture.h5\n") and " kB, f32" in said
    copied = (tmp_path / "exports" / "lecture.h5").read_bytes()
    assert copied == before["lecture/model.h5"]


@pytest.mark.parametrize("name", ["gpt", "lecture"])
def test_keras_archives_are_the_same_model(name, models, tmp_path, capsys):
    import keras

    out = tmp_path / "model.keras"
    said = export(["--format", "keras", "--model", models / name, "--out", out], capsys)
    assert said.startswith(f"wrote {out}\n") and list(tmp_path.iterdir()) == [out]
    original = keras.models.load_model(models / name / "model.h5", compile=False)
    ids = np.random.default_rng(0).integers(0, 20, (2, 30))
    expected = keras.ops.convert_to_numpy(original(ids, training=False))
    reloaded = keras.models.load_model(out)
    found = keras.ops.convert_to_numpy(reloaded(ids, training=False))
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_to_type_next_works(models, tmp_path, capsys):
    out = tmp_path / "model.keras"
    said = export(["--format", "keras", "--model", models / "lecture", "--out", out], capsys)
    code = said.split("next:\n")[1] + "\nprint(model.count_params())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    parameters = load_folder(models / "lecture").model.parameter_count
    assert done.stdout == f"{parameters}\n", done.stderr


def test_gguf_files_are_loaded_by_llama_cpp(models, tmp_path, capsys):
    llama_cpp = pytest.importorskip("llama_cpp")
    out = tmp_path / "model.gguf"
    said = export(["--format", "gguf", "--model", models / "gpt", "--out", out], capsys)
    assert f"Llama('{out}')" in said and list(tmp_path.iterdir()) == [out]
    model = llama_cpp.Llama(str(out), verbose=False, logits_all=True, n_ctx=48)
    ids = [5, 9, 3, 3, 7]
    model.eval(ids)
    from tests.interop.test_huggingface_export import engine_of

    expected = engine_of(models / "gpt").all_logits(np.array(ids))
    scores = np.array(model.scores[: len(ids), : expected.shape[1]])
    np.testing.assert_allclose(scores, expected, atol=2e-2)


def test_what_is_not_quantized_is_told(models, tmp_path, capsys):
    gguf = pytest.importorskip("gguf")
    command = ["export", "--model", models / "gpt", "--format", "gguf", "--dtype"]
    for dtype in ("f16", "q8_0"):
        out = tmp_path / f"{dtype}.gguf"
        assert main([*map(str, command), dtype, "--out", str(out)]) == 0
        kinds = [tensor.tensor_type.name for tensor in gguf.GGUFReader(out).tensors]
        said = capsys.readouterr().err
        if dtype == "f16":
            assert said == ""
        else:
            assert 0 < kinds.count("F16") < len(kinds)
            assert said.startswith(f"note: {kinds.count('F16')} matrices have rows")


def test_bad_options_get_one_line(models, tmp_path, capsys):
    model, out = ["--model", models / "gpt"], ["--out", tmp_path / "x"]
    cases = [
        ([*model, "--format", "keras", "--dtype", "f16"], "--format keras has no --dtype f16"),
        ([*model, "--format", "h5", "--dtype", "bf16"], "--format h5 has no --dtype bf16"),
        ([*model, "--dtype", "q8_0"], "--format hf has no --dtype q8_0: choose f32, f16, bf16"),
        ([*model, *out, "--format", "keras"], "the name of such a file ends in .keras"),
        ([*model, *out, "--format", "gguf"], "ends in .gguf"),
        (["--model", tmp_path / "none"], "no such model folder"),
        (["--model", models / "lecture", *out], "no positions=sinusoidal"),
        (["--model", models / "lecture", *out], "--format keras and --format h5 take any model"),
    ]
    for arguments, message in cases:
        assert message in error_of(arguments, capsys)
    with pytest.raises(SystemExit):
        main(["export", "--format", "coreml"])
    assert "invalid choice: 'coreml'" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="format='coreml': choose one of hf"):
        export_model(models / "gpt", tmp_path / "x", "coreml")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format, name", FILES)
def test_what_exists_is_replaced_only_when_told(format, name, models, tmp_path, capsys):
    needs_litert(format)
    out = tmp_path / name
    arguments = ["--model", models / "gpt", "--format", format, "--out", out]
    export(arguments, capsys)
    before = tree(tmp_path)
    assert f"{out} exists: --overwrite replaces" in error_of(arguments, capsys)
    assert tree(tmp_path) == before
    other = make_folder(tmp_path.parent / f"{tmp_path.name}-other", "shakespeare", "char", ff_dim=8)
    arguments[1] = other
    export([*arguments, "--overwrite"], capsys)
    after = tree(tmp_path)
    assert set(after) == set(before) and after != before
    assert stat.S_IMODE(os.stat(out).st_mode) & 0o044  # not the private mode of a scratch file


def test_another_models_files_do_not_stay(models, tmp_path, capsys):
    out = tmp_path / "x"
    arguments = ["--model", models / "gpt", "--out", out]
    export(arguments, capsys)
    stale = ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "vocab.json"]
    for name in [*stale, "chat_template.jinja", "mine.txt"]:
        (out / name).write_text("old")
    export([*arguments, "--overwrite"], capsys)
    left = {path.name for path in out.iterdir()}
    assert "mine.txt" in left and not left & {*stale, "chat_template.jinja"}


def test_model_folders_are_never_written_to(models, tmp_path, capsys):
    folder = shutil.copytree(models / "gpt", tmp_path / "gpt")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    before = tree(tmp_path)
    model = ["--model", folder, "--overwrite", "--out"]
    assert "is a model folder" in error_of([*model, folder], capsys)
    assert "belongs to a model folder" in error_of(
        [*model, folder / "model.h5", "--format", "h5"], capsys
    )
    assert "choose another --out" in error_of([*model, tmp_path / "mine"], capsys)
    assert "is a file" in error_of([*model, tmp_path / "mine" / "letter.txt"], capsys)
    (tmp_path / "folder.h5").mkdir()
    assert "is a folder" in error_of([*model, tmp_path / "folder.h5", "--format", "h5"], capsys)
    beneath = tmp_path / "mine" / "letter.txt" / "x.h5"
    assert "cannot be written to" in error_of([*model, beneath, "--format", "h5"], capsys)
    (tmp_path / "folder.h5").rmdir()
    assert tree(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} == {"gpt", "mine"}
    export([*model[:-2], "--out", folder / "hf"], capsys)  # beside its files it may lie


FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # no file may grow beyond it
from minigpt_tf.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("format, name", FILES)
@pytest.mark.parametrize("exists", [False, True])
def test_a_full_disk_changes_nothing(exists, format, name, models, tmp_path, capsys):
    pytest.importorskip("resource", reason="files cannot be limited on this system")
    needs_litert(format)
    out = tmp_path / "exports" / name
    arguments = ["--model", models / "gpt", "--format", format, "--out", out]
    if exists:
        export(arguments, capsys)
    before = tree(tmp_path)
    words = map(str, ["export", *arguments, "--overwrite"])
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *words], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "File too large" in done.stderr and str(out.parent) in done.stderr
    assert ".saving" not in done.stderr
    assert tree(tmp_path) == before and out.exists() is exists
    assert not exists or len(list(out.parent.iterdir())) == 1


@pytest.mark.parametrize("format", ["hf", "keras", "h5", "tflite", "litert"])
def test_damaged_models_are_not_exported(format, models, tmp_path):
    needs_litert(format)
    folder = shutil.copytree(models / "gpt", tmp_path / "gpt")
    out = tmp_path / "out" / dict(FILES)[format]
    whole = (folder / "model.h5").read_bytes()
    (folder / "model.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFolderError, match=r"model\.h5: is damaged"):
        export_model(folder, out, format)
    (folder / "model.h5").write_bytes(whole)
    described = json.loads((folder / "config.json").read_text())
    described["model"]["ff_dim"] = 33
    (folder / "config.json").write_text(json.dumps(described))
    with pytest.raises(ModelFolderError, match=r"has shape .* the configuration needs"):
        export_model(folder, out, format)
    assert set(tree(tmp_path)) == {f"gpt/{path.name}" for path in folder.iterdir()}
