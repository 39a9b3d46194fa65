"""Attention in blocks against TensorFlow's own derivatives of the formula."""

import numpy as np
import pytest
import tensorflow as tf

from minigpt_tf.model import causal_attention as room
from minigpt_tf.model.causal_attention import causal_attention
from minigpt_tf.model.dropout import FastDropout, dropout_step

CASES = {
    "plain": {},
    "grouped": {"groups": 2},
    "window": {"groups": 2, "window": 20},
    "window smaller than a block": {"groups": 4, "window": 5, "softcap": 3.0},
    "window beyond the text": {"groups": 1, "window": 100},
}


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(room, "ATTENTION_BLOCKS_FROM", 1)
    monkeypatch.setattr(room, "QUERIES_IN_BLOCK", 16)


def arrays(groups: int, length: int = 70) -> list[tf.Tensor]:
    """q, k, v and d(loss)/d(output)."""
    random = np.random.default_rng(0)
    heads = (4, groups, groups, 4)
    return [tf.constant(random.normal(size=(n, 2, length, 8)), tf.float32) for n in heads]


def formula(q, k, v, window=None, softcap=None):
    """softmax(q k^T / sqrt(H)) v over the tokens that each one sees."""
    repeats = q.shape[0] // k.shape[0]
    k, v = tf.repeat(k, repeats, axis=0), tf.repeat(v, repeats, axis=0)
    scores = tf.einsum("nbth,nbsh->nbts", q, k) / np.sqrt(q.shape[-1])
    if softcap is not None:
        scores = softcap * tf.tanh(scores / softcap)
    places = np.arange(q.shape[2])
    distance = places[:, None] - places[None]
    seen = (distance >= 0) & (distance < (window or len(places)))
    return tf.einsum("nbts,nbsh->nbth", tf.nn.softmax(tf.where(seen, scores, -np.inf)), v)


def with_gradients(function, q, k, v, d):
    @tf.function(autograph=False)
    def compute(q, k, v, d):
        with dropout_step(tf.constant(3)), tf.GradientTape() as tape:
            tape.watch([q, k, v])
            y = function(q, k, v)
        return [y, *tape.gradient(y, [q, k, v], d)]

    return compute(q, k, v, d)


@pytest.mark.parametrize("case", CASES)
def test_blocks_have_the_gradients_of_the_formula(case, small_blocks):
    settings = dict(CASES[case])
    given = arrays(settings.pop("groups", 4))
    none = FastDropout(0.0)
    found = with_gradients(
        lambda q, k, v: causal_attention(q, k, v, none, True, **settings), *given
    )
    expected = with_gradients(lambda q, k, v: formula(q, k, v, **settings), *given)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_dropout_in_blocks_is_the_same_for_the_gradients(small_blocks):
    """The output is linear in v: the gradient of sum(y d) gives back sum(y d) where v was."""
    q, k, v, d = arrays(4)
    dropout = FastDropout(0.5, seed=1)
    y, _, _, dv = with_gradients(
        lambda q, k, v: causal_attention(q, k, v, dropout, True), q, k, v, d
    )
    assert float(tf.reduce_sum(dv * v)) == pytest.approx(float(tf.reduce_sum(y * d)), rel=1e-4)
    kept = with_gradients(lambda q, k, v: causal_attention(q, k, v, dropout, False), q, k, v, d)[0]
    assert float(tf.reduce_max(abs(y - kept))) > 0.1


def test_no_array_of_a_long_sequence_is_as_long_twice():
    @tf.function(autograph=False)
    def compute(q, k, v):
        with tf.GradientTape() as tape:
            tape.watch(q)
            y = causal_attention(q, k, v, FastDropout(0.0), True)
        return tape.gradient(y, q)

    length = 2048
    graph = compute.get_concrete_function(*[tf.TensorSpec((1, 1, length, 8))] * 3).graph
    shapes = [tuple(o.shape) for op in graph.get_operations() for o in op.outputs if o.shape.rank]
    assert all(shape.count(length) < 2 for shape in shapes)


def test_dropout_that_cannot_be_drawn_again_is_computed_at_once(small_blocks):
    q, k, v, d = arrays(4)
    dropout = FastDropout(0.5, seed=1)
    with tf.GradientTape() as tape:
        tape.watch(v)
        y = causal_attention(q, k, v, dropout, True)
    dv = tape.gradient(y, v, d)
    assert float(tf.reduce_sum(dv * v)) == pytest.approx(float(tf.reduce_sum(y * d)), rel=1e-4)
