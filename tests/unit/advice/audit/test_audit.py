"""The engine: rules that look, ids, and what is ignored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.audits import MakeDataset

from lorasmith.advice.audit.audit import audit_dataset, check_ids
from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.audit.rules import RULES
from lorasmith.core.errors import UserError


def every_image(inputs: AuditInputs) -> Iterator[Finding]:
    for image in inputs.images:
        yield Finding("is an image", (image.path,), value=1.0)


NOTE = Rule("every-image", "Images", "note", every_image, "because", threshold=0.5)
ERROR = replace(NOTE, id="every-error", severity="error")


def test_findings_are_complete_and_the_gravest_come_first(dataset: MakeDataset) -> None:
    folder = dataset({"a.png": None, "b.png": None})
    audit = audit_dataset(AuditInputs([folder]), rules=[NOTE, ERROR])
    assert [finding.rule for finding in audit.findings] == ["every-error"] * 2 + ["every-image"] * 2
    assert audit.counts() == {"error": 2, "warning": 0, "note": 2}
    assert len({finding.key for finding in audit.findings}) == 4
    first = audit.findings[0]
    assert (first.why, first.threshold, first.command) == ("because", 0.5, "")
    assert audit.to_json()["findings"][0]["images"] == [str(folder / "a.png")]


def test_another_severity_than_the_rules_is_on_the_page(dataset: MakeDataset) -> None:
    inputs = AuditInputs([dataset({"a.png": None})])
    graver = replace(NOTE, find=lambda _: [Finding("is grave", severity="warning")])
    with pytest.raises(AssertionError, match="every-image"):
        audit_dataset(inputs, rules=[graver])
    audit = audit_dataset(inputs, rules=[replace(graver, otherwise="warning where it is grave")])
    assert [finding.severity for finding in audit.findings] == ["warning"]


def test_every_caption_is_read_once(dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = [
        "zorp, hat",
        "",
        "zorp, dog",
        "a hat on a dog, a dog on a hat, a hat on a hat, a dog",
    ]
    folder = dataset({f"{number}.png": text for number, text in enumerate(captions)})
    read: list[str] = []
    opened = open

    def counted(file: Any, *arguments: Any, **options: Any) -> Any:
        read.append(os.path.basename(file) if isinstance(file, str | os.PathLike) else "")
        return opened(file, *arguments, **options)

    monkeypatch.setattr("builtins.open", counted)
    monkeypatch.setattr("io.open", counted)  # as Path.read_bytes calls it
    rules = [rule for rule in RULES if not rule.slow]
    audit_dataset(AuditInputs([folder]), rules=rules)
    once = [f"{number}.txt" for number in range(4)]
    assert sorted(name for name in read if name in once) == once


def test_keys_stay_when_the_dataset_moves(dataset: MakeDataset) -> None:
    folder = dataset({"a.png": None})
    before = audit_dataset(AuditInputs([folder]), rules=[NOTE]).findings
    moved = folder.rename(folder.with_name("other"))
    after = audit_dataset(AuditInputs([moved]), rules=[NOTE]).findings
    assert [finding.key for finding in before] == [finding.key for finding in after]


def test_what_is_ignored_is_set_aside(dataset: MakeDataset) -> None:
    folder = dataset({"a.png": None, "b.png": None})
    key = audit_dataset(AuditInputs([folder]), rules=[NOTE]).findings[1].key
    one = audit_dataset(AuditInputs([folder]), [key], [NOTE])
    assert [finding.key for finding in one.ignored] == [key]
    assert len(one.findings) == 1
    assert not audit_dataset(AuditInputs([folder]), ["every-image"], [NOTE]).findings


def test_a_rule_that_cannot_look_says_so(dataset: MakeDataset) -> None:
    blind = replace(NOTE, missing=lambda inputs: "needs eyes")
    audit = audit_dataset(AuditInputs([dataset({"a.png": None})]), rules=[blind])
    assert [one.missing for one in audit.skipped] == ["needs eyes"]
    assert not audit.findings


def test_an_id_of_nothing_is_told(dataset: MakeDataset) -> None:
    audit = audit_dataset(AuditInputs([dataset({"a.png": None})]), rules=[NOTE])
    check_ids(["every-image", audit.findings[0].key], audit, "ignore")
    with pytest.raises(UserError, match="did you mean every-image"):
        check_ids(["evry-image"], audit, "ignore")


def test_ids_are_unique_and_in_kebab_case() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    assert all(id_.replace("-", "").isalpha() and id_.islower() for id_ in ids)
    assert all(rule.why and rule.title for rule in RULES)
    assert not [rule.id for rule in RULES if rule.safe and rule.fix is None]
