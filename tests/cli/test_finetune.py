"""What `finetune --help` says is true: each default that it names, and each `unset`."""

import argparse
import json
import re

import openpyxl
import pytest

from minigpt_tf.cli import finetune
from minigpt_tf.config import FineTuningConfig, LoraConfig, RecordsConfig, TrainingConfig
from minigpt_tf.config.presets import fine_tuning_preset
from minigpt_tf.finetuning.preparation import plan_finetuning
from minigpt_tf.records.reading import read_records
from minigpt_tf.text.tokenizers import train_tokenizer
from minigpt_tf.training.optimizers import build_optimizer
from tests.interop.folders import family_config, make_folder

FORMS = {  # as the help names them: arguments of fine_tuning_preset
    "full": ("full",),
    "lora": ("lora",),
    "qlora": ("qlora",),
    "dpo": ("dpo",),
    "classify": ("classify",),
    "classify --classify-layers lora": ("classify", "lora"),
    "classify --classify-layers all": ("classify", "all"),
}


@pytest.fixture(scope="module")
def helps():
    """Help text by the name of the setting."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "10000")
        parser = argparse.ArgumentParser()
        finetune.add_arguments(parser)
        shown = parser.format_help()
    found = {}
    for entry in re.split(r"\n  (?=--)", shown)[1:]:
        words = " ".join(entry.split("\n\n")[0].split())
        match = re.match(r"--([\w-]+)(?:, --[\w-]+)?(?: \{.*?\}| [A-Z=]+)? (\S.*)", words)
        found[match[1].replace("-", "_")] = match[2]
    return found


def defaults_named(text):
    """What a help text says that its default is: (value, form) pairs; None is every form."""
    match = re.search(r"\(default: (.*)\)$", text)
    for item in match[1].split("; ") if match else ():
        value, _, forms = item.partition(" for ")
        yield from ((value, form) for form in (forms.split(", ") if forms else [None]))


def as_shown(value):
    return ", ".join(value) if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize("kind", [FineTuningConfig, LoraConfig, RecordsConfig])
def test_each_default_is_the_dataclass_s(helps, kind):
    named = 0
    for name, value in vars(kind()).items():
        for shown, form in defaults_named(helps[name]):
            assert form is None and shown == as_shown(value), name
            named += 1
    assert named >= 4


def test_each_default_of_training_is_the_method_s(helps):
    presets = {form: fine_tuning_preset(*arguments) for form, arguments in FORMS.items()}
    fields = set(vars(TrainingConfig())) - {"eval_fraction", "sample_prompt"}
    assert fields <= set(helps) and "sample_prompt" not in helps
    named = set()
    for name in fields:
        for shown, form in defaults_named(helps[name]):
            for other, preset in presets.items():
                if form in (None, other):
                    assert shown == as_shown(getattr(preset, name)), (name, other)
                    named.add((name, other))
    without = {name for name in fields if getattr(presets["lora"], name) is None}
    assert named == {(name, form) for name in fields - without for form in FORMS}


def test_the_help_speaks_of_records(helps):
    said = " ".join(helps[name] for name in vars(TrainingConfig()) if name in helps)
    assert "window" not in said and "that sample" not in said and "at most 250" not in said


def _is_highest(plan, steps, step):
    """Whether the learning rate of a run rises up to a step, and no further."""
    optimizer, rates = build_optimizer(plan.training, steps), []
    for place in (step - 1, step, step + 1):
        optimizer.iterations.assign(place)
        rates.append(float(optimizer.learning_rate))
    highest = pytest.approx(plan.training.learning_rate)
    return rates[0] < rates[1] == highest and rates[2] < rates[1]


def test_what_is_unset_is_as_the_help_says(helps, tmp_path):
    """300 records, one a batch: an epoch is longer than the 250 steps of training on a text."""
    rows = [{"instruction": f"Say {i}", "output": f"{i}."} for i in range(300)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = train_tokenizer("bpe", [json.dumps(rows)], 300)
    config = family_config("llama", vocab_size=tokenizer.vocab_size, context_length=128)
    make_folder(tmp_path / "base", config, tokenizer)
    settings = {"batch_size": 1, "near_duplicate": 1.0, "val_split": 0.0}
    plan = plan_finetuning(tmp_path / "base", tmp_path / "rows.jsonl", **settings)
    arguments = argparse.Namespace(base=tmp_path / "base", data=str(tmp_path / "rows.jsonl"))
    book = openpyxl.Workbook()
    book.active.append(["instruction", "output"])
    book.active.append(["of the first sheet", "yes"])
    book.create_sheet("second").append(["instruction", "output"])
    book.save(tmp_path / "book.xlsx")
    unset = {
        "eval_every": ("an epoch", plan.eval_every == 300),
        "max_length": ("the base's context", plan.dataset.report.context_length == 128),
        "sample_queries": (
            "three of the records",
            plan.queries == [record.prompt_text for record in plan.dataset.train.records[:3]],
        ),
        "warmup_steps": (
            "a tenth of all, at most 100",
            _is_highest(plan, 70, 7) and _is_highest(plan, 5000, 100),
        ),
        "checkpoint_every": ("by time alone", plan.training.checkpoint_minutes == 2.0),
        "out": ("models/BASE-RECORDS", str(finetune._default_out(arguments)) == "models/base-rows"),
        "sheet": (
            "the first",
            read_records(tmp_path / "book.xlsx", RecordsConfig()).records[0].output == "yes",
        ),
    }
    matches = {name: re.search(r"\(unset: (.*?)\)", text) for name, text in helps.items()}
    said = {name: match[1] for name, match in matches.items() if match}
    assert said == {name: words for name, (words, _) in unset.items()}
    assert all(true for _, true in unset.values()), unset
