"""The map of the embeddings, against a singular value decomposition and all pairs."""

import numpy as np
import pytest

import minigpt_tf as mg
from minigpt_tf.errors import DataError
from minigpt_tf.inspection import embeddings
from minigpt_tf.inspection.embeddings import (
    embedding_map,
    nearest_by_cosine,
    neighbors_of,
    principal_components,
    start_token,
)


@pytest.mark.parametrize("shape", [(40, 7), (5, 9), (30, 1)])
def test_principal_components_are_those_of_a_decomposition(shape):
    vectors = np.random.default_rng(3).normal(0, [1 + i for i in range(shape[1])], shape)
    centered = vectors - vectors.mean(axis=0)
    u, s, _ = np.linalg.svd(centered, full_matrices=False)
    places, explained = principal_components(vectors)
    for k in range(min(2, shape[1])):
        assert abs(np.corrcoef(places[:, k], u[:, k])[0, 1]) == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(np.abs(places[:, k]), np.abs(u[:, k] * s[k]), atol=1e-4)
        assert explained[k] == pytest.approx(s[k] ** 2 / (s**2).sum())
        assert places[np.abs(places[:, k]).argmax(), k] > 0
    if shape[1] == 1:
        assert not places[:, 1].any() and explained[1] == 0


def test_equal_vectors_have_no_directions():
    places, explained = principal_components(np.ones((4, 3)))
    assert not places.any() and not explained.any()


@pytest.mark.parametrize("at_once", [1, 7, 512])
def test_neighbors_are_those_of_all_pairs(at_once, monkeypatch):
    monkeypatch.setattr(embeddings, "ROWS_AT_ONCE", at_once)
    vectors = np.random.default_rng(4).normal(size=(30, 6)).astype(np.float32)
    places, cosines = nearest_by_cosine(vectors, 5)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for i, row in enumerate(unit @ unit.T):
        wanted = [j for j in np.argsort(-row) if j != i][:5]
        assert places[i].tolist() == wanted
        np.testing.assert_allclose(cosines[i], row[wanted], atol=1e-6)


def test_few_vectors_have_few_neighbors():
    for count in (1, 2, 4):
        places, cosines = nearest_by_cosine(np.eye(count, dtype=np.float32), 10)
        assert places.shape == cosines.shape == (count, count - 1)
    assert not np.isnan(nearest_by_cosine(np.zeros((3, 2), dtype=np.float32), 2)[1]).any()


def test_what_is_left_out_is_counted(trained_folder, monkeypatch):
    folder = mg.load_folder(trained_folder)
    everything = embedding_map(folder)
    assert everything.left_out == 0 and 0 not in everything.ids
    monkeypatch.setattr(embeddings, "MOST_TOKENS", 20)
    some = embedding_map(folder)
    assert len(some.ids) == 20 and some.left_out == len(everything.ids) - 20
    with pytest.raises(DataError, match="not among the 20"):
        neighbors_of(some, int(everything.ids[-1]))


def test_a_word_behind_a_space_is_found(trained_folder, monkeypatch):
    folder = mg.load_folder(trained_folder)
    assert start_token(folder, " hardy ") == int(folder.tokenizer.encode("hardy")[0])
    with pytest.raises(DataError, match="empty"):
        start_token(folder, " ")
    pairs = mg.train_tokenizer("bpe", ["the queen and the queen " * 20], 300)
    monkeypatch.setattr(type(folder), "tokenizer", pairs, raising=False)
    object.__setattr__(folder, "tokenizer", pairs)
    assert pairs.decode([start_token(folder, "queen")]) == " queen"
