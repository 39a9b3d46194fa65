"""Pickled vocabularies, read without running code.

A pickle is a program for a small stack machine, and Python's unpickler runs all of it: it looks up
and calls what the program names, sets attributes of objects, and takes gigabytes where nine bytes
ask for them. The machine below knows only the instructions that make plain data: dicts, lists,
tuples, strings and numbers, of exactly these types. It imports nothing, calls nothing and sets
nothing, so a hostile file has nothing to work with.

A `Tokenizer`, this project's or Keras's, pickled in a notebook is read as a record of its
attributes. Any other class or function that a pickle names is refused.
"""

import codecs
import pickle
import struct
from collections.abc import Callable
from typing import Any

from ..errors import DataError

KERAS_TOKENIZER_MODULES = frozenset(
    {
        "keras_preprocessing.text",
        "keras.preprocessing.text",
        "keras.legacy.preprocessing.text",
        "keras._legacy.preprocessing.text",
        "keras.src.preprocessing.text",
        "keras.src.legacy.preprocessing.text",
        "tensorflow.keras.preprocessing.text",
        "tensorflow.python.keras.preprocessing.text",
        "tensorflow.python.keras._impl.keras.preprocessing.text",
        "tf_keras.preprocessing.text",
        "tf_keras.src.preprocessing.text",
    }
)
"""Where Keras's `Tokenizer` has lived over the years; a pickle remembers the place of its day."""

TOKENIZER_HOME = "minigpt_tf"
"""Where our own `Tokenizer` lives, as a pickle names it: a place that no move of a file changes."""

LONGEST_NUMBER = 20
"""Digits, or bytes, of a number in a pickle at most: what 64 bits hold takes no more."""


class PickledTokenizer:
    """Stands in for a pickled `Tokenizer`: its attributes as `state`, none of its code."""

    state: dict[str, Any] | None = None


class _Name:
    """Stands in for a class or function that a pickle names: one of those below, never the real."""

    def __init__(self, role: str) -> None:
        self.role = role


_ROLES = {
    ("collections", "OrderedDict"): "dict",
    ("collections", "defaultdict"): "dict",
    ("builtins", "int"): "int",  # what a defaultdict(int) is made with
    ("__builtin__", "int"): "int",  # Python 2's names stand in pickles of protocol 0 to 2
    ("__builtin__", "long"): "int",
    ("builtins", "object"): "object",
    ("__builtin__", "object"): "object",
    ("copyreg", "_reconstructor"): "new",  # how pickle protocols 0 and 1 make an object
    ("copy_reg", "_reconstructor"): "new",
}
_ROLES |= {(module, "Tokenizer"): "tokenizer" for module in KERAS_TOKENIZER_MODULES}
_ROLES[TOKENIZER_HOME, "Tokenizer"] = "tokenizer"


def load_plain_pickle(content: bytes) -> Any:
    """What a pickle of plain data, or of a `Tokenizer`, holds.

    Args:
        content: The pickle, of any protocol.

    Returns:
        Plain data; an OrderedDict or a defaultdict as a dict, a `Tokenizer` as a PickledTokenizer.

    Raises:
        DataError: For everything else.

    Example:
        >>> load_plain_pickle(pickle.dumps({"a": [1, None]}))
        {'a': [1, None]}
    """
    try:
        return _Machine(content).run()
    except MemoryError:
        raise DataError("is damaged: it asks for more memory than there is") from None
    except IndexError:
        raise DataError("is not a readable pickle: it is truncated or damaged") from None
    except (ValueError, struct.error) as error:
        raise DataError(f"is not a readable pickle: {error}") from None


def dump_plain_pickle(values: dict[str, Any]) -> bytes:
    """Plain data as a pickle that `load_plain_pickle` (and any Python 3) reads."""
    return pickle.dumps(values, protocol=4)


class _Machine:
    """Runs a pickle; the opcodes are described in Python's `pickletools`."""

    def __init__(self, content: bytes) -> None:
        self.content, self.place = content, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}  # a dict: a list would grow as far as a hostile key says

    def run(self) -> Any:
        """The value that the pickle makes. Raises IndexError where it ends too early."""
        content, push = self.content, self.stack.append
        while (opcode := content[self.place]) != _STOP:
            self.place += 1
            if value := _VALUES.get(opcode):
                push(value(self))
            elif action := _ACTIONS.get(opcode):
                action(self)
            else:
                raise DataError(
                    f"is not a pickle of plain data: it has the instruction {chr(opcode)!a} at "
                    f"byte {self.place - 1}"
                )
        return self.stack.pop()

    # What follows an opcode

    def take(self, size: int) -> bytes:
        """So many bytes."""
        end = self.place + size
        if end > len(self.content):
            raise IndexError
        taken = self.content[self.place : end]
        self.place = end
        return taken

    def number(self, size: int) -> int:
        """An unsigned number of so many bytes."""
        return int.from_bytes(self.take(size), "little")

    def signed(self, size: int) -> int:
        """A number in two's complement."""
        if size > LONGEST_NUMBER:
            raise ValueError(f"it has a number of {size} bytes")
        return int.from_bytes(self.take(size), "little", signed=True)

    def text(self, length_size: int) -> str:
        """A string after its length."""
        start = self.place + length_size
        end = start + int.from_bytes(self.content[self.place : start], "little")
        if end > len(self.content):
            raise IndexError
        self.place = end
        return str(self.content[start:end], "utf-8", "surrogatepass")

    def short_text(self) -> str:
        """A string after its length in one byte: most of what is in a vocabulary."""
        start = self.place + 1
        self.place = end = start + self.content[self.place]
        if end > len(self.content):
            raise IndexError
        return self.content[start:end].decode("utf-8", "surrogatepass")

    def line(self) -> bytes:
        """The bytes up to the next line end."""
        end = self.content.find(b"\n", self.place)
        if end < 0:
            raise IndexError
        line = self.content[self.place : end]
        self.place = end + 1
        return line

    def digits(self) -> int:
        """A number written in decimal digits."""
        line = self.line().removesuffix(b"L")
        if len(line) > LONGEST_NUMBER:
            raise ValueError(f"it has a number of {len(line)} digits")
        return int(line)

    def digits_or_bool(self) -> int | bool:
        """The same; 00 and 01 are how protocol 0 writes False and True."""
        if self.content[self.place : self.place + 3] in (b"00\n", b"01\n"):
            return self.line() == b"01"
        return self.digits()

    def quoted(self) -> str:
        """A string as Python 2 writes it."""
        line = self.line()
        if len(line) < 2 or line[:1] not in (b"'", b'"') or line[:1] != line[-1:]:
            raise ValueError("it has a string without quotes")
        return str(codecs.escape_decode(line[1:-1])[0], "utf-8")

    # The stack

    def since_mark(self) -> list[Any]:
        """Takes what was pushed since the last mark."""
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def last(self, size: int) -> tuple[Any, ...]:
        """Takes the last values."""
        if size > len(self.stack):
            raise IndexError
        values = tuple(self.stack[-size:])
        del self.stack[-size:]
        return values

    def extend(self, values: list[Any]) -> None:
        """Appends to the list on top."""
        if type(self.stack[-1]) is not list:
            raise ValueError("it appends to what is not a list")
        self.stack[-1].extend(values)

    def update(self, values: list[Any]) -> None:
        """Sets the keys and values in the dict on top."""
        if type(self.stack[-1]) is not dict:
            raise ValueError("it sets a key of what is not a dict")
        self.stack[-1].update(_pairs(values))

    def remember(self, key: int) -> None:
        """Keeps the value on top under a key."""
        self.memo[key] = self.stack[-1]

    def remember_next(self) -> None:
        """The same, under the next key."""
        self.memo[len(self.memo)] = self.stack[-1]

    def remembered(self, key: int) -> Any:
        """The value under a key."""
        if key not in self.memo:
            raise ValueError("it refers to a value that it does not have")
        return self.memo[key]

    # Names and what is made with them

    def stand_in(self, module: Any, name: Any) -> _Name:
        """For a class or function that is named."""
        role = _ROLES.get((module, name)) if type(module) is type(name) is str else None
        if role is None:
            named = f"{module}.{name}" if type(module) is type(name) is str else "no name"
            raise DataError(
                f"names {named:.80}: a tokenizer file holds plain data or a Tokenizer, and nothing "
                "else is loaded from it"
            )
        return _Name(role)

    def call(self) -> Any:
        """What REDUCE makes: an empty dict, or one with Python 2's list of pairs; a tokenizer."""
        called, arguments = self.last(2)
        if type(called) is not _Name or type(arguments) is not tuple:
            raise ValueError("it calls what is not a class")
        roles = [a.role if type(a) is _Name else type(a).__name__ for a in arguments]
        if called.role == "dict" and roles in ([], ["int"]):
            return {}
        if called.role == "dict" and roles == ["list"]:
            pairs = arguments[0]
            if all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
                return _pairs([value for pair in pairs for value in pair])
        if called.role == "new" and roles == ["tokenizer", "object", "NoneType"]:
            return PickledTokenizer()
        raise ValueError("it makes something other than a dict or a Tokenizer")

    def new(self) -> PickledTokenizer:
        """What NEWOBJ makes, as protocols from 2 on do."""
        made, arguments = self.last(2)
        if type(made) is not _Name or made.role != "tokenizer" or arguments != ():
            raise ValueError("it makes something other than a Tokenizer")
        return PickledTokenizer()

    def build(self) -> None:
        """Gives a tokenizer its attributes: a dict by their names, and once."""
        state, record = self.stack.pop(), self.stack[-1]
        if type(record) is not PickledTokenizer:
            raise ValueError("it sets attributes of what is not a Tokenizer")
        if type(state) is not dict or any(type(name) is not str for name in state):
            raise ValueError("its Tokenizer has attributes without names")
        if record.state is not None:
            raise ValueError("it sets the attributes of a Tokenizer twice")
        record.state = state


def _pairs(values: list[Any]) -> dict[Any, Any]:
    """[key, value, key, value ...] as a dict. Keys are strings and integers: the hash of a tuple of
    tuples of tuples may take for ever."""
    keys = values[::2]
    if not {*map(type, keys)} <= {str, int}:
        raise ValueError("it has a key that is neither a string nor an integer")
    return dict(zip(keys, values[1::2], strict=True))


_STOP = ord(".")

_VALUES: dict[int, Callable[[_Machine], Any]] = {
    ord("N"): lambda m: None,
    0x88: lambda m: True,
    0x89: lambda m: False,
    ord("K"): lambda m: m.number(1),
    ord("M"): lambda m: m.number(2),
    ord("J"): lambda m: m.signed(4),
    0x8A: lambda m: m.signed(m.number(1)),
    0x8B: lambda m: m.signed(m.number(4)),
    ord("I"): _Machine.digits_or_bool,
    ord("L"): _Machine.digits,
    ord("G"): lambda m: struct.unpack(">d", m.take(8))[0],
    ord("F"): lambda m: float(m.line()),
    0x8C: _Machine.short_text,
    ord("X"): lambda m: m.text(4),
    0x8D: lambda m: m.text(8),
    ord("V"): lambda m: str(m.line(), "raw-unicode-escape"),
    ord("S"): _Machine.quoted,
    ord("U"): _Machine.short_text,  # Python 2's strings, as from here on text in UTF-8
    ord("T"): lambda m: m.text(4),
    ord("]"): lambda m: [],
    ord("l"): _Machine.since_mark,
    ord("}"): lambda m: {},
    ord("d"): lambda m: _pairs(m.since_mark()),
    ord(")"): lambda m: (),
    ord("t"): lambda m: tuple(m.since_mark()),
    0x85: lambda m: m.last(1),
    0x86: lambda m: m.last(2),
    0x87: lambda m: m.last(3),
    ord("2"): lambda m: m.stack[-1],
    ord("g"): lambda m: m.remembered(m.digits()),
    ord("h"): lambda m: m.remembered(m.number(1)),
    ord("j"): lambda m: m.remembered(m.number(4)),
    ord("c"): lambda m: m.stand_in(str(m.line(), "utf-8"), str(m.line(), "utf-8")),
    0x93: lambda m: m.stand_in(*m.last(2)),
    ord("R"): _Machine.call,
    0x81: _Machine.new,
}
"""Opcodes that push a value."""

_ACTIONS: dict[int, Callable[[_Machine], Any]] = {
    0x80: lambda m: m.take(1),  # the protocol
    0x95: lambda m: m.take(8),  # the length of a frame
    ord("("): lambda m: m.marks.append(len(m.stack)),
    ord("0"): lambda m: m.stack.pop(),
    ord("1"): _Machine.since_mark,
    ord("a"): lambda m: m.extend([m.stack.pop()]),
    ord("e"): lambda m: m.extend(m.since_mark()),
    ord("s"): lambda m: m.update([*m.last(2)]),
    ord("u"): lambda m: m.update(m.since_mark()),
    0x94: _Machine.remember_next,
    ord("p"): lambda m: m.remember(m.digits()),
    ord("q"): lambda m: m.remember(m.number(1)),
    ord("r"): lambda m: m.remember(m.number(4)),
    ord("b"): _Machine.build,
}
"""Opcodes that change what is there."""
