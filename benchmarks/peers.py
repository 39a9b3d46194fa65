"""Runs one measurement in a process of its own: what is measured beside it cannot disturb it, and a
peer that is missing or dies ends its own process only.

A job is a dictionary: "peer" is a module of this folder, "task" its function, and the rest are the
function's arguments. The result is what it returns, or {"failed": why}.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
from typing import Any

from minigpt_tf.machine import processor

LLAMA_CPP, ENGINE, OTHERS = "peer_llama_cpp", "peer_engine", "peer_others"
LONGEST = 900
"""Seconds after which a job is given up."""

_PIP = "pip install --force-reinstall --no-binary llama-cpp-python llama-cpp-python"
NATIVE_BUILD = f'CMAKE_ARGS="-DGGML_NATIVE=ON" {_PIP}'
BUILD_WITHOUT_AMX = (
    'CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX512=ON -DGGML_AVX512_VBMI=ON -DGGML_AVX512_VNNI=ON '
    f'-DGGML_AVX512_BF16=ON -DGGML_AVX_VNNI=ON" {_PIP}'
)
OTHER_PEERS = "pip install -r benchmarks/requirements.txt"

Job = dict[str, Any]
Result = dict[str, Any]


def run(job: Job) -> Result:
    """Runs a job in a new process."""
    command = [sys.executable, __file__, json.dumps(job)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {LONGEST} seconds"}
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    reason = (done.stderr.strip() or "no message").splitlines()[-1]
    if done.returncode < 0:
        reason = f"died of {signal.Signals(-done.returncode).name}"
    missing = "No module named" in reason
    return {"failed": "; ".join(filter(None, [reason, remedy(job["peer"], missing)]))}


def remedy(peer: str, missing: bool) -> str:
    """What makes a peer run that did not.

    llama.cpp's AMX code is known to crash on quantized weights (llama.cpp#20824), and a native
    build has it wherever the processor does.

    Args:
        peer: Of the job.
        missing: Whether its package was not found.

    Returns:
        How to install or build it; empty for the engine.
    """
    amx = "amx_bf16" in processor()[1]
    if peer == LLAMA_CPP and amx:
        return f"build it without AMX: {BUILD_WITHOUT_AMX}"
    if peer == LLAMA_CPP:
        return f"build it: {NATIVE_BUILD}"
    return f"install it: {OTHER_PEERS}" if missing else ""


def resident_bytes() -> int | None:
    """Memory that this process has now; None where the system is not Linux."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    function = getattr(importlib.import_module(given.pop("peer")), given.pop("task"))
    print(json.dumps(function(**given)))
