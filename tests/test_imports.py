"""The rooms that must not import TensorFlow do not, and what imports nothing is quick."""

import ast
import subprocess
import sys

import pytest

from minigpt_tf import __version__
from tests.conftest import ROOT

ROOMS = [
    "errors",
    "options",
    "config",
    "machine",
    "presets",
    "compiled",
    "storage",
    "text",
    "modelfolder",
    "inference",
    "model",
]
ROOMS += ["training", "evaluation", "interop", "finetuning", "inspection", "serving", "__main__"]

MAIN = "from minigpt_tf.__main__ import main\n"

NO_TENSORFLOW = """
import sys
{statement}
heavy = {{"tensorflow", "keras", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    "statement",
    [
        "import minigpt_tf",
        "import minigpt_tf.config, minigpt_tf.errors, minigpt_tf.modelfolder",
        "import minigpt_tf.text.corpus, minigpt_tf.text.documents, minigpt_tf.text.vocabulary",
        "import minigpt_tf.inference.command, minigpt_tf.inference.generate",
        "import minigpt_tf.training.plan, minigpt_tf.training.command",
        "import minigpt_tf.evaluation.recall, minigpt_tf.evaluation.scoring",
        "import minigpt_tf.evaluation.command, minigpt_tf.evaluation.report",
        f"{MAIN}main(['--help'])",
        "from minigpt_tf import ModelConfig, create_dataset, load_tokenizer, TextGenerator",
        f"{MAIN}try: main(['train', '--help'])\nexcept SystemExit: pass",
        f"{MAIN}main(['generate', 'he was', '--model', FOLDER])",
        f"{MAIN}main(['summary', '--model', FOLDER])",
    ],
)
def test_tensorflow_is_not_imported(statement, trained_folder):
    code = NO_TENSORFLOW.format(statement=statement.replace("FOLDER", repr(str(trained_folder))))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_bad_data_is_told_before_tensorflow_is_imported(tmp_path):
    command = ["train", "--data", str(tmp_path), "--out", str(tmp_path / "m")]
    statement = f"{MAIN}assert main({command}) == 2"
    code = NO_TENSORFLOW.format(statement=statement)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("error: ") and "no text found" in done.stderr


FROM_ABOVE = """
import minigpt_tf
from minigpt_tf import ModelConfig
from minigpt_tf.config import ModelConfig as same
assert ModelConfig is same
print(minigpt_tf.__file__, minigpt_tf.__version__)
"""


def test_the_folder_above_a_clone_finds_the_package_in_it(tmp_path):
    """A clone has the package's name: without its __init__.py it would be a namespace package."""
    (tmp_path / "minigpt_tf").symlink_to(ROOT)
    for words, found in (
        (["-c", FROM_ABOVE], f"{tmp_path}/minigpt_tf/minigpt_tf/__init__.py {__version__}\n"),
        (["-m", "minigpt_tf", "--version"], f"{__version__}\n"),
    ):
        command = [sys.executable, *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout == found, done.stderr


def test_public_names_exist():
    import minigpt_tf

    for name in minigpt_tf.__all__:
        assert getattr(minigpt_tf, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = minigpt_tf.nothing


def test_a_room_imports_only_rooms_above_it():
    package = ROOT / "minigpt_tf"
    wrong = []
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        if parts[0] == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = ["minigpt_tf", *parts[:-1]][: len(parts) + 1 - node.level]
                target = [*base[1:], *(node.module or "").split(".")]
                if target[0] and ROOMS.index(target[0]) > ROOMS.index(parts[0]):
                    wrong.append(f"{path.name} imports {'.'.join(target)}")
    assert not wrong
