"""The request for a derived set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lorasmith.config.values import Size, UserPath
from lorasmith.core.errors import DatasetError, Problem, SettingsError
from lorasmith.core.events import Controls, Observer
from lorasmith.jobs.request import JobRequest, option

if TYPE_CHECKING:
    from lorasmith.curation.images.export import ExportPlan


@dataclass(frozen=True, slots=True)
class ExportReport:
    """
    Args:
        folder: of the derived set.
        images: how many it has.
        written: files that were written; of a dry run those that would be.
        current: files that were there already, as an earlier export left them.
        overwritten: files of others among those written.
        stale: files of an earlier export that no image has any more.
        skipped: what could not be exported.
        renamed: images that have another name there, as (source, name in the set).
    """

    folder: Path
    images: int
    written: int
    current: int
    overwritten: tuple[str, ...]
    stale: tuple[str, ...]
    skipped: tuple[Problem, ...]
    renamed: tuple[tuple[Path, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "images": self.images,
            "written": self.written,
            "current": self.current,
            "overwritten": list(self.overwritten),
            "stale": list(self.stale),
            "skipped": [str(problem) for problem in self.skipped],
            "renamed": {str(source): name for source, name in self.renamed},
        }


class ExportRequest(JobRequest):
    """Make a set for another trainer from the pictures in DIR, in the folder --into.

    Recorded crops are carried out, pictures are upright, in sRGB and RGB, masks and captions go
    along. DIR is only read. What is exported already is not done again; files that no export
    wrote are not overwritten without asking.
    """

    verb: ClassVar = "dataset export"
    other_names: ClassVar = {"data.background": "background"}

    folders: list[UserPath] = option(
        ..., "Folders of pictures; with those in them", metavar="DIR...", positional=True
    )
    into: UserPath = option(..., "Folder of the derived set", metavar="DIR")
    where: str = option(
        "", "Only pictures that this filter takes; see docs/dataset-filter.md", metavar="FILTER"
    )
    layout: Literal["kohya", "onetrainer", "imagefolder"] = option(
        "kohya",
        "img/N_name folders; folders as they are; or Hugging Face's, with a metadata.jsonl",
    )
    masks: Literal["beside", "folder", "alpha", "off"] | None = option(
        None,
        "Masks beside the pictures (a-masklabel.png), in a folder mask, in their alpha channel "
        "(--alpha_mask of sd-scripts), or not at all",
        default_text="beside for onetrainer, else folder",
    )
    repeats: int = option(
        1, "N of folders that name none, in kohya's layout", metavar="N", ge=1, le=10_000
    )
    resolution: Size = option(
        None,
        "Bring pictures to the sizes that training at this size sees, in pixels",
        kind="size",
        metavar="N|WxH",
        default_text="their own sizes",
    )
    upscale: bool = option(False, "Let --resolution enlarge small pictures, too")
    format: Literal["png", "jpg", "webp", "avif"] | None = option(
        None, "Format of all pictures", default_text="each keeps its own"
    )
    quality: int | None = option(
        None, "Of JPEG, WebP and AVIF files, 1 to 100", metavar="N", ge=1, le=100
    )
    background: str = option(
        "", "Colour under what is transparent, as in white or #808080", metavar="COLOUR"
    )
    prefix: str = option("", "Before every caption, as in captions.prefix", metavar="TEXT")
    suffix: str = option("", "After every caption, as in captions.suffix", metavar="TEXT")
    extension: str = option(".txt", "Of caption files", metavar="EXT")
    overwrite: bool = option(False, "Overwrite files that no export wrote")
    dry_run: bool = option(False, "Say what would be written, and write nothing")

    def plan(self, observer: Observer, controls: Controls) -> ExportPlan:
        """
        Raises:
            UserError: with everything that is wrong with the request.
            Stopped: by ``controls``.
        """
        from lorasmith.curation.collection import open_collection
        from lorasmith.curation.filter import parse_filter
        from lorasmith.curation.images.export import ExportRule, plan_export
        from lorasmith.data.buckets import plan_buckets
        from lorasmith.data.images import parse_colour

        idle = [
            ("repeats", self.layout == "kohya", "--layout kohya"),
            ("extension", self.layout != "imagefolder", "layouts with caption files"),
            ("upscale", self.resolution is not None, "--resolution"),
        ]
        problems = [
            Problem(name, f"is for {what}")
            for name, useful, what in idle
            if self.given(name) and getattr(self, name) and not useful
        ]
        if problems:
            raise SettingsError(problems)
        takes = parse_filter(self.where)
        size = self.resolution
        sides = size if isinstance(size, tuple) or size is None else (size, size)
        extension = f".{self.extension.lstrip('.')}"
        rule = ExportRule(
            self.layout,
            self.masks,
            self.repeats,
            plan_buckets(*sides) if sides is not None else None,
            self.upscale,
            self.format,
            self.quality,
            parse_colour(self.background) if self.background else None,
            self.prefix,
            self.suffix,
            extension,
        )
        collection = open_collection(self.folders, observer=observer)
        images = takes.select(collection, observer, controls)
        return plan_export(
            collection, images, self.into, rule, observer=observer, controls=controls
        )

    def carry_out(
        self, plan: ExportPlan, observer: Observer, controls: Controls, *, overwrite: bool
    ) -> ExportReport:
        """
        Args:
            overwrite: files that no export wrote.

        Raises:
            DatasetError: there are such files, and they are not to be overwritten.
        """
        if plan.foreign and not overwrite:
            hint = "choose another folder, or add --overwrite"
            raise DatasetError(
                Problem(str(plan.folder / name), "is there, and no export wrote it so", hint)
                for name in plan.foreign
            )
        written = len(plan.outputs) if self.dry_run else plan.carry_out(observer, controls)
        return ExportReport(
            plan.folder,
            plan.images,
            written,
            plan.current,
            tuple(plan.foreign),
            tuple(plan.stale),
            tuple(plan.skipped),
            tuple(plan.renamed),
        )

    def run(self, observer: Observer, controls: Controls) -> ExportReport:
        plan = self.plan(observer, controls)
        overwrite = self.overwrite or self.dry_run
        return self.carry_out(plan, observer, controls, overwrite=overwrite)
