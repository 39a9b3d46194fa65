"""LLVM's object files -> an image: bytes that run wherever they lie in memory, but for some places.

The little that a linker does for code of this kind: it allocates nothing and has no variables. The
formats: Tool Interface Standard, "Executable and Linking Format" 1.2; "System V ABI, AMD64
Architecture Processor Supplement" 1.0, table 4.9 (relocations).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from .machine_code import Image, UnsupportedCode

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_IDENTITY = b"\x7fELF\x02\x01\x01"  # 64 bits, little-endian, version 1
_RELOCATABLE, _X86_64 = 1, 62
_SYMBOLS, _NOBITS, _RELOCATIONS = 2, 8, 4
_WRITE, _ALLOCATE = 1, 2
_UNDEFINED, _COMMON = 0, 0xFFF2
_ABSOLUTE_64, _RELATIVE_32, _CALL_32, _RELATIVE_64 = 1, 2, 4, 24
_UNWIND_TABLES = (".eh_frame", ".note", ".gcc_except")
_CONSTANTS = ".data.rel.ro"
"""Sections of this name are written to by a linker, and not by the code."""
_UNUSED_VARIABLE = "_ZN08NumbaEnv"
"""Numba's link from a function to its Python objects: empty, since this code has none."""


@dataclass
class _Section:
    name: str
    kind: int
    flags: int
    content: bytes
    link: int
    info: int
    alignment: int


@dataclass
class _Symbol:
    name: str
    section: int
    value: int


class _Object:
    """The sections and symbols of an object file, and where its sections are in the image."""

    def __init__(self, content: bytes) -> None:
        identity, kind, machine, *_ = header = _HEADER.unpack_from(content)
        if not identity.startswith(_IDENTITY) or (kind, machine) != (_RELOCATABLE, _X86_64):
            raise UnsupportedCode("no object file for x86-64")
        sections, count, names = header[6], header[12], header[13]
        heads = [_SECTION.unpack_from(content, sections + i * _SECTION.size) for i in range(count)]
        texts = _content(content, heads[names])
        self.sections = [
            _Section(
                _text(texts, head[0]),
                head[1],
                head[2],
                _content(content, head),
                head[6],
                head[7],
                head[8],
            )
            for head in heads
        ]
        self.symbols = [
            _Symbol(_text(self.sections[table.link].content, name), section, value)
            for table in self.sections
            if table.kind == _SYMBOLS
            for name, _, _, section, value, _ in _SYMBOL.iter_unpack(table.content)
        ]
        self.starts: dict[int, int] = {}

    def relocations(self) -> Iterator[tuple[int, int, _Symbol, int]]:
        """(place in the image, type, symbol, addend) of each place that is to be filled in."""
        for table in self.sections:
            if table.kind == _RELOCATIONS and table.info in self.starts:
                for place, info, addend in _RELOCATION.iter_unpack(table.content):
                    symbol = self.symbols[info >> 32]
                    yield self.starts[table.info] + place, info & 0xFFFFFFFF, symbol, addend


def _content(file: bytes, head: tuple) -> bytes:
    _, kind, _, _, start, size, *_ = head
    return bytes(size) if kind == _NOBITS else file[start : start + size]


def _text(texts: bytes, start: int) -> str:
    return texts[start : texts.index(b"\0", start)].decode()


def link(files: list[bytes], entry: str) -> Image:
    """Joins object files.

    Args:
        files: Their contents.
        entry: The symbol of the function that is called.

    Returns:
        The image.

    Raises:
        UnsupportedCode: The code has variables, or places of an unsupported type.
    """
    objects = [_Object(content) for content in files]
    content = bytearray()
    for item in objects:
        for number, section in enumerate(item.sections):
            if not section.flags & _ALLOCATE or section.name.startswith(_UNWIND_TABLES):
                continue
            if section.flags & _WRITE and section.content and _CONSTANTS not in section.name:
                raise UnsupportedCode(f"{section.name}: the code has variables")
            content += bytes(-len(content) % max(16, section.alignment))
            item.starts[number] = len(content)
            content += section.content
    content += bytes(-len(content) % 8)
    empty = len(content)
    content += bytes(8)
    defined = {
        symbol.name: item.starts[symbol.section] + symbol.value
        for item in reversed(objects)
        for symbol in item.symbols
        if symbol.name and symbol.section in item.starts
    }
    if entry not in defined:
        raise UnsupportedCode(f"{entry}: not defined")
    image = Image(b"", defined[entry])
    for item in objects:
        for place, kind, symbol, addend in item.relocations():
            if symbol.section in item.starts:
                target = item.starts[symbol.section] + symbol.value + addend
            elif symbol.section == _COMMON and symbol.name.startswith(_UNUSED_VARIABLE):
                target = empty + addend
            elif symbol.section == _UNDEFINED and symbol.name in defined:
                target = defined[symbol.name] + addend
            elif symbol.section == _UNDEFINED and kind == _ABSOLUTE_64 and not addend:
                image.external.append((place, symbol.name))
                continue
            else:
                raise UnsupportedCode(f"{symbol.name}: cannot be linked")
            _fill_in(content, place, kind, target, image)
    image.content = bytes(content)
    return image


def _fill_in(content: bytearray, place: int, kind: int, target: int, image: Image) -> None:
    if kind == _ABSOLUTE_64:
        struct.pack_into("<q", content, place, target)
        image.absolute.append(place)
    elif kind in (_RELATIVE_32, _CALL_32):
        struct.pack_into("<i", content, place, target - place)
    elif kind == _RELATIVE_64:
        struct.pack_into("<q", content, place, target - place)
    else:
        raise UnsupportedCode(f"a relocation of type {kind}")
