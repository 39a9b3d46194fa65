"""What is used of Keras beyond its documented names, behind names of our own.

The only module that does; `tests/test_private_api.py` names each of them and why it is needed.
"""

from typing import Any

import keras
import tensorflow as tf


class WholeStep(keras.optimizers.Optimizer):
    """Does once what Keras does for each variable; a base class before the optimizer's own.

    Keras adds up the gradients of all replicas, of which the step has taken the mean already; and
    it computes the learning rate anew for every variable: with the hundreds that LoRA has, that and
    the powers of the betas are a quarter of the step's operations.
    """

    _rate: Any = None

    def apply(self, grads, trainable_variables=None):
        """Updates the variables by a step."""
        self._rate = super()._get_current_learning_rate()
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._rate = None

    def _get_current_learning_rate(self):
        return super()._get_current_learning_rate() if self._rate is None else self._rate

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return list(grads_and_vars)


def adam_averages(optimizer: keras.optimizers.Adam, variable: Any) -> tuple[Any, Any]:
    """Adam's means of a variable's gradients and of their squares: two variables of its shape."""
    index = optimizer._get_variable_index(variable)
    return optimizer._momentums[index], optimizer._velocities[index]


class MuonHooks(keras.optimizers.Muon):
    """Keras's Muon, open to other choices of what is a matrix and to another step of Adam."""

    def is_matrix(self, path: str) -> bool:
        """Whether Muon trains the variable of that path; Adam trains the others."""
        raise NotImplementedError

    def update_matrix(self, path: str, variable, gradient, learning_rate, m) -> None:
        """A step of Muon; `m` is the variable's momentum."""
        raise NotImplementedError

    def update_by_adam(self, variable, gradient, learning_rate, m, v) -> None:
        """A step of Adam; `m` and `v` are the variable's averages."""
        raise NotImplementedError

    def orthogonalized(self, matrix: tf.Tensor) -> tf.Tensor:
        """The nearest semi-orthogonal matrix, by Keras's Newton-Schulz iteration."""
        return self.zeropower_via_newtonschulz5(matrix, self.ns_steps)

    def scaled(self, update: tf.Tensor) -> tf.Tensor:
        """A matrix's update with the size of AdamW's (Liu et al., 2025)."""
        return self.lr_adjust(update)

    def _should_use_adamw(self, variable) -> bool:
        return not self.is_matrix(variable.path)

    def _muon_update_step(self, gradient, variable, lr, m):
        # inside a replica `variable` is TensorFlow's, which does not know its path
        path = self._trainable_variables[self._get_variable_index(variable)].path
        self.update_matrix(path, variable, gradient, lr, m)

    def _adamw_update_step(self, gradient, variable, learning_rate, m, v):
        self.update_by_adam(variable, gradient, learning_rate, m, v)
