"""A run from text to model folder: what is written, resumed, interrupted, and refused."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from minigpt_tf.errors import ModelFolderError, TrainingError
from minigpt_tf.evaluation.scoring import loss_over
from minigpt_tf.events import Listener
from minigpt_tf.inference.engine import Engine
from minigpt_tf.inference.folder import load_folder
from minigpt_tf.inference.weights import read_weights
from minigpt_tf.metrics import softmax
from minigpt_tf.planning import limits
from minigpt_tf.text.windows import scoring_batches
from minigpt_tf.training.precision import resolve_dtype
from minigpt_tf.training.step import TrainingStep
from minigpt_tf.training.trainer import start_model, train
from minigpt_tf.training.validation import make_validation
from tests.conftest import ROOT, SAMPLE, tiny_plan

FILES = [
    "checkpoint",
    "config.json",
    "history.csv",
    "loss.png",
    "model.h5",
    "samples.txt",
    "tokenizer.pkl",
]


def test_the_folder_has_every_file(trained_folder):
    assert sorted(path.name for path in trained_folder.iterdir()) == FILES
    rows = list(csv.DictReader((trained_folder / "history.csv").open()))
    assert [row["step"] for row in rows] == ["3", "6"]
    for row in rows:
        assert float(row["val_perplexity"]) == pytest.approx(
            np.exp(float(row["val_loss"])), rel=1e-4
        )
    samples = (trained_folder / "samples.txt").read_text()
    assert re.findall(
        r"--- step (\d+), prompt 'A taxi once stopped'\na taxi once stopped \w+", samples
    ) == ["3", "6"]
    assert (trained_folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    config = json.loads((trained_folder / "config.json").read_text())
    assert config["format_version"] == 1 and config["training"]["dtype"] == "float32"
    assert config["data"]["train_tokens"] + config["data"]["val_tokens"] == 924


def test_the_history_has_the_mean_gradient_norm_between_evaluations(tmp_path, monkeypatch):
    norms, call = [], TrainingStep.__call__

    def recorded(self, *batch, step):
        result = call(self, *batch, step=step)
        norms.append(result.gradient_norm)
        return result

    monkeypatch.setattr(TrainingStep, "__call__", recorded)
    history = train(tiny_plan(), tmp_path / "m").history
    wanted = [np.mean(norms[:3]), np.mean(norms[3:])]
    np.testing.assert_allclose([row.gradient_norm for row in history], wanted)
    rows = list(csv.DictReader((tmp_path / "m" / "history.csv").open()))
    np.testing.assert_allclose([float(row["gradient_norm"]) for row in rows], wanted, rtol=1e-5)


def test_plain_keras_loads_the_model_and_the_engine_agrees(trained_folder):
    contents = load_folder(trained_folder)
    model = keras.models.load_model(trained_folder / "model.h5")
    ids = np.random.default_rng(0).integers(0, 500, 16)
    logits = keras.ops.convert_to_numpy(model(ids[None]))[0]
    engine = Engine(contents.model, read_weights(trained_folder / "model.h5", contents.model))
    np.testing.assert_allclose(engine.all_logits(ids), logits, atol=1e-4)


def test_training_lowers_the_loss_below_knowing_the_frequencies(tmp_path):
    plan = tiny_plan(steps=150, eval_every=50, batch_size=16, learning_rate=1e-2)
    history = train(plan, tmp_path / "m").history
    counts = np.bincount(plan.corpus.train_ids)
    shares = counts[counts > 0] / counts.sum()
    assert history[-1].loss < history[0].loss < -(shares * np.log(shares)).sum() + 0.3
    assert history[-1].loss < 3.5 and history[-1].accuracy > 0.25


def test_a_run_starts_from_the_frequencies_of_the_tokens():
    plan = tiny_plan()
    model = start_model(plan, "float32").keras_model
    logits = keras.ops.convert_to_numpy(model(plan.corpus.train_ids[None, :16]))[0]
    counts = np.bincount(plan.corpus.train_ids, minlength=500)
    common = np.argsort(counts)[-30:]
    expected = np.log(counts[common] / counts.sum())
    found = np.log(softmax(logits))[:, common].mean(axis=0)
    assert np.abs(found - expected).max() < 0.5


def keras_loss(model):
    """The mean loss of a Keras model, as Keras counts it."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return lambda x, y: loss(y, model(x, training=False))


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_validation_loss_is_the_mean_over_all_tokens(batch_size, monkeypatch):
    plan = tiny_plan()
    model = start_model(plan, "float32")
    ids = plan.corpus.val_ids
    monkeypatch.setattr(limits, "MOST_TOKENS", 16 * batch_size)
    score = make_validation(
        lambda x, y: model.loss(x, y, training=False)[0], ids, context_length=16, vocab_size=500
    )
    engine, losses = Engine.from_model(model.keras_model, plan.model), []
    for start in range(0, len(ids) - 1, 16):
        window = ids[start : start + 17]
        table = np.log(softmax(engine.all_logits(window[:-1])))
        losses += [-table[t, target] for t, target in enumerate(window[1:])]
    assert len(losses) == len(ids) - 1
    assert score() == pytest.approx(np.mean(losses), abs=1e-5)


class Weigher(Listener):
    """Scores the weights of each evaluation with an engine of its own."""

    def __init__(self, plan):
        self.plan, self.steps, self.losses = plan, [], []

    def weights(self, step, weights):
        engine = Engine(self.plan.model, weights)
        batches = scoring_batches(self.plan.corpus.val_ids, 16, 4)
        self.steps.append(step)
        self.losses.append(loss_over(engine, batches))


def test_a_listener_gets_the_weights_of_each_evaluation(tmp_path):
    plan = tiny_plan()
    listener = Weigher(plan)
    history = train(plan, tmp_path / "m", listener=listener).history
    assert listener.steps == [e.step for e in history] == [3, 6]
    assert listener.losses == pytest.approx([e.val_loss for e in history], abs=1e-4)


class StopAt(Listener):
    """Presses Ctrl-C after a step."""

    def __init__(self, step):
        self.step, self.notices = step, []

    def progress(self, progress):
        if progress.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)

    def notice(self, text):
        self.notices.append(text)


class HangUpAt(StopAt):
    """The terminal is closed after a step, which some report twice; nothing can be shown then."""

    def progress(self, progress):
        if progress.step == self.step:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGHUP)

    def notice(self, text):
        raise OSError(5, "Input/output error")


class LeftAt(StopAt):
    """The reader of a pipe has gone after a step."""

    def progress(self, progress):
        if progress.step >= self.step:
            self.notices.append(progress.step)
            raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("kind", [HangUpAt, LeftAt])
def test_a_run_is_saved_when_nobody_is_left_to_see_it(tmp_path, kind):
    listener, out = kind(2), tmp_path / "m"
    with pytest.raises(OSError, match=r"Input/output|Broken pipe"):
        train(tiny_plan(), out, listener=listener)
    assert (out / "model.h5").exists() and (out / "checkpoint" / "state-00000002.npz").exists()
    assert kind is HangUpAt or listener.notices == [2]  # and then no more
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    assert train(tiny_plan(), out, resume=True).steps == 6


def test_under_nohup_a_run_goes_on(tmp_path):
    class HangUp(Listener):
        def progress(self, progress):
            os.kill(os.getpid(), signal.SIGHUP)

    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        result = train(tiny_plan(steps=2), tmp_path / "m", listener=HangUp())
    finally:
        signal.signal(signal.SIGHUP, previous)
    assert result.steps == 2 and not result.interrupted


def test_an_interrupted_run_is_saved_and_goes_on_to_the_same_end(tmp_path):
    settings = {"steps": 9, "eval_every": 3}
    straight = train(tiny_plan(**settings), tmp_path / "straight")
    listener = StopAt(5)
    halted = train(tiny_plan(**settings), tmp_path / "halted", listener=listener)
    assert halted.interrupted and halted.steps == 5 and "stopping" in listener.notices[0]
    assert (tmp_path / "halted" / "model.h5").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = train(tiny_plan(**settings), tmp_path / "halted", resume=True)
    assert [e.step for e in resumed.history] == [e.step for e in straight.history] == [3, 6, 9]
    config = tiny_plan().model
    ends = [read_weights(tmp_path / name / "model.h5", config) for name in ("straight", "halted")]
    for name, weight in ends[0].items():
        np.testing.assert_allclose(ends[1][name], weight, atol=1e-6, err_msg=name)


def test_a_finished_run_goes_on_with_more_steps(tmp_path):
    train(tiny_plan(steps=3), tmp_path / "m")
    result = train(tiny_plan(steps=6), tmp_path / "m", resume=True)
    assert result.steps == 6 and [e.step for e in result.history] == [3, 6]


def test_resuming_another_run_is_refused_with_the_difference(tmp_path):
    train(tiny_plan(steps=3), tmp_path / "m")
    before = (tmp_path / "m" / "model.h5").read_bytes()
    with pytest.raises(
        TrainingError, match=r"learning_rate was 0.001, now 0.5; the|learning_rate was 0.001"
    ):
        train(tiny_plan(steps=6, learning_rate=0.5), tmp_path / "m", resume=True)
    (tmp_path / "m" / "checkpoint" / "state-00000003.npz").write_bytes(b"PK\x03\x04 half a zip")
    with pytest.raises(ModelFolderError, match=r"state-00000003.npz: is damaged"):
        train(tiny_plan(steps=6), tmp_path / "m", resume=True)
    assert (tmp_path / "m" / "model.h5").read_bytes() == before


@pytest.mark.parametrize("keep", ["last", "best"])
def test_the_weights_that_were_asked_for_are_kept(keep, tmp_path):
    """Too high a learning rate for the validation text: the best evaluation is not the last."""
    plan = tiny_plan(steps=60, eval_every=10, learning_rate=0.03, keep=keep)
    result = train(plan, tmp_path / "m")
    losses = [e.val_loss for e in result.history]
    assert result.kept == keep and min(losses) < losses[-1]
    model = keras.models.load_model(tmp_path / "m" / "model.h5")
    score = make_validation(
        keras_loss(model), plan.corpus.val_ids, context_length=16, vocab_size=500
    )
    assert score() == pytest.approx(losses[-1] if keep == "last" else min(losses), abs=1e-4)


def test_early_stopping_ends_a_run_and_keeps_the_best(tmp_path):
    plan = tiny_plan(steps=500, eval_every=5, learning_rate=0.03, early_stopping=2)
    result = train(plan, tmp_path / "m")
    losses = [e.val_loss for e in result.history]
    assert result.stopped_early and result.steps < 500 and result.kept == "best"
    assert min(losses) == losses[-3] and [e.best for e in result.history[-3:]] == [
        True,
        False,
        False,
    ]


def test_a_loss_that_is_no_number_stops_with_step_and_cause(tmp_path):
    plan = tiny_plan(steps=20, eval_every=1, learning_rate=1e30, clip_norm=0.0, warmup_steps=0)
    with pytest.raises(
        TrainingError, match=r"at step \d+.*: the learning rate 1e\+30 is too high"
    ) as caught:
        train(plan, tmp_path / "m")
    assert re.search("so nothing was saved|has the weights|could not be saved", str(caught.value))


class PoisonAt(Listener):
    """Makes a weight NaN after a step, as a damaged machine might."""

    def __init__(self, step):
        self.step, self.model = step, None

    def progress(self, progress):
        if progress.step == self.step:
            variable = self.model.get_layer("logits").bias
            variable.assign(np.full(variable.shape, np.nan))


def test_the_last_good_weights_survive_a_nan(tmp_path, monkeypatch):
    from minigpt_tf.training import trainer

    listener = PoisonAt(4)

    def remember(plan, dtype):
        model = start_model(plan, dtype)
        listener.model = model.keras_model
        return model

    monkeypatch.setattr(trainer, "start_model", remember)
    with pytest.raises(
        TrainingError, match=r"nan at step 5 .the weight .* is not finite.*weights of step 3"
    ):
        train(tiny_plan(checkpoint_every=1), tmp_path / "m", listener=listener)
    states = sorted(path.name for path in (tmp_path / "m" / "checkpoint").glob("state-*"))
    assert states == ["state-00000002.npz", "state-00000003.npz"]  # that of step 4 has a nan
    contents = load_folder(tmp_path / "m")
    assert contents.description["metrics"]["loss"] > 0
    read_weights(tmp_path / "m" / "model.h5", contents.model)


SMALL_DISK = """
import resource, sys
from minigpt_tf.__main__ import main
size = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # no file may grow beyond it
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("size", [1_000, 20_000, 600_000])
def test_a_full_disk_leaves_the_old_model_in_place(size, trained_folder, tmp_path):
    """The disk fills while the checkpoint starts, while its state is saved, while the model is."""
    out = shutil.copytree(trained_folder, tmp_path / "m")
    before = {name: (out / name).read_bytes() for name in ("model.h5", "config.json")}
    sizes = "--context-length 16 --vocab-size 500 --embed-dim 16 --num-layers 1 --head-dim 8"
    train_again = ["train", "--data", str(SAMPLE), "--out", str(out), "--overwrite", "--steps", "2"]
    done = subprocess.run(
        [sys.executable, "-c", SMALL_DISK, str(size), *train_again, *sizes.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert re.match(r"error: .*: saving failed \(File too large\); the model that was", done.stderr)
    assert {name: (out / name).read_bytes() for name in before} == before
    assert not list(out.rglob(".saving-*"))


def test_bfloat16_trains_to_about_the_same_loss(tmp_path):
    losses = {}
    for dtype in ("float32", "mixed_bfloat16"):
        plan = tiny_plan(steps=60, eval_every=60, batch_size=16, learning_rate=1e-2, dtype=dtype)
        result = train(plan, tmp_path / dtype)
        losses[dtype] = result.history[-1].loss
        config = json.loads((tmp_path / dtype / "config.json").read_text())
        assert config["training"]["dtype"] == dtype
    assert losses["mixed_bfloat16"] == pytest.approx(losses["float32"], rel=0.03)


def test_auto_takes_one_of_the_two_dtypes():
    assert resolve_dtype("auto") in ("float32", "mixed_bfloat16")
    assert resolve_dtype("float32") == "float32"
