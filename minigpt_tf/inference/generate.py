"""Prompt -> text: whole answers, streams of pieces, several samples, and conversations."""

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..config import EngineConfig, SamplingConfig
from ..errors import ConfigError, ModelFolderError
from ..inference.folder import load_folder
from ..storage.model_folder import CLASSIFIER_SECTION
from ..text.chat_template import ChatTemplate, Message, message
from ..text.tokenizers import BaseTokenizer
from .answer import Answer
from .cache import Cache
from .engine import Engine

BATCH, BATCH_BYTES = 16, 2**31
"""Answers that are generated together at most, and bytes of their keys and values."""


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
    left_out: int = 0
    """Older messages of a conversation that were left out because the context is shorter."""

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
        if self.left_out:
            yield f"the conversation is long: its first {self.left_out} messages were left out"


@dataclass(frozen=True)
class Generation:
    """A finished answer."""

    prompt: Prompt
    ids: list[int]
    text: str
    """The new text alone, without the prompt."""
    logprobs: list[float | None]
    """Natural logarithm of each id's probability under the model, before any filter; None for the
    tokens that an empty prompt starts from."""
    finish_reason: str
    """"length" (max_new_tokens reached), "end" (the model ended the text), "stop" (a stop string)
    or "context" (the context is full)."""
    seconds: float
    """From the prompt to the end; of answers generated together, until the last one's end."""

    @property
    def tokens_per_second(self) -> float:
        return len(self.ids) / self.seconds if self.seconds else 0.0


class TextGenerator:
    """An engine, its tokenizer and how a text begins where there is no prompt.

    Each answer, stream and conversation has a cache of its own, so there may be several at a time,
    also from several threads.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: BaseTokenizer,
        start_ids: list[int],
        chat_template: ChatTemplate | None = None,
        generation: dict[str, Any] | None = None,
    ) -> None:
        """`start_ids`: the tokens from which an empty prompt starts; they count as generated.

        `generation`: fields of SamplingConfig that the model's makers recommend.
        """
        self.engine, self.tokenizer, self.start_ids = engine, tokenizer, start_ids
        self.chat_template, self.generation = chat_template, generation or {}
        self.notice = ""
        """What a person should know about the loaded model, if anything."""
        self._suppressed = tokenizer.suppressed_ids(engine.config.vocab_size)
        if len(self._suppressed) >= engine.config.vocab_size:
            raise ModelFolderError("the tokenizer knows no token that could be generated")

    @classmethod
    def load(cls, folder: str | Path, config: EngineConfig | None = None) -> Self:
        """Reads a model folder. Raises ModelFolderError."""
        contents, config = load_folder(folder), config or EngineConfig()
        engine, notice = Engine.load(contents, config.quantize, config.threads)
        generator = cls(
            engine,
            contents.tokenizer,
            contents.start_ids,
            contents.chat_template,
            contents.generation,
        )
        if CLASSIFIER_SECTION in contents.description:
            is_classifier = (
                f"{folder} is a classifier, which minigpt classify asks: what it writes is not "
                "what it was trained for"
            )
            notice = "; ".join(filter(None, [notice, is_classifier]))
        generator.notice = notice
        return generator

    def prepare(self, prompt: str) -> Prompt:
        """Encodes a prompt; one longer than the context keeps its end."""
        return self._prompt(prompt, prompt)

    def prepare_chat(self, messages: Sequence[Message]) -> Prompt:
        """Encodes a conversation, whose last message is the user's, up to where the answer begins.

        Where it leaves less than half of the context for the answer, the oldest messages are left
        out, but not the system's and the last. Raises DataError where the template refuses it.
        """
        if self.chat_template is None:
            raise ConfigError("the model has no chat template: it goes on with a text")
        system = [message for message in messages[:1] if message["role"] == "system"]
        rest, left_out = list(messages[len(system) :]), 0
        while True:
            text = self.chat_template.render(system + rest, add_generation_prompt=True)
            prompt = self._prompt(messages[-1]["content"], text)
            room = self.engine.config.context_length // 2
            if len(rest) < 3 or len(prompt.ids) + prompt.dropped <= room:
                return replace(prompt, left_out=left_out)
            rest, left_out = rest[2:], left_out + 2

    def _prompt(self, shown: str, text: str) -> Prompt:
        """`text` as ids, behind those that every text of the model begins with."""
        prefix = list(self.tokenizer.prefix_ids)
        ids = self.tokenizer.encode(text).tolist()
        if prefix and ids[: len(prefix)] == prefix:  # a template has them in its text
            ids = ids[len(prefix) :]
        room = self.engine.config.context_length - len(prefix)
        return Prompt(
            text=shown,
            ids=prefix + ids[-room:] if ids else [],
            unknown=self.tokenizer.unknown(text),
            dropped=max(0, len(ids) - room),
        )

    def generate(
        self, prompt: str | Prompt, sampling: SamplingConfig | None = None, **settings: Any
    ) -> Generation:
        """The whole answer.

        Args:
            prompt: what the answer follows.
            sampling: how tokens are chosen (unset: as the model's makers recommend).
            settings: fields of SamplingConfig that replace those, such as `temperature=0.7`.

        Raises:
            ConfigError: where a setting is unknown or out of range.
        """
        return self.generate_batch([prompt], self.sampling(sampling, **settings))[0]

    def sampling(self, sampling: SamplingConfig | None = None, **settings: Any) -> SamplingConfig:
        """The sampling of `generate`."""
        known = {item.name for item in fields(SamplingConfig)}
        for name in settings:
            if name not in known:
                raise ConfigError(f"{name}: unknown setting: choose of {', '.join(sorted(known))}")
        if sampling is not None:
            return replace(sampling, **settings)
        return SamplingConfig(**{**self.generation, **settings})

    def generate_batch(
        self, prompts: Sequence[str | Prompt], sampling: SamplingConfig, num_samples: int = 1
    ) -> list[Generation]:
        """`num_samples` answers to each prompt, all of one prompt after the other.

        Sample k of a prompt is what a single answer with `seed + k` would be.
        """
        return list(self.generate_each(prompts, sampling, num_samples))

    def generate_each(
        self, prompts: Sequence[str | Prompt], sampling: SamplingConfig, num_samples: int = 1
    ) -> Iterator[Generation]:
        """The answers of `generate_batch` as they come. As many as BATCH allows are generated
        together, and those to one prompt share its prefill."""
        if num_samples < 1:
            raise ConfigError(f"num_samples={num_samples}: must be at least 1")
        together = max(1, min(BATCH, BATCH_BYTES // Cache.nbytes(self.engine.config)))
        wanted = ((prompt, sample) for prompt in prompts for sample in range(num_samples))
        while part := list(islice(wanted, together)):
            began = time.perf_counter()
            prepared = [self._prepared(prompt) for prompt, _ in part]
            answers = [
                self.answer(prompt.ids, sampling, sample)
                for prompt, (_, sample) in zip(prepared, part, strict=True)
            ]
            for _ in self.run(answers, Cache(self.engine.config, len(part))):
                pass
            seconds = time.perf_counter() - began
            for prompt, answer in zip(prepared, answers, strict=True):
                yield _generation(prompt, answer, seconds)

    def stream(
        self, prompt: str | Prompt, sampling: SamplingConfig
    ) -> Generator[str, None, "Generation"]:
        """Yields the answer in pieces as they come; each piece is whole characters."""
        prompt = self._prepared(prompt)
        began = time.perf_counter()
        answer = self.answer(prompt.ids, sampling)
        yield from self.run([answer], Cache(self.engine.config, 1))
        return _generation(prompt, answer, time.perf_counter() - began)

    def conversation(self, sampling: SamplingConfig, system: str = "") -> "Conversation":
        """A new conversation with the model; `system` is what a chat model is told beforehand."""
        return Conversation(self, sampling, system)

    def answer(self, prompt_ids: list[int], sampling: SamplingConfig, sample: int = 0) -> Answer:
        """Sample `sample` of the answers to a prompt, before its first token."""
        return Answer(self.tokenizer, self._suppressed, prompt_ids, sampling, sample)

    def _prepared(self, prompt: str | Prompt) -> Prompt:
        return self.prepare(prompt) if isinstance(prompt, str) else prompt

    def run(self, answers: list[Answer], cache: Cache, resume: bool = False) -> Iterator[str]:
        """Generates the answers together, each in its row of the cache; yields pieces of text.

        With `resume`, what the cache holds of the beginning of a prompt is not computed again.
        """
        for answer in answers:
            if not answer.ids:
                yield from answer.start_with(self.start_ids)
        logits: dict[int, np.ndarray] = {}
        for row, answer in enumerate(answers):
            if not answer.finish_reason:
                logits[row] = self._first_logits(answers, row, logits, cache, resume)
        while logits:
            for row, after in logits.items():
                answer = answers[row]
                yield from filter(None, [answer.take(after)])
                full = cache.positions[row] == self.engine.config.context_length
                if full and answer.sampling.context_full == "stop":
                    yield from filter(None, [answer.finish("context")])
            rows = [row for row in logits if not answers[row].finish_reason]
            logits = self._next_logits(answers, rows, cache)

    def _first_logits(
        self,
        answers: list[Answer],
        row: int,
        known: dict[int, np.ndarray],
        cache: Cache,
        resume: bool,
    ) -> np.ndarray:
        """Logits after the prompt of `row`; those of an earlier row with the same prompt."""
        for earlier, logits in known.items():
            if answers[earlier].ids == answers[row].ids:
                cache.copy(earlier, row)
                return logits
        first = self.engine.resume if resume else self.engine.prefill
        return first(answers[row].ids, cache, row)

    def _next_logits(
        self, answers: list[Answer], rows: list[int], cache: Cache
    ) -> dict[int, np.ndarray]:
        """Logits after the newest token of each of the answers in `rows` that go on."""
        context = self.engine.config.context_length
        full = [row for row in rows if cache.positions[row] == context]
        logits = {}
        for row in full:  # they slide
            newer_half = answers[row].ids[-max(1, context // 2) :]
            logits[row] = self.engine.prefill(newer_half, cache, row)
        if going := [row for row in rows if row not in full]:
            ids = [answers[row].ids[-1] for row in going]
            logits |= zip(going, self.engine.decode_batch(ids, cache, going), strict=True)
        return logits


class Conversation:
    """Prompts and answers one after the other; each answer has seen all that came before it.

    With a chat template they are the messages of a user and an assistant; without one, lines of one
    text. When the context is full, the older part of the conversation is forgotten.
    """

    def __init__(
        self, generator: TextGenerator, sampling: SamplingConfig, system: str = ""
    ) -> None:
        """Raises ConfigError where there is a `system` message but no chat template."""
        if system and generator.chat_template is None:
            raise ConfigError("the model has no chat template, which --system needs: drop it")
        self.generator, self.sampling, self.system = generator, sampling, system
        self.reset()
        self._cache = Cache(generator.engine.config, 1)

    def reset(self) -> None:
        """Forgets everything but the system message."""
        self.ids: list[int] = []
        """All tokens so far."""
        self.messages: list[Message] = []
        """All messages so far, where there is a chat template."""
        if self.system:
            self.messages.append({"role": "system", "content": self.system})

    def prepare(self, prompt: str) -> Prompt:
        """What the model gets for its next answer."""
        if self.generator.chat_template is not None:
            return self.generator.prepare_chat([*self.messages, message("user", prompt)])
        prepared = self.generator.prepare(f"\n{prompt}" if self.ids else prompt)
        prefix = len(self.generator.tokenizer.prefix_ids) if self.ids else 0
        new_ids, context = prepared.ids[prefix:], self.generator.engine.config.context_length
        ids = self.ids + new_ids
        if len(ids) >= context:
            ids = ids[-max(1, context // 2, min(len(new_ids), context)) :]
        return replace(prepared, text=prompt, ids=ids)

    def reply(self, prompt: str | Prompt) -> Generator[str, None, None]:
        """Yields the answer in pieces. What was generated before the caller stops stays said."""
        prepared = self.prepare(prompt) if isinstance(prompt, str) else prompt
        answer = self.generator.answer(prepared.ids, self.sampling)
        try:
            yield from self.generator.run([answer], self._cache, resume=True)
        finally:
            self.ids = answer.ids
            if self.generator.chat_template is not None:
                said = message("user", prepared.text), message("assistant", answer.text)
                self.messages += said


def _generation(prompt: Prompt, answer: Answer, seconds: float) -> Generation:
    return Generation(
        prompt, answer.new_ids, answer.text, answer.logprobs, answer.finish_reason, seconds
    )
