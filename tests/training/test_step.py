"""The compiled step against Keras's own layers, loss, clipping and optimizers."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from minigpt_tf.config import ModelConfig, TrainingConfig
from minigpt_tf.config.presets import model_preset
from minigpt_tf.inference.weights import assign_weights, weights_of
from minigpt_tf.model import build_gpt_model
from minigpt_tf.model.output_head import OutputHead
from minigpt_tf.training import losses
from minigpt_tf.training.losses import linear_cross_entropy
from minigpt_tf.training.optimizers import build_optimizer
from minigpt_tf.training.step import LanguageModel, TrainingStep
from tests.switches import SWITCHES

SMALL = {"vocab_size": 23, "context_length": 8, "embed_dim": 16, "num_layers": 2, "num_heads": 4}
SMALL |= {"dropout": 0.0, "head_dim": None, "ff_dim": 24}
GROUPED = {"num_kv_heads": 2, "qkv_bias": True}


def small(preset: str, **settings) -> ModelConfig:
    return model_preset(preset, **{**SMALL, "num_kv_heads": None, **settings})


def batch(config: ModelConfig, size: int = 4) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (size, 9), dtype=np.int32)
    return ids[:, :-1], ids[:, 1:]


def trainable(config: ModelConfig, dtype: str = "float32", **settings) -> LanguageModel:
    """A model whose weights are large enough for every part of it to matter."""
    model = LanguageModel(config, TrainingConfig(**settings), dtype)
    rng = np.random.default_rng(1)
    for variable in model.variables:
        variable.assign(variable + rng.normal(0, 0.3, variable.shape))
    return model


def keras_gradients(config: ModelConfig, weights, x, y):
    """Loss and gradients by built-in layers, Keras's loss and TensorFlow's own derivatives."""
    model = build_gpt_model(config)
    assign_weights(model, weights)
    with tf.GradientTape() as tape:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, model(x))
    variables = [variable.value for variable in model.trainable_variables]
    return loss, [tf.convert_to_tensor(g) for g in tape.gradient(loss, variables)]


def step_gradients(model: LanguageModel, x, y, **settings):
    """What a step gives to its optimizer, unclipped."""
    given = []

    class Recorder(keras.optimizers.SGD):
        def apply(self, gradients, variables):
            given.append(None)
            for total, gradient in zip(totals, gradients, strict=True):
                total.assign(gradient)

    totals = [tf.Variable(tf.zeros(variable.shape)) for variable in model.variables]
    step = TrainingStep(model, Recorder(), clip_norm=0.0, **settings)
    result = step(x, y, step=5)
    return result, [total.numpy() for total in totals]


@pytest.mark.parametrize(
    "config",
    [
        *(small("modern", **switches) for switches in SWITCHES.values()),
        small("lecture"),
        small("gpt2"),
        small("shakespeare"),
        small("modern"),
        small("modern", **GROUPED),
        small("shakespeare", tie_embeddings=False, logits_bias=True),
    ],
    ids=[*SWITCHES, "lecture", "gpt2", "shakespeare", "modern", "grouped", "untied"],
)
def test_loss_and_gradients_are_those_of_keras(config):
    model = trainable(config)
    x, y = batch(config)
    loss, gradients = keras_gradients(config, weights_of(model.keras_model), x, y)
    result, given = step_gradients(model, x, y)
    assert result.loss == pytest.approx(float(loss), rel=1e-5)
    norm = float(tf.linalg.global_norm(gradients))
    assert result.gradient_norm == pytest.approx(norm, rel=1e-4)
    for variable, mine, keras_own in zip(model.variables, given, gradients, strict=True):
        np.testing.assert_allclose(mine, keras_own, atol=3e-5, err_msg=variable.path)


@pytest.mark.parametrize("preset", ["lecture", "modern"])
def test_bfloat16_gradients_point_the_same_way(preset):
    config = small(preset)
    x, y = batch(config)
    _, exact = step_gradients(trainable(config), x, y)
    _, rounded = step_gradients(trainable(config, "mixed_bfloat16"), x, y)
    exact, rounded = (np.concatenate([g.ravel() for g in group]) for group in (exact, rounded))
    cosine = exact @ rounded / np.linalg.norm(exact) / np.linalg.norm(rounded)
    assert cosine > 0.995  # bfloat16 has 8 bits, and some relus change sides


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_gradients_are_those_of_the_whole_batch(accumulate):
    config = small("lecture")
    x, y = batch(config)
    model = trainable(config)
    whole, expected = step_gradients(model, x, y)
    parts, given = step_gradients(model, x, y, accumulate=accumulate)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    assert parts.accuracy == pytest.approx(whole.accuracy)
    for mine, theirs in zip(given, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


@pytest.mark.parametrize("preset", ["lecture", "modern"])
def test_computing_blocks_again_changes_no_gradient(preset):
    """With dropout: the second computation has to draw the same numbers."""
    config = small(preset, dropout=0.3)
    x, y = batch(config)
    kept, expected = step_gradients(trainable(config), x, y)
    again, given = step_gradients(trainable(config, remat=True), x, y)
    assert again.loss == pytest.approx(kept.loss, rel=1e-6)
    for mine, theirs in zip(given, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_logits_in_chunks_give_the_same_loss_and_gradients(monkeypatch):
    config = small("lecture")
    x, y = batch(config)
    whole, expected = step_gradients(trainable(config), x, y)
    monkeypatch.setattr(losses, "MOST_LOGITS", 5 * config.vocab_size)
    pieces, given = step_gradients(trainable(config), x, y)
    assert pieces.loss == pytest.approx(whole.loss, rel=1e-6)
    for mine, theirs in zip(given, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_the_loss_of_huge_logits_is_finite():
    hidden, kernel = tf.constant([[1000.0], [-1000.0]]), tf.constant([[1.0, -1.0]])
    loss, accuracy = linear_cross_entropy(
        hidden, OutputHead(kernel, None, tied=False), tf.constant([1, 1])
    )
    assert (float(loss), float(accuracy)) == (1000.0, 0.5)


def test_dropout_drops_its_share_and_depends_on_the_step_alone():
    from minigpt_tf.model.dropout import FastDropout, dropout_step

    layer = FastDropout(0.1, seed=3)
    ones = tf.ones((100, 333))

    def drop(step):
        with tf.GradientTape() as tape, dropout_step(tf.constant(step)):
            tape.watch(ones)
            y = layer(ones, training=True)
        return y.numpy(), tape.gradient(y, ones).numpy()

    first, gradient = drop(7)
    assert np.array_equal(first, drop(7)[0]) and not np.array_equal(first, drop(8)[0])
    assert np.array_equal(first, gradient)
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.9)}
    assert (first == 0).mean() == pytest.approx(0.1, abs=0.006)  # three standard deviations: 0.005
    assert abs(np.corrcoef(first[:, :-1].ravel(), first[:, 1:].ravel())[0, 1]) < 0.02
    assert np.array_equal(layer(ones, training=False), ones)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_fused_update_is_keras_own(name):
    training = TrainingConfig(
        optimizer=name,
        beta_2=0.95,
        learning_rate=0.01,
        warmup_steps=2,
        weight_decay=0.1 if name == "adamw" else 0.0,
    )
    fused = build_optimizer(training, total_steps=10)
    keras_own = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}[name]
    decay = {"weight_decay": 0.1} if name == "adamw" else {}
    own = keras_own(fused._learning_rate, beta_2=0.95, **decay)
    variables = [keras.Variable(np.ones((3, 2), "float32"), name="kernel") for _ in range(2)]
    for optimizer, variable in zip((fused, own), variables, strict=True):
        optimizer.build([variable])
        rng = np.random.default_rng(0)
        for _ in range(5):
            optimizer.apply([tf.constant(rng.normal(size=(3, 2)), tf.float32)])
    np.testing.assert_allclose(variables[0], variables[1], rtol=1e-5)


def test_clipping_is_by_the_global_norm():
    config = replace(small("lecture"))
    x, y = batch(config)
    model = trainable(config)
    free, _ = step_gradients(model, x, y)

    class Recorder(keras.optimizers.SGD):
        def apply(self, gradients, variables):
            norm.assign(tf.linalg.global_norm(gradients))

    norm = tf.Variable(0.0)
    for clip_norm in (free.gradient_norm / 4, free.gradient_norm * 4):
        result = TrainingStep(model, Recorder(), clip_norm=clip_norm)(x, y, step=5)
        assert result.gradient_norm == pytest.approx(free.gradient_norm, rel=1e-5)
        assert float(norm) == pytest.approx(min(clip_norm, free.gradient_norm), rel=1e-5)


def test_a_gradient_that_is_no_number_leaves_finite_weights():
    config = small("lecture")
    model = trainable(config)
    optimizer = build_optimizer(TrainingConfig(), total_steps=10)
    step = TrainingStep(model, optimizer, clip_norm=1.0)
    x, y = batch(config)
    step(x, y, step=0)
    kernel = model.keras_model.get_layer("block_0").get_layer("block_0_feed_forward_up").kernel
    sound = kernel.numpy()
    kernel.assign(np.full(kernel.shape, np.inf))
    assert not np.isfinite(step(x, y, step=1).gradient_norm)
    kernel.assign(sound)
    assert all(np.isfinite(weight).all() for weight in weights_of(model.keras_model).values())
    assert np.isfinite(step(x, y, step=2).loss)


def test_muon_moves_matrices_along_orthogonal_directions():
    config = small("shakespeare", embed_dim=16, ff_dim=32)
    training = TrainingConfig(
        optimizer="muon", learning_rate=0.1, warmup_steps=0, schedule="constant"
    )
    model = trainable(config)
    before = weights_of(model.keras_model)
    optimizer = build_optimizer(training, total_steps=10)
    TrainingStep(model, optimizer, clip_norm=0.0)(*batch(config), step=0)
    after = weights_of(model.keras_model)
    shapes = {"attention/query/kernel": (16, 16), "attention/attention_output/kernel": (16, 16)}
    shapes |= {"feed_forward_up/kernel": (16, 32), "feed_forward_down/kernel": (32, 16)}
    for name, shape in shapes.items():
        moved = (after[f"block_0/{name}"] - before[f"block_0/{name}"]).reshape(shape)
        singular = np.linalg.svd(moved / (0.1 * 0.2 * np.sqrt(max(shape))), compute_uv=False)
        # The gradient has no part along the mean of a norm's output: one singular value is 0.
        assert singular[-2] > 0.5 and singular[0] < 1.5, name
    embedding = after["token_embedding/embeddings"] - before["token_embedding/embeddings"]
    assert np.median(np.abs(embedding)) == pytest.approx(0.1, rel=1e-3)  # Adam's first step


@pytest.mark.parametrize("preset", ["lecture", "gpt2", "modern"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_xla_gives_the_same_losses(preset, accumulate):
    config = small(preset, dropout=0.1)
    losses = {}
    for jit_compile in (False, True):
        model, told = trainable(config), []
        optimizer = build_optimizer(TrainingConfig(), total_steps=10)
        optimizer.build(model.variables)
        step = TrainingStep(
            model,
            optimizer,
            clip_norm=1.0,
            accumulate=accumulate,
            jit_compile=jit_compile,
            notice=told.append,
        )
        losses[jit_compile] = [step(*batch(config), step=i).loss for i in range(4)]
        assert told == []
    np.testing.assert_allclose(losses[True], losses[False], rtol=1e-4)
    assert losses[True] != [losses[True][0]] * 4


def test_a_step_that_xla_cannot_compile_runs_without_it():
    config = small("modern")

    class Strange(LanguageModel):
        def loss(self, x, y, *, training):
            loss, accuracy = super().loss(x, y, training=training)
            words = tf.strings.length(tf.strings.as_string(loss))  # XLA has no strings
            return loss + 0 * tf.cast(words, tf.float32), accuracy

    told = []
    model = Strange(config, TrainingConfig(), "float32")
    optimizer = build_optimizer(TrainingConfig(), total_steps=10)
    optimizer.build(model.variables)
    step = TrainingStep(model, optimizer, clip_norm=1.0, jit_compile=True, notice=told.append)
    results = [step(*batch(config), step=i).loss for i in range(3)]
    assert results[2] < results[0] and len(told) == 1 and told[0].startswith("XLA cannot compile")


def test_a_step_for_which_xla_misses_a_file_of_cuda_runs_without_it(monkeypatch):
    config, told = small("modern"), []
    model = trainable(config)
    optimizer = build_optimizer(TrainingConfig(), total_steps=10)
    optimizer.build(model.variables)
    step = TrainingStep(model, optimizer, clip_norm=1.0, jit_compile=True, notice=told.append)

    def without_libdevice(*_):
        raise tf.errors.InternalError(None, None, "libdevice not found at ./libdevice.10.bc")

    monkeypatch.setattr(step, "_compiled", without_libdevice)
    results = [step(*batch(config), step=i).loss for i in range(3)]
    assert results[2] < results[0] and len(told) == 1 and "libdevice" in told[0]
    monkeypatch.setattr(step, "_compiled", without_libdevice)  # a step that ran before
    with pytest.raises(tf.errors.InternalError):
        step(*batch(config), step=3)
