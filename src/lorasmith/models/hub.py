"""Models from the Hugging Face hub: only what is needed is fetched."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from lorasmith.core.errors import CheckpointError
from lorasmith.models.diffusers_folder import FOLDER_CONFIGS, PART_FOLDERS, choose_weights

HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+(?P<file>/[\w./ -]+\.(safetensors|ckpt|pt|bin))?$")
SECONDS = 10.0  # to wait for the hub's first answer
SINGLE_FILE = (".safetensors", ".ckpt", ".pt")


def is_hub_id(source: str) -> bool:
    """Whether ``source`` reads like ``owner/model`` or ``owner/model/file.safetensors``."""
    match = HUB_ID.match(source)
    return match is not None and (match["file"] is not None or not source.endswith(SINGLE_FILE))


def fetch(source: str, *, vae: bool = False) -> Path:
    """The local folder or file of a base model's hub id, downloaded if it is not in its cache.

    ``vae`` fetches the VAE alone, which may also lie at the repository's top.

    Raises:
        CheckpointError: as :func:`fetch_files`; or the repository is no diffusers folder.
    """
    owner, name, *file = source.split("/", 2)
    repository = f"{owner}/{name}"
    if not file:
        return fetch_files(repository, lambda names: _needed_files(repository, names, vae))
    with _explained(source):
        from huggingface_hub import hf_hub_download

        offline = _file_names(repository) is None
        return Path(hf_hub_download(repository, file[0], local_files_only=offline))


def fetch_files(repository: str, choose: Callable[[list[str]], list[str]]) -> Path:
    """The local folder of a repository ``owner/model``, with those of its files that are needed,
    downloaded if they are not in the hub's cache.

    Without a network, what an earlier download left in that cache will do.

    Args:
        choose: the needed ones of all files' names.

    Raises:
        CheckpointError: there is no such model, it needs permission, or there is no network.
    """
    with _explained(repository):
        # Here, since most models are files, and the hub's library takes long to import.
        from huggingface_hub import snapshot_download

        names = _file_names(repository)
        patterns = None if names is None else choose(names)
        return Path(
            snapshot_download(repository, allow_patterns=patterns, local_files_only=names is None)
        )


@contextlib.contextmanager
def _explained(source: str) -> Iterator[None]:
    """Within it, what goes wrong with the hub is told to the user."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        hint = "accept its licence on its page, then run `hf auth login`"
        raise CheckpointError.of(source, "this model asks for permission", hint) from error
    except (RepositoryNotFoundError, RemoteEntryNotFoundError, HFValidationError) as error:
        what = "there is no such file or folder here, and no such model on the Hugging Face hub"
        raise CheckpointError.of(source, what, "check the spelling") from error
    except _unreached() as error:
        what = (
            "there is no such file or folder here, and the Hugging Face hub cannot be reached "
            f"({type(error).__name__})"
        )
        hint = "check the path, or the network; or download the model and give where it lies"
        raise CheckpointError.of(source, what, hint) from error


def _unreached() -> tuple[type[Exception], ...]:
    """What is raised where the hub does not answer."""
    from huggingface_hub.errors import HfHubHTTPError

    # HfHubHTTPError's own base is the error of the HTTP library below, whichever that is.
    return OSError, HfHubHTTPError.__mro__[1]


def _file_names(repository: str) -> list[str] | None:
    """The files of a repository, or None when the hub cannot be reached.

    Asked first because this one call does not try again and again for half a minute.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        siblings = HfApi().model_info(repository, timeout=SECONDS).siblings
    except _unreached() as error:
        if isinstance(error, HfHubHTTPError):  # it was reached, and said no
            raise
        return None
    return [file.rfilename for file in siblings or ()]


def _needed_files(repository: str, names: list[str], vae: bool = False) -> list[str]:
    """Those files of a diffusers folder that a base model (or its VAE) needs."""
    top = choose_weights("vae", names) if vae else []
    if top:
        return [*top, "config.json"]
    paths = [name for name in names if name in FOLDER_CONFIGS]
    for part in ["vae"] if vae else PART_FOLDERS:
        inside = [n.removeprefix(f"{part}/") for n in names if n.startswith(f"{part}/")]
        paths += [f"{part}/{name}" for name in choose_weights(part, inside)]
    if any(name.startswith("vae/" if vae else "unet/") for name in paths):
        return paths
    files = [name for name in names if name.endswith(SINGLE_FILE) and "/" not in name]
    if files:
        hint = "name one of its files: " + ", ".join(f"{repository}/{n}" for n in files[:4])
    else:
        hint = "choose a Stable Diffusion repository"
    raise CheckpointError.of(repository, "this repository is not a diffusers folder", hint)
