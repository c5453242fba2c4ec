"""What training would do, as values for programs and forms; and the command line that does it.

Importing this imports no torch; making a plan does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from lorasmith.config.dump import toml_value
from lorasmith.config.fields import NONE
from lorasmith.config.kinds import KINDS
from lorasmith.config.load import LoadedSettings, Override, load_settings, parse_value
from lorasmith.config.schema import SHORT_OPTIONS, TrainSettings, all_settings, value_of
from lorasmith.core.errors import Problem, UserError
from lorasmith.core.events import ignore
from lorasmith.core.file_names import shell_word
from lorasmith.core.files import user_path
from lorasmith.jobs.runs.records import ProblemRecord, problem_records
from lorasmith.jobs.runs.settings import values_of
from lorasmith.jobs.training import PlanRequest

if TYPE_CHECKING:
    from lorasmith.training.memory.estimates import MemoryEstimate
    from lorasmith.training.plan import Plan


class PlanPart(BaseModel):
    model_config = ConfigDict(frozen=True)


class PlannedFolder(PlanPart):
    """A folder of images; ``samples`` are the uses of all its images in an epoch."""

    path: str
    reg: bool
    pictures: int
    repeats: int
    samples: int
    captions: int


class PlannedBucket(PlanPart):
    """One size (px) that images are brought to; ``worst_crop`` is a share of the area, 0 to 1."""

    width: int
    height: int
    pictures: int
    samples: int
    batches: int
    worst_crop: float


class PlannedRate(PlanPart):
    """Learning rate of one group of parameters.

    Args:
        lr: at its full value; ``None`` where it is still to be found.
        steps, curve: points over the run: the step (from 0), and the rate there.
    """

    name: str
    part: str
    blocks: str
    lr: float | None
    layers: int
    weights: int
    steps: list[int]
    curve: list[float]


class PlannedMemory(PlanPart):
    """Bytes on the device at the peak of one thing that a run does."""

    what: str
    weights: int
    adapter: int
    optimizer: int
    activations: int
    total: int


class PlanRecord(PlanPart):
    """Everything that ``lorasmith train --plan`` says.

    Args:
        folder: of the run; nothing is there yet.
        steps, epochs, steps_per_epoch: optimizer steps and times through all images.
        arithmetic: how the steps come about, in words.
        length: why it is so long, where that was worked out; else "".
        settings: value by path, as the run will have them.
        origins: of settings that are not as by default: who chose them.
        memory: of everything that the run does on the device, the training step first.
        memory_free, memory_total: bytes there now, and in all; ``None`` where that cannot be told.
        search_steps: how many steps' time goes into looking for the rate before the first one.
        judged: steps after which snapshots are judged, as the run may end sooner.
        savings: what is done by itself to take less memory.
        seconds: of the steps, right within a factor of two.
        disk: bytes by what they are for; ``disk_free`` are left there.
        files: LoRA files that will be there at the end, the result last.
        warnings: what is unusual, and why it may not be meant.
    """

    name: str
    folder: str
    steps: int
    epochs: int
    steps_per_epoch: int
    arithmetic: str
    length: str
    augmentation: str
    triggers: list[str]
    held_out: list[str]
    pictures: int
    folders: list[PlannedFolder]
    buckets: list[PlannedBucket]
    rates: list[PlannedRate]
    base: str
    device: str
    precision: str
    precision_reason: str
    memory: list[PlannedMemory]
    memory_free: int | None
    memory_total: int | None
    search_steps: float
    judged: list[int]
    savings: list[str]
    seconds: float
    disk: dict[str, int]
    disk_free: int
    files: list[str]
    settings: dict[str, Any]
    origins: dict[str, str]
    warnings: list[ProblemRecord]


class PlanAnswer(PlanPart):
    """A plan, or what is in its way; and the command line that trains so.

    Args:
        plan: ``None`` where ``problems`` say why it cannot be.
        problems: ``where`` is the setting's path where it is about one.
        job: the same as values of a :class:`lorasmith.jobs.training.TrainRequest`, JSON-ready.
    """

    ok: bool
    plan: PlanRecord | None = None
    problems: list[ProblemRecord] = []
    command: str = ""
    job: dict[str, Any] = {}

    @classmethod
    def to(
        cls, request: PlanRequest, problems: Sequence[Problem] = (), plan: PlanRecord | None = None
    ) -> PlanAnswer:
        """To a request: its plan, or what is in its way."""
        return cls(
            ok=not problems,
            plan=plan,
            problems=problem_records(problems),
            command=command_line(request),
            job={
                "config": str(request.config) if request.config is not None else None,
                "preset": request.preset,
                "settings": [
                    one if isinstance(one, str) else f"{one.path}={one.text}"
                    for one in request.settings
                ],
            },
        )


def plan_record(plan: Plan) -> PlanRecord:
    """The plan as JSON-ready values."""
    from lorasmith.tensors.device import choose_device, total_memory
    from lorasmith.training.early_stopping import judged_steps
    from lorasmith.training.lr_search import size_for
    from lorasmith.training.plan import curve_steps, savings
    from lorasmith.training.setup.preflight import process_count

    run_plan, settings = plan.run_plan, plan.run_plan.settings
    report, seeks = run_plan.report, settings.optimizer.seeks_lr
    points = curve_steps(run_plan.steps)
    search = size_for(settings, run_plan.steps, process_count())
    return PlanRecord(
        name=plan.folder.name,
        folder=str(plan.folder.path),
        steps=run_plan.steps,
        epochs=run_plan.epochs,
        steps_per_epoch=run_plan.steps_per_epoch,
        arithmetic=str(report.steps),
        length=report.length,
        augmentation=str(report.augmentation),
        triggers=[str(trigger) for trigger in report.triggers],
        held_out=[str(path) for path in report.held_out],
        pictures=len(report.pictures),
        folders=[
            PlannedFolder(
                path=str(row.path), reg=row.reg, pictures=row.pictures, repeats=row.repeats,
                samples=row.samples, captions=row.captions,
            )
            for row in report.folders
        ],
        buckets=[PlannedBucket(**asdict(row)) for row in report.buckets],
        rates=[
            PlannedRate(
                name=rate.name, part=rate.part, blocks=rate.blocks,
                lr=None if seeks else rate.lr, layers=rate.layers, weights=rate.weights,
                steps=points, curve=list(rate.curve),
            )
            for rate in plan.rates
        ],
        base=run_plan.architecture.summary,
        device=plan.device,
        precision=plan.precision.name,
        precision_reason=plan.precision.reason,
        memory=[_memory(one) for one in plan.memory.estimates],
        memory_free=plan.memory.free,
        memory_total=total_memory(choose_device(settings.performance.device)),
        search_steps=search.steps if search is not None else 0.0,
        judged=list(judged_steps(run_plan)),
        savings=savings(plan.memory),
        seconds=plan.seconds,
        disk=plan.disk,
        disk_free=plan.free,
        files=[str(path) for path in plan.files],
        settings=values_of(settings),
        origins=dict(run_plan.origins),
        warnings=problem_records([*plan.warnings, *report.warnings]),
    )  # fmt: skip


def _memory(one: MemoryEstimate) -> PlannedMemory:
    return PlannedMemory(**asdict(one), total=one.total)


def answer(request: PlanRequest, *, is_taken: bool = False) -> PlanAnswer:
    """The plan of a request, or everything that is in its way. Takes torch.

    Args:
        is_taken: a job has the device; nothing is put on it.
    """
    loaded = checked(request)
    if isinstance(loaded, PlanAnswer):
        return loaded
    from lorasmith.training.plan import make_plan

    try:
        record = plan_record(make_plan(loaded.settings, origins=loaded.origins, is_taken=is_taken))
    except UserError as error:
        return PlanAnswer.to(request, error.problems)
    return PlanAnswer.to(request, plan=record)


def checked(request: PlanRequest) -> LoadedSettings | PlanAnswer:
    """The settings of a request, or the answer that says what is wrong with them as they stand."""
    try:
        return request.load(ignore)
    except UserError as error:
        return PlanAnswer.to(request, error.problems)


def plan_request(
    values: Mapping[str, Any], config: Path | None = None, preset: str | None = None
) -> PlanRequest:
    """
    Args:
        values: settings from a form, by path; see :func:`overrides_of`.
        config: a settings file, or the folder of images.

    Raises:
        SettingsError: what is given is no text where one belongs.
    """
    settings = overrides_of(values)
    return PlanRequest.read({"config": config, "preset": preset, "settings": settings})


# What is asked for


def overrides_of(values: Mapping[str, Any]) -> list[Override]:
    """Settings from a form, by path, as a command takes them; problems name the path alone.

    Args:
        values: JSON values; ``None`` is "none", and texts mean what they would mean as an option.
    """
    return [Override(path, _text(path, value), "") for path, value in values.items()]


def _text(path: str, value: Any) -> str:
    if value is None:
        return NONE
    item = all_settings().get(path)
    if isinstance(value, str):
        # Quoted, a text stays as it is: blanks at its ends, a quotation mark in front.
        exact = item is not None and item.is_text and not item.choices and not item.is_none(value)
        return toml_value(value) if exact else value
    return toml_value(value)


def command_line(request: PlanRequest) -> str:
    """``lorasmith train …`` in a shell's words, for what was asked.

    A setting that the preset or the file has already is left out, and one that is its default
    unless the base model might say otherwise.
    """
    return " ".join(map(shell_word, ["lorasmith", "train", *_words(request)]))


def _words(request: PlanRequest) -> Iterator[str]:
    given = {one.path: one for one in request.settings if isinstance(one, Override)}
    below = _below(request)
    config = str(request.config) if request.config is not None else ""
    if not config and "data.path" in given and not given["data.path"].text.startswith("-"):
        config = _plain("data.path", given.pop("data.path").text)
    if config:
        yield config
    if request.preset is not None:
        yield from ("--preset", request.preset)
    short = {path: f"--{name}" for name, path in SHORT_OPTIONS.items()}
    for path, override in given.items():
        if not _is_said_already(override, below):
            yield from (short.get(path, f"--{path}"), _plain(path, override.text))


def _plain(path: str, text: str) -> str:
    """Without the quotation marks that only keep a text as it is."""
    item = all_settings().get(path)
    value = parse_value(text, None) if text.startswith('"') else text
    if not isinstance(value, str) or not value or value != value.strip():
        return text
    needs_quotes = value.startswith(('"', "'")) or (item is not None and item.is_none(value))
    return text if needs_quotes else value


def _below(request: PlanRequest) -> tuple[TrainSettings, Mapping[str, str]] | None:
    """The settings without those that are given one by one; ``None`` where those are wrong."""
    try:
        loaded = request.model_copy(update={"settings": []}).load(ignore, for_training=False)
    except UserError:
        return None
    return loaded.settings, loaded.origins


def _is_said_already(
    override: Override, below: tuple[TrainSettings, Mapping[str, str]] | None
) -> bool:
    from lorasmith.training.setup.base_defaults import may_say

    if below is None or override.path not in all_settings():
        return False
    settings, origins = below
    try:
        alone = load_settings(None, [override])
    except UserError:  # It is right only together with others, or wrong.
        return False
    if value_of(alone, override.path) != value_of(settings, override.path):
        return False
    if override.path in origins or not may_say(override.path):
        return True
    of_kinds = (facts.defaults for facts in KINDS.values())
    return not settings.model.defaults and not any(override.path in one for one in of_kinds)


# Paths


def named_paths(settings: TrainSettings) -> list[tuple[str, Path]]:
    """Every file and folder that the settings name, with the setting's path: what a program must
    look at that lets people read and write some folders only. A hub id is a path that leads
    nowhere."""
    named = list(_paths_in(settings.model_dump(), ""))
    model = settings.model.path
    return named if model == "demo" else [*named, ("model.path", user_path(model))]


def _paths_in(value: Any, path: str) -> Iterator[tuple[str, Path]]:
    if isinstance(value, Path):
        yield path, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _paths_in(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value, 1):
            yield from _paths_in(each, f"{path}[{number}]")
