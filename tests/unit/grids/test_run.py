"""Whole grids on the demo model: resuming, switching, and what shows the images."""

from __future__ import annotations

import base64
import functools
import io
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.tiny_models import tiny_checkpoint, tiny_model
from tests.unit.conftest import write_lora

from lorasmith.core.errors import Stopped
from lorasmith.core.events import Controls, Event, Progress
from lorasmith.grids import gallery
from lorasmith.grids.axes import CellSpec
from lorasmith.grids.axis_types import parse_axis
from lorasmith.grids.plan import Grid, Identity, lay_out
from lorasmith.grids.run import Report, check_folder, make_grid
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.load import exchange_vae, load_model
from lorasmith.models.reference import ModelReference
from lorasmith.sampling.generate import generate
from lorasmith.sampling.infotext import read_infotext
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.sampling.request import ImageRequest
from lorasmith.sampling.sources import Sources
from lorasmith.tensors import transfer as tensor_transfer

REQUEST = ImageRequest("star <lora:cat:1>", steps=1, cfg=1.0, width=32, height=32)


@dataclass
class Bench:
    """Makes grids, and counts what is loaded."""

    folder: Path
    loras: Path
    out: Path
    demo: DiffusionModel
    loaded: Counter[str] = field(default_factory=Counter)

    def grid(self, *texts: str, base: CellSpec | None = None) -> Grid:
        self.sources = Sources(LoraLibrary(self.loras))
        options = ("--x", "--y", "--z")
        axes = [parse_axis(o, t, self.sources) for o, t in zip(options, texts, strict=False)]
        return lay_out(base or CellSpec(REQUEST), axes, self.sources)

    def make(self, grid: Grid, **more: object) -> Report:
        models = {str(cell.spec.model.path) for cell in grid.cells}
        identity = Identity(self.sources, dict.fromkeys(models, "float32"))
        return make_grid(grid, self.out, identity, sources=self.sources, load=self._load, **more)

    def _load(self, reference: ModelReference) -> DiffusionModel:
        self.loaded["model"] += 1
        return self.demo if reference == ModelReference("demo") else load_model(reference)

    @property
    def cells(self) -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (self.out / "cells").iterdir()}


@pytest.fixture
def bench(tmp_path: Path, lora_folder: Path, model) -> Bench:
    return Bench(tmp_path, lora_folder, tmp_path / "out", model)


def same(image: Image.Image, expected: Image.Image) -> None:
    """But for rounding, which depends on who shares a batch."""
    difference = np.asarray(image, dtype=int) - np.asarray(expected, dtype=int)
    assert abs(difference).max() <= 1


def page_data(out: Path) -> dict:
    html = (out / "grid.html").read_text(encoding="utf-8")
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_every_cell_is_the_image_that_generate_draws(bench: Bench, model) -> None:
    grid = bench.grid("lora=cat,dog v1.5,none", "seed=1,2", "strength=0.5,1")
    report = bench.make(grid)
    # Without a LoRA there is nothing for a strength to change: two images for four places.
    assert (report.drawn, report.kept, report.switches.loras) == (10, 0, 2)
    record = json.loads((bench.out / "grid.json").read_text())
    library = LoraLibrary(bench.loras)
    for cell, entry in zip(grid.cells, record["cells"], strict=True):
        path = bench.out / entry["file"]
        (expected,) = generate(model, [cell.spec.request], loras=library)
        with Image.open(path) as image:
            same(image, expected.image)
        info = read_infotext(path)
        assert info is not None
        assert info.prompt == cell.spec.request.prompt
        assert info.settings["Seed"] == cell.labels[1]


@pytest.mark.slow
def test_the_same_command_draws_nothing_twice_and_a_larger_one_the_new_alone(bench: Bench) -> None:
    bench.make(bench.grid("seed=1,2", "strength=0.5,1"))
    before = bench.cells
    report = bench.make(bench.grid("seed=1,2", "strength=0.5,1"))
    assert (report.drawn, report.kept) == (0, 4)
    assert bench.cells == before
    assert bench.loaded == {"model": 1}
    report = bench.make(bench.grid("seed=1-3", "strength=0.5,1", "steps=1"))
    assert (report.drawn, report.kept) == (2, 4)
    assert before.items() <= bench.cells.items()
    assert len(page_data(bench.out)["cells"]) == 6


@pytest.mark.slow
def test_a_damaged_cell_and_a_changed_lora_are_drawn_again(bench: Bench, tmp_path: Path) -> None:
    bench.loras = tmp_path / "loras"
    bench.loras.mkdir()
    lora = bench.loras / "cat.safetensors"
    write_lora(lora, bench.demo, 1)
    bench.make(bench.grid("seed=1,2"))
    path = next((bench.out / "cells").glob("seed-1.*"))
    path.write_bytes(path.read_bytes()[:200])
    assert bench.make(bench.grid("seed=1,2")).drawn == 1
    write_lora(lora, bench.demo, 2)
    assert bench.make(bench.grid("seed=1,2")).drawn == 2
    assert len(bench.cells) == 4


@pytest.mark.slow
def test_cells_written_in_threads_are_the_same(bench: Bench, monkeypatch) -> None:
    grid = bench.grid("seed=1,2", "cfg=1,3")
    bench.make(grid)
    one = {path.name: path.read_bytes() for path in (bench.out / "cells").iterdir()}
    monkeypatch.setattr(tensor_transfer, "frees_cpu", lambda device: True)
    bench.out = bench.folder / "threads"
    assert bench.make(bench.grid("seed=1,2", "cfg=1,3")).drawn == 4
    assert one == {path.name: path.read_bytes() for path in (bench.out / "cells").iterdir()}
    record = json.loads((bench.out / "grid.json").read_text(encoding="utf-8"))
    assert all("file" in cell for cell in record["cells"]), "shown when all are written"


@pytest.mark.slow
def test_a_stop_keeps_what_is_done_and_shows_it(bench: Bench) -> None:
    controls = Controls()

    def stop_after_two(event: Event) -> None:
        if isinstance(event, Progress) and event.done == 2:
            controls.stop()

    grid = bench.grid("lora=cat,dog v1.5,none", "strength=0.5,1")
    with pytest.raises(Stopped):
        bench.make(grid, observer=stop_after_two, controls=controls)
    data = page_data(bench.out)
    assert data["total"] == 6
    assert len(data["cells"]) == 2
    assert (bench.out / "grid.png").exists()
    assert len(json.loads((bench.out / "grid.json").read_text())["thumbnails"]["digests"]) == 2
    report = bench.make(bench.grid("lora=cat,dog v1.5,none", "strength=0.5,1"))
    assert (report.drawn, report.kept) == (3, 2)
    assert len(page_data(bench.out)["cells"]) == 6


@pytest.mark.slow
def test_models_and_vaes_are_exchanged_as_seldom_as_planned(bench: Bench) -> None:
    other = tiny_checkpoint(bench.folder / "other.safetensors", seed=1)
    tiny_model(seed=2).vae.save_pretrained(bench.folder / "vae")
    vae = bench.folder / "vae"
    base = CellSpec(
        ImageRequest("star", steps=1, cfg=1.0, width=64, height=64), ModelReference(str(other))
    )
    grid = bench.grid("seed=1,2", f"vae=own,{vae}", base=base)
    report = bench.make(grid)
    assert bench.loaded == {"model": 1}
    assert (report.switches.models, report.switches.vaes) == (1, 1)
    fresh = load_model(ModelReference(other, vae=vae))
    (expected,) = generate(fresh, [grid.cells[-1].spec.request])
    record = json.loads((bench.out / "grid.json").read_text())
    with Image.open(bench.out / record["cells"][-1]["file"]) as image:
        same(image, expected.image)
    info = read_infotext(bench.out / record["cells"][-1]["file"])
    assert info is not None
    assert info.settings["VAE"] == vae.name


# What shows them


@pytest.mark.slow
def test_the_page_holds_every_image_and_asks_nobody(bench: Bench) -> None:
    prompt = 'star "quoted" </script><b>{{data}} é <lora:cat:1>'
    base = CellSpec(ImageRequest(prompt, steps=1, cfg=1.0, width=32, height=32))
    grid = bench.grid("seed=1,2", "strength=0.5,1", "steps=1,2", base=base)
    bench.make(grid)
    data = page_data(bench.out)
    assert data["title"] == prompt
    assert [axis["values"] for axis in data["axes"]] == [["1", "2"], ["0.5", "1"], ["1", "2"]]
    record = json.loads((bench.out / "grid.json").read_text())
    for cell, entry in zip(grid.cells, record["cells"], strict=True):
        shown = data["pictures"][data["cells"][",".join(map(str, cell.place))]]
        assert shown["file"] == entry["file"]
        embedded = base64.b64decode(shown["src"].removeprefix("data:image/webp;base64,"))
        with Image.open(io.BytesIO(embedded)) as page, Image.open(bench.out / entry["file"]) as own:
            np.testing.assert_array_equal(np.asarray(page.convert("RGB")), np.asarray(own))
    html = (bench.out / "grid.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in html
    assert not re.search(r"https?://|src=\"(?!\")|<link|@import|url\(", html)


@pytest.mark.slow
def test_large_images_are_reduced_in_the_page(bench: Bench, monkeypatch) -> None:
    grid = bench.grid("seed=1-4", base=CellSpec(ImageRequest("star", steps=1, cfg=1.0)))
    bench.make(grid)
    whole = (bench.out / "grid.html").stat().st_size
    monkeypatch.setattr(gallery, "MOST_BYTES", 4000)
    bench.make(grid)
    data = page_data(bench.out)
    assert (bench.out / "grid.html").stat().st_size < whole - 10_000
    assert not any(image["whole"] for image in data["pictures"])
    assert all(image["w"] == 64 for image in data["pictures"])


@pytest.mark.slow
def test_the_sheet_keeps_to_the_limits_of_its_formats(bench: Bench, monkeypatch) -> None:
    bench.make(bench.grid("seed=1-4", "steps=1,2"))
    for name in ("grid.png", "grid.webp"):
        with Image.open(bench.out / name) as sheet:
            assert sheet.width > 4 * 128
            whole = sheet.size
    monkeypatch.setattr(gallery, "MOST_PIXELS", 4000)
    monkeypatch.setattr(gallery, "WEBP_SIDE", 200)
    bench.make(bench.grid("seed=1-4", "steps=1,2"))
    with Image.open(bench.out / "grid.png") as sheet:
        assert sheet.width < whole[0]
    with Image.open(bench.out / "grid.webp") as sheet:
        assert max(sheet.size) <= 200


@pytest.mark.slow
def test_a_sheet_of_images_of_several_sizes_with_places_that_are_empty(bench: Bench) -> None:
    grid = bench.grid("size=32x32,64x32", "seed=1,2", "steps=1,2")
    bench.make(grid)
    paths = sorted((bench.out / "cells").iterdir())
    sheet = gallery.draw_sheet(grid, {(1, 1, 0): paths[0]})
    assert sheet.mode == "RGB"


def test_thumbnails_of_all_stand_on_one_sheet(tmp_path: Path) -> None:
    files = []
    for number, size in enumerate([(192, 96), (96, 192), (192, 96)]):
        path = tmp_path / f"cell.{number:012x}.png"
        Image.new("RGB", size, (80 * number, 0, 255)).save(path)
        files.append(path)
    small = gallery.write_thumbnails(tmp_path / "grid-small.jpg", files)
    assert small is not None
    assert (small.width, small.height, small.columns) == (96, 96, 2)
    with Image.open(tmp_path / "grid-small.jpg") as sheet:
        assert sheet.size == (192, 192)
        for number in range(3):
            at = 96 * (number % 2) + 48, 96 * (number // 2) + 48
            red, _, blue = sheet.getpixel(at)
            assert abs(red - 80 * number) < 8
            assert blue > 240


def test_files_that_are_not_a_grids_are_not_overwritten(tmp_path: Path) -> None:
    assert check_folder(tmp_path) == []
    (tmp_path / "grid.html").write_text("mine")
    (problem,) = check_folder(tmp_path)
    assert "grid.html" in problem.what
    (tmp_path / "grid.json").write_text("{}")
    assert check_folder(tmp_path) == []


def test_exchanging_a_vae_is_loading_with_it() -> None:
    whole = functools.partial(torch.allclose, rtol=0, atol=0)
    model = load_model("demo")
    before = model.vae
    exchange_vae(model, ModelReference("demo"))
    assert model.vae is not before
    for (name, one), (_, other) in zip(
        model.vae.named_parameters(), before.named_parameters(), strict=True
    ):
        assert whole(one, other), name
        assert not one.requires_grad
    assert not model.vae.training
