"""One compiled step of training: a batch -> loss, gradients, clipping, the optimizer's update."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from ..config import ModelConfig, TrainingConfig
from ..model import build_training_model
from ..model.dropout import dropout_step
from ..model.output_head import OutputHead
from ..model.tensorflow_internals import first_result
from .job import TrainableModel
from .losses import linear_cross_entropy
from .optimizers import clip_scale


class LanguageModel(TrainableModel):
    """A GPT made for training on text, and its loss."""

    def __init__(self, config: ModelConfig, training: TrainingConfig, dtype: str) -> None:
        """
        Args:
            config: The architecture.
            training: The seed of the first weights, and remat.
            dtype: A Keras dtype policy, such as "mixed_bfloat16".
        """
        self.config = config
        self.keras_model, self.body = build_training_model(
            config, seed=training.seed, dtype=dtype, remat=training.remat
        )
        self.variables = self.keras_model.trainable_variables

    def loss(self, x: tf.Tensor, y: tf.Tensor, *, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Loss and accuracy of a batch of windows.

        Args:
            x: Token ids (B, T).
            y: The next tokens (B, T).
            training: Whether dropout applies.

        Returns:
            Mean loss in nats per token, and the fraction of targets that were the most likely
            token.
        """
        hidden = self.body(x, training=training)  # (B, T, D)
        return linear_cross_entropy(
            tf.reshape(hidden, (-1, self.config.embed_dim)),
            OutputHead.of(self.keras_model),
            tf.reshape(y, (-1,)),
        )


@dataclass(frozen=True)
class StepResult:
    """What a step found before its update: means over the tokens of the batch."""

    loss: float
    accuracy: float
    gradient_norm: float
    """Of all gradients before clipping. If it is not finite, the step has changed no weights."""


_XLA_ERRORS = (
    tf.errors.InvalidArgumentError,  # an operation that XLA has not
    tf.errors.UnimplementedError,
    tf.errors.InternalError,  # on a GPU: "libdevice not found"
)


class TrainingStep:
    """The compiled step: called with a batch, it updates the model and the state of the optimizer.

    Under a `tf.distribute` strategy each replica takes an equal slice of the batch; loss and
    gradients are those of the whole batch.
    """

    def __init__(
        self,
        model: TrainableModel,
        optimizer: keras.Optimizer,
        *,
        clip_norm: float,
        accumulate: int = 1,
        signature: Sequence[tf.TensorSpec] | None = None,
        jit_compile: bool = False,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        """
        Args:
            model: What is trained, and its loss.
            optimizer: Built; under a strategy one of `optimizers`, which do not add up gradients.
            clip_norm: The largest global norm of the gradients; 0 does not clip.
            accumulate: Microbatches of each replica; one at a time is in memory.
            signature: Shapes and types of a batch whose lengths vary; the step is then compiled
                once for all lengths.
            jit_compile: Whether XLA compiles the step, for each length anew; worth it on a GPU.
            notice: Called if XLA cannot compile it, and the step runs without it (unset: nobody).
        """
        self.model, self.optimizer = model, optimizer
        self.clip_norm, self.accumulate = clip_norm, accumulate
        self._strategy = tf.distribute.get_strategy()
        self._signature = signature and [tf.TensorSpec((), tf.int32), *signature]
        self._notice = notice
        self._compiled = self._function(jit_compile=jit_compile)
        self._untried = jit_compile

    def _function(self, *, jit_compile: bool) -> Callable:
        """The step as a graph."""
        return tf.function(
            lambda *arguments: self._strategy.run(self._step, arguments),
            autograph=False,
            input_signature=self._signature,
            jit_compile=jit_compile or None,
        )

    def __call__(self, *batch: np.ndarray, step: int) -> StepResult:
        """Trains on one batch.

        Args:
            batch: What the model's loss takes, B rows each; the whole batch in every process.
            step: Counted from 0.

        Returns:
            Loss, accuracy and gradient norm, from before the update.
        """
        arguments = (tf.constant(step), *map(tf.constant, batch))
        try:
            results = self._compiled(*arguments)
        except _XLA_ERRORS as error:
            if not self._untried:  # XLA can compile the step: the error is another one
                raise
            self._compiled = self._function(jit_compile=False)
            if self._notice is not None:
                self._notice(f"XLA cannot compile the step, which runs without it: {error!s:.200}")
            results = self._compiled(*arguments)
        self._untried = False
        first = (first_result(self._strategy, result) for result in results)
        return StepResult(*map(float, first))

    def _step(self, step, *batch) -> tuple[tf.Tensor, ...]:
        """Loss, accuracy and gradient norm of a batch; then the update."""
        replica = tf.distribute.get_replica_context()
        replicas = replica.num_replicas_in_sync
        count = replicas * self.accumulate
        microbatches = [_microbatches(array, count) for array in batch]
        first = replica.replica_id_in_sync_group * self.accumulate
        results, gradients = self._mean_gradients(microbatches, first, step * count)
        if replicas > 1:
            mean = tf.distribute.ReduceOp.MEAN
            results, gradients = replica.all_reduce(mean, (results, gradients))
        norm, scale = clip_scale(gradients, self.clip_norm)
        gradients = [tf.math.multiply_no_nan(g, scale) for g in gradients]
        # No update and no decay before all replicas have answered: a step is done or not begun.
        with tf.control_dependencies([norm, *results]):
            self.optimizer.apply(gradients, self.model.variables)
        return *results, norm

    def _mean_gradients(self, batch, first, step) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Means over this replica's microbatches, from `first`; arrays (microbatches, B, ...)."""
        if self.accumulate == 1:
            return self._gradients([array[first] for array in batch], step + first)

        def add(i, sums):
            index = first + i
            terms = self._gradients([array[index] for array in batch], step + index)
            return i + 1, tf.nest.map_structure(tf.add, sums, terms)

        shapes = [()] * 2, [variable.shape for variable in self.model.variables]
        zeros = tuple([tf.zeros(shape) for shape in group] for group in shapes)
        count = self.accumulate
        _, sums = tf.while_loop(
            lambda i, sums: i < count, add, (tf.constant(0), zeros), parallel_iterations=1
        )
        return tf.nest.map_structure(lambda total: total / count, sums)

    def _gradients(self, batch, step) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """[loss, accuracy] of a batch, and the loss's gradients, float32 and dense."""
        variables = [variable.value for variable in self.model.variables]
        with dropout_step(step):
            with tf.GradientTape() as tape:
                loss, accuracy = self.model.loss(*batch, training=True)
            gradients = tape.gradient(loss, variables)  # may compute blocks again
        return [loss, accuracy], [tf.convert_to_tensor(gradient) for gradient in gradients]


def _microbatches(array: tf.Tensor, count: int) -> tf.Tensor:
    """(B, ...) -> (count, B / count, ...); one axis of the array may be of unknown length."""
    rows, *others = array.shape
    return tf.reshape(array, (count, rows // count, *(-1 if n is None else n for n in others)))
