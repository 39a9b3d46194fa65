"""What the trainer needs to know of a method's job."""

from typing import Any

from ..training.job import Job


class FineTuningJob(Job):
    """A job of training's loop that ends in a fine-tuned model."""

    test_score: dict[str, float]
    """What `save` has found on the test set; empty without one."""
    merge_difference: dict[str, Any]
    """What `save` has found: how far the merged model is from the trained one (`difference`)."""
