from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.tiny_taggers import write_tagger

from lorasmith.core.errors import Problem, Stopped
from lorasmith.core.events import Controls, Event, Progress
from lorasmith.curation.tagger.model import Tagger, open_tagger
from lorasmith.curation.tagger.scores import FLOOR, ImageScores, ScoreStore
from lorasmith.curation.tagger.scoring import score_images


@pytest.fixture
def tagger(tmp_path: Path) -> Tagger:
    return open_tagger(str(write_tagger(tmp_path / "wd")))


@pytest.fixture
def store(tagger: Tagger, tmp_path: Path) -> Iterator[ScoreStore]:
    with opened(tagger, tmp_path) as store:
        yield store


def opened(tagger: Tagger, root: Path) -> ScoreStore:
    return ScoreStore(root, tagger.name, tagger.fingerprint, tagger.labels)


def draw(path: Path, red: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (red, 0, 51)).save(path)
    return path


def scores_of(root: Path, paths: list[Path], tagger: Tagger, **more: object) -> list[list[float]]:
    scored = score_images({root: paths}, tagger, **more)
    rows = []
    for path in paths:
        row = [0.0, 0.0, 0.0]
        one = scored.scores[path]
        for label, value in zip(one.labels, one.values, strict=True):
            row[label] = round(float(value), 4)
        rows.append(row)
    return rows


def test_next_to_nothing_is_not_kept() -> None:
    one = ImageScores.of(np.array([0, FLOOR / 2, FLOOR, 0.5], np.float32))
    assert one.labels.tolist() == [2, 3]
    assert one.values.tolist() == [np.float32(FLOOR), 0.5]


def test_scores_come_back_to_the_bit(store: ScoreStore) -> None:
    rng = np.random.default_rng(0)
    kept = {f"{n:032x}": ImageScores.of(rng.random(3, np.float32)) for n in range(20)}
    store.put(kept)
    for content, one in kept.items():
        again = store.get(content)
        assert again is not None
        assert (again.labels == one.labels).all()
        assert (again.values == one.values).all()
    assert store.get("0" * 31 + "x") is None


def test_what_it_is_of_stands_in_the_file(store: ScoreStore) -> None:
    (row,) = sqlite3.connect(store.path).execute("SELECT * FROM model").fetchall()
    assert row == ("wd", '["first", "second", "third"]', '["general", "general", "general"]')
    assert store.path.parent.name == "scores"
    assert store.path.parent.parent.name == ".lorasmith"


def test_each_image_has_its_own_in_any_batches(tagger: Tagger, tmp_path: Path) -> None:
    paths = [draw(tmp_path / "set" / f"{n}.png", 10 * n) for n in range(11)]
    expected = [[0.2, 0.0, round(10 * n / 255, 4)] for n in range(11)]
    assert scores_of(tmp_path / "set", paths, tagger, batch=4) == expected
    shutil.rmtree(tmp_path / "set" / ".lorasmith")
    assert scores_of(tmp_path / "set", paths, tagger, batch=1) == expected


def test_the_model_looks_once(tagger: Tagger, tmp_path: Path) -> None:
    """Nor is it opened: moved, renamed and copied images are known by their content."""
    root = tmp_path / "set"
    first = draw(root / "a.png", 51)
    expected = scores_of(root, [first], tagger)
    moved = first.rename(root / "b.png")
    copy = Path(shutil.copy(moved, root / "c.png"))
    again = Tagger(tagger.files)
    assert scores_of(root, [moved, copy], again) == expected * 2
    assert again._backend is None


def test_the_same_content_is_tagged_once(tagger: Tagger, tmp_path: Path) -> None:
    paths = [draw(tmp_path / "set" / f"{n}.png", 51) for n in range(5)]
    scored = score_images({tmp_path / "set": paths}, tagger)
    assert scored.tagged == 1
    assert set(scored.scores) == set(paths)


def test_a_changed_image_is_tagged_again(tagger: Tagger, tmp_path: Path) -> None:
    path = draw(tmp_path / "set" / "a.png", 0)
    scores_of(tmp_path / "set", [path], tagger)
    draw(path, 255)
    assert scores_of(tmp_path / "set", [path], tagger) == [[0.2, 0.0, 1.0]]


def test_another_model_has_scores_of_its_own(tagger: Tagger, tmp_path: Path) -> None:
    path = draw(tmp_path / "set" / "a.png", 51)
    scores_of(tmp_path / "set", [path], tagger)
    other = open_tagger(str(write_tagger(tmp_path / "other" / "wd", bias=(0, 0.5, 0))))
    assert scores_of(tmp_path / "set", [path], other) == [[0.2, 0.5, 0.2]]
    assert len(list((tmp_path / "set/.lorasmith/scores").iterdir())) == 2


def test_a_stop_keeps_what_is_there(tagger: Tagger, tmp_path: Path) -> None:
    root = tmp_path / "set"
    paths = [draw(root / f"{n}.png", 10 * n) for n in range(9)]
    controls = Controls()
    told: list[Event] = []

    def stop_after_two(event: Event) -> None:
        told.append(event)
        if isinstance(event, Progress) and event.done >= 4:
            controls.stop()

    with pytest.raises(Stopped, match="no caption was changed, and the scores of 4 pictures are"):
        score_images({root: paths}, tagger, batch=2, observer=stop_after_two, controls=controls)
    scored = score_images({root: paths}, tagger, batch=2)
    assert scored.tagged == 5
    assert [e.done for e in told if isinstance(e, Progress)] == [2, 4]


def test_damaged_images_are_named_and_the_others_tagged(tagger: Tagger, tmp_path: Path) -> None:
    root = tmp_path / "set"
    paths = [draw(root / f"{n}.png", 10 * n) for n in range(5)]
    paths[4].write_bytes(paths[4].read_bytes()[:40])
    paths.append(root / "gone.png")
    scored = score_images({root: paths}, tagger, batch=3)
    assert {Path(problem.where).name for problem in scored.problems} == {"4.png", "gone.png"}
    assert set(scored.scores) == set(paths[:4])


def test_a_damaged_store_is_begun_anew(tagger: Tagger, tmp_path: Path) -> None:
    with opened(tagger, tmp_path) as store:
        store.put({"a" * 32: ImageScores.of(np.ones(3, np.float32))})
    store.path.write_bytes(b"no database at all, but long enough to be looked at" * 40)
    with opened(tagger, tmp_path) as store:
        assert store.get("a" * 32) is None
        store.put({"b" * 32: ImageScores.of(np.ones(3, np.float32))})
    with opened(tagger, tmp_path) as store:
        assert store.get("b" * 32) is not None


def test_where_nothing_can_be_written_scores_are_still_given(
    tagger: Tagger, tmp_path: Path
) -> None:
    root = tmp_path / "set"
    path = draw(root / "a.png", 51)
    (root / ".lorasmith").write_text("a file in the place of the folder")
    assert scores_of(root, [path], tagger) == [[0.2, 0.0, 0.2]]


def test_hashes_are_remembered_by_time_and_size(store: ScoreStore, tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png", 51)
    (content,) = store.content_hashes([path]).values()
    status = path.stat()
    path.write_bytes(b"x" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert store.content_hashes([path])[path] == content
    os.utime(path, ns=(0, 0))
    assert store.content_hashes([path])[path] != content
    changed = store.content_hashes([path])[path]
    path.with_suffix(".crop.json").write_text("a crop")
    assert store.content_hashes([path])[path] not in (content, changed)
    path.with_suffix(".crop.json").unlink()
    assert store.content_hashes([path])[path] == changed
    assert isinstance(store.content_hashes([tmp_path / "none.png"])[tmp_path / "none.png"], Problem)
