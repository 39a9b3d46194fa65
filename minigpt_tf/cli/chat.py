"""The verb `chat`: a conversation in the terminal."""

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING

from ..config import SamplingConfig
from ..console import ConsoleListener, one_line
from ..errors import ConfigError
from ..text.chat_template import Message
from .generate import add_model_arguments, chat_sampling, load_generator
from .options import given_options, plain_text
from .retrieving import add_records_arguments, load_library

if TYPE_CHECKING:
    from ..inference.generate import Conversation
    from ..retrieval.library import Library

DESCRIPTION = "Talk with a model in the terminal."

HELP = "/reset forgets the conversation, /quit ends it; Ctrl-C stops an answer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model and the sampling options.

    Args:
        parser: The verb\'s; options are added to it.
    """
    parser.add_argument(
        "--memory",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="answers see the conversation so far, not the last prompt alone (unset: where the "
        "model has a chat template)",
    )
    parser.add_argument(
        "--system",
        type=plain_text,
        default="",
        metavar="TEXT",
        help="system message of a model with a chat template, before the conversation",
    )
    add_records_arguments(parser)
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Reads prompts and prints answers until /quit or the end of the input.

    Args:
        arguments: The options that were given, parsed.

    Returns:
        The exit status.
    """
    with contextlib.suppress(ImportError):  # not on every system
        import readline  # noqa: F401  gives input() line editing and a history

    given = given_options(arguments, SamplingConfig)
    SamplingConfig(**given)  # what is wrong should be said before a model is loaded
    folder, generator = load_generator(arguments)
    has_template = generator.chat_template is not None
    library = load_library(arguments, folder, ConsoleListener(sys.stderr))
    if library is not None and not has_template:
        raise ConfigError(f"{folder}: has no chat template, which --records needs: drop it")
    sampling = chat_sampling(generator, given) if has_template else SamplingConfig(**given)
    conversation = generator.conversation(sampling, arguments.system)
    memory = has_template if arguments.memory is None else arguments.memory
    forgets = "" if memory else "; each prompt is a new one (else: --memory)"
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
            print(f"{line.split()[0]} is not a command: {HELP}")
        elif line:
            if not memory:
                conversation.reset()
            _answer(conversation, line, library)


def _answer(conversation: "Conversation", line: str, library: "Library | None") -> None:
    """Streams the answer; Ctrl-C ends it early. With records, says which entry fits best."""
    instead: list[Message] = []
    if library is not None:
        from ..retrieval.context import UNKNOWN, messages_with

        asked = [said["content"] for said in conversation.messages if said["role"] == "user"]
        found = library.find(line, asked[-1] if asked else "")
        if not found:
            conversation.add(line, UNKNOWN)
            print(UNKNOWN)
            return
        instead = messages_with(found, line)
        print(f"[{one_line(found[0].entry.source)}]")
    prompt = conversation.prepare(line, instead)
    for notice in prompt.notices():
        print(f"note: {notice}", file=sys.stderr)
    chunks = conversation.reply(prompt)
    try:
        for number, chunk in enumerate(chunks):
            print(chunk if number else chunk.lstrip(), end="", flush=True)
    except KeyboardInterrupt:
        print(" ...", end="")
    finally:
        chunks.close()
    print()
