"""The engine's machine code, compiled ahead: for images whose file systems are read-only."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..compiled import machine_code_folder as folder_of
from ..config.presets import PRESETS, model_preset
from .engine import Engine
from .kernels import compiled_step
from .samplers import compile_sums
from .step_arrays import Switches
from .weight_layout import lay_out_weights
from .weights import weight_shapes

_TINY = {"vocab_size": 8, "context_length": 8, "embed_dim": 8, "num_layers": 1, "ff_dim": 8}
"""The machine code depends on a model's switches and not on its sizes."""


def compile_ahead() -> Iterator[str]:
    """Compiles what sampling needs, and the engine's step for the switches of each preset, or
    finds it compiled.

    Yields:
        What has been compiled: sampling, then the preset, and how its weights are stored.
    """
    compile_sums(unfiltered=True)
    yield "sampling"
    for preset in PRESETS:
        sizes = {**_TINY, "num_heads": 2, "num_kv_heads": 2, "head_dim": 4}
        config = model_preset(preset, **sizes)
        weights = {
            name: np.zeros(shape, np.float32) for name, shape in weight_shapes(config).items()
        }
        for quantize, stored in (("none", "float32"), ("int8", "int8")):
            Engine(config, lay_out_weights(weights, config, preset, quantize)).warm_up()
            yield f"{preset}, {stored}"


def machine_code_folder() -> Path | None:
    """Where the engine's machine code is kept; None if it cannot be kept anywhere."""
    return folder_of(compiled_step(Switches("relu", True, "before", False), 1))
