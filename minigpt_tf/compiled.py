"""Functions that Numba compiles, with their machine code kept on disk.

Numba is imported when something has to be compiled, and not before: it takes longer than an answer.
The only module that uses private names of Numba; `tests/test_private_api.py` says why.
"""

import contextlib
import functools
import importlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from .instruction_sets import limit_numba


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
_INNER_OPTIONS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, **_OPTIONS}


class CacheStatistics(Protocol):
    """What Numba counts of a function's machine code on disk."""

    cache_path: str | None


class Compiled(Protocol):
    """A function that Numba has compiled, as Python sees it."""

    @property
    def stats(self) -> CacheStatistics: ...

    def __call__(self, *arguments: Any) -> Any: ...


class Lazy:
    """A function of compiled code that Numba learns of when it is first compiled or called.

    Args:
        function: In Python.
        make: Makes Numba's form of it, of the function.
    """

    def __init__(self, function: Callable, make: Callable[[Callable], Any]) -> None:
        self._function, self._make, self._lock = function, make, threading.RLock()
        self._form: Any = None
        self.__name__, self.__doc__ = function.__name__, function.__doc__
        self.__module__ = function.__module__

    @property
    def numba_form(self) -> Any:
        """What Numba knows the function as."""
        with self._lock:
            if self._form is None:
                _teach_numba()
                self._form = self._make(self._function)
            return self._form


class Entry(Lazy):
    """A function that Python calls."""

    @property
    def stats(self) -> CacheStatistics:
        """What Numba counts of its machine code on disk."""
        return self.numba_form.stats

    def __call__(self, *arguments: Any) -> Any:
        return self.numba_form(*arguments)


def entry(function: Callable) -> Entry:
    """Compiles a function that Python calls, and keeps the machine code on disk.

    The code is compiled again when the function's file or one beside it changes; functions that it
    calls should be in that folder.

    Args:
        function: In the part of Python that Numba compiles. It neither allocates nor raises.

    Returns:
        The function, compiled at its first call with arguments of some types.
    """
    return Entry(function, _with_cache)


def inner(function: Callable) -> Any:
    """Compiles a function that only compiled functions call.

    Args:
        function: As for `entry`.

    Returns:
        The function, for compiled functions.
    """
    return Lazy(function, _without_wrappers)


def intrinsic(function: Callable, prefer_literal: bool = False) -> Any:
    """A function that writes LLVM instructions: Numba's `intrinsic`, without importing Numba.

    Args:
        function: (typing context, types of the arguments...) -> (signature, generate), as for
            Numba's; `types`, `ir` and `cgutils` of this module do not import Numba early either.
        prefer_literal: Whether it gets the values of constants among the arguments.

    Returns:
        The function, for compiled functions.
    """
    return Lazy(function, functools.partial(_intrinsic, prefer_literal=prefer_literal))


def external(name: str, result: str, *arguments: str) -> Any:
    """A function of the C library.

    Args:
        name: Its symbol.
        result: Numba's name of the result's type, such as "int32".
        arguments: The same of the arguments' types.

    Returns:
        The function, for compiled functions.
    """

    def make(_: Callable) -> Any:
        signature = getattr(types, result)(*(getattr(types, each) for each in arguments))
        return types.ExternalFunction(name, signature)

    return Lazy(external, make)


def item_pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """LLVM's pointer to array[index], for an `intrinsic` of (array, index, ...).

    Args:
        context: What Numba gives to an intrinsic's `generate`, as are the following.
        builder: Of LLVM instructions.
        signature: Types of the arguments.
        arguments: Their LLVM values.

    Returns:
        The LLVM value of the pointer.
    """
    array_type = signature.args[0]
    array = context.make_array(array_type)(context, builder, arguments[0])
    return cgutils.get_item_pointer(context, builder, array_type, array, [arguments[1]])


@functools.cache
def _teach_numba() -> None:
    """Compiled functions may use what this module has wrapped: its type is that of Numba's form."""
    limit_numba()
    from numba.core.registry import cpu_target
    from numba.extending import typeof_impl

    @typeof_impl.register(Lazy)
    def _(value: Lazy, _: Any) -> Any:
        form = value.numba_form
        cpu_target.typing_context.refresh()  # it may be a new intrinsic
        return cpu_target.typing_context.resolve_value_type(form)


def _without_wrappers(function: Callable) -> Any:
    from numba import njit

    return njit(**_INNER_OPTIONS)(function)


def _intrinsic(function: Callable, prefer_literal: bool) -> Any:
    from numba.extending import intrinsic as numba_intrinsic

    return numba_intrinsic(prefer_literal=prefer_literal)(function)


def _with_cache(function: Callable) -> Any:
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
        def __init__(self, function):
            super().__init__(function)
            # Numba looks at the function's file; what it calls may be in others beside it.
            folder = Path(function.__code__.co_filename).parent
            stamps = [(p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in folder.glob("*.py")]
            self._cache_file._source_stamp = (self._cache_file._source_stamp, *sorted(stamps))

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


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Delays Ctrl-C until the end of the block: Numba may lose or garble it while it compiles."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[Any, ...]] = []
    handler = signal.signal(signal.SIGINT, lambda *details: came.append(details))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler or signal.SIG_DFL)
        if came and callable(handler):
            handler(*came[0])
