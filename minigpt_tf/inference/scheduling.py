"""The scheduler: answers that come and go, generated together (continuous batching).

It is the only generation loop. One answer is the case of one row.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Generator, Hashable, Iterator, Sequence

import numpy as np

from ..compiled.forks import after_fork
from ..config import ModelConfig, SamplingConfig
from ..errors import ConfigError
from ..events import SILENT, Listener
from ..text.tokenizers import BaseTokenizer
from .answer import Answer, Generation
from .engine import Engine
from .key_value_cache import Cache
from .pacing import Pace
from .prompt import Prompt
from .requests import Event, Request
from .rows import Row, choose_row, common_prefix
from .samplers import make_sampler, top_logprobs
from .speculation import Speculation

ROWS, ROWS_BYTES = 16, 2**31
"""Answers that are generated together, and bytes of their keys and values, at most, where nobody
chose a number of rows."""

PREFILL_TOKENS, PASS_TOKENS = 128, 16
"""Tokens of prompts in one step, at most; and tokens whose prefill takes as long as a pass over the
weights, which a shorter chunk of a prompt needs as well."""

WARM_TOKENS = 32
"""Of the prompt that shows how fast prompts are read, before there is one."""


class Scheduler:
    """Generates the answers to requests that come at any time, all together.

    Requests get a row of the cache in the order in which they came. `step` does work
    of bounded length: it removes canceled requests, lets waiting ones in, computes at most
    `prefill_tokens` tokens of prompts, oldest request first, and then one more token of each
    answer whose prompt is complete, in one pass over the weights. So a long prompt holds up nobody,
    and a row that ends is free for the next request at once.

    A request's tokens and their probabilities are to the bit what they are alone, whatever else is
    generated, in however many chunks its prompt is computed, and whatever was there already. An
    error ends its own request alone.

    A row keeps its keys and values when its request ends. A prompt that begins like one of the
    rows, idle or not, takes over what they have in common, and answers to equal prompts share one
    prefill. They do so only within a group of requests, such as those of one user: how fast an
    answer begins would otherwise show what others have asked.

    One thread calls `step`; `submit` and `Request.cancel` may be called by any.

    Args:
        engine: Runs the model.
        tokenizer: Of the model.
        rows: Requests that are generated together; unset: ROWS, fewer if their keys and values
            would be more than ROWS_BYTES. Or a cache of the caller's, with a row for each.
        start_ids: The tokens with which an answer to an empty prompt begins.
        prefill_tokens: Tokens of prompts in one step, at most, or a pace that finds their number;
            some times as many while no answer waits for its next token, because long
            chunks are faster.
        speculation: Guesses tokens of an answer that is generated alone.
        listener: Receives a notice of the memory.

    Raises:
        ConfigError: The rows do not fit into the memory, or there is none.

    Example:
        >>> import minigpt_tf as mg
        >>> from minigpt_tf.inference.weights import weight_shapes
        >>> tokenizer = mg.train_tokenizer("char", ["who is hardy"], vocab_size=20)
        >>> config = mg.ModelConfig(vocab_size=20, embed_dim=8, num_heads=2, num_layers=1)
        >>> weights = {name: np.zeros(shape) for name, shape in weight_shapes(config).items()}
        >>> scheduler = Scheduler(mg.Engine(config, weights), tokenizer, rows=2)
        >>> sampling = mg.SamplingConfig(max_new_tokens=5)
        >>> requests = [scheduler.submit([5, number], sampling) for number in range(4)]
        >>> while scheduler.unfinished:
        ...     for event in scheduler.step():
        ...         if event.generation:
        ...             print(event.request.number, event.generation.finish_reason)
        0 length
        1 length
        2 length
        3 length
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: BaseTokenizer,
        rows: int | Cache | None = None,
        *,
        start_ids: Sequence[int] = (),
        prefill_tokens: int | Pace = PREFILL_TOKENS,
        speculation: Speculation | None = None,
        listener: Listener = SILENT,
    ) -> None:
        self._speculation = speculation
        self.engine, self.tokenizer, self.start_ids = engine, tokenizer, list(start_ids)
        if rows is None:
            rows = rows_within(engine.config, ROWS_BYTES)
        for name, number in (("rows", rows), ("prefill_tokens", prefill_tokens)):
            if isinstance(number, int) and number < 1:
                raise ConfigError(f"{name}={number}: must be at least 1")
        self.cache = rows if isinstance(rows, Cache) else Cache(engine.config, rows)
        self._rows = [Row(number) for number in range(len(self.cache.positions))]
        if isinstance(prefill_tokens, int):
            prefill_tokens = Pace(prefill_tokens)
        self.pace = prefill_tokens
        self._suppressed = tokenizer.suppressed_ids(engine.config.vocab_size)
        self._numbers, self._ends = itertools.count(), itertools.count(1)
        self._waiting: deque[Request] = deque()
        self._begin()
        after_fork(self, Scheduler._begin)
        self._events: list[Event] = []
        size = Cache.nbytes(engine.config) * self.rows / 2**30
        listener.notice(
            f"at most {self.rows} answers at a time, of {engine.config.context_length:,} tokens "
            f"with the prompt: {size:.2f} GiB for their keys and values"
        )

    def _begin(self) -> None:
        """What another thread may hold while a process is forked."""
        self._submitted = threading.Condition()

    @property
    def rows(self) -> int:
        """Requests that are generated together, at most."""
        return len(self._rows)

    @property
    def running(self) -> int:
        """Requests that have a row."""
        return sum(row.request is not None for row in self._rows)

    @property
    def waiting(self) -> int:
        """Requests that wait for a row."""
        return len(self._waiting)

    @property
    def unfinished(self) -> int:
        """Requests that have not ended."""
        return self.running + self.waiting

    def submit(
        self,
        prompt: Prompt | Sequence[int],
        sampling: SamplingConfig,
        sample: int = 0,
        *,
        group: Hashable = None,
        num_alternatives: int = 0,
    ) -> Request:
        """Asks for an answer; any thread may call it.

        Args:
            prompt: What the answer follows: a prompt of `encode_prompt`, or token ids.
            sampling: How its tokens are chosen.
            sample: Which of several answers: it draws as the only one with `seed + sample` would.
            group: Requests of the same group may reuse each other's keys and values.
            num_alternatives: Most likely tokens that are kept for each token of the answer.

        Returns:
            The request, whose events `step` returns.

        Raises:
            ConfigError: An id of the prompt or of `logit_bias` is outside the vocabulary, the
                prompt is longer than the context, or it is empty and the model has no start.
        """
        if not isinstance(prompt, Prompt):
            prompt = Prompt(text="", ids=list(prompt), unknown=[], dropped=0)
        self._check(prompt.ids, sampling)
        sampler = make_sampler(sampling, self._suppressed, sample, len(prompt.ids))
        answer = Answer(self.tokenizer, prompt.ids, sampling, sampler)
        return self.enqueue(prompt, answer, group, num_alternatives)

    def enqueue(
        self, prompt: Prompt, answer: Answer, group: Hashable = None, num_alternatives: int = 0
    ) -> Request:
        """`submit` for an answer of the caller's making.

        Args:
            prompt: What the answer follows.
            answer: Its state, before its first token.
            group: As for `submit`.
            num_alternatives: As for `submit`.

        Returns:
            The request.
        """
        with self._submitted:
            request = Request(next(self._numbers), prompt, answer, group, num_alternatives)
            self._waiting.append(request)
            self._submitted.notify_all()
        return request

    def warm_up(self) -> None:
        """Computes something for nothing, before the first request: the machine code is loaded or
        compiled then, the weights are in memory, and the pace of prompts is known."""
        context = self.engine.config.context_length
        for known in (False, True):
            for tokens in (1, min(WARM_TOKENS, context)):
                self.cache.positions[0] = 0
                began = time.perf_counter()
                self.engine.prefill_some([0] * tokens, self.cache, 0, tokens)
                if known:
                    self.pace.measured(tokens, time.perf_counter() - began)
        self.cache.positions[0] = 0

    def wait(self, timeout: float | None = None) -> bool:
        """Sleeps until there is something to do.

        Args:
            timeout: Seconds, at most (unset: for ever).

        Returns:
            Whether there is.
        """
        with self._submitted:
            return self._submitted.wait_for(lambda: self.unfinished > 0, timeout)

    def step(self) -> list[Event]:
        """Does some work, as the class describes.

        Returns:
            What happened, in order; the last event of a request has its `generation` or `error`.
        """
        self._remove_canceled()
        self._admit()
        self._prefill()
        self._decode()
        events, self._events = self._events, []
        return events

    def follow(self, request: Request) -> Generator[str, None, Generation]:
        """Steps until a request is done, for a caller that has no other. Closed early, it cancels
        the request.

        Args:
            request: The request.

        Yields:
            Its text in chunks, none empty.

        Returns:
            The answer, as the value of `yield from`.

        Raises:
            Exception: What ended the answer, if it failed.
        """
        try:
            while not request.done:
                for event in self.step():
                    if event.request is request and event.text:
                        yield event.text
        finally:
            request.cancel()
        return request.result()

    # The four parts of a step.

    def _remove_canceled(self) -> None:
        with self._submitted:
            gone = [request for request in self._waiting if request.canceled]
            for request in gone:
                self._waiting.remove(request)
        gone += [request for _, request in self._running() if request.canceled]
        for request in gone:
            self._end(request, request.answer.finish("canceled"))

    def _admit(self) -> None:
        """Gives the idle rows to the requests that have waited longest."""
        while idle := [row for row in self._rows if row.request is None]:
            with self._submitted:
                if not self._waiting:
                    return
                request = self._waiting.popleft()
            request.began = time.perf_counter()
            answer, text = request.answer, ""
            if not answer.ids:  # an empty prompt: the answer begins as the model's texts do
                for token_id in self.start_ids:
                    if not answer.finish_reason:
                        text += answer.append(token_id, None)
            if not answer.finish_reason:
                row = choose_row(self.cache, idle, answer.ids, request.group)
                if row.group != request.group:
                    self.cache.positions[row.number] = 0
                row.request, row.first, row.group = request, 0, request.group
                ids = np.asarray(answer.ids)
                request.cached_tokens = common_prefix(self.cache, row.number, ids)
                self.cache.positions[row.number] = request.cached_tokens
            self._report(request, text)

    def _prefill(self) -> None:
        """Chunks of prompts, oldest request first, as many as a step may have."""
        running = sorted(self._running(), key=lambda pair: pair[1].number)
        alone = all(self._lacking(*pair) > 1 for pair in running)
        left = most = self.pace.tokens(alone)
        for row, request in running:
            if self._lacking(row, request) > 1:
                self._copy_prefix(row, request)
            lacking = self._lacking(row, request)
            if lacking < 2:  # its next token goes with those of the others
                continue
            if left < min(PASS_TOKENS, most):
                return
            tokens = min(left, lacking)
            left -= max(PASS_TOKENS, tokens)
            ids = request.answer.ids[row.first :]
            began = time.perf_counter()
            try:
                logits = self.engine.prefill_some(ids, self.cache, row.number, tokens)
            except Exception as error:
                self._end(request, error=error)
                continue
            self.pace.measured(tokens, time.perf_counter() - began)
            if logits is not None:
                twins = list(self._twins(row, ids))
                for twin, other in twins:
                    other.cached_tokens = len(ids)
                    self.cache.copy(row.number, twin.number)
                for row_of_equal, equal in [(row, request), *twins]:
                    self._extend(row_of_equal, equal, logits)

    def _decode(self) -> None:
        """One more token of each answer, in one pass over the weights."""
        pairs = [pair for pair in self._running() if self._lacking(*pair) == 1]
        if not pairs:
            return
        if len(pairs) == 1 and self._speculation is not None:
            self._decode_guesses(*pairs[0], self._speculation)
            return
        new_ids = [request.answer.ids[-1] for _, request in pairs]
        numbers = [row.number for row, _ in pairs]
        began = time.perf_counter()
        logits = self.engine.decode_batch(new_ids, self.cache, numbers)
        self.pace.measured(1, time.perf_counter() - began)
        for (row, request), after in zip(pairs, logits, strict=True):
            self._extend(row, request, after)

    def _decode_guesses(self, row: Row, request: Request, speculation: Speculation) -> None:
        """Tokens of one answer: those that were guessed right and the next, in one pass."""
        answer, start = request.answer, int(self.cache.positions[row.number])
        ids = answer.ids[row.first :]
        room = min(
            self.engine.config.context_length - len(ids),
            answer.sampling.max_new_tokens - len(answer.new_ids) - 1,
        )
        guesses = speculation.propose(answer, ids, room)
        began = time.perf_counter()
        logits = self.engine.extend([ids[-1], *guesses], self.cache, row.number)
        seconds = time.perf_counter() - began
        right = 0
        for number, after in enumerate(logits):
            end = start + number + 1
            self.cache.positions[row.number] = end  # behind it are guesses that may be wrong
            self._extend(row, request, after)
            if request.done or self.cache.positions[row.number] != end or number == len(guesses):
                break
            if answer.ids[-1] != guesses[number]:
                break
            right += 1
        speculation.measured(len(guesses), right, seconds)

    # What they are made of.

    def _running(self) -> list[tuple[Row, Request]]:
        return [(row, row.request) for row in self._rows if row.request is not None]

    def _lacking(self, row: Row, request: Request) -> int:
        """Tokens of the request's sequence whose keys and values the row lacks; the logits after
        the last of them give the next token."""
        return len(request.answer.ids) - row.first - int(self.cache.positions[row.number])

    def _copy_prefix(self, row: Row, request: Request) -> None:
        """Copies the beginning of a sequence from another row that has more of it."""
        ids, has = np.asarray(request.answer.ids[row.first :]), self.cache.positions[row.number]
        others = [
            other.number for other in self._rows if other is not row and other.group == row.group
        ]
        common, source = max(
            ((common_prefix(self.cache, other, ids), other) for other in others), default=(0, 0)
        )
        if common > has:
            self.cache.copy(source, row.number, common)
            if not row.first:
                request.cached_tokens += common - int(has)

    def _twins(self, row: Row, ids: list[int]) -> Iterator[tuple[Row, Request]]:
        """Other rows that still lack most of the same sequence."""
        for other, request in self._running():
            if (
                other is not row
                and other.group == row.group
                and self._lacking(other, request) > 1
                and request.answer.ids[other.first :] == ids
            ):
                yield other, request

    def _extend(self, row: Row, request: Request, logits: np.ndarray) -> None:
        """Chooses an answer's next token from the logits (V,); the only place that does so."""
        answer, context = request.answer, self.engine.config.context_length
        try:
            token_id, logprob = answer.sampler(logits, answer.ids)
            if token_id in self.tokenizer.end_ids:
                text = answer.finish("end")
            else:
                if request.num_alternatives:
                    most_likely = top_logprobs(logits, request.num_alternatives)
                    request.alternatives[len(answer.new_ids)] = most_likely
                text = answer.append(token_id, logprob)
            if self.cache.positions[row.number] == context:
                if answer.sampling.context_full == "stop":
                    text += answer.finish("context")
                else:  # the newer half is a prompt
                    row.first = len(answer.ids) - max(1, context // 2)
                    self.cache.positions[row.number] = 0
        except Exception as error:
            self._end(request, error=error)
        else:
            self._report(request, text)

    def _report(self, request: Request, text: str) -> None:
        """The event for new text, or for the end of the answer."""
        if request.answer.finish_reason:
            self._end(request, text)
        elif text:
            self._events.append(Event(request, text, len(request.answer.new_ids)))

    def _end(self, request: Request, text: str = "", error: Exception | None = None) -> None:
        """Ends a request, and frees its row."""
        answer, now = request.answer, time.perf_counter()
        if error is None:
            request.generation = Generation(
                request.prompt,
                answer.new_ids,
                answer.text,
                answer.logprobs,
                answer.finish_reason,
                now - (now if request.began is None else request.began),
            )
        request.error = error
        self._events.append(
            Event(request, text, len(answer.new_ids), request.generation, request.error)
        )
        for row in self._rows:
            if row.request is request:
                row.request, row.used = None, next(self._ends)

    def _check(self, ids: list[int], sampling: SamplingConfig) -> None:
        context = self.engine.config.context_length
        if not ids and not self.start_ids:
            raise ConfigError("the prompt is empty, and the model has no tokens to start from")
        if len(ids) > context:
            raise ConfigError(
                f"the prompt has {len(ids)} tokens, the context {context}: give a shorter prompt"
            )
        self._check_ids(ids or self.start_ids, "prompt")
        self._check_ids(list(sampling.logit_bias or ()), "logit_bias")

    def _check_ids(self, ids: list[int], what: str) -> None:
        given, size = np.asarray(ids), self.engine.config.vocab_size
        if ids and (given.ndim != 1 or given.dtype.kind not in "iu"):
            raise ConfigError(f"{what}: expected token ids, which are integers")
        wrong = given[(given < 0) | (given >= size)]
        if len(wrong):
            raise ConfigError(f"{what}: token id {wrong[0]} is outside the vocabulary of {size}")


def rows_within(config: ModelConfig, memory: int) -> int:
    """Rows whose keys and values fit into so much memory.

    Args:
        config: Architecture of the model.
        memory: Bytes.

    Returns:
        At least 1, at most ROWS.
    """
    return max(1, min(ROWS, memory // Cache.nbytes(config)))
