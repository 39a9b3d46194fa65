"""What a run reports, as TensorBoard's event files."""

import importlib.util
import math
import os
from pathlib import Path

import tensorflow as tf

from ..errors import ConfigError, ModelFolderError
from ..events import SILENT, Evaluation, Listener, PassingListener, Progress


class TensorBoard(PassingListener):
    """Writes losses, accuracy, rates and samples for TensorBoard, and passes everything on.

    Means of the training steps are in `train/`, what evaluations find in `validation/`.

    Args:
        folder: Where the event files go; `tensorboard --logdir` shows it, or the folder above.
        listener: Gets every event too.

    Raises:
        ConfigError: TensorBoard is not installed.
        ModelFolderError: The folder cannot be written to.

    Example:
        >>> from pathlib import Path
        >>> import minigpt_tf as mg
        >>> from minigpt_tf.training.tensorboard import TensorBoard
        >>> _ = open("notes.txt", "w").write("the sun is up and the moon is down. " * 500)
        >>> _ = mg.train("notes.txt", "small", steps=2, embed_dim=8, num_heads=2, num_layers=1,
        ...              listener=TensorBoard("logs/small"))
        >>> [file.suffix for file in sorted(Path("logs/small").iterdir())]
        ['.v2']
    """

    def __init__(self, folder: str | os.PathLike, listener: Listener = SILENT) -> None:
        super().__init__(listener)
        self.folder = Path(folder)
        if importlib.util.find_spec("tensorboard") is None:
            raise ConfigError(
                "TensorBoard is not installed: pip install 'minigpt_tf[tensorboard]' (or, in a "
                "clone, pip install -e '.[tensorboard]')"
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._writer = tf.summary.create_file_writer(str(self.folder))
            self._writer.flush()
        except (OSError, tf.errors.OpError) as error:
            raise ModelFolderError(f"{self.folder}: cannot be written to: {error}") from None

    def progress(self, progress: Progress) -> None:
        """Writes the means since the last evaluation."""
        with self._writer.as_default(progress.step):
            tf.summary.scalar("train/loss", progress.loss)
            tf.summary.scalar("train/accuracy", progress.accuracy)
            tf.summary.scalar("train/tokens_per_second", progress.tokens_per_second)
        super().progress(progress)

    def evaluation(self, evaluation: Evaluation) -> None:
        """Writes what it found, and the sample as a text."""
        values = {
            "train/learning_rate": evaluation.learning_rate,
            "train/gradient_norm": evaluation.gradient_norm,
            "validation/loss": evaluation.val_loss,
            "validation/perplexity": evaluation.val_perplexity,
            **{f"validation/{name}": value for name, value in evaluation.metrics.items()},
        }
        with self._writer.as_default(evaluation.step):
            for name, value in values.items():
                if value is not None and math.isfinite(value):
                    tf.summary.scalar(name, value)
            tf.summary.text("sample", evaluation.sample)
        self._writer.flush()
        super().evaluation(evaluation)
