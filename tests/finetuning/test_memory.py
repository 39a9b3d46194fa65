"""What quantized kernels are, what becomes of them in the gradients, and how many are trained."""

import numpy as np
import pytest
import tensorflow as tf
from keras import quantizers

from minigpt_tf.config import FineTuningConfig, LoraConfig
from minigpt_tf.finetuning.methods import method_of
from minigpt_tf.inference.lora_targets import kernel_sides
from minigpt_tf.inference.weights import full_name, weight_shapes
from minigpt_tf.model.adapted import assign_base, build_adapted_model
from minigpt_tf.model.low_rank import FusedDense, kernel_of, product
from tests.interop.folders import family_config, random_weight


def test_trained_parameters_are_those_of_the_model():
    model = family_config("llama")
    lora = LoraConfig(rank=4, targets=("query", "value", "feed_forward_down"))
    built, _ = build_adapted_model(model, lora, seed=1)
    count = sum(int(np.prod(v.shape)) for v in built.trainable_variables)
    methods = {name: method_of(FineTuningConfig(method=name)) for name in ("lora", "full")}
    assert methods["lora"].trained_parameters(model, lora) == count
    assert methods["full"].trained_parameters(model, lora) == model.parameter_count
    assert "feed_forward_gate" not in kernel_sides(family_config("gpt2"))


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_kernels_are_made_as_keras_makes_them(mode):
    config = family_config(
        "gpt2", embed_dim=36, num_heads=2, num_kv_heads=2, ff_dim=70
    )  # no multiple of 64
    model, _ = build_adapted_model(config, LoraConfig(), seed=1, quantize=mode)
    weights = {name: random_weight(name, shape) for name, shape in weight_shapes(config).items()}
    assign_base(model, weights)
    found = 0
    for layer in model.get_layer("block_1").layers:
        if not isinstance(layer, FusedDense):
            continue
        made = kernel_of(layer, tf.float32)().numpy()
        scale = np.array(layer.kernel_scale)
        if mode == "int8":
            expected = np.array(layer._kernel) / scale
        else:
            numbers = quantizers.unpack_int4(np.array(layer._kernel), made.shape[1], axis=-1)
            groups = np.array(layer.g_idx).astype(int)
            expected = (np.array(numbers) - np.array(layer.kernel_zero)[groups]) * scale[groups]
        np.testing.assert_allclose(made, expected, rtol=1e-6)
        given = weights[full_name("block_1", f"{layer.name}/kernel")]
        assert 0 < np.abs(made - given).mean() < 0.1 * np.abs(given).mean()
        found += 1
    assert found == 2


def test_a_frozen_kernel_is_made_again_for_the_gradient():
    random = np.random.default_rng(0)
    x = tf.constant(random.normal(size=(3, 5)).astype(np.float32))
    kernel = tf.constant(random.normal(size=(5, 4)).astype(np.float32))
    made = []

    def make():
        made.append(1)
        return tf.identity(kernel, name="made")

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(product(x, make, frozen=True) ** 2)
        return tape.gradient(y, x)

    expected = 2 * (x.numpy() @ kernel.numpy()) @ kernel.numpy().T
    np.testing.assert_allclose(gradient(x), expected, rtol=1e-5)
    assert len(made) == 2
    graph = gradient.get_concrete_function(x).graph
    copies = [op for op in graph.get_operations() if op.name.split("/")[-1].startswith("made")]
    assert len(copies) == 2 and all(op.control_inputs for op in copies)
