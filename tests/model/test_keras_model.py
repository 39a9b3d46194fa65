"""What a notebook does with the model: compile, fit, save, load in another process, go on."""

import functools
import json
import os
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest

import minigpt_tf as mg
from minigpt_tf.config.presets import PRESETS
from minigpt_tf.errors import ConfigError, DataError
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.weights import read_weights
from minigpt_tf.model import Model
from minigpt_tf.model.keras_model import expects_logits
from tests.conftest import ROOT, tiny_config

FROM_LOGITS = {"from_logits": True}
SPARSE, ONE_HOT = keras.losses.SparseCategoricalCrossentropy, keras.losses.CategoricalCrossentropy


def lecture(**sizes):
    """The lecture's model, small."""
    small = {"vocab_size": 30, "max_seq_len": 8, "embed_dim": 16, "num_heads": 2, "ff_dim": 24}
    return mg.build_gpt_model(**{**small, "num_layers": 2, **sizes})


def windows(count=24, length=8, vocab_size=30):
    x = np.random.default_rng(0).integers(0, vocab_size, (count, length))
    return x, np.roll(x, -1, axis=1)


def compiled(model, **arguments):
    loss = "sparse_categorical_crossentropy"
    if not model.ends_in_softmax:
        loss = SPARSE(from_logits=True)
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"], **arguments)
    return model


def outputs(model, ids):
    return keras.ops.convert_to_numpy(model(ids, training=False))


# the lecture's signatures


def test_sizes_by_place_and_by_every_name_make_the_same_model():
    by_place = mg.build_gpt_model(30, 8, 16, 2, 24, 1, 0.3)
    for name in ("context_length", "max_len", "max_seq_len"):
        by_name = mg.build_gpt_model(
            **{name: 8}, vocab_size=30, embed_dim=16, num_heads=2, ff_dim=24, num_layers=1, rate=0.3
        )
        for a, b in zip(by_place.layers, by_name.layers, strict=True):
            if not isinstance(a, keras.Model):
                assert json.dumps(a.get_config()) == json.dumps(b.get_config())
        assert by_name.count_params() == by_place.count_params()
        assert by_name.get_layer("block_0").get_layer("block_0_attention_dropout").rate == 0.3


def test_two_names_of_one_size_are_refused():
    with pytest.raises(ConfigError, match="context_length and max_len are names of the same"):
        mg.build_gpt_model(30, 8, max_len=9)
    with pytest.raises(ConfigError, match="dropout and rate"):
        mg.transformer_block(16, 2, 32, 0.1, rate=0.2)
    with pytest.raises(ConfigError, match="a config has all sizes: drop num_layers"):
        mg.build_gpt_model(tiny_config("lecture"), num_layers=3)
    with pytest.raises(ConfigError, match="num_heads=0: must be at least 1"):
        mg.build_gpt_model(num_heads=0)
    with pytest.raises(ConfigError, match="head='probabilities'"):
        mg.build_gpt_model(head="probabilities")


def test_a_model_typed_from_its_parts_is_the_built_one():
    """As the lecture composes it: embedding, positions, blocks, softmax."""
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(30, 16)(inputs)
    x = mg.PositionalEncoding(8, 16)(x)
    for _ in range(2):
        x = mg.transformer_block(16, 2, 24)(x)
    typed = keras.Model(inputs, keras.layers.Dense(30, activation="softmax")(x))
    built = lecture()
    assert [w.shape for w in typed.weights] == [w.shape for w in built.weights]
    for variable, weight in zip(typed.weights, built.weights, strict=True):
        variable.assign(weight)
    x, y = windows()
    np.testing.assert_allclose(outputs(typed, x), outputs(built, x), atol=1e-6)
    typed.compile("adam", "sparse_categorical_crossentropy")
    typed.fit(x, y, verbose=0)


def test_positions_take_the_lectures_arguments():
    x = np.zeros((1, 5, 8), np.float32)
    for layer in (
        mg.PositionalEncoding(10, 8),
        mg.PositionalEncoding(max_len=10, d_model=8),
        mg.PositionalEncoding(max_seq_len=10),
    ):
        again = mg.PositionalEncoding.from_config(layer.get_config())
        np.testing.assert_array_equal(layer(x), again(x))
    with pytest.raises(ConfigError, match="d_model=6, but it is added to embeddings of width 8"):
        mg.PositionalEncoding(10, 6)(x)
    with pytest.raises(ConfigError, match="sequence of 5 tokens is longer than the context of 4"):
        mg.PositionalEncoding(4)(x)
    with pytest.raises(ConfigError, match="max_len=None"):
        mg.PositionalEncoding()


def test_a_softmax_head_gives_the_softmax_of_the_logits():
    softmax, logits = lecture(), lecture(head="logits")
    logits.set_weights(softmax.get_weights())
    x, _ = windows()
    values = outputs(logits, x)
    expected = np.exp(values) / np.exp(values).sum(-1, keepdims=True)
    np.testing.assert_allclose(outputs(softmax, x), expected, atol=1e-6)


def test_the_global_dtype_policy_counts():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = lecture()
    finally:
        keras.config.set_dtype_policy("float32")
    assert (
        model.get_layer("block_0").get_layer("block_0_feed_forward_up").compute_dtype == "bfloat16"
    )
    assert outputs(model, windows()[0]).dtype == np.float32


# losses and their head


def own_logits_loss(y, p):
    return keras.losses.sparse_categorical_crossentropy(y, p, from_logits=True)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("sparse_categorical_crossentropy", False),
        ("SparseCategoricalCrossentropy", False),
        ("categorical_crossentropy", False),
        (keras.losses.sparse_categorical_crossentropy, False),
        (SPARSE(), False),
        (ONE_HOT(), False),
        (SPARSE(**FROM_LOGITS), True),
        (ONE_HOT(**FROM_LOGITS), True),
        (SPARSE(ignore_class=0, **FROM_LOGITS), True),
        (own_logits_loss, True),
        (lambda y, p: keras.losses.sparse_categorical_crossentropy(y, p), False),
        (SPARSE(ignore_class=1), False),
        (SPARSE(ignore_class=1, **FROM_LOGITS), True),
        (SPARSE(dtype="float16"), False),
        (functools.partial(keras.losses.categorical_crossentropy, **FROM_LOGITS), True),
        ("kl_divergence", False),
        (lambda y, p: -keras.ops.log(keras.ops.take_along_axis(p, y[..., None], -1)), False),
        ("mse", None),
        ("poisson", None),
        (lambda y, p: keras.ops.sum(p), None),
        (lambda y: y, None),
    ],
)
def test_what_a_loss_is_for(loss, expected):
    assert expects_logits(loss) is expected


def test_a_loss_for_the_other_head_is_refused(tmp_path):
    ends_in_logits, ends_in_softmax = lecture(head="logits"), lecture()
    for model in (ends_in_logits, _reloaded(ends_in_logits, tmp_path / "a.h5")):
        with pytest.raises(ConfigError, match=r"ends in logits, .*loss=keras.losses.*logits=True"):
            model.compile("adam", "sparse_categorical_crossentropy")
        with pytest.raises(ConfigError, match="metrics='sparse_categorical_crossentropy'"):
            model.compile(
                "adam", SPARSE(**FROM_LOGITS), metrics=["sparse_categorical_crossentropy"]
            )
        model.compile("adam", SPARSE(**FROM_LOGITS), metrics=["accuracy"])
    for model in (ends_in_softmax, _reloaded(ends_in_softmax, tmp_path / "b.keras")):
        with pytest.raises(ConfigError, match=r'softmax, .*loss="sparse_categorical_crossentropy"'):
            model.compile(optimizer="adam", loss=[SPARSE(**FROM_LOGITS)])
        model.compile("adam", {"probabilities": "sparse_categorical_crossentropy"})


def _reloaded(model, file):
    model.save(file)
    return keras.models.load_model(file, compile=False)


def test_a_metric_may_be_a_class():
    model = lecture()
    model.compile("adam", SPARSE(), metrics=[keras.metrics.SparseCategoricalAccuracy])
    with pytest.raises(ConfigError, match="expects probabilities"):
        lecture(head="logits").compile("adam", metrics=[keras.metrics.CategoricalCrossentropy])


# targets of other forms


def test_targets_may_be_rows_of_probabilities():
    model, (x, y) = lecture(dropout=0), windows()
    rows = keras.utils.to_categorical(y, 30)
    found = {}
    for loss, targets in {
        "sparse_categorical_crossentropy": y,
        "categorical_crossentropy": rows,
        SPARSE(): y[..., None],
    }.items():
        model.compile("sgd", loss)
        found[str(loss)] = model.evaluate(x, targets, verbose=0)
        model.fit(x[:2], targets[:2], epochs=0, verbose=0)
    assert list(found.values()) == pytest.approx([next(iter(found.values()))] * 3, rel=1e-5)
    with pytest.raises(DataError, match=r"y has the shape \(24, 8, 29\)"):
        model.fit(x, rows[..., 1:], verbose=0)


def test_targets_that_do_not_count_are_taken():
    model, (x, y) = lecture(), windows()
    y[:, 0] = -1
    model.compile("sgd", SPARSE(ignore_class=-1))
    model.fit(x, y, verbose=0)
    with pytest.raises(DataError, match="y has the id -3"):
        model.fit(x, np.where(y == 5, -3, y), verbose=0)

    def own_loss(y, p):
        counts = keras.ops.cast(y >= 0, "float32")
        return keras.losses.sparse_categorical_crossentropy(keras.ops.abs(y), p) * counts

    model.compile("sgd", own_loss)
    model.fit(x, y, verbose=0)


# bad ids


def test_ids_beyond_the_vocabulary_are_named():
    model, (x, y) = compiled(lecture()), windows()
    for name, arguments in {"x": (x + 10, y), "y": (x, y + 10)}.items():
        with pytest.raises(DataError, match=f"{name} has the id 39, and the model knows 0 to 29"):
            model.fit(*arguments, verbose=0)
    with pytest.raises(DataError, match="x has the id -1"):
        model.evaluate(x - 1, y, verbose=0)
    with pytest.raises(DataError, match="x has the id 39"):
        model.predict(x + 10, verbose=0)
    with pytest.raises(DataError, match=r"y has the id 3\d"):
        model.train_on_batch(x, y + 10)
    import tensorflow as tf

    for name, arguments in {"x": (x + 10, y), "y": (x, y + 10)}.items():
        batches = tf.data.Dataset.from_tensor_slices(arguments).batch(4)
        with pytest.raises(DataError, match=f"{name} has the id 3., and the model knows 0 to 29"):
            model.fit(batches, verbose=0)
    compiled(model, jit_compile=True)  # XLA takes any id
    with pytest.raises(DataError, match=r"y has the id 3\d"):
        model.fit(batches, verbose=0)


def test_what_is_not_an_array_of_ids_is_named():
    import tensorflow as tf

    model = compiled(lecture())
    for ids in ([[1, 2, 3], [1, 2]], [["who", "is"]], tf.ragged.constant([[1, 2, 3], [1, 2]])):
        with pytest.raises(DataError, match="x is not an array of numbers with rows of one length"):
            model.fit(ids, ids, verbose=0)
    with pytest.raises(DataError, match="x has the id nan"):
        model.predict(np.array([[1, np.nan]]), verbose=0)


def test_windows_that_do_not_fit_are_named():
    model, (x, y) = compiled(lecture()), windows(length=9)
    with pytest.raises(DataError, match="windows of 9 tokens, and the model's context is 8"):
        model.fit(x, y, verbose=0)
    with pytest.raises(DataError, match=r"x has the shape \(9,\)"):
        model.fit(x[0], y[0], verbose=0)
    modern = compiled(mg.build_gpt_model(tiny_config("modern", vocab_size=30, context_length=8)))
    with pytest.raises(DataError, match="context is 8"):
        modern.fit(x, y, verbose=0)


# saving


HEADS = ["softmax", "logits", "softmax", "logits"]


@pytest.mark.parametrize(("preset", "head"), list(zip(PRESETS, HEADS, strict=True)))
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_every_file_gives_back_the_model_and_its_optimizer(preset, dtype, head, tmp_path):
    config = tiny_config(preset, vocab_size=30, context_length=8, dropout=0.0)
    x, y = windows()
    model = compiled(mg.build_gpt_model(config, head=head, dtype=dtype, seed=1))
    model.save(tmp_path / "before.h5")
    model.fit(x, y, batch_size=8, verbose=0)
    files = [tmp_path / name for name in ("after.h5", "after.keras")]
    for file in files:
        model.save(file)
    model.save_weights(tmp_path / "after.weights.h5")
    expected = outputs(model, x)
    before = compiled(keras.models.load_model(tmp_path / "before.h5", compile=False))
    before.load_weights(tmp_path / "after.weights.h5")
    np.testing.assert_array_equal(outputs(before, x), expected)
    state = [np.array(v) for v in model.optimizer.variables]
    loaded = [keras.models.load_model(file) for file in files]
    for again in loaded:
        assert type(again) is Model
        np.testing.assert_array_equal(outputs(again, x), expected)
        for a, b in zip(again.optimizer.variables, state, strict=True):
            np.testing.assert_array_equal(a, b)
    for again in [model, *loaded] if dtype == "float32" else []:
        again.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        for a, b in zip(again.weights, model.weights, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("num_layers", [1, 12])
def test_files_of_any_depth(num_layers, tmp_path):
    model, (x, _) = compiled(lecture(num_layers=num_layers)), windows(8)
    random = np.random.default_rng(0)
    for variable in model.optimizer.variables[2:]:  # behind the count of steps and the rate
        variable.assign(random.normal(size=variable.shape))
    for name in ("a.h5", "a.keras"):
        model.save(tmp_path / name)
        again = keras.models.load_model(tmp_path / name)
        np.testing.assert_array_equal(outputs(again, x), outputs(model, x))
        state = [np.asarray(v) for v in model.optimizer.variables]
        for a, b in zip(again.optimizer.variables, state, strict=True):
            np.testing.assert_array_equal(a, b)


def test_checkpoints_of_keras_in_the_midst_of_fit(tmp_path):
    x, y = windows()
    model = compiled(lecture(dropout=0.0))
    callbacks = [
        keras.callbacks.ModelCheckpoint(tmp_path / "best.h5", monitor="loss", save_best_only=True),
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"),
        keras.callbacks.ModelCheckpoint(tmp_path / "x.weights.h5", save_weights_only=True),
    ]
    model.fit(x, y, epochs=2, callbacks=callbacks, verbose=0)
    for name in ("best.h5", "2.keras"):
        again = keras.models.load_model(tmp_path / name)
        np.testing.assert_array_equal(outputs(again, x), outputs(model, x))
        assert int(again.optimizer.iterations) == 2

    class Killed(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    whole, killed, goes_on = (compiled(lecture(seed=3, dropout=0.0)) for _ in range(3))
    whole.fit(x, y, epochs=3, shuffle=False, verbose=0)
    with pytest.raises(KeyboardInterrupt):
        killed.fit(x, y, epochs=3, shuffle=False, verbose=0, callbacks=[backup, Killed()])
    goes_on.fit(x, y, epochs=3, shuffle=False, verbose=0, callbacks=[backup])
    assert int(goes_on.optimizer.iterations) == 3
    for a, b in zip(goes_on.weights, whole.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("imports", ["import minigpt_tf, keras", "import keras, minigpt_tf"])
def test_another_process_loads_it_after_importing_the_package_alone(imports, tmp_path):
    model, (x, y) = compiled(lecture()), windows()
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "gpt.h5")
    model.save(tmp_path / "gpt.keras")
    np.savez(tmp_path / "expected.npz", x=x, p=outputs(model, x))
    code = f"""
{imports}
import numpy as np
found = np.load("expected.npz")
for name in ("gpt.h5", "gpt.keras"):
    model = keras.models.load_model(name)
    assert np.array_equal(np.asarray(model(found["x"])), found["p"]), name
    assert int(model.optimizer.iterations) == 1
try:
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
except minigpt_tf.ConfigError:
    print("refused")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "PATH": "/usr/bin:/bin"},
    )
    assert done.stdout.strip().endswith("refused"), done.stderr


def test_files_with_the_old_names_of_a_block_are_read(tmp_path):
    """Before, layers in a block had the same names in every block, and models no class of ours."""
    model = lecture(head="logits")
    x, _ = windows()
    new, old = tmp_path / "new.h5", tmp_path / "old.h5"
    model.save(new)
    with h5py.File(new) as source, h5py.File(old, "w") as target:
        description = json.loads(source.attrs["model_config"])
        description["class_name"] = "Functional"
        text = json.dumps(description)
        for block in ("block_0", "block_1"):
            text = text.replace(f'"{block}_', '"')
        target.attrs["model_config"] = text.replace('"input"', '"block_input"')
        group = target.create_group("model_weights")
        group.attrs["layer_names"] = source["model_weights"].attrs["layer_names"]
        for name, layer in source["model_weights"].items():
            copy = group.create_group(name)
            paths = [str(path) for path in layer.attrs["weight_names"]]
            copy.attrs["weight_names"] = [path.removeprefix(f"{name}_") for path in paths]
            for path in paths:
                copy[path.removeprefix(f"{name}_")] = layer[path][()]
    again = keras.models.load_model(old, compile=False)
    assert again.get_layer("block_1").get_layer("attention") is not None
    np.testing.assert_array_equal(outputs(again, x), outputs(model, x))
    config = tiny_config(
        "lecture", vocab_size=30, context_length=8, num_heads=2, head_dim=16, ff_dim=24
    )
    engine = Engine(config, read_weights(old, config))
    np.testing.assert_allclose(engine.all_logits(x[0]), outputs(model, x[:1])[0], atol=1e-4)


# the start


def test_the_bias_starts_at_the_frequencies():
    model = lecture()
    ids = [1, 1, 1, 2]
    mg.start_from_frequencies(model, ids)
    bias = np.asarray(model.get_layer("logits").bias)
    np.testing.assert_allclose(np.exp(bias[1]) / np.exp(bias[2]), 3.01 / 1.01, rtol=1e-5)
    np.testing.assert_allclose(np.exp(bias).sum(), 1, rtol=1e-5)
    with pytest.raises(ConfigError, match="the ids go to 30"):
        mg.start_from_frequencies(model, [30])
    tied = mg.build_gpt_model(tiny_config("gpt2", vocab_size=30))
    with pytest.raises(ConfigError, match="has no bias"):
        mg.start_from_frequencies(tied, ids)


def test_numbers_or_a_backend_of_another_project_are_named(monkeypatch):
    keras.config.set_floatx("float16")
    try:
        with pytest.raises(ConfigError, match=r"Keras computes in float16 .*set_floatx"):
            lecture()
    finally:
        keras.config.set_floatx("float32")
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ConfigError, match="Keras runs on jax, minigpt_tf needs TensorFlow"):
        lecture()


@pytest.mark.parametrize(
    "content", ['{"floatx": "float16", "backend": "torch", "epsilon": "x"}', "[1]"]
)
def test_the_setup_of_another_project_does_not_reach_a_command(tmp_path, content):
    (tmp_path / "keras.json").write_text(content)
    code = (
        "from minigpt_tf.__main__ import main; import sys\n"
        "sizes = ['--embed-dim', '8', '--num-layers', '1', '--num-heads', '1']\n"
        "status = main(['summary', '--preset', 'lecture', *sizes])\n"
        "import keras\n"
        "assert keras.config.backend() == 'tensorflow' and keras.config.floatx() == 'float32'\n"
        "sys.exit(status)"
    )
    environment = os.environ | {"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment)
    assert done.returncode == 0 and (tmp_path / "keras.json").read_text() == content


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_a_frozen_block_is_frozen_when_it_is_loaded(tmp_path, ending):
    model = lecture()
    model.get_layer("block_0").trainable = False
    model.get_layer("block_1").get_layer("block_1_attention").trainable = False
    kept = [weight.path for weight in model.trainable_weights]
    assert kept and len(kept) < len(model.weights)
    model.save(tmp_path / f"m{ending}")
    loaded = keras.models.load_model(tmp_path / f"m{ending}")
    assert [weight.path for weight in loaded.trainable_weights] == kept
