"""The heaps of an HDF5 file, where the texts of its attributes lie, checked before they are read.

HDF5 1.14 walks through a heap from object to object by the sizes that the file gives; one damaged
byte can make a step of 0, and then neither it nor Ctrl-C ever ends. The format: HDF5 File Format
Specification 3.0, III.E, "Disk Format: Level 1E - Global Heap".
"""

import os
import struct
from collections.abc import Iterator
from typing import IO

SIGNATURE = b"GCOL\x01"
HEAD = struct.Struct("<8xQ")
"""Of a heap: signature, version, how long it is."""

OBJECT = struct.Struct("<H6xQ")
"""Of an object: its index, 0 for free space; how long its content is."""

SMALLEST = 4096
"""HDF5 refuses smaller heaps by itself."""

PART = 2**24
"""Bytes that are searched at a time."""


def heaps_end(file: IO[bytes]) -> bool:
    """Whether every heap of an HDF5 file can be walked through to its end."""
    size = file.seek(0, os.SEEK_END)
    return all(_ends(file, start, size) for start in _heaps(file))


def _heaps(file: IO[bytes]) -> Iterator[int]:
    """Where heaps begin. What only looks like one, among weights, is of no likely size."""
    first, overlap = 0, len(SIGNATURE) - 1
    while True:
        file.seek(first)
        part = file.read(PART)
        found = part.find(SIGNATURE)
        while found >= 0:
            yield first + found
            found = part.find(SIGNATURE, found + 1)
        if len(part) < PART:
            return
        first += PART - overlap


def _ends(file: IO[bytes], start: int, size: int) -> bool:
    file.seek(start)
    head = file.read(HEAD.size)
    length = HEAD.unpack(head)[0] if len(head) == HEAD.size else 0
    if not SMALLEST <= length <= size - start:
        return True  # no heap, or one that HDF5 refuses
    heap = file.read(length - HEAD.size)
    at = 0
    while at + OBJECT.size <= len(heap):
        index, content = OBJECT.unpack_from(heap, at)
        step = content if index == 0 else OBJECT.size + (content + 7) // 8 * 8
        if step % 2**64 == 0 or at + step > len(heap):
            return False
        at += step
    return True
