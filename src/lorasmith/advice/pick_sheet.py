"""The drawings of all snapshots on one sheet: the grid that the guides compare epochs by."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from lorasmith.advice.pick_run import PickRun
from lorasmith.advice.pick_verdict import WORDS, Verdict
from lorasmith.core.errors import DatasetError
from lorasmith.core.files import atomic_path
from lorasmith.data.images import load_image
from lorasmith.measures.records import KINDS, PLAIN
from lorasmith.sampling.contact_sheet import contact_sheet

# Drawings of each kind on the sheet, and the widest image on it in pixels.
SHOWN = {KINDS["1.0"]: 3, KINDS["0.6"]: 1, KINDS["1.4"]: 1, PLAIN: 2}
TITLES = {KINDS["1.0"]: "strength 1", KINDS["0.6"]: "0.6", KINDS["1.4"]: "1.4", PLAIN: "no trigger"}
SIDE = 128


def save_sheet(path: Path, run: PickRun, drawings: Path, verdict: Verdict) -> Path | None:
    """Rows: the base model, then each snapshot; all of one column share prompt and seed.

    Returns:
        ``path``; ``None`` when nothing was drawn.
    """
    counts = {PLAIN: len(run.eval_set.plain)}
    columns = [
        (kind, number)
        for kind, most in SHOWN.items()
        for number in range(min(most, counts.get(kind, len(run.eval_set.prompts))))
    ]
    base = [("base", KINDS["1.0"] if kind != PLAIN else PLAIN, n) for kind, n in columns]
    rows = [[_opened(drawings / f"{name}-{kind}-{n}.png") for name, kind, n in base]]
    labels = ["base model"]
    for number, (one, judged) in enumerate(zip(run.candidates, verdict.judged, strict=True)):
        rows.append([_opened(drawings / f"{one.drawings}-{kind}-{n}.png") for kind, n in columns])
        kept = " KEEP" if number == verdict.keep else ""
        labels.append(f"{one.label}{kept}, {WORDS[judged.state]}")
    if not any(image is not None for row in rows[1:] for image in row):
        return None
    sheet = contact_sheet(
        rows, row_labels=labels, column_labels=[TITLES[kind] for kind, _ in columns]
    )
    with atomic_path(path) as part:
        sheet.save(part, format="PNG")
    return path


def _opened(path: Path) -> Image.Image | None:
    try:
        image = load_image(path)
    except DatasetError:  # Not drawn, or damaged.
        return None
    factor = SIDE / max(image.size)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    method = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS
    return image.resize(size, method)
