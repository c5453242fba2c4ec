"""Rules about whole captions, each on captions that have its fault and on good ones."""

from __future__ import annotations

from tests.audits import MakeDataset, audit_rule, captioned, mended

from lorasmith.models.tokenizer import count_tokens

PROSE = "zorp, a small round creature with a red hat, standing on a hill in the evening sun"


def test_an_image_without_a_caption(dataset: MakeDataset) -> None:
    folder = captioned(dataset, "zorp, hat", "zorp, smile", None)
    (finding,) = audit_rule("no-caption", folder)
    assert [path.name for path in finding.images] == ["02.png"]
    assert (finding.severity, finding.value) == ("warning", 1)
    assert finding.what == '1 picture has no caption, of 3; "zorp", the folder\'s name, is used'
    assert "--where untagged" in finding.command


def test_one_name_may_be_all_that_a_folder_needs(dataset: MakeDataset) -> None:
    (finding,) = audit_rule("no-caption", captioned(dataset, None, None))
    assert finding.severity == "note"
    folder = captioned(dataset, None, folder="images") / "images"
    (finding,) = audit_rule("no-caption", folder)
    assert finding.severity == "warning"
    assert "nothing is used" in finding.what


def test_captions_in_a_table_are_captions(dataset: MakeDataset) -> None:
    folder = captioned(dataset, None)
    (folder / "10_zorp" / "metadata.jsonl").write_text('{"file_name": "00.png", "text": "zorp"}')
    assert audit_rule("no-caption", folder) == []


def test_an_empty_caption(dataset: MakeDataset) -> None:
    folder = captioned(dataset, "zorp, hat", " \n", None)
    (finding,) = audit_rule("empty-caption", folder)
    assert [path.name for path in finding.images] == ["01.png"]


def test_what_is_cut_off_is_shown(dataset: MakeDataset) -> None:
    fits = ", ".join(["cat"] * 38)
    assert count_tokens(fits) == 75
    folder = captioned(dataset, fits, f"{fits}, dog", ", ".join(["cat"] * 130))
    findings = audit_rule("long-caption", folder, "captions.trigger=none")
    assert [finding.value for finding in findings] == [77, 259]
    assert findings[0].what == '1 caption has 77 tokens, 75 of which are read: ", dog" is cut off'
    assert "model.max_tokens=150" in findings[0].command
    (one,) = audit_rule("long-caption", folder, "captions.trigger=none", "model.max_tokens=150")
    assert (one.value, one.threshold) == (259, 150)
    assert audit_rule("long-caption", captioned(dataset, fits), "captions.trigger=none") == []


def test_several_lines_become_one(dataset: MakeDataset) -> None:
    folder = captioned(dataset, "zorp, hat\nsmile", "zorp, dog")
    (finding,) = audit_rule("several-lines", folder)
    assert [path.name for path in finding.images] == ["00.png"]
    assert audit_rule("several-lines", folder, "captions.wildcards=true") == []
    assert mended("several-lines", folder) == ["zorp, hat, smile", "zorp, dog"]


def test_tags_without_commas(dataset: MakeDataset) -> None:
    folder = captioned(
        dataset, "zorp red_hat smile open_mouth simple_background", "zorp, hat", PROSE
    )
    (finding,) = audit_rule("no-commas", folder)
    assert [path.name for path in finding.images] == ["00.png"]


def test_sentences_among_tags(dataset: MakeDataset) -> None:
    tags = ["zorp, hat, smile", "zorp, dog, smile", "zorp, cat, smile"]
    (finding,) = audit_rule("two-forms", captioned(dataset, *tags, PROSE))
    assert [path.name for path in finding.images] == ["03.png"]
    assert audit_rule("two-forms", captioned(dataset, *tags, "zorp")) == []
    assert audit_rule("two-forms", captioned(dataset, PROSE, f"{PROSE} again")) == []


def test_a_long_caption_of_several_images(dataset: MakeDataset) -> None:
    long = "zorp, hat, smile, open mouth, grass, sky, cloud"
    folder = captioned(dataset, long, long, "zorp, hat", "zorp, hat", f"{long}, dog")
    (finding,) = audit_rule("equal-captions", folder)
    assert [path.name for path in finding.images] == ["00.png", "01.png"]


def test_sentences_are_not_to_be_shuffled(dataset: MakeDataset) -> None:
    folder = captioned(dataset, PROSE, "zorp, hat, smile")
    (finding,) = audit_rule("shuffled-sentence", folder, "captions.shuffle=true")
    assert [path.name for path in finding.images] == ["00.png"]
    assert "captions.shuffle=false" in finding.command
    (finding,) = audit_rule("shuffled-sentence", folder, "captions.tag_dropout=0.1")
    assert "captions.tag_dropout=0" in finding.command
    assert audit_rule("shuffled-sentence", folder) == []


def test_a_short_caption_that_too_many_pictures_have(dataset: MakeDataset) -> None:
    others = [f"zorp, dog {n}, hat, {('red', 'blue')[n % 2]}" for n in range(40)]
    pasted = ["zorp, cat 1, umbrella 1, boat 1"] * 4
    (finding,) = audit_rule("equal-captions", captioned(dataset, *others, *pasted))
    assert len(finding.images) == 4
    chance = [f"zorp, {animal}, {ground}" for animal in ("cat", "dog") for ground in ("sky", "sea")]
    assert audit_rule("equal-captions", captioned(dataset, *chance * 5)) == []


def test_one_caption_of_very_many_pictures(dataset: MakeDataset) -> None:
    """As of a style: two words for all that it shows."""
    folder = captioned(dataset, *(["zorp, hat, smile"] * 180))
    assert audit_rule("equal-captions", folder) == []
