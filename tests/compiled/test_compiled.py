"""Kept machine code: used without Numba, with Numba's results, and only where it belongs."""

import copy
import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytest

from minigpt_tf.compiled import SUFFIX, _keeps_images, entry, inner, kept
from minigpt_tf.compiled.origin import origin
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(
    not _keeps_images(), reason="machine code is kept by Numba itself on this system"
)

CALL = """
import sys
import numpy as np
from tests.compiled.rectifying import relu
x = np.float32([-1, 2])
relu(x, x)
print(x.tolist(), "compiled" if "numba" in sys.modules else "kept")
"""
COMPILED, KEPT = "[0.0, 2.0] compiled", "[0.0, 2.0] kept"


def run(folder, code=CALL, **variables):
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder), **variables},
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() or done.stderr


def rewrite(file, change):
    """Changes what a file was made for, in a file that is whole."""
    head, rest = file.read_bytes()[:48], file.read_bytes()[48:]
    assert head[16:] == hashlib.sha256(rest).digest()
    line, _, code = rest.partition(b"\n")
    header = json.loads(line)
    change(header)
    rest = json.dumps(header).encode() + b"\n" + code
    file.write_bytes(head[:16] + hashlib.sha256(rest).digest() + rest)


def test_kept_machine_code_needs_no_numba(tmp_path):
    assert run(tmp_path) == COMPILED
    assert run(tmp_path) == KEPT
    (file,) = tmp_path.rglob(f"*{SUFFIX}")
    file.chmod(0o400)
    file.parent.chmod(0o500)
    assert run(tmp_path) == KEPT


@pytest.mark.parametrize("cut", [0, 20, 48, 300, -1])
def test_a_file_cut_short_only_costs_time(tmp_path, cut):
    assert run(tmp_path) == COMPILED
    (file,) = tmp_path.rglob(f"*{SUFFIX}")
    whole = file.read_bytes()
    file.write_bytes(whole[:cut])
    assert run(tmp_path) == COMPILED
    assert file.read_bytes() == whole
    assert run(tmp_path) == KEPT


def test_each_damaged_byte_is_noticed(tmp_path):
    wanted = {"function": "a"}
    image = kept.Image(b"code" * 10, 3, [8], [(16, "memset")])
    source = str(tmp_path / "a.py")
    kept.write(source, "file", wanted, image)
    (file,) = tmp_path.rglob("file")
    assert kept.read(source, "file", wanted) == image
    whole = file.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        assert kept.read(source, "file", wanted) is None


@pytest.mark.parametrize("what", ["function", "origin", "format", "python", "processor"])
def test_code_for_something_else_is_not_used(tmp_path, what):
    assert run(tmp_path) == COMPILED
    (file,) = tmp_path.rglob(f"*{SUFFIX}")
    rewrite(file, lambda header: header["wanted"].update({what: "other"}))
    assert run(tmp_path) == COMPILED
    assert run(tmp_path) == KEPT


def test_settings_of_numba_are_heeded(tmp_path):
    assert run(tmp_path) == COMPILED
    assert run(tmp_path, NUMBA_OPT="1") == COMPILED
    assert run(tmp_path, NUMBA_DISABLE_JIT="1") == COMPILED
    assert run(tmp_path) == KEPT


def test_a_folder_that_anyone_can_write_to_is_not_used(tmp_path):
    folder = tmp_path / "minigpt_tf"
    folder.mkdir()
    folder.chmod(0o777)
    assert run(tmp_path) == COMPILED
    assert not [*folder.iterdir()]


def test_no_folder_for_machine_code(tmp_path):
    file = tmp_path / "a file"
    file.write_text("")
    assert run(file) == COMPILED


def test_processes_that_start_together(tmp_path):
    with ThreadPoolExecutor(3) as pool:
        found = [*pool.map(lambda _: run(tmp_path), range(3))]
    assert set(found) <= {COMPILED, KEPT}
    (file,) = (tmp_path / "minigpt_tf").iterdir()
    assert file.name.endswith(SUFFIX)
    assert run(tmp_path) == KEPT


# ---------------------------------------------------------------- calls


class Pair(NamedTuple):
    values: np.ndarray
    factor: np.float32


class Nested(NamedTuple):
    count: int
    pair: Pair


@inner
def scaled(value, factor):
    return value * factor


@entry
def probe(nested, grid, flag, scale, out):
    """Uses each kind of argument; the result is an integer."""
    for i in range(nested.count):
        out[i] = scaled(nested.pair.values[i], nested.pair.factor) + scale
    if flag:
        out[0] += grid[1, 0] + grid.shape[0] + 10 * grid.size
    return np.int64(nested.count + grid.shape[1])


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))


def arguments(dtype=np.float32, grid=None):
    values = np.arange(4, dtype=dtype)
    grid = np.arange(6, dtype=np.int64).reshape(2, 3) if grid is None else grid
    return Nested(3, Pair(values, np.float32(1.5))), grid, True, 0.25, np.zeros(4, dtype)


def by_numba(*given):
    """The result and the last argument of the call that Numba itself prepares."""
    return probe.numba_call(*given), given[-1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int8, np.uint64])
def test_results_are_those_of_numba(dtype):
    given = arguments(dtype)
    result = probe(*given)
    expected, out = by_numba(*given[:-1], np.zeros(4, dtype))
    assert result == expected == 6
    assert given[-1].tobytes() == out.tobytes() and out[1:].any()


def test_results_of_each_type():
    @entry
    def same(x):
        return x

    for argument in (True, 7, 1.5, np.float32(1.5)):
        found = same(argument)
        assert found == argument and type(found) is type(same.numba_call(argument))
        assert same._code_for(*probe_parts((argument,)), (argument,))


def test_arrays_of_each_layout():
    base = np.arange(48, dtype=np.int64).reshape(6, 8)
    read_only = base[:2, :3].copy()
    read_only.flags.writeable = False
    grids = [base[:2, :3].copy(), base[::3, 1:7:2], base.T[:2, :3], np.asfortranarray(base)]
    grids += [base[:2, :1], base[:1, :3], base[:, :1].copy()]  # of several orders at once
    grids += [read_only, base[::-1, ::-1], base.astype(np.int32), base > 3]
    for grid in [*grids, *grids]:  # in turns: each call finds the code for its own
        given = arguments(grid=grid)
        result = probe(*given)
        expected, out = by_numba(*given[:-1], np.zeros(4, np.float32))
        assert result == expected
        np.testing.assert_array_equal(given[-1], out)


def test_other_kinds_of_arrays_never_reach_the_machine_code():
    given = arguments()
    probe(*given)
    code = probe._code_for(*probe_parts(given), given)
    for wrong in (np.zeros(4), np.zeros((2, 2), np.float32), np.zeros(8, np.float32)[::2]):
        leaves = probe_parts((*given[:-1], wrong))[1]
        assert code.call(leaves) is NotImplemented
        assert code.bind(leaves)()
        assert not wrong.any()


def probe_parts(given):
    from minigpt_tf.compiled.arguments import take_apart

    return take_apart(given)


def test_what_machine_code_cannot_take_goes_to_numba():
    given = arguments()
    swapped = given[-1].astype(">f4")
    with pytest.raises(Exception, match=r"(?i)unsupported|typing|determine"):
        probe(*given[:-1], swapped)
    with pytest.raises(Exception, match=r"(?i)typing|determine|str"):
        probe(*given[:-1], "text")
    with pytest.raises(TypeError):
        probe(*given[:-1])
    unaligned = np.zeros(17, np.uint8)[1:].view(np.float32)
    probe(*given[:-1], unaligned)
    assert unaligned[1] == 1.75
    subclass = np.zeros(4, np.longlong)
    probe(*given[:-1], subclass)
    assert subclass[1] == 1


def test_an_integer_beyond_64_bits():
    @entry
    def twice(x, out):
        out[0] = x

    out = np.zeros(1, np.uint64)
    twice(7, out)
    assert out[0] == 7
    twice(2**64 - 1, out)
    assert out[0] == 2**64 - 1
    with pytest.raises(Exception, match="int"):
        twice(2**70, out)


def test_closures_are_told_apart(tmp_path):
    def made(factor, function):
        @entry
        def scale(x):
            for i in range(x.size):
                x[i] = function(x[i], factor)

        return scale

    @inner
    def plus(a, b):
        return a + b

    found = []
    for factor, function in ((2.0, scaled), (3.0, scaled), (3.0, plus), (2.0, scaled)):
        x = np.ones(3)
        made(factor, function)(x)
        found.append(x[0])
    assert found == [2, 3, 4, 2]
    assert len([*tmp_path.rglob(f"*scale-*{SUFFIX}")]) == 3


def test_the_origin_follows_what_a_function_calls():
    def made(constant):
        scope = {"inner": inner, "CONSTANT": constant, "__name__": __name__}
        exec("def helper(x):\n  return x * CONSTANT\ndef caller(x):\n  return helper(x)\n", scope)
        return scope["caller"]

    assert origin(made(2)) == origin(made(2)) != origin(made(3))


def test_threads_call_at_once():
    @entry
    def fill(x, value):
        for i in range(x.size):
            x[i] = value

    arrays = [np.zeros(1000) for _ in range(8)]
    threads = [threading.Thread(target=fill, args=(x, i)) for i, x in enumerate(arrays)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [set(x.tolist()) for x in arrays] == [{float(i)} for i in range(8)]


def test_threads_that_compile_functions_of_each_other():
    @entry
    def lower(x):
        x[0] += 1

    @entry
    def upper(x):
        lower(x)
        lower(x)

    functions = [lower, upper, lower.numba_call, upper.numba_call]
    calls = [(f, np.zeros(1, dtype)) for dtype in (np.float32, np.int64) for f in functions]
    threads = [threading.Thread(target=f, args=(x,), daemon=True) for f, x in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert [x[0] for _, x in calls] == [1, 2, 1, 2] * 2


def test_a_copy_is_the_function_itself():
    assert copy.deepcopy(probe) is probe
    assert pickle.loads(pickle.dumps(probe)).__name__ == "probe"


def test_an_error_in_compiled_code():
    @entry
    def fails(x):
        if x[0] > 0:
            raise ValueError("too large")

    fails(np.zeros(1))
    with pytest.raises(Exception, match=r"too large|error in compiled code"):
        fails(np.ones(1))


def test_a_forked_process_calls_on():
    x = np.float32([-1, 2])

    @entry
    def double(x):
        for i in range(x.size):
            x[i] *= 2

    double(x)
    child = os.fork()
    if child == 0:
        double(x)
        os._exit(int(x[1]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 8
