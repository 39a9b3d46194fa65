"""The workers that train together, as TF_CONFIG names them. Read before TensorFlow is imported."""

import json
import os
from dataclasses import dataclass
from typing import Any

from ..config import WorkersConfig
from ..errors import ConfigError

VARIABLE = "TF_CONFIG"
"""The environment variable in which TensorFlow looks for its cluster."""


@dataclass(frozen=True)
class Cluster:
    """The processes of a run."""

    workers: tuple[str, ...]
    """host:port of each; the first is the chief, which writes and speaks for all."""
    index: int
    """Which of them this process is."""

    def __post_init__(self) -> None:
        for address in self.workers:
            host, _, port = address.rpartition(":")
            if not (host and port.isdecimal() and 0 < int(port) < 2**16):
                raise ConfigError(f"worker {address!r}: expected host:port, such as 10.0.0.5:2222")
        if len(set(self.workers)) < len(self.workers):
            raise ConfigError(f"workers {', '.join(self.workers)}: one is named twice")
        if not 0 <= self.index < len(self.workers):
            raise ConfigError(
                f"worker index {self.index}: must be from 0 to {len(self.workers) - 1}, there are "
                f"{len(self.workers)} workers"
            )

    @property
    def is_chief(self) -> bool:
        return self.index == 0

    def name(self, index: int) -> str:
        """A worker as errors and notices call it."""
        return f"worker {index} ({self.workers[index]})"


def choose_cluster(config: WorkersConfig) -> Cluster | None:
    """The cluster of the options, which is put into TF_CONFIG; without them, TF_CONFIG's own.

    Args:
        config: The options --workers and --worker-index.

    Returns:
        The workers; None if this process trains alone.

    Raises:
        ConfigError: The options or TF_CONFIG do not name workers.
    """
    if config.workers is None or config.worker_index is None:  # they belong together
        return read_cluster()
    workers = [address.strip() for address in config.workers.split(",")]
    Cluster(tuple(workers), config.worker_index)
    task = {"type": "worker", "index": config.worker_index}
    os.environ[VARIABLE] = json.dumps({"cluster": {"worker": workers}, "task": task})
    return read_cluster()


def read_cluster() -> Cluster | None:
    """The cluster in TF_CONFIG.

    Returns:
        The workers; None without TF_CONFIG, or if this process is the only one.

    Raises:
        ConfigError: TF_CONFIG is not what TensorFlow expects.
    """
    text = os.environ.get(VARIABLE, "")
    if not text.strip():
        return None
    try:
        cluster = _parse(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{VARIABLE}: is not JSON ({error}): correct it, or unset it") from None
    except ConfigError as error:
        raise ConfigError(f"{VARIABLE}: {error}") from None
    return cluster if len(cluster.workers) > 1 else None


def _parse(settings: Any) -> Cluster:
    """{"cluster": {"worker": [...]}, "task": {"type": "worker", "index": 0}} as a Cluster.

    TensorFlow also knows a job named chief of one worker, which comes before the others.
    """
    jobs = settings.get("cluster") if isinstance(settings, dict) else None
    if not isinstance(jobs, dict) or not jobs:
        raise ConfigError('has no list of workers: expected {"cluster": {"worker": [...]}, ...}')
    for job, addresses in jobs.items():
        if job not in ("chief", "worker"):
            raise ConfigError(f"unsupported job {job!r}: name workers only")
        if not isinstance(addresses, list) or not all(isinstance(a, str) for a in addresses):
            raise ConfigError(f"cluster.{job}={addresses!r:.40}: expected a list of host:port")
    chiefs, workers = jobs.get("chief", []), jobs.get("worker", [])
    if len(chiefs) > 1 or not chiefs + workers:
        raise ConfigError("has no list of workers, or more than one chief")
    task = settings.get("task")
    kind, index = (task.get("type"), task.get("index")) if isinstance(task, dict) else (None, None)
    if kind not in jobs or type(index) is not int or not 0 <= index < len(jobs[kind]):
        raise ConfigError(
            f"task={task!r:.60}: expected a type ({' or '.join(jobs)}) and the index of one of its "
            "workers"
        )
    return Cluster(tuple(chiefs + workers), index + (len(chiefs) if kind == "worker" else 0))
