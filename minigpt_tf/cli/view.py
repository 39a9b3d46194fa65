"""The verb `view`: a model's graph and weights in the browser, drawn by Netron."""

import argparse
import logging
import socket
from pathlib import Path

import netron

from ..console import announce
from ..errors import ConfigError
from ..inspection.modelfile import model_file
from ..interop.keras_files.files import open_keras_file
from ..storage.model_folder import newest_folder

DESCRIPTION = "Show a model's graph and weights in the browser, with Netron."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to show and where to serve it.

    Args:
        parser: The verb\'s; options are added to it.
    """
    model_help = "model folder, or any .h5 or .keras file (unset: the newest folder in models/)"
    parser.add_argument("--model", type=Path, metavar="PATH", help=model_help)
    parser.add_argument(
        "--port", type=int, metavar="N", help="port to serve on (unset: a free one)"
    )
    parser.add_argument("--no-browser", action="store_true", help="only serve the page")


def run(arguments: argparse.Namespace) -> int:
    """Serves the page on this machine until Ctrl-C.

    Args:
        arguments: The options that were given, parsed.

    Returns:
        The exit status.
    """
    file = model_file(arguments.model or newest_folder())
    open_keras_file(file)  # refuses a damaged file here, where it can be said why
    port = _checked_port(arguments.port)
    logging.getLogger("netron").setLevel(logging.WARNING)  # the line below says it better
    host, port = netron.serve(str(file), None, ("localhost", port), not arguments.no_browser)
    announce([f"{file} is shown at http://{host}:{port} (Ctrl-C ends)"])
    netron.wait()
    return 0


def _checked_port(port: int | None) -> int:
    """The port asked for, or a free one. Raises ConfigError where it cannot be had."""
    with socket.socket() as probe:
        try:
            probe.bind(("localhost", port or 0))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(f"port {port} cannot be used: {reason}") from None
        return probe.getsockname()[1]
