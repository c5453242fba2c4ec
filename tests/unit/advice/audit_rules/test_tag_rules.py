"""Rules about single tags, each on captions that have its fault and on captions that have not."""

from __future__ import annotations

import json

import pytest
from tests.audits import MakeDataset, audit_rule, captioned, mended

GOOD = ["zorp, red hat", "zorp, red hat", "zorp, red hat, smile", "zorp, red hat, dog"]


@pytest.mark.parametrize(
    "rule",
    [
        *("meta-tags", "quality-tags", "names-of-artists", "tag-twice", "implied-tags"),
        *("spelled-twice", "prompt-syntax", "underscores", "singular-plural", "misspelled-tag"),
        "contradiction",
    ],
)
def test_good_captions_are_left_in_peace(dataset: MakeDataset, rule: str) -> None:
    assert audit_rule(rule, captioned(dataset, *GOOD)) == []


def test_tags_about_the_file(dataset: MakeDataset) -> None:
    folder = captioned(dataset, *GOOD, "zorp, translation_request, hat, absurdres")
    (finding,) = audit_rule("meta-tags", folder)
    assert finding.tags == ("translation_request", "absurdres")
    assert "--prune meta" in finding.command
    assert mended("meta-tags", folder)[4] == "zorp, hat"


def test_tags_of_quality(dataset: MakeDataset) -> None:
    folder = captioned(dataset, *GOOD, "zorp, masterpiece, best quality, highres")
    (finding,) = audit_rule("quality-tags", folder)
    assert finding.tags == ("masterpiece", "best quality")  # highres is about the file
    assert mended("quality-tags", folder)[4] == "zorp"


def test_names_that_an_import_told(dataset: MakeDataset) -> None:
    folder = captioned(dataset, *GOOD, "zorp, by_someone, fate (series)")
    (folder / ".lorasmith").mkdir()
    kinds = {"artist": ["by someone"], "copyright": ["fate_(series)"]}
    (folder / ".lorasmith" / "tag_kinds.json").write_text(json.dumps(kinds))
    findings = audit_rule("names-of-artists", folder)
    assert [finding.tags for finding in findings] == [("by_someone",), ("fate (series)",)]
    assert mended("names-of-artists", folder)[4] == "zorp"


def test_a_tag_twice(dataset: MakeDataset) -> None:
    folder = captioned(dataset, *GOOD, "zorp, hat, smile, Hat")
    (finding,) = audit_rule("tag-twice", folder)
    assert (len(finding.images), finding.tags) == (1, ("hat",))
    assert mended("tag-twice", folder)[4] == "zorp, hat, smile"


def test_a_tag_that_another_says(dataset: MakeDataset) -> None:
    folder = captioned(dataset, *GOOD, "zorp, boots, red footwear, red boots")
    (finding,) = audit_rule("implied-tags", folder)
    assert finding.tags == ("boots", "red footwear")
    assert "boots by red boots" in finding.what
    assert mended("implied-tags", folder)[4] == "zorp, red boots"


def test_two_spellings(dataset: MakeDataset) -> None:
    folder = captioned(dataset, *GOOD, "zorp, red_hat", "zorp, Red Hat")
    (finding,) = audit_rule("spelled-twice", folder)
    assert finding.tags == ("red hat", "Red Hat", "red_hat")
    assert mended("spelled-twice", folder)[4:] == ["zorp, red hat", "zorp, red hat"]
    assert audit_rule("underscores", captioned(dataset, *GOOD, "zorp, red_hat")) == []  # told once
    # Capitals alone are the same tokens, and weights are told of by themselves.
    assert audit_rule("spelled-twice", captioned(dataset, *GOOD, "zorp, (red hat:1.2)")) == []
    assert audit_rule("spelled-twice", captioned(dataset, *GOOD, "zorp, Red Hat")) == []


def test_what_only_prompts_read(dataset: MakeDataset) -> None:
    syntax = r"zorp, (red hat:1.2), miku \(vocaloid\), <lora:zorp:1>, :), ^_^, fate (series)"
    folder = captioned(dataset, *GOOD, syntax)
    (finding,) = audit_rule("prompt-syntax", folder)
    assert finding.tags == ("(red hat:1.2)", r"miku \(vocaloid\)", "<lora:zorp:1>")
    after = mended("prompt-syntax", folder)[4]
    assert after == "zorp, red hat, miku (vocaloid), :), ^_^, fate (series)"


def test_underscores(dataset: MakeDataset) -> None:
    folder = captioned(dataset, *(caption.replace(" h", "_h") for caption in GOOD))
    (finding,) = audit_rule("underscores", folder)
    assert (finding.tags, finding.value) == (("red_hat",), 4)
    assert mended("underscores", folder)[0] == "zorp, red hat"


def test_singular_and_plural(dataset: MakeDataset) -> None:
    tags = ["zorp, gloves"] * 4
    (finding,) = audit_rule("singular-plural", captioned(dataset, *tags, "zorp, glove"))
    assert finding.tags == ("glove", "gloves")
    # As many of one as of the other, and both on an image, are two things.
    assert audit_rule("singular-plural", captioned(dataset, *tags, *["zorp, glove"] * 4)) == []
    assert audit_rule("singular-plural", captioned(dataset, *tags, "zorp, glove, gloves")) == []


def test_misspelled(dataset: MakeDataset) -> None:
    tags = ["zorp, open mouth, red coat, smile, purple body, 2girls, dress, clapping, cape"] * 4
    for wrong, right in (
        *(("open muoth", "open mouth"), ("simle", "smile")),
        *(("purple boddy", "purple body"), ("purpel body", "purple body")),
    ):
        folder = captioned(dataset, *tags, f"zorp, {wrong}")
        (finding,) = audit_rule("misspelled-tag", folder)
        assert finding.tags == (wrong, right)
        assert finding.severity == "warning"
        assert mended("misspelled-tag", folder)[-1] == f"zorp, {right}"
    # Words of their own, other numbers, short words, and plurals.
    for other in (
        *("red boat", "smiles", "1girl", "3girls", "open south", "purple bodys"),
        *("tress", "press", "slapping", "nape", "red nape"),
    ):
        assert audit_rule("misspelled-tag", captioned(dataset, *tags, f"zorp, {other}")) == []


def test_misspelled_by_the_lists_of_tags(dataset: MakeDataset) -> None:
    for wrong, right in (("blonde hiar", "blonde hair"), ("Flat_Cheest", "flat_chest")):
        folder = captioned(dataset, f"zorp, {wrong}", "zorp, smile")
        (finding,) = audit_rule("misspelled-tag", folder)
        assert finding.tags == (wrong, right)
        assert finding.severity == "note"
        assert mended("misspelled-tag", folder)[0] == f"zorp, {right}"
    for other in ("blond hair", "blue eye", "vree pose", "zorp hair", "haori"):
        assert audit_rule("misspelled-tag", captioned(dataset, f"zorp, {other}")) == []


CONTRADICTIONS = [
    ("red hair, blonde hair", ("blonde hair", "red hair")),
    ("solo, 2girls", ("2girls", "solo")),
    ("1girl, multiple girls", ("1girl", "multiple girls")),
    ("no hat, red hat", ("no hat", "red hat")),
    ("long hair, very short hair", ("long hair", "very short hair")),
    ("blue eyes, red eyes", ("blue eyes", "red eyes")),
]
FINE = [
    *("red hair, blonde hair, multicolored hair", "red hair, blonde hair, 2girls"),
    *("blue hair, light blue hair", "white hair, grey hair", "blue eyes, red eyes, heterochromia"),
    *("1girl, solo, long hair", "no shoes, unworn shoes", "1girl, 1boy, long hair, short hair"),
    *("dark hair, red hair", "open mouth, closed eyes", "short hair with long locks, short hair"),
]


@pytest.mark.parametrize(("caption", "pair"), CONTRADICTIONS)
def test_what_excludes_each_other(
    dataset: MakeDataset, caption: str, pair: tuple[str, str]
) -> None:
    (finding,) = audit_rule("contradiction", captioned(dataset, f"zorp, {caption}"))
    assert tuple(sorted(finding.tags)) == pair
    assert "--remove" in finding.command


def test_what_does_not(dataset: MakeDataset) -> None:
    folder = captioned(dataset, *(f"zorp, {caption}" for caption in FINE))
    assert audit_rule("contradiction", folder) == []


def test_the_rarer_of_two_is_the_one_to_go(dataset: MakeDataset) -> None:
    tags = ["zorp, blonde hair"] * 3
    (finding,) = audit_rule("contradiction", captioned(dataset, *tags, "blonde hair, brown hair"))
    assert "--remove 'brown hair'" in finding.command
    assert finding.command.endswith("""--where 'tag:"blonde hair" tag:"brown hair"'""")


def test_artists_by_how_they_are_written(dataset: MakeDataset) -> None:
    folder = captioned(
        dataset, *GOOD, "zorp, artist:odell, standing by", "zorp, odell (artist), hat"
    )
    (finding,) = audit_rule("names-of-artists", folder)
    assert set(finding.tags) == {"artist:odell", "odell (artist)"}
    assert mended("names-of-artists", folder)[4:] == ["zorp, standing by", "zorp, hat"]
