"""Rules about concepts and regularisation images, on sets that have the fault and on good ones."""

from __future__ import annotations

from pathlib import Path

from tests.audits import MakeDataset, audit_rule, inputs_of, mended

from lorasmith.advice.audit.audit import audit_dataset
from lorasmith.advice.audit.finding import Finding
from lorasmith.advice.audit.inputs import Kind
from lorasmith.advice.audit_rules.concept_rules import CONCEPT_RULES


def folders(**captions: list[str]) -> dict[str, str | None]:
    """Captions by folder; ``__`` in a folder's name is ``/``."""
    return {
        f"{name.lstrip('_').replace('__', '/')}/{n:02}.png": caption
        for name, some in captions.items()
        for n, caption in enumerate(some)
    }


def test_concepts_out_of_balance(dataset: MakeDataset) -> None:
    sets = folders(_10_zorp=["zorp, hat"] * 4, _2_vellu=["vellu, hat"] * 4)
    folder = dataset(sets)
    (finding,) = audit_rule("unbalanced", folder)
    assert (finding.value, finding.tags) == (5, ("vellu", "zorp"))
    assert finding.command == f"mv {folder}/2_vellu {folder}/10_vellu"
    (folder / "2_vellu").rename(folder / "4_vellu")
    assert audit_rule("unbalanced", folder) == []


def test_two_folders_with_one_trigger(dataset: MakeDataset) -> None:
    sets = folders(_1_knight=["zorp, hat", "zorp, dog"], _1_farmer=["zorp, hat", "zorp, cat"])
    (finding,) = audit_rule("shared-trigger", dataset(sets))
    assert (finding.tags, len(finding.images)) == (("zorp",), 4)


def test_folders_that_a_tag_or_a_name_tells_apart(dataset: MakeDataset) -> None:
    sets = folders(
        _1_knight=["zorp, armour, hat", "zorp, armour"],
        _1_farmer=["zorp, hat", "zorp, cat"],
        _1_farmer_close=["zorp, hat", "zorp, smile"],
    )
    assert audit_rule("shared-trigger", dataset(sets)) == []


def test_regularisation_images_that_are_few_or_not_used(dataset: MakeDataset) -> None:
    folder = dataset(folders(_2_zorp=["zorp, hat"] * 4, reg__1_girl=["girl"] * 3))
    (finding,) = audit_rule("few-regularisation", folder)
    assert (finding.value, len(finding.images)) == (0.75, 3)
    assert "3 times" in finding.what
    assert audit_rule("unused-regularisation", folder) == []
    folder = dataset(folders(reg__1_girl=["girl"] * 10))
    assert audit_rule("few-regularisation", folder) == []
    (finding,) = audit_rule("unused-regularisation", folder)
    assert finding.value == 2


def test_the_trigger_among_regularisation_captions(dataset: MakeDataset) -> None:
    folder = dataset(folders(_2_zorp=["zorp, hat"] * 4, reg__1_girl=["girl", "zorp, girl"] * 4))
    (finding,) = audit_rule("regularisation-trigger", folder)
    assert len(finding.images) == 4
    mended("regularisation-trigger", folder)
    assert (folder / "reg/1_girl/01.txt").read_text() == "girl"


def test_regularisation_images_that_are_named_after_training_images(dataset: MakeDataset) -> None:
    names = ("hill", "lake", "moon", "road", "tree")
    folder = dataset(
        {f"1_zorp/{name}.png": "zorp" for name in names[:4]}
        | {f"reg/1_girl/{name}.png": "girl" for name in names}
    )
    (finding,) = audit_rule("regularisation-names", folder)
    assert [path.name for path in finding.images] == ["tree.png"]
    for path in sorted((folder / "reg/1_girl").iterdir()):
        path.rename(path.with_name(f"girl_{path.name}"))
    assert audit_rule("regularisation-names", folder) == []
    # Numbers are in every folder.
    numbered = dataset(folders(_1_vellu=["vellu"] * 4, reg__1_boy=["boy"] * 5))
    assert audit_rule("regularisation-names", numbered) == []


def of_kind(kind: Kind | None, folder: Path) -> list[Finding]:
    inputs = inputs_of(folder)
    inputs.kind = kind
    rules = [rule for rule in CONCEPT_RULES if rule.id.startswith("one-")]
    return list(audit_dataset(inputs, rules=rules).findings)


def test_a_style_of_one_subject_and_a_character_in_one_outfit(dataset: MakeDataset) -> None:
    outfit = ["zorp, 1girl, red dress, smile", "zorp, 1girl, red dress, hat"] * 4
    folder = dataset(folders(_1_zorp=outfit))
    assert [finding.tags for finding in of_kind("style", folder)] == [("1girl",)]
    assert [finding.tags for finding in of_kind("character", folder)] == [("red dress",)]
    assert of_kind("object", folder) == []
    assert of_kind(None, folder) == []


def test_a_style_of_several_and_a_character_in_several(dataset: MakeDataset) -> None:
    varied = ["zorp, 1girl, red dress", "zorp, 1boy, shirt", "zorp, no humans, scenery"] * 3
    folder = dataset(folders(_1_zorp=varied))
    assert of_kind("style", folder) == []
    assert of_kind("character", folder) == []


def test_the_kind_is_asked_for(dataset: MakeDataset) -> None:
    inputs = inputs_of(dataset(folders(_1_zorp=["zorp"])))
    skipped = audit_dataset(inputs, rules=CONCEPT_RULES).skipped
    assert [one.rule.id for one in skipped] == ["one-subject", "one-outfit"]


def test_two_persons_by_the_name_of_one(dataset: MakeDataset) -> None:
    folder = dataset(
        {f"10_zorp person/{n}.png": f"zorp, hat, {n}" for n in range(3)}
        | {f"10_zorp cousin/{n + 3}.png": f"zorp, hat, {n}" for n in range(3)}
    )
    (finding,) = audit_rule("shared-trigger", folder)
    assert finding.tags == ("zorp",)


def test_regularisation_of_something_else(dataset: MakeDataset) -> None:
    captions = {f"10_zorp person/{n}.png": "zorp, hat" for n in range(3)}
    folder = dataset(captions | {"reg/1_person/9.png": "person"})
    assert audit_rule("regularisation-class", folder) == []
    (folder / "reg" / "1_person").rename(folder / "reg" / "1_landscape")
    (finding,) = audit_rule("regularisation-class", folder)
    assert "person" in finding.what
