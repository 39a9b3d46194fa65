"""A compiled function that calls no other, for the tests of what is kept of it."""

from minigpt_tf.compiled import entry


@entry
def relu(x, unused):
    for i in range(x.size):
        x[i] = max(x[i], 0)
