"""Rules of `dataset audit`, tried one at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from lorasmith.advice.audit.audit import findings_of
from lorasmith.advice.audit.finding import Finding
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.audit.rules import RULES
from lorasmith.config.load import load_settings

MakeDataset = Callable[[dict[str, str | None]], Path]
"""``dataset({"10_zorp/a.png": "zorp, hat"})``; see ``tests/unit/advice/conftest.py``."""

SMALL = "data.resolution=64"


def faultless(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """Soft shapes of many colours with sharp edges and some grain."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    soft = np.asarray(small.resize(size, Image.Resampling.BICUBIC), np.int16)
    sharp = np.asarray(small.resize(size, Image.Resampling.NEAREST), np.int16)
    mixed = (soft + sharp) // 2 + rng.integers(-4, 5, soft.shape)
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


def inputs_of(folder: Path, *settings: str) -> AuditInputs:
    """Of a folder that is trained at 64 px unless settings say otherwise."""
    named = any("resolution" in setting for setting in settings)
    return AuditInputs(
        [folder], settings=load_settings(None, [*settings, *([] if named else [SMALL])])
    )


def audit_rule(rule: str, folder: Path, *settings: str) -> list[Finding]:
    """What one rule finds there, such as ``audit_rule("same-file", folder, "train.batch=2")``."""
    (row,) = [row for row in RULES if row.id == rule]
    return findings_of(row, inputs_of(folder, *settings))


def captioned(dataset: MakeDataset, *captions: str | None, folder: str = "10_zorp") -> Path:
    """A folder of images with these captions alone, ``00.png`` the first."""
    shutil.rmtree(dataset({}), ignore_errors=True)
    return dataset({f"{folder}/{n:02}.png": caption for n, caption in enumerate(captions)})


def mended(rule: str, folder: Path, *settings: str) -> list[str]:
    """The captions in the order of their names, after the rule's fix; nothing is found then."""
    (row,) = [row for row in RULES if row.id == rule]
    inputs = inputs_of(folder, *settings)
    assert row.fix is not None
    plan = row.fix(inputs, findings_of(row, inputs))
    assert not plan.problems
    plan.apply()
    assert audit_rule(rule, folder, *settings) == []
    return [path.read_text("utf-8").rstrip("\n") for path in sorted(folder.rglob("*.txt"))]
