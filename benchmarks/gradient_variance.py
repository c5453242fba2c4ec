"""What takes chance out of the gradient, and whether anything is learned sooner for it.

    python -m benchmarks.gradient_variance [--part variance|held-out|page] [--seeds 3] [--steps 120]

Five of the subjects in benchmarks/subjects, 14 images each. For every option: how far
the gradient of a step, and that of ten steps together, is from its mean, at fixed weights; and the
loss on images that were not trained on, after a short training. Finished rows are kept in --work,
so that what was stopped goes on. Writes benchmarks/gradient_variance.md.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

import torch
from benchmarks.subjects.subjects import SUBJECTS, Drawing
from torch import Tensor

from lorasmith.config.load import load_settings
from lorasmith.core.events import Controls, ignore
from lorasmith.core.files import write_json, write_text
from lorasmith.diffusion.timesteps import even_timesteps
from lorasmith.measures.features import encode
from lorasmith.tensors.device import choose_device
from lorasmith.tensors.rng import normal_per_sample
from lorasmith.training.batches import step_input
from lorasmith.training.eval_weights import eval_weights
from lorasmith.training.memory.plan import memory_of
from lorasmith.training.objective import prediction_error
from lorasmith.training.runs.folder import new_run_folder
from lorasmith.training.setup.build import Run, build_run
from lorasmith.training.setup.context import RunContext
from lorasmith.training.setup.preflight import preflight
from lorasmith.training.setup.processes import Processes

HERE = Path(__file__).parent
TRAINING, HELD_OUT, REPEATS = 14, 12, 10
NOISE_LEVELS = 8
REMARKS = """\
Strata over steps and images took 5 to 11 % off the variance of a step, on three subjects, so
little of it comes of the noise levels. Antithetic noise and the nearest of four took nothing
off that could be told from chance, on two; the mean of the latter is another one. A row of
fewer than five subjects was not measured to its end, and its ratios are uncertain by about a
tenth. The loss on held-out images was not measured, so nothing here shows that a run learns
sooner."""
BEFORE = 20  # steps of training, the same for all, before gradients are looked at
LOOKED_AT = 40  # steps whose gradients are looked at
TOGETHER = 10  # about what AdamW's first average is over


# Three characters, a style and a concept, of those that settings may be chosen by.
NAMES = ("vellu", "quorble", "mibbet", "gloam", "velorb")

# Settings on top of the preset demo. Those of the first group leave the mean gradient as it is.
UNBIASED = {
    "as it was": (),
    "strata: batch": ("loss.timestep_strata=batch",),
    "strata: image": ("loss.timestep_strata=image",),
    "strata: both": ("loss.timestep_strata=both",),
    "antithetic": ("loss.antithetic_noise=true",),
    "importance, strata: both": ("loss.timesteps=importance", "loss.timestep_strata=both"),
}
BIASED = {"nearest of 4": ("loss.noise_candidates=4",)}
# What is weighed, how the weights move and what is kept of them: no matter of one gradient.
OTHERS = {
    "LoRA+ 4": ("optimizer.loraplus_ratio=4",),
    "EMA 0.9": ("train.ema=0.9",),
    "warm-up 8": ("schedule.warmup=8",),
    "debiased": ("loss.debiased=true", "loss.min_snr_gamma=0"),
    "no min-SNR": ("loss.min_snr_gamma=0",),
}


def build(data: Path, work: Path, steps: int, overrides: tuple[str, ...], seed: int = 0) -> Run:
    base = (
        *(f"data.path={data}", f"save.output={work / 'runs'}", f"train.steps={steps}"),
        *("sample.every_epochs=0", "sample.at_start=false", f"train.seed={seed}"),
        "preservation.enabled=false",
    )
    plan = preflight(load_settings(None, [*base, *overrides], "demo"), to_train=True)
    processes = Processes(choose_device(plan.settings.performance.device))
    folder = new_run_folder(work / "runs", "run", plan.settings.save.layout)
    memory = memory_of(plan, processes.device)
    return build_run(RunContext(plan, folder, processes, memory, ignore, Controls()))


def advance(run: Run, steps: range) -> None:
    for step in steps:
        batches, total = step_input(run.batches, step, run.trainer.interventions)
        run.trainer(step, batches, total)


def gradients(run: Run, steps: range) -> Iterator[Tensor]:
    """Of each step, all trained numbers in one row; the weights stay."""
    trainer = run.trainer
    for step in steps:
        for group in trainer.groups:
            group.grad.zero_()
        batches, total = step_input(run.batches, step, trainer.interventions)
        for batch in batches:
            (trainer.objective.loss_sum(run.model, batch, step) / total).backward()
        yield torch.cat([group.grad.flatten().clone() for group in trainer.groups])


def look_at(subject: str, name: str, work: Path) -> None:
    """Leave the gradients of an option on a subject, (LOOKED_AT, trained numbers), in ``work``."""
    path = work / f"gradients-{subject}-{name}.pt"
    if path.exists():
        return
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        SUBJECTS[subject].write_training_set(data, TRAINING, repeats=REPEATS)
        weights = work / f"weights-{subject}.pt"
        if not weights.exists():
            first = build(data, work, BEFORE + LOOKED_AT, ())
            advance(first, range(BEFORE))
            torch.save([group.flat.detach().clone() for group in first.trainer.groups], weights)
        run = build(data, work, BEFORE + LOOKED_AT, {**UNBIASED, **BIASED}[name])
        with torch.no_grad():
            for group, flat in zip(run.trainer.groups, torch.load(weights), strict=True):
                group.flat.copy_(flat)
        rows = torch.stack(list(gradients(run, range(BEFORE, BEFORE + LOOKED_AT))))
    torch.save(rows, path)
    print(subject, name, flush=True)


def measure_variance(subject: str, work: Path) -> dict[str, dict[str, float]]:
    """By option that was looked at: variance of a step and of ten together (times ten), and how far
    the mean is from that of the unbiased options; all over the squared norm of that mean."""
    rows = {
        name: torch.load(path)
        for name in (*UNBIASED, *BIASED)
        if (path := work / f"gradients-{subject}-{name}.pt").exists()
    }
    if "as it was" not in rows:
        return {}
    mean = torch.cat([row for name, row in rows.items() if name in UNBIASED]).mean(0)
    scale = float(mean.square().sum())
    return {
        name: {
            "step": variance(row) / scale,
            "ten": TOGETHER * variance(row.unflatten(0, (-1, TOGETHER)).mean(1)) / scale,
            "off": math.sqrt(float((row.mean(0) - mean).square().sum()) / scale),
        }
        for name, row in rows.items()
    }


def variance(rows: Tensor) -> float:
    """Of rows of numbers about their own mean, unbiased, summed over the numbers."""
    return float(rows.var(0).sum())


def held_out_loss(run: Run, images: Sequence[Drawing]) -> float:
    """Mean squared error over images and noise levels, on noise that is the same for all runs."""
    schedule, losses = run.trainer.objective.schedule, []
    t = even_timesteps(NOISE_LEVELS, schedule.num_timesteps)
    with torch.no_grad(), eval_weights(run.trainer):
        for number, drawing in enumerate(images):
            latents = encode(run.model, drawing.image).expand(NOISE_LEVELS, -1, -1, -1)
            noise = normal_per_sample(latents.shape[1:], 99, "held out", number, range(len(t)))
            text = run.model.encode_text([drawing.caption] * NOISE_LEVELS)
            losses.append(prediction_error(run.model, schedule, latents, noise, t, text).mean())
    return float(torch.stack(losses).mean())


def measure_held_out(
    subject: str, overrides: tuple[str, ...], seed: int, steps: int, work: Path
) -> dict[str, float]:
    """The loss after a training that is stopped halfway, where differences are largest."""
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        SUBJECTS[subject].write_training_set(data, TRAINING, seed, REPEATS)
        run = build(data, work, 2 * steps, overrides, seed)
        advance(run, range(steps))
        return {"loss": held_out_loss(run, SUBJECTS[subject].held_out_images(HELD_OUT))}


def kept(path: Path, work: Callable[[], dict]) -> dict:
    """What ``path`` has, or what ``work`` gives, which is then written there."""
    if not path.exists():
        write_json(path, work())
        print(path.stem, path.read_text(encoding="utf-8"), flush=True)
    return json.loads(path.read_text(encoding="utf-8"))


def variance_lines(rows: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """``rows`` by subject, then by option."""
    lines = []
    for name in (*UNBIASED, *BIASED):
        having = [row for row in rows.values() if name in row]
        if not having:
            continue
        cells = []
        for key in ("step", "ten"):
            ratios = [row[name][key] / row["as it was"][key] for row in having]
            cell = f"{fmean(row[name][key] for row in having):.2f}"
            if name != "as it was":
                cell += f", {fmean(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            cells.append(cell)
        off = fmean(row[name]["off"] for row in having)
        chance = fmean(math.sqrt(row[name]["ten"] / LOOKED_AT) for row in having)
        lines.append(
            f"| {name} | {len(having)} | {cells[0]} | {cells[1]} | {off:.2f} | {chance:.2f} |"
        )
    return lines


def held_out_lines(found: dict[str, dict[tuple[str, str], float]]) -> list[str]:
    """A line for each option that was measured; ``found`` by option, then by seed and subject."""
    plain = found["as it was"]
    lines = []
    for name, losses in found.items():
        pairs = [(loss, plain[key]) for key, loss in losses.items() if key in plain]
        if not pairs:
            continue
        changes = [100 * (loss / other - 1) for loss, other in pairs]
        mean = f"{fmean(loss for loss, _ in pairs):.4f}"
        if name == "as it was":
            lines.append(f"| {name} | {len(pairs)} | {mean} | | |")
            continue
        error = stdev(changes) / math.sqrt(len(changes)) if len(changes) > 1 else math.nan
        change = f"{fmean(changes):+.1f} ± {error:.1f} %"
        better = sum(each < 0 for each in changes)
        lines.append(f"| {name} | {len(pairs)} | {mean} | {change} | {better} of {len(pairs)} |")
    return lines


def page(
    looks: dict[str, dict[str, dict[str, float]]],
    held_out: dict[str, dict[tuple[str, str], float]],
    steps: int,
) -> str:
    setting = (
        f"Subjects that the demo's base has never seen ({', '.join(NAMES)}, of "
        f"benchmarks/subjects), {TRAINING} images of each, {REPEATS} repeats, the preset `demo` "
        "(batches of 8, LoRA of rank 16, AdamW). The options are settings on top of it; none of "
        "them costs time."
    )
    about_variance = (
        f"At the weights after {BEFORE} steps, {LOOKED_AT} steps for each option and subject: the "
        "mean squared distance of a step's gradient from its mean, over the squared norm of the "
        f"mean; then the same of {TOGETHER} consecutive steps together, times {TOGETHER}. The "
        "second number of a column is the ratio to plain draws, averaged over the subjects (and "
        "its range). *Off* is the distance of the option's own mean from that of all that are "
        "unbiased; *chance* is about what it would be by chance alone."
    )
    about_loss = (
        f"{HELD_OUT} images of the subject, {NOISE_LEVELS} noise levels each, the noise the same "
        f"for all, after {steps} of {2 * steps} steps. *Change*: of the loss against the run of "
        "the same subject and seed with plain draws, and its standard error; less is better. "
        "*Better*: in how many of the runs it is less."
    )
    lines = ["# Less chance in the gradient", "", "`python -m benchmarks.gradient_variance`", ""]
    lines += [setting, "", "## Variance of the gradient", "", about_variance, ""]
    lines += ["| option | subjects | one step | ten steps | off | chance |"]
    lines += ["|---|---:|---:|---:|---:|---:|", *variance_lines(looks), ""]
    if losses := held_out_lines(held_out):
        lines += ["## Loss on images that were not trained on", "", about_loss, ""]
        lines += ["| option | runs | loss | change | better |", "|---|---:|---:|---:|---:|"]
        lines += [*losses, ""]
    return "\n".join([*lines, REMARKS, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=["variance", "held-out", "page"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "variance-rows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    if options.part in (None, "variance"):
        for subject, name in product(NAMES, (*UNBIASED, *BIASED)):
            look_at(subject, name, work)
    choices = {**UNBIASED, **BIASED, **OTHERS}
    if options.part in (None, "held-out"):
        for seed, name, subject in product(range(options.seeds), choices, NAMES):
            kept(
                work / f"held-out-{seed}-{name}-{subject}.json",
                partial(measure_held_out, subject, choices[name], seed, options.steps, work),
            )
    looks = {subject: row for subject in NAMES if (row := measure_variance(subject, work))}
    held_out = {
        name: {
            (seed, subject): json.loads(path.read_text(encoding="utf-8"))["loss"]
            for path in sorted(work.glob(f"held-out-*-{name}-*.json"))
            for _, _, seed, *_, subject in [path.stem.split("-")]
        }
        for name in choices
    }
    write_text(HERE / "gradient_variance.md", page(looks, held_out, options.steps))


if __name__ == "__main__":
    main()
