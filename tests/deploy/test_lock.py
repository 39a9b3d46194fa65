"""The lock file of the image is enough to serve, and has nothing that is not needed."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT
from tests.deploy.servers import server

LOCK = ROOT / "deploy" / "requirements.lock"


def names(lines) -> set[str]:
    found = (line.split("==")[0].split(";")[0].strip() for line in lines)
    return {name for name in found if name and not name.startswith(("#", "-"))}


def test_the_lock_has_what_the_list_names():
    wanted = names((ROOT / "deploy" / "requirements.in").read_text().splitlines())
    locked = LOCK.read_text()
    assert names(line for line in locked.splitlines() if not line.startswith(" ")) == wanted
    assert locked.count("--hash=sha256:") > len(wanted)
    assert not {"tensorflow", "keras", "matplotlib", "huggingface-hub", "netron"} & wanted


def with_pip():
    """`python -m pip` of this environment or, where it has none, of the one that made it."""
    for python in (sys.executable, Path(sys.base_prefix) / "bin" / "python3"):
        found = [python, "-m", "pip"]
        if not subprocess.run([*found, "--version"], capture_output=True).returncode:
            return found
    return pytest.skip("no pip")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """`minigpt` in an environment with the lock's packages alone."""
    folder = tmp_path_factory.mktemp("locked")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    pip = [*with_pip(), "--python", folder / "venv" / "bin" / "python", "install"]
    locked = [*pip, "-q", "--no-deps", "--require-hashes", "-r", LOCK]
    # A package on PYTHONPATH counts as installed.
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(locked, capture_output=True, text=True, env=alone)
    if "No matching distribution" in done.stderr or "Connection" in done.stderr:
        pytest.skip("no package index")
    assert done.returncode == 0, done.stderr
    wheel = [*with_pip(), "wheel", "-q", "--no-deps", "-w", folder / "dist", ROOT]
    subprocess.run(wheel, check=True, env=alone)
    (file,) = (folder / "dist").glob("*.whl")
    subprocess.run([*pip, "-q", "--no-deps", file], check=True, env=alone)
    return folder / "venv" / "bin" / "minigpt"


def test_a_server_runs_with_the_locks_packages_alone(program, trained_folder, tmp_path):
    where = {"cwd": tmp_path, "env": {"PATH": "", "HOME": str(tmp_path)}}
    with server(trained_folder, program=program, **where) as running:
        model = httpx.get(f"{running.url}/v1/models").json()["data"][0]["id"]
        body = {"model": model, "prompt": "he was", "max_tokens": 4, "temperature": 0}
        answer = httpx.post(f"{running.url}/v1/completions", json=body, timeout=60).json()
        assert answer["usage"]["completion_tokens"] == 4
        assert "minigpt" in httpx.get(running.url).text
        assert httpx.get(f"{running.url}/page/main.js").status_code == 200  # in the wheel as well
        assert httpx.get(f"{running.url}/metrics").status_code == 200
        body = {"model": model, "prompt": "he was"}
        assert httpx.post(f"{running.url}/tokenize", json=body).status_code == 200
        assert running.stop() == 0
