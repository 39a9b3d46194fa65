"""The verb `import`."""

import argparse
import shlex
from pathlib import Path

from ..console import ConsoleListener, announce
from ..errors import ConfigError
from ..events import LostListener
from ..interop.importing import check_apart, default_output, fetch, open_path, shortened
from ..interop.license import restriction
from ..interop.source import Source, check_source, write_model_folder
from ..startup import quiet_import
from ..storage.model_folder import check_output

DESCRIPTION = (
    "Make a model folder of a model from Hugging Face, of safetensors, of a .gguf file, of "
    "OpenAI's GPT-2 checkpoints, or of the .h5 or .keras file of a notebook."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The source and the folder.

    Args:
        parser: The verb\'s; options are added to it.
    """
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder with safetensors, a .gguf file, a folder with OpenAI's TensorFlow "
        "checkpoint, a Keras .h5 or .keras file, or the id of a model on Hugging Face",
    )
    out_help = "model folder to write (unset: models/ and the source's name)"
    parser.add_argument("--out", type=Path, metavar="DIR", help=out_help)
    parser.add_argument("--overwrite", action="store_true", help="replace a model folder")
    parser.add_argument(
        "--context-length",
        type=int,
        metavar="N",
        help="a shorter context, for less memory (unset: the source's)",
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FILE",
        help="tokenizer.pkl or tokenizer.json, for a Keras .h5 or .keras file, which has none",
    )
    parser.add_argument(
        "--revision", metavar="NAME", help="branch, tag or commit on Hugging Face (unset: main)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Says what the source is, writes the folder, and says what can be done with it.

    Args:
        arguments: The options that were given, parsed.

    Returns:
        The exit status.
    """
    if not arguments.source:
        raise ConfigError(
            "SOURCE is empty: give a folder, a .gguf, .h5 or .keras file or an id on Hugging Face"
        )
    out = arguments.out or default_output(arguments.source)
    check_apart(arguments.source, out)
    check_output(out, overwrite=arguments.overwrite, resume=False)
    path = fetch(arguments.source, arguments.revision)
    with quiet_import():  # where TensorFlow reads a checkpoint
        source = open_path(path, arguments.source, arguments.tokenizer, arguments.context_length)
    if arguments.context_length is not None:
        source = shortened(source, arguments.context_length)
    announce([_description(source)])
    check_source(source)
    with quiet_import():
        from ..model import keras_file  # noqa: F401
    listener = LostListener(ConsoleListener())
    write_model_folder(source, out, overwrite=arguments.overwrite, listener=listener)
    size = sum(file.stat().st_size for file in out.iterdir())
    print(f"wrote {out}: {', '.join(sorted(f.name for f in out.iterdir()))} ({size / 1e6:,.0f} MB)")
    chats = source.chat_template is not None
    words = "minigpt chat" if chats else 'minigpt generate "Once upon a time"'
    print(f"next: {words} --model {shlex.quote(str(out))}")
    return 0


def _description(source: Source) -> str:
    """What the source is, in a few lines."""
    config, tokenizer, origin = source.config, source.tokenizer, source.origin
    backend = getattr(tokenizer, "backend", None)  # word and char tokenizers have none
    kind = tokenizer.kind if backend is None else type(backend.model).__name__
    heads = f"{config.num_heads} heads"
    if config.num_kv_heads != config.num_heads:
        heads += f" in {config.num_kv_heads} groups"
    license = ", ".join(filter(None, [origin.get("license"), *source.files]))
    lines = {
        "source": f"{source.where} ({origin.get('format', 'unknown format')})",
        "architecture": f"{origin.get('architecture', '')}: {config.num_layers} layers of width "
        f"{config.embed_dim}, {heads}, {config.parameter_count:,} parameters",
        "context": f"{config.context_length:,} tokens",
        "tokenizer": f"{kind}, {tokenizer.known_size:,} tokens",
        "chat template": "no" if source.chat_template is None else "yes",
        "license": license or "not stated: ask the source before you pass it on",
    }
    if found := restriction(origin.get("license", "")):
        lines["restricted"] = f"{found.demand}: read {found.url}"
    rows = [*lines.items(), *(("assumed", text) for text in source.assumptions)]
    rows += [("left out", text) for text in source.left_out]
    return "\n".join(f"{name + ':':<15}{text}" for name, text in rows)
