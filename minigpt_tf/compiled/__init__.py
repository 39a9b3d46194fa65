"""Functions that Numba compiles, with their machine code kept on disk.

A start that finds the machine code imports neither Numba nor LLVM, which would take longer than a
short answer: on Linux with an x86-64 processor the code is kept as an image (`object_file`, `kept`)
that `machine_code` calls. Elsewhere, and for arguments of other types, Numba keeps and calls it.
"""

import contextlib
import ctypes
import functools
import importlib
import os
import signal
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any, Protocol, cast

from ..machine import limit_numba
from . import arguments as of_arguments
from . import kept, machine_code
from .forks import COMPILING
from .kept import SUFFIX
from .machine_code import Image, UnsupportedCode
from .numba_internals import (
    cgutils,
    compile_image,
    inner_form,
    intrinsic_form,
    ir,
    outer_form,
    teach_numba,
    types,
)
from .origin import UnknownValue, identity, origin

__all__ = [
    "SUFFIX",
    "Compiled",
    "Entry",
    "cgutils",
    "entry",
    "external",
    "inner",
    "intrinsic",
    "ir",
    "item_pointer",
    "machine_code_folder",
    "types",
    "uninterrupted",
]


limit_numba()


class Compiled(Protocol):
    """A function that is compiled at its first call, as Python sees it."""

    __wrapped__: Callable

    def __call__(self, *arguments: Any) -> Any: ...

    def prepare(self, *arguments: Any) -> bool: ...

    def bind(self, *arguments: Any) -> Callable[[], Any]: ...


class Lazy:
    """A function of compiled code that Numba learns of when it is compiled, and not before.

    Args:
        function: In Python.
        make: Makes Numba's form of it, of the function.
    """

    def __init__(self, function: Callable, make: Callable[[Callable], Any]) -> None:
        self._make = make
        self._form: Any = None
        self.__wrapped__ = function
        self.__name__, self.__doc__ = function.__name__, function.__doc__
        self.__module__ = function.__module__

    @property
    def numba_form(self) -> Any:
        """What Numba knows the function as.

        No lock: who asks may hold Numba's, for which a thread that compiles this function waits.
        """
        if self._form is None:
            _teach_numba()
            form = self._make(self.__wrapped__)
            self._form = self._form or form  # another thread may have been faster
        return self._form

    def __deepcopy__(self, _: dict) -> "Lazy":
        return self

    def __reduce__(self) -> tuple[Callable, tuple[str, str, str]]:
        """Numba tells closures apart by a hash of what they enclose, pickled."""
        function = cast(FunctionType, self.__wrapped__)
        return _found_again, (self.__module__, self.__name__, origin(function))


def _found_again(module: str, name: str, _: str) -> Any:
    return getattr(importlib.import_module(module), name)


@functools.cache
def _teach_numba() -> None:
    teach_numba(Lazy)


class _Code:
    """Machine code of a function for arguments of some kinds, in memory.

    Args:
        image: The code.
        pack: From `arguments.packer`.
    """

    def __init__(self, image: Image, pack: of_arguments.Packer) -> None:
        self._run, self._pack = machine_code.load(image), pack
        self._result = machine_code.RESULTS[image.result]

    def call(self, leaves: of_arguments.Leaves) -> Any:
        """The result; NotImplemented for arrays of other kinds."""
        result = self._result()
        status = self._run(leaves, self._pack(leaves), ctypes.byref(result))
        if status:
            if status == machine_code.OTHER_ARRAYS:
                return NotImplemented
            raise RuntimeError("an error in compiled code")
        return result.value

    def bind(self, leaves: of_arguments.Leaves) -> Callable[[], Any]:
        """The call, which then is a single one into C; true if it fails."""
        result = ctypes.byref(self._result())
        return functools.partial(self._run, leaves, self._pack(leaves), result)


class Entry(Lazy):
    """A function that Python calls."""

    def __init__(self, function: Callable) -> None:
        super().__init__(function, inner_form)
        self._codes: dict[of_arguments.Kinds, _Code | None] = {}
        """None where Numba must make the call."""
        self._latest: dict[of_arguments.Classes, _Code | None] = {}
        self._by_numba: Any = None

    def __call__(self, *arguments: Any) -> Any:
        classes, leaves = of_arguments.take_apart(arguments)
        code = self._latest.get(classes)
        try:
            if code is None or (result := code.call(leaves)) is NotImplemented:
                code = self._latest[classes] = self._code_for(classes, leaves, arguments)
                result = code.call(leaves) if code else self.numba_call(*arguments)
        except struct.error:  # an integer of more than 64 bits
            return self.numba_call(*arguments)
        return result

    def prepare(self, *arguments: Any) -> bool:
        """Compiles the function for such arguments, or finds its machine code.

        Args:
            arguments: Of the function.

        Returns:
            Whether it can be called without Numba.
        """
        classes, leaves = of_arguments.take_apart(arguments)
        if classes not in self._latest:
            self._latest[classes] = self._code_for(classes, leaves, arguments)
        return self._latest[classes] is not None

    def bind(self, *arguments: Any) -> Callable[[], Any]:
        """A call that Ctrl-C cannot interrupt once it has begun, which it can any other function.

        Args:
            arguments: Of the function.

        Returns:
            The call, for a function without a result. It is true if nothing was done, since arrays
            are of kinds with which the function was not called last.
        """
        classes, leaves = of_arguments.take_apart(arguments)
        if classes not in self._latest:
            self._latest[classes] = self._code_for(classes, leaves, arguments)
        code = self._latest[classes]
        return code.bind(leaves) if code else functools.partial(self.numba_call, *arguments)

    @property
    def numba_call(self) -> Callable[..., Any]:
        """The function as Numba calls it, which finds out itself what the arguments are."""
        with COMPILING:
            if self._by_numba is None:
                _teach_numba()
                self._by_numba = outer_form(self.__wrapped__)
        return self._by_numba

    def _code_for(
        self, classes: of_arguments.Classes, leaves: of_arguments.Leaves, arguments: tuple
    ) -> _Code | None:
        kinds = of_arguments.kinds_of(classes, leaves)
        with COMPILING:
            if kinds not in self._codes:
                self._codes[kinds] = self._make_code(classes, leaves, arguments)
            return self._codes[kinds]

    def _make_code(
        self, classes: of_arguments.Classes, leaves: of_arguments.Leaves, arguments: tuple
    ) -> _Code | None:
        """Machine code from a file or the compiler; None if Numba must call it."""
        pack = of_arguments.packer(leaves)
        if pack is None or not _keeps_images():
            return None
        function = cast(FunctionType, self.__wrapped__)
        try:
            who = f"{identity(function)} of {of_arguments.describe(classes, leaves)}"
            wanted = {"function": who, "origin": origin(function), **kept.environment()}
            source = function.__code__.co_filename
            name = kept.file_name(function.__module__, function.__name__, wanted)
            image = kept.read(source, name, wanted)
            if image is not None:
                with contextlib.suppress(UnsupportedCode):
                    return _Code(image, pack)
            image = compile_image(self.numba_form, arguments, leaves)
            code = _Code(image, pack)
        except (UnknownValue, UnsupportedCode):
            return None
        kept.write(source, name, wanted, image)
        return code


@functools.cache
def _keeps_images() -> bool:
    """Whether machine code can be kept and called without Numba on this system."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        return False
    if sys.platform != "linux" or os.uname().machine != "x86_64" or sys.maxsize < 2**32:
        return False
    if sys.implementation.name != "cpython" or "t" in sys.abiflags:  # without a global lock
        return False
    try:
        machine_code.check_layouts()
    except UnsupportedCode:
        return False
    return True


def machine_code_folder(function: Compiled) -> Path | None:
    """Where the machine code of a function is kept.

    Args:
        function: An `entry`.

    Returns:
        The folder, which need not exist yet; None if none can be written.
    """
    source = cast(FunctionType, function.__wrapped__).__code__.co_filename
    return kept.writable_folder(source)


def entry(function: Callable) -> Entry:
    """Compiles a function that Python calls, and keeps the machine code on disk.

    The code is compiled again when the function's Python code changes, or that of a function which
    it calls.

    Args:
        function: In the part of Python that Numba compiles. It neither allocates nor raises.

    Returns:
        The function, compiled at its first call with arguments of some types.
    """
    return Entry(function)


def inner(function: Callable) -> Any:
    """Compiles a function that only compiled functions call.

    Args:
        function: As for `entry`.

    Returns:
        The function, for compiled functions.
    """
    return Lazy(function, inner_form)


def intrinsic(function: Callable, prefer_literal: bool = False) -> Any:
    """A function that writes LLVM instructions: Numba's `intrinsic`, without importing Numba.

    Args:
        function: (typing context, types of the arguments...) -> (signature, generate), as for
            Numba's; `types`, `ir` and `cgutils` of this module do not import Numba early either.
        prefer_literal: Whether it gets the values of constants among the arguments.

    Returns:
        The function, for compiled functions.
    """
    return Lazy(function, functools.partial(intrinsic_form, prefer_literal=prefer_literal))


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

    return Lazy(make, make)


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
