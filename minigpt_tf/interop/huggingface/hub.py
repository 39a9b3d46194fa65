"""Models on Hugging Face, by their id: downloaded into its own cache, or taken from there."""

import errno
import os
import re
from pathlib import Path

from ...errors import ModelFolderError
from .read_folder import only_pickles

WANTED = (
    "model*.safetensors",
    "*.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "LICEN[CS]E*",
    "NOTICE*",
    "COPYING*",
    "USE_POLICY*",
    "README.md",
)
"""The files of a repository that an import reads, all in its uppermost folder."""

LISTED = 5
"""How many models of the cache are named when there is no network."""

_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_ADDRESS = "https://huggingface.co/"


def looks_like_id(source: str) -> bool:
    """Whether this can be the id of a model: NAME or OWNER/NAME."""
    return _ID.fullmatch(source) is not None


def download(model_id: str, revision: str | None = None) -> Path:
    """Downloads a model with huggingface_hub, which resumes and caches.

    Args:
        model_id: Such as "HuggingFaceTB/SmolLM2-135M".
        revision: A branch, a tag or a commit (unset: the main branch).

    Returns:
        The folder with the files.

    Raises:
        ModelFolderError: The model is unavailable or has no safetensors; says what to do.
    """
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(
            model_id, revision=revision, allow_patterns=list(WANTED), ignore_patterns=["*/*"]
        )
    except Exception as error:  # huggingface_hub's own kinds, its network library's, and OSError
        raise ModelFolderError(_explain(error, model_id, revision)) from None
    if not any(Path(folder).glob("model*.safetensors")):
        raise ModelFolderError(_no_weights(model_id, revision))
    return Path(folder)


def _explain(error: Exception, model_id: str, revision: str | None) -> str:
    """One sentence: what went wrong, and what to do."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.HFValidationError):
        return f"{model_id}: no such file or folder, and no id of a model on Hugging Face"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{model_id} is gated: accept its terms on {_ADDRESS}{model_id}, and log in with "
            "`hf auth login`, or set HF_TOKEN"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{model_id}: there is no such file or folder here, and no such model on Hugging Face "
            "for this user: check the name, or log in with `hf auth login` if it is private"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{model_id} has no revision {revision!r}: see {_ADDRESS}{model_id}/tree/main"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return _not_reached(model_id, revision)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{model_id}: the disk of {constants.HF_HUB_CACHE} is full: make room, or set HF_HOME "
            "to a folder on another disk"
        )
    reason = " ".join(str(error).split()) or type(error).__name__
    return (
        f"{model_id} could not be downloaded ({reason:.160}): the same command continues where it "
        "stopped"
    )


def _not_reached(model_id: str, revision: str | None) -> str:
    """The error where the hub cannot be asked, and the cache does not contain the model."""
    from huggingface_hub import constants

    which = model_id if revision is None else f"{model_id} at {revision}"
    why = "Hugging Face cannot be reached"
    if constants.HF_HUB_OFFLINE:
        why = "HF_HUB_OFFLINE keeps it from being downloaded"
    models = _cached()
    more = f" and {len(models) - LISTED} more" if len(models) > LISTED else ""
    held = f" (there: {', '.join(models[:LISTED])}{more})" if models else ""
    return (
        f"{which} is not in the cache {constants.HF_HUB_CACHE}{held}, and {why}: copy its files "
        "here from elsewhere and give their folder, or try again with a network"
    )


def _cached() -> list[str]:
    """Ids of the models in the cache."""
    import huggingface_hub

    try:
        found = huggingface_hub.scan_cache_dir().repos
    except (huggingface_hub.errors.CacheNotFound, OSError, ValueError):
        return []
    return sorted(item.repo_id for item in found if item.repo_type == "model")


def _no_weights(model_id: str, revision: str | None) -> str:
    """The error for a repository without safetensors, by what it contains instead."""
    import huggingface_hub

    try:
        names = huggingface_hub.list_repo_files(model_id, revision=revision)
    except Exception:  # no network: what the repository holds besides cannot be known
        return f"{model_id}: its copy in the cache contains no safetensors"
    endings = {os.path.splitext(name)[1]: name for name in sorted(names)}
    for ending in (".bin", ".pt", ".pth"):
        if ending in endings:
            return only_pickles(model_id, endings[ending])
    if ".gguf" in endings:
        return (
            f"{model_id} holds {endings['.gguf']} and no safetensors: download that file, as with "
            f"`hf download {model_id} {endings['.gguf']}`, and import it"
        )
    return f"{model_id} contains no model.safetensors"
