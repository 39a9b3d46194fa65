"""MINIGPT_KERNELS: each choice gives the plain loops' bits, with machine code of its own."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from minigpt_tf.compiled import SUFFIX
from minigpt_tf.inference.product_code import kit_of
from minigpt_tf.machine import _NEEDED, host_features, used_features
from minigpt_tf.machine import KERNELS_VARIABLE as VARIABLE
from tests.conftest import ROOT

HOST = host_features()
CHOICES = [name for name, needed in _NEEDED.items() if all(HOST.get(each) for each in needed)]


def run(words, choice, **variables):
    environment = {**os.environ, VARIABLE: choice, **variables}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """By choice: what `products_of_a_choice` has saved; all keep machine code in one folder."""
    folder, found = tmp_path_factory.mktemp("choices"), {}
    for choice in CHOICES:
        words = ["-m", "tests.inference.products_of_a_choice", str(folder / f"{choice}.npz")]
        before = set(folder.rglob(f"*{SUFFIX}"))
        done = run(words, choice, NUMBA_CACHE_DIR=str(folder / "code"), OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        with np.load(folder / f"{choice}.npz") as file:
            found[choice] = dict(file)
        if (sys.platform, os.uname().machine) == ("linux", "x86_64"):
            assert set(folder.rglob(f"*{SUFFIX}")) > before  # nothing of another choice's was used
    return found


def test_products_of_each_choice_have_the_bits_of_plain_loops(results):
    expected = results["plain"]
    for choice, found in results.items():
        assert found["kernels"] == choice and found.keys() == expected.keys()
        for name in (name for name in found if name.endswith(("_float32", "_int8"))):
            if name.startswith("logits"):
                continue
            if choice == "sse2":  # rounds products, since it cannot multiply and add at once
                scale = np.abs(expected[name]).max()
                np.testing.assert_allclose(found[name], expected[name], atol=1e-5 * scale)
            else:
                assert np.array_equal(found[name], expected[name]), (choice, name)


def test_sse2_rounds_differently_so_code_of_another_choice_would_be_seen(results):
    if "sse2" in results:
        name = "float32_float32"
        assert not np.array_equal(results["sse2"][name], results["plain"][name])


def test_logits_of_all_choices_are_close(results):
    for found in results.values():
        for name in ("logits_none", "logits_int8"):
            scale = np.abs(results["plain"][name]).max()
            tolerance = 1e-5 if name == "logits_none" else 2e-2  # an input may round the other way
            assert np.abs(found[name] - results["plain"][name]).max() < tolerance * scale


@pytest.mark.parametrize("words", [["-m", "minigpt_tf", "generate"], ["generate.py"]])
@pytest.mark.parametrize("choice", ["avx1024", "neon" if "neon" not in CHOICES else "avx2"])
def test_kernels_that_are_not_there_are_one_line(words, choice):
    done = run([*words, "he was", "--model", "models/none"], choice)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {VARIABLE}={choice}: ") and "plain" in line


@pytest.mark.parametrize("choice", ["plain", "avx1024"])
def test_the_doctor_shows_the_choice(choice):
    done = run(["-m", "minigpt_tf", "doctor", "--json"], choice)
    (kernels,) = [item for item in json.loads(done.stdout) if item["what"] == "kernels"]
    if choice == "plain":
        assert kernels["found"].startswith("plain") and f"as {VARIABLE} says" in kernels["found"]
        assert not kernels["remedy"]
    else:
        assert kernels["found"] == "none" and f"{VARIABLE}=avx1024: unknown" in kernels["remedy"]
        assert done.returncode == 1


@pytest.mark.parametrize("variable", ["NUMBA_CPU_NAME=generic", "NUMBA_CPU_FEATURES=+sse2,-avx2"])
def test_numba_s_own_limits_hold(variable, monkeypatch):
    monkeypatch.setenv(*variable.split("="))
    monkeypatch.delenv(VARIABLE, raising=False)
    assert {name for name, on in host_features().items() if on} <= {"sse2"}
    used = used_features.__wrapped__()
    kit = kit_of(used)
    assert (kit.dot, kit.fused) == ("none", False)
