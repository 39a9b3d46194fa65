"""The `minigpt` command. A verb's module is imported when the verb is used, and not before."""

import argparse
import atexit
import gc
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from .errors import MiniGPTError
from .machine import limit_threads

VERBS = {
    "train": ("minigpt_tf.cli.train", "train a GPT on text files"),
    "generate": ("minigpt_tf.cli.generate", "let a model continue a prompt"),
    "chat": ("minigpt_tf.cli.chat", "talk with a model in the terminal"),
    "evaluate": ("minigpt_tf.cli.evaluate", "measure models: loss, repetition, copies"),
    "finetune": ("minigpt_tf.cli.finetune", "adapt a model to your own records"),
    "ask": ("minigpt_tf.cli.ask", "ask several models the same questions"),
    "classify": ("minigpt_tf.cli.classify", "give texts labels, by a classifier"),
    "serve": ("minigpt_tf.cli.serve", "serve models by OpenAI's API, and a page to talk to them"),
    "import": ("minigpt_tf.cli.import_", "make a model folder of another tool's model"),
    "export": (
        "minigpt_tf.cli.export",
        "hand a model to transformers, llama.cpp, Keras",
    ),
    "summary": ("minigpt_tf.cli.summary", "show a model's layers and parameters"),
    "doctor": ("minigpt_tf.cli.doctor", "show what this machine has, and what to mend"),
    "inspect": ("minigpt_tf.cli.inspect", "look inside: surprise, attention, layers, runs"),
    "view": ("minigpt_tf.cli.view", "show a model's graph in the browser (Netron)"),
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the options in the form of every other error."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} ({self.prog} --help shows the options)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        arguments: The words behind `minigpt` (unset: those of the process).

    Returns:
        The exit status: 0 done, 2 an error that was explained, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] not in VERBS:
        return _overview(arguments)
    limit_threads()
    debug = "--debug" in arguments
    if not debug:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up messages
        warnings.simplefilter("ignore")
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started us
            nothing = open(os.devnull, "r" if name == "stdin" else "w")  # noqa: SIM115
            setattr(sys, name, nothing)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal may lack a character
    try:
        return _run(*arguments)
    except (MiniGPTError, OSError) as error:
        if debug:
            raise
        return _explain(error)
    except MemoryError:
        if debug:
            raise
        print("error: there is not memory enough for this", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


def _run(verb: str, *words: str) -> int:
    module = importlib.import_module(VERBS[verb][0])
    parser = _Parser(prog=f"minigpt {verb}", description=module.DESCRIPTION)
    module.add_arguments(parser)
    # Else the interpreter ends with a last look through all that Numba and TensorFlow have made.
    atexit.register(gc.freeze)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    status = module.run(parser.parse_args(words))
    sys.stdout.flush()
    return status


def _explain(error: MiniGPTError | OSError) -> int:
    """Prints the one line on stderr."""
    if isinstance(error, BrokenPipeError):  # the reader of our output has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    try:
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        sys.stdout.flush()
    except OSError:  # standard output itself is what failed: do not try once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 2


def _overview(arguments: list[str]) -> int:
    """minigpt --help, and the answer to an unknown verb."""
    lines = [f"  {verb:<10} {help}" for verb, (_, help) in VERBS.items()]
    text = "usage: minigpt VERB [options]\n\n" + "\n".join(lines)
    text += "\n\nminigpt VERB --help shows a verb's options."
    if not arguments or arguments[0] in ("-h", "--help"):
        print(text)
        return 0
    if arguments[0] == "--version":
        from . import __version__

        print(__version__)
        return 0
    print(f"error: {arguments[0]!r} is not a verb: choose {', '.join(VERBS)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
