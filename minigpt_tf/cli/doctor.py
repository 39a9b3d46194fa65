"""The verb `doctor`: what this machine has for training and generating, and what to mend."""

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import __version__
from ..config import CONFIG_NAME, MODELS_DIRECTORY
from ..console import table_lines, terminal_width
from ..errors import ConfigError, ModelFolderError
from ..machine import (
    affinity_cores,
    chosen_kernels,
    core_quota,
    describe_kernels,
    memory_size,
    processor,
    usable_cores,
)
from ..storage.cache import cache_folder
from ..storage.manifest import check_file, files_of
from ..storage.model_folder import newest_folder, read_description
from ..storage.paths import real_path

DESCRIPTION = (
    "Show what minigpt finds on this machine: versions, processor, cores, memory, device and "
    "folders, each with what to do where something is amiss. The exit status is then 1."
)
LIBRARIES = ("tensorflow", "keras", "numpy", "numba", "h5py", "tokenizers")
BOUNDED = ("tensorflow", "keras", "numba")
"""Libraries whose newer versions have not been tried (`setup.cfg`)."""
LITTLE_MEMORY, LITTLE_DISK = 4 * 2**30, 2**30
GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    found: str
    remedy: str = ""
    """What to do; empty if nothing is amiss."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb.

    Args:
        parser: The verb's; options are added to it.
    """
    parser.add_argument(
        "--warm-up",
        action="store_true",
        help="compile the engine now, so that no answer waits for it: for a container's image",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help="also read every file of a model folder, and compare it with its hash in config.json",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Prints the report.

    Args:
        arguments: The options that were given, parsed.

    Returns:
        The exit status: 1 if there is something to mend.
    """
    if arguments.warm_up:
        from ..inference.precompiled import compile_ahead

        compiled = list(compile_ahead())
        if not arguments.json:
            print(f"compiled for {'; '.join(compiled)}")
    findings = [
        *_versions(),
        *_processor(),
        *_memory(),
        _device(),
        *_folders(),
        *(_files(arguments.model) if arguments.model else ()),
    ]
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        rows = [(finding.what, finding.found) for finding in findings]
        print("\n".join(table_lines(rows, width=terminal_width(sys.stdout), left=2)))
        for finding in findings:
            if finding.remedy:
                print(f"mend: {finding.what}: {finding.remedy}")
    return int(any(finding.remedy for finding in findings))


def _versions() -> Iterator[Finding]:
    system = f"{platform.system()} {platform.machine()}"
    yield Finding("minigpt_tf", f"{__version__}, Python {platform.python_version()}, {system}")
    found, wrong = [], []
    for library in LIBRARIES:
        try:
            version = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{library} is not installed")
            continue
        found.append(f"{library} {version}")
        if library in BOUNDED and not _is_tried(library, version):
            wrong.append(f"{library} {version} is outside the versions that were tested")
    remedy = f"{'; '.join(wrong)}: `pip install -U minigpt_tf`, or `pip install -e .` in a clone"
    yield Finding("libraries", ", ".join(found), remedy if wrong else "")


def _is_tried(library: str, version: str) -> bool:
    """Whether the version lies within the bounds of the installed package, as far as known."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires("minigpt_tf") or []
    except importlib.metadata.PackageNotFoundError:  # a clone that is not installed
        return True
    required = [Requirement(line) for line in lines]
    return all(r.specifier.contains(version) for r in required if r.name == library)


def _processor() -> Iterator[Finding]:
    name, features = processor()
    yield Finding("processor", " ".join([name, f"({', '.join(features)})" if features else ""]))
    try:
        yield Finding("kernels", describe_kernels(chosen_kernels()))
    except ConfigError as error:
        yield Finding("kernels", "none", str(error))
    quota = core_quota()
    limits = [f"{os.cpu_count()} in the machine", f"{affinity_cores()} by affinity"]
    limits.append("no quota" if quota is None else f"a quota of {quota:g}")
    remedy = "less than one core: raise the container's limit" if quota and quota < 1 else ""
    yield Finding("cores", f"{usable_cores()} ({', '.join(limits)})", remedy)


def _memory() -> Iterator[Finding]:
    size = memory_size()
    if size is None:
        return
    remedy = "choose small models, or raise the container's limit" if size < LITTLE_MEMORY else ""
    yield Finding("memory", f"{size / GIB:.1f} GiB", remedy)


def _device() -> Finding:
    """A GPU, found without importing TensorFlow."""
    cards = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    if not cards:
        return Finding("device", "no NVIDIA GPU: training uses the processor")
    models = [
        line.split(":", 1)[1].strip()
        for card in cards
        for line in card.read_text(errors="replace").splitlines()
        if line.startswith("Model:")
    ]
    try:
        importlib.metadata.version("nvidia-cudnn-cu12")
    except importlib.metadata.PackageNotFoundError:
        remedy = "TensorFlow lacks CUDA's libraries: pip install 'tensorflow[and-cuda]'"
        return Finding("device", ", ".join(models), remedy)
    return Finding("device", ", ".join(models))


def _machine_code() -> Finding:
    """Raises ConfigError for the kernels that `_processor` reports."""
    from ..compiled import SUFFIX
    from ..inference.precompiled import machine_code_folder

    code = machine_code_folder()
    if code is None:
        remedy = "run `minigpt doctor --warm-up` where the package's folder can be written"
        return Finding("machine code", "cannot be kept: each start compiles the engine", remedy)
    compiled = len(list(code.glob(f"*{SUFFIX}"))) if code.is_dir() else 0
    return Finding("machine code", f"{code} ({compiled} functions compiled)")


def _folders() -> Iterator[Finding]:
    with contextlib.suppress(ConfigError):
        yield _machine_code()
    cache = cache_folder()
    files = [path for path in cache.rglob("*") if path.is_file()] if cache.is_dir() else []
    size = sum(path.stat().st_size for path in files)
    writable = os.access(_existing(cache), os.W_OK)
    remedy = "" if writable else f"make {_existing(cache)} writable, or set XDG_CACHE_HOME"
    yield Finding("cache", f"{cache} ({size / GIB:.2f} GiB)", remedy)
    models = Path(MODELS_DIRECTORY)
    free = shutil.disk_usage(_existing(real_path(models))).free
    newest = newest_folder() if any(models.glob("*/config.json")) else "no model yet"
    remedy = "free space: a model and its checkpoint may not fit" if free < LITTLE_DISK else ""
    yield Finding("models", f"{models}/: {newest}; {free / GIB:.1f} GiB free", remedy)


def _files(folder: Path) -> Iterator[Finding]:
    """The files of a model, compared as a whole with what its config.json says of them."""
    files = files_of(read_description(folder), str(folder / CONFIG_NAME))
    if files is None:
        yield Finding(str(folder), "of an earlier version, which noted no hashes of its files")
    for name in files or ():
        if not (folder / name).exists():
            yield Finding(name, "missing", f"put it back into {folder}, or write the model anew")
            continue
        try:
            check_file(folder / name, files, whole=True)
        except ModelFolderError as error:
            yield Finding(name, "other content than was written", str(error))
        else:
            yield Finding(name, "as it was written")


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(level for level in (path, *path.parents) if level.exists())
