"""Where the files of a training lie, by their names alone.

A run has a folder of its own, and its LoRA files lie in it (``runs/NAME/NAME.safetensors``), or
beside it: then it is hidden, ``.NAME.lorasmith``, since web UIs list what lies in all other folders
below their LoRA folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lorasmith.core.errors import RunError
from lorasmith.core.files import user_path

EPOCH_FILE = re.compile(r"(?P<name>.+)-(?P<number>\d{6})", re.ASCII | re.DOTALL)
STEP_FILE = re.compile(r"(?P<name>.+)-step(?P<number>\d{8})", re.ASCII | re.DOTALL)
_HIDDEN = re.compile(r"\.(?P<name>.+)\.lorasmith", re.DOTALL)

DEFAULT_OUTPUT = Path("runs")
# What tells a run's folder from another one.
RUN_FILES = ("settings.toml", "run.json")


def lora_name(path: Path) -> str:
    """Of ``NAME.safetensors``, ``NAME-000001.safetensors``, ``NAME-step00000100.safetensors``."""
    stem = path.name.removesuffix(".safetensors")
    match = STEP_FILE.fullmatch(stem) or EPOCH_FILE.fullmatch(stem)
    return match["name"] if match else stem


def extracted_path(result: Path, rank: int) -> Path:
    """Where the LoRA lies that is extracted from the checkpoint ``result``."""
    return result.with_name(f"{result.stem}-rank{rank}.safetensors")


def diffusers_folder(result: Path) -> Path:
    """Where the checkpoint ``result`` of a run lies in diffusers' form: in the run's folder."""
    hidden = hidden_folder(result.parent, result.stem)
    return (hidden if is_run(hidden) else result.parent) / "diffusers"


def hidden_folder(output: Path, name: str) -> Path:
    """The folder of a run whose LoRA files lie in ``output`` itself."""
    return output / f".{name}.lorasmith"


def loras_of(run: Path) -> tuple[Path, str]:
    """The folder that the LoRA files of the run in folder ``run`` lie in, and their name."""
    match = _HIDDEN.fullmatch(run.name)
    return (run.parent, match["name"]) if match else (run, run.name)


def runs_at(path: Path) -> list[Path]:
    """The run folders that ``path`` may mean: itself, that of the LoRA of this path (with or
    without its ending), or those that lie in this folder."""
    if is_run(path):
        return [path]
    for name in dict.fromkeys((path.name.removesuffix(".safetensors"), lora_name(path))):
        if is_run(hidden := hidden_folder(path.parent, name)):
            return [hidden]
    if path.is_file() and is_run(path.parent):
        return [path.parent]
    return sorted(_inside(path))


def _inside(folder: Path) -> Iterator[Path]:
    try:
        for each in folder.iterdir():
            if all((each / name).is_file() for name in RUN_FILES):
                yield each
    except OSError:  # Not a folder, or not to be read.
        return


def is_run(folder: Path) -> bool:
    """Whether this very folder is a run's, also one that has not begun to write its info."""
    return (folder / RUN_FILES[0]).is_file()


def find_run_folder(path: Path) -> Path:
    """The one run that ``path`` means, as :func:`runs_at` has it, from here or from ``runs``.

    Raises:
        RunError: there is none, or there are several.
    """
    path = user_path(path)
    for place in (path, DEFAULT_OUTPUT / path):
        runs = runs_at(place.resolve())
        if len(runs) == 1:
            return runs[0]
        if runs:
            names = [str(place / loras_of(run)[1]) for run in runs]
            shown = " or ".join(names[:4]) + (" …" if len(names) > 4 else "")
            raise RunError.of(path, f"holds {len(runs)} runs", f"say which: {shown}")
    raise RunError.of(
        path,
        "is not a run folder: it has no settings.toml; nor is it the LoRA of a run",
        "give the folder or the LoRA that `lorasmith train` printed, such as runs/my-character",
    )


def lora_folder(path: Path) -> Path:
    """The folder of LoRA files that ``path`` means: itself, or that of the run it names."""
    if path.is_dir() and _HIDDEN.fullmatch(path.name) is None:
        return path
    runs = runs_at(path.absolute())
    return loras_of(runs[0])[0] if len(runs) == 1 else path


def is_state_file(path: Path) -> bool:
    """Whether a file is a training's state, which runs keep beside their LoRAs."""
    return path.parent.name == "state" and path.name.startswith("step-")


BOOTSTRAP_FILE = "bootstrap.json"
"""How far a bootstrap has come; its folder holds an ordinary dataset, runs, and drawings."""

DRAWINGS = "drawings"
"""Of a project or a workspace: a folder in it for each day, with what was drawn then."""
DRAWN_FROM = "inputs"
"""In it: pictures and masks that drawings began with, and pictures whose settings were taken."""
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def is_day_of_drawings(path: Path) -> bool:
    """Whether a folder is a day's drawings, ``drawings/2026-01-31``."""
    return path.parent.name == DRAWINGS and _DAY.fullmatch(path.name) is not None


def is_drawn_folder(path: Path) -> bool:
    """Whether a folder belongs to drawings: a day's, or what they began with."""
    is_of_them = path.parent.name == DRAWINGS and path.name == DRAWN_FROM
    return is_of_them or is_day_of_drawings(path)
