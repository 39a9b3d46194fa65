"""The methods of fine-tuning, one class in a file named as the method, without TensorFlow."""

import importlib

from ...config import FineTuningConfig
from ...config.finetuning import METHODS
from ..method import Method


def method_of(tuning: FineTuningConfig) -> Method:
    """The method that the settings name, with these settings."""
    found = importlib.import_module(f".{tuning.method}", __name__).METHOD
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise TypeError(f"finetuning/methods/{tuning.method}.py: METHOD must be a Method")
    return found(tuning)


def all_methods() -> list[Method]:
    """Every method of `config.finetuning.METHODS` in each of its variants."""
    named = (method_of(FineTuningConfig(method=name)) for name in METHODS)
    return [variant for method in named for variant in method.variants()]
