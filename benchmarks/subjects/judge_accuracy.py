"""How well the judges read what is known.

    python -m benchmarks.subjects.judge_accuracy WORK

Trains the judges if the folder WORK has none, and has them read drawings that no training saw: as
drawn, softened (shifted, blurred, noised), and encoded and decoded by the demo model's autoencoder.
Also images that the demo model drew itself, which show no subject. Writes `subjects_judges.md` to
the folder above this file's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import torch
from benchmarks.subjects.judges import Judges, encoded, soften, to_bytes, to_pixels, train_or_load
from benchmarks.subjects.labelled import as_it_is, near_miss, of_the_world
from benchmarks.subjects.subjects import SUBJECTS
from PIL import Image

from lorasmith.core.files import write_text
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.load import load_model
from lorasmith.sampling.generate import generate
from lorasmith.sampling.request import ImageRequest

REPORT = Path(__file__).parents[1] / "subjects_judges.md"
WHOLE = 150  # drawings of each subject as it is
MISSES = 100  # of each part: drawings of its subject with this part not right
OTHERS = 200  # drawings without the subject
ASKED = 60  # prompts of each subject
GENERATED = 128

Images = list[Image.Image]
Treatment = Callable[[np.ndarray], np.ndarray]  # uint8 (N, 64, 64, 3) both


def treated(treat: Treatment, images: Images) -> Images:
    array = treat(np.stack([np.asarray(image) for image in images]))
    return [Image.fromarray(image) for image in array]


def softened(images: np.ndarray) -> np.ndarray:
    """As models' images are, eight at a time in one way."""
    rng = Random("softened")
    return to_bytes(torch.cat([soften(chunk, rng) for chunk in to_pixels(images).split(8)]))


def generated(model: DiffusionModel, prompts: Sequence[str]) -> Images:
    """What the model itself draws, in the order of the prompts."""
    requests = [
        ImageRequest(prompt=prompt, seed=seed, steps=20, cfg=4.0, sampler="ddim")
        for seed, prompt in enumerate(prompts)
    ]
    return [g.image for g in sorted(generate(model, requests), key=lambda g: g.index)]


@cache
def test_images(subject_name: str) -> tuple[Images, dict[str, Images], Images]:
    """The subject as it is; with a part not right, by part; and everything else."""
    subject, rng = SUBJECTS[subject_name], Random(f"judge accuracy {subject_name}")
    whole = [as_it_is(subject, rng).image for _ in range(WHOLE)]
    misses = {
        part: [near_miss(subject, rng, part).image for _ in range(MISSES)] for part in subject.parts
    }
    rest = [other for other in SUBJECTS.values() if other is not subject]
    others = [as_it_is(rng.choice(rest), rng).image for _ in range(OTHERS // 2)]
    others += [of_the_world(rng).image for _ in range(OTHERS - len(others))]
    return whole, misses, others


def rows(judges: Judges, treat: Treatment) -> dict[str, list[float]]:
    """By "subject part": share read as there where it is; as not there in near misses; as not
    there on everything else. By "subject all": share read as whole where it is."""
    result: dict[str, list[float]] = {}
    for subject in SUBJECTS.values():
        whole, misses, others = test_images(subject.name)
        there = judges.verdict(subject, treated(treat, whole))
        elsewhere = judges.verdict(subject, treated(treat, others))
        for column, (part, images) in enumerate(misses.items()):
            missed = judges.verdict(subject, treated(treat, images))[:, column]
            result[f"{subject.name} {part}"] = [
                there[:, column].mean(),
                1 - missed.mean(),
                1 - elsewhere[:, column].mean(),
            ]
        result[f"{subject.name} all"] = [there.all(axis=1).mean()]
    return result


def attributes_right(judges: Judges, treat: Treatment) -> dict[str, float]:
    """Share of the attributes asked for that are read right, off drawings of prompts."""
    shares = {}
    for subject in SUBJECTS.values():
        drawings = subject.held_out_images(ASKED, seed=5)
        images = treated(treat, [drawing.image for drawing in drawings])
        shares[subject.name] = judges.follows(subject.prompts(ASKED, seed=5), images)
    return shares


def _percent(value: float) -> str:
    return f"{100 * value:.1f}".removesuffix(".0")


METHOD = f"""# The judges of the subjects

Made by `python -m benchmarks.subjects.judge_accuracy WORK`. Per cent of images that are read
right, none of them seen in training: drawings / softened as models' images are / through the demo
model's autoencoder.

There: of {WHOLE} with all parts. Not right: of {MISSES} of the same subject in which this part
is missing, of another colour, half there or another's. Elsewhere: of {OTHERS} of other subjects
and of the world, some with parts of the demo's own character.

| subject | part | there | not right | elsewhere |
|---|---|---|---|---|
"""


def report(judges: Judges, model: DiffusionModel) -> str:
    treatments: dict[str, Treatment] = {
        "drawn": lambda images: images,
        "softened": softened,
        "autoencoder": encoded,
    }
    tables = [rows(judges, treat) for treat in treatments.values()]
    follows = [attributes_right(judges, treat) for treat in treatments.values()]
    lines = []
    for key in tables[0]:
        columns = zip(*(table[key] for table in tables), strict=True)
        cells = [" / ".join(_percent(value) for value in column) for column in columns]
        cells += [""] * (3 - len(cells))
        lines.append(f"| {' | '.join([*key.split(), *cells])} |")
    text = f"Attributes asked for by {ASKED} prompts with the trigger, read off drawings of them:"
    lines += ["", text, "", "| subject | right |", "|---|---|"]
    for name in SUBJECTS:
        lines.append(f"| {name} | {' / '.join(_percent(shares[name]) for shares in follows)} |")
    return METHOD + "\n".join([*lines, "", _on_generated(judges, model), ""])


def _on_generated(judges: Judges, model: DiffusionModel) -> str:
    prompts = SUBJECTS["gloam"].plain_prompts(GENERATED, seed=7)
    images = generated(model, [prompt.text for prompt in prompts])
    leaks = {name: judges.leak(subject, images) for name, subject in SUBJECTS.items()}
    some = ", ".join(f"{name} ({_percent(share)} %)" for name, share in leaks.items() if share)
    return (
        f"On {GENERATED} images of the world drawn by the demo model itself (DDIM, 20 steps, CFG\n"
        f"4), parts are seen of: {some or 'no subject'}. Of the attributes asked for,\n"
        f"{_percent(judges.follows(prompts, images))} % are read as asked."
    )


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m benchmarks.subjects.judge_accuracy WORK\n\n{__doc__}")
    torch.set_num_threads(1)
    text = report(train_or_load(Path(sys.argv[1])), load_model("demo"))
    write_text(REPORT, text)
    print(text)


if __name__ == "__main__":
    main()
