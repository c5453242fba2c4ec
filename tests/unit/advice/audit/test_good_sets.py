"""Sets that are as they should be: what speaks there, speaks without need."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.audits import MakeDataset, captioned, inputs_of
from tests.unit.advice.audit.good_captions import booru_character, booru_style, prose

from lorasmith.advice.audit.audit import audit_dataset
from lorasmith.advice.audit.inputs import Kind
from lorasmith.advice.audit_rules.balance_rules import BALANCE_RULES
from lorasmith.advice.audit_rules.caption_rules import CAPTION_RULES
from lorasmith.advice.audit_rules.concept_rules import CONCEPT_RULES
from lorasmith.advice.audit_rules.file_rules import FILE_RULES
from lorasmith.advice.audit_rules.tag_rules import TAG_RULES
from lorasmith.advice.audit_rules.tagger_rules import TAGGER_RULES
from lorasmith.advice.audit_rules.trigger_rules import TRIGGER_RULES
from lorasmith.advice.audit_rules.word_rules import WORD_RULES
from lorasmith.demo.character import write_training_set

RULES = (
    *CAPTION_RULES,
    *TRIGGER_RULES,
    *TAG_RULES,
    *WORD_RULES,
    *FILE_RULES,
    *BALANCE_RULES,
    *TAGGER_RULES,
    *CONCEPT_RULES,
)


def alarms(folder: Path, kind: Kind | None = None, *settings: str) -> list[str]:
    inputs = inputs_of(folder, *settings)
    inputs.kind = kind
    return [f"{f.rule}: {f.what}" for f in audit_dataset(inputs, rules=RULES).findings]


def test_the_demo(tmp_path: Path) -> None:
    write_training_set(tmp_path)
    assert alarms(tmp_path, "character") == []


@pytest.mark.parametrize("count", [6, 12, 24, 48])
def test_a_character_of_a_booru(dataset: MakeDataset, count: int) -> None:
    folder = captioned(dataset, *booru_character(count), folder="10_zorphina")
    assert alarms(folder, "character", "captions.shuffle=true") == []


@pytest.mark.parametrize("count", [12, 60])
def test_a_style(dataset: MakeDataset, count: int) -> None:
    assert alarms(captioned(dataset, *booru_style(count), folder="1_zorphstyle"), "style") == []


def test_sentences(dataset: MakeDataset) -> None:
    assert alarms(captioned(dataset, *prose(16), folder="1_zorphos"), "character") == []


def test_two_outfits_in_folders_and_regularisation_images(dataset: MakeDataset) -> None:
    captions = {f"5_school/{n}.png": one for n, one in enumerate(booru_character(9))}
    festival = [f"{one}, kimono" for one in booru_character(20)]
    captions |= {f"2_festival/{n}.png": one for n, one in enumerate(festival)}
    captions |= {f"reg/1_girl/{n}.png": "1girl, solo" for n in range(40)}
    assert alarms(dataset(captions)) == []
