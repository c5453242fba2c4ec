"""Each augmentation and kind of mask trains; a run with all of them resumes to the same file."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from PIL import Image, ImageDraw
from tests.recipes.matrix import learns, losses, result_of, run_with
from tests.tolerances import NETWORK, near

from lorasmith.demo.character import ZORP, varied_zorps, zorp_caption
from lorasmith.demo.world import draw_canvas
from lorasmith.training.loop import do_step
from lorasmith.training.run import resume
from lorasmith.training.setup.build import Run

FACE = "_0128_0130_0060_0050"
EVERYTHING = {
    "augment.flip": "true",
    "augment.colour": "0.3",
    "augment.random_crop": "true",
    "augment.zoom": "1.2",
    "augment.slices": "4",
    "augment.face_crop": "2.0,4.0",
    "augment.variants": "3",
}


def large_images(folder: Path, *, alpha: bool = False) -> None:
    """Four times the bucket's side, one with a face in its name; masks of the middle beside."""
    rng = Random(2)
    for number, creature in enumerate(varied_zorps(3, rng)):
        image = draw_canvas(creature, rng, ZORP).crop((0, 8, 256, 232))
        mask = Image.new("L", image.size)
        ImageDraw.Draw(mask).ellipse((30, 10, 226, 214), fill=255)
        if alpha:
            image.putalpha(mask)
        path = folder / "data" / "2_zorp" / f"zorp{number}{FACE if number == 1 else ''}.png"
        for part, content in ((path, image), (folder / "masks" / path.name, mask)):
            part.parent.mkdir(parents=True, exist_ok=True)
            content.save(part)
        path.with_name(f"zorp{number}.txt").write_text(zorp_caption(creature), encoding="utf-8")


CHOICES: dict[str, dict[str, str]] = {
    "colour": {"augment.colour": "0.3"},
    "random crop": {"augment.random_crop": "true", "augment.zoom": "1.3"},
    "slices": {"augment.slices": "4"},
    "face crop": {"augment.face_crop": "2.0,4.0"},
    "everything, always new": {
        **EVERYTHING,
        "augment.variants": "fresh",
        "performance.cache_latents": "false",
    },
    "alpha mask": {"loss.masked": "alpha"},
    "mask folder": {"loss.masked": "folder", "augment.flip": "true"},
    "tags come in": {"captions.tag_warmup_steps": "5", "captions.secondary_separator": ";"},
}


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES)
def test_it_learns(choice: str, tmp_path: Path) -> None:
    large_images(tmp_path, alpha=choice == "alpha mask")
    changes = dict(CHOICES[choice])
    if choice == "mask folder":
        changes["loss.mask_folder"] = str(tmp_path / "masks")
    learns(tmp_path, changes)


@pytest.mark.slow
def test_resumed_with_everything_it_is_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large_images(tmp_path)
    settings = {**EVERYTHING, "loss.masked": "folder", "loss.mask_folder": f"{tmp_path}/masks"}
    settings |= {"optimizer.name": "SGDNesterov", "optimizer.lr": "1"}
    settings |= {"train.steps": "12", "save.state_every_steps": "3"}
    whole = run_with(tmp_path, settings)
    broken = tmp_path / "broken"

    def killed(run: Run, inputs: object, meter: object, step: int) -> None:
        if step == 7:
            raise KeyboardInterrupt
        do_step(run, inputs, meter, step)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("lorasmith.training.loop.do_step", killed)
        with pytest.raises(KeyboardInterrupt):
            run_with(tmp_path, {**settings, "save.output": str(broken)})
    resume(broken / "run", [])
    assert result_of(broken / "run").read_bytes() == result_of(whole).read_bytes()
    assert losses(broken / "run") == losses(whole)


@pytest.mark.slow
def test_the_cache_changes_nothing(tmp_path: Path) -> None:
    """The same views, masks and noise; the VAE's batches alone differ in their rounding."""
    large_images(tmp_path)
    settings = {**EVERYTHING, "loss.masked": "folder", "loss.mask_folder": f"{tmp_path}/masks"}
    settings |= {"optimizer.name": "SGDNesterov", "optimizer.lr": "1"}
    cached = losses(run_with(tmp_path, settings))
    live = losses(run_with(tmp_path, {**settings, "performance.cache_latents": "false"}))
    assert live == near(cached, len(cached) * NETWORK)
