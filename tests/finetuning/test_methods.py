"""The methods of fine-tuning: what each takes, uses and starts from, by hand-made tables."""

import json
import shutil
import subprocess
import sys
import typing

import pytest

from minigpt_tf.config import FineTuningConfig
from minigpt_tf.config.finetuning import METHODS, MethodName
from minigpt_tf.config.presets import fine_tuning_preset
from minigpt_tf.errors import ConfigError
from minigpt_tf.finetuning.methods import all_methods, method_of
from minigpt_tf.text.tokenizers import train_tokenizer
from tests.conftest import ROOT
from tests.interop.folders import family_config, make_folder

VARIANTS = {  # what follows --method: its settings, learning rate, epochs
    "full": ({"method": "full"}, 1e-4, 8),
    "lora": ({"method": "lora"}, 2e-3, 8),
    "qlora": ({"method": "qlora"}, 2e-3, 8),
    "dpo": ({"method": "dpo"}, 1e-4, 3),
    "classify": ({"method": "classify"}, 5e-4, 3),
    "classify --classify-layers lora": ({"method": "classify", "classify_layers": "lora"}, 1e-3, 3),
    "classify --classify-layers all": ({"method": "classify", "classify_layers": "all"}, 5e-5, 5),
}
ANSWERS = ("full", "lora", "qlora")
ADAPTERS = ("lora", "qlora", "dpo", "classify --classify-layers lora")
USERS = {
    "base_bits": ("qlora",),
    "beta": ("dpo",),
    "classify_layers": tuple(name for name in VARIANTS if name.startswith("classify")),
    "train_on": ANSWERS,
    "records": (*ANSWERS, "dpo"),
    "sample_tokens": (*ANSWERS, "dpo"),
    "rank": ADAPTERS,
    "alpha": ADAPTERS,
    "lora_dropout": ADAPTERS,
    "targets": ADAPTERS,
}


def test_each_method_is_in_the_file_of_its_name():
    folder = ROOT / "minigpt_tf" / "finetuning" / "methods"
    files = {file.stem for file in folder.glob("*.py")} - {"__init__"}
    assert files == set(METHODS) == set(typing.get_args(MethodName))
    assert [method.command for method in all_methods()] == list(VARIANTS)


@pytest.mark.parametrize("command", VARIANTS)
def test_a_method_uses_its_own_settings_and_refuses_the_others(command):
    method = method_of(FineTuningConfig(**VARIANTS[command][0]))
    everybodys = {"epochs", "learning_rate", "max_length", "val_split", "method"}
    method.check_options(everybodys, all_methods())
    for name, users in USERS.items():
        if command in users:
            method.check_options({name}, all_methods())
            continue
        with pytest.raises(ConfigError, match=f"drop (it|--{name.replace('_', '-')})"):
            method.check_options({name}, all_methods())


def test_a_refusal_names_the_methods_that_use_the_setting():
    classify = method_of(FineTuningConfig(method="classify"))
    with pytest.raises(ConfigError) as found:
        classify.check_options({"rank"}, all_methods())
    assert str(found.value) == (
        "--rank is for --method lora or qlora or dpo or classify --classify-layers lora, not "
        "classify: drop it"
    )
    lora = method_of(FineTuningConfig(method="lora"))
    with pytest.raises(ConfigError, match="for --method classify, not lora: drop"):
        lora.check_options({"classify_layers"}, all_methods())


@pytest.mark.parametrize("command", VARIANTS)
def test_defaults(command):
    settings, learning_rate, epochs = VARIANTS[command]
    method = settings["method"]
    layers = settings.get("classify_layers")
    found = fine_tuning_preset(method, layers)
    assert (found.learning_rate, found.epochs) == (learning_rate, epochs)
    assert (found.optimizer, found.batch_size, found.weight_decay) == ("adamw", 8, 0.01)
    assert fine_tuning_preset(method, layers, optimizer="adam").weight_decay == 0
    assert fine_tuning_preset(f"{method} {layers or 'last'}") == found  # as version 0.1 had it
    with pytest.raises(ConfigError, match="method 'magic' is unknown: choose full, lora, qlora"):
        fine_tuning_preset("magic")


@pytest.mark.parametrize(
    ("method", "lighter"),
    [
        ("full", ["--method lora", "--method qlora", "--method qlora --base-bits 4"]),
        ("lora", ["--method qlora", "--method qlora --base-bits 4"]),
        ("qlora", ["--method qlora --base-bits 4"]),
        ("dpo", []),
        ("classify", []),
    ],
)
def test_lighter_methods_take_the_same_records(method, lighter):
    heavy = method_of(FineTuningConfig(method=method))
    found = list(heavy.lighter())
    assert [words for words, _ in found] == lighter
    assert all(other.record_kinds == heavy.record_kinds for _, other in found)


NEW_METHOD = '''
from .lora import Lora


class Careful(Lora):
    """LoRA that starts slowly."""

    options = Lora.options | {"base_bits"}


METHOD = Careful
'''

USE_IT = """
import sys
import minigpt_tf as mg
plan = mg.plan_finetuning({base!r}, {rows!r}, method="careful", base_bits="4", rank=2)
assert plan.training.learning_rate == 3e-5 and type(plan.method).__name__ == "Careful"
assert plan.describe()["tuning"]["method"] == "careful"
assert "tensorflow" not in sys.modules
from minigpt_tf.__main__ import main
try: main(["finetune", "--help"])
except SystemExit: pass
"""


def test_a_new_method_is_its_own_file_and_an_entry_in_the_list(tmp_path):
    shutil.copytree(ROOT / "minigpt_tf", tmp_path / "minigpt_tf")
    package = tmp_path / "minigpt_tf"
    (package / "finetuning" / "methods" / "careful.py").write_text(NEW_METHOD)
    listing = package / "config" / "finetuning.py"
    entry = '    "careful": MethodDefaults("slow LoRA", {"learning_rate": 3e-5}),\n'
    text = listing.read_text().replace('    "dpo": Method', f'{entry}    "dpo": Method')
    listing.write_text(text.replace('Literal["full",', 'Literal["careful", "full",'))
    rows = tmp_path / "rows.jsonl"
    records = [{"instruction": f"Say {i}", "output": f"It is {i}."} for i in range(10)]
    rows.write_text("".join(json.dumps(row) + "\n" for row in records))
    tokenizer = train_tokenizer("bpe", [json.dumps(records)], 300)
    config = family_config("llama", vocab_size=tokenizer.vocab_size, context_length=128)
    make_folder(tmp_path / "base", config, tokenizer)
    code = USE_IT.format(base=str(tmp_path / "base"), rows=str(rows))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    assert "careful: slow LoRA" in shown and "3e-05 for careful" in shown
