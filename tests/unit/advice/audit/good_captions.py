"""Captions as careful people write them, about which nothing is to be said."""

from __future__ import annotations

from random import Random

_OUTFITS = {
    "serafuku": "serafuku, pleated skirt, white sailor collar, red neckerchief, loafers",
    "casual": "grey hoodie, jeans, white sneakers",
    "armour": "silver armor, blue cape, gauntlets, boots",
}
_SCENES = (
    *("outdoors, grass, blue sky, cloud", "indoors, window, curtains", "simple background"),
    *("white background", "city, night, street", "forest, tree", "beach, ocean, day"),
)
_POSES = ("standing", "sitting on chair", "lying on back", "walking", "arms up", "hand on own hip")
_FACES = ("smile", "open mouth, smile", "closed mouth", "frown", "blush, parted lips", "grin")
_FRAMES = ("upper body", "full body", "cowboy shot", "from side", "from behind", "portrait")
_SEEN = ("house", "boat", "bridge", "lamp", "road", "tower", "train", "ruins", "rain", "snow")
_THINGS = ("holding cup", "holding book", "holding umbrella", "cat on lap", "backpack", "sword")


def booru_character(count: int, seed: int = 0) -> list[str]:
    """Tags of a tagger, pruned of what the trigger means, in three outfits."""
    rng = Random(f"booru {seed}")
    captions = []
    for number in range(count):
        outfit = list(_OUTFITS.values())[number % len(_OUTFITS)]
        parts = ["zorphina", "1girl", "solo", outfit, rng.choice(_SCENES), rng.choice(_POSES)]
        parts += [rng.choice(_FACES), rng.choice(_FRAMES)]
        parts += rng.sample(_THINGS, rng.randrange(3))
        captions.append(", ".join(parts))
    return captions


def booru_style(count: int, seed: int = 0) -> list[str]:
    """All kinds of subjects, every colour and number of them."""
    rng = Random(f"style {seed}")
    colours = ("black", "blonde", "brown", "red", "blue", "white", "green", "purple")
    captions = []
    for _ in range(count):
        kind = rng.choice(("girl", "boy", "two", "none", "none"))
        parts = ["zorphstyle"]
        if kind in ("girl", "boy"):
            hair, eyes = rng.choice(colours), rng.choice(colours)
            parts += [f"1{kind}", "solo", f"{hair} hair", f"{eyes} eyes"]
            parts += [rng.choice(("short hair", "long hair", "ponytail")), rng.choice(_FACES)]
        elif kind == "two":
            parts += ["2girls", *(f"{colour} hair" for colour in rng.sample(colours, 2))]
            parts += ["long hair", "short hair", rng.choice(_POSES), rng.choice(_FRAMES)]
        else:
            parts += ["no humans", "scenery", *rng.sample(_SEEN, 3)]
        captions.append(", ".join([*parts, rng.choice(_SCENES)]))
    return captions


def prose(count: int, seed: int = 0) -> list[str]:
    """Sentences, with commas in them."""
    rng = Random(f"prose {seed}")
    who = ("a photo of zorphos, a man with a beard", "zorphos, seen from the side")
    does = ("standing in front of a red brick wall", "sitting at a table with a cup of coffee",
            "riding a bicycle along a river", "looking out of the window of a train")  # fmt: skip
    light = ("in warm evening light", "on a cloudy day", "under a street lamp at night")
    return [
        f"{rng.choice(who)}, {rng.choice(does)}, {rng.choice(light)}, number {number} of his tour"
        for number in range(count)
    ]
