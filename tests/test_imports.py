"""The rooms that must not import TensorFlow do not, and what imports nothing is quick."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from minigpt_tf import __version__
from tests.conftest import ROOT

# From top to bottom; not all are built yet. A sub-room with a line of its own is held to its place.
ROOMS = [
    "errors",
    "machine",
    "compiled",
    "keras_registration",
    "startup",
    "events",
    "metrics",
    "terminal",
    "console",
    "config",
    "storage",
    "files",
    "text.compiled",
    "text",
    "inference",
    "records",
    "retrieval",
    "classification",
    "planning",
    "model",
    "training",
    "evaluation",
    "evaluation.questions",
    "finetuning",
    "interop",
    "inspection",
    "serving",
    "cli",
    "__main__",
]

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
        "import minigpt_tf.config, minigpt_tf.errors, minigpt_tf.storage.model_folder",
        "import minigpt_tf.text.corpus, minigpt_tf.files.documents, minigpt_tf.text.vocabulary",
        "import minigpt_tf.cli.generate, minigpt_tf.inference.generate",
        "import minigpt_tf.training.plan, minigpt_tf.cli.train",
        "import minigpt_tf.evaluation.recall, minigpt_tf.evaluation.scoring",
        "import minigpt_tf.cli.evaluate, minigpt_tf.evaluation.picture",
        f"{MAIN}main(['--help'])",
        "from minigpt_tf import ModelConfig, create_dataset, load_tokenizer, TextGenerator",
        f"{MAIN}try: main(['train', '--help'])\nexcept SystemExit: pass",
        f"{MAIN}try: main(['finetune', '--help'])\nexcept SystemExit: pass",
        "from minigpt_tf.finetuning.methods import all_methods; all_methods()",
        "from minigpt_tf import plan_finetuning, make_finetuning_plan, Classifier",
        f"{MAIN}main(['generate', 'he was', '--model', FOLDER])",
        f"{MAIN}main(['summary', '--model', FOLDER])",
        f"{MAIN}main(['models', '--models-dir', FOLDER])\nmain(['models', '--known'])",
        f"{MAIN}main(['inspect', 'he was', '--json', '--model', FOLDER])",
        f"{MAIN}main(['inspect', '--embeddings', 'he', '--json', '--model', FOLDER])",
        f"{MAIN}main(['inspect', '--history', FOLDER, '--json'])",
        "import minigpt_tf as mg; mg.attention(FOLDER, 'he was')",
    ],
)
def test_tensorflow_is_not_imported(statement, trained_folder):
    code = NO_TENSORFLOW.format(statement=statement.replace("FOLDER", repr(str(trained_folder))))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", ["generate", "chat", "serve", "ask", "classify", "bot", "doctor"])
def test_numpy_is_not_imported_while_a_command_line_is_read(verb):
    """Else it is before `import_numpy_without_threads`, and its threads wait busily."""
    code = f"import minigpt_tf.cli.{verb}, sys\nassert 'numpy' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_readers_of_office_files_are_imported_with_the_first_such_file():
    """Their exact numbers and XML take 9 ms: not for `train --help`, nor for plain text."""
    code = "import minigpt_tf.cli.train, sys\nassert not {'decimal', 'pyexpat'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


ONE_TOKEN = f"""
import sys
before = set(sys.modules)  # the interpreter's own, and what an editable installation brings
{MAIN}
assert main(["generate", "he was", "--max-new-tokens", "1", "--model", sys.argv[1]]) == 0
print(*set(sys.modules) - before, file=sys.stderr)
"""

MOST_MODULES = 82
"""Of the package, for one token of a word model. Each takes 0.1 to 0.2 ms, of some 150 in all: what
a token needs is worth that, and what only some models or options need is imported when they do."""

NOT_FOR_A_TOKEN = {
    "minigpt_tf.text.turns": "the prompt is not a chat",
    "minigpt_tf.text.library_limits": "the tokenizer is not one of the library's",
    "minigpt_tf.console": "nothing is drawn",
    "minigpt_tf.storage.cache": "no text is read",
    "shutil": "argparse asks how wide the terminal is, which matters to --help alone",
    "select": "no pipe is read",
    "subprocess": "no helper is started: the files are in order",
    "tempfile": "nothing is written",
    "csv": "no records are read",
    "email": "no entry points are looked through",
    "logging": "nothing is logged",
}


def test_one_token_imports_what_it_needs(trained_folder):
    command = [sys.executable, "-c", ONE_TOKEN, str(trained_folder)]
    for _ in range(2):  # the first run may compile, with Numba
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    names = set(done.stderr.split())
    packages = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    assert packages == {"minigpt_tf", "numpy"}
    assert not names & NOT_FOR_A_TOKEN.keys()
    assert len([name for name in names if name.startswith("minigpt_tf")]) <= MOST_MODULES


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


def imported(path: Path) -> list[str]:
    """The dotted names that a file of the package imports, at its top or later."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parent.parts
            package = package[: len(package) + 1 - node.level] if node.level else ()
            target = ".".join([*package, *([node.module] if node.module else [])])
            names += [f"{target}.{alias.name}" for alias in node.names]
    return names


def modules() -> dict[str, list[str]]:
    """Each module of the package -> the modules of the package that it imports."""
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "minigpt_tf").rglob("*.py")
    }
    found: dict[str, list[str]] = {}
    for module, path in paths.items():
        found[module] = []
        for name in imported(path):
            while name and name not in paths:  # a name in a module, not a module itself
                name = name.rpartition(".")[0]
            if name and name != module:
                found[module].append(name)
    return found


def place(module: str) -> int:
    """Where a module's room stands in ROOMS: the sub-room's own line, where it has one."""
    name = module.removeprefix("minigpt_tf.")
    while name not in ROOMS:
        assert "." in name, f"{module} is in a room that ROOMS does not name"
        name = name.rpartition(".")[0]
    return ROOMS.index(name)


def test_a_room_imports_only_rooms_above_it():
    found = modules()
    del found["minigpt_tf"]  # it names the homes of the public names, and imports none of them
    assert len(found) > 100
    wrong = [
        f"{module} imports {target}"
        for module, targets in found.items()
        for target in targets
        if target != "minigpt_tf" and place(target) > place(module)
    ]
    assert not wrong


def test_no_module_imports_itself_by_way_of_others():
    left = {module: set(targets) for module, targets in modules().items()}
    left["minigpt_tf"] = set()
    while free := {module for module, targets in left.items() if not targets & left.keys()}:
        left = {module: targets for module, targets in left.items() if module not in free}
    assert not left


def test_the_rooms_above_the_model_never_name_tensorflow():
    heavy = {"tensorflow", "keras", "tf_keras"}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / "minigpt_tf").rglob("*.py")
        for name in imported(path)
        if name.partition(".")[0] in heavy
        and path.stem not in ("__init__", "keras_registration")  # which waits for Keras
        and place(".".join(path.relative_to(ROOT).with_suffix("").parts)) < ROOMS.index("model")
    ]
    assert not wrong


PRINTING = {
    "console": "rich and standard output: train(verbose=True) and print_summary are for Python",
    "__main__": "the command itself: the overview, and errors in one line",
    "files.query_process": "a process of its own, which answers on standard output",
    "startup": "flushes standard error before TensorFlow's messages are sent elsewhere",
    "interop.portable.answer": "the program of an exported bundle, which nothing here imports",
}
"""Modules outside of cli/ that may print, and why."""


def terminal_uses(path: Path) -> set[str]:
    """What a file uses to print, to parse a command line or to lay text out."""
    libraries = ("argparse", "rich", "readline", "getpass", "curses")
    used = {name.partition(".")[0] for name in imported(path)} & set(libraries)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            used |= {node.func.id} & {"print", "input", "breakpoint"}
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("sys", "os"):
            streams = {"stdout", "stderr", "stdin", "__stdout__", "__stderr__", "get_terminal_size"}
            used |= {node.attr} & streams
    return used


def test_only_the_command_line_prints():
    found = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts[1:]): terminal_uses(path)
        for path in (ROOT / "minigpt_tf").rglob("*.py")
    }
    users = {module for module, used in found.items() if used}
    assert {"cli.train", "cli.options"} | PRINTING.keys() <= users
    assert not {
        module: found[module]
        for module in users
        if not module.startswith("cli.") and module not in PRINTING
    }
    assert {module for module, used in found.items() if "rich" in used} == {"console"}
    assert found["startup"] == {"stderr"} and "argparse" not in found["console"]


def test_each_verb_is_in_the_file_of_its_name():
    from minigpt_tf.__main__ import VERBS

    homes = {verb: home for verb, (home, _) in VERBS.items()}
    assert homes.pop("import") == "minigpt_tf.cli.import_"  # `import` is a keyword
    assert homes == {verb: f"minigpt_tf.cli.{verb}" for verb in homes}
