"""Locks of files: who wants one alone, and who only asks."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lorasmith.core import locks
from lorasmith.core.locks import lock_file


def test_who_only_asks_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that asks whether a training runs must not end one that begins at that moment."""
    monkeypatch.setattr(locks, "_PATIENCE", 10)
    path = tmp_path / "lock"
    asking = open(path, "a", encoding="utf-8")  # noqa: SIM115
    assert lock_file(asking, shared=True)
    threading.Timer(0.05, asking.close).start()
    with open(path, "a", encoding="utf-8") as file:
        assert lock_file(file)


def test_who_works_has_it_alone(tmp_path: Path) -> None:
    with (
        open(tmp_path / "lock", "a", encoding="utf-8") as one,
        open(tmp_path / "lock", "a", encoding="utf-8") as other,
    ):
        assert lock_file(one)
        assert not lock_file(other)
        assert not lock_file(other, shared=True)
