"""How Keras and TensorFlow are imported: without their chatter, and without a foreign setup."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


def choose_tensorflow() -> None:
    """Makes Keras, if it is imported later, run on TensorFlow as it comes.

    KERAS_BACKEND and the keras.json of another project may name another backend, another type of
    numbers, or be damaged. They are not read, and none is written.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["KERAS_HOME"] = os.path.join(os.devnull, "keras")  # a folder that cannot be


_seconds: float | None = None


def import_seconds() -> float | None:
    """How long the imports of `quiet_import` took, in all; None if there were none."""
    return _seconds


@contextmanager
def quiet_import() -> Iterator[None]:
    """Hides what TensorFlow's C++ writes to stderr while it is imported.

    Python errors are still shown: they are raised, not written.
    """
    global _seconds
    began = time.perf_counter()
    try:
        with _quiet():
            yield
    finally:
        _seconds = (_seconds or 0.0) + time.perf_counter() - began


@contextmanager
def _quiet() -> Iterator[None]:
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "3":  # --debug, or the user wants to see them
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)
