"""A training set without faults: 300 pictures, three people, one style, and regularisation.

Each picture is a drawn head (or an emoji) before something, perhaps with a thing beside it; its
caption holds the trigger and, in the style of Danbooru tags, what is to be seen and varies. What
never varies in a person (hair, skin) isn't tagged, as the guides say. Names of files are unlike
each other in all of the set, so a file is meant by its name alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from benchmarks.audit_set.packages import Packages
from PIL import Image, ImageColor

SIZES = [(512, 512), (768, 768), (1024, 1024), (640, 896), (896, 640), (768, 1024), (1024, 768)]
COLOURS = {
    "red": "#d86a5c",
    "orange": "#f0b060",
    "yellow": "#f2de6b",
    "green": "#7ccf86",
    "aqua": "#8fd0d0",
    "blue": "#7f98d8",
    "pink": "#dd86c6",
    "purple": "#a183cf",
}
FACES = {
    "smile": "smile",
    "smileBig": "grin",
    "serious": "serious",
    "eyesClosed": "closed eyes",
    "angryWithFang": "angry",
    "awe": "surprised",
    "tired": "tired",
}
ACCESSORIES = {
    "glasses": "glasses",
    "glasses2": "glasses",
    "sunglasses": "sunglasses",
    "eyepatch": "eyepatch",
}
SKIN = ["ffdbb4", "edb98a", "d08b5b", "ae5d29"]
HAIR = ["2c1b18", "d6b370", "f59797", "b58143", "a55728", "724133", "c93305"]
HEADS = ["bangs", "long", "medium1", "mediumBangs", "short1", "short4", "pomp", "longBangs"]
TRIGGERS = ["quinvara", "zelbrit", "mokketu", "pryndle", "vashkor", "ollimaz", "trezzik", "dunwiva"]
THINGS = {
    "apple": "1F34E",
    "cup": "2615",
    "star": "2B50",
    "umbrella": "2602",
    "balloon": "1F388",
    "gift": "1F381",
    "teddy bear": "1F9F8",
    "crown": "1F451",
    "bell": "1F514",
    "guitar": "1F3B8",
    "candle": "1F56F",
    "book": "1F4D6",
    "key": "1F511",
    "sunflower": "1F33B",
}
ANIMALS = {
    "dog": "1F436",
    "fox": "1F98A",
    "cat": "1F431",
    "lion": "1F981",
    "tiger": "1F42F",
    "pig": "1F437",
    "rabbit": "1F430",
    "bear": "1F43B",
    "owl": "1F989",
    "frog": "1F438",
}
TEXTURES = {
    "brick wall": "brick.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "starry sky": "hubble_deep_field.jpg",
}


@dataclass
class Picture:
    path: Path
    concept: str
    tags: list[str]
    image: Image.Image = field(repr=False)
    drawing: Image.Image = field(repr=False)  # the head alone, RGBA

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def caption(self) -> Path:
        return self.path.with_suffix(".txt")

    def save(self) -> None:
        save(self.image, self.path)
        self.write_tags()

    def write_tags(self) -> None:
        self.caption.write_text(", ".join(self.tags) + "\n", encoding="utf-8")


def save(image: Image.Image, path: Path, **options: Any) -> None:
    if path.suffix == ".png":
        options = {"compress_level": 3} | options
    else:
        options = {"quality": 92} | options
    image.save(path, **options)


@dataclass
class TrainingSet:
    folder: Path  # holds train/ and reg/
    pictures: list[Picture]
    triggers: dict[str, str]  # trigger of each concept; "person" (regularisation) has none
    packages: Packages

    def of(self, concept: str) -> list[Picture]:
        return [picture for picture in self.pictures if picture.concept == concept]


class Person:
    """One head of a style, with what varies drawn by lot."""

    def __init__(self, style: str, rng: Random) -> None:
        self.style, self.skin, self.hair = style, rng.choice(SKIN), rng.choice(HAIR)
        self.head = (
            rng.choice(HEADS) if style == "open-peeps" else f"variant{rng.randint(1, 48):02}"
        )

    def draw(self, rng: Random, width: int) -> tuple[dict[str, Any], list[str]]:
        """What Node is to draw, and the tags of it."""
        options: dict[str, Any] = {"seed": str(rng.random()), "skinColor": [self.skin]}
        if self.style == "open-peeps":
            face, colour = rng.choice(list(FACES)), rng.choice(list(COLOURS))
            tags = [FACES[face], f"{colour} shirt"]
            options |= {"head": [self.head], "headContrastColor": [self.hair], "face": [face]}
            options |= {"clothingColor": [COLOURS[colour][1:]], "facialHairProbability": 0}
            options |= {"maskProbability": 0, "accessoriesProbability": 0}
            if rng.random() < 0.4:
                accessory = rng.choice(list(ACCESSORIES))
                options |= {"accessories": [accessory], "accessoriesProbability": 100}
                tags.append(ACCESSORIES[accessory])
        else:
            mouth = rng.choice(["happy", "sad"])
            number = rng.randint(1, 9)
            tags = ["smile" if mouth == "happy" else "frown"]
            options |= {"hair": [self.head], "hairColor": [self.hair], "beardProbability": 0}
            options |= {"mouth": [f"{mouth}{number:02}"], "hairAccessoriesColor": ["e279c7"]}
            options["glasses"] = ["variant01", "variant03", "variant04", "variant05"]  # clear
            for part, tag in [
                ("glasses", "glasses"),
                ("earrings", "earrings"),
                ("freckles", "freckles"),
                ("hairAccessories", "hair flower"),
            ]:
                there = rng.random() < 0.3
                options[f"{part}Probability"] = 100 if there else 0
                tags += [tag] if there else []
        return {"style": self.style, "options": options, "width": width}, tags


def background(
    size: tuple[int, int], rng: Random, packages: Packages
) -> tuple[Image.Image, list[str]]:
    colour = rng.choice(list(COLOURS))
    rgb = np.array(ImageColor.getrgb(COLOURS[colour]), np.float32)
    kind = rng.choice(["plain", "gradient", "texture", "texture"])
    if kind == "plain":
        image = Image.new("RGB", size, COLOURS[colour])
        return image, ["simple background", f"{colour} background"]
    if kind == "gradient":
        ramp = np.linspace(rng.uniform(0.3, 0.6), 1.2, size[1])[:, None, None]
        pixels = np.broadcast_to(rgb * ramp, (size[1], size[0], 3)).clip(0, 255)
        return Image.fromarray(pixels.astype(np.uint8)), ["gradient background"]
    tag = rng.choice(list(TEXTURES))
    photograph = packages.photograph(TEXTURES[tag])
    side = round(min(photograph.size) * rng.uniform(0.6, 1))
    width = min(photograph.width, round(side * min(1, size[0] / size[1])))
    height = min(photograph.height, round(width * size[1] / size[0]))
    left = rng.randint(0, photograph.width - width)
    top = rng.randint(0, photograph.height - height)
    crop = photograph.crop((left, top, left + width, top + height))
    pixels = np.asarray(crop.resize(size, Image.Resampling.LANCZOS), np.float32)
    if tag != "starry sky":  # these three photographs are grey
        pixels = pixels * rgb / 190
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), [tag]


@dataclass
class Sketch:
    """A picture before its parts are drawn: what to draw and where it goes."""

    name: str
    concept: str
    size: tuple[int, int]
    tags: list[str]
    items: list[dict[str, Any]]
    places: list[tuple[int, int]]


def sketch(
    name: str, concept: str, who: Person | None, other: Person | None, rng: Random
) -> Sketch:
    size = rng.choice(SIZES)
    short = min(size)
    items, tags = [], []
    width = round(short * rng.uniform(0.55, 0.85))
    if who is None:
        animal = rng.choice(list(ANIMALS))
        items, tags = [{"emoji": ANIMALS[animal], "width": width}], [animal]
        places = [(rng.randint(0, size[0] - width), rng.randint(0, size[1] - width))]
    else:
        two = other is not None and rng.random() < 0.15 and size[0] >= size[1]
        width = round(short * 0.45) if two else width
        item, tags = who.draw(rng, width)
        items = [item]
        places = [(rng.randint(0, size[0] - width), size[1] - width)]
        tags = ["solo", *tags]
        if two:
            assert other is not None
            places[0] = (rng.randint(0, size[0] // 2 - width), size[1] - width)
            item, _ = other.draw(rng, width)
            items.append(item)
            places.append((rng.randint(size[0] // 2, size[0] - width), size[1] - width))
            tags = ["2girls", *tags[1:]]
    if rng.random() < 0.45:
        thing = rng.choice(list(THINGS))
        side = round(short * rng.uniform(0.15, 0.24))
        items.append({"emoji": THINGS[thing], "width": side})
        places.append((rng.randint(0, size[0] - side), rng.randint(0, size[1] - side)))
        tags.append(thing)
    return Sketch(name, concept, size, tags, items, places)


def build(folder: Path, seed: str, packages: Packages, share: float = 1) -> TrainingSet:
    """300 pictures in ``folder``, the same for the same ``seed``; ``share`` of them in tests."""
    rng = Random(f"set {seed}")
    words = rng.sample(TRIGGERS, 4)
    triggers = dict(zip(["first", "second", "third", "style"], words, strict=True))
    counts = {"first": 75, "second": 75, "third": 30, "style": 50, "person": 70}
    people = {
        "first": Person("open-peeps", rng),
        "second": Person("lorelei", rng),
        "third": Person("open-peeps", rng),
    }
    while people["third"].head == people["first"].head:
        people["third"] = Person("open-peeps", rng)
    sketches = []
    folders: dict[str, Path] = {}
    for concept, full in counts.items():
        count = round(full * share)
        noun = "emoji" if concept == "style" else "person"
        name = f"{triggers[concept]} {noun}" if concept in triggers else noun
        repeats = 10 if concept == "person" else 750 // full
        place = "reg" if concept == "person" else "train"
        folders[concept] = folder / place / f"{repeats}_{name}"
        folders[concept].mkdir(parents=True)
        for number in range(count):
            style = rng.choice(["open-peeps", "lorelei"])
            who = None if concept == "style" else people.get(concept) or Person(style, rng)
            other = Person(style, rng) if concept in people else None
            name = f"{triggers.get(concept, noun)}_{number:03}"
            sketches.append(sketch(name, concept, who, other, rng))
    drawings = iter(packages.draw([item for one in sketches for item in one.items]))
    pictures = []
    for one in sketches:
        image, tags = background(one.size, rng, packages)
        parts = [next(drawings) for _ in one.items]
        for part, place in zip(parts, one.places, strict=True):
            image.paste(part, place, part)
        suffix = rng.choice([".jpg", ".jpg", ".png", ".png", ".webp"])
        path = folders[one.concept] / (one.name + suffix)
        words = [triggers.get(one.concept, "person"), *one.tags, *tags]
        pictures.append(Picture(path, one.concept, words, image, parts[0]))
        pictures[-1].save()
    return TrainingSet(folder, pictures, triggers, packages)
