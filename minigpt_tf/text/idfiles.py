"""Token ids on disk: encoded from chunks on all cores, mapped into memory to be read."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..machine import usable_cores
from .tokenizers import BaseTokenizer

ID_NAMES = ("train.ids", "val.ids")
"""The files for training and validation: ids and nothing else, as this machine has its
numbers."""

HASHED_AT_ONCE = 1 << 20


def write_ids(
    folder: Path, chunks: Iterator[tuple[int, str]], tokenizer: BaseTokenizer, characters: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Encodes a text into the files ID_NAMES. Two chunks for each core are held at a time.

    Args:
        folder: Where the files are written.
        chunks: (split, chunk) in order: split 0 trains, 1 validates.
        tokenizer: Encodes them.
        characters: How many the chunks have together.

    Returns:
        What `map_ids` needs, with the fingerprint of the ids; and int64 (2, vocab_size): how often
        each id is in each split.

    Raises:
        OSError: The disk is full.
    """
    dtype = np.min_scalar_type(max(0, tokenizer.vocab_size - 1))
    encode = tokenizer.chunk_encoder(characters)
    counts = np.zeros((2, tokenizer.vocab_size), dtype=np.int64)
    cores = usable_cores()
    under_way: deque[tuple[int, Future]] = deque()
    train, val = (folder / name for name in ID_NAMES)
    with (
        open(train, "wb") as train_file,
        open(val, "wb") as val_file,
        ThreadPoolExecutor(cores, thread_name_prefix="minigpt-encode") as pool,
    ):

        def write_first() -> None:
            split, future = under_way.popleft()
            ids, tokens = future.result()
            (train_file, val_file)[split].write(ids)
            counts[split, : len(tokens)] += tokens

        for split, chunk in chunks:
            under_way.append((split, pool.submit(_encoded, encode, chunk, dtype)))
            if len(under_way) > 2 * cores:
                write_first()
        while under_way:
            write_first()
    facts = {"dtype": dtype.str, "fingerprint": _fingerprint(train, val, dtype)}
    return facts, counts


def _encoded(
    encode: Callable[[str], np.ndarray], chunk: str, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """The ids of a chunk as they are stored, and how often each of them is in it."""
    ids = encode(chunk)
    return ids.astype(dtype), np.bincount(ids)


def _fingerprint(train: Path, val: Path, dtype: np.dtype) -> str:
    """SHA-256 of the number of training ids (int64) and of the ids of both splits (int32)."""
    length = train.stat().st_size // dtype.itemsize
    digest = hashlib.sha256(np.int64(length).tobytes())
    for file in (train, val):
        with open(file, "rb") as handle:
            while content := handle.read(HASHED_AT_ONCE * dtype.itemsize):
                digest.update(np.frombuffer(content, dtype=dtype).astype(np.int32).tobytes())
    return digest.hexdigest()


def map_ids(file: Path, facts: dict[str, Any]) -> np.ndarray:
    """The ids in a file.

    Args:
        file: One of ID_NAMES.
        facts: What `write_ids` returned.

    Returns:
        Ids (N,), read-only, and in memory only where and as long as they are used.
    """
    dtype = np.dtype(facts["dtype"])
    if file.stat().st_size == 0:  # nothing cannot be mapped
        return np.empty(0, dtype=dtype)
    return np.memmap(file, dtype=dtype, mode="r").view(np.ndarray)
