"""What a run will do: how its settings are fitted to the text."""

import pytest

from minigpt_tf.config.presets import PRESETS, data_preset, model_preset, training_preset
from minigpt_tf.errors import ConfigError, ModelFolderError
from minigpt_tf.events import Listener
from minigpt_tf.training.plan import make_plan, plan_from_preset
from tests.conftest import SAMPLE

SIZES = {"embed_dim": 32, "num_layers": 1, "num_heads": 4, "vocab_size": 300}


def plan_for(preset, data=SAMPLE, context_length=32, sizes=SIZES, **settings):
    """A preset's plan at a small size."""
    model = model_preset(preset, **sizes, context_length=context_length)
    options = {
        name: settings.pop(name) for name in ("listener", "may_leave_gaps") & settings.keys()
    }
    training = training_preset(preset, epochs=1)
    return make_plan([data], model, data_preset(preset, **settings), training, **options)


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "gpt2"])
@pytest.mark.parametrize("context", [8, 32, 200])
def test_a_preset_trains_on_all_of_the_text_whatever_the_context(preset, context):
    plan = plan_for(preset, context_length=context)
    assert plan.data.stride == data_preset(preset).stride_for(context) <= context
    tokens, windows = len(plan.corpus.train_ids), plan.windows().count
    outside = tokens - ((windows - 1) * plan.data.stride + context + 1)
    assert 0 <= outside < plan.data.stride
    covered = dict(plan.report())["in a window"]
    assert covered.startswith(f"{tokens - outside:,} of {tokens:,} training tokens")


def test_the_courses_context_gives_its_windows(assets, gpt2_files):
    sizes = {"embed_dim": 48, "num_layers": 1, "num_heads": 3}
    plan = plan_for("gpt2", assets / "the-verdict.txt", context_length=256, sizes=sizes)
    assert plan.windows().count == 18 and plan.total_steps == 9
    report = dict(plan.report())
    assert report["windows"].startswith("18 training (of 256, stride 256)")
    assert report["in a window"] == "4,609 of 4,612 training tokens (99.93%)"


def test_the_stride_follows_a_context_that_shrinks(tmp_path):
    (tmp_path / "short.txt").write_text("one two three four five six seven " * 8)
    notices = []
    listener = Listener()
    listener.notice = notices.append
    settings = {"tokenizer": "word", "val_split": 0.0, "context_length": 100, "listener": listener}
    plan = plan_for("modern", tmp_path / "short.txt", **settings)
    assert (plan.model.context_length, plan.data.stride) == (27, 7)
    assert "shorter than the context of 100 tokens: the context is now 27" in notices[0]
    with pytest.raises(ConfigError, match="stride=28: must be from 1 to the window of 27 tokens"):
        plan_for("modern", tmp_path / "short.txt", stride=28, **settings)


def test_a_stride_that_leaves_tokens_out_is_refused_before_the_text_is_read(tmp_path):
    nowhere = tmp_path / "nowhere.txt"
    with pytest.raises(ConfigError, match="stride=33: must be from 1 to the window of 32 tokens"):
        plan_for("lecture", nowhere, stride=33)
    assert plan_for("lecture", stride=32).data.stride == 32


def test_a_run_of_an_older_version_may_have_gaps():
    plan = plan_for("lecture", stride=320, may_leave_gaps=True)
    assert plan.data.stride == 320 and plan.windows().count == 3
    assert "99 of 835 training tokens (11.86%)" in dict(plan.report())["in a window"]


def test_a_text_is_trained_with_a_presets_settings(tmp_path):
    """The character preset trains on characters, whatever else is set."""
    import minigpt_tf as mg

    sizes = {"num_layers": 1, "embed_dim": 16, "num_heads": 2, "context_length": 16}
    result = mg.train(SAMPLE, tmp_path / "m", preset="shakespeare", **sizes, steps=2, batch_size=2)
    loaded = mg.load(tmp_path / "m")
    assert result.steps == 2 and loaded.tokenizer.kind == "char"
    assert loaded.engine.config.embed_dim == 16 and loaded.engine.config.positions == "learned"
    plan = plan_from_preset([SAMPLE], "modern", epochs=3, vocab_size=300, context_length=32)
    assert (plan.training.epochs, plan.training.steps, plan.data.tokenizer) == (3, None, "bpe")
    with pytest.raises(ConfigError, match="epoch: unknown setting: did you mean epochs"):
        plan_from_preset(SAMPLE, epoch=3)
    with pytest.raises(ConfigError, match="epochs and steps exclude each other"):
        plan_from_preset(SAMPLE, epochs=3, steps=4)
    with pytest.raises(ConfigError, match="a plan has all settings"):
        mg.train(plan, tmp_path / "other", epochs=4)
    with pytest.raises(ModelFolderError, match="exists"):
        mg.train("no such file", tmp_path / "m")
