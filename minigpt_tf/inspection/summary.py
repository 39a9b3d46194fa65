"""The table of a model that does not exist yet."""

import json

from ..config import ModelConfig
from ..interop.keras_files.architecture import read_architecture
from ..interop.keras_files.layer_weights import live_weights
from ..machine import check_fits_memory
from ..startup import quiet_import
from .table import Summary, summarize


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
