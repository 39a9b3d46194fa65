"""The `minigpt` command. A verb's module is imported when the verb is used, and not before."""

import argparse
import atexit
import contextlib
import functools
import gc
import importlib
import itertools
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from .machine import limit_threads
from .startup import choose_tensorflow
from .terminal import guarded

VERBS = {
    "train": ("minigpt_tf.cli.train", "train a GPT on text files"),
    "generate": ("minigpt_tf.cli.generate", "let a model continue a prompt"),
    "chat": ("minigpt_tf.cli.chat", "talk with a model in the terminal"),
    "evaluate": ("minigpt_tf.cli.evaluate", "measure models: loss, repetition, copies"),
    "finetune": ("minigpt_tf.cli.finetune", "adapt a model to your own records"),
    "ask": ("minigpt_tf.cli.ask", "ask several models the same questions"),
    "page": ("minigpt_tf.cli.page", "serve models with a page in Streamlit"),
    "bot": ("minigpt_tf.cli.bot", "answer in Telegram or WhatsApp"),
    "classify": ("minigpt_tf.cli.classify", "give texts labels, by a classifier"),
    "serve": ("minigpt_tf.cli.serve", "serve models by OpenAI's API, and a page to talk to them"),
    "import": ("minigpt_tf.cli.import_", "make a model folder of another tool's model"),
    "export": (
        "minigpt_tf.cli.export",
        "hand a model to transformers, llama.cpp, Keras",
    ),
    "models": ("minigpt_tf.cli.models", "list the models that there are"),
    "summary": ("minigpt_tf.cli.summary", "show a model's layers and parameters"),
    "doctor": ("minigpt_tf.cli.doctor", "show what this machine has, and what to mend"),
    "plan": ("minigpt_tf.cli.plan", "show what a run takes: memory, time, disk, money"),
    "inspect": ("minigpt_tf.cli.inspect", "look inside: surprise, attention, layers, runs"),
    "view": ("minigpt_tf.cli.view", "show a model's graph in the browser (Netron)"),
}


_of_any_width = functools.partial(argparse.HelpFormatter, width=80)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the options in the form of every other error."""

    def __init__(self, **settings: Any) -> None:
        # argparse formats each option as it is added. How wide the terminal is does not matter
        # there, and to find out for each takes some milliseconds.
        super().__init__(**settings, formatter_class=_of_any_width)

    def format_help(self) -> str:
        """As argparse's, as wide as the terminal."""
        self.formatter_class = argparse.HelpFormatter
        return super().format_help()

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, which takes --stop=-- for no value at all and fails."""
        for word in itertools.takewhile(lambda word: word != "--", args or ()):
            name, _, value = word.partition("=")
            if value == "--" and name.startswith("--"):
                self.error(f"{name}: two dashes are not a value")
        return super().parse_args(args, namespace)

    def print_help(self, file: Any = None) -> None:
        """As argparse's, which does not say that nothing could be written."""
        print(self.format_help(), end="", file=file)

    def error(self, message: str) -> NoReturn:
        from .cli.explaining import one_line_of

        line = one_line_of(f"error: {message} ({self.prog} --help shows the options)")
        self.exit(2, line + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        arguments: The words behind `minigpt` (unset: those of the process).

    Returns:
        The exit status: 0 done, 2 an error that was explained, 70 a fault of this package, 130
        interrupted, 141 the reader of the output has gone.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    if arguments is None and not debug:  # this process is the command's alone
        _silence_threads_and_exit()
    with _streams():
        try:
            try:
                return _run(*words) if words and words[0] in VERBS else _overview(words)
            finally:
                sys.stdout.flush()  # if that fails, it is said here, not by Python at exit
        except KeyboardInterrupt:
            _say("\ninterrupted")
            return 130
        except Exception as error:
            if debug:
                raise
            return _explain(error, words)


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    """Standard streams that are there, take every character, and cannot steer a terminal."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started us
            nothing = open(os.devnull, "r" if name == "stdin" else "w")  # noqa: SIM115
            setattr(sys, name, nothing)
        if hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="replace")  # a terminal may lack a character
    stdout, stderr = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = guarded(stdout), guarded(stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = stdout, stderr


def _silence_threads_and_exit() -> None:
    """No traceback of what nobody can mend any more: Python would print them by itself."""

    def explain_thread(ended: threading.ExceptHookArgs) -> None:
        """One line for the thread that ended."""
        if ended.exc_value is not None and ended.exc_type is not SystemExit:
            _explain(ended.exc_value, sys.argv[1:])

    threading.excepthook = explain_thread
    sys.unraisablehook = lambda _: None


def _run(verb: str, *words: str) -> int:
    limit_threads()
    choose_tensorflow()
    if "--debug" not in words:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up messages
        warnings.simplefilter("ignore")
    module = importlib.import_module(VERBS[verb][0])
    parser = _Parser(prog=f"minigpt {verb}", description=module.DESCRIPTION)
    module.add_arguments(parser)
    # Else the interpreter ends with a last look through all that Numba and TensorFlow have made.
    atexit.register(gc.freeze)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return module.run(parser.parse_args(words))


def _explain(error: BaseException, words: Sequence[str]) -> int:
    """Prints one line on stderr; the exit status."""
    if isinstance(error, BrokenPipeError):  # the reader of our output has gone, as with `| head`
        _drop_output()
        return 141
    status = 2
    try:
        from .cli.explaining import explain

        line, status = explain(error, words)
    except MemoryError:
        line = "there is not enough memory for this"
    _say(f"error: {line}")
    try:
        sys.stdout.flush()
    except OSError:  # standard output itself is what failed: do not try once more at exit
        _drop_output()
    return status


def _say(line: str) -> None:
    """Writes a line to stderr, if that is possible."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _drop_output() -> None:
    """What is still to be written to standard output goes nowhere."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: a stream without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
    _say(f"error: {arguments[0]!r:.80} is not a verb: choose {', '.join(VERBS)}")
    return 2


if __name__ == "__main__":
    sys.exit(main())
