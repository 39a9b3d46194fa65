"""How a small batch keeps all cores busy: in parts that are computed at the same time."""

import os
import sys

from ..config import ModelConfig, TrainingConfig
from ..machine import usable_cores

MOST_ELEMENTS = 200_000
"""Of the residual stream of a batch, B T D, up to which branches are worth it. One operation of
nanoGPT's CPU size (98,000) is too short for two threads: they use half of two cores, and a third of
their time goes into handing over work. Of the lecture's size (819,000) it no longer is (measured:
`docs/figures.md`)."""

MOST_PARAMETERS = 4_000_000
"""Every branch has gradients of its own, which are added up."""

MOST_BRANCHES = 4
"""The step is traced once for each, which takes its time; and no more was measured."""


def branches_for(model: ModelConfig, training: TrainingConfig, replicas: int = 1) -> int:
    """Parts of a microbatch that are computed at the same time, each in one thread.

    Args:
        model: The architecture.
        training: The batch, and its microbatches.
        replicas: Devices among which it is divided.

    Returns:
        The most that divide the windows of a microbatch, at most MOST_BRANCHES and one a core; 1
        for a model or batch whose single operations keep all cores busy.

    Example:
        >>> from minigpt_tf.config.presets import model_preset, training_preset
        >>> from minigpt_tf.training.branches import branches_for
        >>> branches_for(model_preset("lecture"), training_preset("lecture"))
        1
    """
    windows = training.batch_size // training.accumulate // replicas
    elements = windows * model.context_length * model.embed_dim
    if elements > MOST_ELEMENTS or model.parameter_count > MOST_PARAMETERS or replicas > 1:
        return 1
    most = min(usable_cores(), MOST_BRANCHES)
    return max(n for n in range(1, most + 1) if windows % n == 0)


def one_thread_each(branches: int) -> None:
    """Gives each branch a thread, and each operation one too, where that uses all cores; elsewhere,
    and with one branch, it does nothing.

    For a process that only trains: an operation of another, larger model would have one thread.
    Call it before TensorFlow is imported. Variables that are set in the environment stay.

    Args:
        branches: How many there are.
    """
    if branches > 1 and branches >= usable_cores() and "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
        os.environ.setdefault("TF_NUM_INTEROP_THREADS", str(branches))
