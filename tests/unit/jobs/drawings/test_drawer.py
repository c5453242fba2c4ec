"""In the process that draws: what is kept from one drawing to the next, and what is told."""

from __future__ import annotations

import io
import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import lorasmith.jobs.kept_models as kept_models
from lorasmith.adapters.file import load_lora
from lorasmith.core.errors import Stopped, UserError
from lorasmith.core.events import Controls
from lorasmith.curation.tagger.model import open_tagger
from lorasmith.jobs.engine.draw import Drawer
from lorasmith.jobs.engine.serve import drawing_answers, serve
from lorasmith.jobs.engine.tag import KeptTagger
from lorasmith.jobs.picture_settings import picture_settings
from lorasmith.models.load import load_model
from lorasmith.sampling.step_preview import LatentColors

QUICK = {"steps": 2, "seed": 5, "device": "cpu", "size": "64x64"}


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.drawer = Drawer()
        self.told: list[dict[str, Any]] = []

    def draw(self, prompt: str, controls: Controls | None = None, **values: Any) -> list[Path]:
        request = {"prompt": prompt, **QUICK, "out": str(self.folder / "out"), **values}
        question = {"request": request, "previews": str(self.folder)}
        answer = self.drawer.draw(question, self.told.append, controls or Controls())
        return [Path(path) for path in answer["images"]]

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.told if event["event"] == kind]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def lora(lora_folder: Path, tmp_path: Path) -> Path:
    (tmp_path / "loras").mkdir()
    source = next(lora_folder.rglob("*.safetensors"))
    return Path(shutil.copy(source, tmp_path / "loras" / "x.safetensors"))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    calls: list[object] = []
    monkeypatch.setattr(
        kept_models, "load_model", lambda *a, **o: calls.append(a) or load_model(*a, **o)
    )
    return calls


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


def test_the_model_is_loaded_once_and_pictures_are_those_of_the_command(
    bench: Bench, loads: list[object]
) -> None:
    first, second = bench.draw("zorp"), bench.draw("zorp", clip_skip=2)
    assert len(loads) == 1
    assert pixels(first[0]) != pixels(second[0])
    again = Bench(bench.folder)
    assert pixels(again.draw("zorp", clip_skip=2)[0]) == pixels(second[0])
    assert len(bench.events("PictureDrawn")) == 2
    bench.draw("zorp", zero_terminal_snr=True)
    assert len(loads) == 3


def test_progress_and_previews_come_before_the_picture(bench: Bench) -> None:
    bench.draw("zorp", count=2, batch=2)
    steps = [e for e in bench.events("Progress") if e["what"] == "drawing pictures"]
    assert [e["done"] for e in steps] == [2, 4]
    assert {e["place"] for e in bench.events("Preview")} == {0, 1}
    with Image.open(bench.folder / "1.png") as preview:
        assert preview.size == (16, 16)
    names = [e["event"] for e in bench.told]
    assert names.index("Preview") < names.index("PictureDrawn")


def test_a_lora_that_changed_is_read_again_and_strengths_are_not(
    bench: Bench, lora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    monkeypatch.setattr(
        "lorasmith.sampling.lora_library.load_lora",
        lambda path: reads.append(path) or load_lora(path),
    )

    def drawn(strength: float) -> bytes:
        return pixels(bench.draw(f"zorp <lora:x:{strength}>", lora_dir=str(lora.parent))[0])

    full, half = drawn(1), drawn(0.5)
    assert full != half
    assert drawn(1) == full
    assert len(reads) == 1
    save_file({name: 2 * each for name, each in load_file(lora).items()}, lora)
    assert drawn(1) != full
    assert len(reads) == 2


def test_a_drawing_is_stopped_between_two_steps(bench: Bench) -> None:
    controls = Controls()

    class Tell(list[dict[str, Any]]):
        def append(self, event: dict[str, Any]) -> None:
            controls.stop()

    bench.told = Tell()
    with pytest.raises(Stopped):
        bench.draw("zorp", controls, steps=50)
    assert not list((bench.folder / "out").glob("*.png"))


def test_all_that_is_wrong_is_told(bench: Bench) -> None:
    with pytest.raises(UserError) as error:
        bench.draw("zorp", steps=0, sampler="nonsense")
    assert {problem.where for problem in error.value.problems} >= {"steps", "sampler"}


def test_what_a_picture_says_is_what_draws_it_again(bench: Bench, lora: Path) -> None:
    prompt = "zorp, standing <lora:x:0.7:lbw=OUTALL>"
    first = bench.draw(prompt, lora_dir=str(lora.parent), sampler="euler_a", negative="tail")
    told = picture_settings(first[0], lora.parent)
    drawing = told["drawing"]
    assert drawing["prompt"] == "zorp, standing"
    assert (drawing["negative"], drawing["sampler"], drawing["seed"]) == ("tail", "euler_a", 5)
    (used,) = drawing["loras"]
    assert (used["name"], used["strength"]) == ("x", 0.7)
    assert (used["blocks"]["IN04"], used["blocks"]["OUT04"]) == (0, 1)
    assert told["missing"] == []
    assert picture_settings(first[0])["missing"] == ["x"]


def test_the_process_answers_and_is_stopped_by_its_pipe(bench: Bench) -> None:
    reading, writing = os.pipe()
    answers = io.BytesIO()
    with open(reading, "rb") as questions, open(writing, "wb", buffering=0) as asks:
        work = threading.Thread(target=serve, args=(questions, answers, drawing_answers()))
        work.start()

        def ask(**question: Any) -> None:
            asks.write(json.dumps(question).encode() + b"\n")

        def wait_for(*words: bytes) -> None:
            deadline = time.monotonic() + 60
            while not all(word in answers.getvalue() for word in words):
                assert time.monotonic() < deadline, answers.getvalue()
                time.sleep(0.01)

        request = {"prompt": "zorp", **QUICK, "out": str(bench.folder / "out")}
        ask(id=1, ask="load", request=request)
        ask(id=2, ask="draw", request={**request, "steps": 400}, previews="")
        wait_for(b'{"id": 1, "answer": {}}', b'"done": 1,')
        ask(ask="stop", of=2)
        wait_for(b'{"id": 2, "stopped": ')
        ask(id=3, ask="draw", request={**request, "sampler": "nonsense"}, previews="")
        wait_for(b'{"id": 3, "problems": [{"where": "sampler"')
    work.join(60)
    assert not work.is_alive()


def test_colours_of_latents_are_those_of_the_decoder() -> None:
    model = load_model("demo")
    colors = LatentColors.of(model)
    grey = torch.zeros(1, 3, 64, 64)
    for level in (-0.8, 0.0, 0.8):  # Black, grey, white.
        latents = model.encode_images(grey + level)[0]
        shown = torch.tensor(colors.images(latents)[0].resize((1, 1)).getpixel((0, 0))).float()
        assert (shown - (level + 1) * 127.5).abs().max() < 40, level


def test_a_tagger_stays_and_its_scores_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(
        "lorasmith.jobs.engine.tag.open_tagger",
        lambda name, **options: opened.append(name) or open_tagger(name, **options),
    )
    kept = KeptTagger()
    for name in ("a.png", "b.png", "a.png"):
        picture = tmp_path / name
        Image.new("RGB", (64, 64), (200, 40, ord(name[0]))).save(picture)
        question = {"picture": str(picture), "root": str(tmp_path), "tagger": "demo",
                    "device": "cpu", "least": 0.01}  # fmt: skip
        answer = kept.tag(question, lambda event: None, Controls())
        scores = [each["score"] for each in answer["scores"]]
        assert scores == sorted(scores, reverse=True)
        assert scores
    assert opened == ["demo"]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"broken\.png"):
        kept.tag({**question, "picture": str(tmp_path / "broken.png")}, print, Controls())
