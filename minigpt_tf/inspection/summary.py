"""The verb `summary`: Keras's table of layers, for a model that exists or one that might."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import (
    DEFAULT_PRESET,
    PRESETS,
    ModelConfig,
    cli_options,
    given_options,
    model_preset,
)
from ..errors import ConfigError, ModelFolderError
from ..modelfolder import newest_folder
from ..training.console import quiet_import
from .modelfile import check_model_file, model_file

if TYPE_CHECKING:
    import keras

DESCRIPTION = "Show the layers and parameters of a model, or of a preset without training it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A model folder, an .h5 file, or a preset with overrides."""
    parser.add_argument("--model", type=Path, metavar="PATH", help="model folder or .h5 (unset: the newest)")
    parser.add_argument("--preset", choices=PRESETS, help="show this preset instead of a model")
    parser.add_argument("--expand", action="store_true", help="show the layers inside each block")
    group = parser.add_argument_group(f"model, instead of --model (unset: as the preset has it)")
    cli_options(group, ModelConfig, preset_decides=True)


def run(arguments: argparse.Namespace) -> int:
    """Prints the table."""
    given = given_options(arguments, ModelConfig)
    if arguments.model and (arguments.preset or given):
        raise ConfigError("--model shows a model as it is: drop --preset and the sizes")
    if arguments.preset or given:
        config = model_preset(arguments.preset or DEFAULT_PRESET, **given)
        file = None
    else:
        file = model_file(arguments.model or newest_folder())
        check_model_file(file)
    with quiet_import():
        from ..model import build_gpt_model
    model = build_gpt_model(config) if file is None else load_keras_model(file)
    model.summary(expand_nested=arguments.expand, line_length=100, print_fn=print)
    return 0
