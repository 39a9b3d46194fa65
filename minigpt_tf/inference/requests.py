"""What is asked of the scheduler, and what it reports."""

from collections.abc import Hashable
from dataclasses import dataclass

from ..errors import ConfigError
from .answer import Answer, Generation
from .prompt import Prompt


class Request:
    """An answer that was asked for: what `Scheduler.submit` returns.

    `done`, `generation` and `error` change in the thread that calls `step`.

    Args:
        number: Of the scheduler's requests, in order.
        prompt: What the answer follows.
        answer: Its state.
        group: Whose rows it may begin with.
        num_alternatives: Most likely tokens that are kept for each token of the answer.
    """

    def __init__(
        self,
        number: int,
        prompt: Prompt,
        answer: Answer,
        group: Hashable = None,
        num_alternatives: int = 0,
    ) -> None:
        self.number, self.prompt, self.answer = number, prompt, answer
        self.group, self.num_alternatives = group, num_alternatives
        self.alternatives: dict[int, list[tuple[int, float]]] = {}
        """The most likely tokens by their place in the answer, with log probabilities."""
        self.cached_tokens = 0
        """Tokens of the prompt whose keys and values were there already."""
        self.canceled = False
        """Whether `cancel` was called."""
        self.generation: Generation | None = None
        """The answer, once it is finished; of a canceled request, its beginning."""
        self.error: Exception | None = None
        """What ended the answer, if it failed."""
        self.began: float | None = None
        """When its turn came, by `time.perf_counter`."""

    @property
    def done(self) -> bool:
        """Whether the request has ended: finished, canceled or failed."""
        return self.generation is not None or self.error is not None

    def cancel(self) -> None:
        """Ends the request at the beginning of the next step; any thread may call it."""
        self.canceled = True

    def result(self) -> Generation:
        """The answer of a request that is done.

        Returns:
            The answer.

        Raises:
            ConfigError: The request is not done.
            Exception: What ended the answer, if it failed.
        """
        if self.error is not None:
            raise self.error
        if self.generation is None:
            raise ConfigError("the answer is not finished: call Scheduler.step until it is")
        return self.generation


@dataclass(frozen=True)
class Event:
    """What a step did for a request: new text, or its end."""

    request: Request
    text: str
    """Whole characters that follow those before; empty only at the end."""
    tokens: int
    """Tokens of the answer so far: `request.answer.new_ids[:tokens]` and their `logprobs` do not
    change any more."""
    generation: Generation | None = None
    """The finished answer, in its last event."""
    error: Exception | None = None
    """What ended the answer, in its last event."""
