"""One answer: its state while it is generated, and the finished `Generation`."""

from dataclasses import dataclass

from ..config import SamplingConfig
from ..text.tokenizers import BaseTokenizer
from .prompt import Prompt
from .samplers import Sampler


@dataclass(frozen=True)
class Generation:
    """A finished answer: what `generate` returns, and `stream` once it has ended.

    Example:
        >>> import minigpt_tf as mg
        >>> from minigpt_tf.inference.weights import weight_shapes
        >>> tokenizer = mg.train_tokenizer("char", ["who is hardy"], vocab_size=20)
        >>> config = mg.ModelConfig(vocab_size=20, embed_dim=8, num_heads=2, num_layers=1)
        >>> weights = {name: np.zeros(shape) for name, shape in weight_shapes(config).items()}
        >>> generator = mg.TextGenerator(mg.Engine(config, weights), tokenizer, start_ids=[1])
        >>> generation = generator.generate("who", max_new_tokens=5)
        >>> len(generation.text), generation.finish_reason
        (5, 'length')
    """

    prompt: Prompt
    """What it follows."""
    ids: list[int]
    """Its tokens, without the prompt's."""
    text: str
    """Its text, without the prompt."""
    logprobs: list[float | None]
    """Natural logarithm of each token's probability under the model, before any filter; None for
    the tokens with which an answer to an empty prompt begins."""
    finish_reason: str
    """"length" (max_new_tokens reached), "end" (the model ended the text), "stop" (a stop string),
    "context" (the context is full) or "canceled"."""
    seconds: float
    """From the start of its prompt to its end. Answers that are generated together share them."""

    @property
    def tokens_per_second(self) -> float:
        """Speed of this answer, its prompt's time included."""
        return len(self.ids) / self.seconds if self.seconds else 0.0


class Answer:
    """An answer so far; `scheduling.Scheduler` appends token after token.

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
    """Turns ids into text as they come, and holds back incomplete characters.

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
    """Passes text on up to the first stop string, and nothing of the stop string itself.

    Args:
        stops: The stop strings; may be empty.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self.stops = stops
        self.stopped = False
        """Whether a stop string was found."""
        self.text = ""
        """All text that was passed on."""
        self._held = ""

    def push(self, chunk: str) -> str:
        """Adds text, and returns what certainly comes before any stop string."""
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
