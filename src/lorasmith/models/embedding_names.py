"""Textual-inversion embeddings by the names that prompts give them. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Self

from lorasmith.core.files import files_below, read_safetensors_header
from lorasmith.formats.embedding_header import read_embedding_header
from lorasmith.formats.run_paths import is_state_file
from lorasmith.models.placeholders import TokenNames
from lorasmith.models.tokenizer import token_ids

EXTENSIONS = (".safetensors", ".pt", ".bin")

# Bytes: a full prompt of SDXL's vectors takes 0.6 MB, and a folder of runs has checkpoints in it.
LARGEST_FOUND = 16_000_000


@dataclass(frozen=True, slots=True)
class EmbeddingSource:
    """Where an embedding is read from.

    Args:
        inside: its name in a file that holds more.
        word: that it was trained as, or is told apart by, where it goes by that and not by its
            file's name.
        carried: by a LoRA file that the prompt names.
    """

    path: Path
    inside: str = ""
    word: str = ""
    carried: bool = False

    @property
    def name(self) -> str:
        return self.inside or self.word or self.path.stem

    @property
    def vectors(self) -> int | None:
        """How many it has, as its file's header says; ``None`` where that does not."""
        header = read_embedding_header(self.path)
        return header.bundled.get(self.inside) if self.inside else header.vectors


class EmbeddingNames:
    """The embeddings of a folder and its sub-folders, by their files' names without extension;
    those that a LoRA file carries, or a file of several, by the names that they have in it. One
    that was trained here goes by the word that it was trained as too, where no file is called so.

    Args:
        folder: where to look; ``None`` for none. Hidden folders in it, where removed runs are kept,
            are left alone.
        named: somebody has said that it is a folder of embeddings. In another, as of runs, a file
            has to say itself that it is one, and gives way where a prompt names a LoRA that was
            trained on its name as plain words.
    """

    def __init__(self, folder: Path | None = None, *, named: bool = True) -> None:
        self._named = named
        self._added: set[str] = set()
        self.folder = folder
        found = [path for path in files_below(folder, EXTENSIONS) if not is_state_file(path)]
        files = {path: read_embedding_header(path) for path in found if named or _is_small(path)}
        if not named:
            files = {path: header for path, header in files.items() if header.is_embedding}
        self.files = [path for path, header in files.items() if header.is_embedding is not False]
        names: dict[str, EmbeddingSource] = {}
        for path in self.files:
            if not files[path].bundled:
                names.setdefault(path.stem, EmbeddingSource(path))
        # A run's snapshots have the same in them, and longer names than its result.
        shortest = sorted(files, key=lambda path: len(path.stem))
        for path in shortest:
            for name in files[path].bundled:
                names.setdefault(name, EmbeddingSource(path, name))
        known = {name.casefold() for name in names}  # Prompts do not tell capitals apart.
        for path in shortest:
            if (word := files[path].word) and word.casefold() not in known:
                names.setdefault(word, EmbeddingSource(path, word=word))
        self._know(names, {})

    def _know(
        self, names: Mapping[str, EmbeddingSource], given_way: Mapping[str, EmbeddingSource]
    ) -> None:
        self._by_name, self._by_tokens = dict(names), TokenNames(names)
        self._given_way = TokenNames(given_way)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._by_name)

    def add(self, path: Path) -> str:
        """Know a file of one embedding that may lie outside of the folder, and that gives way to
        nothing; returns the name to call it by."""
        for name in (path.stem, f"{path.parent.name}/{path.stem}", path.as_posix()):
            known = self.called(name)
            if known is None or (known.path.resolve(), known.name) == (path.resolve(), name):
                source = EmbeddingSource(path, word="" if name == path.stem else name)
                self._added.add(name)
                self._know({**self._by_name, name: source}, {})
                return name
        raise AssertionError(path)  # Its whole path is no other file's name.

    def carrying(self, files: Sequence[Path]) -> Self:
        """The same with the embeddings that LoRA files carry, before its own of those names."""
        carried = {
            name: EmbeddingSource(path, name, carried=True)
            for path in files
            for name in read_embedding_header(path).bundled
        }
        plain: set[str] = set()
        if not self._named:
            plain = {word.casefold() for path in files for word in _trained_words(path)}
        given_way = {
            name: one
            for name, one in self._by_name.items()
            if name.casefold() in plain and name not in self._added
        }
        if not carried and not given_way:
            return self
        others = copy(self)
        own = {name: one for name, one in self._by_name.items() if name not in given_way}
        others._know(own | carried, given_way)
        return others

    def find(self, ids: Sequence[int], place: int) -> tuple[int, EmbeddingSource] | None:
        """How many tokens at ``place`` are a name, and what it is the name of."""
        return self._by_tokens.at(ids, place)

    def gave_way(self, ids: Sequence[int], place: int) -> EmbeddingSource | None:
        """What :meth:`carrying` left out for a LoRA that has the word at ``place``."""
        match = self._given_way.at(ids, place)
        return None if match is None else match[1]

    def in_text(self, text: str) -> dict[str, EmbeddingSource]:
        """Those whose names stand in a text, whatever weights and brackets are around them."""
        ids, place, found = token_ids(text), 0, {}
        while place < len(ids):
            match = self.find(ids, place)
            if match is not None:
                found[match[1].name] = match[1]
            place += 1 if match is None else match[0]
        return found

    def called(self, name: str) -> EmbeddingSource | None:
        """That of a name, in any case of letters."""
        folded = name.casefold()
        return next((one for own, one in self._by_name.items() if own.casefold() == folded), None)

    def nearest(self, name: str) -> list[str]:
        """Names like it, the most alike first."""
        return get_close_matches(name, self.names)


def _is_small(path: Path) -> bool:
    try:
        return path.stat().st_size <= LARGEST_FOUND
    except OSError:  # Removed meanwhile.
        return False


def _trained_words(path: Path) -> list[str]:
    """The tags of the trigger that a LoRA file names: it was trained on them as they are."""
    try:
        phrase = read_safetensors_header(path).metadata.get("modelspec.trigger_phrase", "")
    except (ValueError, OSError):  # A pickle, or damaged: loading it says so.
        return []
    return [tag.strip() for tag in phrase.split(",") if tag.strip()]
