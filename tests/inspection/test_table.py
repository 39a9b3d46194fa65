"""A model's layers as Keras's summary has them, from its file alone."""

import keras
import pytest

from minigpt_tf.inspection.table import summarize
from minigpt_tf.interop.keras_files.files import open_keras_file
from tests.interop import lecture


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("nested", [True, False])
def test_the_lecture_s_own_model_as_keras_shows_it(nested, suffix, tmp_path):
    """Names, classes, shapes and counts of every layer, from the file, against the live model."""
    model = lecture.build(keras, nested=nested, add="+", feed_forward="sequential")
    model.save(tmp_path / f"gpt{suffix}")
    file = open_keras_file(tmp_path / f"gpt{suffix}")
    table = summarize(file.model, file.weights, expand=True)

    def expected(model, depth):
        for layer in model.layers if isinstance(model, keras.Sequential) else model.operations:
            prefix = "   " * depth + "└ " if depth else ""
            count = layer.count_params() if isinstance(layer, keras.layers.Layer) else 0
            shape = layer._inbound_nodes[-1].outputs[0].shape  # as Keras's own summary has it
            yield f"{prefix}{layer.name}", type(layer).__name__, shape, count
            if isinstance(layer, keras.Model):
                yield from expected(layer, depth + 1)

    wanted = list(expected(model, 0))
    rows = [(row.name, row.class_name, row.shape, row.parameters) for row in table.rows]
    # The input of a Sequential stands in the file, but not in Keras's summary.
    assert [row for row in rows if row in wanted or row[1] != "InputLayer"] == wanted
    assert table.parameters == model.count_params() and table.frozen == 0
    assert table.nbytes == 4 * model.count_params()


def test_frozen_layers_and_unknown_classes(tmp_path):
    class Noise(keras.layers.Layer):
        def build(self, shape):
            self.inner = keras.layers.Dense(3)
            self.inner.build(shape)
            self.scale = self.add_weight(shape=(shape[-1],))

        def call(self, x):
            return self.inner(x) * self.scale

    inner = keras.Sequential([keras.Input((3,)), Noise(name="first"), keras.layers.Dense(5)])
    frozen = keras.layers.Dense(2, name="frozen", trainable=False)
    model = keras.Sequential([keras.Input((3,)), inner, keras.layers.BatchNormalization(), frozen])
    for name in ("own.h5", "own.keras"):
        model.save(tmp_path / name)
        file = open_keras_file(tmp_path / name)
        table = summarize(file.model, file.weights, expand=True)
        counts = {row.name: row.parameters for row in table.rows}
        assert counts["   └ first"] == 15 and counts["frozen"] == 12
        assert table.parameters == model.count_params() == 15 + 20 + 20 + 12
        assert table.frozen == 10 + 12
