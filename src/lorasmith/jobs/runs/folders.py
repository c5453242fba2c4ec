"""Folders of runs given another name, put into the trash and brought back, and their LoRA files
copied to where a web UI looks for them. None of it while something works on the run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path

from lorasmith.core.disk import (
    discard,
    is_same_file,
    remove_folder,
    rename,
    replace_file,
    write_error,
)
from lorasmith.core.errors import RunError, collect_each
from lorasmith.core.file_names import new_name_problem, shell_word
from lorasmith.core.files import (
    free_bytes,
    parse_json,
    read_safetensors_header,
    user_path,
    write_text,
)
from lorasmith.core.text import bytes_text
from lorasmith.data.captions import split_tags
from lorasmith.formats.embedding_keys import WORD, by_file_name
from lorasmith.formats.run_paths import DEFAULT_OUTPUT, hidden_folder, lora_name, loras_of
from lorasmith.jobs.drawings.loras import require_lora
from lorasmith.jobs.queue.ledger import Job, Ledger
from lorasmith.training.runs.folder import (
    FILES,
    RunFolder,
    existing_run_folder,
    run_of_file,
)

_TRASH = Path(".lorasmith") / "trash"
"""Beside the folders of runs: what is in it is listed by nobody."""
_SHOW_TRASH = "see what is there: lorasmith runs list --removed"
_LONGEST_NAME = 150
"""Bytes; files of a run have longer ones."""


def rename_run(run: Path, name: str, ledger: Ledger | None = None) -> Path:
    """Give a run, its LoRA files and their cards another name. What is said in the files stays, but
    for the word of an embedding in its cards: web UIs take it from the file's name.

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
    with _kept_still(folder, ledger):
        _check_name(folder, name)
        if name == folder.name:
            return folder.path
        place = folder.loras if folder.flat else folder.path.parent
        new = hidden_folder(place, name) if folder.flat else place / name
        for taken in (place / name, hidden_folder(place, name), place / f"{name}.safetensors"):
            _refuse_taken(taken, folder.path)
        if folder.flat:  # With which its own files would be mixed up.
            others = RunFolder(new)
            for taken in (*others.lora_files, *(image for _, image in others.drawn_samples())):
                _refuse_taken(taken, folder.path)
        # Files in folders beside it are called after their words.
        files = [*_own(folder), *_samples_beside(folder)]
        moves = [(path, path.with_name(name + path.name[len(folder.name) :])) for path in files]
        for old, target in moves:
            _refuse_taken(target, old)
        with _moved([*moves, (folder.path, new)]):
            if ledger is not None:
                ledger.move_run(str(folder.path), str(new))
    if word := trained_word(RunFolder(new).result):
        _tell_word(RunFolder(new), {word, folder.name})
    return new


def trained_word(result: Path) -> str:
    """The word that an embedding was trained as; "" of any other file, which goes by no word."""
    try:
        return read_safetensors_header(result).metadata.get(WORD, "")
    except (ValueError, OSError):  # There is none yet, or it is damaged.
        return ""


def _tell_word(folder: RunFolder, words: Set[str]) -> None:
    """Write into the cards of an embedding the word that its file's name makes.

    Args:
        words: that they may have for it.
    """
    card, page = folder.beside(".json"), folder.beside(".md")
    with contextlib.suppress(OSError, ValueError):  # A card that is none, or is somebody's, stays.
        values = parse_json(card.read_text(encoding="utf-8"))
        keys = ("negative text", "activation text")  # What is to be avoided stands in the first.
        texts = values if isinstance(values, dict) else {}
        given = [key for key in keys if isinstance(texts.get(key), str)]
        key = next((k for k in given if not words.isdisjoint(split_tags(texts[k]))), keys[1])
        if key in given:
            text = by_file_name(texts[key], words, folder.name)
            new = json.dumps({**texts, key: text}, indent=4, ensure_ascii=False)
            write_text(card, new + "\n")
    with contextlib.suppress(OSError, ValueError):
        lines = page.read_text(encoding="utf-8").splitlines(keepends=True)
        for place, line in enumerate(lines):
            if match := re.fullmatch(r"\| trigger \| `([^`]*)`(.*)\n", line):
                text = by_file_name(match[1], words, folder.name)
                lines[place] = f"| trigger | `{text}`{match[2]}\n"
        write_text(page, "".join(lines))


def remove_run(run: Path, ledger: Ledger | None = None, *, for_good: bool = False) -> Path | None:
    """Put a run with its LoRA files and samples into the trash beside it, or delete it.

    Returns:
        What :func:`restore_run` brings back; ``None`` where it is gone for good.

    Raises:
        RunError: it is no run, or something works on it.
        WriteError: a file cannot be moved or deleted.
    """
    folder = existing_run_folder(run)
    with _kept_still(folder, ledger):
        place = folder.loras if folder.flat else folder.path.parent
        kept, number = place / _TRASH / folder.name, 1
        while os.path.lexists(kept):
            number += 1
            kept = kept.with_name(f"{folder.name}-{number}")
        beside = [*_own(folder), *_in_folders(folder)] if folder.flat else []
        # A flat run's files keep their places to each other.
        with _moved([(path, kept / path.relative_to(place)) for path in (*beside, folder.path)]):
            pass
    if not for_good:
        return kept
    try:
        remove_folder(kept)
    except OSError as error:
        what = f"could not be deleted whole: {error.strerror}; what is left lies there"
        raise RunError.of(kept, what, "mend its permissions, and delete that folder") from error
    return None


def remove_runs(
    runs: Sequence[Path], ledger: Ledger | None = None, *, for_good: bool = False
) -> dict[Path, Path | None]:
    """:func:`remove_run` of each, once all of them can be removed. What is named twice goes once.

    Returns:
        What brings each back, by the run as it was given.

    Raises:
        RunError: one is no run, or something works on it; of every such one. None was moved.
        WriteError: a file cannot be moved or deleted; the runs before it are in the trash.
    """

    def checked(run: Path) -> Path:
        folder = existing_run_folder(run)
        with _kept_still(folder, ledger):
            return Path(os.path.realpath(folder.path))

    places = collect_each(checked, runs)
    once = {place: run for run, place in reversed(list(zip(runs, places, strict=True)))}
    given = [run for run, place in zip(runs, places, strict=True) if once[place] is run]
    return {run: remove_run(run, ledger, for_good=for_good) for run in given}


def restore_run(kept: Path) -> Path:
    """Bring back what :func:`remove_run` put into the trash. Returns the run's folder.

    Raises:
        RunError: there is nothing of the kind, or its place is taken.
        WriteError: a file cannot be moved.
    """
    place = kept.parent.parent.parent
    run = _run_in(kept) if kept.parent == place / _TRASH else None
    if run is None:
        raise RunError.of(kept, "is no run in the trash", _SHOW_TRASH)
    files = [path for path in kept.rglob("*") if path.is_file() and run not in path.parents]
    moves = [(path, place / path.relative_to(kept)) for path in (*files, run)]
    for _, new in moves:
        if os.path.lexists(new):
            raise RunError.of(new, "is there again", "rename that first")
    with _moved(moves):
        pass
    discard(kept)
    return place / run.name


def rename_lora(lora: Path, name: str, ledger: Ledger | None = None) -> Path:
    """Give a LoRA file that is no run's own another name, and with it what lies beside it: its
    cards, its previews. What stands in them stays.

    Args:
        name: without the ending.
        ledger: of the workspace, whose jobs may need the file.

    Returns:
        The new file.

    Raises:
        UserError: it is no LoRA file, or a run's own; a job needs it; the name is taken or no name.
        WriteError: a file cannot be moved; what was moved is moved back.
    """
    require_lora(lora)
    if (run := run_of_file(lora)) is not None:
        hint = f"rename the run: lorasmith runs rename {shell_word(run.handle)} NAME"
        raise RunError.of(lora, "is a file of a run, whose name it has", hint)
    if problem := new_name_problem(name, _LONGEST_NAME):
        raise RunError.of("name", f"{name!r} cannot name a LoRA: {problem}", "choose another")
    if name == lora.stem:
        return lora
    _refuse_needed(lora, ledger)
    beside = sorted(lora.parent.iterdir())
    stems = {path.stem for path in beside if path.suffix.lower() == ".safetensors"}
    moves = []
    for path in beside:
        # "a.v2.json" is the card of "a.v2" where there is such a LoRA, else one of "a".
        owners = (stem for stem in stems if path.name.startswith(f"{stem}."))
        if path.is_file() and max(owners, key=len, default="") == lora.stem:
            moves.append((path, path.with_name(name + path.name[len(lora.stem) :])))
    for old, new in moves:
        _refuse_taken(new, old)
    with _moved(moves):
        pass
    return lora.with_name(f"{name}{lora.suffix}")


def _refuse_needed(lora: Path, ledger: Ledger | None) -> None:
    """
    Raises:
        RunError: a job names the file, and works or waits to.
    """
    for job in ledger.jobs() if ledger is not None else ():
        # Also those of --lora=a.safetensors:0.8.
        words = [part for word in job.command for part in re.split(r"[=:]", word) if part]
        if not job.has_ended and any(_is_at(job.folder / user_path(word), lora) for word in words):
            what = f"job {job.id} ({job.title}) is {job.state} and needs it"
            raise RunError.of(lora, what, f"cancel it first: lorasmith queue cancel {job.id}")


def _is_at(path: Path, file: Path) -> bool:
    try:
        return os.path.realpath(path) == os.path.realpath(file)
    except ValueError:  # It has signs that no path has.
        return False


def removed_runs(folder: Path) -> dict[Path, Path]:
    """What :func:`restore_run` brings back, of trashes in and below a folder, each with the run's
    folder in it."""
    found: dict[Path, Path] = {}
    for place, names, _ in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        found |= _in_trash_of(Path(place))
    return found


def _in_trash_of(place: Path) -> dict[Path, Path]:
    found: dict[Path, Path] = {}
    with contextlib.suppress(OSError):  # There is none, or it may not be read.
        for kept in sorted((place / _TRASH).iterdir()):
            if (run := _run_in(kept)) is not None:
                found[kept] = run
    return found


def find_removed(named: Path) -> Path:
    """What :func:`restore_run` brings back.

    Args:
        named: that itself, the path that the run had, or only its name, of a run in a trash in or
            below the working folder.

    Raises:
        RunError: there is nothing of the kind, or more than one.
    """
    if _run_in(named) is not None:
        return named
    by_name = named.parent == Path() and str(named) == named.name
    among = removed_runs(Path()) if by_name else _in_trash_of(named.parent)
    found = [kept for kept, run in among.items() if named.name in (kept.name, RunFolder(run).name)]
    if len(found) > 1:
        hint = f"choose one: {', '.join(shell_word(kept) for kept in found)}"
        raise RunError.of(named, "is in the trash more than once", hint)
    if not found:
        raise RunError.of(named, "is no run in the trash", _SHOW_TRASH)
    return found[0]


def _run_in(kept: Path) -> Path | None:
    """The folder of the run that lies in a trash's folder."""
    runs = [path for path in kept.glob("*") if (path / "settings.toml").is_file()]
    return runs[0] if len(runs) == 1 else None


def copy_lora(lora: Path, to: Path) -> Path:
    """Copy a LoRA file into a folder, such as ``models/Lora`` of a web UI.

    Raises:
        UserError: it is no LoRA file, the folder is not there, or has another file of this name.
        WriteError: it cannot be written.
    """
    require_lora(lora)
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


@contextlib.contextmanager
def _kept_still(folder: RunFolder, ledger: Ledger | None) -> Iterator[None]:
    """While the block runs no training begins in it.

    Raises:
        RunError: it is trained, or a job works on it or waits to.
    """
    with folder.held() as is_free:
        if not is_free:
            raise RunError.of(folder.path, "a training runs in it", "stop it first")
        _refuse_busy(folder, ledger)
        yield


def _refuse_busy(folder: RunFolder, ledger: Ledger | None) -> None:
    """
    Raises:
        RunError: a job works on it or waits to.
    """
    jobs = {job.id: job for job in ledger.jobs()} if ledger is not None else {}
    for job in jobs.values():
        before = jobs.get(job.after) if job.after is not None else None
        if not job.has_ended and _needs(job, before.run if before else "", folder):
            what = f"job {job.id} ({job.title}) is {job.state} and needs it"
            raise RunError.of(
                folder.path, what, f"cancel it first: lorasmith queue cancel {job.id}"
            )


def _needs(job: Job, run_before: str, folder: RunFolder) -> bool:
    """Whether a job works in a run, or its command has a path of it or in it.

    Args:
        run_before: what ``{run}`` stands for.
    """
    words = [word.replace("{run}", run_before or "{run}") for word in job.command]
    # Also those of --resume=runs/zorp, and names alone, which are looked for in "runs" too.
    words += [*(word.partition("=")[2] for word in words), job.run]
    places = (job.folder, job.folder / DEFAULT_OUTPUT)
    return any(_is_of(place / user_path(Path(word)), folder) for word in words if word
               for place in places)  # fmt: skip


def _is_of(path: Path, folder: RunFolder) -> bool:
    try:
        path, run = Path(os.path.realpath(path)), Path(os.path.realpath(folder.path))
    except ValueError:  # It has signs that no path has.
        return False
    if path == run or run in path.parents:
        return True
    # "zorp" and "zorp-000001.safetensors", of a run whose files lie beside it.
    return folder.flat and path.parent == run.parent and lora_name(path) == folder.name


def _check_name(folder: RunFolder, name: str) -> None:
    """
    Raises:
        RunError: a run cannot be called that.
    """
    problem = new_name_problem(name, _LONGEST_NAME)
    if not problem and name != folder.name:
        if lora_name(Path(name)) != name:
            problem = "it ends as the names of files do"
        elif not folder.flat and name.casefold() in {Path(own).stem for own in FILES}:
            problem = "files that every run has are called that"
    if problem:
        raise RunError.of("name", f"{name!r} cannot name a run: {problem}", "choose another")


def _refuse_taken(new: Path, old: Path) -> None:
    """
    Raises:
        RunError: a file or folder has the name that ``old`` is to get.
    """
    # Systems that do not tell A from a have it already under its old name.
    if os.path.lexists(new) and not is_same_file(new, old):
        raise RunError.of("name", f"{new} is there already", "choose another")


def _own(folder: RunFolder) -> Iterator[Path]:
    """The LoRA files under the run's name, and what lies beside each: cards and previews."""
    loras = {path.stem for path in folder.loras.glob("*.safetensors")}
    runs = {loras_of(path)[1] for path in folder.loras.glob(".*.lorasmith")}
    further = [path for path in folder.further_files if path.parent == folder.loras]
    own = {folder.name, *(path.stem for path in further)}
    for path in sorted(folder.loras.iterdir()):
        if not path.is_file() or (not folder.flat and path.name in FILES):
            continue
        # "zorp.v2.json" is the card of "zorp.v2" where there is such a LoRA, else one of "zorp".
        owners = (stem for stem in {*own, *loras, *runs} if path.name.startswith(f"{stem}."))
        owner = max(owners, key=len, default=path.stem)
        if owner in own or lora_name(Path(owner)) == folder.name:
            yield path


def _in_folders(folder: RunFolder) -> list[Path]:
    """Samples of a run, and files that were made of its result, which lie among others'."""
    further = [path for path in folder.further_files if path.parent != folder.loras]
    return [*_samples_beside(folder), *(path for path in further if path.is_file())]


def _samples_beside(folder: RunFolder) -> list[Path]:
    """Those that lie among others' samples, under the run's name."""
    return [image for _, image in folder.drawn_samples()] if folder.flat else []


@contextlib.contextmanager
def _moved(moves: Iterable[tuple[Path, Path]]) -> Iterator[None]:
    """All is moved, or, where that or what follows fails or is interrupted, none of it.

    Raises:
        WriteError: one cannot be moved.
    """
    begun: list[tuple[Path, Path, os.stat_result]] = []
    try:
        for old, new in moves:
            try:
                new.parent.mkdir(parents=True, exist_ok=True)
                begun.append((old, new, old.lstat()))
                rename(old, new)
            except OSError as error:
                raise write_error(new, error) from error
        yield
    except BaseException:
        for old, new, before in reversed(begun):
            try:
                # Ctrl-C may have come before or after the last one was moved.
                if not os.path.lexists(old) and os.path.samestat(before, new.lstat()):
                    rename(new, old)
            except OSError:
                break  # As little as can be is out of its place.
        raise
