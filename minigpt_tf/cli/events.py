"""The option --tensorboard of `train` and `finetune`."""

import argparse
from pathlib import Path

from ..events import Listener
from ..storage.paths import real_path

LOGS = Path("logs")


def add_tensorboard(parser: argparse.ArgumentParser) -> None:
    """Where event files go.

    Args:
        parser: The verb's; the option is added to it.
    """
    parser.add_argument(
        "--tensorboard",
        nargs="?",
        type=Path,
        const=LOGS,
        metavar="DIR",
        help="write event files for TensorBoard (extra tensorboard) to DIR/NAME of the model "
        f"(without DIR: {LOGS}); tensorboard --logdir {LOGS} shows them",
    )


def with_tensorboard(arguments: argparse.Namespace, out: Path, listener: Listener) -> Listener:
    """The listener of a run, which TensorFlow is imported for.

    Args:
        arguments: With the option of `add_tensorboard`.
        out: The model folder that is written.
        listener: Shows the run.

    Returns:
        The same, or one that also writes event files.

    Raises:
        ConfigError: TensorBoard is not installed.
        ModelFolderError: The folder cannot be written to.
    """
    if arguments.tensorboard is None:
        return listener
    from ..training.tensorboard import TensorBoard

    return TensorBoard(arguments.tensorboard / real_path(out).name, listener)
