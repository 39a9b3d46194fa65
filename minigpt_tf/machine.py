"""What this machine has: cores and memory."""

import contextlib
import os
import platform
from pathlib import Path

from .errors import ConfigError

_CONTROL_GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def usable_cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_size() -> int | None:
    """Bytes of memory that this process may use at most, None where that is not to be had."""
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
    """Raises ConfigError where `needed` bytes for `what` are more than this machine's memory."""
    size = memory_size()
    if size is not None and needed > size:
        raise ConfigError(
            f"{what} need {needed / 2**30:,.1f} GiB, this machine has {size / 2**30:,.1f} GiB: "
            f"{advice}"
        )


def processor_name() -> str:
    """The processor and how many of its cores this process may use, for figures."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        facts = dict(line.split(":", 1) for line in lines if ":" in line)
        facts = {name.strip(): value.strip() for name, value in facts.items()}
    except OSError:  # not Linux
        facts = {}
    name = facts.get("model name") or platform.processor() or platform.machine()
    features = [f for f in ("amx_bf16", "avx512_bf16", "avx512f") if f in facts.get("flags", "")]
    return f"{name} ({', '.join([f'{usable_cores()} cores', *features])})"
