"""Work of the engine's thread other than answers: labels of texts, log probabilities of prompts."""

import asyncio
from collections.abc import Generator
from typing import Any


class Job:
    """Work in short turns, so that running answers need not wait for all of it.

    Args:
        turns: Each `next` does a little; its value is the result.
        result: Gets it, on the event loop.
    """

    def __init__(self, turns: Generator[None, None, Any], result: "asyncio.Future[Any]") -> None:
        self.turns, self.result = turns, result
        self.canceled = False

    def turn(self) -> tuple[bool, Any, Exception | None]:
        """Does a little.

        Returns:
            Whether it is done, and its result or what ended it.
        """
        if self.canceled:
            self.turns.close()
            return True, None, None
        try:
            next(self.turns)
        except StopIteration as end:
            return True, end.value, None
        except Exception as error:
            return True, None, error
        return False, None, None

    def settle(self, value: Any, error: Exception | None) -> None:
        """Gives the result to who waits for it, on the event loop.

        Args:
            value: The result.
            error: What ended the work instead, if anything.
        """
        if self.result.done():
            return
        if self.canceled:
            self.result.cancel()
        elif error is not None:
            self.result.set_exception(error)
        else:
            self.result.set_result(value)
