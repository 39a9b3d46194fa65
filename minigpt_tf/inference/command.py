"""The verb `generate`."""

import argparse
import json
import sys
from pathlib import Path

from ..config import SamplingConfig
from ..modelfolder import newest_folder
from ..options import cli_options, given_options, plain_text
from .generate import Generation, TextGenerator

DESCRIPTION = "Let a model go on from a prompt."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The prompt, the model and the sampling options."""
    parser.add_argument(
        "prompt",
        type=plain_text,
        metavar="PROMPT",
        help='how the text begins; "" starts from nothing',
    )
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="model folder (unset: the newest)"
    )
    parser.add_argument(
        "--no-stream", action="store_true", help="print the text when it is complete"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else"
    )
    cli_options(parser, SamplingConfig, preset_decides=False)


def run(arguments: argparse.Namespace) -> int:
    """Prints the prompt and how the model goes on from it; what else there is to say, on stderr."""
    sampling = SamplingConfig(**given_options(arguments, SamplingConfig))
    folder = arguments.model or newest_folder()
    generator = TextGenerator.load(folder)
    prompt = generator.prepare(arguments.prompt)
    if arguments.json:
        generation = generator.generate(prompt, sampling)
        print(json.dumps(_as_json(arguments.prompt, folder, generation)))
        return 0
    for notice in prompt.notices():
        print(f"note: {notice}", file=sys.stderr)
    shown = prompt.text if prompt.ids else ""
    if arguments.no_stream:
        print(shown + generator.generate(prompt, sampling).text)
        return 0
    print(shown, end="", flush=True)
    for piece in generator.stream(prompt, sampling):
        print(piece, end="", flush=True)
    print()
    return 0


def _as_json(prompt: str, folder: Path, generation: Generation) -> dict[str, object]:
    return {
        "model": str(folder),
        "prompt": prompt,
        "text": generation.text,
        "ids": generation.ids,
        "finish_reason": generation.finish_reason,
        "prompt_tokens": len(generation.prompt.ids),
        "completion_tokens": len(generation.ids),
        "tokens_per_second": round(generation.tokens_per_second, 1),
        "notices": list(generation.prompt.notices()),
    }
