"""Where GPT-2's tokenizer files are found: on this machine, in a package, or by download."""

import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..storage.reading import why_unreadable

ASSETS_VARIABLE = "MINIGPT_ASSETS"
"""Environment variable: a folder that holds gpt2-bpe/ with encoder.json and vocab.bpe."""

REPOSITORY = "openai-community/gpt2"
_URL = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
_FILE_NAMES = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
"""OpenAI's names of the vocabulary and of the merges, and Hugging Face's."""

Merges = list[tuple[str, str]]


def find() -> tuple[dict[str, int], Merges]:
    """GPT-2's vocabulary and merges from the first place that has them. Raises DataError."""
    for vocabulary, merges in _candidates():
        if vocabulary.is_file() and merges.is_file():
            return _read(vocabulary, merges)
    raise DataError(
        "GPT-2's tokenizer is not on this machine and could not be downloaded: put encoder.json "
        f"and vocab.bpe into a folder FOLDER/gpt2-bpe and set {ASSETS_VARIABLE}=FOLDER"
    )


def _candidates() -> Iterator[tuple[Path, Path]]:
    if ASSETS_VARIABLE in os.environ:
        yield from _named(Path(os.environ[ASSETS_VARIABLE]) / "gpt2-bpe")
    for folder in _tiktoken_caches():
        # tiktoken names a cached file by the SHA-1 of its address.
        names = (hashlib.sha1((_URL + name).encode()).hexdigest() for name in _FILE_NAMES[0])
        yield folder / next(names), folder / next(names)
    yield from _hugging_face(local_files_only=True)
    yield from _hugging_face(local_files_only=False)


def _named(folder: Path) -> Iterator[tuple[Path, Path]]:
    for vocabulary, merges in _FILE_NAMES:
        yield folder / vocabulary, folder / merges


def _tiktoken_caches() -> Iterator[Path]:
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if variable in os.environ:
            yield Path(os.environ[variable])
    import tempfile

    yield Path(tempfile.gettempdir()) / "data-gym-cache"
    # llama-index-core ships a filled cache for use without a network.
    spec = importlib.util.find_spec("llama_index")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        yield Path(folder) / "core" / "_static" / "tiktoken_cache"


def _hugging_face(local_files_only: bool) -> Iterator[tuple[Path, Path]]:
    """The Hugging Face cache, or the hub; huggingface_hub comes with the tokenizers library."""
    from huggingface_hub import hf_hub_download

    try:
        vocabulary, merges = (
            Path(hf_hub_download(REPOSITORY, name, local_files_only=local_files_only))
            for name in _FILE_NAMES[1]
        )
    except Exception:  # no network, not cached, no such repository: the next place is tried
        return
    yield vocabulary, merges


def _read(vocabulary: Path, merges: Path) -> tuple[dict[str, int], Merges]:
    try:
        tokens = json.loads(vocabulary.read_text(encoding="utf-8"))
        lines = merges.read_text(encoding="utf-8").split("\n")[1:]  # the first is a version
        pairs: list[Any] = [tuple(line.split(" ")) for line in lines if line]
    except (OSError, ValueError, RecursionError) as error:
        damaged = "GPT-2's tokenizer files are damaged"
        raise DataError(why_unreadable(vocabulary.parent, error, damaged)) from None
    if len(tokens) != 50257 or len(pairs) != 50000 or any(len(pair) != 2 for pair in pairs):
        raise DataError(f"{vocabulary.parent}: expected GPT-2's 50,257 tokens and 50,000 merges")
    return tokens, pairs
