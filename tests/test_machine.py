"""Cores and memory: the smallest of what the machine, the container and the process allow."""

import os
import subprocess
import sys

import pytest

from minigpt_tf import machine
from tests.conftest import ROOT


@pytest.fixture
def container(tmp_path, monkeypatch):
    """Makes control groups as the kernel shows them; the process belongs to /a/b."""
    (tmp_path / "groups" / "a" / "b").mkdir(parents=True)
    (tmp_path / "own").write_text("0::/a/b\n")
    monkeypatch.setattr(machine, "_CONTROL_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(machine, "_OWN_CONTROL_GROUP", tmp_path / "own")
    monkeypatch.setattr(machine, "affinity_cores", lambda: 16)

    def write(group, name, text):
        (tmp_path / "groups" / group / name).write_text(text + "\n")

    return write


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("200000 100000", 2), ("765000 100000", 7), ("50000 100000", 1), ("max 100000", 16)],
)
def test_a_quota_limits_the_cores(container, quota, cores):
    container("a/b", "cpu.max", quota)
    assert machine.usable_cores() == cores


def test_a_quota_larger_than_the_affinity_gives_no_more(container):
    container("a/b", "cpu.max", "6400000 100000")
    assert machine.core_quota() == 64
    assert machine.usable_cores() == 16


def test_the_smallest_limit_of_all_groups_counts(container):
    container("a/b", "cpu.max", "800000 100000")
    container("a", "cpu.max", "300000 100000")
    container("a", "memory.max", str(2**20))
    container("a/b", "memory.max", "max")
    assert machine.usable_cores() == 3
    assert machine.memory_size() == 2**20


def test_without_control_groups(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_OWN_CONTROL_GROUP", tmp_path / "missing")
    assert machine.core_quota() is None
    assert machine.usable_cores() == machine.affinity_cores() >= 1


def test_thread_pools_hear_of_a_quota_and_a_person_decides(container, monkeypatch):
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    with monkeypatch.context() as patch:
        for name in names:
            patch.delenv(name, raising=False)
        machine.limit_threads()  # without a quota: nothing
        assert not set(names) & set(os.environ)
        patch.setenv("OMP_NUM_THREADS", "5")
        container("a/b", "cpu.max", "200000 100000")
        machine.limit_threads()
        assert [os.environ[name] for name in names] == ["2", "5", "2"]
        for name in names:
            patch.delenv(name)


THREADS = """
import os, sys
from minigpt_tf.machine import import_numpy_without_threads, start_blas_threads, _openblas
def threads():
    return len(os.listdir("/proc/self/task"))
import_numpy_without_threads()
found = [threads()]
import numpy as np
start_blas_threads()
a = np.ones((300, 300), np.float32)
assert (a @ a == 300).all()
found.append(threads())
start_blas_threads()
import_numpy_without_threads()
found.append(threads())
print(found, os.environ.get("OPENBLAS_NUM_THREADS"), _openblas() is not None)
"""


def test_threads_for_matrix_products_start_when_they_are_needed():
    def run(**variables):
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
        clean = {name: value for name, value in os.environ.items() if name not in names}
        command = [sys.executable, "-c", THREADS]
        done = subprocess.run(
            command, env={**clean, **variables}, cwd=ROOT, capture_output=True, text=True
        )
        return done.stdout.strip() or done.stderr

    if not run().endswith("True"):
        pytest.skip("another NumPy than the released one")
    cores = machine.usable_cores()
    assert run() == f"[1, {cores}, {cores}] None True"
    assert run(OMP_NUM_THREADS="3") == "[1, 3, 3] None True"
    assert run(OMP_NUM_THREADS="3", OPENBLAS_NUM_THREADS="2") == "[1, 2, 2] 2 True"
    assert run(OPENBLAS_NUM_THREADS="1") == "[1, 1, 1] 1 True"
