"""Where a tagger's files are: in the package, in a folder, or on the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasmith.core.errors import CheckpointError
from lorasmith.core.files import ASSETS, parse_json
from lorasmith.core.text import did_you_mean, shortlist
from lorasmith.curation.tagger.labels import LABEL_FILES, Labels, read_labels

DEMO = "demo"
DEMO_FOLDER = ASSETS / "demo_tagger"
DEFAULT = "wd-vit-tagger-v3"

_SMILINGWOLF = (
    *("wd-vit-tagger-v3", "wd-swinv2-tagger-v3", "wd-convnext-tagger-v3"),
    *("wd-vit-large-tagger-v3", "wd-eva02-large-tagger-v3"),
    *("wd-v1-4-moat-tagger-v2", "wd-v1-4-swinv2-tagger-v2", "wd-v1-4-convnextv2-tagger-v2"),
    *("wd-v1-4-convnext-tagger-v2", "wd-v1-4-vit-tagger-v2"),
    *("wd-v1-4-convnext-tagger", "wd-v1-4-vit-tagger"),
)
KNOWN: dict[str, str] = {
    **{name: f"SmilingWolf/{name}" for name in _SMILINGWOLF},
    "cl_tagger": "cella110n/cl_tagger/cl_tagger_1_02",
    "deepdanbooru": "skytnt/deepdanbooru_onnx",
    "pixai-tagger": "deepghs/pixai-tagger-v0.9-onnx",
}
"""Taggers by a short name: owner/model, and perhaps the folder in it."""

CALLED: dict[str, str] = {
    **dict.fromkeys(("wd", "wd14", "wd-14", "wd-tagger", "wd14-tagger"), DEFAULT),
    "cl-tagger": "cl_tagger",
    "pixai": "pixai-tagger",
    "deepbooru": "deepdanbooru",
}
"""What other programs and their guides call taggers of :data:`KNOWN`."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(/[\w.-]+)*")
# In the order in which they are taken, where a folder has several.
_WEIGHTS = ("model.onnx", "model_optimized.onnx", "deepdanbooru.onnx", "model.safetensors")
_SUFFIXES = (".onnx", ".pt", ".safetensors")
_CONFIG = "config.json"
_LFS = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class TaggerFiles:
    """
    Args:
        name: short, as it is written beside scores.
        weights: `.onnx`, DeepDanbooru's `.pt`, or timm's `.safetensors`.
        labels: one of the label files, or ``None``: some models carry their labels inside.
        config: what `config.json` beside it says, timm's form; empty without one.
    """

    name: str
    weights: Path
    labels: Path | None
    config: dict[str, Any]


def find_tagger(source: str, fetching: Callable[[str], None] = lambda name: None) -> TaggerFiles:
    """The files of a tagger.

    Args:
        source: ``demo``, a folder, a model file in one, a name of :data:`KNOWN` or
            :data:`CALLED`, or ``owner/model`` (perhaps with a folder in it) of the hub.
        fetching: called with the hub's name before anything is looked for there.

    Raises:
        CheckpointError: there is none, or its folder lacks the weights or the labels.
    """
    if source == DEMO:
        return _in_folder(DEMO_FOLDER, DEMO)
    path = Path(source)
    if path.is_dir():
        return _in_folder(path, path.resolve().name)
    if path.is_file():
        return _of_file(path, path.resolve().parent.name)
    source = CALLED.get(source.lower().replace("_", "-"), source)
    repository = KNOWN.get(source, source)
    if not _HUB_ID.fullmatch(repository) or path.suffix.lower() in _SUFFIXES:
        names = [DEMO, *KNOWN]
        known = f"give a folder, owner/model of the hub, or one of {', '.join(names)}"
        hint = did_you_mean(source, names, known)
        raise CheckpointError.of(source, "there is no such tagger", hint)
    fetching(repository)
    return _from_hub(repository, source.rpartition("/")[2])


def find_labels(source: str) -> Labels:
    """What a tagger knows by name, without its weights.

    Args:
        source: ``demo``, a folder with a label file, or such a file.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = DEMO_FOLDER if source == DEMO else Path(source)
    if not path.exists():
        hint = f"give a label file ({shortlist(LABEL_FILES, 3)}), a folder with one, or demo"
        raise CheckpointError.of(source, "there is no such file or folder", hint)
    labels = _label_file(path) if path.is_dir() else path
    if labels is None:
        hint = f"put the tagger's own there: {shortlist(LABEL_FILES, 3)}"
        raise CheckpointError.of(source, "holds no list of labels", hint)
    return read_labels(labels)


def _from_hub(repository: str, name: str) -> TaggerFiles:
    from lorasmith.models.hub import fetch_files

    owner, model, *inside = repository.split("/")
    folder = "/".join(inside)

    def needed(names: list[str]) -> list[str]:
        prefix = f"{folder}/" if folder else ""
        beside = [
            one.removeprefix(prefix)
            for one in names
            if one.startswith(prefix) and "/" not in one.removeprefix(prefix)
        ]
        if not beside:
            folders = sorted({one.rpartition("/")[0] for one in names if "/" in one})
            hint = f"it has {shortlist(folders, 4)}" if folders else "check the spelling"
            raise CheckpointError.of(repository, "has no such folder", hint)
        weights = _choose([one for one in beside if one.endswith(_SUFFIXES)], repository)
        # Weights of more than 2 GB lie beside the ONNX file under its name.
        chosen = [one for one in beside if one == weights or one.startswith(f"{weights}")]
        chosen += [one for one in beside if one in (*LABEL_FILES, _CONFIG)]
        return [prefix + one for one in chosen]

    return _in_folder(fetch_files(f"{owner}/{model}", needed) / folder, name)


def _in_folder(folder: Path, name: str) -> TaggerFiles:
    try:
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
    except OSError as error:
        hint = "mend its permissions"
        raise CheckpointError.of(folder, f"cannot be read: {error.strerror}", hint) from error
    weights = [one for one in names if Path(one).suffix.lower() in _SUFFIXES]
    return _of_file(folder / _choose(weights, str(folder)), name)


def _choose(names: Sequence[str], where: str) -> str:
    """The weights among several files.

    Raises:
        CheckpointError: there are none, or nobody can tell which.
    """
    for name in _WEIGHTS:
        if name in names:
            return name
    if not names:
        what = "holds no tagger: no file ends in .onnx, .pt or .safetensors"
        raise CheckpointError.of(where, what, "put model.onnx and its label file there")
    if len(names) > 1:
        hint = f"name the file itself: {shortlist(sorted(names), 4)}"
        raise CheckpointError.of(where, "holds several models", hint)
    return names[0]


def _of_file(path: Path, name: str) -> TaggerFiles:
    if path.suffix.lower() not in _SUFFIXES:
        what = "is not a tagger: expected .onnx, .pt or .safetensors"
        raise CheckpointError.of(path, what, "give the folder that the tagger is in")
    try:
        with open(path, "rb") as file:
            head = file.read(len(_LFS))
    except OSError as error:
        hint = "mend its permissions"
        raise CheckpointError.of(path, f"cannot be read: {error.strerror}", hint) from error
    if head == _LFS:
        raise CheckpointError.of(path, "is a Git LFS pointer, not the model", "run git lfs pull")
    if not head:
        raise CheckpointError.of(path, "the file is empty (0 bytes)", "download it again")
    return TaggerFiles(name, path, _label_file(path.parent), _config(path.parent))


def _label_file(folder: Path) -> Path | None:
    """By its full name; or the only file that is named like one ("wd-tags.csv")."""
    for name in LABEL_FILES:
        if (folder / name).is_file():
            return folder / name
    similar = [
        path
        for path in sorted(folder.iterdir())
        if path.name.lower().endswith(("tags.csv", "tag_mapping.json", "tags.txt"))
    ]
    return similar[0] if len(similar) == 1 else None


def _config(folder: Path) -> dict[str, Any]:
    path = folder / _CONFIG
    if not path.is_file():
        return {}
    try:
        value = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError.of(path, f"is not JSON: {error}", "download it again") from error
    return value if isinstance(value, dict) else {}
