"""`minigpt plan`: the plans of train and finetune, and what it refuses."""

import json

import pytest

from minigpt_tf.__main__ import main
from tests.conftest import SAMPLE


def planned(capsys, *words):
    assert main(["plan", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_plan_of_train_has_memory_time_disk_and_money(capsys, tmp_path):
    words = ["train", "--data", str(SAMPLE), "--steps", "100", "--dtype", "float32"]
    found = planned(capsys, *words, "--price-per-hour", "3.6", "--watts", "1000")
    assert found["memory"] == pytest.approx(sum(found["memory_parts"].values()), abs=10)
    assert found["disk"] == found["memory_parts"]["weights"] * (1 + 2 * 3)
    assert found["price"] == pytest.approx(found["seconds"] / 1000, rel=0.01)
    assert found["kilowatt_hours"] == pytest.approx(found["seconds"] / 3600, rel=0.01)
    more = planned(capsys, *words[:3], "--steps", "200", "--dtype", "float32")
    assert more["seconds_parts"]["steps"] == pytest.approx(2 * found["seconds_parts"]["steps"])


def test_another_machine_is_marked_as_estimated(capsys):
    found = planned(capsys, "train", "--data", str(SAMPLE), "--machine", "rpi5")
    assert found["estimated"] and found["machine"] == "rpi5"
    assert main(["plan", "train", "--data", str(SAMPLE), "--machine", "h100"]) == 0
    assert "H100, 80 GB (SXM), estimated" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, said",
    [
        (["train"], "--data is missing"),
        (["train", "--data", str(SAMPLE), "--memory", "-1"], "memory=-1.0: must be a positive"),
        (["train", "--data", str(SAMPLE), "--hours", "nan"], "hours=nan: must be a finite"),
        (["train", "--data", str(SAMPLE), "--num-kv-heads", "3"], "num_kv_heads=3"),
        (["finetune", "--data", "x"], "--base is missing"),
    ],
)
def test_what_cannot_be_planned_is_one_line(words, said, capsys):
    assert main(["plan", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


def test_an_unknown_machine_is_named(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["plan", "train", "--data", str(SAMPLE), "--machine", "cray"])
    assert ended.value.code == 2 and "'cray'" in capsys.readouterr().err
