"""The exports that need no other program: C, a web page, a file for Python."""

import shutil
import zipfile
from pathlib import Path

from ...config.running import ExportDType
from ...inference.folder import ModelFolder
from .writing import write_portable

MODEL_FILE = "model.bin"
HERE = Path(__file__).parent
WEB_FILES = ("index.html", "model.js", "worker.js")


def write_c(folder: ModelFolder, out: Path, dtype: ExportDType) -> None:
    """Writes model.c and model.bin.

    Args:
        folder: The model.
        out: An empty folder.
        dtype: Of the matrices.

    Raises:
        ConfigError: The tokenizer cannot be read by the program.
    """
    write_portable(folder, out / MODEL_FILE, dtype)
    shutil.copyfile(HERE / "model.c", out / "model.c")


def write_web(folder: ModelFolder, out: Path, dtype: ExportDType) -> None:
    """Writes a page and model.bin, for any server of files.

    Args:
        folder: The model.
        out: An empty folder.
        dtype: Of the matrices.

    Raises:
        ConfigError: The tokenizer cannot be read by the program.
    """
    write_portable(folder, out / MODEL_FILE, dtype)
    for name in WEB_FILES:
        shutil.copyfile(HERE / "web" / name, out / name)


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
