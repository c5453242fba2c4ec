from __future__ import annotations

from lorasmith.diffusion.global_batch import GlobalBatch

STEP = GlobalBatch((10, 11, 12, 13), (5, 6, 5, 5), (2, 0, 3, 4))


def test_values_come_in_the_order_of_the_samples_that_are_asked_for() -> None:
    assert STEP.of(["a", "b", "c", "d"], [13, 10]) == ["d", "a"]


def test_repetitions_count_an_image_within_the_step() -> None:
    assert STEP.repetitions == [0, 0, 1, 2]


def test_strangers_are_images_of_their_own() -> None:
    assert GlobalBatch.of_strangers([3, 7]) == GlobalBatch((3, 7), (3, 7), (0, 0))
