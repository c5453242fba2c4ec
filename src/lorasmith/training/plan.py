"""What a run would do and cost, worked out without loading a model; and how that is shown."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from lorasmith.config.schema import TrainSettings
from lorasmith.config.sections.loss import PreservationSettings
from lorasmith.core.errors import Problem
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.files import free_bytes
from lorasmith.core.text import bytes_text, quantity
from lorasmith.curation.check.report import render
from lorasmith.data.holdout import BATCH
from lorasmith.models.open import OpenedCheckpoint
from lorasmith.models.skeleton import stored_shapes
from lorasmith.tensors.device import (
    Precision,
    choose_device,
    device_name,
)
from lorasmith.training.early_stopping import SHARE, judged_steps, oddities
from lorasmith.training.kinds.table import kind_of
from lorasmith.training.kinds.trained import Trained
from lorasmith.training.lr_schedules import learning_rate
from lorasmith.training.lr_search import size_for
from lorasmith.training.memory.estimates import (
    MemoryEstimate,
    Speed,
    Work,
    passes,
    speed_of,
    step_seconds,
    values_beside,
)
from lorasmith.training.memory.plan import MemoryPlan, checkpoints, memory_of, precision_of
from lorasmith.training.preservation import preservation_of
from lorasmith.training.runs.disk import disk_problems, planned_disk, planned_files
from lorasmith.training.runs.folder import RunFolder, taken_name
from lorasmith.training.runs.result_cards import own_word
from lorasmith.training.setup.base_defaults import origin_lines
from lorasmith.training.setup.base_model import open_base
from lorasmith.training.setup.preflight import RunPlan, preflight, process_count, should

BYTES = {torch.float32: 4, torch.float16: 2, torch.bfloat16: 2}
GRAPH_POINTS = 60
GRAPH_ROWS = 5
EIGHTHS = " ▁▂▃▄▅▆▇█"
SHOWN_FILES = 6


@dataclass(frozen=True, slots=True)
class GroupRate:
    """Learning rate of one group: at its full value, and at points spread evenly over the run.

    Args:
        blocks: those of the UNet that it lies in, such as "IN01-IN08, M00".
        layers: how many it changes.
        weights: trained numbers.
    """

    name: str
    part: str
    blocks: str
    lr: float
    layers: int
    weights: int
    curve: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that ``--plan`` prints.

    Args:
        folder: of the run; nothing is there yet.
        files: LoRA files that will be there at the end, the result last.
        disk: bytes by what they are for; ``free`` bytes are left on that disk now.
        seconds: of the steps alone; right within a factor of about two.
        warnings: what is unusual, and why it may not be meant.
    """

    run_plan: RunPlan
    folder: RunFolder
    device: str
    precision: Precision
    rates: tuple[GroupRate, ...]
    files: tuple[Path, ...]
    memory: MemoryPlan
    disk: dict[str, int]
    free: int
    seconds: float
    warnings: tuple[Problem, ...]


def make_plan(
    settings: TrainSettings,
    *,
    origins: Mapping[str, str] | None = None,
    is_taken: bool = False,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Plan:
    """
    Args:
        origins: where settings come from that were given, to be said.
        is_taken: another run has the device; as :func:`.memory_of`.

    Raises:
        UserError: with everything that would stop the run.
    """
    run_plan = preflight(
        settings,
        process_count(),
        to_train=True,
        origins=origins,
        observer=observer,
        controls=controls,
    )
    settings = run_plan.settings
    device = choose_device(settings.performance.device)
    precision = precision_of(run_plan, device)
    folder, files = planned_files(run_plan)
    checkpoint = open_base(settings)
    trained = trained_of(settings, checkpoint)
    rates = group_rates(run_plan, trained)
    values = sum(rate.weights for rate in rates)
    disk = planned_disk(run_plan, kind_of(settings).disk(settings, trained, checkpoint), len(files))
    free = free_bytes(folder.path)
    memory = memory_of(run_plan, device, is_taken=is_taken)
    if not memory.step.total:  # It plainly fits.
        memory = replace(memory, estimates=(rough_step(run_plan, checkpoint, values),))
    name_problems = taken_name(folder, run_plan.name, own_word(folder, settings))
    warnings = [*run_plan.warnings, *oddities(run_plan), *memory.problems, *name_problems]
    warnings += disk_problems(disk, folder, free)
    return Plan(
        run_plan,
        folder,
        device_name(device),
        precision,
        rates,
        tuple(files),
        memory,
        disk,
        free,
        planned_seconds(run_plan, precision, device, checkpointing=checkpoints(settings, memory)),
        tuple(warnings),
    )


_last_trained: list[tuple[OpenedCheckpoint, Hashable, Trained]] = []


def trained_of(settings: TrainSettings, checkpoint: OpenedCheckpoint) -> Trained:
    """What the run trains; that of the last plan where nothing that it depends on changed, since
    making it takes most of a plan's time."""
    kind = kind_of(settings)
    key = kind.plan_key(settings)
    key = None if key is None else (settings.train.kind, key)
    if _last_trained and key is not None:
        last_checkpoint, last_key, trained = _last_trained[0]
        if last_checkpoint is checkpoint and last_key == key:
            return trained
    trained = kind.planned(settings, checkpoint)
    _last_trained[:] = [] if key is None else [(checkpoint, key, trained)]
    return trained


def rough_step(run_plan: RunPlan, checkpoint: OpenedCheckpoint, values: int) -> MemoryEstimate:
    """A step of a small model, which fits many times over: from shapes alone, in float32."""
    settings = run_plan.settings
    sizes = [
        4 * math.prod(shape)
        for part in stored_shapes(checkpoint).values()
        for shape in part.values()
    ]
    architecture, dataset = run_plan.architecture, run_plan.dataset
    numbers = max(
        architecture.activations(*bucket.size, settings.model.max_tokens + 2)
        * dataset.groups[bucket.group].batch_size(settings.train.batch, 1)
        for bucket in dataset.buckets
    )
    return MemoryEstimate(
        "training step", sum(sizes), 8 * values, int(4 * values * values_beside(settings)),
        4 * numbers,
    )  # fmt: skip


def curve_steps(steps: int) -> list[int]:
    """The steps (from 0) of the points of a :class:`GroupRate`'s curve."""
    return [i * (steps - 1) // (GRAPH_POINTS - 1) for i in range(GRAPH_POINTS)]


def group_rates(run_plan: RunPlan, trained: Trained) -> tuple[GroupRate, ...]:
    """Effective learning rate of each group of parameters that is trained."""
    settings = run_plan.settings
    rate = learning_rate(settings, run_plan.steps)
    points = curve_steps(rate.steps)
    factors = [rate.factor(step) for step in points]
    blocks, rates = run_plan.architecture.blocks, []
    for group in trained.parameter_groups():
        lr = settings.optimizer.lr_of(group.part) * group.rate
        group_blocks = {blocks.block(target) for target in group.targets}
        curve = tuple(lr * factor for factor in factors)
        rates.append(
            GroupRate(
                group.name,
                group.part,
                blocks.ranges(group_blocks),
                lr,
                len(group.targets),
                group.size,
                curve,
            )
        )
    return tuple(rates)


def planned_seconds(
    run_plan: RunPlan, precision: Precision, device: torch.device, *, checkpointing: bool
) -> float:
    """Of all steps, of what is measured between them, and of looking for a rate before them."""
    speed = speed_of(device, precision.dtype)
    dataset, batch = run_plan.dataset, run_plan.settings.train.batch
    epoch = sum(
        _seconds(
            run_plan, bucket.size, len(bucket.samples), dataset.batch_count(bucket, batch),
            speed, device, precision, checkpointing=checkpointing,
            preserves=run_plan.preserves, outside=keeps_outside(run_plan),
            further=kind_of(run_plan.settings).passes(run_plan.settings),
        )
        for bucket in dataset.buckets
    )  # fmt: skip
    search = size_for(run_plan.settings, run_plan.steps, process_count())
    count = run_plan.steps + (search.steps if search is not None else 0)
    steps = epoch * count / run_plan.steps_per_epoch
    return steps + validation_seconds(run_plan, speed, precision, device)


def validation_seconds(
    run_plan: RunPlan, speed: Speed, precision: Precision, device: torch.device
) -> float:
    """Of measuring what is held out: the base model, at the start, on the way and at the end."""
    interval = run_plan.settings.validation
    if run_plan.validation_set is None or not (interval.every_epochs or interval.every_steps):
        return 0.0
    on_the_way = (
        should(interval, done, *run_plan.epoch_at(done)) for done in range(1, run_plan.steps)
    )
    times, once = 3 + sum(on_the_way), 0.0
    for bucket in run_plan.validation_set.dataset.buckets:
        samples = len(bucket.samples) * interval.timesteps
        batches = math.ceil(samples / BATCH)
        once += _seconds(run_plan, bucket.size, samples, batches, speed, device, precision)
    return times * once / 2  # Forward only.


def _seconds(
    run_plan: RunPlan,
    size: tuple[int, int],
    samples: int,
    batches: int,
    speed: Speed,
    device: torch.device,
    precision: Precision,
    *,
    checkpointing: bool = False,
    preserves: PreservationSettings | None = None,
    outside: bool = False,
    further: float = 0.0,
) -> float:
    """Of samples of one size (width, height, px), as :func:`step_seconds` has it."""
    return step_seconds(
        Work.of(run_plan.architecture, *size, run_plan.settings.model.max_tokens + 2),
        samples,
        batches,
        speed,
        device,
        precision.dtype,
        checkpointing=checkpointing,
        preserves=preserves,
        outside=outside,
        further=further,
    )


def keeps_outside(run_plan: RunPlan) -> bool:
    """Whether the base model's output is learned outside masks."""
    return run_plan.dataset.masked and run_plan.settings.loss.outside_mask == "prior"


# As a person reads it in a terminal


def show_plan(plan: Plan, console: Console) -> None:
    run_plan, settings = plan.run_plan, plan.run_plan.settings
    console.print(render(run_plan.report))
    if lines := list(origin_lines(settings, run_plan.origins)):
        console.rule("settings")
        for line in lines:
            console.print(f"• {line}", highlight=False, markup=False)
    console.rule("learning rate")
    console.print(_rates(plan))
    if (ratio := settings.optimizer.loraplus_ratio) != 1:
        console.print(
            f"(the up matrices, which start at zero, take {ratio:g} times their block's rate: "
            "optimizer.loraplus_ratio)",
            highlight=False,
        )
    if plan.rates:
        for line in graph(plan.rates[0], run_plan.steps, named=not settings.optimizer.seeks_lr):
            console.print(line, highlight=False, markup=False)
    console.rule("what it takes")
    console.print(_costs(plan))
    console.rule("what will be written")
    for line in _files(plan):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if plan.warnings:
        console.rule("worth a look")
        for problem in plan.warnings:
            console.print(f"• {problem}", style="yellow", highlight=False, markup=False)
    console.print(
        f"\nNothing has been done. Without --plan this trains {quantity(run_plan.steps, 'step')} "
        f"on {settings.model.path}.",
        highlight=False,
    )


def _rates(plan: Plan) -> Table:
    optimizer = plan.run_plan.settings.optimizer.name
    settings = plan.run_plan.settings
    kind = kind_of(settings)
    table = Table(box=None, pad_edge=False)
    for heading in ("part", f"lr for {optimizer}", kind.size_name, "layers", "trained weights"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    everywhere = {rate.blocks for rate in plan.rates if rate.part == "unet"}
    for rate in plan.rates:
        # Which blocks a group lies in is worth saying where there are several.
        blocks = rate.blocks if settings.adapter.blocks or len(everywhere) > 1 else ""
        name = f"{rate.name}: {blocks}" if blocks else rate.name
        lr = "to be found" if settings.optimizer.seeks_lr else f"{rate.lr:g}"
        size, layers = kind.size(settings, rate.part), f"{rate.layers:,}" if rate.layers else ""
        table.add_row(name, lr, size, layers, f"{rate.weights:,}")
    return table


def graph(rate: GroupRate, steps: int, *, named: bool = True) -> list[str]:
    """Learning rate over the run, :data:`GRAPH_ROWS` lines high, of eighths of a character.

    Args:
        named: whether the highest rate is a number, and not still to be found.
    """
    top = max(rate.curve) or 1.0
    heights = [round(value / top * GRAPH_ROWS * 8) for value in rate.curve]
    lines = []
    for row in reversed(range(GRAPH_ROWS)):
        label = (f"{top:9.2g} " if named else "        ? ") if row == GRAPH_ROWS - 1 else " " * 10
        label = f"{0:9} " if row == 0 else label
        lines.append(label + "".join(EIGHTHS[min(8, max(0, h - row * 8))] for h in heights))
    return [*lines, " " * 10 + "1" + f"{steps} steps".rjust(len(heights) - 1)]


def _costs(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    disk = plan.disk
    table.add_row("base model", plan.run_plan.architecture.summary)
    table.add_row("device", f"{plan.device}, {plan.precision.name} ({plan.precision.reason})")
    for what, text in _memory(plan.memory):
        table.add_row(what, text)
    kinds = ", ".join(f"{what} {bytes_text(amount)}" for what, amount in disk.items() if amount)
    table.add_row(
        "disk", f"about {bytes_text(sum(disk.values()))}: {kinds} ({bytes_text(plan.free)} free)"
    )
    if plan.run_plan.has_images:
        table.add_row("base model's output", _kept(plan))
    if judged := judged_steps(plan.run_plan):
        after = ", ".join(map(str, [*judged[:4], "…", judged[-1]] if len(judged) > 5 else judged))
        text = f"{quantity(len(judged), 'snapshot')}, after steps {after}: at most {SHARE:.0%} more"
        table.add_row("judged on the way", f"{text} time; the run may end sooner")
    search = size_for(plan.run_plan.settings, plan.run_plan.steps, process_count())
    if search is not None:
        share = search.steps / plan.run_plan.steps
        text = f"up to {search.steps:.0f} steps' time ({share:.0%}) before the first step"
        table.add_row("looking for the rate", text)
    what = "time of the steps" + (", validation included" if plan.run_plan.validation_set else "")
    table.add_row(what, f"about {duration(plan.seconds)}, within a factor of two")
    return table


def _kept(plan: Plan) -> str:
    """What is kept of the base model's output, and what that costs."""
    run_plan = plan.run_plan
    checkpointing = checkpoints(run_plan.settings, plan.memory)
    once = passes(checkpointing=checkpointing)
    preservation, why_not = preservation_of(run_plan.settings, run_plan.dataset)
    if preservation is None:
        text = f"not kept: {why_not}"
    else:
        more = passes(checkpointing=checkpointing, preserves=run_plan.preserves) / once - 1
        text = f"kept for {preservation}: about {more:.0%} more time"
    if keeps_outside(run_plan):
        text += f"; kept outside the masks: about {1 / once:.0%} more time"
    return text


def _memory(memory: MemoryPlan) -> Iterator[tuple[str, str]]:
    """What takes memory, and what is free."""
    for one in memory.estimates:
        parts = {
            "model": one.weights, "trained": one.adapter, "optimizer": one.optimizer,
            "activations": one.activations,
        }  # fmt: skip
        amounts = ", ".join(
            f"{name} {bytes_text(amount)}" for name, amount in parts.items() if amount
        )
        name = "memory of a step" if one is memory.step else f"memory of {one.what}"
        yield name, f"about {bytes_text(one.total)}: {amounts}"
    if memory.free is not None:
        ways = savings(memory)
        yield "memory free", bytes_text(memory.free) + (f"; so {', '.join(ways)}" if ways else "")


def savings(memory: MemoryPlan) -> list[str]:
    """What is done by itself to take less memory."""
    ways = {
        f"{memory.checkpointed} blocks computed twice": bool(memory.checkpointed),
        "pictures encoded one by one": memory.slices,
        "pictures encoded in tiles": memory.tile_encoding,
        "pictures decoded in tiles": memory.tile_decoding,
        "samples drawn one by one": memory.draw_batch == 1,
    }
    return [what for what, is_done in ways.items() if is_done]


def _files(plan: Plan) -> Iterator[str]:
    """Each folder with what will be in it. A flat run has two, of which one is shared."""
    settings, folder = plan.run_plan.settings, plan.folder
    names = [path.name for path in plan.files]
    if len(names) > SHOWN_FILES:
        names = [*names[:2], f"… {len(names) - 4} more", *names[-2:]]
    further = kind_of(settings).further_files(settings, folder.result)
    names += [path.relative_to(folder.loras).as_posix() for path in further]
    sample = settings.sample
    draws = bool(sample.at_start or sample.every_epochs or sample.every_steps)
    cards = [f"{folder.name}.{kind}" for kind in ("json", "md", *(["png"] if draws else []))]
    cards += [folder.strip.name] if kind_of(settings).strengths else []
    loras = [*names, ", ".join(cards), *([f"{folder.samples.name}/"] if draws else [])]
    best = ["best/"] if judged_steps(plan.run_plan) else []
    best += ["diffusers/"] if "diffusers folder" in plan.disk else []
    records = [
        "settings.toml, run.json, dataset.json, dataset.txt", "events.jsonl, metrics.jsonl",
        ", ".join(["state/", *best, *(["tensorboard/"] if settings.log.tensorboard else [])]),
    ]  # fmt: skip
    parts = (
        {folder.loras: loras, folder.path: records}
        if folder.flat
        else {folder.path: loras + records}
    )
    for place, lines in parts.items():
        yield f"{place}/"
        yield from (f"  {line}" for line in lines)


def duration(seconds: float) -> str:
    if seconds < 90:
        return quantity(max(1, round(seconds)), "second")
    if seconds < 5400:
        return quantity(round(seconds / 60), "minute")
    return f"{seconds / 3600:.1f} hours"
