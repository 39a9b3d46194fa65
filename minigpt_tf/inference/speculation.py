"""Speculation: cheap guesses at the next tokens, which the model checks in one pass.

A pass over several tokens costs little more than over one, and its logits have the same bits
(`product_code`). So the model chooses, from its own logits, the tokens that it would have chosen
without guesses; only the time changes (Leviathan et al., 2023, "Fast Inference from Transformers
via Speculative Decoding"). Guesses come from the text itself, where it repeats, and from the model
with its weights rounded to 8 bits, which draws with the same random numbers.
"""

import time
from collections.abc import Sequence

import numpy as np

from ..config import MOST_GUESSES
from ..errors import ModelFolderError
from .answer import Answer
from .engine import Engine
from .folder import ModelFolder
from .key_value_cache import Cache

LARGE_BYTES = 2**26
"""Weights in memory from which on guesses may pay: below, a token takes as long as what is done
around it."""
CHOICES = (3, 5, 7, MOST_GUESSES)
"""Numbers of guesses among which `auto` chooses."""
NGRAM, LOOKED_AT = 3, 4096
"""Tokens that must have stood there before, and how far back the text is searched."""
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


class Speculation:
    """Guesses the next tokens of one answer at a time, as long as it pays.

    Args:
        engine: The model.
        draft: The same with 8-bit weights; None: only the text is looked at.
        speculate: "auto", or the number of tokens to guess, as a text.
    """

    def __init__(self, engine: Engine, draft: Engine | None, speculate: str = "auto") -> None:
        self._engine, self._draft = engine, draft
        self._fixed = 0 if speculate == "auto" else int(speculate)
        self._cache = Cache(engine.config, 1) if draft else None
        self.drafted = self.accepted = 0
        """Tokens that were guessed, and of these the ones that the model chose too."""
        size = engine.weights.nbytes
        unit = size / 2e10  # seconds of a pass; measured as soon as there is one
        self._one = Estimate(unit)
        self._more = Estimate(0.1 * unit)  # for each further token of a pass
        self._drafting = Estimate(draft.weights.nbytes / 2e10 if draft else 0.0)
        self._rates = {"draft": Estimate(0.8, 0.03), "text": Estimate(0.6, 0.1)}
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
        if room < 1 or self._rest > 0:
            self._rest -= 1
            return []
        found = look_up(ids, min(room, self._fixed or MOST_GUESSES))
        if found and (self._fixed or self._gain(len(found), "text") > GAIN):
            self._source = "text"
            return found
        self._source = "draft"
        if self._draft is None:
            return []
        count = min(self._fixed or self._best_count(), room)
        if count < 1:
            self._rest, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
            return []
        began = time.perf_counter()
        guesses = self._drafted(answer, ids, count)
        self._drafting.add((time.perf_counter() - began) / count)
        return guesses

    def measured(self, tokens: int, accepted: int, seconds: float) -> None:
        """What a pass has shown.

        Args:
            tokens: Guesses that it checked; 0 for a pass over one token.
            accepted: How many of them the model chose too.
            seconds: Its time.
        """
        if tokens == 0:
            self._one.add(seconds)
            return
        self.drafted += tokens
        self.accepted += accepted
        self._more.add(max(0.0, seconds - self._one.value) / tokens)
        rate = self._rates[self._source]
        for _ in range(accepted):
            rate.add(1.0)
        if accepted < tokens:
            rate.add(0.0)
        elif self._source == "draft":
            self._pause = PAUSE

    def _best_count(self) -> int:
        """How many guesses of the draft model promise most; 0 if none pay."""
        gains = {count: self._gain(count, "draft") for count in CHOICES}
        best = max(gains, key=lambda count: gains[count])
        return best if gains[best] > GAIN else 0

    def _gain(self, count: int, source: str) -> float:
        """Tokens a second with so many guesses, in units of those without."""
        rate = min(self._rates[source].value, 0.999)
        tokens = (1 - rate ** (count + 1)) / (1 - rate)
        seconds = self._one.value + count * self._more.value
        if source == "draft":
            seconds += count * self._drafting.value
        return tokens * self._one.value / seconds

    def _drafted(self, answer: Answer, ids: Sequence[int], count: int) -> list[int]:
        """The tokens that the draft model chooses, with the random numbers of the answer."""
        assert self._draft is not None and self._cache is not None
        sampler = answer.sampler.fork()
        said = list(answer.ids)
        logits = self._draft.resume(list(ids), self._cache)
        guesses: list[int] = []
        while True:
            token_id, _ = sampler(logits, said)
            guesses.append(token_id)
            said.append(token_id)
            if len(guesses) == count:
                return guesses
            logits = self._draft.decode_batch([token_id], self._cache)[0]


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
