"""What this machine has: cores and memory."""

import contextlib
import os
import platform
from pathlib import Path

from .errors import ConfigError

_CONTROL_GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def usable_cores() -> int:
    """Processor cores that this process may use.

    Returns:
        The cores of its affinity if the system has one, else the machine's.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_size() -> int | None:
    """Memory that this process may use: the machine's, the container's or the process's limit.

    Returns:
        Bytes; None if the system does not say.
    """
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    with contextlib.suppress(OSError, ValueError):  # not in a container, or one without a limit
        size = min(size, int(_CONTROL_GROUP_LIMIT.read_text()))
    with contextlib.suppress(ImportError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        size = size if limit == resource.RLIM_INFINITY else min(size, limit)
    return size


def check_fits_memory(needed: float, what: str, advice: str = "choose smaller sizes") -> None:
    """Checks that something fits into this machine's memory.

    Args:
        needed: Bytes.
        what: What they are for, in the plural, such as "the logits".
        advice: What to do instead.

    Raises:
        ConfigError: `needed` is more than `memory_size`.
    """
    size = memory_size()
    if size is not None and needed > size:
        raise ConfigError(
            f"{what} need {needed / 2**30:,.1f} GiB, this machine has {size / 2**30:,.1f} GiB: "
            f"{advice}"
        )


def processor_name() -> str:
    """The processor, for figures.

    Returns:
        Its name, how many of its cores this process may use, and features that change speed.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        facts = dict(line.split(":", 1) for line in lines if ":" in line)
        facts = {name.strip(): value.strip() for name, value in facts.items()}
    except OSError:  # not Linux
        facts = {}
    name = facts.get("model name") or platform.processor() or platform.machine()
    features = [f for f in ("amx_bf16", "avx512_bf16", "avx512f") if f in facts.get("flags", "")]
    return f"{name} ({', '.join([f'{usable_cores()} cores', *features])})"
