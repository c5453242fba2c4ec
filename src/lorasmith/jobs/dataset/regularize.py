"""The request for regularisation images: one of the base model's own for each training image."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, ClassVar, Literal

from lorasmith.config.values import Size, UserPath
from lorasmith.core.errors import Problem, UserError, collect_problems
from lorasmith.core.events import Controls, Notice, Observer
from lorasmith.core.files import check_writable, write_bytes
from lorasmith.core.text import quantity
from lorasmith.jobs.dataset.check import training_data
from lorasmith.jobs.drawing import GenerateReport, Work, draw, warn_of_trigger
from lorasmith.jobs.images import choose_place
from lorasmith.jobs.request import JobRequest, option

if TYPE_CHECKING:
    from lorasmith.config.schema import TrainSettings
    from lorasmith.sampling.from_dataset import Drawing
    from lorasmith.sampling.images import GeneratedImage

FOLDER = "reg"
# Where the training reads these from, by the request's fields.
_SETTINGS = {
    "folders": "data.path",
    "model": "model.path",
    "resolution": "data.resolution",
    "seed": "train.seed",
}


@dataclass(slots=True)
class RegularizeReport(GenerateReport):
    """
    Args:
        roots: the datasets whose journals have the images, for ``undo``.
    """

    roots: list[Path] = field(default_factory=list)


class RegularizeRequest(JobRequest):
    """Draw a regularisation picture for each training picture in DIR, by the base model.

    Each has the caption, name and bucket of its original, the run's seed, and is drawn with DDIM:
    what the base model makes of the caption before it is trained. They go into DIR/reg, which a
    training on DIR takes by itself. What is there already stays, so the command goes on where it
    was stopped. `dataset undo` takes back what one call drew.
    """

    verb: ClassVar = "dataset regularize"
    other_names: ClassVar = {
        **{setting: field for field, setting in _SETTINGS.items()},
        "performance.device": "device",
        "train.precision": "precision",
    }

    folders: list[UserPath] = option(
        ..., "The training pictures, with captions", metavar="DIR...", positional=True
    )
    without: list[str] = option(
        [],
        "Take this word out of the captions, such as the trigger; can be given several times",
        metavar="WORD",
    )
    config: UserPath | None = option(
        None, "The run's settings: model, resolution, buckets, seed", metavar="FILE.toml"
    )
    preset: str | None = option(
        None, "Start from a preset; see `lorasmith presets`", metavar="NAME"
    )
    settings: list[str] = option(
        [],
        "Any setting of the run, as in --set buckets.upscale=false; may be repeated",
        flag="set",
        metavar="section.key=value",
    )
    model: str | None = option(
        None,
        "Base model that is to be trained",
        metavar="demo|PATH|HUB_ID",
        default_text="as the settings have it: demo",
    )
    resolution: Size = option(
        None,
        "Size to train at, in pixels",
        kind="size",
        metavar="N|WxH",
        default_text="as the settings have it: the model's own",
    )
    seed: int | None = option(
        None, "Of the run", metavar="N", default_text="as the settings have it: 0", ge=0
    )
    vary_seed: bool = option(False, "Count the seed up from picture to picture")
    out: UserPath | None = option(
        None, "Folder for the pictures of one DIR", metavar="DIR", default_text="DIR/reg"
    )
    negative: str = option("", "What the pictures should not be", metavar="TEXT")
    steps: int = option(20, "Sampling steps", metavar="N")
    cfg: float = option(7.0, "How closely to follow the captions. 1 is not at all", metavar="X")
    batch: int | None = option(None, "Pictures at once", metavar="N", default_text="by size", ge=1)
    precision: Literal["auto", "fp32", "fp16", "bf16"] = option(
        "auto", "Of the UNet and the text encoder; the VAE works in fp32"
    )
    device: str = option("auto", "Where to compute", metavar="auto|cpu|cuda|…")

    def run(self, observer: Observer, controls: Controls) -> RegularizeReport:
        """
        Raises:
            UserError: with everything that is wrong; nothing has been written.
            Stopped: finished images stay.
        """
        work, journal = _prepare(self, observer)
        report = draw(work, observer, controls)
        return RegularizeReport(report.images, report.pending, report.captioned, journal.roots)


class _JournaledDrawings:
    """Writes drawings through the journals of their datasets: what one call draws in a dataset is
    one entry, which grows with each."""

    def __init__(self, command: str, roots: Sequence[Path]) -> None:
        self._command, self._all_roots = command, roots
        self._entries: dict[Path, int] = {}
        self._lock = Lock()

    @property
    def roots(self) -> list[Path]:
        """Of those that something was written to."""
        return list(self._entries)

    def write(self, drawing: Drawing, image: GeneratedImage) -> None:
        from lorasmith.curation.changes.plan import Plan

        plan = Plan(self._command, self._all_roots)
        root = plan.root_of(drawing.path)
        assert root is not None
        text = drawing.caption_path
        before = text.read_bytes() if text.exists() else None
        plan.write_text(text, before, f"{drawing.caption}\n".encode())
        plan.write_file(drawing.path, partial(write_bytes, data=image.encode()))
        with self._lock:
            (self._entries[root],) = plan.apply(entry=self._entries.get(root)).entries


def _prepare(job: RegularizeRequest, observer: Observer) -> tuple[Work, _JournaledDrawings]:
    """
    Raises:
        UserError: with everything that is wrong.
    """
    from lorasmith.curation.collection import finish_interrupted
    from lorasmith.sampling.batching import check_requests
    from lorasmith.training.setup.base_model import model_reference

    folders = list({os.path.abspath(folder): folder for folder in job.folders}.values())
    problems: list[Problem] = []
    if job.out is not None and len(folders) > 1:
        what = "takes the pictures of one folder"
        problems.append(Problem("out", what, f"leave it out: each gets its own {FOLDER}"))
    collect_problems(problems, lambda: finish_interrupted(folders, observer))
    drawings: list[Drawing] = []
    roots: dict[Path, None] = {}
    for folder in folders:
        settings = _settings(job, folder)
        out = job.out or folder / FOLDER
        root = _root_of(folder, out)
        roots[root] = None
        own = collect_problems(problems, partial(_drawings, job, settings, folder, out)) or []
        if folder.is_dir():
            collect_problems(problems, partial(check_writable, root))
        warn_of_trigger(own, observer)
        _warn_of_twins(own, observer)
        drawings += own
    model = model_reference(settings)
    requests = [drawing.request for drawing in drawings]
    problems += check_requests(requests)
    place = collect_problems(
        problems, lambda: choose_place([(model, [model.clip_skip])], job.device, job.precision)
    )
    if problems or place is None:
        raise UserError(dict.fromkeys(problems))
    without = [word for text in job.without for word in ("--without", text)]
    journal = _JournaledDrawings(shlex.join(["regularize", *without]), list(roots))
    work = Work(
        requests,
        model,
        place,
        out,
        drawings=drawings,
        batch=job.batch,
        write=journal.write,
    )
    return work, journal


def _root_of(folder: Path, out: Path) -> Path:
    """The dataset that images in ``out`` belong to: that of the originals, if they are in it."""
    from lorasmith.curation.collection import dataset_root

    root = dataset_root(folder)
    return root if Path(os.path.abspath(out)).is_relative_to(root) else dataset_root(out)


def _settings(job: RegularizeRequest, folder: Path) -> TrainSettings:
    """Those of the run on a folder, with what the request says of them."""
    from lorasmith.config.load import Override, load_settings

    values = {name: getattr(job, name) for name in _SETTINGS if name != "folders"}
    overrides = [
        Override(_SETTINGS[name], json.dumps(value, ensure_ascii=False), f"--{name}")
        for name, value in values.items()
        if value is not None
    ]
    overrides += training_data([folder])
    return load_settings(job.config, [*job.settings, *overrides], job.preset, for_training=True)


def _drawings(
    job: RegularizeRequest, settings: TrainSettings, folder: Path, out: Path
) -> list[Drawing]:
    """One for each training image that has a caption."""
    from lorasmith.data.dataset import build_dataset
    from lorasmith.data.scan import scan
    from lorasmith.sampling.from_dataset import drawings_of_images
    from lorasmith.sampling.request import ImageRequest
    from lorasmith.training.setup.base_model import open_base
    from lorasmith.training.setup.preflight import folder_specs, sample_groups

    problems: list[Problem] = []
    checkpoint = collect_problems(problems, lambda: open_base(settings))
    specs = collect_problems(problems, lambda: folder_specs(settings))
    if checkpoint is None or specs is None:
        raise UserError(problems)
    groups = sample_groups(settings, checkpoint.architecture)
    scanned = scan([spec for spec in specs if not spec.reg], extension=settings.captions.extension)
    scanned.require_usable()
    dataset = build_dataset(scanned, groups, settings.captions)
    items = [item for item in dataset.items if item.image.caption is not None]
    if not items:
        raise UserError.of(folder, "no picture has a caption", "tag or caption them first")
    base = ImageRequest(
        "",
        job.negative,
        seed=settings.train.seed,
        steps=job.steps,
        cfg=job.cfg,
        sampler="ddim",
    )
    bases = []
    for number, item in enumerate(items):
        width, height = item.placement.bucket
        seed = base.seed + number if job.vary_seed else base.seed
        bases.append(replace(base, width=width, height=height, seed=seed))
    images = [item.image for item in items]
    return drawings_of_images(scanned.folders, images, bases, out, without=job.without)


def _warn_of_twins(drawings: list[Drawing], observer: Observer) -> None:
    """Equal requests make equal images, which teach no more than one."""
    twins = len(drawings) - len({drawing.request for drawing in drawings})
    if twins:
        what = f"{quantity(twins, 'picture')} will be the same as another: equal caption, size "
        observer(Notice("warning", f"{what}and seed; --vary-seed makes them differ"))
