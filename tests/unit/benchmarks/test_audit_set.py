"""benchmarks/audit: how faults are planted and findings counted, on a set without packages."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from benchmarks.audit import COUNTS, contents, score
from benchmarks.audit_set.faults import (
    CAPTION_FAULTS,
    CONCEPT_FAULTS,
    IMAGE_FAULTS,
    Fault,
    Planter,
    fault,
    plant_faults,
)
from benchmarks.audit_set.kinds import KINDS, TRUE_OF_THE_SET
from benchmarks.audit_set.pictures import Picture, TrainingSet
from benchmarks.audit_set.scoring import Found, Truth, captions_of, parse
from PIL import Image
from tests.audits import faultless

from lorasmith.advice.audit.audit import audit_dataset
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.audit.rules import RULES

TABLES = (IMAGE_FAULTS, CAPTION_FAULTS, CONCEPT_FAULTS)


def tiny_set(folder: Path) -> TrainingSet:
    """12 pictures of 96 px to a concept; "retina" and the others are noise."""

    class NoPackages:
        def photograph(self, name: str) -> Image.Image:
            return faultless(999)

    triggers = {"first": "zorpix", "second": "vellux", "third": "quorbx", "style": "rimulx"}
    pictures = []
    rng = Random(0)
    for place, concept in enumerate([*triggers, "person"]):
        home = folder / ("reg" if concept == "person" else "train")
        noun = "emoji" if concept == "style" else "person"
        name = f"{triggers[concept]} {noun}" if concept in triggers else noun
        (home / f"10_{name}").mkdir(parents=True)
        for number in range(12):
            words = ["solo", rng.choice(["smile", "grin"]), f"{rng.choice(['red', 'blue'])} shirt"]
            words += [rng.choice(["brick wall", "grass"]), rng.choice(["sunglasses", "earrings"])]
            path = home / f"10_{name}" / f"{concept}_{number}{('.png', '.jpg')[number % 2]}"
            image = faultless(100 * place + number, (96, 96))
            tags = [triggers.get(concept, "person"), *words]
            pictures.append(Picture(path, concept, tags, image, image.convert("RGBA")))
            pictures[-1].save()
    return TrainingSet(folder, pictures, triggers, NoPackages())


@pytest.fixture
def made(tmp_path: Path) -> TrainingSet:
    return tiny_set(tmp_path)


def test_there_are_more_kinds_of_faults_than_are_planted_and_each_can_be_found() -> None:
    assert sum(COUNTS) == 30
    assert all(len(table) > count for table, count in zip(TABLES, COUNTS, strict=True))
    rules = {rule.id for rule in RULES}
    assert set().union(*KINDS.values()) <= rules
    assert set(TRUE_OF_THE_SET) <= set(KINDS)


def test_half_the_seeds_plant_the_same_thing_again(tmp_path: Path) -> None:
    plants = []
    for place in ("a", "b"):
        made = tiny_set(tmp_path / place)
        faults = plant_faults(made, "choose", (6, 6, 2))
        plants.append((contents(made.folder), [one.what for one in faults]))
    assert plants[0] == plants[1]
    assert len(plants[0][1]) == 14


OF_LARGE_PICTURES = {"smaller copy", "cropped copy"}
NAMES = [name for table in TABLES for name in table if name not in OF_LARGE_PICTURES]


@pytest.mark.parametrize("name", NAMES)
def test_each_fault_changes_files_and_is_of_known_kinds(made: TrainingSet, name: str) -> None:
    before = contents(made.folder)
    table = next(table for table in TABLES if name in table)
    one = table[name](Planter(made, "choose"))
    assert contents(made.folder) != before
    assert (one.kinds | one.also) <= set(KINDS)
    names = {path.name for path in made.folder.rglob("*")}
    assert one.files <= names


def found(rule: str, *images: str, tags: tuple[str, ...] = ()) -> Found:
    return Found(f"{rule}:1", rule, "note", "", frozenset(images), frozenset(tags), None)


def test_a_finding_of_the_right_kind_on_the_right_files_finds() -> None:
    blur = fault("soft", [], "blurred", "low information")
    blur.files = {"a.png"}
    three = Fault("read", {"b.png", "c.png", "d.png"}, {"text or watermark"}, set(), set())
    findings = [
        found("blurred", "a.png"),
        found("text", "b.png"),
        found("text", "c.png"),
        found("blank", "a.png"),  # true besides
        found("dark", "a.png"),  # not so
        found("blurred", "a.png", "z.png"),  # only half of it so
    ]
    result = score([blur, three], findings, Truth([blur, three]))
    assert [len(some) for _, some in result["rows"]] == [2, 2]
    assert result["wrong"] == findings[4:]
    assert score([three], findings[:2], Truth([three]))["rows"] == [(three, [])]  # one of three


def test_what_can_be_counted_is_no_false_alarm(tmp_path: Path) -> None:
    folder = tmp_path / "10_zorp"
    folder.mkdir()
    captions = ["zorp, hat, dog", "zorp, hat, dog", "zorp, cat", "zorp, sky"]
    for number, text in enumerate(captions):
        (folder / f"{number}.txt").write_text(text, "utf-8")
    truth = Truth([], captions_of(tmp_path))
    assert truth.right(found("seen-once", "2.png", tags=("cat",)))
    assert not truth.right(found("seen-once", "0.png", tags=("hat",)))
    assert truth.right(found("equal-captions", "0.png", "1.png"))
    assert not truth.right(found("equal-captions", "0.png", "2.png"))
    assert truth.right(found("always-together", "0.png", tags=("hat", "dog")))
    assert not truth.right(found("always-together", "0.png", tags=("hat", "cat")))
    assert truth.right(found("never-off", tags=("zorp",)))


def test_a_set_with_a_few_faults_is_scored(made: TrainingSet) -> None:
    planter = Planter(made, "tiny")
    names = ("exact copy", "turned by exif", "no caption", "doubled tag")
    faults = [next(t for t in TABLES if name in t)[name](planter) for name in names]
    rules = [rule for rule in RULES if not rule.slow]
    inputs = AuditInputs([made.folder / "train"], made.folder / "reg")
    findings = parse(audit_dataset(inputs, rules=rules).to_json())
    result = score(faults, findings, Truth(faults, captions_of(made.folder)))
    assert all(some for _, some in result["rows"])
    wrong = {one.rule for one in result["wrong"]}
    assert wrong <= {"too-small"}  # of 96 px, all are
