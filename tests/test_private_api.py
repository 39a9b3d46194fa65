"""Which private names of Keras, TensorFlow and Numba are in use, and why: new ones are noticed.

One module for each library has them all.
"""

import ast
import configparser
import inspect
import re
from importlib import import_module

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "minigpt_tf"
LIBRARIES = ("keras", "tensorflow", "numba")
UNDOCUMENTED = {"raw_ops", "zeropower_via_newtonschulz5", "lr_adjust"}
"""Names without an underscore that no release promises either."""


def is_private(name: str) -> bool:
    return name.startswith(("_", "experimental_")) and not name.startswith("__")


def own_private_names() -> set[str]:
    """Private names that the package itself defines: functions, attributes, variables."""
    names = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id == "self":
                    names.add(node.attr)
            elif isinstance(node, ast.alias):
                names.add(node.asname or node.name)
    return names


def names_in(tree: ast.AST) -> set[str]:
    """What a file takes of the libraries' private modules, and every foreign private attribute."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            private = re.match(
                r"keras\.src|tensorflow\.python|numba\.(core|np|cpython)", node.module
            )
            for alias in node.names:
                if private or (is_private(alias.name) and node.module.startswith(LIBRARIES)):
                    found.add(f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Attribute):
            if is_private(node.attr) or node.attr in UNDOCUMENTED:
                found.add(node.attr)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr"):
            found |= {text for text in map(_text_of, node.args) if is_private(text)}
        elif isinstance(node, ast.Constant):  # a module by name
            if re.match(r"numba\.(core|np|cpython)\.", text := _text_of(node)):
                found.add(text)
        elif isinstance(node, ast.Dict):  # options by name
            found |= {text for text in map(_text_of, node.keys) if is_private(text)}
    return found


def _text_of(node: ast.AST | None) -> str:
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return node.value if is_text else ""


def overridden(path) -> set[str]:
    """Private names of a Keras or Numba class that a subclass in this file defines or uses."""
    text = path.read_text(encoding="utf-8")
    if not re.search(r"^class ", text, re.M) or not re.search(r"import (keras|Function)", text):
        return set()
    parts = path.relative_to(ROOT).with_suffix("").parts
    module = import_module(".".join(parts).removesuffix(".__init__"))
    found = set()
    for _, cls in inspect.getmembers(module, inspect.isclass):
        if cls.__module__ != module.__name__:
            continue
        family = [cls, *(sub for sub in vars(module).values() if _extends(sub, cls))]
        foreign = {base for item in family for base in item.__mro__ if _is_foreign(base)}
        theirs = {name for base in foreign for name in _private_words(base)}
        found |= theirs & _private_words(cls)
    return found


def _extends(item: object, cls: type) -> bool:
    return inspect.isclass(item) and cls in item.__mro__


def _is_foreign(base: type) -> bool:
    return base.__module__.split(".")[0] in LIBRARIES


def _private_words(cls: type) -> set[str]:
    words = re.findall(r"(?:\.|def )(_[a-z]\w*)", inspect.getsource(cls))
    return {word for word in words if is_private(word)}


ALLOWED: dict[str, dict[str, str]] = {
    "numba_internals.py": {
        **{
            name: "machine code is kept in a form that is loaded without Numba"
            for name in (
                "_add_module",
                "_final_module",
                "_tm",
                "numba.core.compiler_lock.global_compiler_lock",
            )
        },
        "_py_func": "Numba's cache notices changes of called functions, as that of images does",
        "_nrt": "no counting of references: functions compile and start faster",
        "_cache": "a damaged or unwritable cache of machine code must not stop a run",
        "numba.core.caching.FunctionCache": "the same",
        "numba.core.registry.cpu_target": "the type of a function that is wrapped late",
        "numba.core.cgutils": "atomic operations: Numba has none for arrays in memory",
    },
    "tensorflow_internals.py": {
        "experimental_local_results": "TensorFlow's only name for it",
        "raw_ops": (
            "RestoreV2 reads a tensor of a checkpoint without a graph to run, Select's gradient "
            "needs no broadcast, ResourceApplyAdam is one pass over memory instead of a dozen"
        ),
    },
    "keras_internals.py": {
        **{
            name: "rotary positions and grouped heads between Keras's own projections and attention"
            for name in (
                "_combine_equation",
                "_compute_attention",
                "_dot_product_equation",
                "_get_common_kwargs_for_sublayer",
                "_softmax",
            )
        },
        **{
            name: "query, key and value in one product, in the place of Keras's attention"
            for name in (
                "_build_attention",
                "_dropout",
                "_dropout_layer",
                "_key_dense",
                "_output_dense",
                "_query_dense",
                "_value_dense",
            )
        },
        **{
            name: "QLoRA reads the kernels that Keras has quantized, which have no public form"
            for name in ("_int4_block_size", "_kernel", "_orig_input_dim", "_orig_output_dim")
        },
        "_value": "the float32 value, where mixed precision would round it",
        "_adamw_update_step": "Muon's part for what is not a matrix, in one operation",
        "_all_reduce_sum_gradients": "the step has taken the mean of the gradients already",
        "_get_current_learning_rate": "computed once a step, not once a variable",
        "_get_variable_index": "finds the averages of a variable",
        "_momentums": "Adam's averages, for the one operation",
        "_muon_update_step": "attention's kernels are matrices too, if Keras gives them three axes",
        "_should_use_adamw": "the same",
        "_trainable_variables": "finds a variable by its index",
        "_velocities": "Adam's averages, for the one operation",
        "lr_adjust": "Keras's Muon scales the rate by it",
        "zeropower_via_newtonschulz5": "Keras's orthogonalization, of a matrix that we shape",
    },
}
"""File -> name -> why there is no public way. Names alone count, not folders: rooms may move.

Who adds one looks for a public way first, and then writes the reason here.
"""


@pytest.fixture(scope="module")
def found() -> dict[str, set[str]]:
    own = own_private_names() - {"_cache", "_value"}
    result: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if not re.search(r"\bimport (keras|tensorflow)|\bfrom (keras|tensorflow|numba)\b", text):
            continue
        names = {n for n in names_in(ast.parse(text)) if "." in n or n not in own}
        names |= overridden(path)
        if names:
            result.setdefault(path.name, set()).update(names)
    return result


def test_private_names_of_the_libraries_are_the_known_ones(found):
    new = {file: sorted(names - set(ALLOWED.get(file, ()))) for file, names in found.items()}
    new = {file: names for file, names in new.items() if names}
    assert not new, f"private names without a reason: find a public way, or add them: {new}"


def test_each_library_has_one_module(found):
    assert set(found) == {"numba_internals.py", "keras_internals.py", "tensorflow_internals.py"}


def test_no_reason_stands_for_what_is_gone(found):
    gone = {file: sorted(set(names) - found.get(file, set())) for file, names in ALLOWED.items()}
    gone = {file: names for file, names in gone.items() if names}
    assert not gone, f"no longer in use: take them off the list: {gone}"


def test_a_private_name_is_found():
    text = "from keras.src.saving import x\nlayer._kernel\ntf.raw_ops.Add\ngetattr(a, '_b')\n"
    text += "late('numba.core.c')\n"
    expected = {"keras.src.saving.x", "_kernel", "raw_ops", "_b", "numba.core.c"}
    assert names_in(ast.parse(text)) == expected


def test_versions_beyond_those_tried_are_not_installed():
    """A release of these three may change private names, so a new minor is let in by hand."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    required = settings["options"]["install_requires"].split()
    for library in LIBRARIES:
        (line,) = (line for line in required if re.match(rf"{library}[<>=]", line))
        assert re.search(r",<\d+\.\d+$", line), line
