"""A plan as a person reads it in a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from lorasmith.core.text import quantity
from lorasmith.curation.report import render
from lorasmith.training.memory.plan import MemoryPlan
from lorasmith.training.plan import GroupRate, Plan

GRAPH_ROWS = 5
EIGHTHS = " ▁▂▃▄▅▆▇█"
SHOWN_FILES = 6


def show_plan(plan: Plan, console: Console) -> None:
    run_plan, settings = plan.run_plan, plan.run_plan.settings
    console.print(render(run_plan.report))
    console.rule("learning rate")
    console.print(_rates(plan))
    if plan.rates:
        for line in graph(plan.rates[0], run_plan.steps):
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
    adapter = plan.run_plan.settings.adapter
    table = Table(box=None, pad_edge=False)
    for heading in ("part", f"lr for {optimizer}", "alpha / rank", "layers", "trained weights"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    scale = f"{adapter.effective_alpha:g} / {adapter.rank}"
    if adapter.block_ranks or adapter.block_alphas:
        scale = "by block"
    everywhere = {rate.blocks for rate in plan.rates if rate.part == "unet"}
    for rate in plan.rates:
        # Which blocks a group lies in is worth saying where there are several.
        told = rate.blocks if adapter.blocks or len(everywhere) > 1 else ""
        name = f"{rate.name}: {told}" if told else rate.name
        table.add_row(name, f"{rate.lr:g}", scale, f"{rate.layers:,}", f"{rate.weights:,}")
    return table


def graph(rate: GroupRate, steps: int) -> list[str]:
    """Learning rate over the run, :data:`GRAPH_ROWS` lines high, of eighths of a character."""
    top = max(rate.curve) or 1.0
    heights = [round(value / top * GRAPH_ROWS * 8) for value in rate.curve]
    lines = []
    for row in reversed(range(GRAPH_ROWS)):
        label = f"{top:9.2g} " if row == GRAPH_ROWS - 1 else " " * 10
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
    kinds = ", ".join(f"{what} {size(amount)}" for what, amount in disk.items() if amount)
    table.add_row("disk", f"about {size(sum(disk.values()))}: {kinds} ({size(plan.free)} free)")
    what = "time of the steps" + (", validation included" if plan.run_plan.measured else "")
    table.add_row(what, f"about {duration(plan.seconds)}, within a factor of two")
    return table


def _memory(memory: MemoryPlan) -> Iterator[tuple[str, str]]:
    """What takes memory, and what is done by itself to take less."""
    for one in memory.estimates:
        parts = {
            "model": one.weights, "adapter": one.adapter, "optimizer": one.optimizer,
            "activations": one.activations,
        }  # fmt: skip
        told = ", ".join(f"{name} {size(amount)}" for name, amount in parts.items() if amount)
        name = "memory of a step" if one is memory.step else f"memory of {one.what}"
        yield name, f"about {size(one.total)}: {told}"
    chosen = {
        f"{memory.checkpointed} blocks computed twice": bool(memory.checkpointed),
        "pictures encoded one by one": memory.slices,
        "pictures encoded in tiles": memory.tile_encoding,
        "pictures decoded in tiles": memory.tile_decoding,
        "samples drawn one by one": memory.draw_batch == 1,
    }
    done = [what for what, is_done in chosen.items() if is_done]
    if memory.free is not None:
        yield "memory free", size(memory.free) + (f"; so {', '.join(done)}" if done else "")


def _files(plan: Plan) -> Iterator[str]:
    """Each folder with what will be in it. A flat run has two, of which one is shared."""
    settings, folder = plan.run_plan.settings, plan.folder
    names = [path.name for path in plan.files]
    if len(names) > SHOWN_FILES:
        names = [*names[:2], f"… {len(names) - 4} more", *names[-2:]]
    sample = settings.sample
    drawn = bool(sample.at_start or sample.every_epochs or sample.every_steps)
    cards = [f"{folder.name}.{kind}" for kind in ("json", "md", *(["png"] if drawn else []))]
    loras = [*names, ", ".join(cards), *([f"{folder.samples.name}/"] if drawn else [])]
    log = ["tensorboard/"] if settings.log.tensorboard else []
    own = [
        "settings.toml, run.json, dataset.json, dataset.txt", "events.jsonl, metrics.jsonl",
        ", ".join(["state/", *log]),
    ]  # fmt: skip
    parts = {folder.loras: loras, folder.path: own} if folder.flat else {folder.path: loras + own}
    for place, lines in parts.items():
        yield f"{place}/"
        yield from (f"  {line}" for line in lines)


def size(amount: float) -> str:
    """Bytes in a person's units."""
    for unit in ("B", "KB", "MB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} GB"


def duration(seconds: float) -> str:
    if seconds < 90:
        return quantity(max(1, round(seconds)), "second")
    if seconds < 5400:
        return quantity(round(seconds / 60), "minute")
    return f"{seconds / 3600:.1f} hours"
