"""Which vector instructions the compiled functions use, chosen once by the processor.

`MINIGPT_KERNELS` names less than the processor has, so that each choice can be tested on one
machine. "plain" runs the products of matrices in plain loops, the oracle of the tests.
"""

import functools
import os

from .errors import ConfigError

VARIABLE = "MINIGPT_KERNELS"
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
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return able[-1]
    if wanted not in able:
        known = "this processor has" if wanted in _NEEDED else "unknown: choose of"
        raise ConfigError(f"{VARIABLE}={wanted}: {known} {', '.join(able)}")
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
    chosen = f", as {VARIABLE} says" if os.environ.get(VARIABLE) else ""
    return f"{name} ({bits.get(name, '128-bit')} vectors, int8 by {int8}{chosen})"


def plain_loops() -> bool:
    """Whether products run in plain loops."""
    return os.environ.get(VARIABLE) == "plain"


@functools.cache
def used_features() -> dict[str, bool]:
    """The processor's features that compiled functions may use, by LLVM's names."""
    features = host_features()
    if not os.environ.get(VARIABLE):
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
    if os.environ.get(VARIABLE):
        words = [("+" if on else "-") + name for name, on in sorted(used_features().items())]
        os.environ["NUMBA_CPU_FEATURES"] = ",".join(words)
