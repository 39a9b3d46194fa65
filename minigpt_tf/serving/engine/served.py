"""A model that is served: what it is, and what the engine's thread does for it."""

import functools
import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ... import __version__
from ...classification.classifier import Classifier
from ...config import SamplingConfig
from ...inference.engine import Engine
from ...inference.generate import TextGenerator
from ...inference.scheduling import Scheduler
from ...retrieval.library import Library
from ...storage.model_folder import CHAT_TEMPLATE_NAME
from ...text.tokenizers import TOKENIZER_NAMES
from ...text.turn_tokens import TurnTokens, turn_tokens
from .jobs import Job
from .token_text import TokenBytes


@dataclass
class Served:
    """A loaded model under its name."""

    name: str
    folder: Path
    created: int
    """When its folder was written, in seconds since 1970."""
    quantize: str
    generator: TextGenerator | None = None
    """None: it is a classifier."""
    scheduler: Scheduler | None = None
    """Of the generator."""
    classifier: Classifier | None = None
    library: Library | None = None
    """Records to answer from."""
    notice: str = ""
    """What a person should know about the model, perhaps empty."""
    jobs: deque[Job] = field(default_factory=deque)
    """Other work than answers, for the engine's thread."""
    idle_work: Iterator[None] = field(default_factory=lambda: iter(()))
    """What the engine's thread does in short turns while nobody asks for anything."""
    durations: deque[float] = field(default_factory=lambda: deque(maxlen=64))
    """How long the latest answers took, in seconds."""
    in_flight: int = 0
    """Answers and jobs that were admitted and have not ended; the event loop counts them."""

    @property
    def engine(self) -> Engine:
        """What runs the model."""
        home = self.generator or self.classifier
        assert home is not None
        return home.engine

    @property
    def kind(self) -> str:
        """ "chat", "text" (it continues texts) or "classifier"."""
        if self.generator is None:
            return "classifier"
        return "text" if self.generator.chat_template is None else "chat"

    @property
    def unfinished(self) -> int:
        """Answers and jobs that the engine's thread has not finished."""
        return len(self.jobs) + (self.scheduler.unfinished if self.scheduler else 0)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with what may change a text: the version, the weights and how they are kept."""
        weights = self.engine.weights
        digest = hashlib.sha256(f"{__version__} {self.quantize} {self.engine.config}".encode())
        digest.update(weights.norms.tobytes())
        digest.update(weights.panels[: 2**20].tobytes())
        for name in {*TOKENIZER_NAMES.values(), CHAT_TEMPLATE_NAME}:
            if (self.folder / name).is_file():
                digest.update((self.folder / name).read_bytes())
        return f"fp_{digest.hexdigest()[:12]}"

    @functools.cached_property
    def token_bytes(self) -> TokenBytes:
        """The text of single tokens."""
        assert self.generator is not None
        return TokenBytes(self.generator.tokenizer)

    @functools.cached_property
    def defaults(self) -> dict[str, Any]:
        """Fields of SamplingConfig that an answer has unless its request says otherwise."""
        if self.generator is None:
            return {}
        return {**self.generator.generation, "context_full": "stop"}

    @functools.cached_property
    def turn_tokens(self) -> TurnTokens | None:
        """The special tokens of its conversations; None without a chat template."""
        if self.generator is None or self.generator.chat_template is None:
            return None
        return turn_tokens(self.generator.chat_template, self.generator.tokenizer)

    def respell(self) -> None:
        """Makes what encodes a message that spells a special token, which takes a while once."""
        if self.turn_tokens is not None and self.turn_tokens.ids:
            _ = self.turn_tokens.respelled

    def description(self) -> dict[str, Any]:
        """What a page shows of it.

        Returns:
            Plain JSON data.
        """
        config = self.engine.config
        described: dict[str, Any] = {
            "id": self.name,
            "kind": self.kind,
            "parameters": config.parameter_count,
            "context_length": config.context_length,
            "quantize": self.quantize,
            "notice": self.notice,
        }
        if self.library is not None:
            described["records"] = len(self.library)
        if self.classifier is not None:
            described["labels"] = list(self.classifier.head.labels)
        if self.scheduler is not None:
            sampling = SamplingConfig(**self.defaults)
            names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
            described["slots"] = self.scheduler.rows
            described["defaults"] = {name: getattr(sampling, name) for name in names}
            if sampling.greedy:
                described["defaults"]["temperature"] = 0
        return described
