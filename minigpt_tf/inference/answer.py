"""One answer in the making: its tokens, its text, and when it ends."""

from collections.abc import Iterator

import numpy as np

from ..config import SamplingConfig
from ..metrics import log_probability
from ..text.tokenizers import BaseTokenizer
from .samplers import make_sampler


class Answer:
    """Chooses tokens from logits until the answer ends, and writes their text."""

    def __init__(
        self,
        tokenizer: BaseTokenizer,
        suppressed: np.ndarray,
        prompt_ids: list[int],
        sampling: SamplingConfig,
        sample: int = 0,
    ) -> None:
        """Ids in `suppressed` are never chosen; answers of another `sample` are other answers."""
        self.sampling = sampling
        self.ids = list(prompt_ids)
        """The prompt's tokens and those of the answer so far."""
        self.new_ids: list[int] = []
        self.logprobs: list[float | None] = []
        self.finish_reason = ""
        """Why the answer has ended; empty while it goes on."""
        self._end_ids = tokenizer.end_ids
        self._sample = make_sampler(sampling, suppressed, sample)
        self._words = TextOfIds(tokenizer, prompt_ids)
        self._filter = StopFilter(sampling.stop)
        if sampling.max_new_tokens == 0:
            self.finish_reason = "length"

    @property
    def text(self) -> str:
        """The text of the answer so far, but for what is held back."""
        return self._filter.written

    def start_with(self, ids: list[int]) -> Iterator[str]:
        """Begins the answer with given tokens; yields their text."""
        for token_id in ids:
            if not self.finish_reason:
                yield self._add(token_id, None)

    def take(self, logits: np.ndarray) -> str:
        """Chooses the next token from logits (V,); the text it completes, perhaps none."""
        token_id = self._sample(logits, self.ids)
        if token_id in self._end_ids:
            return self.finish("end")
        return self._add(token_id, log_probability(logits, token_id))

    def finish(self, reason: str) -> str:
        """Ends the answer, unless it has ended; the text that was held back."""
        if self.finish_reason:
            return ""
        piece = self._filter.push(self._words.rest())
        self.finish_reason = "stop" if self._filter.stopped else reason
        return piece + self._filter.rest()

    def _add(self, token_id: int, logprob: float | None) -> str:
        self.ids.append(token_id)
        self.new_ids.append(token_id)
        self.logprobs.append(logprob)
        piece = self._filter.push(self._words.push(token_id))
        if self._filter.stopped:
            self.finish_reason = "stop"
        elif len(self.new_ids) == self.sampling.max_new_tokens:
            piece += self.finish("length")
        return piece


class TextOfIds:
    """Turns ids into text piece by piece, holding back characters that are not complete yet.

    A token alone does not tell its text: words get a space between them, and a byte-level token
    may hold half a character. So a few tokens before it are decoded along, and cut off again.
    """

    def __init__(self, tokenizer: BaseTokenizer, prompt_ids: list[int]) -> None:
        self.tokenizer = tokenizer
        self.ids = list(prompt_ids[-8:])
        self.settled = len(self.ids)  # ids whose text has been given
        self.first = 0  # ids from here on are decoded

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
        self.first, self.settled = self.settled, len(self.ids)
        return text[len(before) :]


class StopFilter:
    """Lets text through up to the first stop string, of which it gives no part away."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self.stops = stops
        self.stopped = False
        self.written = ""
        self._held = ""

    def push(self, piece: str) -> str:
        """The text that is certain now to stand before any stop string."""
        if self.stopped:
            return ""
        self._held += piece
        found = [self._held.find(stop) for stop in self.stops if stop in self._held]
        if found:
            self.stopped = True
            return self._give(min(found))
        return self._give(len(self._held) - max(map(self._begun, self.stops), default=0))

    def rest(self) -> str:
        """What was held back, at the end of the text."""
        return "" if self.stopped else self._give(len(self._held))

    def _begun(self, stop: str) -> int:
        """How many characters at the end of the held text begin a stop string."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)

    def _give(self, length: int) -> str:
        piece, self._held = self._held[:length], self._held[length:]
        self.written += piece
        return piece
