"""Where a run is computed: on one device, on several, or by several workers (tf.distribute)."""

import contextlib
import functools
import hashlib
import re
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

import keras
import numpy as np
import tensorflow as tf

from ..config import TrainingConfig
from ..config.settings import to_dict
from ..errors import ConfigError, TrainingError
from ..model.tensorflow_internals import first_result
from .cluster import Cluster, read_cluster
from .plan import Plan


class WorkerLostError(TrainingError):
    """Another worker has ended, or cannot be reached."""


class Distribution:
    """A strategy, and what all workers of a run have to agree on.

    Every worker makes the same calls in the same order; each of `agree`, `from_chief` and `spread`
    waits for all of them. For a process alone they return what they are given.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy | None = None, cluster: Cluster | None = None
    ) -> None:
        """
        Args:
            strategy: How TensorFlow distributes the steps (unset: its default, one device).
            cluster: The workers, if there are several.
        """
        self.strategy = strategy or tf.distribute.get_strategy()
        self.cluster = cluster
        self.is_chief = cluster is None or cluster.is_chief
        self._sum = tf.function(self._sum_over_workers, autograph=False, reduce_retracing=True)

    def scope(self) -> AbstractContextManager:
        """The context in which variables, optimizer and step of a run are made and used."""
        if self.strategy is tf.distribute.get_strategy():
            return contextlib.nullcontext()
        return self.strategy.scope()

    def check_batch(self, training: TrainingConfig) -> None:
        """Checks that every device gets equally many windows of a batch.

        Args:
            training: Its batch size and gradient accumulation.

        Raises:
            ConfigError: The batch does not divide among the devices.
        """
        replicas = self.strategy.num_replicas_in_sync
        if training.batch_size % (replicas * training.accumulate):
            each = f" of {training.accumulate} microbatches" if training.accumulate > 1 else ""
            raise ConfigError(
                f"batch_size={training.batch_size} does not divide among {replicas} devices{each}:"
                f" choose a multiple of {replicas * training.accumulate}"
            )

    def check_same_plan(self, plan: Plan) -> None:
        """Checks that all workers have the chief's plan.

        Args:
            plan: This worker's.

        Raises:
            ConfigError: One has another plan; raised on every worker.
        """
        settings = [to_dict(config) for config in (plan.model, plan.data, plan.training)]
        text = repr((settings, plan.corpus.fingerprint))
        mine = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.int32)
        (differs,) = self.agree(not np.array_equal(mine, self.from_chief(mine)))
        if differs:
            raise ConfigError(
                "the workers do not all have the same text and settings: give each the same --data "
                "and the same options, except --worker-index"
            )

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """Combines flags over the workers.

        Args:
            flags: This worker's.

        Returns:
            For each flag, whether it is set on any worker.
        """
        if self.cluster is None:
            return flags
        return tuple(bool(total) for total in self._sum(tf.constant(flags, tf.float32)).numpy())

    def from_chief(self, values: np.ndarray) -> np.ndarray:
        """Hands the chief's values to all workers.

        Args:
            values: The chief's; elsewhere an array of the same shape and dtype.

        Returns:
            The chief's values.
        """
        if self.cluster is None:
            return values
        values = values if self.is_chief else np.zeros_like(values)
        return self._sum(tf.constant(values.ravel())).numpy().reshape(values.shape)

    def spread(self, variables: Iterable[keras.Variable]) -> None:
        """Assigns the chief's values to the variables of all workers.

        Args:
            variables: In the same order on every worker.
        """
        if self.cluster is None:
            return
        for variable in variables:
            variable.assign(self.from_chief(np.array(variable)))

    def _sum_over_workers(self, values: tf.Tensor) -> tf.Tensor:
        def add(values):
            """The sum over all replicas."""
            replica = tf.distribute.get_replica_context()
            workers = len(self.cluster.workers) if self.cluster else 1
            local = self.strategy.num_replicas_in_sync // workers
            first = replica.replica_id_in_sync_group % local == 0  # a worker counts once
            values = tf.where(first, values, tf.zeros_like(values))
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, values)

        return first_result(self.strategy, self.strategy.run(add, (values,)))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """A context in which the end of another worker becomes a WorkerLostError.

        TensorFlow notices at once that a process has ended, and within ten seconds that a machine
        does not answer.

        Raises:
            WorkerLostError: Another worker has ended; the message says what to do.
        """
        try:
            yield
        except (
            tf.errors.UnavailableError,
            tf.errors.DeadlineExceededError,
            tf.errors.AbortedError,
            tf.errors.CancelledError,
            tf.errors.FailedPreconditionError,
        ) as error:
            if self.cluster is None:
                raise
            raise WorkerLostError(
                f"{_lost_worker(self.cluster, error.message)} has ended or cannot be reached: see "
                "its last message, then start all workers again (--resume continues from the last "
                "checkpoint)"
            ) from None


def _lost_worker(cluster: Cluster, message: str) -> str:
    """The worker that TensorFlow's error is about, as far as it names one."""
    named = {int(index) for index in re.findall(r"/task:(\d+)", message)} - {cluster.index}
    if "CoordinationService/Heartbeat" in message:  # what the chief answers
        named = {0}
    if len(named) == 1 or len(cluster.workers) == 2:
        return cluster.name(named.pop() if len(named) == 1 else 1 - cluster.index)
    return "another worker"


def connect() -> Distribution:
    """The distribution for this process: the workers of TF_CONFIG, all GPUs, or one device.

    Waits until all workers are there. With other workers, call it before TensorFlow's
    first operation.

    Returns:
        The distribution, ready for use.

    Raises:
        ConfigError: TF_CONFIG is wrong, or the workers cannot be joined.
    """
    cluster = read_cluster()
    if cluster is not None:
        return Distribution(_join(cluster), cluster)
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return Distribution(tf.distribute.MirroredStrategy())
    return Distribution()


@functools.cache
def _join(cluster: Cluster) -> tf.distribute.Strategy:
    """The strategy over all workers; a process can join once."""
    me = cluster.name(cluster.index)
    with _killed_by_ctrl_c():
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except tf.errors.OpError as error:
            reason = error.message.splitlines()[0]
            raise ConfigError(
                f"{me} cannot join the others ({reason}): see that every worker runs, that no "
                "other process uses the port, and that the hosts reach each other"
            ) from None
        except RuntimeError as error:
            raise ConfigError(
                f"{me} cannot join the others ({error}): train before anything else is done with "
                "TensorFlow in this process"
            ) from None


@contextmanager
def _killed_by_ctrl_c() -> Iterator[None]:
    """Lets Ctrl-C end the process: while TensorFlow waits for the others, Python gets no signals.

    Nothing has been computed by then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
