"""Requests about a folder of training images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from lorasmith.config.values import Size, UserPath
from lorasmith.core.events import Controls, Observer
from lorasmith.jobs.request import JobRequest, option

if TYPE_CHECKING:
    from lorasmith.config.load import Override
    from lorasmith.curation.check.check import CheckReport


class CheckRequest(JobRequest):
    """Say what training would see in DIR, and what is wrong or odd about it.

    DIR holds pictures, or folders named N_name (N repeats of each picture in an epoch), and perhaps
    a folder reg. Several are looked at together, as one training on all of them sees them. Nothing
    is changed. Exit status 2 if it cannot be trained on.
    """

    verb: ClassVar = "dataset check"

    folders: list[UserPath] = option(..., "The folders", metavar="DIR...", positional=True)
    reg: UserPath | None = option(None, "Regularisation folder", metavar="DIR")
    resolution: Size = option(512, "Size to train at, in pixels", kind="size", metavar="N|WxH")
    batch: int = option(1, "Pictures per batch", metavar="N", ge=1)
    epochs: int | None = option(
        None, "Epochs of the run", metavar="N", default_text="as many as the pictures need", ge=1
    )
    max_tokens: Literal[75, 150, 225] = option(75, "Longest caption, in CLIP tokens")
    trigger: str = option(
        "auto",
        "Word that calls up what is shown; auto: the first tag that the captions of a folder "
        "share, else the folder's name",
        metavar="WORD",
    )
    extension: str = option(
        "auto", 'Of caption files; "auto" takes .txt, then .caption', metavar="EXT"
    )
    upscale: bool = option(True, "Keep small pictures at their own size", flag="no-upscale")
    quick: bool = option(False, "Read headers only: find no damage and no duplicates")

    def run(self, observer: Observer, controls: Controls) -> CheckReport:
        from lorasmith.config.sections.data import CaptionSettings
        from lorasmith.config.sections.run import RunSettings
        from lorasmith.curation.check.check import check_dataset
        from lorasmith.curation.collection import finish_interrupted
        from lorasmith.data.buckets import plan_buckets
        from lorasmith.data.dataset import build_dataset
        from lorasmith.data.layout import find_folders_of
        from lorasmith.data.scan import scan
        from lorasmith.data.triggers import apply_triggers
        from lorasmith.models.families.base import GUIDES_LENGTH
        from lorasmith.models.tokenizer import count_tokens
        from lorasmith.training.setup.length import work_out

        size = self.resolution or 512
        width, height = size if isinstance(size, tuple) else (size, size)
        finish_interrupted(filter(None, (*self.folders, self.reg)), observer)
        images = scan(find_folders_of(self.folders, self.reg), extension=self.extension)
        images, triggers = apply_triggers(images, CaptionSettings(trigger=self.trigger))
        dataset = build_dataset(images, plan_buckets(width, height, upscale=self.upscale))
        epochs, steps, length = self.epochs, None, ""
        if epochs is None and any(not item.reg for item in dataset.items):
            # Of what most models are trained with: which one it will be is not known here.
            rule = {path.removeprefix("train."): value for path, value in GUIDES_LENGTH.items()}
            batches = dataset.batches_per_epoch(self.batch)
            usual = work_out(dataset, batches, RunSettings(**rule))
            epochs = usual.steps // batches if usual.whole else None
            steps = None if usual.whole else usual.steps
            length = f"{usual}. That is for most base models, at a batch of {self.batch}; what "
            length += "a run on yours takes: lorasmith train DIR --model MODEL --plan"
        return check_dataset(
            images,
            dataset,
            batch=self.batch,
            epochs=epochs or 1,
            steps=steps,
            length=length,
            count_tokens=count_tokens,
            max_tokens=self.max_tokens,
            triggers=triggers,
            decode=not self.quick,
            observer=observer,
            controls=controls,
        )


def training_data(folders: Sequence[Path]) -> list[Override]:
    """What makes settings of a run that is on these folders.

    Raises:
        DatasetError: one of several is not there, or holds no images.
    """
    from lorasmith.config.load import Override
    from lorasmith.data.layout import find_folders_of

    def text(value: object) -> str:
        return json.dumps(value, ensure_ascii=False)  # TOML knows no halves of surrogate pairs.

    if len(folders) == 1:
        return [Override("data.path", text(str(folders[0])), "DIR")]
    tables = ", ".join(
        f"{{path = {text(str(spec.path))}, repeats = {spec.repeats}, reg = {text(spec.reg)}}}"
        for spec in find_folders_of(folders)
    )
    return [
        Override("data.path", "none", "DIR"),
        Override("data.folders", f"[{tables}]", "DIR"),
    ]


@dataclass(frozen=True, slots=True)
class PreviewReport:
    """
    Args:
        path: the sheet.
        augmentation: what is done to how many images; empty for nothing.
    """

    path: Path
    augmentation: str


class PreviewRequest(JobRequest):
    """Draw what a run sees of the pictures in DIR: crops, mirror images, colours, masks.

    Each row is a picture, as a run with these settings and their seed shows it in its first uses,
    in their order. Striped parts are masked: they are not learned. Of several folders it is a run
    on all of them.
    """

    verb: ClassVar = "dataset preview"

    folders: list[UserPath] = option(..., "The folders", metavar="DIR...", positional=True)
    out: UserPath = option(Path("preview.png"), "Where the sheet goes", metavar="FILE.png")
    config: UserPath | None = option(None, "A run's settings", metavar="FILE.toml")
    preset: str | None = option(
        None, "Start from a preset; see `lorasmith presets`", metavar="NAME"
    )
    settings: list[str] = option(
        [],
        "Any setting of a run, as in --set augment.flip=true; may be repeated",
        flag="set",
        metavar="section.key=value",
    )
    images: int = option(8, "Rows at most", flag="pictures", metavar="N", ge=1, le=200)
    uses: int = option(8, "Uses of each picture", metavar="N", ge=1, le=64)
    side: int = option(128, "Pixels of each", metavar="PX", unit="pixels", ge=16, le=1024)

    def run(self, observer: Observer, controls: Controls) -> PreviewReport:
        from lorasmith.config.load import load_settings
        from lorasmith.core.files import atomic_path
        from lorasmith.training.preview import preview_sheet
        from lorasmith.training.setup.preflight import preflight

        settings = load_settings(
            self.config,
            [*self.settings, *training_data(self.folders)],
            self.preset,
            for_training=True,
        )
        run_plan = preflight(settings, observer=observer, controls=controls)
        sheet = preview_sheet(
            run_plan.dataset,
            seed=settings.train.seed,
            background=settings.data.background,
            images=self.images,
            uses=self.uses,
            side=self.side,
        )
        with atomic_path(self.out) as part:
            sheet.save(part, format="PNG")
        return PreviewReport(self.out, str(run_plan.report.augmentation))
