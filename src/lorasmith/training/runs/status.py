"""How a run stands, read from its folder; no torch, so that asking costs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorasmith.core.files import parse_json
from lorasmith.training.runs.folder import RunFolder, read_info, sample_pattern


@dataclass(frozen=True)
class Status:
    """Args:
    state: "running", "preparing" (no step yet), "done", "stopped", "trouble" or "killed".
    numbers: of the last logged step, as in ``metrics.jsonl``; empty before the first.
    interventions: what was changed on the way, as in ``run.json``.
    """

    state: str
    steps: int | None
    numbers: dict[str, Any] = field(default_factory=dict)
    last_samples: Path | None = None
    last_snapshot: Path | None = None
    last_state_step: int | None = None
    trouble: str = ""
    interventions: list[dict[str, Any]] = field(default_factory=list)
    waiting: int = 0


def read_status(folder: RunFolder) -> Status:
    """The status of a run, running or not."""
    info = read_info(folder)
    numbers: dict[str, Any] = {}
    for record in _records(folder.metrics):
        if _is_number(record.get("loss")) and _is_number(record.get("epoch")):
            numbers = {key: value for key, value in record.items() if _is_plain(value)}
    last: dict[str, dict[str, Any]] = {}
    for record in _records(folder.events):
        last[str(record.get("event"))] = record
    if folder.busy:
        state = "running" if "RunStarted" in last else "preparing"
    else:
        state = str(info.get("status", "started"))
        state = "killed" if state == "started" else state
    samples, trouble = _path(last.get("SampleSaved")), last.get("TroubleFound", {})
    return Status(
        state,
        _whole(info.get("steps")),
        numbers,
        sample_pattern(samples) if samples else None,
        _path(last.get("SnapshotSaved")),
        _whole(last.get("StateSaved", {}).get("step")),
        str(trouble.get("found", "")),
        [each for each in _listed(info.get("interventions")) if isinstance(each, dict)],
        len([p for p in folder.control.glob("*") if not p.name.startswith(".")]),
    )


def _path(record: dict[str, Any] | None) -> Path | None:
    path = record.get("path") if record else None
    return Path(path) if isinstance(path, str) else None


# The files are text that anything may have written to: what has another type is left out.


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_plain(value: Any) -> bool:
    """A number, or numbers by the name of their group."""
    if isinstance(value, dict):
        return all(map(_is_number, value.values()))
    return _is_number(value) or value is None or isinstance(value, str)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _records(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = parse_json(line)
        except ValueError:  # The line that is being written.
            continue
        if isinstance(record, dict):
            yield record
