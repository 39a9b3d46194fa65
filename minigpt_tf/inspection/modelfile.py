"""Which file `summary` and `view` look into."""

from pathlib import Path

from ..config import MODEL_NAME
from ..errors import ModelFolderError
from ..storage.manifest import settle


def model_file(path: Path) -> Path:
    """The file that `summary` and `view` look into.

    Args:
        path: A model folder, or a Keras file.

    Returns:
        The folder's model.h5, or the file itself.

    Raises:
        ModelFolderError: There is no such file.
    """
    if path.is_dir():
        settle(path)
    file = path / MODEL_NAME if path.is_dir() else path
    if not file.is_file():
        raise ModelFolderError(f"{file}: no such model file")
    return file
