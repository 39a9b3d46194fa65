"""`benchmarks/decode.py` survives peers that die or are missing. Nothing is timed."""

import os

import pytest

decode = pytest.importorskip("decode", reason="needs the gguf package")

import peers  # noqa: E402
import results  # noqa: E402
import rows_one_stream  # noqa: E402
from shapes import SMOLLM2  # noqa: E402


def working(speed: float, logits: str = "a") -> peers.Job:
    """A job whose result is known: that of `dict`."""
    return {
        "peer": "builtins",
        "task": "dict",
        "speed": speed,
        "bytes": 1e9,
        "ids": [1, 2, 3],
        "logits": logits,
    }


@pytest.fixture
def row():
    jobs = {
        "engine": working(30.0),
        "dies": {"peer": "os", "task": "abort"},
        "missing": {"peer": "a_peer_that_nobody_has", "task": "decode"},
        "llama.cpp": working(20.0),
    }
    rivals = {"engine": "llama.cpp", "dies": "llama.cpp"}

    def figures(found):
        pairs = (("engine", "llama.cpp"), ("engine", "dies"))
        return [(f"to {b}", rows_one_stream.speed_ratio(found, a, b), "") for a, b in pairs]

    return rows_one_stream.one_stream_row("a table", jobs, rivals, figures)


@pytest.mark.skipif(os.name == "nt", reason="processes do not die of signals there")
def test_the_others_continue_where_a_peer_dies(row):
    for _ in range(2):
        decode.measure(row)
    lines = decode.table(row)
    (line,) = (line for line in lines if line.startswith("engine"))
    assert line.split() == ["engine", "30.0", "30.0", "30.0", *"----", "1.50", "llama.cpp"]
    (line,) = (line for line in lines if line.startswith("dies"))
    assert set(line.split()[1:-1]) == {"-"}
    assert "  dies: no message" not in lines
    assert [line for line in lines if "died of SIGABRT" in line] == [lines[-2]]
    assert "No module named 'a_peer_that_nobody_has'" in lines[-1]
    assert lines[-1].endswith(f"install it: {peers.OTHER_PEERS}")
    assert len(row.results["dies"]) == 1 and len(row.results["engine"]) == 2
    assert [line.split()[-1] for line in decode.goals([row])[-2:]] == ["1.50", "-"]


@pytest.mark.parametrize(("features", "flag"), [(["amx_bf16"], "OFF"), (["avx512f"], "ON")])
def test_llama_cpp_is_built_without_amx(monkeypatch, features, flag):
    monkeypatch.setattr(peers, "processor", lambda: ("a processor", features))
    assert f"-DGGML_NATIVE={flag}" in peers.remedy(peers.LLAMA_CPP, missing=False)
    assert peers.remedy(peers.ENGINE, missing=False) == ""


def test_bits_are_compared_in_every_round():
    found = {
        "wide": [working(1.0), working(1.0)],
        "same": [working(2.0), working(2.0)],
        "other": [working(2.0), working(2.0, logits="b")],
        "failed": [{"failed": "died of SIGSEGV"}],
    }
    answers = [results.same_bits(found, name, "wide") for name in ("same", "other", "failed")]
    assert answers == [True, False, None]


def test_every_row_has_a_figure_with_a_goal(tmp_path, monkeypatch):
    import dataclasses

    import shapes

    sizes = {"vocab_size": 64, "embed_dim": 64, "num_heads": 2, "num_kv_heads": 1}
    small = dataclasses.replace(
        shapes.SHAPES[SMOLLM2], **sizes, head_dim=32, num_layers=1, ff_dim=32
    )
    monkeypatch.setitem(shapes.SHAPES, SMOLLM2, small)
    files = decode.Files(tmp_path)
    for name, make in decode.ROWS.items():
        row = make(files, SMOLLM2)
        if name == "speculation":  # needs a model folder
            assert row is None
            continue
        assert any(goal for *_, goal in row.figures({})), name
        assert decode.table(row)[1] == row.title
        assert {value for _, value, _ in row.figures({})} == {None}
