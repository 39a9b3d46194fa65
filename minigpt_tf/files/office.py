"""The parts of an Office file (ECMA-376), each read once as a stream, and none believed."""

import io
import posixpath
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO
from xml.parsers import expat

from ..errors import DataError

MOST_BYTES = 1 << 30
"""Of one part, size_of_all."""

MOST_IN_MEMORY = 1 << 28
"""Of a part that is kept, as the texts of a workbook are."""

SMALL = 1 << 24
MOST_RATIO = 100
"""Parts that together unpack to more than SMALL, and to more than so many times the size of their
file, are made to fill memories: XML of people packs to a tenth or a fiftieth."""

MOST_DIRECTORY = 1 << 24
"""Bytes of a table of contents."""

MOST_NAMES = 1_000
"""Names of attributes that are remembered."""

DEEPEST = 2_000
"""Elements within each other."""

BLOCK = 1 << 16

Start = Callable[[str, dict[str, str]], None]
End = Callable[[str], None]


class Package:
    """An Office file: a ZIP archive of parts that refer to each other."""

    def __init__(self, file: BinaryIO, kind: str) -> None:
        """
        Args:
            file: The file, open for reading.
            kind: What it should be, for errors, such as XLSX.

        Raises:
            DataError: It is not such an archive.
        """
        self.kind, self.sizes = kind, dict[str, int]()
        try:
            self.size = file.seek(0, io.SEEK_END)
            self._check(file)
            self.archive = zipfile.ZipFile(file)
        except (DataError, MemoryError):
            raise
        except Exception as error:  # zipfile raises many kinds on damaged archives
            raise self.damaged(error) from None
        self.names = {
            name.replace("\\", "/").lstrip("/").lower(): name for name in self.archive.namelist()
        }

    def damaged(self, error: object) -> DataError:
        """The error for a file that is not what its name says."""
        return DataError(f"is not a readable {self.kind} file: {error}")

    def _check(self, file: BinaryIO) -> None:
        """Raises DataError for what is not an archive, or has a huge table of contents."""
        file.seek(0)
        head = file.read(8)
        if head == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
            raise DataError(
                f"is not a readable {self.kind} file: it is protected by a password, or is in the "
                "format of before 2007: save it again without one"
            )
        file.seek(max(0, self.size - 65_557))
        tail = file.read()
        end = tail.rfind(b"PK\5\6")
        if end >= 0 and len(tail) >= end + 16:
            (directory,) = struct.unpack("<I", tail[end + 12 : end + 16])
            if MOST_DIRECTORY < directory < 0xFFFFFFFF:
                raise DataError(
                    f"is not a readable {self.kind} file: its table of contents has "
                    f"{directory:,} bytes"
                )
            if directory == 0xFFFFFFFF and self.size > MOST_DIRECTORY:
                raise DataError(f"is not a readable {self.kind} file: it has too many parts")

    def __contains__(self, name: str) -> bool:
        return name.lower() in self.names

    def matching(self, pattern: str) -> list[str]:
        """The names of the parts that match a regular expression, in lower case."""
        return sorted(name for name in self.names if re.fullmatch(pattern, name))

    def parse(self, name: str, start: Start, end: End, text: Callable[[str], None]) -> None:
        """Reads a part of XML.

        Args:
            name: The part.
            start: Called with the name and the attributes of an element, as they are written
                without a prefix for the part's main names, else with a short one such as r:.
            end: Called with its name.
            text: Called with text.

        Raises:
            DataError: It is missing, damaged, too large or nested too deeply.
        """
        for _ in self.stream(name, start, end, text):
            pass

    def mentions(self, name: str, word: str) -> bool:
        """Whether a part may have a word, which is found much faster than it is parsed.

        Args:
            name: The part.
            word: The name of an element or attribute.

        Returns:
            Whether its bytes have the word, in UTF-8 or UTF-16.

        Raises:
            DataError: As in `parse`.
        """
        forms = word.encode(), word.encode("utf-16-le")[:-1]  # of both orders of bytes
        before = b""
        for block in self._blocks(name):
            if any(form in before + block for form in forms):
                return True
            before = block[-len(forms[1]) :]
        return False

    def stream(
        self, name: str, start: Start, end: End, text: Callable[[str], None]
    ) -> Iterator[None]:
        """As `parse`, with a pause after each block, in which what was read can be passed on.

        Args:
            name: As in `parse`.
            start: As in `parse`.
            end: As in `parse`.
            text: As in `parse`.

        Yields:
            Nothing, once for each block.

        Returns:
            An iterator that reads the next block.

        Raises:
            DataError: As in `parse`.
        """
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse_document_type
        short: dict[str, str] = {}
        plain: set[str] = set()  # names of attributes without a namespace
        depth = 0

        def begin(name: str, attributes: dict[str, str]) -> None:
            """A start tag, with names made short."""
            nonlocal depth
            depth += 1
            if depth > DEEPEST:
                raise self.damaged(f"elements are nested more than {DEEPEST:,} deep")
            if name not in short:
                short[name] = _short(name)
            if not plain.issuperset(attributes):
                for key in list(attributes):
                    if " " in key:
                        attributes[_short(key)] = attributes.pop(key)
                    elif len(plain) < MOST_NAMES:
                        plain.add(key)
            start(short[name], attributes)

        def finish(name: str) -> None:
            """An end tag."""
            nonlocal depth
            depth -= 1
            end(short[name])

        parser.StartElementHandler = begin
        parser.EndElementHandler = finish
        parser.CharacterDataHandler = text
        try:
            for block in self._blocks(name):
                parser.Parse(block, False)
                yield
            parser.Parse(b"", True)
            yield
        except expat.ExpatError as error:
            raise self.damaged(f"{name}: {error}") from None

    def _refuse_document_type(self, *declaration: object) -> None:
        raise self.damaged("it declares a document type, as no Office file does")

    def _blocks(self, name: str) -> Iterator[bytes]:
        """The bytes of a part. Raises DataError."""
        if name.lower() not in self.names:
            raise self.damaged(f"it has no part {name}")
        size = 0
        seen = self.sizes.get(name, 0)  # a part may be read twice
        try:
            with self.archive.open(self.names[name.lower()]) as member:
                while block := member.read(BLOCK):
                    size += len(block)
                    self.sizes[name] = max(seen, size)
                    self._bound(name, size)
                    yield block
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise self.damaged(error) from None
        except RuntimeError as error:  # a password
            raise self.damaged(error) from None

    def _bound(self, name: str, size: int) -> None:
        """Raises DataError where a part unpacks to more than any of people."""
        most = MOST_IN_MEMORY if name.lower().endswith("sharedstrings.xml") else MOST_BYTES
        size_of_all = sum(self.sizes.values())
        if size > most or size_of_all > max(SMALL, MOST_RATIO * self.size):
            raise DataError(
                f"is not read: it has {self.size:,} bytes and unpacks to more than "
                f"{size_of_all:,}: save its text in another format"
            )

    def main_member(self, default: str) -> str:
        """The part that the file is about."""
        found = [
            target
            for _, kind, target in self.relationships("")
            if kind == "officeDocument" and target in self
        ]
        return found[0] if found else default

    def relationships(self, name: str) -> list[tuple[str, str, str]]:
        """What a part refers to.

        Args:
            name: The part, or "" for the file.

        Returns:
            (id, kind, name of a part) for each.
        """
        folder, base = posixpath.split(name)
        where = posixpath.join(folder, "_rels", f"{base}.rels")
        found: list[tuple[str, str, str]] = []

        def start(element: str, attributes: dict[str, str]) -> None:
            """Collects a relationship."""
            if element.rpartition(":")[2] != "Relationship":
                return
            if attributes.get("TargetMode") == "External":
                return
            target = attributes.get("Target", "").replace("\\", "/")
            path = target.lstrip("/") if target.startswith("/") else posixpath.join(folder, target)
            kind = attributes.get("Type", "").rpartition("/")[2]
            found.append((attributes.get("Id", ""), kind, posixpath.normpath(path)))

        if where in self:
            self.parse(where, start, lambda name: None, lambda text: None)
        return found


def _short(name: str) -> str:
    """A name with a short prefix in place of its namespace; main ones have none."""
    namespace, _, local = name.rpartition(" ")
    if not namespace:
        return local
    if "wordprocessingml" in namespace or "spreadsheetml" in namespace:
        # Those of later versions (2010/wordprocessingShape, w14, x14ac) are named apart.
        return (
            local if namespace.endswith("/main") and "microsoft" not in namespace else f"x:{local}"
        )
    if "markup-compatibility" in namespace:
        return f"mc:{local}"
    if namespace.endswith("officeDocument/2006/relationships") or namespace.endswith(
        "officeDocument/relationships"
    ):
        return f"r:{local}"
    if namespace.endswith("/math"):
        return f"m:{local}"
    if "XML/1998" in namespace:
        return f"xml:{local}"
    if namespace.endswith("vml"):
        return f"v:{local}"
    return f"x:{local}"
