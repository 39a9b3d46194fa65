"""Dropout that is a function of a seed and of the step, from 16-bit random numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import tensorflow as tf
from keras import layers

from .layers import register
from .tensorflow_internals import select

_current: ContextVar[tf.Tensor | None] = ContextVar("step", default=None)
"""A thread's own: another one may be tracing another function."""


@contextmanager
def dropout_step(step: tf.Tensor) -> Iterator[None]:
    """A context in which dropout is a function of the layers' seeds and of the step.

    A resumed run then draws the same numbers, and so does a block that is computed again for its
    gradients.

    Args:
        step: An int32 scalar, different for every batch.
    """
    before = _current.set(step)
    try:
        yield
    finally:
        _current.reset(before)


def current_step() -> tf.Tensor | None:
    """The step of `dropout_step`; None outside."""
    return _current.get()


@register
class FastDropout(layers.Dropout):
    """Dropout that draws 16 bits for each number; outside `dropout_step` it is Keras's own."""

    def call(self, inputs, training=False):
        """Any shape -> the same: a fraction `rate` is 0, the rest is divided by 1 - `rate`."""
        step = _current.get()
        if not (training and self.rate and step is not None):
            return super().call(inputs, training=training)
        seed = tf.stack([tf.cast(self.seed_generator.state[0], tf.int32), step])
        bits = _random_uint16(tf.size(inputs), seed)
        threshold = min(round(self.rate * 2**16), 2**16 - 1)  # 2**16 would be 0 in 16 bits
        dropped = tf.reshape(bits, tf.shape(inputs)) < threshold
        scale = tf.constant(1 / (1 - self.rate), inputs.dtype)

        @tf.custom_gradient
        def drop(x):
            def without_dropped(x):
                return select(dropped, tf.zeros_like(x), x * scale)

            return without_dropped(x), without_dropped

        return drop(inputs)


def _random_uint16(size: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """`size` uniform random numbers of 16 bits, a function of the seed (2,) (Philox)."""
    pairs = tf.random.stateless_uniform(
        [(size + 1) // 2], seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )
    return tf.reshape(tf.bitcast(pairs, tf.uint16), [-1])[:size]
