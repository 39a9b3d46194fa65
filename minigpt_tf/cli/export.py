"""The verb `export`."""

import argparse
import shlex
import sys
from pathlib import Path

from ..config import ExportConfig
from ..interop.export import Exported, export_model
from .options import cli_options, given_options

DESCRIPTION = "Hand a model to other tools: transformers, llama.cpp, LiteRT, Keras, C, the browser."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the format and the output.

    Args:
        parser: The verb\'s; options are added to it.
    """
    model_help = "model folder (unset: the newest folder in models/)"
    parser.add_argument("--model", type=Path, metavar="DIR", help=model_help)
    out_help = (
        "folder (hf, onnx, c, web) or file to write (unset: exports/NAME with the format's ending)"
    )
    parser.add_argument("--out", type=Path, metavar="PATH", help=out_help)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what an earlier export has written"
    )
    cli_options(parser, ExportConfig, preset_decides=False)


def run(arguments: argparse.Namespace) -> int:
    """Prints what was written, and how to use it.

    Args:
        arguments: The options that were given, parsed.

    Returns:
        The exit status.
    """
    config = ExportConfig(**given_options(arguments, ExportConfig))
    from ..console import ConsoleListener
    from ..events import LostListener
    from ..startup import quiet_import
    from ..storage.model_folder import newest_folder

    folder = arguments.model or newest_folder()
    if config.format == "keras":
        with quiet_import():
            import keras  # noqa: F401
    listener = ConsoleListener()
    try:
        exported = export_model(
            folder,
            arguments.out,
            config.format,
            config.dtype,
            context_length=config.context_length,
            overwrite=arguments.overwrite,
            listener=LostListener(listener),
        )
    finally:
        listener.clear()
    print(f"wrote {exported.path}")
    if exported.path.is_dir():
        for name, size in exported.files.items():
            print(f"  {name:<40} {_size(size):>10}")
    else:
        print(f"  {_size(sum(exported.files.values()))}, {config.dtype}")
    if exported.notice:
        print(f"note: {exported.notice}", file=sys.stderr)
    print(f"\nnext:\n{next_step(exported)}")
    return 0


def _size(size: int) -> str:
    """Bytes for people, in powers of ten as file managers and hubs have them."""
    for unit, limit in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= limit:
            return f"{size / limit:.1f} {unit}"
    return f"{size} bytes"


def next_step(exported: Exported) -> str:
    """What uses what was written.

    Args:
        exported: What was written.

    Returns:
        Lines of Python or of a shell.
    """
    path = str(exported.path)
    return NEXT[exported.config.format].format(path=repr(path), shell=shlex.quote(path))


NEXT = {
    "hf": "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
    "tokenizer = AutoTokenizer.from_pretrained({path})\n"
    "model = AutoModelForCausalLM.from_pretrained({path})",
    "gguf": "from llama_cpp import Llama\n"
    "print(Llama({path})('TEXT', max_tokens=60)['choices'][0]['text'])",
    "keras": "import keras, minigpt_tf.model\nmodel = keras.models.load_model({path})",
    "h5": "import keras, minigpt_tf.model\nmodel = keras.models.load_model({path})",
    "onnx": "import onnxruntime\nsession = onnxruntime.InferenceSession({path} + '/model.onnx')",
    "tflite": "from minigpt_tf.interop.litert.running import LiteRTRunner\n"
    "print(next(LiteRTRunner({path}).logits([1])).argmax())",
    "litert": "pip install litert-lm\nlitert-lm run {shell} --prompt 'TEXT'",
    "c": 'cd {shell} && gcc -O3 -march=native model.c -lm -o model\n./model model.bin "who is ..."',
    "web": "python3 -m http.server --directory {shell}\nopen http://localhost:8000",
    "bundle": 'python3 {shell} "who is ..."',
}
"""Format -> the lines that use it, with its path in Python and in a shell."""
