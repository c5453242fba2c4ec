"""LoRA and T-LoRA from 1, 2, 3 and 6 images: what they learn, what leaks, what they still vary.

    python benchmarks/few_images.py --work DIR [--subjects NAME …] [--counts 1 2 3 6]
        [--types lora tlora] [--drawings 64] [--set section.key=value …]

Trains the demo model on the first images of subjects of benchmarks/subjects, draws with the trigger
and without it, and lets the judges read the drawings. Rows are kept in DIR and not made again; the
table is written to benchmarks/few_images.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.subjects.judges import Judges, train_or_load
from benchmarks.subjects.subjects import SUBJECTS, Prompt, Subject, of_split
from PIL import Image

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.load import load_settings
from lorasmith.core.files import write_text
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.load import load_model
from lorasmith.sampling.generate import generate
from lorasmith.sampling.request import ImageRequest
from lorasmith.training.run import train

REPORT = Path(__file__).with_suffix(".md")
STEPS, CFG, SAMPLER = 20, 3.0, "ddim"
SETTINGS = ("optimizer.lr=2e-3", "train.batch=4")


@dataclass(frozen=True)
class Row:
    """Shares, 0 to 1, of drawings; ``diversity`` 1 is as varied as drawings of the same prompts.

    Args:
        adapter: its type.
        follows: attributes as asked, in prompts without the trigger.
        seconds: processor time of the training.
    """

    subject: str
    images: int
    adapter: str
    fidelity: float
    leak: float
    follows: float
    diversity: float
    steps: int
    seconds: float


def draw(model: DiffusionModel, prompts: Sequence[Prompt], seed: int) -> list[Image.Image]:
    requests = [
        ImageRequest(prompt.text, "", seed + i, STEPS, CFG, SAMPLER)
        for i, prompt in enumerate(prompts)
    ]
    return [one.image for one in sorted(generate(model, requests), key=lambda one: one.index)]


def trained(
    subject: Subject, count: int, adapter: str, overrides: Sequence[str], work: Path
) -> tuple[Path, float]:
    """A LoRA of the subject's first images, and the seconds of processor time that it took."""
    subject.write_training_set(work / "data", count)
    settings = load_settings(
        None,
        [
            "model.path=demo",
            f"data.path={work / 'data'}",
            f"save.output={work / 'runs'}",
            "sample.every_epochs=0",
            "sample.at_start=false",
            f"adapter.type={adapter}",
            *SETTINGS,
            *overrides,
        ],
    )
    begin = time.process_time()
    run = train(settings)
    return run / f"{run.name}.safetensors", time.process_time() - begin


def judged(
    model: DiffusionModel,
    judges: Judges,
    subject: Subject,
    count: int,
    adapter: str,
    overrides: Sequence[str],
    drawings: int,
) -> Row:
    with tempfile.TemporaryDirectory() as work:
        path, seconds = trained(subject, count, adapter, overrides, Path(work))
        file = load_lora(path)
    asked, plain = subject.prompts(drawings), subject.plain_prompts(drawings)
    with AdapterNetwork.load(file.tensors, model.adapter_roots()).attached():
        with_trigger, without = draw(model, asked, 1000), draw(model, plain, 2000)
    reference = [one.image for one in subject.held_out_images(drawings)]
    return Row(
        subject.name,
        count,
        adapter,
        judges.fidelity(subject, with_trigger),
        judges.leak(subject, without),
        judges.follows(plain, without),
        judges.diversity(with_trigger, reference),
        int(file.metadata["ss_steps"]),
        seconds,
    )


def table(rows: Sequence[Row], drawings: int, overrides: Sequence[str]) -> str:
    lines = [
        "# From few images: LoRA and T-LoRA",
        "",
        (
            f"`python benchmarks/few_images.py`, {', '.join([*SETTINGS, *overrides])}; the rest by "
            f"default. {drawings} drawings with the trigger and as many without, {SAMPLER} {STEPS} "
            f"steps, CFG {CFG:g}, strength 1, all ranks at all noise levels; one seed a row."
        ),
        "",
        (
            "| subject | images | adapter | fidelity | leak | as asked without trigger | diversity "
            "| steps | CPU seconds |"
        ),
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in sorted(rows, key=lambda one: (one.subject, one.images, one.adapter)):
        shares = (row.fidelity, row.leak, row.follows)
        lines.append(
            f"| {row.subject} | {row.images} | {row.adapter} | "
            + " | ".join(f"{100 * share:.0f} %" for share in shares)
            + f" | {row.diversity:.2f} | {row.steps} | {row.seconds:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="keeps judges and rows")
    usual = [subject.name for subject in of_split("choose", "character")[:2]]
    parser.add_argument("--subjects", nargs="+", default=usual)
    parser.add_argument("--counts", nargs="+", type=int, default=[1, 2, 3, 6])
    parser.add_argument("--types", nargs="+", default=["lora", "tlora"])
    parser.add_argument("--drawings", type=int, default=64)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    options = parser.parse_args()
    judges, model = train_or_load(options.work), load_model("demo")
    kept = options.work / "few_images.jsonl"
    rows: list[Row] = []
    if kept.is_file():
        rows = [Row(**json.loads(line)) for line in kept.read_text().splitlines()]
    done = {(row.subject, row.images, row.adapter) for row in rows}
    for name in options.subjects:
        for count in options.counts:
            for adapter in options.types:
                if (name, count, adapter) in done:
                    continue
                row = judged(
                    model, judges, SUBJECTS[name], count, adapter, options.overrides,
                    options.drawings,
                )  # fmt: skip
                rows.append(row)
                with kept.open("a") as file:
                    file.write(json.dumps(asdict(row)) + "\n")
                print(row, flush=True)
    text = table(rows, options.drawings, options.overrides)
    write_text(REPORT, text)
    print(text)


if __name__ == "__main__":
    main()
