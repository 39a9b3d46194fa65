"""TensorFlow's undocumented names: raw and experimental operations.

The only module that does; `tests/test_private_api.py` names each of them and why it is needed.
"""

from typing import Any

import keras
import tensorflow as tf


def select(condition: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """x where the condition is true, and y elsewhere.

    Unlike `tf.where` it never broadcasts, so its gradient sums nothing up.

    Args:
        condition: Booleans.
        x: The same shape.
        y: The same shape and dtype as x.

    Returns:
        A tensor like x.
    """
    return tf.raw_ops.Select(condition=condition, x=x, y=y)


def apply_adam(
    variable: Any,
    m: Any,
    v: Any,
    gradient: tf.Tensor,
    *,
    learning_rate: tf.Tensor,
    betas: tuple[float, float],
    powers: tuple[tf.Tensor, tf.Tensor],
    epsilon: float,
) -> None:
    """One step of Adam (Kingma and Ba, 2015) in one pass over memory instead of a dozen.

    Args:
        variable: What is trained, a variable of Keras or TensorFlow.
        m: The average of its gradients, a variable of its shape.
        v: The average of their squares, a variable of its shape.
        gradient: d(loss)/d(variable).
        learning_rate: A scalar.
        betas: Decay of the two averages.
        powers: The betas to the power of the step, which counts from 1.
        epsilon: Added to the root of v.
    """
    tf.raw_ops.ResourceApplyAdam(
        var=_handle(variable),
        m=_handle(m),
        v=_handle(v),
        beta1_power=powers[0],
        beta2_power=powers[1],
        lr=tf.cast(learning_rate, tf.float32),
        beta1=betas[0],
        beta2=betas[1],
        epsilon=epsilon,
        grad=gradient,
    )


def _handle(variable: Any) -> tf.Tensor:
    """The resource of a Keras or TensorFlow variable."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle


def restore(checkpoint: str, name: str, dtype: tf.DType) -> tf.Tensor:
    """One tensor of a checkpoint of TensorFlow 1, without a graph to run it in.

    Args:
        checkpoint: the path without its files' endings.
        name: of the tensor.
        dtype: that it has there.

    Returns:
        The tensor, whose memory `np.asarray` shares.

    Raises:
        tf.errors.OpError: and others, if a file is damaged.
    """
    (tensor,) = tf.raw_ops.RestoreV2(
        prefix=checkpoint, tensor_names=[name], shape_and_slices=[""], dtypes=[dtype]
    )
    return tensor


def first_result(strategy: tf.distribute.Strategy, value: Any) -> tf.Tensor:
    """The result of this process's first replica.

    Args:
        strategy: The strategy.
        value: What its `run` returned.

    Returns:
        A tensor.
    """
    return strategy.experimental_local_results(value)[0]
