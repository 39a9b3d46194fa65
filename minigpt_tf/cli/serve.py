"""The verb `serve`."""

import argparse
import contextlib
import gc
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from ..config import EngineConfig, ServingConfig
from ..errors import ConfigError
from ..machine import import_numpy_without_threads
from .options import cli_options, given_options, plain_text
from .retrieving import add_records_arguments, retrieval_config

if TYPE_CHECKING:
    from ..serving.engine.served import Served
    from ..serving.running import Server

DESCRIPTION = (
    "Serve models by the API of OpenAI, with a page to talk to them in the browser. Ctrl-C ends it."
)

LOGGERS = {"minigpt_tf": logging.INFO, "uvicorn": logging.ERROR}
"""What is logged."""

LIBRARIES = ("fastapi", "uvicorn", "prometheus_client")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The models, and how they are served.

    Args:
        parser: The verb's; options are added to it.
    """
    parser.add_argument(
        "--models",
        nargs="+",
        type=plain_text,
        metavar="DIR",
        help="model folders; each is served under its folder's name, or as NAME=DIR (unset: the "
        "newest)",
    )
    add_records_arguments(
        parser, "; NAME=FILE is for the model of that name alone. Answers name their entries"
    )
    cli_options(parser, ServingConfig, preset_decides=False)
    cli_options(parser, EngineConfig, preset_decides=False)


def run(arguments: argparse.Namespace) -> int:
    """Serves until SIGTERM or Ctrl-C.

    Args:
        arguments: The options that were given, parsed.

    Returns:
        The exit status.
    """
    config = ServingConfig(**given_options(arguments, ServingConfig))
    engine = EngineConfig(**given_options(arguments, EngineConfig))
    retrieval = retrieval_config(arguments)
    import_numpy_without_threads()
    gc.disable()  # as for `generate`: there is nothing yet to look through
    try:
        try:
            from ..serving.running import Server
        except ModuleNotFoundError as error:
            if error.name not in LIBRARIES:
                raise
            raise ConfigError(
                f"minigpt serve needs {error.name}: pip install 'minigpt_tf[serve]' (or, in a "
                "clone, pip install -e '.[serve]')"
            ) from None
        from ..console import ConsoleListener
        from ..serving.engine.loading import plan_models, with_records
        from ..storage.model_folder import newest_folder

        folders = arguments.models or [str(newest_folder())]
        plans = plan_models(folders, config, engine)
        if retrieval is not None:
            plans = with_records(plans, arguments.records, retrieval)
        server = Server(config, engine, plans, ConsoleListener(sys.stderr))
    finally:
        gc.enable()
    gc.freeze()
    with _logs_to(sys.stderr):
        server.run(lambda models: _print_ready(server, models))
    return 0


@contextlib.contextmanager
def _logs_to(stream: TextIO) -> Iterator[None]:
    """Writes the logs of this package, and uvicorn's errors, as plain lines."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    for name, level in LOGGERS.items():
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(handler)
            logging.getLogger(name).propagate = True


def _print_ready(server: "Server", models: "list[Served]") -> None:
    from ..console import announce

    gc.freeze()
    for model in models:
        engine = model.engine
        cache = engine.cache if model.scheduler is None else model.scheduler.cache
        size = (engine.weights.nbytes + cache.keys.nbytes + cache.values.nbytes) / 2**30
        slots = f"{model.scheduler.rows} answers at a time, " if model.scheduler else ""
        context = f"context {engine.config.context_length:,}"
        announce([f"{model.name}: {model.kind}, {slots}{context}, {size:.2f} GiB"])
        if model.notice:
            print(f"note: {model.notice}", file=sys.stderr)
    threads = models[0].engine.threads
    announce([f"ready on {server.url} ({threads} threads); the API is at {server.url}/v1"])
