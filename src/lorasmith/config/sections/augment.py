"""Settings of augmentation: changes to the images that make more of few."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from lorasmith.config.fields import Section, setting

LARGEST_RATIO = 20.0


def ratios(value: Any) -> Any:
    """``"2.0,4.0"`` or ``[2, 4]``: a range of ratios; one number is both its ends."""
    parts = re.split(r"\s*,\s*", value.strip()) if isinstance(value, str) else value
    if value is None:
        return None
    parts = parts if isinstance(parts, list | tuple) else [parts]
    try:
        if any(isinstance(part, bool) for part in parts):
            raise TypeError
        numbers = [float(part) for part in parts]
    except (TypeError, ValueError):
        raise ValueError(f'{value!r} is not a range of numbers such as "2.0,4.0"') from None
    if len(numbers) not in (1, 2):
        raise ValueError(f"{value!r} is neither one ratio nor a least and a greatest one")
    low, high = numbers[0], numbers[-1]
    if not 1 <= low <= high <= LARGEST_RATIO:
        what = f"from 1 (the face fills the picture) to {LARGEST_RATIO:g}, the smaller first"
        raise ValueError(f"{value!r} is out of range: {what}")
    return low, high


class AugmentSettings(Section):
    """Changes to the images that make more of few.

    All of them work with cached latents: `variants` says how many views of each image are kept.
    """

    flip: bool = setting(
        False,
        "mirror pictures left to right, half of the time",
        why="characters with a parting, a scar or text on them are not symmetrical",
    )
    colour: float = setting(
        0.0,
        "how much hue, saturation and gamma may change; 0.2 is gentle, at 1 the hue turns by up to "
        "20 degrees and the others change by up to half",
        why="off: colours are part of most characters and styles",
        unit="strength",
        ge=0,
        le=1,
    )
    random_crop: bool = setting(
        False,
        "crop anywhere in the picture what stands over its bucket, not in the middle",
        why="the middle is what matters in most pictures",
    )
    zoom: float = setting(
        1.0,
        "how far random_crop may enlarge pictures before it crops",
        why="crops then show as much of the picture as fits",
        unit="times",
        ge=1,
        le=4,
    )
    slices: int = setting(
        0,
        "cut large pictures into up to so many crops that cover them, as near to their own "
        "resolution as that allows; every second use of such a picture shows one of them",
        why="off: parts without the whole make poor compositions, and captions fit the whole",
        unit="slices per picture",
        ge=0,
        le=64,
    )
    face_crop: Annotated[tuple[float, float] | None, BeforeValidator(ratios)] = setting(
        None,
        "crop around the face that a file's name tells of: range of the crop's side over that of "
        'the face, such as "2.0,4.0"',
        why="off: it needs names as sd-scripts' detect_face_rotate writes them",
        kind="two numbers",
    )
    variants: Annotated[int, Field(ge=2, le=256)] | Literal["fresh"] = setting(
        4,
        "views of each picture that colour, random_crop and face_crop make, with the picture as it "
        "is for one of them; fresh makes new ones in every use, which no cache can hold",
        why="makes four of one, at four times the encoding before training",
        unit="views per picture",
    )

    @property
    def draws(self) -> bool:
        """Whether anything but mirroring is drawn at random."""
        return bool(self.colour or self.random_crop or self.face_crop)
