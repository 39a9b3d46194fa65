"""A .tflite file as a program on a device runs it: a prompt in chunks, then token by token."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType


class LiteRTRunner:
    """Runs a file of `minigpt export --format tflite`.

    Args:
        file: The .tflite file.
        threads: That it uses.
        plain: Whether XNNPACK is left out, which is faster and keeps a second copy of the weights.

    Example:
        >>> from minigpt_tf.interop.litert.running import LiteRTRunner
        >>> runner = LiteRTRunner("exports/ramanujan-f32.tflite")  # doctest: +SKIP
        >>> next(runner.logits([3, 4])).shape  # doctest: +SKIP
        (5000,)
    """

    def __init__(self, file: str | Path, threads: int = 1, *, plain: bool = False) -> None:
        kernels = "BUILTIN_WITHOUT_DEFAULT_DELEGATES" if plain else "AUTO"
        model = Interpreter(
            model_path=str(file),
            num_threads=threads,
            experimental_op_resolver_type=OpResolverType[kernels],
        )
        names = model.get_signature_list()
        self._run = {name: model.get_signature_runner(name) for name in names}
        lengths = (name.removeprefix("prefill_") for name in names if name != "decode")
        self.prefill_lengths = sorted(map(int, lengths))
        inputs = self._run["decode"].get_input_details()
        self._shapes = {
            name: item["shape"] for name, item in inputs.items() if name.startswith("kv_cache")
        }

    def logits(self, ids: Sequence[int]) -> Iterator[np.ndarray]:
        """Starts a sequence.

        Args:
            ids: The prompt, at least one.

        Yields:
            The logits (V,) of the next token; then, for each id that was appended to `ids`
            meanwhile, those behind it.
        """
        kept: dict[str, Any] = {name: np.zeros(s, np.float32) for name, s in self._shapes.items()}
        place = 0
        while place < len(ids) - 1:
            left = len(ids) - 1 - place
            length = next((n for n in self.prefill_lengths if n >= left), self.prefill_lengths[-1])
            taken = min(length, left)
            tokens, positions = np.zeros((1, length), np.int32), np.zeros(length, np.int32)
            tokens[0, :taken] = ids[place : place + taken]
            positions[:taken] = np.arange(place, place + taken)
            kept = self._run[f"prefill_{length}"](tokens=tokens, input_pos=positions, **kept)
            place += taken
        while place < len(ids):
            tokens, positions = np.array([[ids[place]]], np.int32), np.array([place], np.int32)
            kept = self._run["decode"](tokens=tokens, input_pos=positions, **kept)
            place += 1
            yield kept.pop("logits")[0, 0]
