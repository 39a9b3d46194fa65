"""`import minigpt_tf` is enough for `keras.models.load_model` to know the package's layers.

Keras finds a layer of a file only if its class is registered, and registering needs Keras, whose
import takes seconds. So the classes are registered when the program itself imports Keras, before or
after this package; a program that never does, such as `generate.py`, never pays for it.
"""

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

HOME = "minigpt_tf.model"
"""Importing it registers the classes."""

WATCHED = ("keras", "tensorflow")
"""TensorFlow may import Keras in the midst of its own import, when it cannot be used yet."""


class _AfterImport:
    """Finds the watched modules as Python would, and registers when all that began have ended.

    A finder need not extend importlib.abc.MetaPathFinder, which imports tempfile and more.
    """

    def __init__(self) -> None:
        self.begun: set[str] = set()

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The spec of a watched module, whose loader registers in the end; None for all else."""
        if name not in WATCHED or name in self.begun:
            return None
        self.begun.add(name)  # the search below comes here too
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.begun.discard(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_register(module: ModuleType) -> None:
                """Executes the module, then registers unless another one is still at it."""
                self.begun.add(name)
                try:
                    load(module)
                finally:
                    self.begun.discard(name)
                if not self.begun:
                    register()

            spec.loader.exec_module = load_and_register  # type: ignore[method-assign]
        return spec


def register() -> None:
    """Registers the package's layers with the Keras that the program has imported, if it has."""
    keras = sys.modules.get("keras")
    if keras is not None and keras.backend.backend() == "tensorflow":  # the layers are TensorFlow's
        importlib.import_module(HOME)


def register_when_keras_is_imported() -> None:
    """Registers the package's layers now, or as soon as the program imports Keras."""
    if "keras" not in sys.modules:
        sys.meta_path.insert(0, _AfterImport())
    elif hasattr(sys.modules["keras"], "backend"):  # else it is being imported right now
        register()
