"""Speculation: cheap guesses at the next tokens, which the model checks in one pass.

A pass over several tokens costs little more than over one, and its logits have the same bits
(`product_code`). So the model chooses, from its own logits, the tokens that it would have chosen
without guesses; only the time changes (Leviathan et al., 2023, "Fast Inference from Transformers
via Speculative Decoding"). Guesses come from the text itself, where it repeats, and from the model
with its weights rounded to 8 bits, which draws with the same random numbers.
"""

import math
import time
from collections.abc import Sequence

import numpy as np

from ..config import MOST_GUESSES
from ..errors import ModelFolderError
from .answer import Answer
from .engine import Engine
from .folder import ModelFolder
from .key_value_cache import Cache

FIRST_SPEED = 2e10
"""Bytes of weights a second, until they are measured."""
LARGE_BYTES = 2**26
"""Weights in memory from which on guesses may pay: below, a token takes as long as what is done
around it."""
CHOICES = (3, 7, MOST_GUESSES)
"""Numbers of guesses among which `auto` chooses; with the token before them, they fill tiles."""
NGRAM, LOOKED_AT = 3, 4096
"""Tokens that must have stood there before, and how far back the text is searched."""
SURE = math.log(0.12)
"""Log probability of a guess below which no more are made behind it."""
GAIN = 1.05
"""What guessing must promise, in tokens a second, to be done."""
PAUSE, LONGEST_PAUSE = 32, 512
"""Tokens until guessing is tried again where it did not pay; doubled each time."""


def may_pay(engine: Engine, speculate: str) -> bool:
    """Whether tokens are to be guessed at all.

    Args:
        engine: The model.
        speculate: As in EngineConfig.

    Returns:
        For "auto", whether the model is large.
    """
    large = engine.weights.nbytes >= LARGE_BYTES
    return large if speculate == "auto" else speculate != "off"


def load_draft(folder: ModelFolder, engine: Engine, speculate: str) -> tuple[Engine | None, str]:
    """The model with its weights rounded to 8 bits, where guessing with it may pay.

    Args:
        folder: From `load_folder`.
        engine: The model.
        speculate: As in EngineConfig.

    Returns:
        The draft model, and a notice for a person, perhaps empty.
    """
    weights = engine.weights
    if weights.integers or not may_pay(engine, speculate):
        return None, ""
    if speculate == "auto" and weights.nbytes < 3 * folder.model.parameter_count:
        return None, ""  # 8 bits are not so much less that they would guess quickly
    try:
        draft, notice = Engine.load(folder, "int8", engine.threads)
    except ModelFolderError as error:  # too little memory: it goes without
        return None, f"generation goes without drafts: {error}"
    return draft, notice


class Estimate:
    """A mean of the latest values, which begins with a guess.

    Args:
        value: The guess.
        weight: Of a new value.
    """

    def __init__(self, value: float, weight: float = 0.1) -> None:
        self.value, self._weight, self._seen = value, weight, 0

    def add(self, value: float) -> None:
        """Takes a new value in; the first ones weigh more.

        Args:
            value: The value.
        """
        self._seen += 1
        weight = max(self._weight, 1 / (1 + self._seen))
        self.value += weight * (value - self.value)


class Costs:
    """What guessing costs and gives for a model, as far as it is known.

    Args:
        engine: The model.
        draft: The same with 8-bit weights, if there is one.
    """

    def __init__(self, engine: Engine, draft: Engine | None) -> None:
        one = engine.weights.nbytes / FIRST_SPEED
        self.one = Estimate(one)
        """Seconds of a pass over one token."""
        self.passes = {count: Estimate((1 + 0.03 * count) * one) for count in CHOICES}
        """Seconds of a pass over so many guesses and the token before them."""
        self.guess = Estimate(draft.weights.nbytes / FIRST_SPEED if draft else 0.0)
        """Seconds of a guess of the draft model."""
        self.rates = {"draft": Estimate(0.95, 0.02), "text": Estimate(0.6, 0.1)}
        """How often the model chooses a guess too, if it has chosen those before."""

    def gain(self, count: int, source: str) -> float:
        """Tokens a second with guesses, in units of those without.

        Args:
            count: How many guesses at a time.
            source: "draft" or "text".

        Returns:
            Above 1 if they pay.
        """
        rate = min(self.rates[source].value, 0.999)
        tokens = (1 - rate ** (count + 1)) / (1 - rate)
        seconds = self.passes[_choice(count)].value
        if source == "draft":
            seconds += count * self.guess.value
        return tokens * self.one.value / seconds


def _choice(count: int) -> int:
    """The smallest of CHOICES that is not below a number of guesses."""
    return next(choice for choice in CHOICES if choice >= count)


class Speculation:
    """Guesses the next tokens of one answer at a time, as long as it pays.

    Args:
        engine: The model.
        draft: The same with 8-bit weights; None: only the text is looked at.
        speculate: "auto", or the number of tokens to guess, as a text.
        costs: What is known of the model already, and becomes better known.
    """

    def __init__(
        self,
        engine: Engine,
        draft: Engine | None,
        speculate: str = "auto",
        costs: Costs | None = None,
    ) -> None:
        self._draft, self.costs = draft, costs or Costs(engine, draft)
        self._fixed = 0 if speculate == "auto" else int(speculate)
        self._cache = Cache(engine.config, 1) if draft else None
        self.drafted = self.accepted = 0
        """Tokens that were guessed, and of these the ones that the model chose too."""
        self._source, self._pause, self._rest = "text", PAUSE, 0

    def propose(self, answer: Answer, ids: Sequence[int], room: int) -> list[int]:
        """Guesses at the next tokens.

        Args:
            answer: The answer.
            ids: What the cache's row has and the token after it: the end of the answer's ids.
            room: Tokens that may be guessed, at most.

        Returns:
            Their ids, perhaps none.
        """
        room = min(room, MOST_GUESSES)
        if room < 1 or self._rest > 1:
            self._rest -= 1
            return []
        count = 0
        if self._draft is not None:
            count = min(self._fixed, room) if self._fixed else self._best_count(room)
        found = look_up(ids, min(room, self._fixed or MOST_GUESSES))
        promised = self.costs.gain(count, "draft") if count else GAIN
        if found and (not count or self.costs.gain(len(found), "text") > promised):
            self._source = "text"
            return found
        self._source = "draft"
        if not count:
            self._rest, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
            return []
        return self._drafted(answer, ids, count)

    def measured(self, tokens: int, accepted: int, seconds: float) -> None:
        """What a pass has shown.

        Args:
            tokens: Guesses that it checked; 0 for a pass over one token.
            accepted: How many of them the model chose too.
            seconds: Its time.
        """
        if tokens == 0:
            self.costs.one.add(seconds)
            return
        self.drafted += tokens
        self.accepted += accepted
        self.costs.passes[_choice(tokens)].add(seconds)
        rate = self.costs.rates[self._source]
        for _ in range(accepted):
            rate.add(1.0)
        if accepted < tokens:
            rate.add(0.0)
        elif self._source == "draft":
            self._pause = PAUSE

    def _best_count(self, room: int) -> int:
        """How many guesses of the draft model promise most; 0 if none pay."""
        if self._rest == 1:  # the end of a pause: tried, whatever was seen before it
            self._rest = 0
            return min(CHOICES[0], room)
        gains = {min(count, room): self.costs.gain(min(count, room), "draft") for count in CHOICES}
        best = max(gains, key=lambda count: gains[count])
        return best if gains[best] > GAIN else 0

    def _drafted(self, answer: Answer, ids: Sequence[int], count: int) -> list[int]:
        """The tokens that the draft model chooses, with the random numbers of the answer."""
        assert self._draft is not None and self._cache is not None
        sampler = answer.sampler.fork()
        said = list(answer.ids)
        logits = self._draft.resume(list(ids), self._cache)
        guesses: list[int] = []
        while True:
            token_id, logprob = sampler(logits, said)
            guesses.append(token_id)
            said.append(token_id)
            if len(guesses) == count or (logprob < SURE and not self._fixed):
                return guesses
            began = time.perf_counter()
            logits = self._draft.decode_batch([token_id], self._cache)[0]
            self.costs.guess.add(time.perf_counter() - began)


def look_up(ids: Sequence[int], most: int) -> list[int]:
    """What followed the last tokens of a text where they stood before (prompt lookup).

    Args:
        ids: The text.
        most: Tokens to give, at most.

    Returns:
        The tokens behind the latest place, perhaps none.
    """
    if len(ids) <= NGRAM:
        return []
    text = np.asarray(ids[-LOOKED_AT:], dtype=np.int64)
    ending, places = text[-NGRAM:], len(text) - NGRAM
    same = text[:places] == ending[0]
    for offset in range(1, NGRAM):
        same &= text[offset : places + offset] == ending[offset]
    found = np.flatnonzero(same)
    if not len(found):
        return []
    first = int(found[-1]) + NGRAM
    return text[first : first + most].tolist()
