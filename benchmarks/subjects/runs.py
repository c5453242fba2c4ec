"""One training of a subject and what came of it: the unit that the comparison of defaults counts.

Shares are of drawings by the base model with the LoRA at strength 1.0, read by the subject's judge
(fidelity, leak, diversity) and by the demo world's (what is kept of the base). Results are lines of
JSON, so that a comparison can be stopped, continued and pooled.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from benchmarks.subjects.judges import Judges, train_or_load
from benchmarks.subjects.subjects import SUBJECTS, Prompt, Subject
from PIL import Image

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.load import load_settings
from lorasmith.demo.judge import read, tag_accuracy
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.load import load_model
from lorasmith.sampling.embeddings import EmbeddingLibrary
from lorasmith.sampling.generate import generate
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.sampling.request import ImageRequest
from lorasmith.training.run import train

STEPS, CFG, SAMPLER = 20, 3.0, "ddim"
KEPT = ("shape", "colour", "hat")
QUIET = ("sample.every_epochs=0", "sample.at_start=false", "log.tensorboard=false")


@dataclass(frozen=True)
class Case:
    """Settings to compare.

    Args:
        name: in tables.
        overrides: ``section.key=value``.
        preset: or none.
        regularize: train beside as many images of plain creatures, drawn by the base model.
        trainer: what trains; ``None`` is lorasmith.
    """

    name: str
    overrides: tuple[str, ...] = ()
    preset: str | None = None
    regularize: int = 0
    trainer: Callable[[Path, Path, int], Path] | None = None


@dataclass
class Result:
    """Shares are 0 to 1, over ``count`` drawings each.

    Args:
        fidelity: drawings with the trigger that show all parts; ``parts`` by part.
        leak: drawings without it that show any part.
        kept: drawings without it that show what was asked for, by attribute; ``before`` without
            the LoRA.
        follows: of what the prompts with the trigger name besides it.
        mixing: drawings asked for by one of two subjects that show a part of the other.
        diversity: of drawings with the trigger, relative to held-out drawings of the subject.
        seconds: processor time of the training, caches and start included.
    """

    case: str
    subject: str
    kind: str
    images: int
    seed: int
    count: int
    steps: int
    seconds: float
    fidelity: float
    parts: dict[str, float]
    leak: float
    kept: dict[str, float]
    before: dict[str, float]
    leak_before: float
    follows: float
    diversity: float
    mixing: float
    snapshot: str = ""


class Bench:
    """The base model, the judges, and the base's own drawings of plain prompts.

    Args:
        work: folder of judges, and of what the base draws.
    """

    def __init__(self, work: Path, count: int) -> None:
        self.work, self.count = work, count
        self.model = load_model("demo")
        self.base = load_model("demo")  # stays without adapters
        self.judges: Judges = train_or_load(work)
        self._before: dict[tuple[str, int], tuple[dict[str, float], float]] = {}

    def draw(self, prompts: Sequence[Prompt], seed: int) -> list[Image.Image]:
        return draw(self.model, prompts, seed)

    def before(self, subject: Subject, seed: int) -> tuple[dict[str, float], float]:
        """What is kept, and the judge's false alarms, by the base model alone."""
        key = subject.name, seed
        if key not in self._before:
            prompts = subject.plain_prompts(self.count, seed)
            images = draw(self.base, prompts, without_trigger(seed))
            self._before[key] = kept(images, prompts), self.judges.leak(subject, images)
        return self._before[key]

    def judge(
        self, subjects: Sequence[Subject], lora: Path, seed: int
    ) -> tuple[dict[str, Any], list[Image.Image]]:
        """The shares of :class:`Result` of one LoRA file, and its drawings."""
        network = AdapterNetwork.load(load_lora(lora).tensors, self.model.adapter_roots())
        with network.attached():
            each = [self._judge_one(subjects, subject, seed) for subject in subjects]
        shares = {
            name: fmean(one[name] for one, _ in each)
            for name in ("fidelity", "leak", "leak_before", "follows", "diversity", "mixing")
        }
        shares |= {
            name: {k: fmean(one[name][k] for one, _ in each) for k in each[0][0][name]}
            for name in ("kept", "before")
        }
        parts = {f"{s.name} {k}": v for s, (one, _) in zip(subjects, each, strict=True)
                 for k, v in one["parts"].items()}  # fmt: skip
        return {**shares, "parts": parts}, each[0][1]

    def _judge_one(
        self, subjects: Sequence[Subject], subject: Subject, seed: int
    ) -> tuple[dict[str, Any], list[Image.Image]]:
        images = self.draw(subject.prompts(self.count, seed), with_trigger(seed))
        others = self.draw(subject.plain_prompts(self.count, seed), without_trigger(seed))
        shares = self.shares(subject, seed, images, others)
        mixed = [self.judges.mixing(other, images) for other in subjects if other is not subject]
        return {**shares, "mixing": max(mixed, default=0.0)}, [*images[:8], *others[:8]]

    def shares(
        self,
        subject: Subject,
        seed: int,
        images: Sequence[Image.Image],
        others: Sequence[Image.Image],
    ) -> dict[str, Any]:
        """Those of :class:`Result`, but for mixing.

        Args:
            images, others: drawn by the subject's prompts of this seed, with the trigger and
                without it.
        """
        prompts = subject.prompts(self.count, seed)
        plain = subject.plain_prompts(self.count, seed)
        before, leak_before = self.before(subject, seed)
        reference = [each.image for each in subject.held_out_images(self.count, seed)]
        verdict = self.judges.verdict(subject, images)
        return {
            "fidelity": float(verdict.all(1).mean()),
            "parts": dict(zip(subject.parts, verdict.mean(0).tolist(), strict=True)),
            "leak": self.judges.leak(subject, others),
            "kept": kept(others, plain),
            "before": before,
            "leak_before": leak_before,
            "follows": self.judges.follows(prompts, images),
            "diversity": self.judges.diversity(images, reference),
        }


def with_trigger(seed: int) -> int:
    """The seed of the first drawing with the trigger, of a run of some seed."""
    return 1000 + 1000 * seed


def without_trigger(seed: int) -> int:
    """The seed of the first drawing without the trigger."""
    return 2000 + 1000 * seed


def draw(
    model: DiffusionModel,
    prompts: Sequence[Prompt],
    seed: int,
    *,
    loras: LoraLibrary | None = None,
    embeddings: EmbeddingLibrary | None = None,
) -> list[Image.Image]:
    requests = [
        ImageRequest(prompt.text, "", seed + number, STEPS, CFG, SAMPLER)
        for number, prompt in enumerate(prompts)
    ]
    drawn = generate(model, requests, loras=loras, embeddings=embeddings)
    images = sorted(drawn, key=lambda image: image.index)
    return [image.image for image in images]


def kept(images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> dict[str, float]:
    readings = read([np.asarray(image) for image in images])
    return tag_accuracy(readings, [prompt.creature for prompt in prompts], KEPT)


def train_case(case: Case, data: Path, out: Path, seed: int) -> tuple[Path, float]:
    """The LoRA file, and the seconds of processor time that it took."""
    begin = time.process_time() + os.times().children_user
    if case.trainer is not None:
        lora = case.trainer(data, out, seed)
        return lora, time.process_time() + os.times().children_user - begin
    regularization = [f"data.reg={data.parent / 'reg'}"] if case.regularize else []
    settings = load_settings(
        None,
        [
            "model.path=demo",
            f"data.path={data}",
            f"save.output={out}",
            f"train.seed={seed}",
            *QUIET,
            *regularization,
            *case.overrides,
        ],
        case.preset,
    )
    run = train(settings)
    return run / f"{run.name}.safetensors", time.process_time() - begin


def measure(
    bench: Bench,
    case: Case,
    subjects: Sequence[Subject],
    *,
    images: int,
    seed: int,
    snapshots: bool = False,
) -> list[Result]:
    """Train on ``images`` drawings of one subject, or of each of two, and judge the LoRA; with its
    snapshots if asked."""
    folder = Path(tempfile.mkdtemp(prefix="subject-"))
    name = "+".join(subject.name for subject in subjects)
    kind = subjects[0].kind if len(subjects) == 1 else "pair"
    try:
        for subject in subjects:
            subject.write_training_set(folder / "img", images, seed)
        if case.regularize:
            write_regularization(bench, folder / "reg", subjects[0], case.regularize, seed)
        lora, seconds = train_case(case, folder / "img", folder / "runs", seed)
        total = steps_of(lora)
        files = sorted({lora, *(lora.parent.rglob("*.safetensors") if snapshots else ())})
        results = []
        for file in (path for path in files if "state" not in path.parts):
            shares, drawings = bench.judge(subjects, file, seed)
            steps = steps_of(file)
            results.append(
                Result(
                    case.name, name, kind, images, seed, bench.count * len(subjects),
                    steps, seconds * steps / total, **shares,
                    snapshot="" if file == lora else file.stem,
                )
            )  # fmt: skip
            if file == lora:
                keep_drawings(bench.work / "drawings", f"{case.name}-{name}-{seed}", drawings)
        return results
    finally:
        shutil.rmtree(folder)


def steps_of(lora: Path) -> int:
    return int(load_lora(lora).metadata["ss_steps"])


def write_regularization(
    bench: Bench, folder: Path, subject: Subject, count: int, seed: int
) -> None:
    """Images of plain creatures by the base model, as the hard route of the guides has them."""
    target = folder / f"1_{subject.class_word}"
    target.mkdir(parents=True)
    prompts = subject.plain_prompts(count, seed + 100)
    for number, image in enumerate(bench.draw(prompts, 9000 + 1000 * seed)):
        image.save(target / f"{number:03}.png")
        (target / f"{number:03}.txt").write_text(prompts[number].text + "\n", "utf-8")


def keep_drawings(folder: Path, name: str, drawings: Sequence[Image.Image]) -> None:
    """A strip of drawings: eight with the trigger above eight without it."""
    folder.mkdir(parents=True, exist_ok=True)
    side = drawings[0].width
    strip = Image.new("RGB", (8 * side, 2 * side))
    for number, image in enumerate(drawings):
        strip.paste(image, (number % 8 * side, number // 8 * side))
    strip.save(folder / f"{name}.png")


def run_all(
    bench: Bench,
    cases: Sequence[Case],
    names: Sequence[str],
    seeds: Sequence[int],
    images: Sequence[int],
    results: Path,
    *,
    snapshots: bool = False,
) -> None:
    """Measure what ``results`` (JSON lines) does not have yet, cases in turns.

    Args:
        names: of subjects; ``a+b`` for two in one LoRA.
    """
    have = {(r["case"], r["subject"], r["images"], r["seed"]) for r in read_results(results)}
    for seed, count, name, case in product(seeds, images, names, cases):
        if (case.name, name, count, seed) in have:
            continue
        subjects = [SUBJECTS[one] for one in name.split("+")]
        lines = measure(bench, case, subjects, images=count, seed=seed, snapshots=snapshots)
        with results.open("a", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps(asdict(line)) + "\n")


def read_results(path: Path) -> list[dict]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
