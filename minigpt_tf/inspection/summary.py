"""The verb `summary`: Keras's table of layers, for a model that exists or one that might."""

import argparse
from pathlib import Path

from ..config import ModelConfig
from ..errors import ConfigError
from ..machine import check_fits_memory
from ..modelfolder import newest_folder
from ..options import cli_options, given_options
from ..presets import DEFAULT_PRESET, PRESETS, model_preset
from ..training.console import quiet_import
from .modelfile import check_model_file, load_keras_model, model_file

DESCRIPTION = "Show the layers and parameters of a model, or of a preset without training it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A model folder, an .h5 file, or a preset with overrides."""
    model_help = "model folder or .h5 file (unset: the newest folder in models/)"
    parser.add_argument("--model", type=Path, metavar="PATH", help=model_help)
    parser.add_argument("--preset", choices=PRESETS, help="show this preset instead of a model")
    parser.add_argument("--expand", action="store_true", help="show the layers inside each block")
    group = parser.add_argument_group("model, instead of --model (unset: as the preset has it)")
    cli_options(group, ModelConfig, preset_decides=True)


def run(arguments: argparse.Namespace) -> int:
    """Prints the table."""
    given = given_options(arguments, ModelConfig)
    if arguments.model and (arguments.preset or given):
        raise ConfigError("--model shows a model as it is: drop --preset and the sizes")
    config = file = None
    if arguments.preset or given:
        config = model_preset(arguments.preset or DEFAULT_PRESET, **given)
        check_fits_memory(4 * config.parameter_count, f"{config.parameter_count:,} parameters")
    else:
        file = model_file(arguments.model or newest_folder())
        check_model_file(file)
    with quiet_import():
        from ..model import build_gpt_model
    model = load_keras_model(file) if config is None else build_gpt_model(config)
    model.summary(expand_nested=arguments.expand)
    return 0
