"""The models that lie in a folder: what each is, and where it came from."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import CONFIG_NAME, MODELS_DIRECTORY, ModelConfig
from ..config.settings import from_dict
from ..errors import MiniGPTError, ModelFolderError
from ..storage.model_folder import (
    CHAT_TEMPLATE_NAME,
    CLASSIFIER_SECTION,
    has_checkpoint,
    holds_model,
    read_description,
)


@dataclass(frozen=True)
class ListedModel:
    """A model folder, described without its weights."""

    path: Path
    config: ModelConfig | None
    """None if the model is unfinished or damaged."""
    size: int = 0
    """Of its files, in bytes."""
    family: str = ""
    """The architecture that it was imported as, or the preset of the training here."""
    method: str = ""
    """How it was made: training, import, or the method of its fine-tuning."""
    base: str = ""
    """What it was fine-tuned from."""
    template: bool = False
    """Whether it has a chat template."""
    license: str = ""
    """As its source names it; empty if unknown."""
    fault: str = ""
    """Why it cannot be used."""

    def as_json(self) -> dict[str, Any]:
        """As plain data, for --json.

        Returns:
            The fields, with the number of parameters and the context.
        """
        known = self.config
        return {
            "path": str(self.path),
            "family": self.family,
            "parameters": known and known.parameter_count,
            "size": self.size,
            "context_length": known and known.context_length,
            "chat_template": self.template,
            "method": self.method,
            "base": self.base,
            "license": self.license,
            "fault": self.fault,
        }


def list_models(folder: str | Path = MODELS_DIRECTORY) -> list[ListedModel]:
    """All model folders in a folder, by name. No weights are read.

    Args:
        folder: Where the model folders are.

    Returns:
        The models; a damaged one with its fault.

    Raises:
        ModelFolderError: The folder does not exist.
    """
    place = Path(folder)
    if not place.is_dir():
        raise ModelFolderError(
            f"{place}: no such folder: train a model with minigpt train --data FILE, or name "
            "another folder"
        )
    return [
        _listed(path) for path in sorted(place.iterdir()) if path.is_dir() and holds_model(path)
    ]


def _listed(path: Path) -> ListedModel:
    """One model folder."""
    size = sum(_sizes(path))
    if not (path / CONFIG_NAME).is_file() and has_checkpoint(path):
        return ListedModel(path, None, size, method="training", fault="unfinished: --resume")
    try:
        description = read_description(path)
        config = from_dict(ModelConfig, description.get("model"), str(path / CONFIG_NAME))
    except MiniGPTError as error:
        return ListedModel(path, None, size, fault=str(error))
    tuning, source = _section(description, "finetuning"), _section(description, "source")
    training = _section(description, "training")
    if CLASSIFIER_SECTION in description:
        method = "classifier"
    elif tuning:
        method = str(tuning.get("method", "fine-tuning"))
    else:
        method = "import" if source else "training"
    return ListedModel(
        path,
        config,
        size,
        family=str(source.get("architecture") or training.get("preset") or ""),
        method=method,
        base=Path(str(tuning["base"])).name if tuning.get("base") else "",
        template=(path / CHAT_TEMPLATE_NAME).is_file(),
        license=str(source.get("license") or ""),
    )


def _section(description: dict[str, Any], name: str) -> dict[str, Any]:
    """A section of config.json; {} if it is not an object."""
    found = description.get(name)
    return found if isinstance(found, dict) else {}


def _sizes(path: Path) -> Iterator[int]:
    """Of the files in a folder; one that has just gone is not counted."""
    for file in path.rglob("*"):
        try:
            if file.is_file():
                yield file.stat().st_size
        except OSError:
            continue
