"""The engine: a GPT without TensorFlow, with a key/value cache, in float32 or with int8 weights."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..compiled.forks import after_fork
from ..config import ModelConfig
from ..errors import ConfigError
from ..events import SILENT, Listener
from ..inference.folder import ModelFolder
from .barrier import BARRIER_SIZE
from .calibration import CALIBRATION_TOKENS, generated_passages
from .kernels import compiled_step
from .key_value_cache import Cache
from .panels import padded
from .positions import half_rotary_tables
from .step_arrays import (
    SCORE_ROWS,
    KeysValues,
    LayerKind,
    Matrices,
    Scratch,
    StepWeights,
    Switches,
    Tokens,
    new_scratch,
)
from .stored_weights import Calibrate, load_weights
from .thread_pool import ThreadPool, available_cores
from .weight_layout import EngineWeights, lay_out_weights
from .weights import weights_of

CHUNK = 16 * SCORE_ROWS
"""Tokens of a prompt that go through the model together: enough to read the weights seldom."""


class Engine:
    """Runs sequences through the model.

    `prefill` starts a sequence, `decode_step` continues by one token; both give the logits of the
    next token. Without a cache of the caller's they continue the engine's own sequence, of which
    each thread has one. Several threads may use one engine; so may a process that was forked.

    Args:
        config: Architecture of the model.
        weights: Arrays by the names of `inference.weights`, or weights in the engine's layout.
        where: Names the weights in errors.
        threads: Threads that decode (unset: one for each available core).

    Raises:
        ModelFolderError: The weights do not fit the configuration, or are not finite.

    Example:
        >>> import minigpt_tf as mg
        >>> config = mg.model_preset("shakespeare", vocab_size=8, num_layers=1, context_length=16)
        >>> engine = mg.Engine.from_model(mg.build_gpt_model(config), config)
        >>> logits = engine.prefill([1, 2, 3])
        >>> engine.decode_step(int(logits.argmax())).shape
        (8,)
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: Mapping[str, Any] | EngineWeights,
        where: str = "weights",
        threads: int | None = None,
    ) -> None:
        if not isinstance(weights, EngineWeights):
            weights = lay_out_weights(weights, config, where)
        self.config, self.weights = config, weights
        cosines, sines = half_rotary_tables(config)
        local_cosines, local_sines = half_rotary_tables(config, "L")
        self._step_weights = StepWeights(
            Matrices(weights.panels, weights.biases, weights.layout),
            weights.norms,
            weights.head_norms,
            config.embed_dim,
            config.head_dim,
            np.float32(config.norm_epsilon),
            cosines,
            sines,
            local_cosines,
            local_sines,
            np.array([LayerKind[letter] for letter in config.layer_kinds], dtype=np.int64),
            config.window or 0,
            np.float32(config.attention_softcap or 0),
            np.float32(config.logits_softcap or 0),
        )
        self._step = compiled_step(Switches.of(config), weights.storages)
        self._pool = ThreadPool(threads or available_cores())
        self._own = threading.local()
        self._spare: list[Cache] = [Cache(config, 1)]
        """Caches that nobody uses; the first one shows that there is memory for one."""
        self._has_own = False
        """Whether a thread has begun the engine's own sequence."""
        self._cache_shape = self._spare[0].shape
        self._begin()
        after_fork(self, Engine._begin)

    def _begin(self) -> None:
        """What a step in another thread may hold while a process is forked."""
        self._lock = threading.Lock()  # one step at a time, whoever calls
        self._barrier = np.zeros(BARRIER_SIZE, dtype=np.int64)
        self._scratch: Scratch | None = None

    @property
    def cache(self) -> Cache:
        """The engine's own sequence, of this thread."""
        if not hasattr(self._own, "cache"):
            self._own.cache, self._has_own = self._borrowed(), True
        return self._own.cache

    def _borrowed(self) -> Cache:
        """A cache of one sequence that nobody else uses."""
        try:
            cache = self._spare.pop()
        except IndexError:
            cache = Cache(self.config, 1)
        cache.positions[0] = 0
        return cache

    @classmethod
    def from_model(cls, model: Any, config: ModelConfig) -> "Engine":
        """An engine with a copy of a live Keras model's weights.

        Args:
            model: Of `build_gpt_model`.
            config: Its architecture.

        Returns:
            The engine; training the model further does not change it.
        """
        return cls(config, weights_of(model))

    @classmethod
    def load(
        cls,
        folder: ModelFolder,
        quantize: str = "none",
        threads: int | None = None,
        listener: Listener = SILENT,
    ) -> tuple["Engine", str]:
        """An engine for a model folder.

        Args:
            folder: From `load_folder`.
            quantize: "none", "int8" or "int4".
            threads: As for the class.
            listener: Receives the progress where 4-bit weights must be made.

        Returns:
            The engine, and a notice for a person, perhaps empty.

        Raises:
            ModelFolderError: The weights are missing or damaged.
        """
        calibrate = cls.calibration(folder, threads, listener)
        weights, notice = load_weights(folder, quantize, calibrate, listener)
        return cls(folder.model, weights, str(folder.path), threads), notice

    @classmethod
    def calibration(
        cls, folder: ModelFolder, threads: int | None = None, listener: Listener = SILENT
    ) -> Calibrate:
        """What makes the passages on which 4-bit weights are chosen: the model writes them itself.

        Args:
            folder: From `load_folder`.
            threads: As for the class.
            listener: Receives the progress.

        Returns:
            A function of the weights in float32, for `load_weights`.
        """

        def passages(weights: EngineWeights) -> np.ndarray:
            length = min(CALIBRATION_TOKENS, folder.model.context_length)
            short = replace(folder.model, context_length=length)
            engine = cls(short, weights, str(folder.path), threads)
            return generated_passages(engine, listener=listener)

        return passages

    def warm_up(self) -> None:
        """Loads the compiled step, or compiles it, so that the first token need not wait for it."""
        self.prefill([0])

    @property
    def position(self) -> int:
        """Tokens so far in the engine's own sequence."""
        return int(self.cache.positions[0])

    def prefill(
        self, ids: np.ndarray | list[int], cache: Cache | None = None, row: int = 0
    ) -> np.ndarray:
        """Starts a sequence.

        Args:
            ids: (T,), at least one.
            cache: Of the caller (unset: the engine's own).
            row: Which of the cache's sequences.

        Returns:
            Logits (V,) of the token after them.
        """
        cache = self.cache if cache is None else cache
        self._check_rows(cache, [row])
        cache.positions[row] = 0
        return self._run(ids, cache, row, num_logits=1)[0]

    def resume(
        self, ids: np.ndarray | list[int], cache: Cache | None = None, row: int = 0
    ) -> np.ndarray:
        """Like `prefill`, but keeps what the cache already has of the beginning of the ids.

        Args:
            ids: (T,), at least one.
            cache: Of the caller (unset: the engine's own).
            row: Which of the cache's sequences.

        Returns:
            Logits (V,) of the token after them.
        """
        cache = self.cache if cache is None else cache
        ids = self._rewind(ids, cache, row)
        return self._run(ids[cache.positions[row] :], cache, row, num_logits=1)[0]

    def prefill_some(
        self, ids: np.ndarray | list[int], cache: Cache, row: int, most: int
    ) -> np.ndarray | None:
        """A part of `resume`: appends at most so many of the ids that the cache lacks.

        Args:
            ids: (T,), the whole sequence; the same in each call until logits come.
            cache: The sequences.
            row: Which of them.
            most: Tokens, at least 1.

        Returns:
            Logits (V,) of the token after the ids; None as long as the cache lacks some of them.
        """
        ids = self._rewind(ids, cache, row)
        start = int(cache.positions[row])
        if len(ids) - start > most:
            self._run(ids[start : start + most], cache, row, num_logits=0)
            return None
        return self._run(ids[start:], cache, row, num_logits=1)[0]

    def all_logits(self, ids: np.ndarray | list[int]) -> np.ndarray:
        """Logits after each token, as the Keras model gives them.

        Args:
            ids: (T,), at least one.

        Returns:
            (T, V).
        """
        cache = self._borrowed()
        try:
            return self._run(ids, cache, 0, num_logits=len(ids))
        finally:
            self._spare.append(cache)

    def hidden(self, ids: np.ndarray | list[int]) -> np.ndarray:
        """The hidden state of the last token, behind the last norm.

        The output head turns it into logits, other heads into something else.

        Args:
            ids: (T,), at least one.

        Returns:
            (D,).
        """
        *_, state = self.hidden_in_turns(ids, len(ids))
        return state

    def hidden_in_turns(self, ids: np.ndarray | list[int], most: int) -> Iterator[np.ndarray]:
        """`hidden` with a pause after every few ids, for a thread that has other work too.

        Args:
            ids: (T,), at least one.
            most: Ids between two pauses.

        Yields:
            The hidden state (D,) of the last token so far; the last one is the result.
        """
        cache, state = self._borrowed(), np.empty(self.config.embed_dim, dtype=np.float32)
        try:
            for first in range(0, len(ids), most):
                self._run(ids[first : first + most], cache, 0, num_logits=0, state=state)
                yield state
        finally:
            self._spare.append(cache)

    def logits_in_chunks(
        self, ids: np.ndarray | list[int], num_logits: int | None = None
    ) -> Iterator[np.ndarray]:
        """`all_logits` without ever having all in memory.

        Args:
            ids: (T,), at least one.
            num_logits: Only those after the last so many ids (unset: all).

        Yields:
            Chunks (P, V) in order, P at most CHUNK.
        """
        first = 0 if num_logits is None else max(0, len(ids) - num_logits)
        cache = self._borrowed()
        try:
            if first > 0:
                self._run(ids[:first], cache, 0, num_logits=0)
            for start in range(first, len(ids), CHUNK):
                chunk = ids[start : start + CHUNK]
                yield self._run(chunk, cache, 0, num_logits=len(chunk))
        finally:
            self._spare.append(cache)

    def logits_in_pieces(
        self, ids: np.ndarray | list[int], wanted: int | None = None
    ) -> Iterator[np.ndarray]:
        """`logits_in_chunks` under its name in version 0.1.

        Args:
            ids: As there.
            wanted: Its `num_logits`.

        Returns:
            The same.
        """
        return self.logits_in_chunks(ids, wanted)

    def decode_step(self, token_id: int) -> np.ndarray:
        """Appends one token to the engine's own sequence.

        Args:
            token_id: The token.

        Returns:
            Logits (V,) of the token after it.

        Raises:
            ConfigError: Another thread has begun the sequence.
        """
        if self._has_own and not hasattr(self._own, "cache"):
            raise ConfigError(
                "the engine's own sequence was begun in another thread: begin one in this thread "
                "(prefill), or give a cache (decode_batch)"
            )
        return self.decode_batch([token_id], self.cache)[0]

    def decode_batch(
        self, ids: np.ndarray | list[int], cache: Cache, rows: list[int] | None = None
    ) -> np.ndarray:
        """Appends one token to each of B sequences, in one pass over the weights.

        Args:
            ids: (B,), a token for each sequence.
            cache: The sequences.
            rows: Which of them (unset: all).

        Returns:
            Logits (B, V), to the bit what one sequence after the other would give.
        """
        given = list(range(len(cache.positions))) if rows is None else rows
        self._check_rows(cache, given)
        places = np.asarray(given, dtype=np.int64)
        ids = self._check(ids, int(cache.positions[places].max(initial=0)) + 1)
        if len(ids) != len(places):
            raise ConfigError(f"{len(ids)} ids for {len(places)} sequences")
        positions = cache.positions[places]
        logits = self._decode(ids, places, positions, cache, num_logits=len(ids))
        cache.ids[places, positions] = ids
        cache.positions[places] += 1
        return logits

    def _rewind(self, ids: np.ndarray | list[int], cache: Cache, row: int) -> np.ndarray:
        """Drops from a sequence of the cache what differs from the ids, and at least their last
        one; the ids (T,)."""
        ids = self._check(ids, len(ids))
        self._check_rows(cache, [row])
        kept = min(len(ids) - 1, int(cache.positions[row]))
        differs = np.flatnonzero(cache.ids[row, :kept] != ids[:kept])
        cache.positions[row] = differs[0] if len(differs) else kept
        return ids

    def extend(self, ids: np.ndarray | list[int], cache: Cache, row: int) -> np.ndarray:
        """Appends tokens to a sequence, in one pass over the weights.

        Args:
            ids: (T,), at least one.
            cache: The sequences.
            row: Which of them.

        Returns:
            Logits (T, V) after each of them, to the bit what `decode_batch` gives one after the
            other.
        """
        self._check_rows(cache, [row])
        return self._run(ids, cache, row, num_logits=len(ids))

    @property
    def threads(self) -> int:
        """Threads that decode."""
        return self._pool.size

    def _run(
        self,
        ids: np.ndarray | list[int],
        cache: Cache,
        row: int,
        num_logits: int,
        state: np.ndarray | None = None,
    ) -> np.ndarray:
        """Appends ids (T,) to one sequence; logits (num_logits, V) after the last ones.

        With `num_logits` 0 the result is of no use: nothing is computed only for it. `state` gets
        the hidden state (D,) of the last token.
        """
        start = int(cache.positions[row])
        ids = self._check(ids, start + len(ids))
        logits = np.empty((num_logits, self.config.vocab_size), dtype=np.float32)
        for first in range(0, len(ids), CHUNK):
            chunk = ids[first : first + CHUNK]
            positions = np.arange(start + first, start + first + len(chunk), dtype=np.int64)
            rows = np.full(len(chunk), row, dtype=np.int64)
            before_last = len(ids) - num_logits  # tokens without logits
            wanted = min(len(chunk), max(0, first + len(chunk) - before_last))
            some = self._decode(chunk, rows, positions, cache, wanted, state)
            done = first + len(chunk) - before_last
            logits[done - wanted : done] = some
            cache.ids[row, positions] = chunk
            cache.positions[row] = start + first + len(chunk)
        return logits

    def _decode(
        self,
        ids: np.ndarray,
        rows: np.ndarray,
        positions: np.ndarray,
        cache: Cache,
        num_logits: int,
        state: np.ndarray | None = None,
    ) -> np.ndarray:
        """The compiled step for tokens at `positions` of sequences `rows`; logits (num_logits, V)
        after the last of them. `state` gets the hidden state of the last one."""
        tokens = Tokens(self._embed(ids, positions), rows, positions, num_logits)
        keys_values = KeysValues(cache.keys, cache.values)
        with self._lock:
            scratch = self._scratch_for(len(ids), num_logits)
            step, barrier = self._step, self._barrier
            self._pool.run(step, barrier, tokens, self._step_weights, keys_values, scratch)
            if state is not None:
                state[:] = scratch.normal[0, len(ids) - 1, : self.config.embed_dim]
            return scratch.logits[:num_logits, : self.config.vocab_size].copy()

    def _embed(self, ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Token plus position embeddings (T, D), filled up."""
        x = self.weights.rows(0, ids)
        x[:, self.config.embed_dim :] = 0  # in blocks, the filling of a row is its minimum
        if self.config.embedding_scale != 1:
            x *= np.float32(self.config.embedding_scale)
        return x + self.weights.positions[positions] if len(self.weights.positions) else x

    def _scratch_for(self, tokens: int, num_logits: int) -> Scratch:
        """Arrays for a step of so many tokens; the largest so far are kept."""
        kept = self._scratch
        if kept is None or kept.x.shape[1] < tokens:
            room = max(tokens, min(CHUNK, 2 * kept.x.shape[1]) if kept else 1)
            logits = None if kept is None else kept.logits
            integers, threads = self.weights.integers, self._pool.size
            kept = new_scratch(self.config, threads, room, integers, logits)
        if len(kept.logits) < num_logits:
            shape = (num_logits, padded(self.config.vocab_size))
            kept = kept._replace(logits=np.zeros(shape, dtype=np.float32))
        self._scratch = kept
        return kept

    def _check_rows(self, cache: Cache, rows: list[int]) -> None:
        """The compiled step trusts what it is given."""
        if cache.shape != self._cache_shape:
            raise ConfigError(
                f"a cache of shape {cache.shape} does not fit this model, whose is "
                f"{self._cache_shape}"
            )
        sequences = len(cache.positions)
        if len(set(rows)) < len(rows) or not all(0 <= row < sequences for row in rows):
            raise ConfigError(f"rows {rows}: expected different ones of 0 to {sequences - 1}")

    def _check(self, ids: np.ndarray | list[int], end: int) -> np.ndarray:
        ids = np.asarray(ids)
        if ids.ndim != 1 or len(ids) == 0:
            raise ConfigError(f"ids of shape {ids.shape}: expected (T,) with at least one id")
        if ids.dtype.kind not in "iu":
            raise ConfigError(f"ids of type {ids.dtype}: expected integers")
        if end > self.config.context_length:
            raise ConfigError(
                f"{end} tokens do not fit into the context of {self.config.context_length}"
            )
        wrong = ids[(ids < 0) | (ids >= self.config.vocab_size)]
        if len(wrong):
            raise ConfigError(
                f"token id {wrong[0]} is outside the vocabulary of {self.config.vocab_size}"
            )
        return ids
