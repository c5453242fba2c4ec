"""What the last audit of a dataset found, kept in its ``.lorasmith/last_audit.json``: pages show it
without looking at the pictures again. Of a folder that can only be read it is kept for the user."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasmith.advice.audit.finding import SEVERITIES
from lorasmith.core.errors import UserError
from lorasmith.core.files import parse_json, write_json
from lorasmith.curation.changes.trash import STORE
from lorasmith.data.layout import user_cache_of

if TYPE_CHECKING:
    from lorasmith.advice.audit.audit import Audit

NAME = "last_audit.json"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class LastAudit:
    """
    Args:
        time: when it was, in Unix seconds.
        folder: that was looked at.
        question: what it was asked besides: kind, resolution.
        images: training images there were.
        findings: as :meth:`.Finding.to_json`, the gravest first.
        ignored: as these; they are not to be told.
        skipped: what rules that could not look lack, by their ids.
    """

    time: float
    folder: Path
    question: Mapping[str, Any]
    images: int
    findings: tuple[Mapping[str, Any], ...]
    ignored: tuple[Mapping[str, Any], ...]
    skipped: Mapping[str, str]

    def parted(
        self, ignored: Collection[str]
    ) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
        """Findings that are to be told, and those of which nobody wants to hear: as that is now,
        not as it was at the audit. Errors are always told.

        Args:
            ignored: ids of findings and rules.
        """
        told: list[Mapping[str, Any]] = []
        quiet: list[Mapping[str, Any]] = []
        for one in (*self.findings, *self.ignored):
            is_ignored = one["id"] in ignored or one["rule"] in ignored
            (quiet if is_ignored and one["severity"] != "error" else told).append(one)
        return told, quiet


def keep_audit(audit: Audit, question: Mapping[str, Any]) -> None:
    """Keep an audit of one folder; where nothing can be written at all, it is not kept.

    Args:
        question: JSON-ready; what the audit was asked besides.
    """
    if len(audit.folders) != 1 or len(audit.roots) != 1:
        return
    value: dict[str, Any] = {"version": _VERSION, "time": time.time(), "question": dict(question)}
    value |= audit.to_json() | {"folder": os.path.abspath(audit.folders[0])}
    for finding in (*value["findings"], *value["ignored"]):
        finding["images"] = [os.path.abspath(path) for path in finding["images"]]
    for place in _places(audit.roots[0]):
        with contextlib.suppress(UserError):
            write_json(place, value)
            return


def last_audit(root: Path) -> LastAudit | None:
    """The newest that was kept of a dataset; ``None`` where none was, or it cannot be read."""
    kept = [audit for place in _places(root) if (audit := _read(place)) is not None]
    return max(kept, key=lambda audit: audit.time, default=None)


def _places(root: Path) -> Iterator[Path]:
    yield root / STORE / NAME
    yield user_cache_of(root) / NAME


def _read(place: Path) -> LastAudit | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, OverflowError):
        value = parse_json(place.read_bytes())
        if value["version"] != _VERSION:
            return None
        return LastAudit(
            float(value["time"]),
            Path(value["folder"]),
            dict(value["question"]),
            int(value["images"]),
            tuple(map(_finding, value["findings"])),
            tuple(map(_finding, value["ignored"])),
            {str(one["rule"]): str(one["missing"]) for one in value["skipped"]},
        )
    return None


def _finding(value: Mapping[str, Any]) -> dict[str, Any]:
    """As it was written; whatever else the file may hold.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    if value["severity"] not in SEVERITIES:
        raise ValueError(value["severity"])
    numbers = {
        name: float(value[name]) if value[name] is not None else None
        for name in ("value", "threshold")
    }
    texts = {name: str(value[name]) for name in ("id", "rule", "severity", "what", "why")}
    lists = {name: [str(one) for one in value[name]] for name in ("images", "tags")}
    return {**texts, **numbers, **lists, "command": str(value["command"])}
