"""The verb `page`: models and a Streamlit page in front of them, started and ended together."""

import argparse
import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from ..config import EngineConfig
from ..config.bots import LOCAL_HOST, PageConfig
from ..console import announce
from ..errors import ConfigError
from .options import cli_options, given_options, plain_text

DESCRIPTION = (
    "Start `minigpt serve` and a page in Streamlit, in the browser. Ctrl-C ends both. The server's "
    "own page, at its address, needs no Streamlit."
)

SCRIPT = Path(__file__).parents[1] / "serving" / "clients" / "streamlit_page.py"

PAUSE = 0.2
"""Seconds between two looks at the processes."""

END_SECONDS = 35
"""A server that drains may take so long."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The models or the API, and the page's port.

    Args:
        parser: The verb's; options are added to it.
    """
    parser.add_argument(
        "--models",
        nargs="+",
        type=plain_text,
        metavar="DIR",
        help="model folders, as for `minigpt serve` (unset: the newest)",
    )
    cli_options(parser, PageConfig, preset_decides=False)
    cli_options(parser, EngineConfig, preset_decides=False, only=("quantize", "threads"))


def run(arguments: argparse.Namespace) -> int:
    """Runs both until Ctrl-C, or until one of them ends.

    Args:
        arguments: The options that were given, parsed.

    Returns:
        The exit status.

    Raises:
        ConfigError: Streamlit is not installed, a port is taken, or options contradict each other.
    """
    config = PageConfig(**given_options(arguments, PageConfig))
    engine = given_options(arguments, EngineConfig)
    EngineConfig(**engine)
    if config.api and (arguments.models or engine):
        raise ConfigError("--api: its server has the models: leave out --models and their options")
    if not importlib.util.find_spec("streamlit"):
        raise ConfigError(
            "minigpt page needs streamlit: pip install 'minigpt_tf[serve,streamlit]' (or, in a "
            "clone, pip install -e '.[serve,streamlit]')"
        )
    page_port = _usable_port(config.port)
    previous = signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    try:
        with contextlib.ExitStack() as processes:
            url, server = config.api, None
            if url is None:
                api_port = _usable_port(config.api_port)
                models = ["--models", *arguments.models] if arguments.models else []
                words = ["serve", *models, "--port", str(api_port)]
                for name, value in engine.items():
                    words += [f"--{name}", str(value)]
                server = processes.enter_context(_process(["minigpt_tf", *words]))
                if not _is_ready(server, f"http://{LOCAL_HOST}:{api_port}/health/ready"):
                    return server.returncode or 2
                url = f"http://{LOCAL_HOST}:{api_port}/v1"
            page = processes.enter_context(_process(_streamlit(page_port), MINIGPT_API_URL=url))
            announce([f"the page is at http://{LOCAL_HOST}:{page_port} (Ctrl-C ends)"])
            return _wait(page, server)
    except KeyboardInterrupt:
        print("stopped")
        return 0
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt() -> None:
    raise KeyboardInterrupt


def _streamlit(port: int) -> list[str]:
    """Nothing is sent to others, and the page is reached from this machine alone."""
    options = {
        "server.port": port,
        "server.address": LOCAL_HOST,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "logger.level": "warning",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return ["streamlit", "run", str(SCRIPT), *words]


@contextlib.contextmanager
def _process(words: list[str], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python module as a process, which is ended at the end.

    It is in a session of its own: Ctrl-C reaches this process alone, which then ends it in order.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _is_ready(server: subprocess.Popen[bytes], url: str) -> bool:
    """Waits for the server's models; whether they came."""
    while server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(PAUSE)
    return False


def _wait(*processes: subprocess.Popen[bytes] | None) -> int:
    """Until one of the processes ends; an end that nobody asked for is an error."""
    while True:
        for process in filter(None, processes):
            if process.poll() is not None:
                return process.returncode or 1
        time.sleep(PAUSE)


def _usable_port(port: int) -> int:
    """A port on which one can listen; 0 becomes a free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCAL_HOST, port))
        except OSError as error:
            raise ConfigError(f"port {port} cannot be used: {error.strerror}") from None
        return probe.getsockname()[1]
