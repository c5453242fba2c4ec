from __future__ import annotations

import numpy as np
from PIL import Image

from lorasmith.sampling.contact_sheet import EMPTY, PAPER, contact_sheet


def image(colour: str, size: tuple[int, int] = (20, 30)) -> Image.Image:
    return Image.new("RGB", size, colour)


def count(sheet: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(sheet) == colour).all(-1).sum())


def test_every_image_is_there_whole() -> None:
    sheet = contact_sheet([[image("red"), image("blue")], [image("lime")]], gap=2)
    assert sheet.size == (2 + 2 * 22, 2 + 2 * 32)
    for colour in ((255, 0, 0), (0, 0, 255), (0, 255, 0), EMPTY):
        assert count(sheet, colour) == 600
    assert count(sheet, PAPER) == sheet.width * sheet.height - 4 * 600


def test_labels_take_room_of_their_own() -> None:
    rows = [[image("red"), None]]
    sheet = contact_sheet(
        rows, row_labels=["a long label of many words " * 5], column_labels=["x", "y"], title="T"
    )
    assert count(sheet, (255, 0, 0)) == 600
    assert sheet.width > 100
    assert sheet.height > 60


def test_growing_repeats_pixels() -> None:
    board = Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], dtype=np.uint8))
    sheet = contact_sheet([[board]], scale=3, gap=0)
    assert count(sheet, (255, 0, 0)) == count(sheet, (0, 0, 255)) == 9


def test_smaller_images_stand_in_the_middle() -> None:
    sheet = contact_sheet([[image("red", (10, 10)), image("blue", (30, 30))]], gap=0)
    assert sheet.getpixel((15, 15)) == (255, 0, 0)
    assert sheet.getpixel((2, 2)) == PAPER
