"""A world beside the demo's: heads of dicebear's pixel-art (CC0), 64x64 pixels, described by tags.

A second small base is trained on it, to see that what suits the demo model is not a constant tuned
to one world. Node draws the heads, 16x16 pixels each; where they stand, how large and before what
is drawn here. Everything is a pure function of a `random.Random`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from lorasmith.demo.world_parts import CANVAS, SUPERSAMPLE, Colour, jitter

NPM = ("@dicebear/core@9.4.3", "@dicebear/pixel-art@9.4.3", "@resvg/resvg-js@2.6.2")
GRID = 16  # pixels of a head as dicebear draws it

# A value's tag -> what dicebear calls it.
HAIR = {
    "short hair": "short01",
    "long hair": "long13",
    "bob cut": "long20",
    "twin braids": "long18",
    "side braid": "long06",
    "hair buns": "long14",
    "bangs over one eye": "long08",
    "flat top": "short16",
    "hair tuft": "short05",
    "side hair": "short18",
    "curly hair": "short11",
    "bald": "",
}
# What is seen of the others' hair with a hat on could be that of any.
UNDER_HATS = ("short hair", "long hair", "bob cut", "twin braids")
MOUTHS = {
    "round mouth": "happy01",
    "smile": "happy09",
    "frown": "sad01",
    "teeth": "happy12",
    "flat mouth": "sad06",
}
GLASSES = {"no glasses": "", "glasses": "light05", "sunglasses": "dark03"}
HATS = {"no hat": "", "cap": "variant02", "beanie": "variant04", "brimmed hat": "variant06"}
EARRINGS = {"no earrings": "", "earrings": "variant01"}
CLOTHES = {
    "shirt": "variant08",
    "tank top": "variant09",
    "striped shirt": "variant13",
    "checkered shirt": "variant06",
}
HAIR_COLOURS: dict[str, Colour] = {
    "brown": (105, 62, 30),
    "black": (38, 30, 34),
    "blond": (232, 200, 110),
    "red": (196, 60, 30),
    "gray": (165, 165, 172),
    "blue": (45, 120, 210),
}
SKINS: dict[str, Colour] = {
    "pale": (255, 222, 184),
    "tan": (212, 160, 110),
    "dark": (132, 84, 48),
}
COLOURS: dict[str, Colour] = {  # of clothes and hats
    "red": (215, 50, 50),
    "yellow": (250, 210, 60),
    "green": (50, 165, 80),
    "blue": (55, 105, 215),
    "purple": (135, 75, 190),
    "white": (242, 242, 242),
}
BACKDROPS: dict[str, tuple[Colour, Colour] | Colour] = {
    "white background": (250, 250, 250),
    "blue background": (170, 205, 245),
    "green background": (170, 225, 165),
    "pink background": (250, 190, 215),
    "yellow background": (250, 235, 160),
    "gray background": (150, 155, 165),
    "gradient background": ((120, 140, 230), (250, 170, 190)),
    "striped background": ((250, 235, 205), (235, 180, 120)),
}
STRIPE = 32  # pixels of the canvas
OWN_COLOURS = {"glasses": "2a2a38", "earrings": "ffc81e", "eyes": "587387"}

# Attribute -> its values. A value is also its tag, but for colours.
VALUES: dict[str, tuple[str, ...]] = {
    "hair": tuple(HAIR),
    "hair_colour": tuple(HAIR_COLOURS),
    "skin": tuple(SKINS),
    "mouth": tuple(MOUTHS),
    "glasses": tuple(GLASSES),
    "hat": tuple(HATS),
    "hat_colour": tuple(COLOURS),
    "earrings": tuple(EARRINGS),
    "clothes": tuple(CLOTHES),
    "clothes_colour": tuple(COLOURS),
    "background": tuple(BACKDROPS),
}
UNSAID = frozenset({"no earrings"})
SELDOM_SAID = frozenset({"no hat", "no glasses"})
_FIRST_AGAIN = {"hat": 3, "glasses": 1}  # how often more the first value comes


@dataclass(frozen=True)
class Head:
    """What an image shows; each field holds one of `VALUES[field]`."""

    hair: str
    hair_colour: str
    skin: str
    mouth: str
    glasses: str
    hat: str
    hat_colour: str
    earrings: str
    clothes: str
    clothes_colour: str
    background: str


def random_head(rng: Random) -> Head:
    """A head of the base world."""
    values = {name: _pick(name, rng) for name in VALUES}
    if values["hat"] != "no hat":
        values["hair"] = rng.choice(UNDER_HATS)
    return Head(**values)


def _pick(name: str, rng: Random) -> str:
    values = VALUES[name]
    return rng.choice(values + values[:1] * _FIRST_AGAIN.get(name, 0))


def seen(head: Head) -> dict[str, str]:
    """Those of a head's attributes that its image tells."""
    hidden = {"hair_colour"} if head.hair == "bald" else set()
    hidden |= {"hat_colour"} if head.hat == "no hat" else set()
    return {f.name: getattr(head, f.name) for f in fields(head) if f.name not in hidden}


def tag(head: Head, name: str) -> str:
    """How a caption puts one of the attributes; "" where it says nothing of it."""
    value = seen(head).get(name, "")
    if name in ("hair_colour", "skin"):
        return value and f"{value} {name.partition('_')[0]}"
    if name in ("hat_colour", "clothes_colour"):
        return ""  # said with the thing itself
    if name == "hat" and value != "no hat":
        return f"{head.hat_colour} {value}"
    if name == "clothes":
        return f"{head.clothes_colour} {value}"
    return "" if value in UNSAID else value


def tags(head: Head, rng: Random | None = None, drop: float = 0.1) -> list[str]:
    """Tags of the head: all in a fixed order, or with `rng` shuffled and some left out."""
    every = [one for name in VALUES if (one := tag(head, name))]
    if rng is None:
        return every
    some = [one for one in every if one not in SELDOM_SAID or rng.random() < 0.5]
    some = [one for one in some if rng.random() >= drop]
    rng.shuffle(some)
    return some


def options(head: Head, rng: Random, own: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Dicebear's options for the head, colours varied a little.

    Args:
        own: options in place of these; a colour is three numbers there, too.
    """
    parts: dict[str, Any] = {
        "hair": HAIR[head.hair] or "short21",
        "mouth": MOUTHS[head.mouth],
        "glasses": GLASSES[head.glasses],
        "hat": HATS[head.hat],
        "accessories": EARRINGS[head.earrings],
        "clothing": CLOTHES[head.clothes],
        "eyes": rng.choice(("variant01", "variant09", "variant11")),
        "beard": "",
        "hairColor": HAIR_COLOURS[head.hair_colour] if head.hair != "bald" else "transparent",
        "skinColor": SKINS[head.skin],
        "hatColor": COLOURS[head.hat_colour],
        "clothingColor": COLOURS[head.clothes_colour],
        "glassesColor": OWN_COLOURS["glasses"],
        "accessoriesColor": OWN_COLOURS["earrings"],
        "eyesColor": OWN_COLOURS["eyes"],
        "mouthColor": "de0f0d",
        **(own or {}),
    }
    made: dict[str, Any] = {"seed": "head"}
    for name, value in parts.items():
        if isinstance(value, tuple):
            value = "{:02x}{:02x}{:02x}".format(*jitter(value, rng, 10))
        made[name] = [value] if value else []
        if not name.endswith("Color"):
            made[f"{name}Probability"] = 100 if value else 0
    return made


class Drawer:
    """Node with dicebear's packages, installed in a folder once.

    Args:
        folder: of the packages; needs npm where they are not there yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "node_modules" / "@dicebear" / "pixel-art").is_dir():
            if shutil.which("npm") is None:
                raise SystemExit("npm is not here: install Node 18 or newer")
            (folder / "package.json").write_text('{"private": true}')
            command = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *NPM]
            subprocess.run(command, cwd=folder, check=True)
        shutil.copy(Path(__file__).with_name("heads.mjs"), folder)

    def draw(self, items: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """What dicebear draws with each of these options, uint8 (N, 16, 16, 4)."""
        with tempfile.TemporaryDirectory() as place:
            listing, out = Path(place) / "items.json", Path(place) / "pixels"
            listing.write_text(json.dumps(list(items)), encoding="utf-8")
            command = ["node", "heads.mjs", str(listing), str(out)]
            subprocess.run(command, cwd=self.folder, check=True)
            pixels = np.frombuffer(out.read_bytes(), np.uint8)
        return pixels.reshape(len(items), GRID, GRID, 4)


def compose(drawing: np.ndarray, background: str, rng: Random) -> Image.Image:
    """A head on its background, 256x256 pixels; its place and size vary.

    Args:
        drawing: uint8 (16, 16, 4), as dicebear has it.
    """
    canvas = backdrop(background, rng)
    layer = place(drawing, rng)
    canvas.paste(layer, (0, 0), layer)
    return canvas


def place(drawing: np.ndarray, rng: Random) -> Image.Image:
    """A head alone where it stands, RGBA, 256x256 pixels."""
    side = rng.randint(208, 248)
    head = Image.fromarray(drawing).resize((side, side), Image.Resampling.NEAREST)
    layer = Image.new("RGBA", (CANVAS, CANVAS))
    left = (CANVAS - side) // 2 + rng.randint(-14, 14)
    layer.paste(head, (left, CANVAS - side + rng.randint(0, 6)))
    return layer


def backdrop(name: str, rng: Random) -> Image.Image:
    """The background alone, 256x256 pixels."""
    colours = BACKDROPS[name]
    if isinstance(colours[0], int):
        return Image.new("RGB", (CANVAS, CANVAS), jitter(colours, rng, 8))
    first, second = (np.array(jitter(colour, rng, 8), np.float32) for colour in colours)
    rows = np.arange(CANVAS)[:, None]
    if name == "striped background":
        shares = (rows + rng.randrange(2 * STRIPE)) // STRIPE % 2 * np.float64(1)
    else:
        shares = rows / (CANVAS - 1)
    lines = first + shares * (second - first)
    pixels = np.broadcast_to(lines[:, None], (CANVAS, CANVAS, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def draw_all(drawer: Drawer, heads: Sequence[Head], rng: Random) -> list[np.ndarray]:
    """An image of each head, uint8 (64, 64, 3)."""
    drawings = drawer.draw([options(head, rng) for head in heads])
    return [
        np.asarray(compose(drawing, head.background, rng).reduce(SUPERSAMPLE))
        for drawing, head in zip(drawings, heads, strict=True)
    ]
