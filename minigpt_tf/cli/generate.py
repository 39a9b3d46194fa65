"""The verb `generate`."""

import argparse
import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import CHAT_TOKENS, EngineConfig, SamplingConfig
from ..errors import DataError
from ..events import SILENT, Listener
from ..machine import import_numpy_without_threads
from ..storage.paths import BLOCK, read_all, read_stream
from ..text.chat_template import message
from .options import cli_options, given_options, plain_text

if TYPE_CHECKING:  # --help should not wait for the engine
    from ..inference.answer import Generation
    from ..inference.generate import TextGenerator
    from ..inference.prompt import Prompt

DESCRIPTION = "Let a model continue a prompt."

MOST_PROMPT_BYTES = 1 << 26
"""Of --prompts or standard input: a device has no end."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The prompt, the model and the sampling options.

    Args:
        parser: The verb\'s; options are added to it.
    """
    parser.add_argument(
        "prompt",
        nargs="?",
        type=plain_text,
        metavar="PROMPT",
        help='how the text begins; "" starts from nothing, - reads standard input (as does no '
        "PROMPT at all, where something is piped in)",
    )
    parser.add_argument(
        "--prompts",
        metavar="FILE",
        help="a file with a prompt on each line, instead of PROMPT; - is standard input",
    )
    parser.add_argument(
        "--chat",
        action="store_true",
        help="the prompt is a message to a model with a chat template, not the beginning of a text",
    )
    parser.add_argument(
        "--num-samples", type=int, default=1, metavar="N", help="answers to each prompt (1)"
    )
    parser.add_argument(
        "--no-stream", action="store_true", help="print the text when it is complete"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else"
    )
    add_model_arguments(parser)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, and how it is run and sampled.

    Args:
        parser: The verb's; options are added to it.
    """
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="model folder (unset: the newest)"
    )
    cli_options(parser, EngineConfig, preset_decides=False)
    cli_options(parser, SamplingConfig, preset_decides=False)


def load_generator(arguments: argparse.Namespace) -> tuple[Path, "TextGenerator"]:
    """The model that was asked for, ready for the first token.

    Args:
        arguments: With the options of `add_model_arguments`.

    Returns:
        The model folder and its generator.

    Raises:
        ModelFolderError: There is no model, or it is damaged.
    """
    config = EngineConfig(**given_options(arguments, EngineConfig))
    import_numpy_without_threads()
    gc.disable()  # Numba starts with 300,000 objects and no garbage, which is slow to look through
    try:
        from ..inference.generate import TextGenerator
        from ..storage.model_folder import newest_folder

        listener: Listener = SILENT
        if config.quantize == "int4":  # it takes a while to make
            from ..console import ConsoleListener

            listener = ConsoleListener(sys.stderr)

        folder = arguments.model or newest_folder()
        generator = TextGenerator.load(folder, config, listener)
        generator.engine.warm_up()
    finally:
        gc.enable()
    return folder, generator


def chat_sampling(generator: "TextGenerator", given: dict[str, Any]) -> SamplingConfig:
    """How a chat model answers: as its makers recommend, but for what was given.

    Args:
        generator: The model.
        given: Fields of SamplingConfig from the command line.

    Returns:
        All settings.
    """
    recommended = {"max_new_tokens": CHAT_TOKENS, "context_full": "stop", **generator.generation}
    if {"temperature", "top_k", "top_p", "min_p"} & given.keys():
        recommended.pop("greedy", None)
    return SamplingConfig(**{**recommended, **given})


def run(arguments: argparse.Namespace) -> int:
    """Prints each prompt and how the model continues it; what else there is to say, on stderr.

    Args:
        arguments: The options that were given, parsed.

    Returns:
        The exit status.
    """
    given = given_options(arguments, SamplingConfig)
    sampling = SamplingConfig(**given)
    texts = _read_prompts(arguments)
    folder, generator = load_generator(arguments)
    if arguments.chat:
        sampling = chat_sampling(generator, given)
        prompts = [generator.prepare_chat([message("user", text)]) for text in texts]
    else:
        prompts = [generator.prepare(text) for text in texts]
    single = arguments.prompts is None and arguments.num_samples == 1
    if arguments.json:
        generations = generator.generate_batch(prompts, sampling, arguments.num_samples)
        notices = [generator.notice] if generator.notice else []
        described = _described(generations, notices, single)
        print(json.dumps({"model": str(folder), **described}))
        return 0
    _print_notices(generator, prompts)
    if single and not arguments.no_stream:
        _stream(generator, prompts[0], sampling, arguments.chat)
        return 0
    for generation in generator.generate_each(prompts, sampling, arguments.num_samples):
        print(_shown(generation.prompt, arguments.chat) + generation.text, flush=True)
    return 0


def _stream(
    generator: "TextGenerator", prompt: "Prompt", sampling: SamplingConfig, chat: bool
) -> None:
    """Prints a prompt, and the answer as it comes."""
    chunks = generator.stream(prompt, sampling)
    print(_shown(prompt, chat) + next(chunks, ""), end="", flush=True)
    for chunk in chunks:
        print(chunk, end="", flush=True)
    print()


def _described(
    generations: "Sequence[Generation]", notices: list[str], single: bool
) -> dict[str, Any]:
    """The answers for --json: one object if there is a single one."""
    results = [_as_json(generation) for generation in generations]
    if single:
        return {**results[0], "notices": notices + results[0]["notices"]}
    return {"notices": notices, "results": results}


def _read_prompts(arguments: argparse.Namespace) -> Sequence[str]:
    """The prompts that were asked for. Raises DataError if there is none."""
    if arguments.prompts is not None:
        if arguments.prompt is not None:
            raise DataError("PROMPT and --prompts: give one of them")
        lines = _read(arguments.prompts).splitlines()
        prompts = [line for line in lines if line.strip()]
        if not prompts:
            raise DataError(f"{arguments.prompts}: contains no prompt")
        return prompts
    if arguments.prompt == "-":
        return [_read("-").rstrip("\n")]
    if arguments.prompt is None:
        if not sys.stdin.isatty() and (text := _read("-").rstrip("\n")):
            return [text]
        raise DataError('there is no PROMPT: give one, such as "who is ...", or --prompts FILE')
    return [arguments.prompt]


def _read(file: str) -> str:
    """The text in a file; "-" is standard input."""
    if file == "-":
        content = read_all(
            lambda: sys.stdin.buffer.read(BLOCK), MOST_PROMPT_BYTES, "standard input"
        )
    else:
        content = read_stream(file, MOST_PROMPT_BYTES)
    return content.decode("utf-8-sig", "replace")


def _print_notices(generator: "TextGenerator", prompts: "Sequence[Prompt]") -> None:
    notices = [generator.notice] if generator.notice else []
    for notice in notices + [notice for prompt in prompts for notice in prompt.notices()]:
        print(f"note: {notice}", file=sys.stderr)


def _shown(prompt: "Prompt", chat: bool) -> str:
    """The prompt as it is printed before the text that continues it, or before an answer."""
    if chat:
        return f"> {prompt.text}\n"
    return prompt.text if prompt.ids else ""


def _as_json(generation: "Generation") -> dict[str, Any]:
    return {
        "prompt": generation.prompt.text,
        "text": generation.text,
        "ids": generation.ids,
        "logprobs": generation.logprobs,
        "finish_reason": generation.finish_reason,
        "prompt_tokens": len(generation.prompt.ids),
        "completion_tokens": len(generation.ids),
        "tokens_per_second": round(generation.tokens_per_second, 1),
        "notices": list(generation.prompt.notices()),
    }
