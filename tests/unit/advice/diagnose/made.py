"""Made facts and measures, of a run that is as it should be unless told otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lorasmith.advice.diagnose.evidence import Evidence
from lorasmith.advice.diagnose.facts import DatasetFacts, RunFacts
from lorasmith.measures.records import Measures
from lorasmith.measures.strength_grid import StrengthGrid
from lorasmith.measures.told import CaptionFit, TagReadings

STRENGTHS = [0.5, 1.0, 1.5]
IMAGES = [f"{number}.png" for number in range(6)]


def measures(**changes: Any) -> Measures:
    whole: dict[str, Any] = {
        "loss": {"0.6": -0.6, "1.0": -0.85, "1.4": -0.6},
        "by_picture": [-0.85] * 4,
        "training": -0.85,
        "held_out": None,
        "plain_moved": 0.1,
        "plain_loss": 0.0,
        "norms": {"unet": 10.0, "text_encoder": 5.0},
        "likeness": {"0.6": 0.5, "1.0": 0.95, "1.4": 0.9},
        "diversity": 0.8,
        "copying": 0.95,
        "errors": {"likeness": 0.02, "copying": 0.05},
    }
    return Measures(**{**whole, **changes})


def grid(unet: float = 1.0, text_encoder: float = 1.0, seeds: int = 3) -> StrengthGrid:
    """A bowl with its lowest loss there; each seed's a little aside."""
    return StrengthGrid(
        STRENGTHS,
        STRENGTHS,
        [
            [
                [-0.9 + (u - unet - 0.01 * s) ** 2 + (t - text_encoder) ** 2 for t in STRENGTHS]
                for u in STRENGTHS
            ]
            for s in range(seeds)
        ],
    )


def dataset(**changes: Any) -> DatasetFacts:
    whole = DatasetFacts(
        images=12,
        tags=3.0,
        prose=False,
        tag_counts={"smile": 6, "frown": 6, "open eyes": 12},
        contradictory=0.0,
        repeated=1 / 12,
        repeated_image=Path("0.png"),
        copies=1,
        findings=(),
        command="pictures",
    )
    return replace(whole, **changes)


def facts(**changes: Any) -> RunFacts:
    whole = RunFacts(
        source="run",
        lr={"unet": 1e-4, "text_encoder": 5e-5},
        usual_lr={"unet": 1e-4, "text_encoder": 5e-5},
        rank=16,
        alpha=16.0,
        scale=1.0,
        uses=100.0,
        usual_uses=100.0,
        base="sd15.safetensors",
        same_base=True,
        given_base="sd15.safetensors",
        triggers=("zorp",),
        keeps_base=True,
        dataset=dataset(),
    )
    return replace(whole, **changes)


def evidence(**changes: Any) -> Evidence:
    """Keywords of :class:`.Evidence`; those of its facts by their own names."""
    own = {name: changes.pop(name) for name in list(changes) if name in RunFacts.__slots__}
    return Evidence(**{"facts": facts(**own), "measures": measures(), "grid": grid(), **changes})


def readings(
    answers: dict[str, list[str]], captions: list[str] | None = None, margin: float = 0.1
) -> TagReadings:
    """What the base sees in each image: by question the tag of each image; tags that occur are the
    answers there are, with "no hat" among headwear."""
    groups = {name: sorted({*tags, *_others(name)}) for name, tags in answers.items()}
    errors = {
        name: [
            [1.0 if tag == seen else 1.0 + margin * (1 + 0.1 * n) for tag in groups[name]]
            for n, seen in enumerate(tags)
        ]
        for name, tags in answers.items()
    }
    count = len(next(iter(answers.values())))
    names = [f"{number}.png" for number in range(count)]
    return TagReadings(names, captions or [""] * count, groups, errors)


def _others(question: str) -> list[str]:
    return {"headwear": ["no hat", "crown"], "mouth": ["smile", "frown"]}.get(question, ["other"])


def caption_fit(first: float, second: float) -> CaptionFit:
    """Mean errors at CLIP skip 1 and 2."""
    return CaptionFit([1, 2], [[first + 0.001 * n for n in range(6)], [second] * 6])
