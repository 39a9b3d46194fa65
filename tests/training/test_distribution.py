"""Several workers and several devices: the losses of one, and what happens when a worker dies."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from minigpt_tf.__main__ import main
from minigpt_tf.config import WorkersConfig
from minigpt_tf.errors import ConfigError
from minigpt_tf.training.checkpoint import list_states
from minigpt_tf.training.cluster import choose_cluster, read_cluster
from tests.conftest import ROOT, SAMPLE, tiny_plan

LONGEST = 120
"""Seconds after which a child process that hangs is killed, and its test fails."""


def plan_without_dropout():
    """Dropout draws other numbers for every share of a batch; all else agrees."""
    plan = tiny_plan(steps=20, eval_every=1, learning_rate=0.01)
    return replace(plan, model=replace(plan.model, dropout=0.0))


def print_losses(out):
    """What a child process does: trains, and prints the loss of every step."""
    from minigpt_tf.training.trainer import train

    result = train(plan_without_dropout(), out)
    print(json.dumps([result.steps, [evaluation.loss for evaluation in result.history]]))


def print_losses_of_two_devices(out):
    """The same on two logical devices of one processor."""
    import tensorflow as tf

    from minigpt_tf.training import trainer
    from minigpt_tf.training.distribution import Distribution

    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
    distribution = Distribution(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    trainer.connect = lambda: distribution
    plan = plan_without_dropout()
    odd = replace(plan, training=replace(plan.training, batch_size=9))
    with pytest.raises(ConfigError, match="batch_size=9 does not divide among 2 devices"):
        trainer.train(odd, out)
    assert not os.path.exists(out)
    print_losses(out)


def start(*command, **environment):
    """A Python process in the repository, whose output is read by `output_of`."""
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output_of(child):
    """(exit status, stdout, stderr) of a process; one that hangs is killed and has none."""
    try:
        out, err = child.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        child.kill()
        pytest.fail(f"a process did not end in {LONGEST} s: {child.communicate()}")
    return child.returncode, out, err


def losses_of(child):
    """(steps, losses) that `print_losses` printed in the process."""
    status, out, err = output_of(child)
    assert status == 0, err[-2000:]
    return json.loads(out.splitlines()[-1])


def free_addresses(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    return addresses


def tf_config(workers, index, kind="worker"):
    return json.dumps({"cluster": {"worker": workers}, "task": {"type": kind, "index": index}})


@pytest.fixture(scope="module")
def losses_of_one(tmp_path_factory):
    """Of a process alone on one device."""
    from minigpt_tf.training.trainer import train

    result = train(plan_without_dropout(), tmp_path_factory.mktemp("one") / "m")
    losses = [evaluation.loss for evaluation in result.history]
    assert len(losses) == 20 and losses[-1] < losses[0] - 0.1
    return losses


def test_two_workers_have_the_losses_of_one_process(losses_of_one, tmp_path):
    workers = free_addresses(2)
    code = "from tests.training.test_distribution import *; print_losses(sys.argv[1])"
    children = [
        start("-c", code, str(tmp_path / str(index)), TF_CONFIG=tf_config(workers, index))
        for index in range(2)
    ]
    (steps, losses), other = (losses_of(child) for child in children)
    assert losses == pytest.approx(losses_of_one, abs=1e-5) and steps == 20
    assert other == [20, []]  # the chief evaluates
    assert (tmp_path / "0" / "model.h5").exists() and not (tmp_path / "1").exists()


def test_two_devices_have_the_losses_of_one(losses_of_one, tmp_path):
    code = "from tests.training.test_distribution import *; print_losses_of_two_devices"
    child = start("-c", f"{code}(sys.argv[1])", str(tmp_path / "m"))
    assert losses_of(child) == [20, pytest.approx(losses_of_one, abs=1e-5)]


SIZES = "--context-length 16 --vocab-size 500 --embed-dim 16 --num-layers 1 --num-heads 2"
SIZES += " --head-dim 8 --ff-dim 32 --batch-size 4 --dtype float32"


def wait_for(condition, child):
    """Until the condition holds, while the process lives."""
    end = time.monotonic() + LONGEST
    while not condition():
        assert child.poll() is None and time.monotonic() < end, output_of(child)
        time.sleep(0.2)


def test_a_worker_that_is_killed_ends_the_run_which_then_goes_on(tmp_path, capsys):
    out, workers = tmp_path / "m", free_addresses(2)
    command = ["train", "--data", str(SAMPLE), "--out", str(out), *SIZES.split()]
    command += ["--steps", "1000000", "--eval-every", "5", "--workers", ",".join(workers)]
    chief, other = (
        start("-m", "minigpt_tf", *command, "--worker-index", str(index)) for index in range(2)
    )
    wait_for((out / "history.csv").exists, chief)
    assert not list_states(out / "checkpoint")
    other.kill()
    status, _, error = output_of(chief)
    assert status == 2 and error.count("\n") == 1, error
    assert f"worker 1 ({workers[1]}) has ended" in error and "--resume" in error
    printed = output_of(other)[1]
    assert re.fullmatch(r"worker 1 .* works and waits for worker 0 .*\n", printed)
    state = list_states(out / "checkpoint")[0]
    step = int(state.stem.removeprefix("state-"))
    with np.load(state) as arrays:
        assert arrays["optimizer/0"] == step >= 5  # the updates done: none by the step that failed
    end = step - step % 5 + 10
    assert main(["train", "--resume", "--out", str(out), "--steps", str(end)]) == 0
    assert f"step {end:,}  " in capsys.readouterr().out
    steps = [row.split(",")[0] for row in (out / "history.csv").read_text().splitlines()[1:]]
    assert steps == [str(step) for step in range(5, end + 1, 5)]


def test_workers_with_different_settings_are_refused_by_all(tmp_path):
    command = ["train", "--data", str(SAMPLE), "--out", str(tmp_path / "m"), *SIZES.split()]
    command += ["--workers", ",".join(free_addresses(2))]
    children = [
        start("-m", "minigpt_tf", *command, "--worker-index", str(index), "--seed", str(index))
        for index in range(2)
    ]
    for child in children:
        status, _, error = output_of(child)
        assert status == 2 and re.fullmatch(r"error: the workers do not all have.*\n", error)
    assert not (tmp_path / "m").exists()


BAD_TF_CONFIG = [
    ("{worker", "TF_CONFIG: is not JSON"),
    ("[]", "TF_CONFIG: has no list of workers"),
    ('{"task": {"type": "worker", "index": 0}}', "TF_CONFIG: has no list of workers"),
    ('{"cluster": {"worker": []}}', "TF_CONFIG: has no list of workers"),
    ('{"cluster": {"worker": "a:1"}}', "expected a list of host:port"),
    ('{"cluster": {"ps": ["a:1"]}}', "unsupported job 'ps'"),
    ('{"cluster": {"worker": ["a:1", "b:1"]}}', "task=None: expected a type"),
    (tf_config(["a:1", "b:1"], 2), "'index': 2}: expected a type"),
    (tf_config(["a:1", "b:1"], -1), "'index': -1}: expected a type"),
    (tf_config(["a:1", "b:1"], 0, "evaluator"), "expected a type"),
    (tf_config(["a:1", "b"], 0), "worker 'b': expected host:port"),
    (tf_config(["a:1", "a:1"], 0), "one is named twice"),
]


@pytest.mark.parametrize(("text", "message"), BAD_TF_CONFIG)
def test_a_wrong_tf_config_gets_one_line(text, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    assert main(["train", "--data", str(SAMPLE), "--out", str(tmp_path / "m")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not (tmp_path / "m").exists()


def test_workers_come_from_the_options_or_the_environment(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert read_cluster() is None
    monkeypatch.setenv("TF_CONFIG", tf_config(["a:1"], 0))
    assert read_cluster() is None  # a cluster of one
    chief_and_worker = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    task = {"type": "worker", "index": 1}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": chief_and_worker, "task": task}))
    cluster = choose_cluster(WorkersConfig())
    assert cluster.workers == ("a:1", "b:1", "c:1") and cluster.index == 2
    assert not cluster.is_chief
    cluster = choose_cluster(WorkersConfig(workers="x:5, [::1]:6", worker_index=0))
    assert cluster.workers == ("x:5", "[::1]:6") and cluster.is_chief
    assert json.loads(os.environ["TF_CONFIG"]) == json.loads(tf_config(["x:5", "[::1]:6"], 0))
    with pytest.raises(ConfigError, match="belong together"):
        WorkersConfig(workers="x:5")
    with pytest.raises(ConfigError, match="worker index 2: must be from 0 to 1"):
        choose_cluster(WorkersConfig(workers="x:5,y:5", worker_index=2))
