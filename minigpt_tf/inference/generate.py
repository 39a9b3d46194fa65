"""Prompt -> text: whole answers, streams, several samples, conversations."""

import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

from ..compiled.forks import after_fork
from ..config import EngineConfig, SamplingConfig
from ..errors import ConfigError, ModelFolderError
from ..events import SILENT, Listener
from ..storage.model_folder import CLASSIFIER_SECTION
from ..text.chat_template import ChatTemplate, Message, message
from ..text.tokenizers import BaseTokenizer
from .answer import Answer, Generation
from .engine import Engine
from .folder import ModelFolder, load_whole
from .key_value_cache import Cache
from .prompt import Prompt, encode_chat, encode_prompt
from .requests import Request
from .samplers import make_sampler
from .scheduling import ROWS_BYTES, Scheduler, rows_within
from .speculation import Costs, Speculation, load_draft, may_pay


class TextGenerator:
    """A model that answers: an engine and its tokenizer.

    Each answer, stream and conversation has a cache of its own, so several may run at a time, also
    on several threads.

    Args:
        engine: runs the model.
        tokenizer: the one that the model was trained with.
        start_ids: the tokens with which an answer to an empty prompt begins; they count as
            generated.
        chat_template: how a conversation is written, for chat models.
        generation: fields of SamplingConfig that the model's makers recommend.

    Raises:
        ModelFolderError: the tokenizer contains no token that could be generated.

    Example:
        >>> import minigpt_tf as mg
        >>> tokenizer = mg.train_tokenizer("char", ["who is hardy"], vocab_size=20)
        >>> config = mg.ModelConfig(vocab_size=20, embed_dim=8, num_heads=2, num_layers=1)
        >>> engine = mg.Engine.from_model(mg.build_gpt_model(config), config)
        >>> generator = mg.TextGenerator(engine, tokenizer, start_ids=[0])
        >>> len(generator.generate("who", max_new_tokens=5, seed=1).ids)
        5
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: BaseTokenizer,
        start_ids: list[int],
        chat_template: ChatTemplate | None = None,
        generation: dict[str, Any] | None = None,
    ) -> None:
        self.engine, self.tokenizer, self.start_ids = engine, tokenizer, start_ids
        self.chat_template, self.generation = chat_template, generation or {}
        self.draft: Engine | None = None
        """The same model with 8-bit weights, which guesses tokens for `engine`."""
        self._costs: Costs | None = None
        self.speculate = "auto"
        """As in EngineConfig."""
        self.notice = ""
        """What a person should know about the loaded model, if anything."""
        self._suppressed = tokenizer.suppressed_ids(engine.config.vocab_size)
        if len(self._suppressed) >= engine.config.vocab_size:
            raise ModelFolderError("the tokenizer knows no token that could be generated")

    @classmethod
    def load(
        cls, folder: str | Path, config: EngineConfig | None = None, listener: Listener = SILENT
    ) -> Self:
        """Reads a model folder.

        Args:
            folder: such as "models/mine".
            config: how the engine runs it (unset: weights as they are, all cores).
            listener: receives the progress where weights in fewer bits must be made.

        Returns:
            The generator, ready for `generate`.

        Raises:
            ModelFolderError: the folder is missing or damaged.
        """
        chosen = config or EngineConfig()
        return load_whole(folder, lambda contents: cls._of(contents, chosen, listener))

    @classmethod
    def _of(cls, contents: ModelFolder, config: EngineConfig, listener: Listener) -> Self:
        engine, notice = Engine.load(contents, config.quantize, config.threads, listener)
        draft, about_draft = load_draft(contents, engine, config.speculate)
        generator = cls(
            engine,
            contents.tokenizer,
            contents.start_ids,
            contents.chat_template,
            contents.generation,
        )
        if CLASSIFIER_SECTION in contents.description:
            is_classifier = (
                f"{contents.path} is a classifier, which minigpt classify asks: what it writes is "
                "not what it was trained for"
            )
            notice = "; ".join(filter(None, [notice, is_classifier]))
        generator.notice = "; ".join(filter(None, [notice, about_draft]))
        generator.draft, generator.speculate = draft, config.speculate
        return generator

    def prepare(self, prompt: str) -> Prompt:
        """Encodes a prompt; of one longer than the context, the end is kept.

        Args:
            prompt: a text.

        Returns:
            What the model gets.
        """
        return encode_prompt(self.tokenizer, self.engine.config.context_length, prompt)

    def prepare_chat(self, messages: Sequence[Message]) -> Prompt:
        """Encodes a conversation up to where the answer begins. Its last message is the user's.

        The oldest messages are left out until half of the context is free for the answer; the
        system message and the last one always stay.

        Args:
            messages: {"role": ..., "content": ...} each.

        Returns:
            What the model gets.

        Raises:
            ConfigError: the model has no chat template.
            DataError: the template rejects the conversation.
        """
        if self.chat_template is None:
            raise ConfigError("the model has no chat template: it continues texts")
        context_length = self.engine.config.context_length
        return encode_chat(self.tokenizer, context_length, self.chat_template, messages)

    def generate(
        self, prompt: str | Prompt, sampling: SamplingConfig | None = None, **settings: Any
    ) -> Generation:
        """The whole answer.

        Args:
            prompt: what the answer follows.
            sampling: how tokens are chosen (unset: as the model's makers recommend).
            settings: fields of SamplingConfig that replace those, such as `temperature=0.7`.

        Returns:
            The answer, its tokens and their probabilities.

        Raises:
            ConfigError: a setting is unknown or out of range.
            ModelFolderError: the model's logits are not numbers.
        """
        return self.generate_batch([prompt], sampling, **settings)[0]

    def generate_batch(
        self,
        prompts: Sequence[str | Prompt],
        sampling: SamplingConfig | None = None,
        num_samples: int = 1,
        **settings: Any,
    ) -> list[Generation]:
        """Answers to several prompts, or several to each.

        Args:
            prompts: what the answers follow.
            sampling: as for `generate`.
            num_samples: answers to each prompt. Sample k is what a single answer with `seed + k`
                would be.
            settings: as for `generate`.

        Returns:
            Prompt after prompt, the samples of each.

        Raises:
            ConfigError: as `generate`, and if `num_samples` is below 1.
            ModelFolderError: as `generate`.
        """
        return list(self.generate_each(prompts, sampling, num_samples, **settings))

    def generate_each(
        self,
        prompts: Sequence[str | Prompt],
        sampling: SamplingConfig | None = None,
        num_samples: int = 1,
        **settings: Any,
    ) -> Iterator[Generation]:
        """As `generate_batch`, as the answers come: several are generated together, and when one of
        them ends, the next prompt takes its place.

        Args:
            prompts: what the answers follow.
            sampling: as for `generate`.
            num_samples: answers to each prompt.
            settings: as for `generate`.

        Yields:
            The answers, in the order of the prompts.
        """
        if num_samples < 1:
            raise ConfigError(f"num_samples={num_samples}: must be at least 1")
        sampling = self.sampling(sampling, **settings)
        prompts = list(prompts)
        rows = min(rows_within(self.engine.config, ROWS_BYTES), len(prompts) * num_samples)
        scheduler = self.scheduler(max(1, rows))
        wanted = ((prompt, sample) for prompt in prompts for sample in range(num_samples))
        requests: deque[Request] = deque()
        while True:
            for prompt, sample in islice(wanted, scheduler.rows - scheduler.unfinished):
                requests.append(scheduler.submit(self._prepared(prompt), sampling, sample))
            while requests and requests[0].done:
                yield requests.popleft().result()
            if not requests:
                return
            scheduler.step()

    def stream(
        self, prompt: str | Prompt, sampling: SamplingConfig | None = None, **settings: Any
    ) -> Generator[str, None, Generation]:
        """The answer as it comes.

        Args:
            prompt: what the answer follows.
            sampling: as for `generate`.
            settings: as for `generate`.

        Yields:
            The text in chunks of whole characters.

        Returns:
            The finished answer, as the value of `yield from`.

        Raises:
            ConfigError: as `generate`.
            ModelFolderError: as `generate`.
        """
        scheduler = self.scheduler(1)
        request = scheduler.submit(self._prepared(prompt), self.sampling(sampling, **settings))
        return (yield from scheduler.follow(request))

    def scheduler(self, rows: int | Cache | None = None, listener: Listener = SILENT) -> Scheduler:
        """A scheduler for requests that come at any time, as in a server.

        Args:
            rows: requests that are generated together; unset: 16, fewer if their keys and values
                would need more than 2 GiB.
            listener: receives a notice of that memory.

        Returns:
            The scheduler.

        Raises:
            ConfigError: the rows do not fit into the memory.
        """
        speculation = None
        if may_pay(self.engine, self.speculate):
            if self._costs is None:
                self._costs = Costs(self.engine, self.draft)
            speculation = Speculation(self.engine, self.draft, self.speculate, self._costs)
        return Scheduler(
            self.engine,
            self.tokenizer,
            rows,
            start_ids=self.start_ids,
            speculation=speculation,
            listener=listener,
        )

    def conversation(
        self, sampling: SamplingConfig | None = None, system: str = "", **settings: Any
    ) -> "Conversation":
        """A new conversation with the model.

        Args:
            sampling: as for `generate`.
            system: a message to the model before the conversation, for chat models.
            settings: as for `generate`.

        Returns:
            The conversation, still empty.

        Raises:
            ConfigError: as `generate`, and if there is a `system` message but no chat template.
        """
        return Conversation(self, self.sampling(sampling, **settings), system)

    def sampling(self, sampling: SamplingConfig | None = None, **settings: Any) -> SamplingConfig:
        """How `generate` chooses tokens, given the same arguments.

        Args:
            sampling: as for `generate`.
            settings: as for `generate`.

        Returns:
            All settings.

        Raises:
            ConfigError: a setting is unknown or out of range.
        """
        known = {item.name for item in fields(SamplingConfig)}
        for name in settings:
            if name not in known:
                raise ConfigError(f"{name}: unknown setting: choose of {', '.join(sorted(known))}")
        if sampling is not None:
            return replace(sampling, **settings)
        return SamplingConfig(**{**self.generation, **settings})

    def answer(self, prompt_ids: list[int], sampling: SamplingConfig, sample: int = 0) -> Answer:
        """An answer to a prompt, before its first token.

        Args:
            prompt_ids: the prompt's tokens.
            sampling: how tokens are chosen.
            sample: which of several answers: it draws as the only one with `seed + sample` would.

        Returns:
            The answer's state, for `run`.
        """
        sampler = make_sampler(sampling, self._suppressed, sample, len(prompt_ids))
        return Answer(self.tokenizer, prompt_ids, sampling, sampler)

    def run(self, answers: list[Answer], cache: Cache, resume: bool = False) -> Iterator[str]:
        """Adds tokens to answers, all together, until each has ended.

        Args:
            answers: from `answer`, generated together.
            cache: keys and values, with a row for each answer.
            resume: whether the cache has the beginning of the prompt already.

        Yields:
            The text of the answers in chunks, none empty.
        """
        if not resume:
            cache.positions[:] = 0
        scheduler = self.scheduler(cache)
        for answer in answers:
            scheduler.enqueue(Prompt("", list(answer.ids), [], 0), answer)
        while scheduler.unfinished:
            for event in scheduler.step():
                if event.error is not None:
                    raise event.error
                if event.text:
                    yield event.text

    def _prepared(self, prompt: str | Prompt) -> Prompt:
        return self.prepare(prompt) if isinstance(prompt, str) else prompt


class Conversation:
    """Prompts and answers in turn; each answer sees everything before it.

    With a chat template they are the messages of a user and an assistant, without one the lines of
    one text. When the context is full, the older half of the conversation is forgotten.

    Args:
        generator: the model.
        sampling: how tokens are chosen.
        system: a message to the model before the conversation, for chat models.

    Raises:
        ConfigError: there is a `system` message, but no chat template.

    Example:
        >>> import minigpt_tf as mg
        >>> talk = mg.load("models/smollm2").conversation()  # doctest: +SKIP
        >>> "".join(talk.reply("who is Hardy"))  # doctest: +SKIP
    """

    def __init__(
        self, generator: TextGenerator, sampling: SamplingConfig, system: str = ""
    ) -> None:
        if system and generator.chat_template is None:
            raise ConfigError("the model has no chat template, which --system needs: drop it")
        self.generator, self.sampling, self.system = generator, sampling, system
        self.reset()
        self._scheduler = generator.scheduler(1)
        self._begin()
        after_fork(self, Conversation._begin)

    def _begin(self) -> None:
        """What another thread may hold while a process is forked."""
        self._lock, self._talker = threading.Lock(), 0

    def reset(self) -> None:
        """Forgets everything but the system message."""
        self.ids: list[int] = []
        """All tokens so far."""
        self.messages: list[Message] = []
        """All messages so far, of a model with a chat template."""
        if self.system:
            self.messages.append({"role": "system", "content": self.system})

    def prepare(self, prompt: str, instead: Sequence[Message] = ()) -> Prompt:
        """What the model gets for its next answer.

        Args:
            prompt: the next message.
            instead: messages that a chat model gets in its place, such as the message behind
                entries of records; the conversation keeps `prompt`.

        Returns:
            The conversation so far and the message, as tokens.
        """
        if self.generator.chat_template is not None:
            said = instead or [message("user", prompt)]
            prepared = self.generator.prepare_chat([*self.messages, *said])
            return replace(prepared, text=prompt)
        prepared = self.generator.prepare(f"\n{prompt}" if self.ids else prompt)
        prefix = len(self.generator.tokenizer.prefix_ids) if self.ids else 0
        new_ids, context = prepared.ids[prefix:], self.generator.engine.config.context_length
        ids = self.ids + new_ids
        if len(ids) >= context:
            ids = ids[-max(1, context // 2, min(len(new_ids), context)) :]
        return replace(prepared, text=prompt, ids=ids)

    def add(self, prompt: str, answer: str) -> None:
        """Adds a message and an answer that the model has not given.

        Args:
            prompt: the message.
            answer: what was answered.
        """
        self.messages += [message("user", prompt), message("assistant", answer)]

    def reply(self, prompt: str | Prompt) -> Generator[str, None, None]:
        """The answer as it comes.

        If the caller stops early, what was generated so far is part of the conversation. Another
        thread's answer is waited for.

        Args:
            prompt: the next message, or what `prepare` made of it.

        Yields:
            Chunks of text, each of complete characters.

        Raises:
            ConfigError: this thread has not read its last answer to the end, nor closed it.
        """
        me = threading.get_ident()
        if not self._lock.acquire(blocking=self._talker != me):
            raise ConfigError("the answer before is unfinished: read it to its end, or close it")
        lock, self._talker = self._lock, me
        try:
            prepared = self.prepare(prompt) if isinstance(prompt, str) else prompt
            request = self._scheduler.submit(prepared, self.sampling)
            answer = request.answer
            try:
                yield from self._scheduler.follow(request)
            finally:
                self.ids = answer.ids
                if self.generator.chat_template is not None:
                    said = message("user", prepared.text), message("assistant", answer.text)
                    self.messages += said
        finally:
            self._talker = 0
            lock.release()
