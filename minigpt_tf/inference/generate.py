"""Prompt -> text: one call for the whole answer, or a stream of its pieces."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..config import MODEL_NAME, SamplingConfig
from ..errors import ModelFolderError
from ..modelfolder import load_folder
from ..text.tokenizers import Tokenizer
from .engine import Engine
from .samplers import make_sampler
from .weights import read_weights


@dataclass(frozen=True)
class Prompt:
    """A prompt as the model gets it."""

    text: str
    """As it was given."""
    ids: list[int]
    """What the model gets of it: at most the context; nothing where it starts by itself."""
    unknown: list[str]
    """Words or characters that the tokenizer does not know."""
    dropped: int
    """Tokens cut from the front because the context is shorter."""

    def notices(self) -> Iterator[str]:
        """What a person should know about the prompt, a sentence each."""
        if self.text.strip() and not self.ids:
            yield "the model knows nothing of the prompt, and starts by itself"
        if self.unknown:
            names = ", ".join(repr(part) for part in self.unknown)
            yield f"not in the model's vocabulary: {names}"
        if self.dropped:
            yield (
                f"the prompt is longer than the context of {len(self.ids)} tokens: its first "
                f"{self.dropped} tokens were dropped"
            )


@dataclass(frozen=True)
class Generation:
    """A finished answer."""

    prompt: Prompt
    ids: list[int]
    text: str
    """The new text alone, without the prompt."""
    finish_reason: str
    """"length" (max_new_tokens reached) or "end" (the model ended the text)."""
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return len(self.ids) / self.seconds if self.seconds else 0.0


class TextGenerator:
    """An engine, its tokenizer and how a text begins where there is no prompt."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, start_ids: list[int]) -> None:
        """`start_ids`: the tokens from which an empty prompt starts; they count as generated."""
        self.engine, self.tokenizer, self.start_ids = engine, tokenizer, start_ids
        self._suppressed = tokenizer.suppressed_ids(engine.config.vocab_size)
        if len(self._suppressed) >= engine.config.vocab_size:
            raise ModelFolderError("the tokenizer knows no token that could be generated")

    @classmethod
    def load(cls, folder: str | Path) -> "TextGenerator":
        """Reads a model folder. Raises ModelFolderError."""
        contents = load_folder(folder)
        weights = read_weights(contents.path / MODEL_NAME, contents.model)
        engine = Engine(contents.model, weights, str(contents.path))
        return cls(engine, contents.tokenizer, contents.start_ids)

    def prepare(self, prompt: str) -> Prompt:
        """Encodes a prompt; one longer than the context keeps its end."""
        ids = self.tokenizer.encode(prompt).tolist()
        context = self.engine.config.context_length
        return Prompt(
            text=prompt,
            ids=ids[-context:],
            unknown=self.tokenizer.unknown(prompt),
            dropped=max(0, len(ids) - context),
        )

    def generate(self, prompt: str | Prompt, sampling: SamplingConfig) -> Generation:
        """The whole answer."""
        pieces = self.stream(prompt, sampling)
        while True:
            try:
                next(pieces)
            except StopIteration as end:
                return end.value

    def stream(
        self, prompt: str | Prompt, sampling: SamplingConfig
    ) -> Iterator[str]:  # and returns the Generation
        """Yields the answer in pieces as they come; each piece is whole characters."""
        if isinstance(prompt, str):
            prompt = self.prepare(prompt)
        began = time.perf_counter()
        text = _TextOfIds(self.tokenizer, prompt.ids)
        ids, finish_reason = [], "length"
        for token_id in self._tokens(prompt.ids, sampling):
            if token_id in self.tokenizer.end_ids:
                finish_reason = "end"
                break
            ids.append(token_id)
            if piece := text.push(token_id):
                yield piece
        if piece := text.rest():
            yield piece
        seconds = time.perf_counter() - began
        return Generation(prompt, ids, text.written, finish_reason, seconds)

    def _tokens(self, prompt_ids: list[int], sampling: SamplingConfig) -> Iterator[int]:
        """Yields at most max_new_tokens ids. A full context slides: its newer half stays."""
        sample = make_sampler(sampling, self._suppressed)
        ids, wanted = list(prompt_ids), sampling.max_new_tokens
        if not ids:
            yield from self.start_ids[:wanted]
            ids, wanted = list(self.start_ids), wanted - len(self.start_ids)
        if wanted < 1:
            return
        logits = self.engine.prefill(ids)
        for remaining in range(wanted, 0, -1):
            ids.append(sample(logits, ids))
            yield ids[-1]
            if remaining > 1:
                logits = self._next_logits(ids)

    def _next_logits(self, ids: list[int]) -> np.ndarray:
        context = self.engine.config.context_length
        if self.engine.position < context:
            return self.engine.decode_step(ids[-1])
        return self.engine.prefill(ids[-max(1, context // 2) :])


class _TextOfIds:
    """Turns ids into text piece by piece, holding back characters that are not complete yet.

    A token alone does not tell its text: words get a space between them, and a byte-level token
    may hold half a character. So a few tokens before it are decoded along, and cut off again.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_ids: list[int]) -> None:
        self.tokenizer = tokenizer
        self.ids = list(prompt_ids[-8:])
        self.settled = len(self.ids)  # ids whose text has been written
        self.first = 0  # ids from here on are decoded
        self.written = ""

    def push(self, token_id: int) -> str:
        """The text that this token completes, perhaps none."""
        self.ids.append(token_id)
        return self._take(complete=False)

    def rest(self) -> str:
        """What was held back."""
        return self._take(complete=True)

    def _take(self, complete: bool) -> str:
        before = self.tokenizer.decode(self.ids[self.first : self.settled])
        text = self.tokenizer.decode(self.ids[self.first :])
        if text.endswith("\ufffd") and not complete:
            return ""
        piece = text[len(before) :]
        self.first, self.settled = self.settled, len(self.ids)
        self.written += piece
        return piece
