"""What is known of a run, from its pictures and from its file."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from tests.unit.advice.diagnose.made import facts

from lorasmith.advice.diagnose.facts import _joined, _of_metadata, dataset_facts
from lorasmith.advice.diagnose.subject import Subject
from lorasmith.config.load import load_settings
from lorasmith.core.events import Controls, ignore
from lorasmith.demo.character import write_training_set

SHARED = {"usual_lr": {"unet": 1e-4, "text_encoder": 5e-5}, "uses": 200.0, "usual_uses": 100.0}


def test_rates_and_length_are_told_by_what_is_usual() -> None:
    one = facts(lr={"unet": 4e-4, "text_encoder": 5e-5}, uses=50.0)
    assert one.rate("unet") == pytest.approx(4)
    assert one.rate("text_encoder") == pytest.approx(1)
    assert one.length == pytest.approx(0.5)
    assert facts(sets_lr=True).rate("unet") is None
    assert facts(uses=None).length is None


def test_a_file_says_how_it_was_trained() -> None:
    metadata = {
        "ss_learning_rate": "0.0008",
        "ss_text_encoder_lr": "5e-05",
        "ss_network_dim": "16",
        "ss_network_alpha": "32.0",
        "ss_clip_skip": "2",
        "ss_optimizer": "torch.optim.adamw.AdamW(weight_decay=0.01)",
    }
    one = _of_metadata(metadata, dict(SHARED))
    assert one.source == "metadata"
    assert one.rate("unet") == pytest.approx(8)
    assert one.rate("text_encoder") == pytest.approx(1)
    assert (one.rank, one.scale, one.clip_skip) == (16, 2.0, 2)
    odd = _of_metadata({"ss_network_dim": "None", "ss_learning_rate": "nan"}, dict(SHARED))
    assert (odd.rank, dict(odd.lr)) == (None, {})
    assert _of_metadata({}, dict(SHARED)).source == "nothing"


def test_groups_with_a_picture_in_common_are_one() -> None:
    a, b, c, d = map(Path, "abcd")
    assert _joined([(a, b), (c, d), (b, c)]) == [(a, b, c, d)]
    assert _joined([(a, b), (c, d)]) == [(a, b), (c, d)]


@pytest.mark.slow
def test_copies_of_a_picture_are_counted_together(tmp_path: Path) -> None:
    write_training_set(tmp_path, images=4, regularisation=0, repeats=2)
    folder = next((tmp_path / "img").iterdir())
    first = sorted(folder.glob("*.png"))[0]
    for number in range(4):
        shutil.copyfile(first, folder / f"copy{number}.png")
        shutil.copyfile(first.with_suffix(".txt"), folder / f"copy{number}.txt")
    settings = load_settings(None, {"data.path": str(tmp_path)})
    subject = cast(Subject, SimpleNamespace(folders=(tmp_path,), settings=settings))
    found = dataset_facts(subject, ignore, Controls())
    assert found.images == 8
    assert found.copies == 5
    assert found.repeated == pytest.approx(5 / 8)
    assert found.even_share == pytest.approx(1 / 4)
    assert found.tags == pytest.approx(3)
    assert found.contradictory == 0
