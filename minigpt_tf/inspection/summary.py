"""The verb `summary`: a table of layers, of a model that exists or of one that might."""

import argparse
import json
from pathlib import Path

from ..config import ModelConfig
from ..errors import ConfigError
from ..interop.keras_files.architecture import read_architecture
from ..interop.keras_files.files import open_keras_file
from ..interop.keras_files.layer_weights import live_weights
from ..machine import check_fits_memory
from ..modelfolder import newest_folder
from ..options import cli_options, given_options
from ..presets import DEFAULT_PRESET, PRESETS, model_preset
from ..startup import quiet_import
from .modelfile import model_file
from .table import Summary, print_summary, summarize

DESCRIPTION = "Show the layers and parameters of a model, or of a preset without training it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A model folder, a Keras file, or a preset with overrides."""
    model_help = "model folder, or any .h5 or .keras file (unset: the newest folder in models/)"
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
    if arguments.preset or given:
        config = model_preset(arguments.preset or DEFAULT_PRESET, **given)
        summary = summary_of_config(config, expand=arguments.expand)
    else:
        file = open_keras_file(model_file(arguments.model or newest_folder()))
        summary = summarize(file.model, file.weights, expand=arguments.expand)
    print_summary(summary)
    return 0


def summary_of_config(config: ModelConfig, *, expand: bool = False) -> Summary:
    """The table of the model that `build_gpt_model` would make. Raises ConfigError if no machine
    like this one could hold it."""
    check_fits_memory(4 * config.parameter_count, f"{config.parameter_count:,} parameters")
    with quiet_import():
        import keras

        from ..model import build_gpt_model
    with keras.StatelessScope(initialize_variables=False):  # variables that take no memory
        model = build_gpt_model(config)
        description = json.loads(model.to_json())
    return summarize(read_architecture(description), live_weights(model), expand=expand)
