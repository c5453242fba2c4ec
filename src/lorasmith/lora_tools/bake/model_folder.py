"""A diffusers folder of which some weight files are written anew."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lorasmith.core.errors import Problem
from lorasmith.core.files import parse_json
from lorasmith.lora_tools.outputs import check_new

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
    for path in sorted(_files(folder)):
        below = path.relative_to(folder)
        if path in rewritten or any(part.startswith(".") for part in below.parts):
            continue
        if path.name.endswith(INDEX) and path.parent in changed:
            indexes.append(below)
        elif path.suffix.lower() in WEIGHTS and path.parent in changed:
            left_out.append(below)
        else:
            copied.append(below)
    return FolderFiles(tuple(copied), tuple(indexes), tuple(left_out))


def _files(folder: Path) -> Iterator[Path]:
    """Of it and all folders below, those behind links included."""
    above: dict[str, tuple[Path, ...]] = {str(folder): (folder.resolve(),)}
    for name, folders, files in os.walk(folder, followlinks=True):
        yield from (path for file in files if (path := Path(name, file)).is_file())
        chain = above.pop(name)
        for inner in list(folders):
            real = Path(name, inner).resolve()
            if real in chain:
                folders.remove(inner)  # A link to a folder that it lies in has no end.
            else:
                above[os.path.join(name, inner)] = (*chain, real)


def new_name(name: str) -> str:
    """A weight file's name as a safetensors file, as diffusers and transformers have it."""
    if not name.endswith((".bin", f".bin{INDEX}")):
        return name
    stem, _, rest = name.rpartition(".bin")
    if stem.startswith("pytorch_model"):
        stem = stem.removeprefix("pytorch_")
    return f"{stem}.safetensors{rest}"


def renamed(path: Path) -> Path:
    return path.with_name(new_name(path.name))


def new_index(text: str, sizes: Mapping[str, int]) -> str:
    """A list of shards with their new names and total size.

    Args:
        sizes: bytes of data of each new shard, by its name.
    """
    index = parse_json(text)
    weight_map = {tensor: new_name(name) for tensor, name in index["weight_map"].items()}
    total = sum(sizes[name] for name in set(weight_map.values()))
    metadata = {**index.get("metadata", {}), "total_size": total}
    return json.dumps({**index, "metadata": metadata, "weight_map": weight_map}, indent=2) + "\n"


def check_folder(out: Path, inputs: Iterable[Path]) -> list[Problem]:
    """What keeps a folder from being written: nothing that exists is ever overwritten."""
    where = str(out)
    try:
        target = out.resolve()
        resolved = [(path, path.resolve()) for path in inputs]
    except (OSError, RuntimeError) as error:  # a name that is too long, links in a circle
        return [Problem(where, f"cannot be written: {error}", "choose another name or folder")]
    for path, source in resolved:
        if target == source:
            return [Problem(where, "is one of the inputs", "choose another name")]
        if source.is_dir() and target.is_relative_to(source):
            return [Problem(where, f"lies in {path}, which is read", "choose another folder")]
    if problems := check_new(out):
        return problems
    if out.suffix in WEIGHTS:
        return [Problem(where, "the model is a folder, and so is the result", "name a folder")]
    return []
