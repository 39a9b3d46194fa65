"""The table of a model that does not exist yet."""

import json

from ..config import ModelConfig
from ..interop.keras_files.architecture import read_architecture
from ..interop.keras_files.layer_weights import live_weights
from ..machine import check_fits_memory
from ..startup import quiet_import
from .table import Summary, summarize


def summary_of_config(config: ModelConfig, *, expand: bool = False) -> Summary:
    """The table of the model that `build_gpt_model` would make.

    Args:
        config: Its architecture.
        expand: Whether the layers inside each block get lines of their own.

    Returns:
        The table.

    Raises:
        ConfigError: A machine like this one could not hold the model.

    Example:
        >>> from minigpt_tf import model_preset
        >>> summary_of_config(model_preset("lecture")).parameters
        13085576
    """
    check_fits_memory(4 * config.parameter_count, f"{config.parameter_count:,} parameters")
    with quiet_import():
        import keras

        from ..model import build_gpt_model
    with keras.StatelessScope(initialize_variables=False):  # variables that take no memory
        model = build_gpt_model(config)
        description = json.loads(model.to_json())
    return summarize(read_architecture(description), live_weights(model), expand=expand)
