"""How a run stands, read from its folder; no torch, so that asking costs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorasmith.training.run_folder import RunFolder, read_info, sample_pattern


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
        if record.get("loss") is not None and "epoch" in record:
            numbers = record
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
        info.get("steps"),
        numbers,
        sample_pattern(samples) if samples else None,
        _path(last.get("SnapshotSaved")),
        last.get("StateSaved", {}).get("step"),
        str(trouble.get("found", "")),
        list(info.get("interventions", [])),
        len([p for p in folder.control.glob("*") if not p.name.startswith(".")]),
    )


def _path(record: dict[str, Any] | None) -> Path | None:
    return Path(record["path"]) if record else None


def _records(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # The line that is being written.
            continue
        if isinstance(record, dict):
            yield record
