"""What the methods that train on the answers of records have in common."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from .method import Method

if TYPE_CHECKING:
    from .job import FineTuningJob


class AnswersMethod(Method):
    """A method whose job is supervised fine-tuning."""

    record_kinds = ("instruction", "conversation")
    options = frozenset({"sample_tokens", "records", "train_on"})

    def job(self) -> "Callable[..., FineTuningJob]":
        from .supervised import SupervisedJob

        return SupervisedJob
