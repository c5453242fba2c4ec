"""A diffusers folder of which some weight files are written anew. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lorasmith.errors import Problem

WEIGHTS = frozenset(
    {".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5", ".onnx", ".onnx_data"}
)
INDEX = ".index.json"


@dataclass(frozen=True, slots=True)
class FolderFiles:
    """Paths below the folder.

    Args:
        copied: taken over as they are.
        indexes: lists of shards, which must name the new files.
        left_out: other versions of weights that are written anew, which would still be the old.
    """

    copied: tuple[Path, ...]
    indexes: tuple[Path, ...]
    left_out: tuple[Path, ...]


def folder_files(folder: Path, rewritten: Collection[Path]) -> FolderFiles:
    """What becomes of each file of ``folder`` but ``rewritten``; hidden ones are no part of it."""
    changed = {path.parent for path in rewritten} | {folder}
    copied, indexes, left_out = [], [], []
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if not path.is_file() or path in rewritten or any(p.startswith(".") for p in below.parts):
            continue
        if path.name.endswith(INDEX) and path.parent in changed:
            indexes.append(below)
        elif path.suffix.lower() in WEIGHTS and path.parent in changed:
            left_out.append(below)
        else:
            copied.append(below)
    return FolderFiles(tuple(copied), tuple(indexes), tuple(left_out))


def new_name(name: str) -> str:
    """A weight file's name as a safetensors file, as diffusers and transformers have it."""
    if not name.endswith((".bin", f".bin{INDEX}")):
        return name
    stem, _, rest = name.rpartition(".bin")
    if stem.startswith("pytorch_model"):
        stem = stem.removeprefix("pytorch_")
    return f"{stem}.safetensors{rest}"


def new_index(text: str, sizes: Mapping[str, int]) -> str:
    """A list of shards with their new names and total size.

    Args:
        sizes: bytes of data of each new shard, by its name.
    """
    index = json.loads(text)
    named = {tensor: new_name(name) for tensor, name in index["weight_map"].items()}
    total = sum(sizes[name] for name in set(named.values()))
    metadata = {**index.get("metadata", {}), "total_size": total}
    return json.dumps({**index, "metadata": metadata, "weight_map": named}, indent=2) + "\n"


def check_folder(out: Path, inputs: Iterable[Path]) -> list[Problem]:
    """What keeps a folder from being written: nothing that exists is ever overwritten."""
    where, target = str(out), out.resolve()
    for path in inputs:
        given = path.resolve()
        if target == given:
            return [Problem(where, "is one of the inputs", "choose another name")]
        if given.is_dir() and target.is_relative_to(given):
            return [Problem(where, f"lies in {path}, which is read", "choose another folder")]
    if out.exists():
        return [Problem(where, "exists already", "choose another name, or remove it first")]
    if out.suffix in WEIGHTS:
        return [Problem(where, "the model is a folder, and so is the result", "name a folder")]
    return []
