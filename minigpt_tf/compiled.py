"""Functions that Numba compiles, with their machine code kept on disk.

The only module that uses private names of Numba; `tests/test_private_api.py` says why.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import llvmlite.binding
from numba import njit
from numba.core import cgutils, config
from numba.core.caching import FunctionCache

# Sums may be regrouped, which lets them run in vector registers; nothing is assumed of NaN and
# infinity. No function allocates, so none needs Numba's counting of references.
_OPTIONS = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "nsz"},
    "_nrt": False,
}


def cpu_features() -> dict[str, bool]:
    """What the processor has that machine code is made for, by LLVM's names."""
    text = config.CPU_FEATURES
    if text is None:
        return dict(llvmlite.binding.get_host_cpu_features())
    return {word[1:]: word[0] == "+" for word in text.split(",") if word}


class _Cache(FunctionCache):
    """Numba's cache of machine code. Everything works without it, but starts slower."""

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


class CacheStatistics(Protocol):
    """What Numba counts of a function's machine code on disk."""

    cache_path: str | None


class Compiled(Protocol):
    """A function that Numba has compiled, as Python sees it."""

    @property
    def stats(self) -> CacheStatistics: ...

    def __call__(self, *arguments: Any) -> Any: ...


def entry(function: Callable) -> Compiled:
    """Compiles a function that Python calls, and keeps the machine code on disk.

    The code is compiled again when the function's file changes; functions that it calls should be
    in the same file.
    """
    compiled = njit(**_OPTIONS)(function)
    with contextlib.suppress(RuntimeError):  # no folder for the cache is writable
        compiled._cache = _Cache(function)
    return compiled


def inner(function: Callable) -> Any:
    """Compiles a function that only compiled functions call."""
    return njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **_OPTIONS)(function)


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
