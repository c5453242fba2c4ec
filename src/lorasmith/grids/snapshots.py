"""The LoRA files that one training wrote, by the names that sd-scripts and we give them.

``NAME-000003.safetensors`` is the end of epoch 3, ``NAME-step00000500.safetensors`` step 500, and
``NAME.safetensors`` the result, which is the last epoch. Torch-free.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorasmith.core.errors import Problem, RunError
from lorasmith.core.files import read_safetensors_header, user_path
from lorasmith.core.text import shortlist
from lorasmith.formats.run_paths import EPOCH_FILE, STEP_FILE, lora_name, loras_of, runs_at
from lorasmith.grids.values import numbers

_PART = (
    r"all|epochs?|last|final|steps?\b[\s\d.()+\-\[\]:]*"
    r"|\d[\d\s.()+\-\[\]]*(?::\s*\d+)?"
)
_PART_ALONE = re.compile(_PART, re.ASCII | re.IGNORECASE)
_RUN_AND_PART = re.compile(rf"(?P<run>.+?):\s*(?P<part>{_PART})", re.ASCII | re.IGNORECASE)
_PLAIN_RANGE = re.compile(r"(\d+)\s*-\s*(\d+)", re.ASCII)
_WITH_STRIDE = re.compile(r"(.*?)\s*:\s*(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A LoRA as it was at some point of its training.

    Args:
        path: ``None`` stands for the base model alone, epoch 0.
        epoch, step: where it is, as far as that is known; epochs and steps count from 1.
    """

    path: Path | None
    epoch: int | None = None
    step: int | None = None
    final: bool = False

    @property
    def label(self) -> str:
        if self.path is None:
            return "no LoRA"
        if self.epoch is not None:
            return f"epoch {self.epoch}"
        return f"step {self.step}" if self.step is not None else "final"


BASE = Snapshot(None, epoch=0)


def find_snapshots(run: Path) -> list[Snapshot]:
    """All snapshots of a run in the order of its training.

    Args:
        run: its folder, the folder that holds it alone, or the path that its files have in common:
            ``loras/zorp`` for ``loras/zorp-000001.safetensors`` and so on.

    Raises:
        RunError: there are none, or they belong to several runs.
    """
    name, files = _files_of(run)
    epochs, steps, results = [], [], []
    for path in files:
        epoch, step = EPOCH_FILE.fullmatch(path.stem), STEP_FILE.fullmatch(path.stem)
        if epoch is not None and epoch["name"] == name:
            epochs.append(Snapshot(path, epoch=int(epoch["number"])))
        elif step is not None and step["name"] == name:
            steps.append(Snapshot(path, step=int(step["number"])))
        elif path.stem == name:
            results.append(path)
    if epochs and steps:  # Only the files themselves say which came first.
        snapshots = sorted([*epochs, *steps], key=_steps_done)
    else:
        snapshots = sorted([*epochs, *steps], key=_place)
    return snapshots + [_result(path, snapshots) for path in results]


def find_run(run: str, folders: Sequence[Path] = ()) -> Path:
    """Where a run is that is named by its path, or by its name in one of ``folders``; the path as
    written when there is none."""
    path = user_path(run)
    places = [path, *(folder / path for folder in folders)]
    return next((place for place in places if is_run(place)), path)


def is_run(run: Path) -> bool:
    """Whether something of that name is there for :func:`find_snapshots`."""
    name = run.name.removesuffix(".safetensors")
    return run.is_dir() or any(lora_name(path) == name for path in run.parent.glob("*"))


def _files_of(run: Path) -> tuple[str, list[Path]]:
    """The LoRA's name and the files that may be its."""
    runs = runs_at(run)
    if len(runs) == 1:
        folder, name = loras_of(runs[0])
        files = sorted(folder.glob("*.safetensors"))
        if any(lora_name(path) == name for path in files):
            return name, files
    if not run.is_dir():
        folder, name = run.parent, run.name.removesuffix(".safetensors")
        files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
        if any(lora_name(path) == name for path in files):
            return name, files
        raise RunError.of(run, "there is no such run", "give the folder that holds its snapshots")
    files = sorted(run.glob("*.safetensors"))
    names = sorted({lora_name(path) for path in files})
    folder_name = run.resolve().name
    if folder_name in names:
        return folder_name, files
    if len(names) == 1:
        return names[0], files
    if not names:
        raise RunError.of(run, "holds no LoRA: no .safetensors file", "name another folder")
    listed = " or ".join(str(run / name) for name in names[:4])
    raise RunError.of(run, f"holds {len(names)} LoRAs", f"say which: {listed}")


def _place(snapshot: Snapshot) -> int:
    return snapshot.epoch or snapshot.step or 0


def _steps_done(snapshot: Snapshot) -> tuple[int, int]:
    assert snapshot.path is not None
    steps = _facts(snapshot.path).get("ss_steps", "")
    return (int(steps) if steps.isdecimal() else 0), _place(snapshot)


def _facts(path: Path) -> dict[str, str]:
    try:
        return read_safetensors_header(path).metadata
    except (ValueError, OSError):  # A damaged file is told of when it is to be read.
        return {}


def _result(path: Path, others: Sequence[Snapshot]) -> Snapshot:
    """The result, at the epoch and step that its file gives, or one after the last snapshot."""
    facts = _facts(path)
    epochs = [snapshot.epoch for snapshot in others if snapshot.epoch is not None]
    epoch: int | None = max(epochs) + 1 if epochs else None
    epoch_text, step = facts.get("ss_epoch", ""), facts.get("ss_steps", "")
    if epoch_text.isdecimal() and int(epoch_text) not in epochs and int(epoch_text) > 0:
        epoch = int(epoch_text)
    return Snapshot(path, epoch, int(step) if step.isdecimal() else None, final=True)


def split_run(item: str) -> tuple[str, str]:
    """``RUN`` and what it is asked for, "" for all; colons of its own (``C:\\runs``) stay."""
    match = _RUN_AND_PART.fullmatch(item.strip())
    return (match["run"], match["part"]) if match else (item.strip(), "")


def is_part(item: str) -> bool:
    """Whether this is what a run can be asked for, without a run."""
    return _PART_ALONE.fullmatch(item.strip()) is not None


def choose(snapshots: Sequence[Snapshot], part: str, where: str) -> list[Snapshot]:
    """Those snapshots that ``part`` names.

    Args:
        part: ``1-15`` (those of these epochs that there are), ``1-15:2`` or ``1-15 (+2)`` (every
            second), ``7``, ``0`` (the base model alone), ``steps``, ``steps 500-2000``, ``last``,
            ``epochs``; "" for all.
        where: named by problems.

    Raises:
        RunError: none fits; says which there are.
        ValueError: ``part`` cannot be read.
    """
    part = part.strip().lower()
    epochs = {s.epoch: s for s in snapshots if s.epoch is not None}
    steps = {s.step: s for s in snapshots if s.step is not None}
    if part in ("", "all"):
        return list(snapshots)
    if part in ("last", "final"):
        return [snapshots[-1]]
    if part in ("epoch", "epochs"):
        matches = list(epochs.values())
    elif part.startswith("step"):
        matches = _in_span(steps, re.sub(r"^steps?\s*", "", part))
    else:
        matches = _in_span({0: BASE, **epochs}, part)
    if not matches:
        has = [f"{what} {_listed(table)}" for what, table in (("epochs", epochs), ("steps", steps))]
        there = " and ".join(text for text in has if text[-1] != " ") or "the result alone"
        raise RunError(Problem(where, f"it has no {part}", f"there are {there}"))
    return matches


def _in_span(by_number: Mapping[int, Snapshot], span: str) -> list[Snapshot]:
    """Those whose numbers are in ``span``, in its order; a range may have gaps."""
    stride = _WITH_STRIDE.fullmatch(span)
    if stride is not None:
        span = f"{stride[1]} (+{stride[2]})"
    ends = _PLAIN_RANGE.fullmatch(span)
    if ends is not None:
        first, last = int(ends[1]), int(ends[2])
        inside = sorted(n for n in by_number if min(first, last) <= n <= max(first, last))
        selection = inside if first <= last else inside[::-1]
    else:
        selection = [int(n) for n in numbers(span, whole=True)] if span else sorted(by_number)
    return [by_number[number] for number in selection if number in by_number]


def _listed(values: Iterable[int]) -> str:
    """``1-4, 6``"""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    spans = [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return shortlist(spans, 8)
