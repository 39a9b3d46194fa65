"""What this machine has: cores, memory, and a processor with which vector instructions.

The compiled functions use the widest that it has. `MINIGPT_KERNELS` names less, so that each choice
can be tested on one machine; "plain" runs the products of matrices in plain loops, the oracle of
the tests.
"""

import contextlib
import functools
import importlib.util
import os
import sys
from pathlib import Path

from .errors import ConfigError

_CONTROL_GROUPS, _OWN_CONTROL_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Processor cores that this process may use, at least 1.

    Returns:
        The cores of its affinity if the system has one, else the machine's; at most the whole
        cores of the container's quota. With more threads than that, all would wait for the one that
        has used up the quota.
    """
    quota = core_quota()
    return affinity_cores() if quota is None else max(1, min(affinity_cores(), int(quota)))


def limit_threads() -> None:
    """Limits the thread pools of NumPy and TensorFlow to a container's quota, which they ignore.

    Call it before they are imported. Variables that are set in the environment stay.
    """
    if usable_cores() < affinity_cores():
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
            os.environ.setdefault(name, str(usable_cores()))


def import_numpy_without_threads() -> None:
    """Imports NumPy so that its matrix products have one thread until `start_blas_threads`.

    OpenBLAS otherwise starts a thread for each further core as it is loaded, which then waits
    busily: a third of the processor's time that a short answer takes. Does nothing where NumPy is
    imported already, or has another library for matrix products than the one it is released with.
    """
    global _waiting_threads
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
    wanted = next((os.environ[name] for name in names if name in os.environ), "")
    wanted = wanted or str(usable_cores())
    if "numpy" in sys.modules or not wanted.isdigit() or _openblas() is None:
        return
    before = os.environ.get(names[0])
    os.environ[names[0]] = "1"
    import numpy  # noqa: F401

    _waiting_threads = int(wanted)
    if before is None:
        del os.environ[names[0]]
    else:
        os.environ[names[0]] = before


def start_blas_threads() -> None:
    """Starts the threads that `import_numpy_without_threads` has not started, if any."""
    global _waiting_threads
    if _waiting_threads is not None and (path := _openblas()) is not None:
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(str(path)).scipy_openblas_set_num_threads64_(_waiting_threads)
    _waiting_threads = None


_waiting_threads: int | None = None


def _openblas() -> Path | None:
    """The library for matrix products that NumPy is released with on Linux."""
    found = importlib.util.find_spec("numpy")
    folder = Path(found.origin).parents[1] / "numpy.libs" if found and found.origin else Path()
    return next(folder.glob("libscipy_openblas64_*"), None)


def affinity_cores() -> int:
    """Processor cores on which the system may run this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def core_quota() -> float | None:
    """The time of processor cores that a container gives to all its processes together.

    Returns:
        Cores, such as 1.5; None without a limit. The smallest of the control groups (version 2,
        `cpu.max`) that this process belongs to.
    """
    quotas = []
    for text in _control_group_values("cpu.max"):
        with contextlib.suppress(ValueError):  # "max 100000"
            quota, period = map(float, text.split())
            quotas.append(quota / period)
    return min(quotas, default=None)


def _control_group_values(name: str) -> list[str]:
    """What a file has in this process's control group and in those above it.

    Inside a container its own group is usually the highest that can be seen.
    """
    try:
        lines = _OWN_CONTROL_GROUP.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return []
    group = next((line[3:].strip("/") for line in lines if line.startswith("0::")), "")
    folder, values = _CONTROL_GROUPS / group, []
    for level in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            values.append((level / name).read_text(encoding="utf-8").strip())
        if level == _CONTROL_GROUPS:
            break
    return values


def memory_size() -> int | None:
    """Memory that this process may use: the machine's, the container's or the process's limit.

    Returns:
        Bytes; None if the system does not say.
    """
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    limits = [int(text) for text in _control_group_values("memory.max") if text.isdigit()]
    size = min([size, *limits])
    with contextlib.suppress(ImportError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        size = size if limit == resource.RLIM_INFINITY else min(size, limit)
    return size


def shown_size(size: float) -> str:
    """A size in memory for people, which is never shown as 0.

    Args:
        size: Bytes.

    Returns:
        GiB, or MiB if that is less than a tenth.

    Example:
        >>> shown_size(3 << 30), shown_size(5 << 20), shown_size(1)
        ('3.0 GiB', '5 MiB', '1 MiB')
    """
    if size >= 0.1 * 2**30:
        return f"{size / 2**30:,.1f} GiB"
    return f"{max(1, round(size / 2**20)):,} MiB"


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
            f"{what} need {shown_size(needed)}, this machine has {shown_size(size)}: {advice}"
        )


FEATURES = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx2")
"""Instructions of x86 processors that change speed."""


def processor_name() -> str:
    """The processor, for figures.

    Returns:
        Its name, how many of its cores this process may use, and features that change speed.
    """
    name, features = processor()
    shown = [feature for feature in features if feature not in ("avx2", "avx512_vnni")]
    return f"{name} ({', '.join([f'{usable_cores()} cores', *shown])})"


def processor() -> tuple[str, list[str]]:
    """The processor's name, and which of `FEATURES` it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        facts = dict(line.split(":", 1) for line in lines if ":" in line)
        facts = {name.strip(): value.strip() for name, value in facts.items()}
    except OSError:  # not Linux
        facts = {}
    import platform

    name = facts.get("model name") or platform.processor() or platform.machine()
    flags = facts.get("flags", "").split()
    return name, [feature for feature in FEATURES if feature in flags]


@functools.cache
def has_fast_bfloat16() -> bool:
    """Whether the processor has instructions for products in bfloat16."""
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(processor()[1])


# ---------------------------------------------------------------- kernels by processor

KERNELS_VARIABLE = "MINIGPT_KERNELS"
"""The environment's variable."""

_AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd")
_NEEDED = {
    "plain": (),
    "sse2": ("sse2",),
    "avx2": ("avx2", "fma", "f16c"),
    "avxvnni": ("avx2", "fma", "f16c", "avxvnni"),
    "avx512": ("avx2", "fma", "f16c", *_AVX512),
    "avx512vnni": ("avx2", "fma", "f16c", *_AVX512, "avx512vnni"),
    "neon": ("neon",),
}
"""By the choice's name, ascending on each kind of processor: what it needs, by LLVM's names."""


def host_features() -> dict[str, bool]:
    """What the processor has, by LLVM's names; or as much of it as Numba's own variables allow,
    since LLVM ends the process at an instruction that Numba's target lacks."""
    import llvmlite.binding

    features = dict(llvmlite.binding.get_host_cpu_features())
    generic = os.environ.get("NUMBA_CPU_NAME", "").lower() == "generic"
    allowed = os.environ.get("NUMBA_CPU_FEATURES", "" if generic else None)
    if allowed is None:
        return features
    words = {*allowed.split(","), "+sse2", "+neon"}  # every processor of 64 bits has its own
    return {name: on and f"+{name}" in words for name, on in features.items()}


@functools.cache
def chosen_kernels() -> str:
    """The kernels that are used: the best for the processor, or what MINIGPT_KERNELS names.

    Returns:
        A name of `_NEEDED`.

    Raises:
        ConfigError: The variable names something unknown, or what the processor lacks.
    """
    features = host_features()
    able = [name for name, needed in _NEEDED.items() if all(features.get(f) for f in needed)]
    wanted = os.environ.get(KERNELS_VARIABLE)
    if not wanted:
        return able[-1]
    if wanted not in able:
        known = "this processor has" if wanted in _NEEDED else "unknown: choose of"
        raise ConfigError(f"{KERNELS_VARIABLE}={wanted}: {known} {', '.join(able)}")
    return wanted


def describe_kernels(name: str) -> str:
    """A choice in a few words.

    Args:
        name: From `chosen_kernels`.

    Returns:
        The name, the bits of a vector and how int8 products are made.
    """
    bits = {"plain": "no", "avx512": "512-bit", "avx512vnni": "512-bit"}
    bits |= {"avx2": "256-bit", "avxvnni": "256-bit"}
    int8 = "VNNI" if name.endswith("vnni") else "16-bit products"
    int8 = "32-bit products" if name in ("plain", "sse2", "neon") else int8
    int8 = "dot products" if name == "neon" and host_features().get("dotprod") else int8
    chosen = f", as {KERNELS_VARIABLE} says" if os.environ.get(KERNELS_VARIABLE) else ""
    return f"{name} ({bits.get(name, '128-bit')} vectors, int8 by {int8}{chosen})"


def plain_loops() -> bool:
    """Whether products run in plain loops."""
    return os.environ.get(KERNELS_VARIABLE) == "plain"


@functools.cache
def used_features() -> dict[str, bool]:
    """The processor's features that compiled functions may use, by LLVM's names."""
    features = host_features()
    if not os.environ.get(KERNELS_VARIABLE):
        return features
    chosen = chosen_kernels()
    if chosen == "plain":  # it rounds as the best kernels do, by the same scalar instructions
        chosen = "neon" if features.get("neon") else "avx2"
    needed = _NEEDED[chosen]
    others = {feature for each in _NEEDED.values() for feature in each} - {"sse2", *needed}
    newer = ("avx512", "avx10", "amx", "avxvnni")
    return {
        name: on and name not in others and not (name.startswith(newer) and name not in needed)
        for name, on in features.items()
    }


def limit_numba() -> None:
    """Sets, before Numba is imported, which features it may use."""
    if os.environ.get(KERNELS_VARIABLE):
        words = [("+" if on else "-") + name for name, on in sorted(used_features().items())]
        os.environ["NUMBA_CPU_FEATURES"] = ",".join(words)
