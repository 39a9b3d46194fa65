"""The verb `chat`: a conversation in the terminal."""

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING

from ..config import SamplingConfig
from ..options import given_options
from .command import add_model_arguments, load_generator

if TYPE_CHECKING:
    from .generate import Conversation

DESCRIPTION = "Talk with a model in the terminal."

HELP = "/reset forgets the conversation, /quit ends it; Ctrl-C stops an answer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model and the sampling options."""
    parser.add_argument(
        "--memory",
        action="store_true",
        help="answers see the conversation so far, not the last prompt alone",
    )
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Reads prompts and prints answers until /quit or the end of the input."""
    with contextlib.suppress(ImportError):  # not on every system
        import readline  # noqa: F401  gives input() line editing and a history

    sampling = SamplingConfig(**given_options(arguments, SamplingConfig))
    folder, generator = load_generator(arguments)
    conversation = generator.conversation(sampling)
    forgets = "" if arguments.memory else "; each prompt is a new one (else: --memory)"
    print(f"{folder}: {HELP}{forgets}")
    if generator.notice:
        print(f"note: {generator.notice}", file=sys.stderr)
    while True:
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return 0
        if line == "/quit":
            return 0
        if line == "/reset":
            conversation.reset()
            print("the conversation starts anew")
        elif line.startswith("/"):
            print(f"{line.split()[0]} is no command: {HELP}")
        elif line:
            if not arguments.memory:
                conversation.reset()
            _answer(conversation, line)


def _answer(conversation: "Conversation", line: str) -> None:
    """Streams the answer; Ctrl-C ends it early."""
    for notice in conversation.generator.prepare(line).notices():
        print(f"note: {notice}", file=sys.stderr)
    pieces = conversation.reply(line)
    try:
        for number, piece in enumerate(pieces):
            print(piece if number else piece.lstrip(), end="", flush=True)
    except KeyboardInterrupt:
        print(" ...", end="")
    finally:
        pieces.close()
    print()
