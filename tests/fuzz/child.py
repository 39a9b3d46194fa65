"""One case in a forked child: with limits, watched, its outcome judged from outside.

The worker has imported what the commands need; a child is there in milliseconds. What a command
would do after all its input was read (train, write a model by Keras) is left out.
"""

import contextlib
import importlib
import os
import re
import resource
import shutil
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import minigpt_tf
from minigpt_tf.interop.source import check_source
from tests.fuzz.kinds import CANARY, SECRET, Case

SECONDS = 20
"""Of the processor: more is a hang."""

LONGEST = 75
"""Seconds by the clock: on a busy machine a command waits for the processor."""

MOST_MEMORY = 1500 << 20
"""Bytes above those of the worker: more is an allocation that was not bounded."""

ROOM = 3 << 30
"""Bytes of address space above the worker's: a child gets no more."""

EXPECTED = {0, 2, 130}
"""Exit statuses; doctor has 1 where something is to be mended."""


@dataclass
class Outcome:
    """How a case ended."""

    fault: str
    """"": as it should; else "traceback", "hang", "memory", "code", "signal", "status", "words"."""
    detail: str
    status: int
    seconds: float
    mebibytes: int


class _Left(SystemExit):
    """All that is to be tried has been done."""


def prepare() -> None:
    """Imports what commands need, and leaves out what follows their input. Once in a worker."""
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg"}
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    for name, what in (("training", "train"), ("finetuning", "finetune")):
        stub = types.ModuleType(f"minigpt_tf.{name}.trainer")
        setattr(stub, what, _left)
        sys.modules[stub.__name__] = stub
    from minigpt_tf.__main__ import VERBS

    for module, _ in VERBS.values():
        importlib.import_module(module)
    for name in ("inference.generate", "classification.classifier", "evaluation.measurement"):
        importlib.import_module(f"minigpt_tf.{name}")
    for name in ("h5py", "openpyxl", "docx", "pypdf", "huggingface_hub", "netron", "matplotlib"):
        importlib.import_module(name)
    import minigpt_tf.cli.import_ as importing
    import minigpt_tf.cli.page as page
    import minigpt_tf.cli.view as view

    importing.check_source = _read_tensors
    view.netron.serve = page._process = _left
    with contextlib.suppress(ImportError):  # without its extra it says so, and ends
        importlib.import_module("minigpt_tf.serving.running").Server.run = _left
    sys.addaudithook(_audit)


def _left(*arguments: Any, **options: Any) -> None:
    raise _Left(0)


def _read_tensors(source: Any) -> None:
    """Reads what writing a model folder would, without Keras."""
    check_source(source)
    for tensor in source.tensors.values():
        tensor.read()
    _left()


# ---------------------------------------------------------------- what only foreign code would do

_watched: Callable[[str, tuple], None] | None = None

PROCESSES = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn", "os.startfile"}
CHANGES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"}
CHANGES |= {"os.chmod", "os.chown", "shutil.rmtree", "shutil.move"}
NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
OWN_PROCESSES = (
    "query_process.py",
    "from minigpt_tf.storage.hdf5_look import look",
    "ldconfig",
    "gcc",
    "uname",
)
DEVICES = (
    "/dev/null",
    "/dev/full",
    "/dev/zero",
    "/proc/self/",
    "/dev/fd/",
    "/dev/pts/",
    "/dev/tty",
)


def _audit(event: str, arguments: tuple) -> None:
    if _watched is not None:
        _watched(event, arguments)


def _watch(case: Case, seeds: Path, allowed: list[Path], note: Callable[[str], None]) -> None:
    """Notes what a command must not do, and keeps the seeds as they are."""
    global _watched
    roots = tuple(os.path.realpath(path) + os.sep for path in allowed)
    roots += (os.path.dirname(minigpt_tf.__file__) + os.sep,)  # machine code, in __pycache__
    secret, kept = str(seeds / SECRET), os.path.realpath(seeds) + os.sep

    def judge(path: Any, event: str) -> None:
        if isinstance(path, int) or path is None:
            return
        text = os.path.abspath(os.fsdecode(path))
        if text.endswith(CANARY):
            note(f"{event} {text}")
        if text.startswith(kept):
            raise PermissionError(13, "Permission denied", text)
        if not (text + os.sep).startswith(roots) and not text.startswith(DEVICES):
            note(f"{event} {text}")

    def watch(event: str, arguments: tuple) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = bool(set(mode or "") & set("wax+")) or bool((flags or 0) & WRITING)
            if writes:
                judge(path, "writes")
            elif isinstance(path, str) and path == secret:
                note(f"reads {path}")
        elif event in CHANGES:
            for path in arguments[: 2 if event in ("os.rename", "os.link") else 1]:
                judge(path, event)
        elif event == "subprocess.Popen":
            words = " ".join(map(str, arguments[1] or ()))
            if not any(own in words for own in OWN_PROCESSES):
                note(f"starts {words[:200]}")
        elif event in PROCESSES or (event in NETWORK and case.kind != "command lines"):
            note(f"{event} {arguments!r:.200}")

    _watched = watch


# ---------------------------------------------------------------- the child


def run_case(case: Case, seeds: Path, cache: Path) -> Outcome:
    """Runs a case in a child and judges it.

    Args:
        case: From `make_case`, its files written.
        seeds: The folder of the sound files.
        cache: Where the package may keep things.

    Returns:
        The outcome.
    """
    sys.stdout.flush()
    before = _resident()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        status = 71
        try:
            status = _run(case, seeds, cache)
        except BaseException:
            with (case.folder / "stderr").open("a") as file:
                file.write(traceback.format_exc())
        finally:
            os._exit(status)
    status, usage, late = _wait(child, began)
    seconds = time.monotonic() - began
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it may have started
    mebibytes = max(0, usage.ru_maxrss * 1024 - before) >> 20
    fault, detail = _judge(case, status, late, mebibytes, seeds)
    return Outcome(fault, detail, status, seconds, mebibytes)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _wait(child: int, began: float) -> tuple[int, Any, bool]:
    """Status, resources, and whether it was ended for taking too long."""
    pause, late = 0.001, False
    while True:
        found, status, usage = os.wait4(child, os.WNOHANG)
        if found:
            return status, usage, late
        if time.monotonic() - began > LONGEST:
            late = True
            os.killpg(child, signal.SIGKILL)
        time.sleep(pause)
        pause = min(0.02, pause * 1.5)


def _run(case: Case, seeds: Path, cache: Path) -> int:
    """The command, in the child."""
    os.setsid()
    folder = case.folder
    (folder / "tmp").mkdir()
    os.environ |= {"TMPDIR": str(folder / "tmp"), "XDG_CACHE_HOME": str(cache)}
    import tempfile

    tempfile.tempdir = None
    for stream, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    os.chdir(folder)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 2))
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    noted = os.open(folder / "noted", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    _watch(case, seeds, [folder, cache], lambda line: os.write(noted, (line + "\n").encode()))
    try:
        status = _call(case.words)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    sys.stdout.flush()
    sys.stderr.flush()
    return status & 0xFF


def _call(words: list[str]) -> int:
    """A command, or a function of the library whose errors are judged as a command's."""
    if words[0].startswith("call:"):
        import minigpt_tf.cli.doctor as doctor
        from minigpt_tf.__main__ import main

        function = {"call:state": _read_state, "call:adapter": _read_adapter}[words[0]]
        doctor.run = lambda _: function(*words[1:])
        return main(["doctor"])
    from minigpt_tf.__main__ import main

    return main(words)


def _read_state(file: str, folder: str) -> int:
    """A run's state, into variables as the sound one has them."""
    import numpy as np

    from minigpt_tf.events import Listener
    from minigpt_tf.training.checkpoint import restore_state

    class Variable:
        """Takes an array of its own shape and type."""

        def __init__(self, array: np.ndarray) -> None:
            self.shape, self.dtype = array.shape, array.dtype

        def assign(self, array: np.ndarray) -> None:
            """Keeps nothing."""
            assert (array.shape, array.dtype) == (self.shape, self.dtype)

    with np.load(Path(folder) / "checkpoint" / Path(file).name) as archive:
        names = [name for name in archive if name != "progress" and name[:5] != "best/"]
        variables = {name: Variable(archive[name]) for name in names}
    restore_state(Path(file).parents[1], variables, lambda weights, name: None, Listener())
    return 0


def _read_adapter(file: str, base: str) -> int:
    """An adapter, with all of its updates computed."""
    from minigpt_tf import load_adapter, load_folder

    adapter = load_adapter(Path(file), load_folder(base).model)
    for name in adapter.factors:
        adapter.update(name)
    return 0


# ---------------------------------------------------------------- the judge


def _judge(case: Case, status: int, late: bool, mebibytes: int, seeds: Path) -> tuple[str, str]:
    """("", "") for an outcome as it should be, else what is wrong."""
    said = _text(case.folder / "stderr")
    last = (said.strip().splitlines() or [""])[-1][:300]
    if (noted := _text(case.folder / "noted")) or (seeds / CANARY).exists():
        return "code", noted.strip()[:300] or "the canary is there"
    if late:
        return "hang", last
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        kind = "hang" if number in (signal.SIGXCPU, signal.SIGKILL) else "signal"
        return kind, f"{signal.Signals(number).name}: {last}"
    code = os.WEXITSTATUS(status)
    if "Traceback (most recent call last)" in said or code in (70, 71):
        return "traceback", _last_frame(case.folder, said) + last
    if mebibytes << 20 > MOST_MEMORY or "not enough memory" in said:
        return "memory", f"{mebibytes} MiB: {last}"
    if code not in EXPECTED and not (code == 1 and case.words[0] == "doctor"):
        return "status", f"{code}: {last}"
    if code == 2 and not last.startswith("error: "):
        return "words", f"no error line: {last}"
    if found := re.search(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]", last):
        return "words", f"{found[0]!r} in {last!r}"
    return "", ""


def _last_frame(folder: Path, said: str) -> str:
    """Where a traceback ends: what tells faults apart."""
    reports = [_text(file) for file in sorted((folder / "tmp").glob("minigpt-fault-*"))]
    frames = re.findall(r'File "([^"]+)", line (\d+), in', "".join([*reports, said]))
    own = [
        frame
        for frame in frames
        if "minigpt_tf/minigpt_tf" in frame[0] or "/minigpt_tf/" in frame[0]
    ]
    return "".join(f"{Path(file).name}:{line} " for file, line in own[-1:])


def _text(file: Path) -> str:
    try:
        with open(file, "rb") as opened:
            return opened.read(1 << 20).decode("utf-8", "replace")
    except OSError:
        return ""


def clean(case: Case) -> None:
    """Removes the files of a case."""
    shutil.rmtree(case.folder, ignore_errors=True)
