"""Regularisation images: one of the base model's own for each training image."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tests.crashes import contents, killed_at, operations

from lorasmith.cli.main import cli
from lorasmith.core.errors import Stopped
from lorasmith.core.events import Event, Notice
from lorasmith.curation.changes.journal import Journal
from lorasmith.jobs.dataset.captions import EditRequest
from lorasmith.jobs.dataset.regularize import RegularizeRequest
from lorasmith.jobs.request import run
from lorasmith.sampling import generate
from lorasmith.sampling.images import GeneratedImage
from lorasmith.sampling.infotext import read_infotext
from lorasmith.sampling.request import ImageRequest

FAST = ("--steps", "2")
SIZES = {"a": (64, 64), "b": (90, 60), "c": (60, 90)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of different shapes in kohya_ss' layout, and one without a caption."""
    place = tmp_path / "set" / "img" / "3_zorp"
    place.mkdir(parents=True)
    for name, size in SIZES.items():
        Image.effect_noise(size, 80).convert("RGB").save(place / f"{name}.jpg")
        (place / f"{name}.txt").write_text(f"zorp, {name} star\nanother line")
    return tmp_path / "set"


def regularize(*arguments: object) -> Result:
    words = ["dataset", "regularize", *map(str, arguments)]
    result = CliRunner().invoke(cli, words)
    assert "Traceback" not in result.output, result.output
    return result


def pictures(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.png"))}


@pytest.mark.slow
def test_each_has_name_caption_bucket_and_seed_of_its_original(folder: Path) -> None:
    result = regularize(folder, "--without", "zorp", "--seed", "42", *FAST)
    assert result.exit_code == 0, result.output
    drawn = pictures(folder / "reg")
    assert list(drawn) == ["3_reg/a.png", "3_reg/b.png", "3_reg/c.png"]
    for path in drawn.values():
        info = read_infotext(path)
        assert info is not None
        assert info.settings["Seed"] == "42"
        assert info.settings["Sampler"] == "DDIM"
        assert info.prompt == path.with_suffix(".txt").read_text().strip() == f"{path.stem} star"
    sizes = {path.stem: Image.open(path).size for path in drawn.values()}
    assert sizes["a"] == (64, 64)
    assert sizes["b"][0] > sizes["b"][1]
    assert sizes["c"] == sizes["b"][::-1]


@pytest.mark.slow
def test_sizes_are_those_of_the_buckets_that_training_plans(folder: Path) -> None:
    regularize(folder, "--without", "zorp", *FAST)
    plan = CliRunner().invoke(cli, ["train", "--data", str(folder), "--model", "demo", "--plan"])
    assert plan.exit_code == 0, plan.output
    for path in pictures(folder / "reg").values():
        width, height = Image.open(path).size
        (row,) = [line for line in plan.output.splitlines() if f"{width}x{height}" in line]
        # Its original and itself, neither of them cropped on its account.
        assert row.split()[1] == "2"


@pytest.mark.slow
def test_training_takes_the_folder_by_itself(folder: Path) -> None:
    regularize(folder, "--without", "zorp", *FAST)
    plan = CliRunner().invoke(cli, ["train", "--data", str(folder), "--model", "demo", "--plan"])
    assert plan.exit_code == 0, plan.output
    text = " ".join(plan.output.split())
    assert "3_reg" in text
    assert "9 + 9 regularisation samples" in text, text


@pytest.mark.slow
def test_the_trigger_may_stay_and_is_warned_of(folder: Path) -> None:
    result = regularize(folder, *FAST)
    assert result.exit_code == 0, result.output
    assert (folder / "reg" / "3_zorp" / "a.txt").read_text() == "zorp, a star\n"
    assert '--without "zorp"' in " ".join(result.output.split())


@pytest.mark.slow
def test_what_is_there_stays(folder: Path) -> None:
    regularize(folder, "--without", "zorp", *FAST)
    drawn = pictures(folder / "reg")
    drawn["3_reg/a.png"].write_bytes(b"mine")
    drawn["3_reg/b.png"].unlink()
    result = regularize(folder, "--without", "zorp", *FAST)
    assert "2 of 3 pictures are there already, and stay" in result.output
    assert drawn["3_reg/a.png"].read_bytes() == b"mine"
    assert drawn["3_reg/b.png"].exists()


@pytest.mark.slow
def test_a_stopped_command_goes_on_and_draws_the_same(folder: Path, monkeypatch) -> None:
    progress = generate._Counter.add

    def stop_in_the_second(self: generate._Counter, steps: int) -> None:
        progress(self, steps)
        if self.done == 3:
            self._controls.stop()

    with monkeypatch.context() as patch:
        patch.setattr(generate._Counter, "add", stop_in_the_second)
        result = regularize(folder, "--without", "zorp", "--batch", "1", *FAST)
    assert result.exit_code == 130
    assert len(pictures(folder / "reg")) == 1
    assert regularize(folder, "--without", "zorp", "--batch", "1", *FAST).exit_code == 0
    assert regularize(folder, "--without", "zorp", *FAST, "--out", folder / "two").exit_code == 0
    one, two = pictures(folder / "reg"), pictures(folder / "two")
    assert list(one) == list(two)
    assert all(Image.open(one[name]).size == Image.open(two[name]).size for name in one)


def fake_drawing(images: int) -> Callable[..., Iterator[GeneratedImage]]:
    """In place of the model: so many images, then the command is stopped."""

    def generate(model: object, requests: list[ImageRequest], **_: Any) -> Iterator[GeneratedImage]:
        for index, request in enumerate(requests):
            if index == images:
                raise Stopped("stopped")
            image = Image.new("RGB", (16, 16), (sum(request.prompt.encode()) % 256, 0, 0))
            yield GeneratedImage(image, request, index)

    return generate


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many images a command comes to."""
    model = SimpleNamespace(notes=[])
    monkeypatch.setattr("lorasmith.models.load.load_model", lambda *_, **__: model)

    def images(count: int) -> None:
        monkeypatch.setattr("lorasmith.sampling.generate.generate", fake_drawing(count))

    images(9)
    return images


def history(folder: Path) -> list[tuple[str, str, int]]:
    with Journal(folder) as journal:
        return [(entry.command, entry.state, entry.files) for entry in journal.history()]


def test_each_call_is_one_entry_that_undo_takes_back(
    folder: Path, drawn: Callable[[int], None]
) -> None:
    before = contents(folder)
    drawn(2)
    result = regularize(folder, "--without", "zorp")
    assert result.exit_code == 130
    assert len(pictures(folder / "reg")) == 2
    drawn(9)
    result = regularize(folder, "--without", "zorp")
    assert "take it back with: lorasmith dataset undo" in result.output
    after = contents(folder)
    assert len(pictures(folder / "reg")) == 3
    command = "regularize --without zorp"
    assert history(folder) == [(command, "applied", 4), (command, "applied", 2)]
    undo = CliRunner().invoke(cli, ["dataset", "undo", str(folder), "2"])
    assert undo.exit_code == 0, undo.output
    assert contents(folder) == before
    assert not (folder / "reg").exists()
    CliRunner().invoke(cli, ["dataset", "redo", str(folder), "2"])
    assert contents(folder) == after


def test_another_verb_in_between_has_its_own_entry(
    folder: Path, drawn: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def edited_in_between(*_: Any, **__: Any) -> Iterator[GeneratedImage]:
        for image in fake_drawing(9)(*_, **__):
            if image.index == 1:
                run(EditRequest(folders=[folder / "img"], operations=["add=hat"]))
            yield image

    monkeypatch.setattr("lorasmith.sampling.generate.generate", edited_in_between)
    assert regularize(folder).exit_code == 0
    assert history(folder) == [
        ("regularize", "applied", 2),
        ("edit --add hat", "applied", 3),
        ("regularize", "applied", 4),
    ]


@pytest.mark.slow
def test_a_kill_at_any_operation_loses_no_image(
    folder: Path, drawn: Callable[[int], None], tmp_path: Path
) -> None:
    before = contents(folder)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    request = RegularizeRequest(folders=[folder], device="cpu")
    total = operations(lambda: run(request))
    after = contents(folder)
    for number in range(0, total, 5):
        shutil.rmtree(folder)
        shutil.copytree(copy, folder)
        killed_at(number, lambda: run(request))
        Journal(folder).close()
        left = contents(folder)
        assert set(left.values()) <= set(after.values())
        for path in pictures(folder / "reg").values():
            assert path.with_suffix(".txt").exists()
        run(request)
        assert list(contents(folder)) == list(after)
        with Journal(folder) as journal:
            journal.undo(9)
        assert contents(folder) == before
    assert total > 40


@pytest.mark.slow
def test_images_that_are_written_in_threads_are_one_entry(
    folder: Path, drawn: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder / "img" / "3_zorp"
    for number in range(20):
        shutil.copy(place / "a.jpg", place / f"{number}.jpg")
        (place / f"{number}.txt").write_text(f"zorp, star {number}")
    drawn(99)
    monkeypatch.setattr("lorasmith.tensors.transfer.frees_cpu", lambda _: True)
    assert regularize(folder).exit_code == 0
    assert len(pictures(folder / "reg")) == 23
    assert history(folder) == [("regularize", "applied", 46)]


def test_several_folders_get_their_own(folder: Path, drawn: Callable[[int], None]) -> None:
    other = folder.with_name("other")
    shutil.copytree(folder, other)
    result = regularize(folder, other, folder, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["pending"] == 6
    for place in (folder, other):
        assert len(pictures(place / "reg")) == 3
        assert history(place) == [("regularize", "applied", 6)]
    text = regularize(folder, other, "--out", folder.with_name("x")).output
    assert "--out: takes the pictures of one folder" in text


def test_the_runs_settings_are_read(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(
        "[train]\nseed = 7\n[data]\nresolution = 32\n[buckets]\nenabled = false\n"
        '[captions]\nextension = ".caption"\n'
    )
    for path in (folder / "img" / "3_zorp").glob("*.txt"):
        path.rename(path.with_suffix(".caption"))
    result = regularize(folder, "--config", config, "--without", "zorp", *FAST, "--json")
    assert result.exit_code == 0, result.output
    images = json.loads(result.stdout)["images"]
    assert [Path(name) for name in images] == list(pictures(folder / "reg").values())
    for path in pictures(folder / "reg").values():
        assert Image.open(path).size == (32, 32)
        info = read_infotext(path)
        assert info is not None
        assert info.settings["Seed"] == "7"


@pytest.mark.slow
def test_twins_are_warned_of(folder: Path) -> None:
    for name in ("a", "b"):
        place = folder / "img" / "3_zorp" / name
        Image.new("RGB", (64, 64)).save(place.with_suffix(".jpg"))
        place.with_suffix(".txt").write_text("zorp, star")
    request = RegularizeRequest(folders=[folder], without=["zorp"], steps=1, out=folder / "x")
    events: list[Event] = []
    run(request, events.append)
    assert any("1 picture will be the same as" in e.text for e in events if isinstance(e, Notice))
    events.clear()
    run(request.model_copy(update={"vary_seed": True, "out": folder / "y"}), events.append)
    assert not [e for e in events if isinstance(e, Notice)]
    seeds = [read_infotext(path) for path in pictures(folder / "y").values()]
    assert [info.settings["Seed"] for info in seeds if info] == ["0", "1", "2"]


def test_mistakes_are_told_together_under_the_options_names(folder: Path) -> None:
    result = regularize(folder / "none", "--model", "nowhere.safetensors", "--device", "cuda:77")
    assert result.exit_code == 2
    text = " ".join(result.output.split())
    assert "none: does not exist" in text
    assert "nowhere.safetensors" in text
    assert not (folder / "reg").exists()


def test_without_captions_there_is_nothing_to_draw(folder: Path) -> None:
    place = folder / "img" / "3_zorp"
    for path in place.glob("*.txt"):
        path.unlink()
    result = regularize(place.rename(folder / "images"))
    assert result.exit_code == 2
    assert "no picture has a caption" in result.output
