"""The verb `summary`: a table of layers, of a model that exists or of one that might."""

import argparse
from pathlib import Path

from ..config import ModelConfig
from ..config.presets import DEFAULT_PRESET, PRESETS, model_preset
from ..errors import ConfigError
from ..inspection.modelfile import model_file
from ..inspection.summary import summary_of_config
from ..inspection.table import print_summary, summarize
from ..interop.keras_files.files import open_keras_file
from ..storage.model_folder import newest_folder
from .options import cli_options, given_options

DESCRIPTION = "Show the layers and parameters of a model, or of a preset without training it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A model folder, a Keras file, or a preset with overrides.

    Args:
        parser: The verb\'s; options are added to it.
    """
    model_help = "model folder, or any .h5 or .keras file (unset: the newest folder in models/)"
    parser.add_argument("--model", type=Path, metavar="PATH", help=model_help)
    parser.add_argument("--preset", choices=PRESETS, help="show this preset instead of a model")
    parser.add_argument("--expand", action="store_true", help="show the layers inside each block")
    group = parser.add_argument_group("model, instead of --model (unset: as the preset has it)")
    cli_options(group, ModelConfig, preset_decides=True)


def run(arguments: argparse.Namespace) -> int:
    """Prints the table.

    Args:
        arguments: The options that were given, parsed.

    Returns:
        The exit status.
    """
    given = given_options(arguments, ModelConfig)
    if arguments.model and (arguments.preset or given):
        raise ConfigError("--model shows a model as it is: drop --preset and the sizes")
    if arguments.preset or given:
        config = model_preset(arguments.preset or DEFAULT_PRESET, **given)
        summary = summary_of_config(config, expand=arguments.expand)
    else:
        file = open_keras_file(model_file(arguments.model or newest_folder()))
        summary = summarize(file.model, file.weights, expand=arguments.expand)
    print_summary(summary)
    return 0
