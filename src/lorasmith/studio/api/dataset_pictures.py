"""What is found and recorded about a dataset's pictures: findings of the audit, crops, masks,
buckets, and the jobs that look at all of them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from lorasmith.core.errors import DatasetError
from lorasmith.curation.filter import parse_filter
from lorasmith.jobs.curating.changes import ChangesRecord, filter_of
from lorasmith.jobs.curating.findings import (
    FindingsRecord,
    audit_command,
    findings,
    ignore_findings,
    mend,
)
from lorasmith.jobs.curating.open_dataset import OpenDataset
from lorasmith.jobs.curating.pictures import (
    BucketsRecord,
    PictureRecord,
    buckets,
    picture,
    record_crops,
    record_mask,
)
from lorasmith.jobs.curating.tagging import TaggedPicture, tag_one
from lorasmith.jobs.dataset.tagging import TagRequest
from lorasmith.jobs.queue.records import JobRecord
from lorasmith.studio.api.dataset import DatasetDep, PartOfChanges
from lorasmith.studio.api.jobs import LedgerDep, queue_command
from lorasmith.studio.context import StudioDep

router = APIRouter(prefix="/api/dataset", tags=["dataset"])

Side = Annotated[int, Query(ge=64, le=8192)]
Box = tuple[int, int, int, int]


class Ids(PartOfChanges):
    """``ids`` of findings or rules; "all-safe" for what loses nothing."""

    ids: Annotated[list[str], Field(min_length=1)]


class Ignore(BaseModel):
    """``again``: hear of them again."""

    ids: Annotated[list[str], Field(min_length=1)]
    again: bool = False


class NewAudit(BaseModel):
    kind: Literal["character", "style", "concept", "object"] | None = None
    resolution: Annotated[int, Field(ge=64, le=8192)] | None = None


class NewTags(BaseModel):
    """Tags by a tagger, of these images or those that ``where`` takes; ``thresholds`` by category.
    ``look``: at all pictures, and write nothing: its scores are kept, from which tags are written
    later."""

    tagger: str
    mode: Literal["if-empty", "append", "prepend", "replace"] = "if-empty"
    thresholds: dict[str, Annotated[float, Field(ge=0.01, le=2)]] = {}
    images: list[str] | None = None
    where: str = ""
    look: bool = False


class TagOne(BaseModel):
    """``least``: the lowest score that is told."""

    name: str
    tagger: str
    least: Annotated[float, Field(ge=0.01, le=1)] = 0.1


class NewCaptions(BaseModel):
    """Captions by a model, of images as for tags; ``endpoint`` is a server's address, which may be
    of this computer."""

    model: str = ""
    endpoint: str = ""
    mode: Literal["if-empty", "append", "prepend", "replace"] = "if-empty"
    style: Literal["descriptive", "tags"] = "descriptive"
    prefix: str = ""
    images: list[str] | None = None
    where: str = ""


class Crops(PartOfChanges):
    """``box``: left, top, right, bottom in px of the upright picture; null takes it away."""

    names: Annotated[list[str], Field(min_length=1)]
    box: Box | None


class Mask(PartOfChanges):
    """``png``: the mask's, in base64, of the picture's shape; "" takes it away."""

    name: str
    png: str


@router.get("/findings")
def get_findings(asked: DatasetDep) -> FindingsRecord:
    """What the last audit found."""
    with asked as dataset:
        return findings(dataset)


@router.post("/mend")
def post_mend(asked: DatasetDep, body: Ids) -> ChangesRecord:
    """What mending findings changes; ``apply`` does it."""
    with asked as dataset:
        return mend(dataset, body.ids, body.part)


@router.post("/ignore")
def post_ignore(asked: DatasetDep, body: Ignore) -> FindingsRecord:
    with asked as dataset:
        return ignore_findings(dataset, body.ids, again=body.again)


@router.post("/audit")
def post_audit(
    studio: StudioDep, asked: DatasetDep, ledger: LedgerDep, body: NewAudit
) -> JobRecord:
    """Queue an audit; it takes the processor alone, and need not wait for a training."""
    with asked as dataset:
        command = audit_command(dataset, body.kind, body.resolution)
        title = f"audit of {dataset.folder.name}"
        return queue_command(studio, ledger, command, title, "cpu")


@router.post("/tag")
def post_tag(studio: StudioDep, asked: DatasetDep, ledger: LedgerDep, body: NewTags) -> JobRecord:
    """Queue a tagger, which looks at the pictures and writes tags."""
    with asked as dataset:
        request = TagRequest.read(
            {
                "folders": [dataset.folder],
                "tagger": studio.model(body.tagger),
                "mode": body.mode,
                **body.thresholds,
            }
        )
        words = ["tag", str(dataset.folder), "--tagger", request.tagger]
        words += ["--mode", "append", "--dry-run"] if body.look else ["--mode", body.mode]
        for name, value in body.thresholds.items():
            words += [f"--{name}", f"{value:g}"]
        title = f"tags of {dataset.folder.name}"
        return _job(studio, ledger, words, _where(dataset, body), title)


@router.post("/tag-one")
def post_tag_one(studio: StudioDep, asked: DatasetDep, body: TagOne) -> TaggedPicture:
    """What a tagger says of one picture, by a process that keeps it loaded; its scores are kept
    like those of a tagger that looked at all. On the processor while a job has the device."""
    with asked as dataset:
        picture, root = dataset.image(body.name).path, dataset.root
    # The dataset is free meanwhile: a tagger may have to be loaded first.
    return tag_one(studio.guard, picture, root, studio.model(body.tagger), body.least)


@router.post("/captions")
def post_captions(
    studio: StudioDep, asked: DatasetDep, ledger: LedgerDep, body: NewCaptions
) -> JobRecord:
    """Queue a captioner, which looks at the pictures and writes captions."""
    with asked as dataset:
        words = ["caption", str(dataset.folder), "--mode", body.mode, "--style", body.style]
        words += ["--model", studio.model(body.model)] if body.model else []
        words += ["--endpoint", body.endpoint] if body.endpoint else []
        words += ["--prefix", body.prefix] if body.prefix else []
        title = f"captions of {dataset.folder.name}"
        return _job(studio, ledger, words, _where(dataset, body), title)


def _where(dataset: OpenDataset, body: NewTags | NewCaptions) -> str:
    """A filter for the job's command.

    Raises:
        DatasetError: the images are too many to be named on a command line.
    """
    images = dataset.some(body.images) if body.images is not None else None
    where = filter_of(body.where, images)
    if where is None:
        what = "are too many to be named one by one"
        raise DatasetError.of("images", what, "choose fewer, or filter instead")
    return where


def _job(
    studio: StudioDep, ledger: LedgerDep, words: list[str], where: str, title: str
) -> JobRecord:
    parse_filter(where)
    words += ["--where", where] if where.strip() else []
    return queue_command(studio, ledger, ["dataset", *words, "--yes"], title)


@router.get("/picture")
def get_picture(
    asked: DatasetDep, name: str, width: Side = 512, height: Side = 512
) -> PictureRecord:
    """One picture: crop, mask, and its bucket at a resolution."""
    with asked as dataset:
        return picture(dataset, name, (width, height))


@router.get("/buckets")
def get_buckets(
    asked: DatasetDep, width: Side = 512, height: Side = 512, upscale: bool = True
) -> BucketsRecord:
    with asked as dataset:
        return buckets(dataset, (width, height), upscale=upscale)


@router.put("/crop")
def put_crop(asked: DatasetDep, body: Crops) -> ChangesRecord:
    """Record which part of pictures is used."""
    with asked as dataset:
        return record_crops(dataset, [(name, body.box) for name in body.names], body.part)


@router.put("/mask")
def put_mask(asked: DatasetDep, body: Mask) -> ChangesRecord:
    with asked as dataset:
        return record_mask(dataset, body.name, body.png, body.part)
