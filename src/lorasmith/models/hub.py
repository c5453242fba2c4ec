"""Models from the Hugging Face hub: only what a base model needs is fetched."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from lorasmith.errors import CheckpointError
from lorasmith.models.folder import FOLDER_CONFIGS, PART_FOLDERS, choose_weights

HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+(?P<file>/[\w./ -]+\.(safetensors|ckpt|pt|bin))?$")
# HfHubHTTPError's own base is the error of the HTTP library below, whichever that is.
UNREACHED: tuple[type[Exception], ...] = (OSError, HfHubHTTPError.__mro__[1])
SINGLE_FILE = (".safetensors", ".ckpt", ".pt")


def is_hub_id(source: str) -> bool:
    """Whether ``source`` reads like ``owner/model`` or ``owner/model/file.safetensors``."""
    match = HUB_ID.match(source)
    return match is not None and (match["file"] is not None or not source.endswith(SINGLE_FILE))


def fetch(source: str) -> Path:
    """The local folder or file of a hub id, downloaded if it is not in the hub's cache.

    Raises:
        CheckpointError: there is no such model, it needs permission, or there is no network.
    """
    owner, name, *file = source.split("/", 2)
    repository = f"{owner}/{name}"
    try:
        if file:
            return Path(hf_hub_download(repository, file[0]))
        return _fetch_folder(repository)
    except GatedRepoError as error:
        todo = "accept its licence on its page, then run `hf auth login`"
        raise CheckpointError.of(source, "this model asks for permission", todo) from error
    except (RepositoryNotFoundError, RemoteEntryNotFoundError, HFValidationError) as error:
        what = "there is no such file or folder here, and no such model on the Hugging Face hub"
        raise CheckpointError.of(source, what, "check the spelling") from error
    except UNREACHED as error:
        what = (
            "there is no such file or folder here, and the Hugging Face hub cannot be reached "
            f"({type(error).__name__})"
        )
        todo = "check the path, or the network; or download the checkpoint and give its file"
        raise CheckpointError.of(source, what, todo) from error


def _fetch_folder(repository: str) -> Path:
    try:
        names = HfApi().list_repo_files(repository)
    except UNREACHED as error:
        if isinstance(error, HfHubHTTPError):  # the hub was reached, and said no
            raise
        # No network: what an earlier download left in the hub's cache will do.
        return Path(snapshot_download(repository, local_files_only=True))
    wanted = [name for name in names if name in FOLDER_CONFIGS]
    for part, folder in PART_FOLDERS.items():
        inside = [n.removeprefix(f"{folder}/") for n in names if n.startswith(f"{folder}/")]
        wanted += [f"{folder}/{name}" for name in choose_weights(part, inside)]
    if not any(name.startswith("unet/") for name in wanted):
        files = [name for name in names if name.endswith(SINGLE_FILE) and "/" not in name]
        what = "this repository is not a diffusers folder"
        if files:
            todo = "name one of its files: " + ", ".join(f"{repository}/{n}" for n in files[:4])
        else:
            todo = "choose a Stable Diffusion 1 repository"
        raise CheckpointError.of(repository, what, todo)
    return Path(snapshot_download(repository, allow_patterns=wanted))
