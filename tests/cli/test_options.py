"""Settings as options of the command line."""

import argparse

from minigpt_tf.cli.options import cli_options, given_options
from minigpt_tf.config import DataConfig, ModelConfig, RecordsConfig, SamplingConfig, TrainingConfig
from minigpt_tf.config.settings import to_dict


def test_options_come_from_the_fields():
    parser = argparse.ArgumentParser()
    for cls in (ModelConfig, DataConfig, TrainingConfig):
        cli_options(parser, cls, preset_decides=True)
    words = "--num-layers 3 --no-norm-first --positions rotary --val-split 0.25 --steps 7"
    arguments = parser.parse_args(words.split())
    assert given_options(arguments, ModelConfig) == {
        "num_layers": 3,
        "norm_placement": "after",
        "positions": "rotary",
    }
    assert given_options(arguments, DataConfig) == {"val_split": 0.25}
    assert given_options(arguments, TrainingConfig) == {"steps": 7}
    for cls in (ModelConfig, DataConfig, TrainingConfig, SamplingConfig):
        parser = argparse.ArgumentParser()
        cli_options(parser, cls, preset_decides=False)
        assert all(f"--{name.replace('_', '-')}" in parser.format_help() for name in to_dict(cls()))


def test_a_stop_text_may_be_a_line_end():
    parser = argparse.ArgumentParser()
    cli_options(parser, SamplingConfig, preset_decides=False)
    words = [
        "--stop",
        r"\n",
        "--stop",
        r"a\\n",
        "--stop",
        "\n\n",
        "--stop",
        r"\t\d",
        "--stop",
        "\udcff",
    ]
    given = given_options(parser.parse_args(words), SamplingConfig)
    assert given["stop"] == ("\n", r"a\n", "\n\n", "\t\\d", "\ufffd")
    assert r"\n is a line end" in parser.format_help()


def test_renamed_options_have_hidden_old_names():
    parser = argparse.ArgumentParser()
    for cls in (RecordsConfig, TrainingConfig):
        cli_options(parser, cls, preset_decides=False, only={"truncation", "eval_fraction"})
    old = parser.parse_args(["--eval-share", "0.25", "--cut", "start"])
    assert old == parser.parse_args(["--eval-fraction", "0.25", "--truncation", "start"])
    assert given_options(old, TrainingConfig) == {"eval_fraction": 0.25}
    assert given_options(old, RecordsConfig) == {"truncation": "start"}
    shown = parser.format_help()
    assert "--eval-share" not in shown and "--cut" not in shown
