"""Where prompts find what they name: LoRAs, embeddings, wildcards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lorasmith.core.errors import Problem, UserError
from lorasmith.core.events import Observer, ignore
from lorasmith.core.file_names import shell_word
from lorasmith.core.files import user_path
from lorasmith.formats.run_paths import DEFAULT_OUTPUT, lora_folder
from lorasmith.models.embedding_names import EmbeddingNames
from lorasmith.prompts.lora_tags import take_tags
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
        unsearched: embeddings where training puts its results, where that was not looked into.
    """

    library: LoraLibrary
    embeddings: EmbeddingLibrary = field(default_factory=EmbeddingLibrary)
    wildcards: Wildcards = field(default_factory=Wildcards)
    folders: Sequence[Path] = ()
    relatives: list[str] = field(default_factory=list)
    unsearched: EmbeddingNames = field(default_factory=EmbeddingNames)

    def unused(self, prompts: Iterable[str]) -> list[str]:
        """What is to be told of words in prompts that an embedding has which was not searched."""
        names: dict[str, Path] = {}
        for prompt in {take_tags(prompt)[0]: None for prompt in prompts}:
            known = {name.casefold() for name in self.embeddings.in_text(prompt)}
            for name, source in self.unsearched.in_text(prompt).items():
                if name.casefold() not in known:
                    names[name] = source.path
        return [
            f"{name} is read as words: the embedding in {path} is not in {self.embeddings.folder}; "
            f"to use it give --embedding-dir {shell_word(path.parent)}"
            for name, path in names.items()
        ]


def find_sources(
    loras: AnyPath | LoraLibrary | None = None,
    embeddings: AnyPath | EmbeddingLibrary | None = None,
    wildcards: AnyPath | Wildcards | None = None,
    observer: Observer = ignore,
) -> Sources:
    """What is in these folders; what is no path is taken as it is.

    Args:
        loras: a folder, or a run; ``None`` is where training puts its results, if it is there.
        embeddings: ``None`` are those among the LoRAs.

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
    library = loras if isinstance(loras, LoraLibrary) else LoraLibrary(lora_dir, observer=observer)
    if isinstance(embeddings, EmbeddingLibrary):
        known = embeddings
    else:
        named = embedding_dir is not None
        place = embedding_dir if named else library.folder
        known = EmbeddingLibrary(place, named=named, observer=observer)
    return Sources(
        library,
        known,
        wildcards if isinstance(wildcards, Wildcards) else Wildcards(wildcard_dir),
        [lora_dir] if lora_dir else [],
        unsearched=_unsearched(known.folder),
    )


def _unsearched(searched: Path | None) -> EmbeddingNames:
    """Those of ``runs``, where that is no folder that was searched, or in one."""
    runs = DEFAULT_OUTPUT
    if not runs.is_dir() or searched is None or runs.resolve().is_relative_to(searched.resolve()):
        return EmbeddingNames()
    return EmbeddingNames(runs, named=False)


def not_a_folder(name: str, path: Path | None, hint: str = "") -> Problem | None:
    """What is wrong with a folder that was given; nothing, with none."""
    if path is None or path.is_dir():
        return None
    what = "is a file, not a folder" if path.exists() else "does not exist"
    return Problem(name, f"{path} {what}", hint)
