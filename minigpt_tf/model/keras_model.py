"""The class of every model here: Keras's Functional, which refuses common mistakes."""

import inspect
import math
import re
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..errors import ConfigError, DataError
from .layers import register

LOGITS, PROBABILITIES, LOGITS_SOFTCAP = "logits", "probabilities", "logits_softcap"
"""Names of the layers that a model ends in: `probabilities` is the softmax of `logits`."""

_OUTSIDE = re.compile(
    r"= (?P<id>-?\d+) is not in \[0, |label value of (?P<label>-?\d+) which is outside|"
    r"assertion failed: \[.?(?P<name>[xy]).?\] \[(?P<found>-?\d+)\]"
)
"""TensorFlow's words for an id beyond an embedding, and beyond the logits; and our own."""


@register
class Model(keras.Model):
    """A GPT, as `build_gpt_model` returns it: a Functional model whose `compile` checks the loss,
    whose `fit` checks the ids, and whose optimizer state is in every file that Keras writes.

    The class is called `Model` since files contain its name, and Netron draws only that as a graph.
    """

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Model":
        """As Keras's, with what was frozen: layers that a frozen layer makes for itself, as those
        of an attention, begin unfrozen in Keras (3.15).

        Args:
            config: Of `get_config`.
            custom_objects: As Keras's.

        Returns:
            The model.
        """
        model = super().from_config(config, custom_objects)
        waiting = list(getattr(model, "layers", ()))
        while waiting:
            layer = waiting.pop()
            if not layer.trainable:
                for weight in layer.weights:
                    weight.trainable = False
            else:
                waiting += getattr(layer, "layers", ())
        return model

    @property
    def ends_in_softmax(self) -> bool:
        """Whether the model gives probabilities (B, T, V) instead of logits."""
        last = self.layers[-1]
        softmax = getattr(last, "activation", None) is keras.activations.softmax
        return softmax or isinstance(last, keras.layers.Softmax)

    def compile(
        self, optimizer: Any = "rmsprop", loss: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        """As `keras.Model.compile`.

        Args:
            optimizer: As Keras's.
            loss: As Keras's, for what the model ends in: logits or probabilities.
            args: The other arguments of Keras's.
            kwargs: The same.

        Raises:
            ConfigError: The loss, or a metric, expects logits and the model gives probabilities, or
                the other way round.
        """
        super().compile(optimizer, loss, *args, **kwargs)
        metrics = kwargs.get("metrics", args[1] if len(args) > 1 else None)
        for argument, functions in (("loss", loss), ("metrics", metrics)):
            for function in _flat(functions):
                self._check_head(function, argument)
        if self.optimizer is not None and not self.optimizer.built:
            # Keras loads the state of an optimizer from .h5 only into one that has variables.
            self.optimizer.build(self.trainable_variables)

    def _check_head(self, function: Any, argument: str) -> None:
        """Raises ConfigError if a loss or metric does not fit what the model ends in."""
        wants_logits = expects_logits(function, argument)
        if wants_logits is None or wants_logits != self.ends_in_softmax:
            return
        name = function if isinstance(function, str) else None
        name = name or getattr(function, "name", None) or getattr(function, "__name__", "function")
        kind = {"loss": "losses.Sparse", "metrics": "metrics.Sparse"}[argument]
        if wants_logits:
            raise ConfigError(
                f"the model ends in a softmax, but {argument}={name!r} expects logits: compile it "
                f'with {argument}="sparse_categorical_crossentropy" (from_logits=False)'
            )
        raise ConfigError(
            f"the model ends in logits, but {argument}={name!r} expects probabilities: compile it "
            f"with {argument}=keras.{kind}CategoricalCrossentropy(from_logits=True)"
        )

    def get_compile_config(self) -> dict[str, Any]:
        """What a .keras file keeps of `compile`. Keras (3.15) drops the optimizer from it when
        it saves an .h5 file."""
        config = super().get_compile_config()
        if self.compiled and config is not None:
            config["optimizer"] = keras.saving.serialize_keras_object(self.optimizer)
        return config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles as `get_compile_config` says: Keras leaves that to classes with a `compile`."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any):
        """As `keras.Model.fit`.

        Args:
            x: Windows of ids (N, T), or a data set of them.
            y: Targets (N, T); a data set has its own.
            args: The other arguments of Keras's.
            kwargs: The same.

        Returns:
            Keras's History.

        Raises:
            DataError: An id is outside the vocabulary, or a window is longer than the context.
        """
        self._check_ids(x, "x")
        self._check_targets(y)
        return self._named_ids(super().fit, self._watched(x), y, *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any):
        """As `keras.Model.evaluate`.

        Args:
            x: Windows of ids (N, T), or a data set of them.
            y: Targets (N, T); a data set has its own.
            args: The other arguments of Keras's.
            kwargs: The same.

        Returns:
            What Keras's returns.

        Raises:
            DataError: An id is outside the vocabulary, or a window is longer than the context.
        """
        self._check_ids(x, "x")
        self._check_targets(y)
        return self._named_ids(super().evaluate, x, y, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any):
        """As `keras.Model.predict`.

        Args:
            x: Windows of ids (N, T), or a data set of them.
            args: The other arguments of Keras's.
            kwargs: The same.

        Returns:
            (N, T, V): logits or probabilities.

        Raises:
            DataError: An id is outside the vocabulary, or a window is longer than the context.
        """
        self._check_ids(x, "x")
        return self._named_ids(super().predict, x, *args, **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any):
        """As `keras.Model.train_on_batch`.

        Args:
            x: Windows of ids (N, T).
            y: Targets (N, T).
            args: The other arguments of Keras's.
            kwargs: The same.

        Returns:
            What Keras's returns.

        Raises:
            DataError: An id is outside the vocabulary, or a window is longer than the context.
        """
        self._check_ids(x, "x")
        self._check_targets(y)
        return self._named_ids(super().train_on_batch, x, y, *args, **kwargs)

    @property
    def vocab_size(self) -> int:
        """Number of ids that the model knows: 0 to `vocab_size - 1`."""
        return self.output_shape[-1]

    @property
    def context_length(self) -> int | None:
        """Tokens of the longest sequence; None if no layer bounds it."""
        inside = (
            layer for outer in self.layers for layer in (outer, *getattr(outer, "layers", ()))
        )
        lengths = (getattr(layer, "context_length", None) for layer in inside)
        return min((length for length in lengths if length is not None), default=None)

    def _check_ids(self, ids: Any, name: str) -> None:
        """Raises DataError if an array (N, T) of ids does not fit the model."""
        array = _as_array(ids, name)
        if array is not None:
            self._check_windows(array, name)
            self._check_range(array, name)

    def _check_targets(self, y: Any) -> None:
        """The same for targets: ids (N, T) or (N, T, 1), or a row (N, T, V) for each."""
        array = _as_array(y, "y")
        if array is None:
            return
        if array.ndim == 3 and array.shape[-1] == self.vocab_size > 1:
            return self._check_windows(array[..., 0], "y")
        if array.ndim == 3 and array.shape[-1] == 1:
            array = array[..., 0]
        self._check_windows(array, "y")
        losses = list(_flat(getattr(self, "loss", None)))
        if all(isinstance(loss, str) or _is_of_keras(loss) for loss in losses):
            # a loss of one's own may have targets of its own, such as -100 for "does not count"
            ignored = [getattr(loss, "ignore_class", None) for loss in losses]
            self._check_range(array[~np.isin(array, [i for i in ignored if i is not None])], "y")

    def _watched(self, data: Any) -> Any:
        """A data set whose ids are checked as they come, since XLA and GPUs take any id; all else
        as it is."""
        if not isinstance(data, tf.data.Dataset) or not isinstance(data.element_spec, tuple):
            return data
        names = ("x", "y") if self._targets_are_ids() else ("x",)

        def check(*batch: Any) -> Any:
            """The batch, once its ids are known to be the model's."""
            wrong = []
            for name, ids in zip(names, batch, strict=False):
                if tf.is_tensor(ids) and ids.dtype.is_integer:
                    ids = tf.cast(ids, tf.int64)
                    outside = tf.boolean_mask(ids, (ids < 0) | (ids >= self.vocab_size))
                    wrong.append(tf.debugging.Assert(tf.size(outside) == 0, [name, outside[:1]]))
            with tf.control_dependencies(wrong):
                return tf.nest.map_structure(tf.identity, batch)

        return data.map(check)

    def _targets_are_ids(self) -> bool:
        """Whether every target must be an id: a loss of one's own may have others, such as -100."""
        losses = list(_flat(getattr(self, "loss", None)))
        ignored = [getattr(loss, "ignore_class", None) for loss in losses]
        known = all(isinstance(loss, str) or _is_of_keras(loss) for loss in losses)
        return known and all(number is None for number in ignored)

    def _check_windows(self, ids: np.ndarray, name: str) -> None:
        """Raises DataError if ids are not windows (N, T) with T up to the context."""
        if ids.ndim != 2:
            raise DataError(
                f"{name} has the shape {ids.shape}: expected windows of ids (N, T), as "
                "create_dataset makes them"
            )
        context = self.context_length
        if context is not None and ids.shape[1] > context:
            raise DataError(
                f"{name} has windows of {ids.shape[1]} tokens, and the model's context is "
                f"{context}: make shorter ones, or build the model with "
                f"context_length={ids.shape[1]}"
            )

    def _check_range(self, ids: np.ndarray, name: str) -> None:
        """Raises DataError if an id is outside the vocabulary."""
        if not ids.size:
            return
        lowest, highest = ids.min(), ids.max()
        if not 0 <= lowest <= highest < self.vocab_size:  # NaN too
            raise self._outside(name, highest if lowest >= 0 else lowest)

    def _outside(self, name: str, token_id: Any) -> DataError:
        return DataError(
            f"{name} has the id {token_id}, and the model knows 0 to {self.vocab_size - 1}: build "
            "it with the vocab_size of the tokenizer"
        )

    def _named_ids(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls Keras; TensorFlow's error for an id in a data set becomes a DataError."""
        try:
            return function(*args, **kwargs)
        except tf.errors.InvalidArgumentError as error:
            found = _OUTSIDE.search(str(error))
            if found is None:
                raise
            name = found["name"] or ("x" if found["id"] else "y")
            token_id = found["found"] or found["id"] or found["label"]
            raise self._outside(name, token_id) from None


keras.saving.get_custom_objects()["Model"] = Model  # an .h5 file contains the bare name of a class


def _as_array(ids: Any, name: str) -> np.ndarray | None:
    """Ids as an array; None for what only Keras can judge, such as a data set. Raises DataError."""
    if isinstance(ids, tf.RaggedTensor):
        raise _no_array(name)
    if not isinstance(ids, (list, tuple, np.ndarray, tf.Tensor)) or not len(ids):
        return None
    try:
        array = np.asarray(ids)
    except ValueError:  # lists of different lengths
        raise _no_array(name) from None
    if array.dtype.kind not in "biuf":
        raise _no_array(name)
    return array


def _no_array(name: str) -> DataError:
    return DataError(
        f"{name} is not an array of numbers with rows of one length: expected windows of ids "
        "(N, T), as create_dataset makes them"
    )


def _is_of_keras(loss: Any) -> bool:
    """Whether a loss is one of Keras's own."""
    home = getattr(loss, "__module__", None) or ""
    return home.split(".")[0] in ("keras", "tensorflow")


def _flat(functions: Any) -> Iterable[Any]:
    """The losses or metrics in what `compile` was given: one, or lists and dicts of them."""
    if isinstance(functions, dict):
        functions = list(functions.values())
    if isinstance(functions, (list, tuple)):
        for item in functions:
            yield from _flat(item)
    elif functions is not None:
        yield functions


def expects_logits(function: Any, argument: str = "loss") -> bool | None:
    """Whether a loss or metric expects logits (True), probabilities (False), or neither (None).

    Its `from_logits` decides. A loss without it is tried on one token. A cross-entropy of logits
    does not change if all logits grow by the same amount. One of probabilities does not change if
    all are halved, or it grows by log 2 if it does not scale their sum to 1.

    Args:
        function: A name, a function or an object, as `compile` takes it.
        argument: What a name means: "loss" or "metrics".

    Returns:
        True, False or None.

    Example:
        >>> from minigpt_tf.model.keras_model import expects_logits
        >>> expects_logits("sparse_categorical_crossentropy")
        False
    """
    try:
        if argument == "metrics":
            if isinstance(function, str) and ("crossentropy" in function or function == "ce"):
                return None if function.startswith("binary") else False
            return _from_logits(keras.metrics.get(function))
        loss = keras.losses.get(function)
        said = _from_logits(loss)
        return _tried(loss) if said is None else said
    except Exception:  # a loss of the user's own may refuse what is tried here
        return None


def _from_logits(function: Any) -> bool | None:
    """What a loss or metric says itself: by its configuration, or by its argument's default."""
    if hasattr(function, "get_config"):
        said = function.get_config().get("from_logits")
    else:
        argument = inspect.signature(function).parameters.get("from_logits")
        said = argument.default if argument else None
    return said if isinstance(said, bool) else None


def _tried(loss: Any) -> bool | None:
    for target in ([[1]], [[[0.0, 1.0, 0.0]]]):  # an id, or its one-hot vector
        found = _value(loss, target, _PROBABILITIES)
        if found is None:
            continue
        shifted = _value(loss, target, _PROBABILITIES + 1)
        halved = _value(loss, target, _HALVED)
        if shifted is None or halved is None:
            continue
        of_logits = np.isclose(found, shifted, rtol=1e-4)
        of_probabilities = np.isclose(halved - found, [0, math.log(2)], atol=1e-4).any()
        if of_logits != of_probabilities:
            return bool(of_logits)
    return None


_PROBABILITIES = np.array([[[0.2, 0.3, 0.5]]], np.float32)  # (B, T, V) = (1, 1, 3)
_HALVED = _PROBABILITIES / 2


def _value(loss: Any, target: list, prediction: np.ndarray) -> float | None:
    """The mean loss of one prediction; None if the loss does not take such a target."""
    try:
        value = loss(tf.constant(target), tf.constant(prediction))
        return float(np.mean(keras.ops.convert_to_numpy(value)))
    except (ValueError, TypeError, tf.errors.InvalidArgumentError):
        return None
