"""Do the rules of length and rate hold on a base of another width and another world?

    python -m tools.demo_model.pretrain vae --world heads --minutes 6 --work DIR
    python -m tools.demo_model.pretrain unet --world heads --minutes 61 --batch 24 --work DIR
    python -m tools.demo_model.pretrain export --world heads --work DIR
    python -m benchmarks.second_base --work DIR

The first three make the base (Node needed), the last trains LoRAs of subjects that it has never
seen, with no settings but model and pictures, then at half and twice the length and the rate that
come of it, and judges what they draw. Results are lines of JSON in DIR, so that it can be stopped
and goes on. What came of it stands in benchmarks/second_base.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import torch
from benchmarks.second_base.judge import Judge, accuracy, train_or_load
from benchmarks.second_base.subjects import SUBJECTS, Subject
from PIL import Image
from scipy.stats import binomtest
from tools.demo_model import heads
from tools.demo_model.heads import Drawer
from tools.demo_model.pretrain import HEADS_BASE

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.load import load_settings
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.load import load_model
from lorasmith.models.open import open_checkpoint
from lorasmith.sampling.generate import generate
from lorasmith.sampling.request import ImageRequest
from lorasmith.training.run import train

STEPS, CFG, SAMPLER = 20, 3.0, "ddim"
IMAGES = 14
# Multiples of the length and the rate that the rules give.
POINTS = ((1.0, 1.0), (0.5, 1.0), (1.0, 2.0), (1.0, 0.5), (2.0, 1.0))
SHOWN = ("hair", "clothes_colour", "hat")  # of what is kept
QUIET = ("sample.every_epochs=0", "sample.at_start=false", "log.tensorboard=false")


class Bench:
    """The base, the judge, and what the base draws by itself.

    Args:
        work: folder of the base; gets judge, results and drawings.
        count: drawings of each kind in a run.
    """

    def __init__(self, work: Path, count: int) -> None:
        self.work, self.count, self.path = work, count, work / HEADS_BASE
        self.drawer = Drawer(work / "packages")
        self.model = load_model(self.path)
        self.judge: Judge = train_or_load(work / "judge.safetensors", self.drawer, self.model)
        defaults = json.loads(open_checkpoint(self.path).defaults)
        self.rate = float(defaults["optimizer.lr"])
        self._before: dict[tuple[str, int], list[Image.Image]] = {}

    def plain(self, subject: Subject, seed: int) -> list[Image.Image]:
        prompts = [text for text, _ in subject.plain_prompts(self.count, seed)]
        return draw(self.model, prompts, 2000 + 1000 * seed)

    def run(
        self, subject: Subject, length: float, rate: float, seed: int, steps: int | None
    ) -> dict[str, Any]:
        """Train and judge; the figures of a line of results.

        Args:
            length, rate: multiples of what the rules say.
            steps: what they say; ``None`` leaves it to them.
        """
        key = subject.name, seed
        if key not in self._before:
            self._before[key] = self.plain(subject, seed)
        folder = Path(tempfile.mkdtemp(prefix="second-base-"))
        try:
            subject.write_training_set(folder / "img", self.drawer, IMAGES, seed)
            overrides = [] if steps is None else [f"train.steps={round(steps * length)}"]
            overrides += [] if rate == 1 else [f"optimizer.lr={self.rate * rate}"]
            begin = time.process_time()
            lora = self._train(folder, seed, overrides)
            seconds = time.process_time() - begin
            file = load_lora(lora)
            network = AdapterNetwork.load(file.tensors, self.model.adapter_roots())
            with network.attached():
                images = draw(self.model, subject.prompts(self.count, seed), 1000 + 1000 * seed)
                plain = self.plain(subject, seed)
        finally:
            shutil.rmtree(folder)
        keep_drawings(
            self.work / "drawings" / f"{subject.name}-{length:g}-{rate:g}-{seed}.png",
            [*images[:8], *plain[:8]],
        )
        asked = [head for _, head in subject.plain_prompts(self.count, seed)]
        verdict = self.judge.verdict(subject, images)
        before = self._before[key]
        return {
            "subject": subject.name,
            "length": length,
            "rate": rate,
            "seed": seed,
            "count": self.count,
            "steps": int(file.metadata["ss_steps"]),
            "seconds": seconds,
            "fidelity": float(verdict.all(1).mean()),
            "parts": dict(zip(subject.part_names, verdict.mean(0).tolist(), strict=True)),
            "leak": float(self.judge.verdict(subject, plain).any(1).mean()),
            "leak_before": float(self.judge.verdict(subject, before).any(1).mean()),
            "kept": self.judge.kept(plain, asked),
            "before": self.judge.kept(before, asked),
        }

    def _train(self, folder: Path, seed: int, overrides: Sequence[str]) -> Path:
        given = [f"model.path={self.path}", f"data.path={folder / 'img'}"]
        given += [f"save.output={folder / 'runs'}", f"train.seed={seed}", *QUIET]
        run = train(load_settings(None, [*given, *overrides], None))
        return run / f"{run.name}.safetensors"


def draw(model: DiffusionModel, prompts: Sequence[str], seed: int) -> list[Image.Image]:
    requests = [
        ImageRequest(prompt, "", seed + number, STEPS, CFG, SAMPLER)
        for number, prompt in enumerate(prompts)
    ]
    images = sorted(generate(model, requests), key=lambda image: image.index)
    return [image.image for image in images]


def keep_drawings(path: Path, drawings: Sequence[Image.Image]) -> None:
    """A strip of drawings: eight with the trigger above eight without it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    side = drawings[0].width
    strip = Image.new("RGB", (8 * side, 2 * side))
    for number, image in enumerate(drawings):
        strip.paste(image, (number % 8 * side, number // 8 * side))
    strip.save(path)


def read_results(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def run_all(
    bench: Bench,
    subjects: Sequence[str],
    points: Sequence[tuple[float, float]],
    seeds: Sequence[int],
    results: Path,
) -> None:
    """Measure what ``results`` does not have yet."""
    for seed in seeds:
        for length, rate in points:
            for name in subjects:
                have = {
                    (r["subject"], r["length"], r["rate"], r["seed"]): r
                    for r in read_results(results)
                }
                if (name, length, rate, seed) in have:
                    continue
                usual = have.get((name, 1.0, 1.0, seed))
                steps = None
                if length != 1:
                    if usual is None:
                        raise SystemExit(f"{name}: 1x1 first, whose length the others are of")
                    steps = usual["steps"]
                line = bench.run(SUBJECTS[name], length, rate, seed, steps)
                with results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")


def table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row for each subject at each point, and for all subjects at it."""
    columns = ("length", "rate", "subject", "steps", "fidelity %", "leak %", "kept", "all", "s")
    lines = [f"| {' | '.join(columns)} |", "| ---: | ---: | --- |" + " ---: |" * 6]
    for length, rate in sorted(POINTS):
        point = [r for r in results if (r["length"], r["rate"]) == (length, rate)]
        names = [name for name in SUBJECTS if any(r["subject"] == name for r in point)]
        for name in [*names, "all"] if len(names) > 1 else names:
            rows = [r for r in point if name in (r["subject"], "all")]
            cells = [f"x {length:g}", f"x {rate:g}", name, f"{fmean(r['steps'] for r in rows):.0f}"]
            cells += [share(rows, "fidelity"), share(rows, "leak"), kept(rows)]
            cells += [f"{100 * fmean(lost(r, tuple(r['kept'])) for r in rows):+.1f}"]
            cells += [f"{fmean(r['seconds'] for r in rows):.0f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def share(rows: Sequence[dict[str, Any]], value: str) -> str:
    """Percent over all drawings of some rows, with its 95 % interval (Wilson's)."""
    drawings = sum(row["count"] for row in rows)
    hits = round(sum(row[value] * row["count"] for row in rows))
    interval = binomtest(hits, drawings).proportion_ci(method="wilson")
    return f"{100 * hits / drawings:.1f} ({100 * interval.low:.0f}-{100 * interval.high:.0f})"


def kept(rows: Sequence[dict[str, Any]]) -> str:
    return " / ".join(f"{100 * fmean(lost(r, (name,)) for r in rows):+.1f}" for name in SHOWN)


def lost(row: dict[str, Any], names: Sequence[str]) -> float:
    return fmean(row["kept"][name] - row["before"][name] for name in names)


def base_table(bench: Bench, count: int) -> str:
    """Markdown: how well the judge reads drawings, and how well the base draws what is asked."""
    read = accuracy(bench.judge, bench.drawer, bench.model)
    shown = [heads.random_head(Random(f"second base asked {k}")) for k in range(count)]
    images = draw(bench.model, [", ".join(heads.tags(head)) for head in shown], 70_000)
    drawn = bench.judge.kept(images, shown)
    lines = ["| attribute | values | judge on drawings | base |", "| --- | ---: | ---: | ---: |"]
    for name, right in read["attribute"].items():
        lines.append(
            f"| {name} | {len(heads.VALUES[name])} | {100 * right:.1f} | {100 * drawn[name]:.1f} |"
        )
    lines += ["", "| part | there, read so | not right, read so | world, read so | base: shown |"]
    lines += ["| --- | ---: | ---: | ---: | ---: |"]
    shows = bench.judge.parts(images).mean(0)
    for number, name in enumerate(read["there"]):
        cells = [read[kind][name] for kind in ("there", "not right", "in the world")]
        cells.append(float(shows[number]))
        lines.append(f"| {name} | " + " | ".join(f"{100 * cell:.1f}" for cell in cells) + " |")
    keep_drawings(bench.work / "drawings" / "base.png", images[:16])
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--subjects", default=",".join(SUBJECTS))
    parser.add_argument("--points", type=lambda text: text.split(","), metavar="LENGTHxRATE,...",
                        default=["{:g}x{:g}".format(*point) for point in POINTS])  # fmt: skip
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--count", type=int, default=24, help="drawings of each kind in a run")
    parser.add_argument("--base", type=int, default=0, help="judge so many drawings of the base")
    parser.add_argument("--table", action="store_true", help="of the results there are")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = options.work / "results.jsonl"
    if not options.table:
        bench = Bench(options.work, options.count)
        if options.base:
            print(base_table(bench, options.base))
            return
        seeds = [int(seed) for seed in options.seeds.split(",")]
        points = [point for point in POINTS if "{:g}x{:g}".format(*point) in options.points]
        run_all(bench, options.subjects.split(","), points, seeds, results)
    print(table(read_results(results)))


if __name__ == "__main__":
    main()
