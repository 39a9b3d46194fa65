"""The state of one answer: its tokens, its text, and whether it has ended."""

from ..config import SamplingConfig
from ..text.tokenizers import BaseTokenizer
from .samplers import Sampler


class Answer:
    """An answer so far; `generation_loop.generate_tokens` appends token after token.

    Args:
        tokenizer: turns the tokens into text.
        prompt_ids: what the answer follows.
        sampling: when it ends.
        sampler: chooses its tokens.
    """

    def __init__(
        self,
        tokenizer: BaseTokenizer,
        prompt_ids: list[int],
        sampling: SamplingConfig,
        sampler: Sampler,
    ) -> None:
        self.sampling, self.sampler = sampling, sampler
        self.ids = list(prompt_ids)
        """Tokens of the prompt and of the answer so far."""
        self.new_ids: list[int] = []
        """Tokens of the answer so far."""
        self.logprobs: list[float | None] = []
        """Natural logarithm of each new token's probability, None for one that was given."""
        self.finish_reason = "length" if sampling.max_new_tokens == 0 else ""
        """Why the answer has ended; empty until then."""
        self._detokenizer = Detokenizer(tokenizer, prompt_ids)
        self._stop_filter = StopFilter(sampling.stop)

    @property
    def text(self) -> str:
        """The text so far, without what is held back."""
        return self._stop_filter.text

    def append(self, token_id: int, logprob: float | None) -> str:
        """Adds a token.

        Args:
            token_id: The token.
            logprob: Natural logarithm of its probability; None for one that was given.

        Returns:
            The text that it completes, perhaps empty.
        """
        self.ids.append(token_id)
        self.new_ids.append(token_id)
        self.logprobs.append(logprob)
        chunk = self._stop_filter.push(self._detokenizer.push(token_id))
        if self._stop_filter.stopped:
            self.finish_reason = "stop"
        elif len(self.new_ids) == self.sampling.max_new_tokens:
            chunk += self.finish("length")
        return chunk

    def finish(self, reason: str) -> str:
        """Ends the answer, unless it has ended.

        Args:
            reason: The `finish_reason`, unless the text that was held back has a stop string.

        Returns:
            The text that was held back.
        """
        if self.finish_reason:
            return ""
        chunk = self._stop_filter.push(self._detokenizer.rest())
        self.finish_reason = "stop" if self._stop_filter.stopped else reason
        return chunk + self._stop_filter.rest()


class Detokenizer:
    """Turns ids into text as they come, holding back characters that are not complete yet.

    The text of a token depends on those before it: words get a space between them, and a byte-level
    token may be half a character. So a few tokens before it are decoded too, and their text is
    dropped.

    Args:
        tokenizer: decodes the ids.
        prompt_ids: what the text follows.
    """

    def __init__(self, tokenizer: BaseTokenizer, prompt_ids: list[int]) -> None:
        self.tokenizer = tokenizer
        self.ids = list(prompt_ids[-8:])
        self.settled = len(self.ids)  # ids whose text has been given
        self.first = 0  # ids from here on are decoded

    def push(self, token_id: int) -> str:
        """The text that this token completes, perhaps empty."""
        self.ids.append(token_id)
        return self._decode(complete=False)

    def rest(self) -> str:
        """The text that was held back."""
        return self._decode(complete=True)

    def _decode(self, complete: bool) -> str:
        before = self.tokenizer.decode(self.ids[self.first : self.settled])
        text = self.tokenizer.decode(self.ids[self.first :])
        if text.endswith("\ufffd") and not complete:
            return ""
        self.first, self.settled = self.settled, len(self.ids)
        return text[len(before) :]


class StopFilter:
    """Lets text through up to the first stop string, no part of which gets out.

    Args:
        stops: the stop strings, perhaps none.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self.stops = stops
        self.stopped = False
        """Whether a stop string has come."""
        self.text = ""
        """All text that was let through."""
        self._held = ""

    def push(self, chunk: str) -> str:
        """Adds text; what is now certain to stand before any stop string."""
        if self.stopped:
            return ""
        self._held += chunk
        found = [self._held.find(stop) for stop in self.stops if stop in self._held]
        if found:
            self.stopped = True
            return self._release(min(found))
        return self._release(len(self._held) - max(map(self._overlap, self.stops), default=0))

    def rest(self) -> str:
        """The text that was held back, at the end."""
        return "" if self.stopped else self._release(len(self._held))

    def _overlap(self, stop: str) -> int:
        """Number of characters at the end of the held text that begin a stop string."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)

    def _release(self, length: int) -> str:
        chunk, self._held = self._held[:length], self._held[length:]
        self.text += chunk
        return chunk
