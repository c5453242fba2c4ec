"""Ids of findings, of one dataset and of several."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.audits import MakeDataset

from lorasmith.advice.audit.audit import audit_dataset
from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.ids import dataset_names, finding_id
from lorasmith.advice.audit.ignored import ignored_in, remember
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.audit.mending import plan_fixes
from lorasmith.curation.changes.plan import Plan


def every_image(inputs: AuditInputs) -> Iterator[Finding]:
    for image in inputs.images:
        yield Finding("is an image", (image.path,))


def remove(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    plan = inputs.plan("every-image")
    for finding in findings:
        plan.remove(finding.images[0])
    return plan


RULE = Rule("every-image", "Images", "note", every_image, "because", fix=remove)
LOOSE = Path("/elsewhere/0.png")


@pytest.fixture
def two(dataset: MakeDataset, tmp_path: Path) -> list[Path]:
    """Datasets whose pictures have the same names."""
    dataset({"10_zorp/0.png": "zorp", "10_zorp/1.png": "zorp"})
    shutil.copytree(tmp_path / "set", tmp_path / "other")
    return [tmp_path / "set", tmp_path / "other"]


def ids(*folders: Path) -> list[str]:
    return [one.key for one in audit_dataset(AuditInputs(list(folders)), rules=[RULE]).findings]


def test_files_of_one_name_in_two_datasets_are_two_findings(two: list[Path]) -> None:
    alone = ids(two[0])
    assert ids(two[1]) == alone
    assert ids(*two) == [f"{one}@{name}" for name in ("set", "other") for one in alone]


def test_the_order_and_the_place_of_datasets_change_nothing(
    two: list[Path], tmp_path: Path
) -> None:
    before = ids(*two)
    (tmp_path / "moved").mkdir()
    moved = [folder.rename(tmp_path / "moved" / folder.name) for folder in two]
    assert sorted(ids(*reversed(moved))) == sorted(before)


def test_one_of_two_is_ignored_and_mended(two: list[Path]) -> None:
    first, _, third, _ = ids(*two)
    remember(two, [first])
    audit = audit_dataset(AuditInputs(two), ignored_in(two), [RULE])
    assert [one.key for one in audit.ignored] == [first]
    # It is so, too, where the dataset is looked at alone.
    assert ignored_in(two[:1]) == [first.removesuffix("@set")]
    assert ignored_in(two[1:]) == []
    mending = plan_fixes(AuditInputs(two), [third], (), [RULE])
    assert [change.path for change in mending.plan.changes] == [two[1] / "10_zorp" / "0.png"]


def test_what_concerns_both_datasets_has_one_id(two: list[Path]) -> None:
    def found(*names: str) -> str:
        finding = Finding("are alike", tuple(two[0].parent / name for name in names))
        return finding_id(RULE, finding, two)

    both = found("set/10_zorp/0.png", "other/10_zorp/0.png")
    assert "@" not in both
    assert both != found("set/10_zorp/0.png", "other/10_zorp/1.png")
    assert both == found("other/10_zorp/0.png", "set/10_zorp/0.png")


def test_without_a_dataset_the_files_own_path_counts(two: list[Path]) -> None:
    assert "@" not in finding_id(RULE, Finding("lies elsewhere", (LOOSE,)), two)
    assert finding_id(RULE, Finding("of nothing"), two) == "every-image"
    tag = finding_id(RULE, Finding("of a tag", tags=("hat",)), two)
    assert tag == finding_id(RULE, Finding("of a tag", tags=("hat",)), two[:1])


def test_names_of_datasets_are_as_short_as_they_can_be(tmp_path: Path) -> None:
    one, other = tmp_path / "a" / "img", tmp_path / "b" / "img"
    assert dataset_names([one]) == {str(one): ""}
    assert dataset_names([one, other]) == {str(one): "a/img", str(other): "b/img"}
