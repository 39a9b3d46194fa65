"""Configurations: what they refuse, JSON and back, presets and recipes."""

import json
import math
from dataclasses import replace

import pytest

from minigpt_tf.config import DataConfig, ModelConfig, RecordsConfig, TrainingConfig
from minigpt_tf.config.presets import PRESETS, Recipe, data_preset, model_preset, training_preset
from minigpt_tf.config.settings import from_dict, split_settings, to_dict
from minigpt_tf.errors import ConfigError
from minigpt_tf.inference.weights import weight_shapes
from tests.conftest import tiny_config
from tests.switches import SWITCHES


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_heads": 0}, "num_heads=0: must be at least 1"),
        ({"embed_dim": -4}, "embed_dim=-4"),
        ({"context_length": 0}, "context_length=0"),
        ({"vocab_size": 1}, "vocab_size=1"),
        ({"num_layers": 0}, "num_layers=0"),
        ({"embed_dim": 30, "num_heads": 4}, "does not divide into num_heads=4"),
        ({"embed_dim": 15, "head_dim": 4}, "sinusoidal positions need an even width"),
        ({"positions": "rotary", "head_dim": 5}, "rotary positions need an even head width"),
        ({"num_heads": 6, "num_kv_heads": 4, "head_dim": 8}, "not a multiple of num_kv_heads=4"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"norm_epsilon": 0.0}, "norm_epsilon=0.0"),
        ({"activation": "tanh"}, "activation='tanh': choose one of relu, gelu"),
        ({"layer_pattern": "GX"}, "layer_pattern='GX': expected letters of G"),
        ({"layer_pattern": ""}, "layer_pattern='': expected letters"),
        ({"layer_pattern": "GGGGG"}, "has 5 letters: there are only 4 layers"),
        ({"layer_pattern": "L"}, "L needs a window"),
        ({"layer_pattern": "L", "window": 101}, "window=101: must be at least 1 and at most"),
        ({"layer_pattern": "L", "window": 0}, "window=0: must be at least 1"),
        ({"window": 5}, "window=5: layer_pattern='G' has no L"),
        ({"rope_theta_local": 5.0}, "rope_theta_local=5.0: layer_pattern='G' has no L"),
        ({"layer_pattern": "GN"}, "N needs positions=rotary"),
        ({"attention_softcap": 0.0}, "attention_softcap=0.0: must be a positive number"),
        ({"logits_softcap": -1.0}, "logits_softcap=-1.0: must be a positive number"),
        ({"embedding_scale": 0.0}, "embedding_scale=0.0: must be a positive number"),
        ({"norm_placement": "behind"}, "norm_placement='behind': choose one of before, after"),
        ({"norm_first": 1}, "norm_placement=1: choose one of before"),
    ],
)
def test_impossible_models_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**settings)


def test_norms_go_by_their_old_name_too():
    old = to_dict(ModelConfig(norm_placement="before"))
    del old["norm_placement"]
    for first, placed in ((True, "before"), (False, "after")):
        config = from_dict(ModelConfig, {**old, "norm_first": first}, "here")
        assert config.norm_placement == placed and config.norm_first is first
    assert ModelConfig(norm_placement="both").norm_first is None


def test_a_model_of_before_the_newer_switches_is_read():
    old = to_dict(ModelConfig())
    newer = ("layer_pattern", "window", "rope_theta_local", "qk_norm", "attention_softcap")
    for name in (*newer, "embedding_scale", "logits_softcap"):
        del old[name]
    assert from_dict(ModelConfig, old, "here") == ModelConfig()


def test_a_pattern_is_repeated_over_the_layers():
    config = ModelConfig(num_layers=8, layer_pattern="LLG", window=5)
    assert config.layer_kinds == "LLGLLGLL"


@pytest.mark.parametrize("name", SWITCHES)
def test_parameters_are_those_of_the_weights(name):
    config = tiny_config("modern", vocab_size=40, context_length=20, **SWITCHES[name])
    shapes = weight_shapes(config).values()
    assert config.parameter_count == sum(math.prod(shape) for shape in shapes)


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (DataConfig, {"val_split": 1.0}, "val_split=1.0"),
        (DataConfig, {"val_split": -0.1}, "val_split=-0.1"),
        (DataConfig, {"stride": 0}, "stride=0"),
        (DataConfig, {"stride_fraction": 0.0}, "stride_fraction=0.0: must be above 0 and at most"),
        (DataConfig, {"stride_fraction": 1.5}, "stride_fraction=1.5: must be above 0 and at most"),
        (DataConfig, {"stride": 2, "stride_fraction": 0.5}, "exclude each other: give one"),
        (DataConfig, {"encoding": "utf-99"}, "no such encoding"),
        (TrainingConfig, {"batch_size": 0}, "batch_size=0"),
        (TrainingConfig, {"epochs": 0}, "epochs=0"),
        (TrainingConfig, {"steps": -1}, "steps=-1"),
        (TrainingConfig, {"learning_rate": float("nan")}, "learning_rate=nan"),
        (TrainingConfig, {"learning_rate": -1.0}, "learning_rate=-1.0"),
        (TrainingConfig, {"seed": 2**31}, "seed=2147483648"),
        (TrainingConfig, {"weight_decay": 0.1}, "works with --optimizer adamw"),
    ],
)
def test_impossible_runs_are_refused(cls, settings, message):
    with pytest.raises(ConfigError, match=message):
        cls(**settings)


@pytest.mark.parametrize("preset", PRESETS)
def test_json_and_back(preset):
    for config in (model_preset(preset), data_preset(preset), training_preset(preset)):
        values = json.loads(json.dumps(to_dict(config)))
        assert from_dict(type(config), values, "here") == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "here: ModelConfig has no setting 'colour'"),
        ({"num_heads": "eight"}, "here: num_heads='eight' has the wrong type"),
        ({"num_heads": True}, "here: num_heads=True has the wrong type"),
        ({"norm_placement": 1}, "here: norm_placement=1 has the wrong type"),
    ],
)
def test_foreign_json_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(ModelConfig, {**to_dict(ModelConfig()), **change}, "here")
    with pytest.raises(ConfigError, match="here: ModelConfig lacks vocab_size"):
        from_dict(ModelConfig, {"num_heads": 8}, "here")
    with pytest.raises(ConfigError, match="here: expected the settings"):
        from_dict(ModelConfig, [], "here")


def test_the_lectures_head_is_as_wide_as_its_model():
    assert model_preset("lecture").head_dim == 256
    assert model_preset("lecture", embed_dim=64).head_dim == 64
    assert model_preset("lecture", embed_dim=64, head_dim=8).head_dim == 8
    assert model_preset("gpt2", embed_dim=384).head_dim == 32


def test_epochs_replace_a_presets_steps():
    assert training_preset("shakespeare").steps == 2000
    assert training_preset("shakespeare", epochs=3).steps is None
    with pytest.raises(ConfigError, match="preset 'nano' is unknown: choose lecture"):
        model_preset("nano")


def test_a_stride_follows_the_context():
    """As each preset has it; a number that is given stays what it is."""
    for context in (1, 2, 3, 30, 32, 256, 1000, 1024):
        for preset in ("lecture", "shakespeare"):
            assert data_preset(preset).stride_for(context) == 1
        assert data_preset("gpt2").stride_for(context) == context
        quarter = data_preset("modern").stride_for(context)
        assert quarter >= 1 and abs(quarter - context / 4) <= 0.75
        assert data_preset("gpt2", stride=7).stride_for(context) == 7
    assert data_preset("gpt2", stride_fraction=0.5).stride_for(256) == 128
    old = {name: value for name, value in to_dict(DataConfig()).items() if "fraction" not in name}
    assert from_dict(DataConfig, {**old, "stride": 64}, "here").stride_for(32) == 64


def test_a_recipe_replaces_what_the_preset_says_about_training():
    own, fast = training_preset("shakespeare"), training_preset("shakespeare", recipe="fast")
    assert (own.optimizer, own.batch_size, own.steps) == ("adamw", 12, 2000)
    assert (fast.optimizer, fast.batch_size, fast.steps) == ("muon", 24, 500)
    told = training_preset("shakespeare", recipe="fast", steps=50, learning_rate=0.5)
    assert (told.optimizer, told.steps, told.learning_rate) == ("muon", 50, 0.5)
    lecture = training_preset("lecture", recipe="fast")
    assert (lecture.batch_size, lecture.steps, lecture.epochs) == (64, None, 10)
    assert training_preset("lecture", recipe="adam") == training_preset("lecture")
    gpt2 = training_preset("gpt2", recipe="adam")
    assert (gpt2.optimizer, gpt2.weight_decay, gpt2.learning_rate) == ("adam", 0.0, 1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 6, "accumulate": 4}, "does not divide into accumulate=4"),
        ({"eval_fraction": 0.0}, "eval_fraction=0.0: must be above 0"),
        ({"checkpoint_minutes": 0.0}, "checkpoint_minutes=0.0: must be above 0"),
        ({"weight_decay": 0.1}, "--optimizer adamw or muon"),
    ],
)
def test_training_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**settings)


@pytest.mark.parametrize(
    ("cls", "old", "name", "value"),
    [
        (TrainingConfig, "eval_share", "eval_fraction", 0.25),
        (RecordsConfig, "cut", "truncation", "start"),
    ],
)
def test_renamed_settings_have_their_old_names_too(cls, old, name, value):
    config = cls(**{name: value})
    assert cls(**{old: value}) == config == replace(cls(), **{old: value})
    assert getattr(config, old) == value
    assert old not in to_dict(config)
    assert split_settings({old: value}, [cls]) == {cls: {name: value}}
    saved = {old if key == name else key: item for key, item in to_dict(config).items()}
    assert from_dict(cls, saved, "config.json of 0.1") == config
    with pytest.raises(ConfigError, match=f"{old} is the old name of {name}: give one"):
        from_dict(cls, {**saved, name: value}, "here")


def test_a_recipe_has_its_old_name_too():
    recipe = Recipe("half", {}, steps_share=0.5)
    assert recipe == Recipe("half", {}, steps_fraction=0.5)
    assert recipe.steps_share == 0.5
