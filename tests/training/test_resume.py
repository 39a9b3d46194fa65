"""Runs that are killed, damaged or changed on the way end with the same bits, or are refused."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.resume import SETTINGS, Launcher, kill_and_resume, results
from minigpt_tf.__main__ import main
from minigpt_tf.errors import ModelFolderError, TrainingError
from minigpt_tf.events import Listener
from minigpt_tf.storage.model_folder import check_output, claim_output
from minigpt_tf.training import checkpoint
from minigpt_tf.training.checkpoint import RunState, StateWriter, list_states, restore_state
from minigpt_tf.training.resume import read_run
from minigpt_tf.training.step import TrainingStep
from minigpt_tf.training.trainer import train
from tests.cli.test_train import error_of
from tests.conftest import ROOT, SAMPLE, Recorder, tiny_plan

STEPS = {"steps": 9, "eval_every": 3, "checkpoint_every": 2}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run of STEPS that nothing has disturbed."""
    return train(tiny_plan(**STEPS), tmp_path_factory.mktemp("straight") / "m").out


def states(out):
    return [file.name for file in list_states(out / "checkpoint")]


def rows_of(out):
    """The step of each row of history.csv."""
    return [row.split(",")[0] for row in (out / "history.csv").read_text().splitlines()[1:]]


def halted(out, step, **settings):
    """A run of STEPS that was left after a step, as if it had been killed there."""

    class Killed(BaseException):
        pass

    class Halt(Listener):
        def progress(self, progress):
            if progress.step == step:
                raise Killed

    with pytest.raises(Killed):
        train(tiny_plan(**{**STEPS, **settings}), out, listener=Halt())
    return out


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the runs are forked")
def test_runs_that_are_killed_end_with_the_same_bits(tmp_path):
    """Ten kills at random moments, in float32 and bfloat16 at the same time."""

    def survive(number):
        options, folder = list(SETTINGS.values())[number], tmp_path / str(number)
        folder.mkdir()
        with Launcher() as launcher:
            return kill_and_resume(launcher, options, folder, 5, random.Random(number), share=0.5)

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(survive, (0, 1)))
    for outcome in outcomes:
        assert outcome.kills == 5 and outcome.runs and outcome.different == []
    assert sum(outcome.saving for outcome in outcomes) >= 1  # of four that were aimed at
    progress = json.loads(results(tmp_path / "1" / "undisturbed")["progress"])
    assert progress["stopped_early"] and progress["step"] < 500  # so its counters matter


def test_the_comparison_sees_a_single_bit_and_no_time(straight, tmp_path):
    out = shutil.copytree(straight, tmp_path / "m")
    expected = results(straight)
    newest = out / "checkpoint" / states(out)[0]
    with np.load(newest) as archive:
        arrays = dict(archive)
    progress = json.loads(arrays["progress"].tobytes())

    def differing():
        arrays["progress"] = np.frombuffer(json.dumps(progress).encode(), np.uint8)
        np.savez(newest, **arrays)
        found = results(out)
        return [name for name in expected if expected[name] != found[name]]

    progress["seconds"] += 1
    progress["history"][0]["seconds"] += 1
    assert differing() == []
    arrays["optimizer/3"].view(np.uint32).flat[5] ^= 1
    assert differing() == ["state: optimizer/3"]
    progress["history"][0]["best"] = not progress["history"][0]["best"]
    assert differing() == ["state: optimizer/3", "progress"]


def test_a_run_left_between_two_states_goes_on_from_the_newer(straight, tmp_path):
    """With no time between two states there is one after every step; but here not after the 7th."""
    out = halted(tmp_path / "m", 7, checkpoint_every=None, checkpoint_minutes=1e-9)
    assert states(out) == ["state-00000006.npz", "state-00000005.npz"]
    (out / ".saving-x").mkdir()
    (out / ".saving-x" / "model.h5").write_text("half")
    (out / "checkpoint" / ".saving-y").mkdir()
    train(tiny_plan(**STEPS), out, resume=True)
    assert results(out) == results(straight)
    assert states(out) == ["state-00000009.npz", "state-00000008.npz"]
    assert rows_of(out) == ["3", "6", "9"]
    samples = (out / "samples.txt").read_text()
    assert re.findall(r"^--- step (\d+)", samples, re.M) == ["3", "6", "9"]
    assert not list(out.rglob(".saving-*"))


def test_a_run_left_before_its_first_state_starts_anew(straight, tmp_path):
    """Its evaluation of step 3 is on disk: no row may stay that the run has not come to."""
    out = halted(tmp_path / "m", 4, checkpoint_every=None)
    assert rows_of(out) == ["3"] and states(out) == []

    class Look(Listener):
        def progress(self, progress):
            if progress.step == 1:
                seen.append(rows_of(out))

        def notice(self, text):
            seen.append(text)

    seen = []
    train(tiny_plan(**STEPS), out, resume=True, listener=Look())
    assert seen == ["the run had saved no state yet: continuing from step 0", []]
    assert results(out) == results(straight)


def test_a_run_left_before_its_model_was_saved_only_saves_it(straight, tmp_path):
    out = shutil.copytree(straight, tmp_path / "m")
    for name in ("model.h5", "config.json", "history.csv", "samples.txt"):
        (out / name).unlink()
    result = train(tiny_plan(**STEPS), out, resume=True)
    assert result.steps == 9 and results(out) == results(straight)


def test_a_gradient_that_is_no_number_stops_and_the_last_state_goes_on(
    straight, tmp_path, monkeypatch
):
    sound = TrainingStep._gradients

    def injected(self, batch, step):
        found, gradients = sound(self, batch, step)
        poison = tf.where(step == 6, np.nan, 1.0)  # the seventh
        return found, [*gradients[:-1], gradients[-1] * poison]

    out = tmp_path / "m"
    with monkeypatch.context() as patch:
        patch.setattr(TrainingStep, "_gradients", injected)
        with pytest.raises(
            TrainingError, match=r"the gradient is not finite at step 7, loss .* of step 6"
        ):
            train(tiny_plan(**STEPS), out)
    assert states(out) == ["state-00000006.npz", "state-00000004.npz"]
    train(tiny_plan(**STEPS), out, resume=True)
    assert results(out) == results(straight)


class Saved:
    """A run of one variable, whose states are written by `save` and read by `restore`."""

    def __init__(self, out):
        self.out, self.recorder = out, Recorder()
        (out / "checkpoint").mkdir(parents=True)
        self.writer = StateWriter(out)
        self.variable = keras.Variable(np.zeros(1000, "float32"))

    def save(self, step, value=None):
        self.variable.assign(np.full(1000, step if value is None else value, "float32"))
        self.writer.save({"model/w": self.variable}, RunState(step=step))
        self.writer.wait()

    def restore(self):
        self.variable.assign(np.zeros(1000, "float32"))

        def refuse(weights, where):
            raise AssertionError(f"{where} holds no best weights, but {weights}")

        variables = {"model/w": self.variable}
        state = restore_state(self.out, variables, refuse, self.recorder)
        return state.step, set(self.variable.numpy())

    def damage(self, step, harm):
        file = self.out / "checkpoint" / f"state-{step:08}.npz"
        file.write_bytes(harm(file.read_bytes()))


@pytest.fixture
def saved(tmp_path):
    """States after 3, 5 and 8 steps were saved."""
    run = Saved(tmp_path / "m")
    for step in (3, 5, 8):
        run.save(step)
    return run


def flip(place):
    def harm(content):
        at = int(len(content) * place)
        return content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]

    return harm


DAMAGES = {
    "half": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "a bit, early": flip(0.3),
    "a bit, late": flip(0.8),
}


def test_the_last_two_states_are_kept(saved):
    assert states(saved.out) == ["state-00000008.npz", "state-00000005.npz"]
    assert saved.restore() == (8, {8.0}) and saved.recorder.notices == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_gives_way_to_the_one_before(damage, saved):
    saved.damage(8, DAMAGES[damage])
    assert saved.restore() == (5, {5.0})
    (notice,) = saved.recorder.notices
    assert notice.startswith(f"{saved.out}/checkpoint/state-00000008.npz: ")
    assert notice.endswith("; continuing from step 5, the state before it")
    saved.save(6)  # the damaged one is none of the two that are kept
    assert states(saved.out) == ["state-00000006.npz", "state-00000005.npz"]


def test_without_a_sound_state_there_is_an_error_and_nothing_is_thrown_away(saved):
    for step in (5, 8):
        saved.damage(step, DAMAGES["half"])
    with pytest.raises(
        ModelFolderError, match=r"state-00000008.npz: is damaged.*start anew with --overwrite"
    ):
        saved.restore()
    assert states(saved.out) == ["state-00000008.npz", "state-00000005.npz"]


def test_a_state_of_another_model_is_refused(saved):
    saved.variable = keras.Variable(np.zeros(999, "float32"))
    with pytest.raises(ModelFolderError, match="are not those of this model"):
        restore_state(saved.out, {"model/w": saved.variable}, print, Recorder())


def test_a_state_that_is_not_finite_is_not_written(saved):
    with pytest.raises(TrainingError, match="step 9: model/w holds values that are not finite"):
        saved.save(9, value=np.nan)
    assert saved.restore() == (8, {8.0})
    assert states(saved.out) == ["state-00000008.npz", "state-00000005.npz"]


def test_a_full_disk_leaves_the_states_that_were_there(saved, monkeypatch):
    def full(folder, size):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "reserve_space", full)
        with pytest.raises(ModelFolderError, match=r"checkpoint: saving failed \(No space left"):
            saved.save(9)
    assert not list(saved.out.rglob(".saving-*"))
    assert saved.restore() == (8, {8.0})
    saved.save(9)  # there is space again
    assert states(saved.out) == ["state-00000009.npz", "state-00000008.npz"]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """text.txt, and m: a run made from it by the command line."""
    folder = tmp_path_factory.mktemp("typed")
    (folder / "text.txt").write_text(SAMPLE.read_text())
    sizes = "--context-length 16 --embed-dim 16 --num-layers 1 --num-heads 2 --head-dim 8"
    rest = "--tokenizer bpe --vocab-size 300 --steps 2 --batch-size 4 --dtype float32"
    begin = ["train", "--data", str(folder / "text.txt"), "--out", str(folder / "m")]
    assert main([*begin, *sizes.split(), *rest.split()]) == 0
    return folder


@pytest.fixture
def resume(begun, tmp_path):
    """The arguments that go on with a copy of it, in folder m."""
    return ["train", "--resume", "--out", str(shutil.copytree(begun / "m", tmp_path / "m"))]


def test_the_description_of_an_earlier_version_is_read(resume, tmp_path, capsys):
    file = tmp_path / "m" / "checkpoint" / "run.json"
    now = file.read_text()
    assert '"eval_fraction"' in now
    file.write_text(now.replace('"eval_fraction": null', '"eval_share": 0.5'))
    assert main([*resume, "--steps", "3"]) == 0
    assert "eval_fraction=0.5" in capsys.readouterr().out
    assert '"eval_fraction": 0.5' in file.read_text()


def test_a_changed_run_is_refused_with_the_difference(resume, begun, tmp_path, capsys):
    before = results(tmp_path / "m")
    for options, difference in {
        "--learning-rate 0.5": "learning_rate was 0.001, now 0.5",
        "--embed-dim 32": "embed_dim was 16, now 32",
        "--num-layers 2 --dropout 0": "num_layers was 1, now 2; dropout was 0.1, now 0.0",
        "--seed 3": "seed was 1337, now 3",
        "--batch-size 8": "batch_size was 4, now 8",
        "--dtype mixed_bfloat16": "dtype was float32, now mixed_bfloat16",
        "--tokenizer char": "tokenizer was bpe, now char",
        "--stride 2": "stride was 1, now 2",
    }.items():
        assert difference in error_of([*resume, *options.split()], capsys)
    text = begun / "text.txt"
    text.write_text(SAMPLE.read_text() + "A new last line.\n")
    message = error_of(resume, capsys)
    assert "the text or its tokens are not the same (before 5,164 characters and" in message
    assert f"of {text}, now 5,181 characters and" in message
    text.write_text(SAMPLE.read_text())
    assert results(tmp_path / "m") == before
    assert main([*resume, "--steps", "4"]) == 0  # more steps are the same run
    assert states(tmp_path / "m")[0] == "state-00000004.npz"


def test_a_run_of_a_version_with_strides_as_numbers_alone_goes_on(tmp_path, capsys):
    """Also where its windows left tokens out, as a preset with another context once had them."""
    out = tmp_path / "m"
    settings = "--context-length 16 --embed-dim 16 --num-layers 1 --num-heads 2 --head-dim 8"
    settings += " --vocab-size 300 --steps 1 --batch-size 4 --dtype float32 --stride 16"
    assert main(["train", "--data", str(SAMPLE), "--out", str(out), *settings.split()]) == 0
    file = out / "checkpoint" / "run.json"
    run = json.loads(file.read_text())
    assert run["data"].pop("stride_fraction") is None and run["data"]["stride"] == 16
    for stride, steps in ((16, 2), (64, 3)):
        run["data"]["stride"] = stride
        file.write_text(json.dumps(run))
        capsys.readouterr()
        assert main(["train", "--resume", "--out", str(out), "--steps", str(steps)]) == 0
        assert f"(of 16, stride {stride})" in capsys.readouterr().out
    resume = ["train", "--resume", "--out", str(out), "--steps", "4", "--stride"]
    assert "stride was 64, now 16" in error_of([*resume, "16"], capsys)


def test_a_changed_tokenizer_is_refused(resume, tmp_path, capsys):
    file = tmp_path / "m" / "checkpoint" / "tokenizer.json"
    sound = file.read_text()
    vocabulary = json.loads(sound)
    words = vocabulary["model"]["vocab"]
    words["~"], words["}"] = words["}"], words["~"]  # neither is in the text: its ids are the same
    file.write_text(json.dumps(vocabulary))
    assert "tokenizer.json: is not the tokenizer that the run began" in error_of(resume, capsys)
    file.unlink()
    assert "tokenizer.json: cannot be read: No such file" in error_of(resume, capsys)
    file.write_text(sound)
    assert read_run(tmp_path / "m").tokens > 1000


def test_a_damaged_description_of_the_run_is_refused(resume, tmp_path, capsys):
    file = tmp_path / "m" / "checkpoint" / "run.json"
    run = json.loads(file.read_text())
    for change in ({"characters": "many"}, {"dtype": "int3"}, {"sources": [1]}, {"preset": "x"}):
        file.write_text(json.dumps({**run, **change}))
        assert "run.json: is damaged" in error_of(resume, capsys)
    file.write_text(file.read_text()[:100])
    assert "line 1 column" in error_of(resume, capsys)


def test_a_start_that_was_killed_can_be_started_again(tmp_path):
    """Before checkpoint/ is in place there is nothing to resume, and nothing in the way."""
    out = tmp_path / "m"
    (out / ".saving-x" / "checkpoint").mkdir(parents=True)
    with pytest.raises(ModelFolderError, match="no checkpoint/ to resume from: start without"):
        check_output(out, overwrite=False, resume=True)
    with claim_output(out, overwrite=False, resume=False):
        assert list(out.iterdir()) == []


def test_the_second_of_two_runs_is_refused_and_harms_nothing(resume, tmp_path, capsys):
    with claim_output(tmp_path / "m", overwrite=True, resume=False):
        scratch = tmp_path / "m" / "checkpoint" / ".saving-x"
        scratch.mkdir()
        message = error_of(resume, capsys)
        assert f"error: {tmp_path / 'm'}: another run is writing to it" in message
        assert scratch.is_dir()


def test_a_lock_goes_with_its_process(tmp_path):
    program = (
        "import sys, time, pathlib; from minigpt_tf.storage.model_folder import claim_output\n"
        "with claim_output(pathlib.Path(sys.argv[1]), overwrite=False, resume=False):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "m")]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with (
        pytest.raises(ModelFolderError, match="another run is writing to it"),
        claim_output(tmp_path / "m", overwrite=False, resume=False),
    ):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with claim_output(tmp_path / "m", overwrite=False, resume=False):
        pass
