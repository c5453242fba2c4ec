"""Sets in which nothing is wrong with the pictures: photographs, and heads drawn by lot."""

from __future__ import annotations

from pathlib import Path
from random import Random

from benchmarks.audit_set.packages import Packages
from benchmarks.audit_set.pictures import COLOURS, Person, save
from PIL import Image

PHOTOGRAPHS = {  # what is on them
    "astronaut.png": "woman, orange spacesuit, smile, flag, indoors",
    "chelsea.png": "cat, close-up, looking away, whiskers",
    "coffee.png": "cup, coffee, spoon, wooden table",
    "rocket.jpg": "rocket, launch pad, night, outdoors",
    "motorcycle_left.png": "motorcycle, garage, workshop, indoors",
    "hubble_deep_field.jpg": "galaxies, stars, night sky",
    "retina.jpg": "eye, blood vessels, close-up, medical picture",
}


def photographs(folder: Path, packages: Packages) -> None:
    """7 photographs of scikit-image, as they are, but for the sides below 512 px."""
    place = folder / "10_snapz"
    place.mkdir(parents=True)
    for name, tags in PHOTOGRAPHS.items():
        image = packages.photograph(name)
        factor = max(1, 512 / min(image.size))
        size = (round(image.width * factor), round(image.height * factor))
        save(image.resize(size, Image.Resampling.LANCZOS), place / name)
        caption = (place / name).with_suffix(".txt")
        caption.write_text(f"snapz, {tags}\n", encoding="utf-8")


def heads(folder: Path, packages: Packages, count: int = 200) -> None:
    """``count`` heads of dicebear's lorelei and open-peeps, each of another person, on a colour."""
    rng = Random("heads")
    place = folder / "10_vrenkol"
    place.mkdir(parents=True)
    items, captions, shapes = [], [], set()
    while len(items) < count:
        style = ("lorelei", "open-peeps")[len(items) % 2]
        item, tags = Person(style, rng).draw(rng, 512)
        options = item["options"]
        shape = str([options[key] for key in sorted(options) if "Color" not in key])
        if style == "open-peeps":  # the seed has no say in it
            shape = shape.replace(options["seed"], "")
        if shape in shapes:  # the same drawing in other colours would be nearly the same
            continue
        shapes.add(shape)
        items.append(item)
        captions.append(", ".join(["vrenkol", "solo", *tags]))
    for number, (drawing, caption) in enumerate(zip(packages.draw(items), captions, strict=True)):
        colour = rng.choice(list(COLOURS))
        image = Image.new("RGB", drawing.size, COLOURS[colour])
        image.paste(drawing, (0, 0), drawing)
        path = place / f"head_{number:03}.png"
        save(image, path)
        path.with_suffix(".txt").write_text(
            f"{caption}, simple background, {colour} background\n", encoding="utf-8"
        )
