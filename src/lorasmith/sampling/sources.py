"""Where prompts find what they name: LoRAs, embeddings, wildcards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lorasmith.core.errors import Problem, UserError
from lorasmith.core.events import Observer, ignore
from lorasmith.core.files import user_path
from lorasmith.formats.run_paths import DEFAULT_OUTPUT, lora_folder
from lorasmith.prompts.wildcards import Wildcards
from lorasmith.sampling.embeddings import EmbeddingLibrary
from lorasmith.sampling.lora_library import LoraLibrary

AnyPath = str | Path


@dataclass(slots=True)
class Sources:
    """
    Args:
        library: LoRAs by name; files that axes find elsewhere are added to it.
        embeddings, wildcards: of the prompts.
        folders: where a run may lie that is named without its folder.
        relatives: names of LoRAs that belong together: a run's snapshots.
    """

    library: LoraLibrary
    embeddings: EmbeddingLibrary = field(default_factory=EmbeddingLibrary)
    wildcards: Wildcards = field(default_factory=Wildcards)
    folders: Sequence[Path] = ()
    relatives: list[str] = field(default_factory=list)


def find_sources(
    loras: AnyPath | LoraLibrary | None = None,
    embeddings: AnyPath | EmbeddingLibrary | None = None,
    wildcards: AnyPath | Wildcards | None = None,
    observer: Observer = ignore,
    *,
    trained_embeddings: bool = False,
) -> Sources:
    """What is in these folders; what is no path is taken as it is.

    Args:
        loras: a folder, or a run; ``None`` is where training puts its results, if it is there.
        trained_embeddings: ``embeddings`` of ``None`` are those of there too.

    Raises:
        UserError: with every folder that is none.
    """
    lora_dir = lora_folder(user_path(loras)) if isinstance(loras, AnyPath) else None
    embedding_dir = lora_folder(user_path(embeddings)) if isinstance(embeddings, AnyPath) else None
    wildcard_dir = user_path(wildcards) if isinstance(wildcards, AnyPath) else None
    folders = {
        "loras": (lora_dir, "give the folder that holds your LoRAs"),
        "embeddings": (embedding_dir, ""),
        "wildcards": (wildcard_dir, ""),
    }
    problems = [
        problem
        for name, (folder, hint) in folders.items()
        if (problem := not_a_folder(name, folder, hint)) is not None
    ]
    if problems:
        raise UserError(problems)
    if loras is None and DEFAULT_OUTPUT.is_dir():
        lora_dir = DEFAULT_OUTPUT
    finds = trained_embeddings and embeddings is None and DEFAULT_OUTPUT.is_dir()
    if finds:
        embedding_dir = DEFAULT_OUTPUT
    return Sources(
        loras if isinstance(loras, LoraLibrary) else LoraLibrary(lora_dir, observer=observer),
        embeddings
        if isinstance(embeddings, EmbeddingLibrary)
        else EmbeddingLibrary(embedding_dir, runs=finds, observer=observer),
        wildcards if isinstance(wildcards, Wildcards) else Wildcards(wildcard_dir),
        [lora_dir] if lora_dir else [],
    )


def not_a_folder(name: str, path: Path | None, hint: str = "") -> Problem | None:
    """What is wrong with a folder that was given; nothing, with none."""
    if path is None or path.is_dir():
        return None
    what = "is a file, not a folder" if path.exists() else "does not exist"
    return Problem(name, f"{path} {what}", hint)
