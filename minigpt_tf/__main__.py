"""The `minigpt` command. A verb's module is imported when the verb is used, and not before."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from .errors import MiniGPTError

VERBS = {
    "train": ("minigpt_tf.training.command", "train a GPT on text files"),
    "generate": ("minigpt_tf.inference.command", "let a model go on from a prompt"),
    "summary": ("minigpt_tf.inspection.summary", "show a model's layers and parameters"),
    "view": ("minigpt_tf.inspection.view", "show a model's graph in the browser (Netron)"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit status: 0 done, 2 an error that was explained."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] not in VERBS:
        return _overview(arguments)
    verb, *rest = arguments
    module = importlib.import_module(VERBS[verb][0])
    parser = argparse.ArgumentParser(prog=f"minigpt {verb}", description=module.DESCRIPTION)
    module.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(rest)
    if not options.debug:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up messages
    try:
        return module.run(options)
    except MiniGPTError as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _overview(arguments: list[str]) -> int:
    """minigpt --help, and what is said to an unknown verb."""
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
