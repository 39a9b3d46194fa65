"""The one place where HDF5 files are opened: a file may come from anyone.

An HDF5 file can send its reader elsewhere: by links out of the file or in circles, by datasets
whose values lie in other files or devices, by shapes of which nothing is stored. None of that is
followed here; only what lies in the file itself is found, each object once.
"""

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from typing import IO, Any

from ..errors import ModelFolderError
from .plain_hdf5 import NotPlain, plain_datasets
from .reading import why_unreadable
from .regular import check_regular

DEEPEST = 40
"""Groups within groups that are looked into. Keras makes four for each nesting of models; a hostile
file makes as many as there is room for."""

MOST_EXPANSION = 100
"""A dataset may be so many times as large as what the file stores of it, and no larger: Keras does
not compress."""

ALWAYS_ALLOWED = 2**20
"""Bytes of a dataset, or of one of its chunks, that are harmless however they are stored."""

LONGEST_LIST = 10_000_000
"""Texts in an attribute."""


@contextmanager
def open_hdf5(path: str | Path, content: IO[bytes] | None = None) -> Iterator[Any]:
    """Opens an HDF5 file for reading, once its structure was found to be safe (`hdf5_judge`).

    Args:
        path: A regular file; names the file in errors.
        content: The file's bytes, if they lie elsewhere (a member of an archive).

    Yields:
        An `h5py.File`, closed afterwards.

    Raises:
        ModelFolderError: The file is not a regular file, cannot be read or is damaged; also where
            it proves damaged while it is open.
    """
    if content is None:
        check_regular(path)
    from .hdf5_judge import judge  # which brings a process of its own along, as h5py its library

    try:
        judge(path, content)
    except OSError as error:
        raise ModelFolderError(why_unreadable(path, error, "is damaged")) from None
    import h5py  # which takes a while: not for a file that is absent

    try:
        file = h5py.File(path if content is None else content, "r")
    except OSError as error:
        if error.errno is not None and content is None:
            reason = os.strerror(error.errno)
            raise ModelFolderError(f"{path}: cannot be read: {reason}") from None
        raise _damaged(path, error) from None
    except Exception as error:  # h5py raises many kinds on a damaged file
        raise _damaged(path, error) from None
    with file:
        try:
            yield file
        except ModelFolderError:
            raise
        except OSError as error:
            if error.errno is not None:  # of another file that is written meanwhile, or of the disk
                raise
            raise _damaged(path, error) from None


@contextmanager
def open_datasets(path: str | Path, group: str) -> Iterator[dict[str, Any] | None]:
    """Opens an HDF5 file for reading all datasets in the groups of a group.

    Of a plain file they are found without h5py, which takes long to import.

    Args:
        path: A regular file; names the file in errors.
        group: A group of the root.

    Yields:
        Path below the group -> dataset, which a slice or np.asarray reads; None if there is no such
        group.

    Raises:
        ModelFolderError: As `open_hdf5`, or for a link or a dataset as `datasets`.
    """
    check_regular(path)
    plain = _open_plain(path, group)
    if plain is not None:
        with plain[0]:
            try:
                yield plain[1]
            except OSError as error:
                if error.errno is not None:  # of another file, or of the disk
                    raise
                raise _damaged(path, error) from None
        return
    with open_hdf5(path) as file:
        with while_looking(path):
            top = child(file, group)
            found = None if top is None else dict(_datasets_of_items(top))
        yield found


def _datasets_of_items(group: Any) -> Iterator[tuple[str, Any]]:
    for item, below in children(group):
        for name, dataset in datasets(below):
            yield f"{item}/{name}", dataset


def _open_plain(path: str | Path, group: str) -> tuple[RawIOBase, dict[str, Any]] | None:
    """The open file and its datasets; None if it is not plain, or cannot be read."""
    with suppress(OSError, NotPlain), ExitStack() as stack:
        file = stack.enter_context(open(path, "rb", buffering=0))
        found: dict[str, Any] = dict(plain_datasets(file, group))
        stack.pop_all()
        return file, found
    return None


@contextmanager
def while_looking(path: str | Path) -> Iterator[None]:
    """Turns whatever h5py raises, while a file's structure is read, into ModelFolderError."""
    try:
        yield
    except ModelFolderError:
        raise
    except Exception as error:  # h5py raises many kinds on a damaged file
        raise _damaged(path, error) from None


def _damaged(path: str | Path, error: Exception) -> ModelFolderError:
    return ModelFolderError(why_unreadable(path, error, "is damaged or not an .h5 file"))


def child(group: Any, *names: str) -> Any | None:
    """Finds an item below a group. Soft and external links are not followed.

    Args:
        group: An `h5py.Group`.
        names: The path, one name for each level.

    Returns:
        The group or dataset; None if absent.

    Raises:
        ModelFolderError: An item of the path is a link.
    """
    import h5py

    item = group
    for name in names:
        if not isinstance(item, h5py.Group) or name not in item:
            return None
        item = _hard_linked(item, name)
    return item


def children(group: Any) -> Iterator[tuple[str, Any]]:
    """(name, group or dataset) of each item of a group.

    Raises ModelFolderError if one is a link: Keras makes none.
    """
    for name in group:
        yield name, _hard_linked(group, name)


def _hard_linked(group: Any, name: str) -> Any:
    import h5py

    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        place = f"{group.name.rstrip('/')}/{name}"
        where = "lies in another file" if isinstance(link, h5py.ExternalLink) else "is only a link"
        raise ModelFolderError(f"{group.file.filename}: {place} {where}")
    return group[name]


def datasets(group: Any) -> Iterator[tuple[str, Any]]:
    """(path below the group, dataset) of each dataset in it, checked as by `check_dataset`.

    Each group is entered once, so that links in circles end. Raises ModelFolderError.
    """
    import h5py

    seen = {_address(group)}
    waiting = [("", group, 0)]
    while waiting:
        prefix, parent, depth = waiting.pop()
        found = []
        for name, item in children(parent):
            path = f"{prefix}{name}"
            if isinstance(item, h5py.Dataset):
                check_dataset(item)
                yield path, item
            elif isinstance(item, h5py.Group) and _address(item) not in seen and depth < DEEPEST:
                seen.add(_address(item))
                found.append((f"{path}/", item, depth + 1))
        waiting += reversed(found)


def _address(item: Any) -> int:
    import h5py

    return h5py.h5o.get_info(item.id).addr


def check_dataset(dataset: Any) -> None:
    """Raises ModelFolderError if the values lie in another file, or can be far more than the file
    stores. Comes before the shape is asked for: of a virtual dataset that opens the other files."""
    name = f"{dataset.file.filename}: {dataset.name}"
    if dataset.is_virtual or dataset.external:
        raise ModelFolderError(f"{name} lies in another file")
    if dataset.shape is None:  # HDF5's empty dataspace
        raise ModelFolderError(f"{name} is empty")
    size = dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    chunk = size * math.prod(dataset.chunks or ())
    largest = max(ALWAYS_ALLOWED, MOST_EXPANSION * stored)
    if size * math.prod(dataset.shape) > largest or chunk > largest:
        raise ModelFolderError(
            f"{name} has the shape {dataset.shape}, but the file stores {stored:,} bytes of it"
        )


def text_attribute(item: Any, name: str) -> str | None:
    """Reads an attribute that is one text.

    Args:
        item: A group or dataset.
        name: The attribute.

    Returns:
        The text; None if absent or of another type.
    """
    if name not in item.attrs or not _holds_text(item, name):
        return None
    value = item.attrs[name]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def texts_attribute(item: Any, name: str) -> list[str] | None:
    """Reads an attribute that is a list of texts.

    Keras splits a long list into `name`0, `name`1, ...

    Args:
        item: A group or dataset.
        name: The attribute.

    Returns:
        The texts; None if absent.
    """
    if name in item.attrs:
        return _texts(item, name)
    texts: list[str] = []
    part = 0
    while f"{name}{part}" in item.attrs:
        texts += _texts(item, f"{name}{part}")
        part += 1
    return texts if part else None


def _texts(item: Any, name: str) -> list[str]:
    shape = item.attrs.get_id(name).shape
    if shape == (0,):  # Keras gives an empty list the type of a number
        return []
    if len(shape) != 1 or shape[0] > LONGEST_LIST or not _holds_text(item, name, shape):
        raise ValueError(f"{name} is not a list of names")
    return [
        value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for value in item.attrs[name]
    ]


def _holds_text(item: Any, name: str, shape: tuple[int, ...] = ()) -> bool:
    """Whether an attribute has the type of a text. Comes before its value is read: HDF5 trusts a
    damaged type, and ends the process."""
    import h5py

    attribute = item.attrs.get_id(name)
    return attribute.shape == shape and isinstance(attribute.get_type(), h5py.h5t.TypeStringID)
