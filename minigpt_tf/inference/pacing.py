"""How much of the prompts is computed in one step, so that running answers need not wait long."""

import statistics
from collections import deque

SHORTEST, LONGEST = 16, 256
"""Tokens of a chunk: fewer take as long as a pass over the weights, more are not faster."""

PREFILL_ALONE = 4
"""How many times as many there are while no answer waits for its next token."""

LATEST = 5
"""Measurements of which the middle one counts: on a busy machine single ones are far off."""


class Pace:
    """Tokens of prompts in one step: a number, or as many as take a given time.

    A chunk takes as long as a pass over the weights, and some time for each token. If a pass alone
    takes as long as is given, or nearly, as on a busy machine, the tokens may take as long once
    more: smaller chunks would hold up the prompt, and hardly less the answers.

    Args:
        tokens: Their number, until a chunk has been measured.
        seconds: How long they may take (unset: the number stays).

    Example:
        >>> pace = Pace(128, seconds=0.06)
        >>> pace.measured(1, 0.01)
        >>> pace.measured(100, 0.11)
        >>> pace.tokens(alone=False)
        50
    """

    def __init__(self, tokens: int, seconds: float | None = None) -> None:
        self.seconds, self._tokens = seconds, tokens
        self.others = 0
        """Other schedulers at work, whose answers wait as well."""
        self._passes: deque[float] = deque(maxlen=LATEST)
        self._of_one: deque[float] = deque(maxlen=LATEST)

    def tokens(self, alone: bool) -> int:
        """How many a step may compute.

        Args:
            alone: Whether no answer of this scheduler waits.

        Returns:
            At least 1.
        """
        tokens = self._tokens
        if self.seconds is not None and self._of_one:
            one_pass = self._pass()
            left = max(self.seconds / (1 + self.others) - one_pass, one_pass)
            wanted = left / statistics.median(self._of_one)
            tokens = max(SHORTEST, min(LONGEST, round(wanted)))
        return tokens * (PREFILL_ALONE if alone and not self.others else 1)

    def measured(self, tokens: int, seconds: float) -> None:
        """What a pass has shown.

        Args:
            tokens: Of a prompt; 1 for the next tokens of answers.
            seconds: Its time.
        """
        if seconds <= 0:
            return
        if tokens < SHORTEST:
            self._passes.append(seconds)
        else:
            self._of_one.append(max(seconds - self._pass(), seconds / 2) / tokens)

    def _pass(self) -> float:
        """Seconds of a pass over the weights with few tokens."""
        return statistics.median(self._passes) if self._passes else 0.0
