"""`minigpt plan`: the plans of train and finetune, and what it refuses."""

import json
import time

import pytest

from minigpt_tf.__main__ import main
from minigpt_tf.planning.experience import Experience, write_experience
from minigpt_tf.planning.probe import Speed
from tests.conftest import SAMPLE


@pytest.fixture(autouse=True)
def known_machine(tmp_path, monkeypatch):
    """A machine whose speed is known, and that has learned nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_experience(Experience(Speed(200e9, 400e9, 50e9, 30e9, 2350), time.time()))


def planned(capsys, *words):
    assert main(["plan", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_plan_of_train_has_memory_time_disk_and_money(capsys, tmp_path):
    words = ["train", "--data", str(SAMPLE), "--steps", "100", "--dtype", "float32"]
    found = planned(capsys, *words, "--price-per-hour", "3.6", "--watts", "1000")
    assert found["memory"] == pytest.approx(sum(found["memory_by_use"].values()), abs=10)
    assert found["disk"] == found["memory_by_use"]["weights"] * (1 + 2 * 3)
    assert found["price"] == pytest.approx(found["seconds"] / 1000, rel=0.01)
    assert found["kilowatt_hours"] == pytest.approx(found["seconds"] / 3600, rel=0.01)
    more = planned(capsys, *words[:3], "--steps", "200", "--dtype", "float32")
    assert more["seconds_by_use"]["steps"] == pytest.approx(2 * found["seconds_by_use"]["steps"])


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


def test_a_run_without_data_is_planned_by_its_steps(capsys):
    found = planned(capsys, "train", "--preset", "gpt2", "--steps", "100", "--dtype", "float32")
    assert found["memory_by_use"]["weights"] == 4 * 124_439_808
    lora = planned(
        capsys, "finetune", "--base", "SmolLM2-135M", "--steps", "100", "--max-length", "64"
    )
    assert found["memory"] > 4 * 134_515_008 and lora["memory"] < found["memory"]
    assert lora["memory_by_use"]["optimizer"] == 2 * 4 * 921_600  # rank 8, attention's kernels


def test_what_fits_within_limits_is_named(capsys):
    words = ["finetune", "--base", "SmolLM2-135M", "--steps", "100", "--max-length", "128"]
    words += ["--dtype", "float32", "--method", "full"]
    found = planned(capsys, *words, "--memory", "6")["fits"]
    assert found["as it is"] is False and found["--batch-size"] < 8
    bases = found["base"]
    assert bases["--method full"] in ("GPT-2 124M", "SmolLM2-135M")
    assert bases["--method qlora"] in ("GPT-2 medium", "SmolLM2-360M")
    text = planned(capsys, "train", "--steps", "100000", "--hours", "0.1")["fits"]
    assert 0 < text["--steps"] < 100_000


def test_a_configuration_that_import_refuses_is_refused_by_the_same_sentence(tmp_path, capsys):
    file = tmp_path / "config.json"
    for text in ('{"model_type": "mixtral"}', "{", '{"model_type": "llama"}'):
        file.write_text(text)
        (tmp_path / "model.safetensors").write_bytes(b"")
        sentences = []
        for words in (["plan", "model", str(tmp_path)], ["import", str(tmp_path)]):
            assert main(words) == 2
            sentences.append(capsys.readouterr().err)
        assert sentences[0] == sentences[1]


def test_a_model_in_use_has_a_speed_for_each_storage(capsys, trained_folder):
    found = planned(capsys, "model", str(trained_folder))
    speeds = [found["decoding"][s]["tokens_per_second"] for s in ("float32", "int8", "int4")]
    assert speeds == sorted(speeds) and found["sizing"]["machines"] == 1
    on_gpu = planned(capsys, "model", "Llama-3.1-8B", "--machine", "h100", "--price-per-hour", "2")
    assert "decoding" not in on_gpu and on_gpu["sizing"]["price_per_day"] == 48
    assert main(["plan", "model", "nothing"]) == 2
    assert "no such folder or file, and none of GPT-2" in capsys.readouterr().err


def test_the_table_answers_the_questions_of_the_course(capsys):
    found = planned(capsys, "hardware", "--machine", "a100", "--tokens", "2e12")
    rows = {(row["size"], row["what"]): row for row in found["rows"]}
    assert {size for size, _ in rows} == {"1B", "3B", "8B", "13B", "32B", "70B"}
    assert 150_000 < rows["8B", "pretraining"]["gpu_hours"] < 250_000  # Llama 2 7B: 184,320
    memory = [rows["8B", what]["memory"] for what in ("full", "dpo", "lora", "qlora")]
    assert memory == sorted(memory, reverse=True)
    assert main(["plan", "hardware"]) == 0
    text = capsys.readouterr().out
    assert "(6 N + 12 L T E) D" in text and "Llama 2 7B" in text
    assert main(["plan", "hardware", "--machine", "m2"]) == 2
    assert "the table is of GPUs" in capsys.readouterr().err
    assert main(["plan", "hardware", "--tokens", "0"]) == 2
