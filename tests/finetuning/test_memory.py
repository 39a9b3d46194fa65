"""What a fine-tuning run takes, against what processes took; what is advised where it does not
fit; what quantised kernels are, and what becomes of them in the gradients."""

import re

import numpy as np
import pytest
import tensorflow as tf
from keras import quantizers

from minigpt_tf import machine
from minigpt_tf.config import FineTuningConfig, LoraConfig, ModelConfig
from minigpt_tf.config.presets import fine_tuning_preset, model_preset
from minigpt_tf.errors import ConfigError
from minigpt_tf.finetuning import memory
from minigpt_tf.finetuning.methods import method_of
from minigpt_tf.inference.lora_targets import kernel_sides
from minigpt_tf.inference.weights import full_name, weight_shapes
from minigpt_tf.model.adapted import assign_base, build_adapted_model
from minigpt_tf.model.low_rank import FusedDense, kernel_of, product
from tests.interop.folders import family_config, random_weight

SMOLLM2 = ModelConfig(
    vocab_size=49152,
    context_length=8192,
    embed_dim=576,
    num_layers=30,
    num_heads=9,
    num_kv_heads=3,
    ff_dim=1536,
    dropout=0.0,
    positions="rotary",
    norm="rms",
    norm_first=True,
    activation="swiglu",
    use_bias=False,
    qkv_bias=False,
    logits_bias=False,
    tie_embeddings=True,
)
"""SmolLM2-135M's sizes."""


WIDE = model_preset(
    "modern",
    vocab_size=8000,
    context_length=1024,
    embed_dim=1024,
    num_layers=6,
    num_heads=16,
    num_kv_heads=16,
    ff_dim=4096,
)

MEASURED = [  # method, bits, model, batch, tokens, those that count, peak of a whole run in MB
    ("lora", "8", SMOLLM2, 2, 128, 61, 3360),
    ("qlora", "8", SMOLLM2, 2, 128, 61, 3081),
    ("qlora", "4", SMOLLM2, 2, 128, 61, 3199),
    ("full", "8", WIDE, 4, 256, 218, 5025),
    ("lora", "8", WIDE, 4, 256, 218, 2634),
    ("qlora", "8", WIDE, 4, 256, 218, 2329),
]


def run_of(method, model=SMOLLM2, bits="8", length=128, targets=78, **training):
    settings = {"batch_size": 8, "dtype": "float32", **training}
    return memory.Run(
        model,
        method_of(FineTuningConfig(method=method, base_bits=bits)),
        LoraConfig(),
        fine_tuning_preset(method, **settings),
        length,
        targets,
    )


@pytest.mark.parametrize("method, bits, model, batch, length, targets, megabytes", MEASURED)
def test_the_estimate_is_near_what_was_measured(
    method, bits, model, batch, length, targets, megabytes
):
    run = run_of(method, model, bits, length, targets, batch_size=batch)
    assert memory.run_bytes(run) / 2**20 == pytest.approx(megabytes, rel=0.2)


def test_trained_parameters_are_those_of_the_model():
    model = family_config("llama")
    lora = LoraConfig(rank=4, targets=("query", "value", "feed_forward_down"))
    built, _ = build_adapted_model(model, lora, seed=1)
    count = sum(int(np.prod(v.shape)) for v in built.trainable_variables)
    methods = {name: method_of(FineTuningConfig(method=name)) for name in ("lora", "full")}
    assert methods["lora"].trained_parameters(model, lora) == count
    assert methods["full"].trained_parameters(model, lora) == model.parameter_count
    assert "feed_forward_gate" not in kernel_sides(family_config("gpt2"))


def with_memory(monkeypatch, gigabytes):
    monkeypatch.setattr(machine, "memory_size", lambda: int(gigabytes * 2**30))
    monkeypatch.setattr(memory, "memory_size", machine.memory_size)


def test_what_does_not_fit_is_refused_with_what_would(monkeypatch):
    run = run_of("full")
    with_memory(monkeypatch, memory.run_bytes(run) / 2**30 + 0.1)
    memory.check_run_fits(run)
    for gigabytes in (6, 5, 4, 3):
        with_memory(monkeypatch, gigabytes)
        with pytest.raises(ConfigError, match=r"--method full with 8 rows of 128 tokens") as found:
            memory.check_run_fits(run)
        said = str(found.value)
        advised = re.findall(r"(--[^()]*?) \(needs (\d\.\d) GiB\)", said.split("GiB: ")[1])
        assert advised and all(float(needed) <= gigabytes for _, needed in advised), said
        for words, needed in advised:
            options = dict.fromkeys(re.findall(r"--(\w+)", words))
            bits = "4" if "--base-bits 4" in words else "8"
            parts = re.search(r"--accumulate (\d+)", words)
            method = re.search(r"--method (\w+)", words)
            tried = run_of(
                method[1] if method else "full",
                bits=bits,
                remat="remat" in options,
                accumulate=int(parts[1]) if parts else 1,
            )
            assert memory.run_bytes(tried) / 2**30 == pytest.approx(float(needed), abs=0.06)
    with_memory(monkeypatch, 1)
    with pytest.raises(ConfigError, match="choose a smaller base, or shorter rows"):
        memory.check_run_fits(run)


def test_methods_need_less_in_their_order():
    needs = [
        memory.run_bytes(run_of(method, bits=bits))
        for method, bits in (("full", "8"), ("lora", "8"), ("qlora", "8"), ("qlora", "4"))
    ]
    assert needs == sorted(needs, reverse=True) and len(set(needs)) == 4
    pairs = memory.run_bytes(run_of("dpo", targets=10))  # two rows each
    assert pairs == memory.run_bytes(run_of("lora", batch_size=16, targets=10))


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
