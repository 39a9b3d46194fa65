"""The exports that need no other program: C, a web page, a file for Python."""

import shutil
import zipfile
from pathlib import Path

from ...config import ExportConfig
from ...config.running import ExportDType
from ...inference.folder import ModelFolder
from .writing import write_portable

MODEL_FILE = "model.bin"
HERE = Path(__file__).parent
PROGRAMS = {"c": ("model.c",), "web": ("web/index.html", "web/model.js", "web/worker.js")}
"""Format -> the files that go beside model.bin."""


def write_program(folder: ModelFolder, out: Path, config: ExportConfig) -> None:
    """Writes model.bin, and the program or the page that reads it.

    Args:
        folder: The model.
        out: An empty folder.
        config: The format, one of PROGRAMS, and the dtype of the matrices.

    Raises:
        ConfigError: The tokenizer cannot be read by the program.
    """
    write_portable(folder, out / MODEL_FILE, config.dtype)
    for name in PROGRAMS[config.format]:
        shutil.copyfile(HERE / name, out / Path(name).name)


def write_bundle(folder: ModelFolder, file: Path, dtype: ExportDType) -> None:
    """Writes one file that Python runs.

    Args:
        folder: The model.
        file: The .pyz file.
        dtype: Of the matrices.

    Raises:
        ConfigError: The tokenizer cannot be read by the program.
    """
    content = file.with_name(MODEL_FILE)
    write_portable(folder, content, dtype)
    with open(file, "wb") as out:
        out.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(out, "w") as bundle:  # stored as it is: weights do not compress
            bundle.write(HERE / "answer.py", "__main__.py")
            bundle.write(content, MODEL_FILE)
    content.unlink()
    file.chmod(0o755)
