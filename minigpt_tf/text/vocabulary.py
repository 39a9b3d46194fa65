"""Pickled vocabularies, read without running code.

`tokenizer.pkl` holds plain data: dicts, lists, strings, numbers. A Keras `Tokenizer` pickled in a
notebook is read too, as a record of its attributes. Any other class or function named in a pickle
is refused before it is looked up, so a hostile file cannot run anything.
"""

import collections
import io
import pickle
from typing import Any

from ..errors import DataError

KERAS_TOKENIZER_MODULES = frozenset(
    {
        "keras_preprocessing.text",
        "keras.preprocessing.text",
        "keras.legacy.preprocessing.text",
        "keras._legacy.preprocessing.text",
        "keras.src.preprocessing.text",
        "keras.src.legacy.preprocessing.text",
        "tensorflow.keras.preprocessing.text",
        "tensorflow.python.keras.preprocessing.text",
        "tensorflow.python.keras._impl.keras.preprocessing.text",
        "tf_keras.preprocessing.text",
        "tf_keras.src.preprocessing.text",
    }
)
"""Where Keras's `Tokenizer` has lived over the years; a pickle remembers the place of its day."""


class KerasTokenizerRecord:
    """Stands in for a pickled Keras `Tokenizer`: its attributes, none of its code."""


def _new_record(cls: type, base: type, state: Any) -> KerasTokenizerRecord:
    """Stands in for copyreg._reconstructor, by which pickle protocols 0 and 1 make an object."""
    return KerasTokenizerRecord()


_ALLOWED_GLOBALS = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("builtins", "int"): int,
    ("__builtin__", "int"): int,  # Python 2's names stand in pickles of protocol 0 to 2
    ("__builtin__", "long"): int,
    ("builtins", "object"): object,
    ("__builtin__", "object"): object,
    ("copyreg", "_reconstructor"): _new_record,
    ("copy_reg", "_reconstructor"): _new_record,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Called by the unpickler for every class or function that a pickle names."""
        if name == "Tokenizer" and module in KERAS_TOKENIZER_MODULES:
            return KerasTokenizerRecord
        if (module, name) in _ALLOWED_GLOBALS:
            return _ALLOWED_GLOBALS[module, name]
        raise DataError(
            f"names {module}.{name}: a tokenizer file holds plain data or a Keras Tokenizer, and "
            "nothing else is loaded from it"
        )


def load_plain_pickle(content: bytes) -> Any:
    """What a pickle of plain data or of a Keras Tokenizer holds. Raises DataError for all else."""
    try:
        return _PlainUnpickler(io.BytesIO(content)).load()
    except DataError:
        raise
    except MemoryError:
        raise DataError("is damaged: it asks for more memory than there is") from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise DataError(f"is not a readable pickle: {error or type(error).__name__}") from None


def dump_plain_pickle(values: dict[str, Any]) -> bytes:
    """Plain data as a pickle that `load_plain_pickle` (and any Python 3) reads."""
    return pickle.dumps(values, protocol=4)
