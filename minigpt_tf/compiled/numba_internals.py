"""The one module that uses private names of Numba; `tests/test_private_api.py` says why.

Numba is imported where something has to be compiled, and not before: that takes longer than a short
answer.
"""

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from .arguments import Leaves
from .machine_code import RESULTS, Image, UnsupportedCode
from .origin import origin


class LazyModule:
    """A module that is imported when something of it is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by inspect, pickle and others of any object
            raise AttributeError(name)
        return getattr(importlib.import_module(self._name), name)


types: Any = LazyModule("numba.types")
"""Numba's types, for an `intrinsic` or an `external` function."""
cgutils: Any = LazyModule("numba.core.cgutils")
"""Numba's helpers that build LLVM instructions."""
ir: Any = LazyModule("llvmlite.ir")
"""LLVM's types and instructions."""

# Sums may be regrouped, which lets them run in vector registers; nothing is assumed of NaN and
# infinity. No function allocates, so none needs Numba's counting of references.
_OPTIONS = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "nsz"},
    "_nrt": False,
}


# ---------------------------------------------------------------- forms of a function


def teach_numba(wrapper: type) -> None:
    """Lets compiled functions use objects of a class as what their `numba_form` is.

    Args:
        wrapper: The class.
    """
    from numba.core.registry import cpu_target
    from numba.extending import typeof_impl

    known: WeakKeyDictionary = WeakKeyDictionary()

    @typeof_impl.register(wrapper)
    def _(value: Any, _: Any) -> Any:
        if value not in known:
            form = value.numba_form
            cpu_target.typing_context.refresh()  # it may be an intrinsic
            known[value] = cpu_target.typing_context.resolve_value_type(form)
        return known[value]


def inner_form(function: Callable) -> Any:
    """A function as other compiled functions call it.

    Args:
        function: In Python.

    Returns:
        Numba's dispatcher.
    """
    from numba import njit

    return njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **_OPTIONS)(function)


def intrinsic_form(function: Callable, prefer_literal: bool) -> Any:
    """A function that writes LLVM instructions.

    Args:
        function: In Python.
        prefer_literal: Whether it gets the values of constants among the arguments.

    Returns:
        Numba's intrinsic.
    """
    from numba.extending import intrinsic

    return intrinsic(prefer_literal=prefer_literal)(function)


def outer_form(function: Callable) -> Any:
    """A function as Python calls it by way of Numba, which keeps its machine code.

    Args:
        function: In Python.

    Returns:
        Numba's dispatcher.
    """
    from numba import njit

    compiled = njit(**_OPTIONS)(function)
    with contextlib.suppress(RuntimeError):  # no folder for the cache is writable
        compiled._cache = _cache_class()(function)
    return compiled


@functools.cache
def _cache_class() -> Any:
    """Numba's cache of machine code. Everything works without it, but starts slower."""
    from numba.core.caching import FunctionCache

    class Cache(FunctionCache):
        def _index_key(self, signature, codegen):
            """Numba itself notices a change of the function's own file alone."""
            return (*super()._index_key(signature, codegen), origin(self._py_func))

        def load_overload(self, signature, target_context):
            try:
                return super().load_overload(signature, target_context)
            except Exception:  # damaged files raise many kinds
                self._forget()
                return None

        def save_overload(self, signature, data):
            with contextlib.suppress(OSError):  # a full disk, say
                super().save_overload(signature, data)

        def _forget(self):
            with contextlib.suppress(OSError):
                self.flush()

    return Cache


# ---------------------------------------------------------------- an image of a function


def compile_image(form: Any, arguments: tuple, leaves: Leaves) -> Image:
    """Compiles a function for arguments of some types.

    Args:
        form: Its `inner_form`.
        arguments: Examples.
        leaves: Of these.

    Returns:
        The machine code of the C function that `machine_code.load` describes. The status is 0
        unless the function has raised.

    Raises:
        UnsupportedCode: Only Numba itself can run it.
    """
    from numba import typeof

    from .entry_code import ENTRY, entry_code
    from .object_file import link

    signature = tuple(map(typeof, arguments))
    codegen = form.targetctx.codegen()
    with _instructions_only(codegen):
        form.compile(signature)
    compiled = form.overloads[signature]
    result = str(compiled.signature.return_type)
    if result not in RESULTS:
        raise UnsupportedCode(f"a result of type {result}")
    name = compiled.fndesc.llvm_func_name
    module = compiled.library._final_module
    declared = str(module.get_function(name).global_value_type)
    code = codegen._tm.emit_object(module)
    leaf_types = list(_leaf_types(signature))
    if len(leaf_types) != len(leaves):
        raise UnsupportedCode(f"arguments of types {signature}")
    passed = [_passed(*pair) for pair in zip(leaf_types, leaves, strict=True)]
    image = link([_emit(entry_code(name, declared, passed)), code], ENTRY)
    image.result = result
    return image


@contextlib.contextmanager
def _instructions_only(codegen: Any) -> Iterator[None]:
    """Lets Numba stop at LLVM's instructions: it would make machine code of each inner function,
    which nobody calls, before it makes that of the whole."""
    from numba.core.compiler_lock import global_compiler_lock

    with global_compiler_lock:
        codegen._add_module = lambda module: None
        codegen.set_env = lambda name, environment: None
        try:
            yield
        finally:
            del codegen._add_module, codegen.set_env


def _emit(code: str) -> bytes:
    """LLVM's language -> an object file."""
    from llvmlite import binding

    module = binding.parse_assembly(code)
    module.verify()
    target = binding.Target.from_default_triple()
    processor = binding.get_host_cpu_name()
    machine = target.create_target_machine(cpu=processor, reloc="static", codemodel="large")
    return machine.emit_object(module)


def _leaf_types(argument_types: Any) -> Iterator[Any]:
    """The types of all arrays and numbers among the arguments, in order."""
    for each in argument_types:
        if isinstance(each, types.BaseTuple):
            yield from _leaf_types(each.types)
        else:
            yield each


def _passed(kind: Any, leaf: Any) -> Any:
    """How an argument is passed: the array, or LLVM's type of the number."""
    if isinstance(kind, types.Array):
        return leaf
    if kind == types.boolean:
        return "i8"
    if kind == types.int64:
        return "i64"
    if kind in (types.float32, types.float64):
        return "float" if kind == types.float32 else "double"
    raise UnsupportedCode(f"an argument of type {kind}")
