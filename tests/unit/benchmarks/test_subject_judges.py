"""The judges of benchmarks/subjects: what they are trained on, and how their readings are counted.

How well trained ones read is in benchmarks/subjects_judges.md.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from benchmarks.subjects import judges as judges_module
from benchmarks.subjects.judges import Judges, Network, soften, to_pixels, train_or_load
from benchmarks.subjects.labelled import PARTS, as_it_is, labelled, near_miss, of_the_world
from benchmarks.subjects.subjects import SUBJECTS
from PIL import Image

from lorasmith.demo.world import VALUES

VELLU, QUORBLE = SUBJECTS["vellu"], SUBJECTS["quorble"]


class Readings(Judges):
    """Judges that read what they are told."""

    def __init__(self, parts: list[set[str]], features: np.ndarray | None = None, **values) -> None:
        self.logits = np.array([[1.0 if p in row else -1.0 for p in PARTS] for row in parts])
        self.values = {name: np.zeros(len(parts), int) for name in VALUES} | values
        self.given = np.ones((len(parts), 4)) if features is None else features

    def _read(self, images):
        count = len(images)
        return self.given[:count], self.logits[:count], self.values


def images(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (64, 64))] * count


def test_labels_of_the_subject_as_it_is():
    for name, subject in SUBJECTS.items():
        drawing = as_it_is(subject, Random(name))
        shown = {part for part, there in zip(PARTS, drawing.parts, strict=True) if there}
        assert shown == {f"{name} {part}" for part in subject.parts}


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_near_miss_lacks_the_part_named_and_looks_it(name: str):
    subject = SUBJECTS[name]
    for part in subject.parts:
        column = PARTS.index(f"{name} {part}")
        for seed in range(10):
            assert not near_miss(subject, Random(seed), part).parts[column]


def test_nothing_is_seen_in_the_world():
    rng = Random(0)
    assert not any(any(of_the_world(rng).parts) for _ in range(30))


def test_every_part_is_drawn_often_enough_to_learn_and_with_every_attribute():
    rng = Random(1)
    drawings = [labelled(rng) for _ in range(700)]
    shares = np.mean([d.parts for d in drawings], axis=0)
    assert shares.min() > 0.005  # at least 135 of the 27 000 drawings
    for column, values in enumerate(VALUES.values()):
        assert {d.attributes[column] for d in drawings} >= set(range(len(values)))


def test_a_verdict_has_a_column_for_each_part():
    judges = Readings([{"vellu horns", "vellu halves", "vellu tail"}, {"vellu tail"}, set()])
    assert judges.verdict(VELLU, images(3)).tolist() == [
        [True] * 3,
        [False, False, True],
        [False] * 3,
    ]
    assert judges.fidelity(VELLU, images(3)) == pytest.approx(1 / 3)
    assert judges.leak(VELLU, images(3)) == pytest.approx(2 / 3)


def test_mixing_counts_parts_of_the_other():
    judges = Readings([{"vellu horns", "quorble disc"}, {"vellu horns"}])
    assert judges.mixing(QUORBLE, images(2)) == 0.5
    assert judges.mixing(SUBJECTS["mibbet"], images(2)) == 0


def test_attributes_are_counted_where_they_are_asked_for():
    prompts = VELLU.prompts(4)
    right = {
        name: np.array([values.index(getattr(p.creature, name)) for p in prompts])
        for name, values in VALUES.items()
    }
    assert Readings([set()] * 4, **right).follows(prompts, images(4)) == 1
    wrong = right | {"eyes": (right["eyes"] + 1) % 4, "hat": (right["hat"] + 1) % 5}
    assert Readings([set()] * 4, **wrong).follows(prompts, images(4)) == 0.75


def test_diversity_is_none_for_one_image_many_times_and_one_for_the_reference():
    features = np.eye(4)
    judges = Readings([set()] * 4, features)
    assert judges.diversity(images(4), images(4)) == pytest.approx(1)
    same = Readings([set()] * 4, np.tile(features[0], (4, 1)))
    assert same.features(images(4)).tolist() == np.tile(features[0], (4, 1)).tolist()
    judges.given = np.concatenate([features, features])
    assert judges.diversity(images(2), images(4)) == pytest.approx(1)


def test_softened_images_are_close_and_the_same_each_time():
    array = np.stack([np.asarray(d.image) for d in VELLU.training_images(8)])
    pixels = to_pixels(array)
    first, second = soften(pixels, Random(3)), soften(pixels, Random(3))
    assert torch.equal(first, second)
    assert not torch.equal(first, pixels)
    assert (first - pixels).abs().mean() < 0.5
    assert first.abs().max() <= 1


def test_judges_are_trained_once_and_the_same_each_time(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(judges_module, "DRAWINGS", 64)
    monkeypatch.setattr(judges_module, "ENCODED", 2)
    monkeypatch.setattr(judges_module, "STEPS", 2)
    pictures = [d.image for d in VELLU.training_images(2)]
    first = train_or_load(tmp_path / "a").features(pictures)
    other = train_or_load(tmp_path / "b").features(pictures)
    assert (first == other).all()
    monkeypatch.setattr(judges_module, "train", lambda seed: pytest.fail("trained again"))
    assert (train_or_load(tmp_path / "a").features(pictures) == first).all()
    assert isinstance(train_or_load(tmp_path / "a").network, Network)
