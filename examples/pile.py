"""A pile of pictures as people have it: forty files of all kinds, to try the dataset tools on.

    python examples/pile.py PILE

Zorps from the demo's world (see docs/demo-model.md), large and small, with bars around them, turned
by EXIF, in formats that nobody trains on, some twice, some with the side-cars of a download
program; a few other creatures among them; and two files that are no pictures.
docs/dataset-walk.md makes a LoRA of it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

from PIL import Image, ImageOps

from lorasmith.data.images import open_image
from lorasmith.demo.character import ZORP, varied_zorps
from lorasmith.demo.world import Creature, draw, random_creature, tags

ZORPS, OTHERS = 29, 4


def make_pile(folder: Path, seed: int = 0) -> None:
    """The same seed makes the same files."""
    rng = Random(f"pile {seed}")
    folder.mkdir(parents=True, exist_ok=True)
    for number, creature in enumerate(varied_zorps(ZORPS, rng)):
        image = Image.fromarray(draw(creature, rng, ZORP))
        side = rng.choice((128, 160, 192, 256))
        _save(folder, number, image.resize((side, side), Image.Resampling.LANCZOS), creature)
    for number in range(OTHERS):
        creature = random_creature(rng)
        image = Image.fromarray(draw(creature, rng)).resize((160, 160), Image.Resampling.LANCZOS)
        image.save(folder / f"friend ({number}).png")
    _copies(folder)
    whole = (folder / "img_0000.png").read_bytes()
    (folder / "broken.png").write_bytes(whole[: len(whole) // 3])
    (folder / "page.png").write_text("<html>404 Not Found</html>", encoding="utf-8")


def _save(folder: Path, number: int, image: Image.Image, creature: Creature) -> None:
    """Each of nine files in another way."""
    path = folder / f"img_{number:04d}"
    kind = number % 9
    if kind == 0:
        image.save(path.with_suffix(".png"))
    elif kind == 1:  # from a booru, with what its program wrote
        image.save(path.with_suffix(".jpg"), quality=92)
        _sidecar(path.with_suffix(".jpg"), creature)
    elif kind == 2:  # a film's bars
        wide = ImageOps.expand(image, (image.width // 3, image.height // 8), (0, 0, 0))
        wide.save(path.with_suffix(".png"))
    elif kind == 3:  # lies on its side, and says so
        exif = Image.Exif()
        exif[0x0112] = 6
        image.rotate(90, expand=True).save(path.with_suffix(".jpg"), quality=92, exif=exif)
    elif kind == 4:
        image.convert("P", palette=Image.Palette.ADAPTIVE).save(path.with_suffix(".gif"))
    elif kind == 5:
        image.save(path.with_suffix(".tif"))
    elif kind == 6:  # printed once
        image.convert("CMYK").save(path.with_suffix(".jpg"), quality=95)
    elif kind == 7:
        image.save(path.with_suffix(".webp"), lossless=True)
        _sidecar(path.with_suffix(".webp"), creature)
    else:
        image.convert("RGBA").save(path.with_suffix(".png"))


def _sidecar(image: Path, creature: Creature) -> None:
    """As Grabber writes it, by a second download twice."""
    said = [tag.replace(" ", "_") for tag in tags(creature)]
    lines = ["character:zorp", "artist:someone", "meta:highres", *said]
    Path(f"{image}.txt").write_text("\n".join([*lines, *lines]), encoding="utf-8")


def _copies(folder: Path) -> None:
    """Three files twice, and two once more, smaller and worse."""
    for number, name in enumerate(("img_0000.png", "img_0001.jpg", "img_0007.webp")):
        data = (folder / name).read_bytes()
        (folder / f"copy {number} of {name}").write_bytes(data)
    for number, name in enumerate(("img_0009.png", "img_0010.jpg")):
        with open_image(folder / name) as image:
            small = image.convert("RGB").resize((96, 96), Image.Resampling.LANCZOS)
        small.save(folder / f"saved again {number}.jpg", quality=70)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    make_pile(Path(sys.argv[1]))
