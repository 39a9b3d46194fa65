"""The metadata of a GGUF file, each value of the type expected; and the keys of our own."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from ...errors import ModelFolderError

MODEL_KEY = "minigpt_tf.model"
"""ModelConfig as JSON, in files that this package has written."""
TEXT_KEY = "minigpt_tf.text"
"""JSON of those files: the kind of tokenizer, and the tokens from which an empty prompt starts."""


@dataclass(frozen=True)
class Metadata:
    """Values by key. Every method raises ModelFolderError where a value is of another type."""

    file: Path
    values: dict[str, Any]

    def __contains__(self, key: str) -> bool:
        return key in self.values

    @overload
    def text(self, key: str, default: str) -> str: ...
    @overload
    def text(self, key: str, default: None = None) -> str | None: ...
    def text(self, key: str, default: str | None = None) -> str | None:
        """Reads a text.

        Args:
            key: Such as "general.name".
            default: Returned if the key is absent.

        Returns:
            The text, or `default`.
        """
        return self._get(key, default, str, "a text")

    def flag(self, key: str, default: bool) -> bool:
        """Reads a Boolean.

        Args:
            key: Such as "tokenizer.ggml.add_bos_token".
            default: Returned if the key is absent.

        Returns:
            The value, or `default`.
        """
        return self._get(key, default, bool, "true or false")

    def texts(self, key: str) -> list[str] | None:
        """A list of texts, or None."""
        return self._get(key, None, list, "a list of texts")

    def numbers(self, key: str) -> np.ndarray | None:
        """A list of numbers, or None."""
        return self._get(key, None, np.ndarray, "a list of numbers")

    def number(self, key: str, default: float | None = None) -> float | None:
        """Reads a number.

        Args:
            key: Such as "llama.rope.freq_base".
            default: Returned if the key is absent.

        Returns:
            The shortest decimal that is the same in float32, or `default`.
        """
        if key not in self.values:
            return default
        value = self._get(key, default, (int, float), "a number")
        return float(str(np.float32(value)))

    @overload
    def whole(self, key: str, default: int) -> int: ...
    @overload
    def whole(self, key: str, default: None = None) -> int | None: ...
    def whole(self, key: str, default: int | None = None) -> int | None:
        """Reads an integer, or a list of equal integers, one for each layer.

        Args:
            key: Such as "llama.block_count".
            default: Returned if the key is absent.

        Returns:
            The integer, or `default`.
        """
        value = self.values.get(key, default)
        if isinstance(value, np.ndarray) and value.size and (value == value[0]).all():
            value = value[0].item()
        if value is not None and type(value) is not int:
            if isinstance(value, np.ndarray) and value.size:
                raise ModelFolderError(
                    f"{self.file}: {key} differs from layer to layer, which is not supported"
                )
            raise self._wrong(key, value, "an integer")
        return value

    def required(self, key: str) -> int:
        """An integer that must be there."""
        value = self.whole(key)
        if value is None:
            raise ModelFolderError(f"{self.file}: its metadata lack {key}")
        return value

    def json(self, key: str) -> dict[str, Any]:
        """The content of a text in JSON: settings by name; none if the text is absent."""
        try:
            content = json.loads(self.text(key, "{}"))
        except (ValueError, RecursionError) as error:
            raise ModelFolderError(f"{self.file}: {key} is damaged: {error!s:.80}") from None
        if not isinstance(content, dict):
            raise self._wrong(key, content, "settings by name")
        return content

    def _get(self, key: str, default: Any, kind: Any, expected: str) -> Any:
        value = self.values.get(key, default)
        sound = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if value is not None and not sound:
            raise self._wrong(key, value, expected)
        return value

    def _wrong(self, key: str, value: Any, expected: str) -> ModelFolderError:
        shown = str(value)[:40]
        return ModelFolderError(f"{self.file}: {key}={shown}: expected {expected}")
