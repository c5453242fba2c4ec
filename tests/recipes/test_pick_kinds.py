"""``lorasmith pick`` on small real runs of what is no LoRA."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from tests.recipes.matrix import IMAGES, PLAIN

from lorasmith.advice.pick import Picked, pick, record, show
from lorasmith.config.load import load_settings
from lorasmith.demo.character import write_training_set
from lorasmith.measures.drawings import FIRST_SEED
from lorasmith.measures.records import KINDS, Extent
from lorasmith.models.load import load_model
from lorasmith.sampling.embeddings import EmbeddingLibrary
from lorasmith.sampling.from_dataset import escaped
from lorasmith.sampling.generate import generate
from lorasmith.sampling.request import ImageRequest
from lorasmith.training.run import train

SETTINGS = {
    "train.steps": "4",
    "save.every_steps": "2",
    "save.every_epochs": "0",
    "save.state_every_steps": "0",
    "captions.trigger": "zorp",
    "sample.steps": "2",
    "sample.cfg": "1",
}
FEW = 2


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lorasmith.advice.pick.AT_LEISURE", Extent(timesteps=2, references=4))
        yield


def picked(folder: Path, **changes: str) -> Picked:
    chosen = {key.replace("__", "."): value for key, value in changes.items()}
    write_training_set(folder / "data", images=IMAGES, regularisation=2, repeats=2)
    of_loras = ("adapter.rank", "save.precision")
    plain = {name: value for name, value in PLAIN.items() if name not in of_loras}
    places = {"data.path": str(folder / "data"), "save.output": str(folder / "out")}
    settings = load_settings(None, {**plain, **places, **SETTINGS, **chosen})
    return pick(train(settings), images=FEW)


def drawn_by(picked: Picked, number: int) -> np.ndarray:
    """What pick has drawn of its first prompt with a snapshot."""
    stem = picked.run.candidates[number].drawings
    with Image.open(picked.folder / f"{stem}-{KINDS['1.0']}-0.png") as image:
        return np.asarray(image.convert("RGB"))


def requests_of(picked: Picked) -> list[ImageRequest]:
    """Its prompts in one batch, as it draws them."""
    return [
        ImageRequest(escaped(prompt), seed=FIRST_SEED + number, steps=2, cfg=1)
        for number, prompt in enumerate(picked.run.eval_set.prompts)
    ]


def check_shown(picked: Picked) -> None:
    """One strength alone, in the record, the table and the sheet."""
    for one in record(picked)["snapshots"]:
        assert set(one["measures"]["loss"]) == set(one["measures"]["likeness"]) == {"1.0"}
        assert one["measures"]["loss"]["1.0"] != 0
    assert not list(picked.folder.glob("*at-0.6*"))
    assert picked.sheet is not None
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(width=100, record=True, file=nowhere)
        show(picked, console)
    text = console.export_text()
    assert "◀ keep" in text
    assert "1.4" not in text.splitlines()[0]
    assert "strength" not in picked.verdict.summary


@pytest.mark.slow
def test_an_embedding_is_measured_by_its_word(tmp_path: Path) -> None:
    found = picked(tmp_path, train__kind="embedding", embedding__vectors="2", optimizer__lr="0.5")
    check_shown(found)
    assert [one.step for one in found.run.candidates] == [2, 4]
    for one in found.measures:
        # What captions without the word mean does not change.
        assert one.plain_moved == one.plain_drawings == 0
        assert one.norms == {}
    first, last = (drawn_by(found, number) for number in (0, 1))
    assert (first != last).any()
    # As anybody draws with a file of that name.
    requests = requests_of(found)
    for number, cell in enumerate((first, last)):
        folder = tmp_path / f"alone {number}"
        folder.mkdir()
        source = found.run.candidates[number].path
        (folder / "zorp.safetensors").write_bytes(source.read_bytes())
        image, *_ = generate(load_model("demo"), requests, embeddings=EmbeddingLibrary(folder))
        assert np.array_equal(np.asarray(image.image), cell)


@pytest.mark.slow
def test_a_checkpoint_is_measured_in_the_bases_place(tmp_path: Path) -> None:
    found = picked(tmp_path, train__kind="full", optimizer__lr="1e-4")
    check_shown(found)
    for one in found.measures:
        assert one.plain_moved is not None
        assert one.plain_moved > 0
        assert one.norms["unet"] > 0
    requests = requests_of(found)
    for number, candidate in enumerate(found.run.candidates):
        image, *_ = generate(load_model(candidate.path), requests)
        assert np.array_equal(np.asarray(image.image), drawn_by(found, number))
