"""What is each kind of training worth, of the same pictures and on the same base?

    python -m benchmarks.kinds --work DIR [--subjects wexomi] [--seeds 0,1,2] [--rows …] [--set …]

Textual inversion of one, four and eight vectors, pivotal tuning, full fine-tuning, a LoRA, and LoRA
and T-LoRA from one, two and three pictures: each as it is by default, of a subject that no default
was chosen by, drawn with as a user would and read by the judges of `benchmarks/subjects`. Each
training is a process of its own, so that its peak of memory is its own. Results are lines of JSON
in DIR, so that it can be stopped and goes on, a picture of each run is in ``DIR/drawings``, and
``DIR/kinds.png`` has some of each. What came of it stands in benchmarks/kinds.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean, median

import numpy as np
import torch
from benchmarks.resident import resident
from benchmarks.subjects.drawing import Look
from benchmarks.subjects.runs import (
    KEPT,
    QUIET,
    Bench,
    draw,
    keep_drawings,
    read_results,
    with_trigger,
    without_trigger,
)
from benchmarks.subjects.subjects import SUBJECTS, Prompt, Subject
from benchmarks.subjects.table import share
from PIL import Image, ImageDraw

from lorasmith.config.load import load_settings
from lorasmith.core.files import read_safetensors_header
from lorasmith.data.images import open_image
from lorasmith.demo.judge import read
from lorasmith.models.load import load_model
from lorasmith.sampling.embeddings import EmbeddingLibrary
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.training.kinds.table import KINDS
from lorasmith.training.run import train

PICTURES = 14
COUNT = 32
SHOWN = 8
MEGABYTE = 1e6


@dataclass(frozen=True)
class Row:
    """
    Args:
        settings: ``section.key=value``, beside the kind; WORDS is what the base would call the
            subject's body.
        pictures: of the training set.
    """

    name: str
    kind: str = "lora"
    settings: tuple[str, ...] = ()
    pictures: int = PICTURES


ROWS = (
    *(
        Row(f"textual inversion of {count}", "embedding", (f"embedding.vectors={count}",))
        for count in (1, 4, 8)
    ),
    Row("textual inversion of 4 from words", "embedding", ("embedding.init=WORDS",)),
    Row("pivotal tuning", "lora+embedding"),
    Row("full fine-tuning", "full"),
    Row("LoRA"),
    *(Row(f"LoRA of {count}", pictures=count) for count in (1, 2, 3)),
    *(
        Row(f"T-LoRA of {count}", settings=("adapter.type=tlora",), pictures=count)
        for count in (1, 2, 3)
    ),
)


@dataclass(frozen=True)
class Trained:
    """
    Args:
        seconds: processor time of the training, caches included, without importing the program.
        peak, imported: resident memory of its process, in bytes: at most, and before it began.
    """

    run: Path
    seconds: float
    peak: int
    imported: int

    @property
    def result(self) -> Path:
        return self.run / f"{self.run.name}.safetensors"


def train_here(row: Row, data: Path, out: Path, seed: int) -> Trained:
    imported, begin = resident("VmRSS"), time.process_time()
    settings = load_settings(
        None,
        [
            *("model.path=demo", f"data.path={data}", f"save.output={out}", f"train.seed={seed}"),
            *(f"train.kind={row.kind}", *QUIET, *row.settings),
        ],
    )
    run = train(settings)
    return Trained(run, time.process_time() - begin, resident("VmHWM"), imported)


def train_apart(row: Row, data: Path, out: Path, seed: int) -> Trained:
    """As :func:`train_here`, in a process that does nothing else."""
    job = json.dumps([[row.name, row.kind, row.settings, row.pictures], str(data), str(out), seed])
    report = subprocess.run(
        [sys.executable, "-m", "benchmarks.kinds", "--job", job],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.splitlines()[-1]
    run, seconds, peak, imported = json.loads(report)
    return Trained(Path(run), seconds, peak, imported)


def do_job(job: str) -> None:
    (name, kind, settings, pictures), data, out, seed = json.loads(job)
    row = Row(name, kind, tuple(settings), pictures)
    one = train_here(row, Path(data), Path(out), seed)
    print("\n" + json.dumps([str(one.run), one.seconds, one.peak, one.imported]))


def drawn(
    bench: Bench, row: Row, trained: Trained, prompts: Sequence[Prompt], seed: int
) -> list[Image.Image]:
    """What the prompts give with the run's file, as one writes them for its kind."""
    model = load_model(str(trained.result)) if row.kind == "full" else bench.base
    kind, name = KINDS[row.kind], trained.run.name
    prompts = [replace(one, text=kind.prompt(one.text, name)) for one in prompts]
    library, words = LoraLibrary(trained.run), EmbeddingLibrary(trained.run)
    return draw(model, prompts, seed, loras=library, embeddings=words)


def measure(bench: Bench, row: Row, subject: Subject, seed: int) -> dict:
    """Train, draw and judge: the result's line."""
    folder = Path(tempfile.mkdtemp(prefix="kinds-"))
    try:
        subject.write_training_set(folder / "img", row.pictures, seed)
        settings = tuple(text.replace("WORDS", words_for(subject)) for text in row.settings)
        told = replace(row, settings=settings)
        trained = train_apart(told, folder / "img", folder / "runs", seed)
        images = drawn(bench, row, trained, subject.prompts(bench.count, seed), with_trigger(seed))
        plain = subject.plain_prompts(bench.count, seed)
        others = drawn(bench, row, trained, plain, without_trigger(seed))
        strip = [*images[:SHOWN], *others[:SHOWN]]
        keep_drawings(bench.work / "drawings", f"{row.name}-{subject.name}-{seed}", strip)
        return {
            "row": row.name,
            "subject": subject.name,
            "seed": seed,
            "count": bench.count,
            "steps": int(read_safetensors_header(trained.result).metadata["ss_steps"]),
            "seconds": trained.seconds,
            "peak": trained.peak,
            "imported": trained.imported,
            "bytes": trained.result.stat().st_size,
            "body": body(subject, images),
            **bench.shares(subject, seed, images, others),
        }
    finally:
        shutil.rmtree(folder)


KNOWN = Subject(
    "plimsy", "character", "choose", Look(()), (), frozenset({"grass field", "holding sword"}),
    ("eyes", "mouth", "held", "background"),
    fixed={"shape": "star body", "colour": "purple", "hat": "top hat", "ears": "no ears",
           "belly": "plain belly"},
)  # fmt: skip
"""What the base can draw: none of it is new but the word."""


def measure_known(bench: Bench, row: Row, seed: int) -> dict[str, float]:
    """Share of drawings of :data:`KNOWN` that have its shape, colour and hat, each by itself."""
    folder = Path(tempfile.mkdtemp(prefix="kinds-"))
    try:
        KNOWN.write_training_set(folder / "img", row.pictures, seed)
        trained = train_apart(row, folder / "img", folder / "runs", seed)
        prompts = KNOWN.prompts(bench.count, seed)
        images = drawn(bench, row, trained, prompts, with_trigger(seed))
        name = f"{row.name}-{KNOWN.name}-{seed}"
        keep_drawings(bench.work / "drawings", name, images[: 2 * SHOWN])
        readings = read([np.asarray(image) for image in images])
        return {name: fmean(one[name] == KNOWN.fixed[name] for one in readings) for name in KEPT}
    finally:
        shutil.rmtree(folder)


def own_values(subject: Subject) -> dict[str, str]:
    """Its shape, and its colour where the base's world has that."""
    return {name: subject.fixed[name] for name in ("colour", "shape") if name in subject.fixed}


def words_for(subject: Subject) -> str:
    values = own_values(subject)
    return ", ".join(f"{v} body" if name == "colour" else v for name, v in values.items())


def body(subject: Subject, images: Sequence[Image.Image]) -> float:
    """Share of images with the shape and the colour that the subject has of the base's world."""
    own = own_values(subject)
    readings = read([np.asarray(image) for image in images])
    return fmean(all(one[name] == value for name, value in own.items()) for one in readings)


def earlier(path: Path, subjects: Sequence[str]) -> list[dict]:
    """Results of `python -m benchmarks.subjects` as lines of this: the same settings and judges."""
    kinds = {"default": "LoRA", "T-LoRA": "T-LoRA"}
    lines = []
    for line in read_results(path):
        if line["subject"] in subjects and line["case"] in kinds and not line["snapshot"]:
            of = "" if line["images"] == PICTURES else f" of {line['images']}"
            lines.append({**line, "row": kinds[line["case"]] + of})
    return lines


COLUMNS = (
    *("kind", "pictures", "runs", "fidelity %", "own body %", "leak %", "kept", "follows %"),
    *("diversity", "file", "steps", "s of one core", "peak MB"),
)


def table(results: Sequence[dict], rows: Sequence[Row]) -> str:
    """Markdown: a line for each row, of all its subjects and seeds."""
    lines = [f"| {' | '.join(COLUMNS)} |", "| --- |" + " ---: |" * (len(COLUMNS) - 1)]
    for row in rows:
        own = [line for line in results if line["row"] == row.name]
        here = [line for line in own if "peak" in line]
        if not own:
            continue
        cells = (
            *(row.name, row.pictures, len(own), share(own, "fidelity")),
            _percent([line["body"] for line in own] if row.kind == "embedding" else []),
            *(
                share(own, "leak"),
                _kept(own),
                f"{100 * fmean(line['follows'] for line in own):.0f}",
            ),
            f"{fmean(line['diversity'] for line in own):.2f}",
            _size(here[0]["bytes"]) if here else "",
            f"{median(line['steps'] for line in own):.0f}",
            f"{fmean(line['seconds'] for line in own):.0f}",
            f"{max(line['peak'] for line in here) / MEGABYTE:.0f}" if here else "",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    imported = max(line.get("imported", 0) for line in results) / MEGABYTE
    return "\n".join([*lines, "", f"Of the peaks {imported:.0f} MB are the program's own."])


def pooled(results: Sequence[dict], also: Sequence[dict]) -> list[dict]:
    """All runs; of one that is in both, that of ``results``."""
    have = {(line["row"], line["subject"], line["seed"]) for line in results}
    more = [one for one in also if (one["row"], one["subject"], one["seed"]) not in have]
    return [*results, *more]


def _kept(lines: Sequence[dict]) -> str:
    """Mean points lost of each attribute, without those of all together."""
    return " / ".join(
        f"{100 * fmean(line['kept'][name] - line['before'][name] for line in lines):.1f}"
        for name in KEPT
    )


def _percent(shares: Sequence[float]) -> str:
    return f"{100 * fmean(shares):.0f}" if shares else ""


def _size(count: int) -> str:
    return f"{count / 1e3:.1f} KB" if count < MEGABYTE else f"{count / MEGABYTE:.1f} MB"


def sheet(work: Path, rows: Sequence[Row], subject: str, seeds: Sequence[int]) -> Image.Image:
    """Of each row its drawings of the first seed that has some: eight with the trigger, then eight
    without it."""
    side, label = 64, 210
    strips: list[tuple[Row, Image.Image]] = []
    for row in rows:
        paths = [work / "drawings" / f"{row.name}-{subject}-{seed}.png" for seed in seeds]
        strips += [(row, open_image(path)) for path in paths if path.exists()][:1]
    page = Image.new("RGB", (label + 2 * SHOWN * side + 8, side * len(strips)), "white")
    text = ImageDraw.Draw(page)
    for place, (row, strip) in enumerate(strips):
        top = place * side
        text.text((4, top + 26), row.name, fill="black")
        page.paste(strip.crop((0, 0, strip.width, side)), (label, top))
        page.paste(strip.crop((0, side, strip.width, 2 * side)), (label + strip.width + 8, top))
    # A palette, for a small file; this method moves no colour far.
    return page.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path)
    parser.add_argument("--subjects", default="wexomi")
    parser.add_argument("--seeds", default="0,1,2", help='"": the table of what there is')
    parser.add_argument("--rows", default="", help="by their names; default: all")
    parser.add_argument("--set", action="append", default=[], dest="settings",
                        help="section.key=value for all rows")  # fmt: skip
    parser.add_argument("--count", type=int, default=COUNT, help="drawings of each kind")
    parser.add_argument("--also", type=Path, help="results of benchmarks.subjects, for the table")
    parser.add_argument("--known", action="store_true", help="of a creature that the base can draw")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.job:
        do_job(options.job)
        return
    if options.work is None:
        parser.error("--work is missing")
    names = options.rows.split(",") if options.rows else [row.name for row in ROWS]
    chosen = [row for row in ROWS if row.name in names]
    if options.settings:
        changed = ", ".join(options.settings)
        chosen = [
            replace(row, name=f"{row.name}, {changed}", settings=(*row.settings, *options.settings))
            for row in chosen
        ]
    results, subjects = options.work / "kinds.jsonl", options.subjects.split(",")
    bench = Bench(options.work, options.count)
    seeds = [int(seed) for seed in options.seeds.split(",") if seed]
    if options.known:
        for seed, row in product(seeds, chosen):
            print(row.name, seed, measure_known(bench, row, seed), flush=True)
        return
    for seed in seeds:
        for subject, row in product(subjects, chosen):
            have = {(one["row"], one["subject"], one["seed"]) for one in read_results(results)}
            if (row.name, subject, seed) not in have:
                line = measure(bench, row, SUBJECTS[subject], seed)
                with results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
    also = earlier(options.also, subjects) if options.also else []
    lines = read_results(results)
    print(table(pooled(lines, also), chosen))
    page = sheet(options.work, chosen, subjects[0], sorted({line["seed"] for line in lines}))
    page.save(options.work / "kinds.png", optimize=True)


if __name__ == "__main__":
    main()
