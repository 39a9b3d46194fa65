"""A GGUF model in several files, as llama-gguf-split and the gguf package write them.

NAME-00001-of-00003.gguf has the metadata, and each file some of the tensors with `split.no`,
`split.count` and `split.tensors.count`.
"""

import re
from pathlib import Path

from ...errors import ModelFolderError
from .header import GGUFHeader, GGUFTensor, read_header
from .metadata import Metadata

_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)


def read_model_header(file: Path) -> GGUFHeader:
    """Reads the header of a model in one GGUF file or in several.

    Args:
        file: The file, or any one of them.

    Returns:
        The metadata of the first file, the tensors of all.

    Raises:
        ModelFolderError: One is missing, damaged, or of another model.
    """
    header = read_header(file)
    count = Metadata(file, header.metadata).whole("split.count", 1)
    if count < 2:
        return header
    tensors: dict[str, GGUFTensor] = {}
    total = None
    for number, part in enumerate(_parts(file, count)):
        if not part.is_file():
            raise ModelFolderError(
                f"{part}: is missing: the model is in {count} files, which lie in one folder"
            )
        read = read_header(part)
        values = Metadata(part, read.metadata)
        found = values.whole("split.no", 0), values.whole("split.count", 1)
        if found != (number, count):
            raise ModelFolderError(
                f"{part}: says that it is part {found[0] + 1} of {found[1]}: its name is another's"
            )
        twice = next((name for name in read.tensors if name in tensors), None)
        if twice is not None:
            raise ModelFolderError(f"{part}: has the tensor {twice:.60}, as a part before it has")
        tensors |= read.tensors
        if number == 0:
            header = read
            total = values.whole("split.tensors.count", 0)
    if total and len(tensors) != total:
        raise ModelFolderError(
            f"{file}: its {count} files have {len(tensors)} tensors, the first one says {total}"
        )
    return GGUFHeader(header.metadata, tensors)


def _parts(file: Path, count: int) -> list[Path]:
    """All files of a model, in order."""
    name = _NAME.fullmatch(file.name)
    if name is None or int(name[3]) != count:
        raise ModelFolderError(
            f"{file}: is one of {count} files of a model: they are found by their names, "
            f"NAME-00001-of-{count:05d}.gguf and so on; give it its own name again"
        )
    return [file.with_name(f"{name[1]}-{i:05d}-of-{count:05d}.gguf") for i in range(1, count + 1)]
