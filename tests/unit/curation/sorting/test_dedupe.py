from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from PIL import Image
from tests.unit.curation.in_memory import collection, facts, image

from lorasmith.core.errors import DatasetError
from lorasmith.curation.changes.journal import Journal
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import open_collection
from lorasmith.curation.sorting.dedupe import find_duplicates, plan_dedupe


def drawing(seed: int, width: int = 256, height: int = 192) -> Image.Image:
    random = Random(seed)
    small = Image.frombytes("RGB", (8, 8), random.randbytes(192))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def removed(plan: Plan) -> dict[str, str]:
    return {change.path.name: change.what for change in plan.changes if change.kind == "remove"}


def caption(image: Path, text: str) -> None:
    image.with_suffix(".txt").write_text(text, encoding="utf-8")


def test_the_largest_stays_with_its_reason(tmp_path: Path) -> None:
    drawing(1, 128, 96).save(tmp_path / "a.png")
    drawing(1).save(tmp_path / "b.png")
    drawing(2).save(tmp_path / "other.png")
    caption(tmp_path / "a.png", "hat")
    plan = plan_dedupe(open_collection(tmp_path))
    assert removed(plan) == {"a.png": "as b.png, which is larger: 256x192, not 128x96", "a.txt": ""}


def test_of_one_size_the_least_compressed_stays(tmp_path: Path) -> None:
    drawing(1).save(tmp_path / "a.jpg", quality=95)
    drawing(1).save(tmp_path / "b.png")
    drawing(2).save(tmp_path / "c.jpg", quality=30)
    drawing(2).save(tmp_path / "d.jpg", quality=95)
    caption(tmp_path / "a.jpg", "many, tags")
    plan = plan_dedupe(open_collection(tmp_path))
    reasons = removed(plan)
    assert reasons["a.jpg"] == "as b.png, which is lossless: PNG, not JPEG"
    assert reasons["c.jpg"].startswith("as d.jpg, which is less compressed: ")
    assert set(reasons) == {"a.jpg", "a.txt", "c.jpg"}
    assert plan.notes == ["2 copies of 2 pictures"]


@pytest.mark.parametrize("exact", [True, False])
def test_of_the_same_file_the_one_with_most_tags_stays(tmp_path: Path, exact: bool) -> None:
    for name in ("a", "b", "c"):
        drawing(1).save(tmp_path / f"{name}.png")
    caption(tmp_path / "a.png", "hat")
    caption(tmp_path / "b.png", "hat, dog")
    caption(tmp_path / "c.png", "Dog, hat")
    plan = plan_dedupe(open_collection(tmp_path), exact=exact)
    assert removed(plan) == {
        "a.png": "as b.png, which has more tags: 2, not 1",
        "a.txt": "",
        "c.png": "as b.png, which is the first by name",
        "c.txt": "",
    }


def test_exact_means_the_same_bytes_and_decodes_nothing(tmp_path: Path) -> None:
    drawing(1).save(tmp_path / "a.png")
    drawing(1).save(tmp_path / "b.png", compress_level=1)
    for name in ("hurt", "hurt_too"):
        (tmp_path / f"{name}.png").write_bytes(b"no image at all")
    assert set(removed(plan_dedupe(open_collection(tmp_path), exact=True))) == {"hurt_too.png"}
    assert not (tmp_path / ".lorasmith").exists()
    assert set(removed(plan_dedupe(open_collection(tmp_path)))) == {"b.png", "hurt_too.png"}


def test_what_the_one_that_stays_needs_is_not_thrown_away(tmp_path: Path) -> None:
    """Two images of one name share a caption and a mask; one file is the other's alone."""
    drawing(1).save(tmp_path / "a.jpg")
    drawing(1).save(tmp_path / "a.png")
    Image.new("L", (256, 192)).save(tmp_path / "a-masklabel.png")
    (tmp_path / "a.jpg.json").write_text("{}", encoding="utf-8")
    caption(tmp_path / "a.png", "hat")
    assert set(removed(plan_dedupe(open_collection(tmp_path)))) == {"a.jpg", "a.jpg.json"}


def test_two_that_go_may_share_a_caption(tmp_path: Path) -> None:
    for folder, name in (("1", "a.jpg"), ("1", "a.png"), ("2", "b.png")):
        (tmp_path / folder).mkdir(exist_ok=True)
        size = (256, 192) if name == "b.png" else (128, 96)
        drawing(1, *size).save(tmp_path / folder / name)
    caption(tmp_path / "1" / "a.png", "hat")
    plan = plan_dedupe(open_collection(tmp_path))
    plan.apply()
    assert [path.name for path in tmp_path.rglob("*.*g")] == ["b.png"]
    assert not (tmp_path / "1" / "a.txt").exists()


def test_tags_of_the_others_are_kept_and_all_else_stays_as_it_was(tmp_path: Path) -> None:
    before = {}
    for name, data in {"a": b"\xef\xbb\xbfhat , red hat\r\nsecond\r\n", "b": b"HAT, dog"}.items():
        drawing(1).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_bytes(data)
    drawing(1, 100, 75).save(tmp_path / "c.png")
    caption(tmp_path / "c.png", "dog, sky")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    plan_dedupe(open_collection(tmp_path), keep_tags=True).apply()
    kept = (tmp_path / "a.txt").read_bytes()
    assert kept.startswith(b"\xef\xbb\xbfhat , red hat")
    assert b"\r\nsecond" in kept
    assert b"dog" in kept
    assert b"sky" in kept
    assert kept.count(b"HAT") == 0
    with Journal(tmp_path) as journal:
        journal.undo()
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert after == before


def test_a_caption_is_made_for_an_image_without(tmp_path: Path) -> None:
    drawing(1).save(tmp_path / "a.png")
    drawing(1, 100, 75).save(tmp_path / "b.png")
    caption(tmp_path / "b.png", "hat")
    plan_dedupe(open_collection(tmp_path), keep_tags=True).apply()
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "hat"


def test_only_among_what_a_filter_takes(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        drawing(1).save(tmp_path / f"{name}.png")
    plan = plan_dedupe(open_collection(tmp_path), "not name:b")
    assert set(removed(plan)) == {"c.png"}
    with pytest.raises(DatasetError):
        plan_dedupe(open_collection(tmp_path), "tga:b")


def test_what_is_alike_only_by_way_of_another_stays() -> None:
    """Hashes 6 bits apart are alike; 12 bits are not."""
    images = collection(
        [image("a.png"), image("b.png"), image("c.png"), image("d.png")],
        {
            "a.png": facts(width=600, phash=0),
            "b.png": facts(phash=0b111111),
            "c.png": facts(phash=0b111111_111111),
            "d.png": facts(width=500, phash=0b111111_111111_111111),
        },
    )
    groups = find_duplicates(images, images.images)
    names = [
        (group.kept.path.name, [one.path.name for one, _ in group.dropped]) for group in groups
    ]
    assert names == [("a.png", ["b.png"]), ("c.png", ["d.png"])]


def test_nothing_to_do(tmp_path: Path) -> None:
    drawing(1).save(tmp_path / "a.png")
    plan = plan_dedupe(open_collection(tmp_path))
    assert not plan.changes
    assert not plan.warnings


@pytest.mark.parametrize("exact", [False, True])
def test_of_a_file_and_a_link_to_it_the_file_stays(tmp_path: Path, exact: bool) -> None:
    drawing(0).save(tmp_path / "z.png")
    (tmp_path / "a.png").symlink_to("z.png")
    caption(tmp_path / "a.png", "zorp, many, tags")
    plan = plan_dedupe(open_collection(tmp_path), exact=exact)
    assert removed(plan)["a.png"] == "as z.png, which is the file that this is a link to"
    plan.check()
