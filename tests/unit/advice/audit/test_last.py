"""The last audit, kept for pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.audits import MakeDataset

from lorasmith.advice.audit.last import NAME, last_audit
from lorasmith.core.events import Controls, ignore
from lorasmith.jobs.dataset.audit import AuditRequest


def audit(*folders: Path, **options: Any) -> Any:
    return AuditRequest(folders=list(folders), **options).run(ignore, Controls())


def test_an_audit_is_kept(dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = dataset({"a.png": "zorp, hat, hat", "b.png": "zorp"})
    assert last_audit(folder) is None
    monkeypatch.chdir(folder.parent)
    found = audit(Path(folder.name), kind="character", resolution=256)
    kept = last_audit(folder)
    assert kept is not None
    assert (kept.folder, kept.images) == (folder, 2)
    assert kept.question == {"kind": "character", "resolution": 256}
    assert [one["id"] for one in kept.findings] == [one.key for one in found.findings]
    (twice,) = [one for one in kept.findings if one["rule"] == "tag-twice"]
    assert twice["images"] == [str(folder / "a.png")]


def test_that_of_a_folder_without_room_is_kept_for_the_user(
    dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "user"))
    folder = dataset({"a.png": "zorp, hat, hat"})
    (folder / ".lorasmith").write_text("nothing can be made in a file", "utf-8")
    audit(folder)
    kept = last_audit(folder)
    assert kept is not None
    assert "tag-twice" in {one["rule"] for one in kept.findings}
    (folder / ".lorasmith").unlink()
    audit(folder, kind="style")
    newest = last_audit(folder)
    assert newest is not None
    assert newest.question["kind"] == "style"


def test_what_is_kept_may_be_damaged(dataset: MakeDataset) -> None:
    folder = dataset({"a.png": "zorp"})
    audit(folder)
    path = folder / ".lorasmith" / NAME
    value = json.loads(path.read_text("utf-8"))
    damages: list[Any] = [
        [],
        {},
        {**value, "version": 0},
        {**value, "findings": 3},
        {**value, "findings": [{"severity": "grave"}]},
        {**value, "time": "yesterday"},
        {**value, "time": 10**400},
    ]
    for damage in damages:
        path.write_text(json.dumps(damage), "utf-8")
        assert last_audit(folder) is None
    path.write_text("{", "utf-8")
    assert last_audit(folder) is None


def test_one_of_several_datasets_is_not_kept(dataset: MakeDataset, tmp_path: Path) -> None:
    one = dataset({"a.png": "zorp"})
    two = tmp_path / "two"
    two.mkdir()
    (two / "b.png").write_bytes((one / "a.png").read_bytes())
    audit(one, two)
    assert last_audit(one) is None
