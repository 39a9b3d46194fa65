"""Which file `summary` and `view` look into."""

from pathlib import Path

from ..config import MODEL_NAME
from ..errors import ModelFolderError


def model_file(path: Path) -> Path:
    """The .h5 file of a model folder, or the file itself. Raises ModelFolderError."""
    file = path / MODEL_NAME if path.is_dir() else path
    if not file.is_file():
        raise ModelFolderError(f"{file}: no such model file")
    return file
