"""How much of the prompts is computed in one step, so that running answers need not wait long."""

from .speculation import Estimate

SHORTEST, LONGEST = 16, 256
"""Tokens of a chunk: fewer take as long as a pass over the weights, more are not faster."""

PREFILL_ALONE = 4
"""How many times as many there are while no answer waits for its next token."""


class Pace:
    """Tokens of prompts in one step: a number, or as many as take a given time.

    Args:
        tokens: Their number, until a chunk has been measured.
        seconds: How long they may take (unset: the number stays).

    Example:
        >>> pace = Pace(128, seconds=0.06)
        >>> pace.measured(100, 0.1)
        >>> pace.tokens(alone=False)
        60
    """

    def __init__(self, tokens: int, seconds: float | None = None) -> None:
        self.seconds, self._tokens = seconds, tokens
        self.others = 0
        """Other schedulers at work, whose answers wait as well."""
        self._of_one: Estimate | None = None

    def tokens(self, alone: bool) -> int:
        """How many a step may compute.

        Args:
            alone: Whether no answer of this scheduler waits.

        Returns:
            At least 1.
        """
        tokens = self._tokens
        if self.seconds is not None and self._of_one is not None:
            wanted = self.seconds / self._of_one.value / (1 + self.others)
            tokens = max(SHORTEST, min(LONGEST, round(wanted)))
        return tokens * (PREFILL_ALONE if alone and not self.others else 1)

    def measured(self, tokens: int, seconds: float) -> None:
        """What a chunk has shown.

        Args:
            tokens: Of the chunk; of a short one, most of the time is the pass over the weights.
            seconds: Its time.
        """
        if tokens < SHORTEST or seconds <= 0:
            return
        if self._of_one is None:
            self._of_one = Estimate(seconds / tokens, weight=0.3)
        else:
            self._of_one.add(seconds / tokens)
