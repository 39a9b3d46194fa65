"""The members of a .keras file, which is a zip archive from anyone."""

import io
import os
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ...errors import ModelFolderError
from ...storage.hdf5 import MOST_EXPANSION
from ...storage.reading import why_unreadable
from ...storage.regular import check_regular
from ...storage.windows import FileWindow

CONFIG_MEMBER = "config.json"
WEIGHTS_MEMBER = "model.weights.h5"

LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Of a member: its signature, then how long its name and its further fields are."""


class Archive:
    """A .keras file."""

    def __init__(self, path: Path) -> None:
        """Reads the list of members. Raises ModelFolderError."""
        check_regular(path)
        self.path = path
        self._extracted: dict[str, IO[bytes]] = {}
        with self._damage_reported(), zipfile.ZipFile(path) as archive:
            self._members = {info.filename: info for info in archive.infolist()}

    def read(self, name: str, largest: int) -> bytes | None:
        """Reads a small member.

        Args:
            name: Of the member.
            largest: The most bytes that are accepted, whatever size the archive states.

        Returns:
            The content; None if absent.

        Raises:
            ModelFolderError: The member is larger or damaged.
        """
        if name not in self._members:
            return None
        with self._member(name) as member:
            content = member.read(largest + 1)
        if len(content) > largest:
            raise ModelFolderError(f"{self.path}: its {name} is larger than {largest:,} bytes")
        return content

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """A large member as a file that can be read at any place. Raises ModelFolderError."""
        if name not in self._members:
            found = ", ".join(sorted(self._members)) or "nothing"
            raise ModelFolderError(f"{self.path}: has no {name}, found {found:.120}")
        info = self._members[name]
        if info.compress_type != zipfile.ZIP_STORED:
            yield self._extract(name)
            return
        with open(self.path, "rb") as file, io.BufferedReader(_window(file, info)) as window:
            yield window

    def _extract(self, name: str) -> IO[bytes]:
        """A compressed member, unpacked into a file without a name, once."""
        info = self._members[name]
        if info.file_size > MOST_EXPANSION * max(info.compress_size, 2**10):
            raise ModelFolderError(f"{self.path}: its {name} unpacks to {info.file_size:,} bytes")
        if name not in self._extracted:
            file = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the archive)
            with self._member(name) as member:
                shutil.copyfileobj(member, file, 2**20)
            self._extracted[name] = file
        self._extracted[name].seek(0)
        return self._extracted[name]

    @contextmanager
    def _member(self, name: str) -> Iterator[IO[bytes]]:
        """A member, to be read from its beginning on."""
        with (
            self._damage_reported(),
            zipfile.ZipFile(self.path) as archive,
            archive.open(name) as member,
        ):
            yield member

    @contextmanager
    def _damage_reported(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # zipfile raises many kinds on a damaged file
            damaged = "is damaged or not a .keras file"
            raise ModelFolderError(why_unreadable(self.path, error, damaged)) from None


def _window(file: IO[bytes], info: zipfile.ZipInfo) -> FileWindow:
    """The bytes of a member that is stored as it is. Raises ModelFolderError."""
    length = os.fstat(file.fileno()).st_size
    header = b""
    if 0 <= info.header_offset <= length:
        file.seek(info.header_offset)
        header = file.read(LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
        raise ModelFolderError(f"{file.name}: is damaged: {info.filename} is not where it says")
    _, name, further = LOCAL_HEADER.unpack(header)
    first = info.header_offset + LOCAL_HEADER.size + name + further
    if first + info.file_size > length:
        raise ModelFolderError(f"{file.name}: is damaged: {info.filename} is cut off")
    return FileWindow(file, first, info.file_size)
