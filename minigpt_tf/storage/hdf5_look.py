"""What `hdf5_judge` does in a process of its own: it reads all of an HDF5 file's structure."""

import io
import math
import os
import sys
from typing import Any

from ..errors import ModelFolderError
from .hdf5 import check_dataset
from .windows import FileWindow

VALUES = 2**20
"""Values of a compressed dataset that are read at a time."""

WORDS = ("memory", "unable to allocate")
"""In HDF5's words for too little memory."""


def look(file: int, start: int, size: int, memory: int) -> None:
    """Reads the structure, all attributes, and all that is compressed; ends the process.

    What is damaged is passed over: the process says only whether it came to the end.

    Args:
        file: The descriptor of an open file.
        start: Where the HDF5 file begins in it.
        size: Its length.
        memory: Bytes that this may take.
    """
    import h5py

    _limit(memory)
    stream = io.BufferedReader(FileWindow(os.fdopen(file, "rb"), start, size))
    try:
        _limit_files()
        with h5py.File(stream, "r") as opened:
            _look_at_all(opened)
    except Exception as error:
        _pass_over(error)
    os._exit(0)


def _limit(memory: int) -> None:
    try:
        import resource
    except ImportError:  # another system
        return
    now = 0
    if sys.platform == "linux":
        with open("/proc/self/statm") as statm:
            now = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))


def _limit_files() -> None:
    """No other file can be opened from now on: a link to a FIFO would wait for ever."""
    try:
        import resource
    except ImportError:
        return
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))


def _pass_over(error: Exception) -> None:
    if isinstance(error, MemoryError) or any(word in str(error) for word in WORDS):
        os._exit(1)


def _look_at_all(top: Any) -> None:
    import h5py

    seen, waiting = {h5py.h5o.get_info(top.id).addr}, [top]
    while waiting:
        item = waiting.pop()
        for name in _each(item.attrs):
            try:
                attribute = item.attrs.get_id(name)
                if math.prod(attribute.shape or (0,)) * attribute.dtype.itemsize < VALUES:
                    item.attrs[name]
            except Exception as error:
                _pass_over(error)
        if not isinstance(item, h5py.Group):
            _look_at_values(item)
            continue
        for name in _each(item):
            try:
                if isinstance(item.get(name, getlink=True), h5py.HardLink):
                    below = item[name]
                    address = h5py.h5o.get_info(below.id).addr
                    if address not in seen:
                        seen.add(address)
                        waiting.append(below)
            except Exception as error:
                _pass_over(error)


def _each(names: Any) -> list[str]:
    try:
        return list(names)
    except Exception as error:
        _pass_over(error)
        return []


def _look_at_values(dataset: Any) -> None:
    """Reads values that may unpack to any size."""
    try:
        check_dataset(dataset)
        if dataset.id.get_create_plist().get_nfilters() == 0 or not dataset.shape:
            return
    except ModelFolderError:
        return
    except Exception as error:
        _pass_over(error)
        return
    rows = max(1, VALUES * dataset.shape[0] // max(1, math.prod(dataset.shape)))
    for first in range(0, dataset.shape[0], rows):
        try:
            dataset[first : first + rows]
        except Exception:  # damage, or too little memory: HDF5 does not say which
            os._exit(1)
