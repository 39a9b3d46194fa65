"""Whether Keras computes as this package needs it: a program may have set it up for another one."""

import keras

from ..errors import ConfigError


def check_backend() -> None:
    """Checks that Keras, which is imported, computes as this package needs it.

    Raises:
        ConfigError: It runs on another backend, or takes another type of numbers for float32.
    """
    backend = keras.config.backend()
    if backend != "tensorflow":
        raise ConfigError(
            f"Keras runs on {backend}, minigpt_tf needs TensorFlow: set KERAS_BACKEND=tensorflow "
            "before keras is imported"
        )
    floatx = keras.config.floatx()
    if floatx != "float32":
        raise ConfigError(
            f"Keras computes in {floatx} (keras.json or set_floatx), minigpt_tf's models are "
            "float32: call keras.config.set_floatx('float32') first, and give dtype= for less"
        )
