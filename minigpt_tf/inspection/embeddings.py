"""The token embeddings of a model: a map by their principal components, and who is near whom."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import __version__
from ..config import MODEL_NAME
from ..errors import DataError
from ..events import SILENT, Listener
from ..inference.folder import ModelFolder
from ..inference.weights import check_finite
from ..machine import check_fits_memory, start_blas_threads
from ..text.token_texts import TokenTexts
from .page import deflated, rounded

NEAREST = 10
MOST_TOKENS = 65_536
"""Tokens of which the neighbors are looked for: time grows with the square."""
ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class EmbeddingMap:
    """What `embedding_map` found. M tokens that stand for text."""

    ids: np.ndarray
    """(M,) int64."""
    texts: list[str]
    """(M,)."""
    places: np.ndarray
    """(M, 2) float32: the first two principal components."""
    explained: np.ndarray
    """(2,): the fraction of the variance that each of them has."""
    neighbors: np.ndarray
    """(M, 10) int64: places in `ids` of the nearest by cosine, without itself; fewer columns where
    there are not so many tokens."""
    similarities: np.ndarray
    """(M, 10) float32: their cosines."""
    norms: np.ndarray
    """(M,) float32: length of each vector."""
    left_out: int
    """Tokens that stand for text, beyond MOST_TOKENS."""

    def as_json(self) -> dict[str, Any]:
        """Plain data.

        Returns:
            All of it.
        """
        return {
            "ids": self.ids.tolist(),
            "texts": self.texts,
            "places": rounded(self.places),
            "explained": rounded(self.explained),
            "neighbors": self.ids[self.neighbors].tolist(),
            "similarities": rounded(self.similarities),
            "norms": rounded(self.norms),
            "left_out": self.left_out,
        }


def embedding_map(folder: ModelFolder, listener: Listener = SILENT) -> EmbeddingMap:
    """Looks at the token embeddings of a model.

    Args:
        folder: From `load_folder`.
        listener: Receives the progress.

    Returns:
        Places on a map, and neighbors.

    Raises:
        ModelFolderError: The weights are missing or damaged.
    """
    start_blas_threads()
    name, file = "token_embedding/embeddings", folder.path / MODEL_NAME
    with folder.open_weights() as weights:
        table = np.asarray(weights[name], dtype=np.float32)  # (V, D)
    check_finite(table, name, str(file))
    texts = TokenTexts(folder.tokenizer)
    known = [i for i in range(folder.model.vocab_size) if i in texts]
    ids = np.array(known[:MOST_TOKENS], dtype=np.int64)
    vectors = table[ids]
    check_fits_memory(3 * vectors.nbytes, f"the embeddings of {len(ids):,} tokens")
    places, explained = principal_components(vectors)
    norms = np.linalg.norm(vectors, axis=1)
    neighbors, similarities = nearest_by_cosine(vectors, NEAREST, listener)
    return EmbeddingMap(
        ids=ids,
        texts=[texts[i] for i in ids],
        places=places,
        explained=explained,
        neighbors=neighbors,
        similarities=similarities,
        norms=norms,
        left_out=len(known) - len(ids),
    )


def principal_components(vectors: np.ndarray, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """The directions in which vectors differ most (Pearson, 1901), and the vectors along them.

    Args:
        vectors: (M, D).
        count: How many directions.

    Returns:
        Coordinates (M, count) float32, 0 where D is smaller; and the fraction of the variance that
        each direction has, (count,). The largest coordinate of each is positive.

    Example:
        >>> places, explained = principal_components(np.array([[0.0, 1.0], [0.0, 5.0]]))
        >>> abs(places[:, 0]).tolist(), explained.tolist()
        ([2.0, 2.0], [1.0, 0.0])
    """
    centered = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    variances, directions = np.linalg.eigh(centered.T @ centered)
    variances, directions = variances[::-1][:count], directions[:, ::-1][:, :count]
    places = np.zeros((len(vectors), count), dtype=np.float32)
    places[:, : directions.shape[1]] = centered @ directions
    farthest = places[np.abs(places).argmax(axis=0), np.arange(count)]
    places *= np.where(farthest < 0, np.float32(-1), np.float32(1))
    total = max(float((centered**2).sum()), np.finfo(np.float64).tiny)
    explained = np.zeros(count)
    explained[: len(variances)] = np.maximum(variances, 0) / total
    return places, explained


def nearest_by_cosine(
    vectors: np.ndarray, count: int, listener: Listener = SILENT
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other vectors of each.

    Args:
        vectors: (M, D).
        count: How many of each; M - 1, if that is fewer.
        listener: Receives the progress.

    Returns:
        Places (M, count) int64, the nearest first, and cosines (M, count) float32.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = (vectors / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)
    count = min(count, len(unit) - 1)
    places = np.zeros((len(unit), count), dtype=np.int64)
    cosines = np.zeros((len(unit), count), dtype=np.float32)
    for first in range(0, len(unit) if count else 0, ROWS_AT_ONCE):
        listener.preparation("looking for neighbors", first, len(unit))
        rows = unit[first : first + ROWS_AT_ONCE] @ unit.T
        rows[np.arange(len(rows)), first + np.arange(len(rows))] = -np.inf  # itself
        best = np.argpartition(rows, len(unit) - count, axis=1)[:, -count:]
        found = np.take_along_axis(rows, best, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        here = slice(first, first + len(rows))
        places[here] = np.take_along_axis(best, order, axis=1)
        cosines[here] = np.take_along_axis(found, order, axis=1)
    listener.preparation("looking for neighbors", len(unit), len(unit))
    return places, cosines


def start_token(folder: ModelFolder, word: str) -> int:
    """The id of a word.

    Args:
        folder: The model.
        word: One that its tokenizer has a single token for; behind a space, if need be.

    Returns:
        The id.

    Raises:
        DataError: The tokenizer does not know the word, or makes several tokens of it.
    """
    tokenizer = folder.tokenizer
    if not word.strip():
        raise DataError("the word is empty: give one, or none")
    if tokenizer.unknown(word):
        raise DataError(f"{word!r} is not in the model's vocabulary: choose another word")
    candidates = [tokenizer.encode(text).tolist() for text in (f" {word.strip()}", word)]
    for ids in candidates:
        if len(ids) == 1:
            return int(ids[0])
    texts = TokenTexts(tokenizer)
    tokens = ", ".join(repr(texts[i]) for i in candidates[-1])
    raise DataError(f"{word!r} is several tokens of this model ({tokens}): choose one of them")


def neighbors_of(found: EmbeddingMap, token_id: int) -> list[dict[str, Any]]:
    """The nearest tokens of one.

    Args:
        found: The map.
        token_id: The token.

    Returns:
        Their ids, texts and cosines, the nearest first.

    Raises:
        DataError: The token is not on the map.
    """
    place = int(np.searchsorted(found.ids, token_id))
    if place == len(found.ids) or found.ids[place] != token_id:
        raise DataError(f"token {token_id} is not among the {len(found.ids):,} on the map")
    pairs = zip(found.neighbors[place].tolist(), found.similarities[place].tolist(), strict=True)
    return [
        {"id": int(found.ids[i]), "text": found.texts[i], "similarity": similarity}
        for i, similarity in pairs
    ]


def map_data(found: EmbeddingMap, name: str, chosen: int | None) -> dict[str, Any]:
    """What the page shows.

    Args:
        found: The map.
        name: Of the model.
        chosen: Id of the token at which the page begins (unset: the first).

    Returns:
        Plain data; arrays are compressed: places in 16 bits of their range, neighbors in 32.
    """
    low, high = found.places.min(axis=0), found.places.max(axis=0)
    span = np.maximum(high - low, np.finfo(np.float32).tiny)
    cells = np.rint((found.places - low) / span * 65535).astype("<u2")
    return {
        "version": __version__,
        "name": name,
        "ids": found.ids.tolist(),
        "texts": found.texts,
        "places": deflated(cells),
        "ratio": float(span[0] / span[1]),
        "explained": rounded(found.explained),
        "neighbors": deflated(found.neighbors.astype("<u4")),
        "similarities": deflated(found.similarities.astype("<f4")),
        "count": found.neighbors.shape[1],
        "norms": rounded(found.norms, 4),
        "left_out": found.left_out,
        "chosen": None if chosen is None else int(np.searchsorted(found.ids, chosen)),
    }
