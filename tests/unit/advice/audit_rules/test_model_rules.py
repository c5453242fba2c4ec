"""Rules that look with models, with models that say what they are told to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.audits import MakeDataset, audit_rule, captioned, faultless, inputs_of

from lorasmith.advice.audit.audit import audit_dataset, findings_of
from lorasmith.advice.audit_rules import model_rules
from lorasmith.advice.audit_rules.model_rules import MODEL_RULES


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_rules, "is_installed", lambda name: True)


def reading(monkeypatch: pytest.MonkeyPatch, *lines: list[tuple[str, float]]) -> list[int]:
    """The lines of each picture in turn; how many were read."""
    looks: list[int] = []

    def read(image: Image.Image) -> list[tuple[str, float]]:
        looks.append(1)
        return lines[len(looks) - 1]

    monkeypatch.setattr(model_rules, "text_reader", lambda: read)
    return looks


def test_a_watermark_is_told_of_all_pictures_that_have_it(
    dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = captioned(dataset, "zorp, hat", "zorp, dog", "zorp, text", "zorp, cat", "zorp, sky")
    mark = [("@odell", 0.99)]
    looks = reading(monkeypatch, mark, mark, mark, [("8", 0.99)], [("odell", 0.9)])
    (finding,) = audit_rule("text", folder)
    assert [path.name for path in finding.images] == ["00.png", "01.png"]  # the third says so
    assert "@odell" in finding.what
    assert audit_rule("text", folder) == [finding]
    assert len(looks) == 5  # not read twice


def test_a_picture_unlike_all_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set").mkdir()
    for number in range(14):
        faultless(number).save(tmp_path / "set" / f"{number:02}.png")
    alike = np.array([1.0, 0.2, 0.0])
    rows = iter([*[alike] * 13, np.array([0.0, 0.0, 1.0])])

    def features(images: list[Image.Image]) -> np.ndarray:
        values = np.array([next(rows) for _ in images])
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    monkeypatch.setattr(model_rules, "feature_net", lambda: features)
    (finding,) = audit_rule("unlike-to-a-net", tmp_path / "set")
    assert [path.name for path in finding.images] == ["13.png"]


def test_without_the_extra_they_are_named_as_not_looked_at(
    dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_rules, "is_installed", lambda name: False)
    audit = audit_dataset(inputs_of(captioned(dataset, "zorp")), rules=MODEL_RULES)
    assert audit.findings == ()
    assert all(
        "the extra audit" in one.missing or "--faces" in one.missing for one in audit.skipped
    )
    assert len(audit.skipped) == len(MODEL_RULES)


def test_what_is_ignored_takes_no_time(
    dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = reading(monkeypatch)
    ignored = [rule.id for rule in MODEL_RULES]
    folder = captioned(dataset, "zorp")
    audit = audit_dataset(inputs_of(folder), ignored, MODEL_RULES)
    assert [one.missing for one in audit.skipped] == ["it is ignored, and takes long"] * len(
        MODEL_RULES
    )
    assert not looks


def test_other_faces_at_the_border(
    dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = captioned(dataset, "zorp", "zorp", "zorp")
    model = tmp_path / "faces.xml"
    model.write_text("", "utf-8")
    whole, cut = (40, 40, 60, 60), (70, 40, 90, 60)  # 16 px are mirrored at each side of 64
    looks = iter([[whole, cut], [whole], [cut]])
    monkeypatch.setattr(model_rules, "face_finder", lambda model: lambda image: next(looks))
    (rule,) = [rule for rule in MODEL_RULES if rule.id == "other-faces"]
    for _ in range(2):  # what was seen is remembered
        (finding,) = findings_of(rule, replace(inputs_of(folder), faces=model))
        assert [path.name for path in finding.images] == ["00.png"]
        assert finding.value == 0.5
    audit = audit_dataset(inputs_of(folder), rules=[rule])
    assert "--faces FILE" in audit.skipped[0].missing
