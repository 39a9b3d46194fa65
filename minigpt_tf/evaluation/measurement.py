"""One model on one text: everything that `minigpt evaluate` reports."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ..config import MODEL_NAME, EngineConfig, EvaluationConfig
from ..errors import DataError
from ..events import SILENT, Listener
from ..inference.engine import Engine
from ..inference.folder import ModelFolder
from ..inference.generate import TextGenerator
from ..inference.weights import assign_weights, check_weights
from ..startup import quiet_import
from ..text.windows import ScoringWindows
from .passages import Passage
from .samples import SampleReport, report_samples
from .scoring import Score, score
from .text_size import added_bytes, byte_lengths


@dataclass(frozen=True)
class Measurement:
    """A model's figures on a passage."""

    model: str
    passage: Passage
    parameters: int
    window: int
    stride: int
    backend: str
    quantize: str
    score: Score
    samples: SampleReport | None
    seconds: float
    """Of scoring and generating, loading not included."""

    def as_json(self) -> dict[str, Any]:
        """Plain data without numbers that JSON lacks.

        Returns:
            Name -> figure; an infinite perplexity is None.
        """
        found = self.score
        return {
            "model": self.model,
            "part": self.passage.name,
            "parameters": self.parameters,
            "window": self.window,
            "stride": self.stride,
            "backend": self.backend,
            "quantize": self.quantize,
            "tokens": found.tokens,
            "bytes": found.bytes,
            "unknown_tokens": self.passage.unknown,
            "loss": found.loss,
            "perplexity": found.perplexity if math.isfinite(found.perplexity) else None,
            "bits_per_byte": found.bits_per_byte,
            "samples": self.samples and asdict(self.samples),
            "seconds": round(self.seconds, 2),
        }


def window_of(contents: ModelFolder, config: EvaluationConfig) -> tuple[int, int]:
    """Window and stride for a model.

    Args:
        contents: The model, whose context may be shorter than the window asked for.
        config: What was asked for.

    Returns:
        Tokens in a window, and tokens that it moves.

    Raises:
        ConfigError: The stride is larger than the window.
    """
    window = min(config.window, contents.model.context_length)
    stride = window if config.stride is None else config.stride
    ScoringWindows(0, window, stride)
    return window, stride


def measure(
    contents: ModelFolder,
    passages: Iterable[Passage],
    train_ids: np.ndarray | None,
    config: EvaluationConfig,
    engine_config: EngineConfig,
    listener: Listener = SILENT,
) -> Iterator[Measurement]:
    """Loads a model and measures it on each passage.

    Args:
        contents: The model folder.
        passages: The texts to score.
        train_ids: The training text (N,); None: copies are not measured.
        config: Windows, samples, backend.
        engine_config: Weights and threads of the engine.
        listener: Receives progress and notices.

    Yields:
        A measurement for each passage.

    Raises:
        ModelFolderError: The weights are damaged.
        DataError: A passage is too short, or of another vocabulary.
    """
    window, stride = window_of(contents, config)
    engine = keras_model = None
    if config.backend == "keras":
        keras_model = load_keras(contents)
    generator = None
    if keras_model is None or config.samples:
        engine, said = Engine.load(
            contents, engine_config.quantize, engine_config.threads, listener
        )
        if said:
            listener.notice(said)
        generator = TextGenerator(engine, contents.tokenizer, contents.start_ids)
    lengths = byte_lengths(contents.tokenizer, contents.model.vocab_size)
    for passage in passages:
        began = time.perf_counter()
        try:
            found = score(
                engine if keras_model is None else keras_model,
                passage.ids,
                context_length=window,
                stride=stride,
                prefix_ids=contents.tokenizer.prefix_ids,
                byte_lengths=lengths,
                num_windows=config.batches,
                listener=listener,
            )
        except DataError as error:
            raise DataError(f"{passage.name}, to {contents.path}: {error}") from None
        if contents.tokenizer.prefix_ids and found.bytes:  # else the first token is not counted
            added = added_bytes(contents.tokenizer, passage.ids, lengths)
            found = replace(found, bytes=found.bytes - added)
        report = None
        if config.samples and generator is not None:
            report = report_samples(generator, passage.ids, config, train_ids, listener)
        yield Measurement(
            model=str(contents.path),
            passage=passage,
            parameters=contents.model.parameter_count,
            window=window,
            stride=stride,
            backend=config.backend,
            quantize=engine_config.quantize,
            score=found,
            samples=report,
            seconds=time.perf_counter() - began,
        )


def load_keras(contents: ModelFolder) -> Any:
    """The Keras model of a folder, built from its configuration: no code in the file runs.

    Args:
        contents: The model folder.

    Returns:
        The Keras model, in float32.

    Raises:
        ModelFolderError: The weights are damaged.
    """
    file = contents.path / MODEL_NAME
    with contents.open_weights() as datasets:
        weights = {name: np.asarray(d, dtype=np.float32) for name, d in datasets.items()}
    check_weights(weights, contents.model, str(file))
    with quiet_import():
        from ..model import build_gpt_model
    model = build_gpt_model(contents.model, dtype="float32")
    assign_weights(model, weights)
    return model
