from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lorasmith.config.sections.data import CaptionSettings
from lorasmith.curation.check.check import CheckReport, StepCount, check_dataset
from lorasmith.curation.check.report import report_text
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.dataset import build_dataset
from lorasmith.data.holdout import hold_out
from lorasmith.data.layout import find_folders
from lorasmith.data.scan import scan
from lorasmith.data.triggers import apply_triggers

Save = Callable[..., Path]


def check(folder: Path, resolution: int = 64, **options: object) -> CheckReport:
    found = scan(find_folders(folder))
    rules = options.pop("rules", None)
    buckets = plan_buckets(resolution, resolution)
    return check_dataset(found, build_dataset(found, buckets, rules), **options)  # type: ignore[arg-type]


def warning(report: CheckReport, part: str) -> str:
    """The one warning that has ``part`` in it."""
    found = [str(problem) for problem in report.warnings if part in str(problem)]
    assert len(found) == 1, [str(problem) for problem in report.warnings]
    return found[0]


@pytest.fixture
def folder(tmp_path: Path, save: Save) -> Path:
    """24 samples of 6 captioned images in two shapes, and 5 for regularisation."""
    for number in range(4):
        save(tmp_path / "4_zorp girl" / f"{number}.png", 64, 64, f"zorp, girl, pose {number}")
    for number in range(2):
        save(tmp_path / "4_zorp girl" / f"tall {number}.png", 48, 96, "zorp, standing")
    for number in range(5):
        save(tmp_path / "reg" / "1_girl" / f"{number}.png", 64, 64)
    return tmp_path


def test_a_good_dataset_has_nothing_to_say(folder: Path) -> None:
    report = check(folder, count_tokens=lambda text: len(text.split()))
    assert report.errors == ()
    assert report.warnings == ()
    assert report.near_duplicates == ()
    assert report.captions.longest == 4


def test_steps_and_where_they_come_from(folder: Path) -> None:
    # 16 square + 8 tall + 24 regularisation samples; squares and regularisation share a bucket.
    steps = check(folder, batch=5, epochs=3).steps
    assert (steps.train_samples, steps.reg_samples, steps.buckets) == (24, 24, 2)
    assert (steps.batches, steps.steps_per_epoch, steps.total) == (8 + 2, 10, 30)
    assert str(steps) == (
        "24 + 24 regularisation samples in 2 buckets, 5 to a batch: 10 batches an epoch; "
        "10 x 3 epochs = 30 steps"
    )


def test_steps_with_accumulation_or_a_fixed_number(folder: Path) -> None:
    accumulated = check(folder, batch=5, epochs=3, accumulation=4).steps
    assert (accumulated.steps_per_epoch, accumulated.total) == (3, 9)
    fixed = check(folder, batch=5, epochs=3, steps=25).steps
    assert (fixed.total, fixed.epochs) == (25, 3)
    assert "25 steps, which is 2.5 epochs" in str(fixed)
    assert "10 steps, which is 1 epoch" in str(check(folder, batch=5, steps=10).steps)
    assert "4 steps, which is 0.4 epochs" in str(check(folder, batch=5, steps=4).steps)


@given(st.integers(1, 10), st.integers(0, 60))
def test_the_sentence_never_contradicts_itself(batch: int, extra: int) -> None:
    batches = -(-100 // batch) + extra
    steps = StepCount(100, 0, 3, (batch,), batches, 1, batches, 2, 2 * batches, False)
    assert (f"({extra} more than 100 / {batch}:" in str(steps)) == (extra > 0)


def test_tables(folder: Path) -> None:
    report = check(folder, batch=5)
    train, reg = report.folders
    assert (train.pictures, train.repeats, train.samples, train.captions) == (6, 4, 24, 6)
    assert (reg.pictures, reg.repeats, reg.samples, reg.captions) == (5, 1, 24, 0)
    assert (reg.fallback, reg.uses) == ("girl", {4: 1, 5: 4})
    assert sum(row.samples for row in report.buckets) == 48
    assert sum(row.batches for row in report.buckets) == report.steps.batches
    assert [row.size for row in report.pictures][4] == (48, 96)


def test_json_is_complete_and_plain(folder: Path) -> None:
    value = check(folder).to_json()
    assert json.loads(json.dumps(value)) == value
    assert value["steps"]["because"].endswith("= 48 steps")
    assert len(value["pictures"]) == 11
    assert value["folders"][1]["uses"] == {"4": 1, "5": 4}


def test_report_as_text(folder: Path, save: Save) -> None:
    save(folder / "4_zorp girl" / "odd.png", 400, 64)
    (folder / "4_zorp girl" / "notes.md").write_text("x")
    text = report_text(check(folder), width=90)
    assert all(len(line) <= 90 for line in text.splitlines())
    for part in ("4_zorp girl", "regularisation", "64x64", "odd.png", "not a picture: 1", "Steps"):
        assert part in text, part
    assert "\x1b" not in text


def test_recorded_crops_are_counted_and_listed(folder: Path) -> None:
    path = sorted(folder.rglob("*.png"))[0]
    with Image.open(path) as image:
        width, height = image.size
    record = {"box": [0, 0, width - 8, height - 8], "size": [width, height]}
    path.with_suffix(".crop.json").write_text(json.dumps(record))
    report = check(folder)
    boxes = {row.path: row.recorded_crop for row in report.pictures if row.recorded_crop}
    assert boxes == {path: (0, 0, width - 8, height - 8)}
    assert f"Crops  1 of {len(report.pictures)} pictures, as recorded beside it" in report_text(
        report
    )


def test_held_out_images_are_named_and_looked_at(folder: Path) -> None:
    found = scan(find_folders(folder))
    training, held = hold_out(found, 0.3, 0)
    held[0].path.write_bytes(held[0].path.read_bytes()[:99])
    dataset = build_dataset(training, plan_buckets(64, 64))
    report = check_dataset(training, dataset, held_out=held)
    assert report.held_out == tuple(image.path for image in held)
    assert len(report.pictures) == len(found.images) - len(held)
    assert any(str(held[0].path) in str(problem) for problem in report.errors)
    assert f"Held out  {len(held)} not trained on: {held[0].path.name}" in report_text(report)


def test_missing_captions(folder: Path) -> None:
    (folder / "4_zorp girl" / "2.txt").unlink()
    assert "1 of 6 pictures has no caption" in warning(check(folder), "no caption")
    for path in (folder / "4_zorp girl").glob("*.txt"):
        path.unlink()
    report = check(folder)
    said = warning(report, "none of 6 pictures has a caption")
    assert "'zorp girl'" in said
    assert (report.captions.from_file, report.captions.from_folder) == (0, 6)


def test_captions_over_the_token_length(folder: Path) -> None:
    (folder / "4_zorp girl" / "2.txt").write_text("zorp " + "word " * 90)
    count = len
    report = check(folder, count_tokens=lambda text: count(text.split()))
    said = warning(report, "longer than 75")
    assert "91" in said
    assert "model.max_tokens = 150" in said
    rules = CaptionSettings(prefix="one two three")
    assert (
        check(folder, count_tokens=lambda t: count(t.split()), rules=rules).captions.longest == 94
    )


def test_the_report_says_the_triggers(folder: Path) -> None:
    found = scan(find_folders(folder))
    found, triggers = apply_triggers(found, CaptionSettings(trigger="zorp"))
    dataset = build_dataset(found, plan_buckets(64, 64))
    report = check_dataset(found, dataset, triggers=triggers)
    assert "Trigger" in report_text(report)
    assert all(str(trigger) in " ".join(report_text(report, 999).split()) for trigger in triggers)
    assert report.to_json()["triggers"][0]["text"] == "zorp"


def test_a_table_that_is_read_is_not_ignored(
    tmp_path: Path, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the folders, as sd-scripts' meta_cap.json; however the dataset is named."""
    save(tmp_path / "data" / "4_zorp" / "a.png")
    rows = '{"4_zorp/a.png": {"caption": "zorp, hat"}}'
    (tmp_path / "data" / "meta_cap.json").write_text(rows)
    (tmp_path / "data" / "other.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for name in (tmp_path / "data", Path("data")):
        report = check(name)
        assert report.captions.from_file == 1
        assert [one.path.name for one in report.ignored] == ["other.json"]


def test_enlarged_and_cropped_images(folder: Path, save: Save) -> None:
    save(folder / "4_zorp girl" / "small.png", 20, 20, "zorp")
    save(folder / "4_zorp girl" / "long.png", 640, 64, "zorp")
    report = check(folder)
    assert "1 picture is smaller" in warning(report, "small.png 3.2x")
    assert "enlarged more than twice" in warning(report, "small.png 3.2x")
    assert "60%" in warning(report, "long.png")
    save(folder / "4_zorp girl" / "less.png", 48, 48, "zorp")
    assert "2 pictures are smaller than the bucket and enlarged, 1 of them more than twice" in (
        warning(check(folder), "small.png 3.2x")
    )
    save(folder / "4_zorp girl" / "less.png", 24, 24, "zorp")
    assert "enlarged, all of them more than twice" in warning(check(folder), "small.png 3.2x")


def test_single_images_in_a_bucket_matter_from_batch_two_on(folder: Path, save: Save) -> None:
    save(folder / "4_zorp girl" / "wide.png", 128, 32, "zorp")
    assert check(folder, batch=1).warnings == ()
    assert "wide.png" in warning(check(folder, batch=2), "single picture")


def test_unused_regularisation_images(folder: Path, save: Save) -> None:
    for number in range(40):
        save(folder / "reg" / "1_girl" / f"more {number}.png")
    report = check(folder)
    assert "21 regularisation pictures are not used, of 45" in warning(report, "regularisation")
    assert report.folders[1].uses == {0: 21, 1: 24}


def test_wildcards_and_lines_that_are_not_read_as_such(folder: Path) -> None:
    (folder / "4_zorp girl" / "1.txt").write_text("zorp, {red|blue} hat\nzorp, another")
    report = check(folder)
    assert "4_zorp girl/1.png" in warning(report, "{a|b}")
    assert "only the first" in warning(report, "several lines")
    assert check(folder, rules=CaptionSettings(wildcards=True)).warnings == ()


def test_headers_only(folder: Path) -> None:
    path = folder / "4_zorp girl" / "1.png"
    path.write_bytes(path.read_bytes()[:-500])
    assert check(folder, decode=False).errors == ()
    assert "truncated" in check(folder).errors[0].what


def captioned(folder: Path, save: Save, *captions: str) -> list[str]:
    for number, caption in enumerate(captions):
        save(folder / "1_zorp" / f"{number}.png", caption=caption)
    return [str(warning) for warning in check(folder).warnings if "caption" in warning.where]


@pytest.mark.parametrize(
    ("caption", "words"),
    [("1girl solo long_hair blue_eyes smile", ["many words and no comma", "long_hair, blue_eyes"]),
     ("zorp standing smile red hat blue sky", ["many words and no comma"]),
     ("zorp, long_hair, sitting", ["1 caption has tags with underscores (long_hair)"]),
     ("zorp, rating:safe, absurdres, commentary_request",
      ["1 caption has tags about the file", "(rating:safe, absurdres, commentary_request)"]),
     ("score_9, score_8_up, zorp", ["(score_9, score_8_up)"]),
     ("a zorp that sits on a hill in the rain and sleeps", []),
     ("zorp, ^_^, >_<, o_o, red hat, a house on a hill", []),
     ("sks_dog, sitting", [])],
)  # fmt: skip
def test_captions_that_are_written_oddly_are_said(
    tmp_path: Path, save: Save, caption: str, words: list[str]
) -> None:
    text = "\n".join(captioned(tmp_path, save, caption))
    assert all(word in text for word in words), text
    assert bool(text) == bool(words), text


@pytest.mark.parametrize(
    ("keep", "shuffle", "expected"),
    [(3, True, "captions.keep_tokens: at 3 leaves nothing to shuffle in 2 of 3 captions"),
     (1, True, ""), (3, False, ""), (0, True, "")],
)  # fmt: skip
def test_keep_tokens_that_leave_nothing_to_shuffle(
    tmp_path: Path, save: Save, keep: int, shuffle: bool, expected: str
) -> None:
    for name, caption in (("a", "z, a, b"), ("b", "z, a, b, c"), ("c", "z, a, b, c, d")):
        save(tmp_path / f"{name}.png", caption=caption)
    found = scan(find_folders(tmp_path))
    rules = CaptionSettings(shuffle=shuffle, keep_tokens=keep)
    warnings = check_dataset(found, build_dataset(found, plan_buckets(64, 64), rules)).warnings
    text = "\n".join(str(warning) for warning in warnings)
    assert expected in text
    assert ("nothing to shuffle" in text) == bool(expected)
