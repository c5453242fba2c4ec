"""What do the rounds of `lorasmith bootstrap` make of one drawing of a character?

    python -m benchmarks.bootstrap --work DIR [--subjects wexomi,brindop,ulfane] [--rounds 4]

Three characters that the demo model has never seen, of the subjects that no default was chosen by:
one drawing of each with its caption, `--choose auto`, all else as it is by default. The LoRA of
each round, and the last one, draw held-out prompts, and the judges of `benchmarks/subjects` read
the drawings; the chooser knows nothing of these. Results are lines of JSON in DIR, so that it can
be stopped and goes on; pictures are in DIR, too. What came of it stands in benchmarks/bootstrap.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from math import log
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from benchmarks.subjects.judges import Judges, _mean_distance
from benchmarks.subjects.runs import Bench, draw, kept, read_results, steps_of
from benchmarks.subjects.subjects import SUBJECTS, Prompt, Subject
from PIL import Image

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.advice.bootstrap.bootstrap import Bootstrapped, bootstrap
from lorasmith.advice.bootstrap.state import STATE, Bootstrap, Round, images_of
from lorasmith.core.events import Event, Notice
from lorasmith.data.images import load_image
from lorasmith.demo.world import VALUES

CHARACTERS = "wexomi,brindop,ulfane"
SEED, FIRST = 0, 1000
POSE = ("eyes", "mouth", "held", "background")


def bootstrapped(subject: Subject, work: Path, rounds: int) -> tuple[Bootstrapped, float]:
    """From one drawing, and the processor time that this call took."""
    folder, begin = work / subject.name, time.process_time()
    if (folder / STATE).exists():
        result = bootstrap(go_on=folder, observer=partial(_tell, subject.name))
        return result, time.process_time() - begin
    (drawing,) = subject.training_images(1, SEED)
    image = work / "given" / f"{subject.name}.png"
    image.parent.mkdir(parents=True, exist_ok=True)
    drawing.image.save(image)
    image.with_suffix(".txt").write_text(f"{drawing.caption}\n", encoding="utf-8")
    result = bootstrap(
        [image],
        subject.trigger,
        out=folder,
        choose="auto",
        rounds=rounds,
        settings=["log.tensorboard=false"],
        observer=partial(_tell, subject.name),
    )
    return result, time.process_time() - begin


def _tell(name: str, event: Event) -> None:
    if isinstance(event, Notice) and ("round" in event.text or "sticks" in event.text):
        print(f"{name}: {event.text}", flush=True)


def base_prompts(subject: Subject, prompts: Sequence[Prompt]) -> list[Prompt]:
    """The same, of a creature of the world with the subject's shape and, if it has it, colour."""
    fixed = subject.fixed
    words = [f"{fixed['colour']} body"] if "colour" in fixed else []
    words.append(fixed["shape"])
    return [
        Prompt(
            prompt.text.replace(subject.trigger, ", ".join(words)), prompt.creature, prompt.asked
        )
        for prompt in prompts
    ]


def variety(judges: Judges, images: Sequence[Image.Image], names: Sequence[str]) -> float:
    """How evenly the images show all values of some attributes, 0 to 1: mean relative entropy."""
    readings = judges._read(images)[2]
    shares = []
    for name in names:
        counts = Counter(readings[name].tolist())
        total = counts.total()
        entropy = -sum(n / total * log(n / total) for n in counts.values())
        shares.append(entropy / log(min(total, len(VALUES[name]))))
    return fmean(shares)


class SubjectJudge:
    """What is the same for all LoRAs of a subject: what the base draws of its prompts."""

    def __init__(self, bench: Bench, subject: Subject) -> None:
        self.bench, self.subject = bench, subject
        self.prompts = subject.prompts(bench.count, SEED)
        self.plain = subject.plain_prompts(bench.count, SEED)
        self.pose = [name for name in POSE if name in subject.varying]
        plain = base_prompts(subject, self.prompts)
        self.by_base = draw(bench.base, plain, FIRST)
        self.follows = bench.judges.follows(plain, self.by_base)
        self.before = bench.before(subject, SEED)

    def judge(self, lora: Path) -> tuple[dict[str, Any], list[Image.Image]]:
        """Shares of one LoRA's drawings, and some of these."""
        bench, judges, subject = self.bench, self.bench.judges, self.subject
        network = AdapterNetwork.load(load_lora(lora).tensors, bench.model.adapter_roots())
        with network.attached():
            images = bench.draw(self.prompts, FIRST)
            others = bench.draw(self.plain, 2 * FIRST)
        verdict = judges.verdict(subject, images)
        spread = {
            name: _mean_distance(judges.features(drawn))
            for name, drawn in (("lora", images), ("base", self.by_base))
        }
        shares = {
            "fidelity": float(verdict.all(1).mean()),
            "parts": dict(zip(subject.parts, verdict.mean(0).tolist(), strict=True)),
            "leak": judges.leak(subject, others),
            "kept_of_base": kept(others, self.plain),
            "before": self.before[0],
            "follows": judges.follows(self.prompts, images),
            "follows_base": self.follows,
            "of_base": spread["lora"] / spread["base"],
            "variety": variety(judges, images, self.pose),
            "variety_base": variety(judges, self.by_base, self.pose),
        }
        return shares, [*images[:8], *others[:8]]


def measure(bench: Bench, subject: Subject, work: Path, rounds: int, results: Path) -> None:
    result, seconds = bootstrapped(subject, work, rounds)
    boot = result.boot
    have = {(row["subject"], row["lora"]) for row in read_results(results)}
    total = len(images_of(boot.given_folder)) + len(images_of(boot.drawn_folder))
    stages: list[tuple[str, int, Path, Round | None]] = [
        (f"round {one.number}", one.images, boot.folder / one.lora, one) for one in boot.rounds
    ]
    stages.append(("last", total, result.lora, None))
    stages = [stage for stage in stages if (subject.name, stage[0]) not in have]
    rows = []
    judge = SubjectJudge(bench, subject).judge if stages else None
    for name, images, lora, one in stages:
        assert judge is not None
        shares, strip = judge(lora)
        rows.append(strip)
        line = {
            "subject": subject.name,
            "lora": name,
            "images": images,
            "steps": steps_of(lora),
            "count": bench.count,
            "likeness": one.likeness if one else None,
            "copies": one.copies if one else None,
            "drawn": sum(not drawing.source for drawing in one.drawings) if one else 0,
            "kept": len(one.kept or ()) if one else None,
            "purged": one.purged if one else [],
            "replaced": one.replaced if one else [],
            "drawn_right": _right(bench, subject, boot, one),
            "kept_right": _right(bench, subject, boot, one, kept=True),
            "ended": boot.ended,
            "seconds": seconds,
            **shares,
        }
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    if rows:
        sheet(boot, rows).save(work / f"{subject.name}.png")


def _right(
    bench: Bench, subject: Subject, boot: Bootstrap, one: Round | None, *, kept: bool = False
) -> float | None:
    """Share of a round's drawings, or of those kept of it, that show all parts."""
    drawings = one.drawings if one is not None else []
    if kept and one is not None:
        drawings = [drawing for drawing in drawings if drawing.number in (one.kept or ())]
    if one is None or not drawings:
        return None
    return bench.judges.fidelity(subject, [load_image(boot.drawing(one, d)) for d in drawings])


def sheet(boot: Bootstrap, rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """The given picture and the set; then of each LoRA eight drawings with the trigger and eight
    without it."""
    side = 64
    in_set = [load_image(p) for p in (*images_of(boot.given_folder), *images_of(boot.drawn_folder))]
    columns = 16
    lines = -(-len(in_set) // columns)
    page = Image.new("RGB", (columns * side, (lines + len(rows)) * side + 8), "white")
    for number, image in enumerate(in_set):
        page.paste(image, (number % columns * side, number // columns * side))
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            page.paste(image, (column * side, (lines + row) * side + 8))
    return page.resize((page.width * 2, page.height * 2), Image.Resampling.NEAREST)


COLUMNS = (
    *("character", "LoRA", "pictures", "steps", "fidelity %", "leak %", "follows % (base)"),
    *("spread, of the base's", "variety (base)", "likeness", "copies", "drawn right %", "kept"),
    "kept right %",
)


def table(rows: Sequence[dict]) -> str:
    """Markdown: a row for each LoRA."""
    lines = [f"| {' | '.join(COLUMNS)} |", "| --- | --- |" + " ---: |" * (len(COLUMNS) - 2)]
    for row in rows:
        cells = [
            row["subject"], row["lora"], row["images"], row["steps"],
            _percent(row["fidelity"]), _percent(row["leak"]),
            f"{_percent(row['follows'])} ({_percent(row['follows_base'])})",
            f"{row['of_base']:.2f}", f"{row['variety']:.2f} ({row['variety_base']:.2f})",
            "" if row["likeness"] is None else f"{row['likeness']:.2f}",
            "" if row["copies"] is None else f"{row['copies']} of {row['drawn']}",
            _percent(row["drawn_right"]), "" if row["kept"] is None else row["kept"],
            _percent(row["kept_right"]),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--subjects", default=CHARACTERS)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--count", type=int, default=24, help="drawings of each kind of a LoRA")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = options.work / "bootstrap.jsonl"
    bench = Bench(options.work, options.count)
    for name in options.subjects.split(","):
        measure(bench, SUBJECTS[name], options.work, options.rounds, results)
    print(table(read_results(results)))


if __name__ == "__main__":
    main()
