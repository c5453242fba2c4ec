"""Settings of augmentation: changes to the pictures that make more of few."""

from __future__ import annotations

from lorasmith.config.fields import Section, setting


class AugmentSettings(Section):
    """Changes to the pictures that make more of few."""

    flip: bool = setting(
        False,
        "mirror pictures left to right, half of the time",
        why="characters with a parting, a scar or text on them are not symmetrical",
    )
