"""Folders of runs given another name, put into the trash and brought back, and their LoRA files
copied to where a web UI looks for them. None of it while something works on the run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from lorasmith.core.disk import discard, rename, replace_file, write_error
from lorasmith.core.errors import RunError
from lorasmith.core.file_names import name_problem
from lorasmith.core.files import free_bytes
from lorasmith.core.text import bytes_text
from lorasmith.formats.run_paths import hidden_folder, lora_name
from lorasmith.jobs.queue.ledger import Ledger
from lorasmith.training.runs.folder import RunFolder, existing_run_folder

_TRASH = Path(".lorasmith") / "trash"
"""Beside the folders of runs: what is in it is listed by nobody."""


def rename_run(run: Path, name: str, ledger: Ledger | None = None) -> Path:
    """Give a run, its LoRA files and their cards another name. What is said in the files stays.

    Args:
        run: its folder, or its LoRA where that lies beside it.
        ledger: of the workspace, whose jobs are then of the renamed run.

    Returns:
        The new folder.

    Raises:
        RunError: it is no run, something works on it, or the name is taken or no name.
        WriteError: a file cannot be moved; what was moved is moved back.
    """
    folder = existing_run_folder(run)
    _refuse_busy(folder, ledger)
    problem = name_problem(name) if name.strip() else "it is empty"
    if not problem and name.startswith((".", "-", "~")):
        problem = f"it begins with {name[0]!r}"
    if not problem and len(os.fsencode(name)) > 150:  # Files of it have longer ones.
        problem = "it is longer than 150 bytes"
    if problem:
        raise RunError.of("name", f"{name!r} cannot name a run: {problem}", "choose another")
    if name == folder.name:
        return folder.path
    place = folder.loras if folder.flat else folder.path.parent
    new = hidden_folder(place, name) if folder.flat else place / name
    for taken in (place / name, hidden_folder(place, name), place / f"{name}.safetensors"):
        # Systems that do not tell A from a have it already under its old name.
        if os.path.lexists(taken) and not _is_same(taken, folder.path):
            raise RunError.of("name", f"{name} is there already", "choose another")
    moves = [(path, path.with_name(name + path.name[len(folder.name) :])) for path in _own(folder)]
    _move([*moves, (folder.path, new)])
    if ledger is not None:
        ledger.move_run(str(folder.path), str(new))
    return new


def remove_run(run: Path, ledger: Ledger | None = None, *, for_good: bool = False) -> Path | None:
    """Put a run with its LoRA files and samples into the trash beside it, or delete it.

    Returns:
        What :func:`restore_run` brings back; ``None`` where it is gone for good.

    Raises:
        RunError: it is no run, or something works on it.
        WriteError: a file cannot be moved or deleted.
    """
    folder = existing_run_folder(run)
    _refuse_busy(folder, ledger)
    place = folder.loras if folder.flat else folder.path.parent
    kept, number = place / _TRASH / folder.name, 1
    while os.path.lexists(kept):
        number += 1
        kept = kept.with_name(f"{folder.name}-{number}")
    beside = [*_own(folder), *(image for _, image in folder.drawn_samples())] if folder.flat else []
    # A flat run's files keep their places to each other.
    moves = [(path, kept / path.relative_to(place)) for path in (*beside, folder.path)]
    _move(moves)
    if not for_good:
        return kept
    discard(kept)
    return None


def restore_run(kept: Path) -> Path:
    """Bring back what :func:`remove_run` put into the trash. Returns the run's folder.

    Raises:
        RunError: there is nothing of the kind, or its place is taken.
        WriteError: a file cannot be moved.
    """
    place = kept.parent.parent.parent
    if kept.parent != place / _TRASH or not kept.is_dir():
        raise RunError.of(kept, "is no run in the trash", "choose a folder in .lorasmith/trash")
    runs = [path for path in kept.iterdir() if (path / "settings.toml").is_file()]
    if len(runs) != 1:
        raise RunError.of(kept, "is no run in the trash", "choose a folder in .lorasmith/trash")
    files = [path for path in kept.rglob("*") if path.is_file() and runs[0] not in path.parents]
    moves = [(path, place / path.relative_to(kept)) for path in (*files, runs[0])]
    for _, new in moves:
        if os.path.lexists(new):
            raise RunError.of(new, "is there again", "rename that first")
    _move(moves)
    discard(kept)
    return place / runs[0].name


def copy_lora(lora: Path, to: Path) -> Path:
    """Copy a LoRA file into a folder, such as ``models/Lora`` of a web UI.

    Raises:
        RunError: it is no LoRA file, the folder is not there, or has another file of this name.
        WriteError: it cannot be written.
    """
    if lora.suffix.lower() != ".safetensors" or not lora.is_file():
        raise RunError.of(lora, "is no LoRA file", "choose one that ends with .safetensors")
    if not to.is_dir():
        raise RunError.of(to, "is no folder", "choose one that is there")
    new = to / lora.name
    if os.path.lexists(new):
        raise RunError.of(new, "is there already", "rename or remove that first")
    room, size = free_bytes(to), lora.stat().st_size
    if room < size:
        what = f"has {bytes_text(room)} free, and the file takes {bytes_text(size)}"
        raise RunError.of(to, what, "make room")
    temporary = new.with_name(f".{new.name}.lorasmith.tmp")
    try:
        shutil.copy2(lora, temporary)
        replace_file(temporary, new)
    except OSError as error:
        discard(temporary)
        raise write_error(new, error) from error
    return new


def ledger_of(workspace: Path) -> Ledger | None:
    """That of a workspace that has one; none is made."""
    there = (workspace / ".lorasmith" / "queue" / "queue.sqlite").is_file()
    return Ledger(workspace) if there else None


def _refuse_busy(folder: RunFolder, ledger: Ledger | None) -> None:
    """
    Raises:
        RunError: it is trained, or a job works on it or waits to.
    """
    if folder.busy:
        raise RunError.of(folder.path, "a training runs in it", "stop it first")
    for job in ledger.jobs() if ledger is not None else ():
        if not job.has_ended and str(folder.path) in (job.run, *job.command):
            what = f"job {job.id} ({job.title}) is {job.state} and needs it"
            raise RunError.of(
                folder.path, what, f"cancel it first: lorasmith queue cancel {job.id}"
            )


def _own(folder: RunFolder) -> Iterator[Path]:
    """The LoRA files, and what lies beside each under its name: cards and previews."""
    names = {folder.name, *(lora.stem for lora in folder.lora_files)}
    for path in sorted(folder.loras.iterdir()):
        stem = path.name.partition(".")[0] if "." not in folder.name else path.stem
        if path.is_file() and (stem in names or lora_name(path) == folder.name):
            yield path


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _move(moves: list[tuple[Path, Path]]) -> None:
    """All, or none of it.

    Raises:
        WriteError: one cannot be moved.
    """
    done: list[tuple[Path, Path]] = []
    try:
        for old, new in moves:
            new.parent.mkdir(parents=True, exist_ok=True)
            rename(old, new)
            done.append((old, new))
    except OSError as error:
        for old, new in reversed(done):
            try:
                rename(new, old)
            except OSError:
                break  # As little as can be is out of its place.
        raise write_error(moves[len(done)][1], error) from error
