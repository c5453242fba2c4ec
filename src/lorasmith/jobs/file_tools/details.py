"""What a LoRA file or checkpoint is, for a page: what ``inspect`` finds, as texts and charts."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from lorasmith.formats.block_weights import BLOCKS
from lorasmith.jobs.lora_files import InspectRequest
from lorasmith.jobs.request import command_line

if TYPE_CHECKING:
    from lorasmith.lora_tools.inspect.report import CheckpointReport, EmbeddingReport, LoraReport

MOST_TEXT = 4000
"""Characters of one of the metadata's texts that are shown; some have megabytes."""
MOST_ENTRIES = 400
MOST_TAGS = 60
_KEPT = "\n\t"
_PICTURE_OF_CONTROL = 0x2400


class BlockDetails(BaseModel):
    """What a LoRA changes in one block.

    Args:
        norm: Frobenius norm of all its changes; energy: its square's share of the whole LoRA's.
        least_rank, most_rank: of its modules; 0 of those without ranks.
    """

    block: str
    modules: int
    least_rank: int
    most_rank: int
    norm: float
    energy: float


class SizeDetails(BaseModel):
    rank: int
    alpha: float
    modules: int


class CoverageDetails(BaseModel):
    """Of a family's layers of one kind, how many the file adapts."""

    part: str
    group: str
    adapted: int
    layers: int


class ReaderDetails(BaseModel):
    """``reads``: "yes", "partly", "wrong", "no" or "untried"."""

    program: str
    reads: str
    why: str


class TagCount(BaseModel):
    tag: str
    count: int


class FolderDetails(BaseModel):
    """A folder that it was trained on; ``tags``: the most frequent."""

    name: str
    pictures: int | None
    repeats: int | None
    tags: list[TagCount]


class Detail(BaseModel):
    """``cut``: characters that are not shown."""

    name: str
    text: str
    cut: int = 0


class FileDetails(BaseModel):
    """
    Args:
        kind: "lora", "embedding" or "checkpoint".
        family: for people; ``family_why`` what told it.
        facts: of either kind: what it is, in pairs.
        types: modules by type of adapter.
        blocks: in the model's order.
        triggers: what to write into a prompt; ``said`` by the file itself.
        wrong: what is malformed, dead or not finite, in words.
        embedded: a picture is in the file.
    """

    kind: str
    path: str
    size: int
    family: str
    family_why: str = ""
    facts: list[Detail]
    types: dict[str, int] = {}
    sizes: list[SizeDetails] = []
    blocks: list[BlockDetails] = []
    coverage: list[CoverageDetails] = []
    triggers: list[str] = []
    said: bool = False
    folders: list[FolderDetails] = []
    training: list[Detail] = []
    readers: list[ReaderDetails] = []
    wrong: list[str] = []
    metadata: list[Detail] = []
    embedded: bool = False
    command_line: str


def seen(text: str) -> str:
    """A text of a stranger's, in which nothing is hidden: control characters as pictures of
    themselves, what turns the writing's direction as its number."""
    return "".join(
        character
        if character in _KEPT or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co")
        else _named(character)
        for character in text
    )


def _named(character: str) -> str:
    code = ord(character)
    return chr(_PICTURE_OF_CONTROL + code) if code < 0x20 else f"⟨U+{code:04X}⟩"


def details(path: Path) -> FileDetails:
    """What a file is. Takes torch; nothing in the file is run.

    Raises:
        LoraFileError, CheckpointError: it is neither, or damaged.
    """
    from lorasmith.lora_tools.inspect.inspect import inspect
    from lorasmith.lora_tools.inspect.report import EmbeddingReport, LoraReport

    report = inspect(path)
    if isinstance(report, LoraReport):
        return _lora(report)
    return _embedding(report) if isinstance(report, EmbeddingReport) else _checkpoint(report)


def _embedding(report: EmbeddingReport) -> FileDetails:
    return FileDetails(
        kind="embedding",
        path=str(report.path),
        size=report.size,
        family=seen(report.family),
        facts=_entries({f"vectors of {word}": n for word, n in report.embeddings.items()}),
        metadata=_entries(report.metadata),
        command_line=command_line(InspectRequest(path=report.path)),
    )


def _lora(report: LoraReport) -> FileDetails:
    wrong = [*report.problems]
    for keys, what in ((report.dead, "changes nothing"), (report.not_finite, "holds no numbers")):
        wrong += [f"{key} {what}" for key in keys[:5]]
        if len(keys) > 5:
            wrong.append(f"… and {len(keys) - 5} more")
    wrong += report.unread
    if report.unknown:
        wrong.append(f"{len(report.unknown)} tensors are of no layer: {report.unknown[0]}, …")
    return FileDetails(
        kind="lora",
        path=str(report.path),
        size=report.size,
        family=seen(report.family.title),
        family_why=seen(report.family.why),
        facts=_entries(
            {
                "names": report.style,
                "container": report.container,
                "precision": ", ".join(report.precision),
                "norm": f"{report.norm:.4g}",
                "embeddings": ", ".join(report.embeddings),
                "AutoV3": report.hashes.autov3 or "",
                "tensors": report.tensor_hash,
            }
        ),
        types=report.types,
        sizes=[SizeDetails(rank=r, alpha=a, modules=n) for r, a, n in report.sizes[:20]],
        blocks=_blocks(report),
        coverage=[
            CoverageDetails(part=c.part, group=c.group, adapted=c.adapted, layers=c.layers)
            for c in report.coverage
        ],
        triggers=[seen(word) for word in report.words.triggers],
        said=report.words.said,
        folders=[
            FolderDetails(
                name=seen(folder.name),
                pictures=folder.pictures,
                repeats=folder.repeats,
                tags=[
                    TagCount(tag=seen(tag[:MOST_TEXT]), count=count)
                    for tag, count in list(folder.tags.items())[:MOST_TAGS]
                ],
            )
            for folder in report.words.folders[:20]
        ],
        training=_entries(report.training),
        readers=[
            ReaderDetails(program=r.program, reads=r.reads, why=r.why) for r in report.read_by
        ],
        wrong=[seen(each[:MOST_TEXT]) for each in wrong[:40]],
        metadata=_entries(report.metadata),
        embedded=report.preview,
        command_line=command_line(InspectRequest(path=report.path)),
    )


def _checkpoint(report: CheckpointReport) -> FileDetails:
    return FileDetails(
        kind="checkpoint",
        path=str(report.path),
        size=report.size,
        family=seen(report.summary),
        facts=_entries(
            {
                "prediction": report.prediction,
                "native resolution": str(report.native_resolution),
                "container": report.container,
                "precision": ", ".join(report.precision),
                **{f"numbers in {part}": f"{n:,}" for part, n in report.parameters.items()},
                "holds": ", ".join(report.baked),
            }
        ),
        wrong=[seen(each) for each in report.notes],
        metadata=_entries(report.metadata),
        embedded=report.preview,
        command_line=command_line(InspectRequest(path=report.path)),
    )


def _blocks(report: LoraReport) -> list[BlockDetails]:
    whole = report.norm**2
    found = []
    for block in sorted({module.block for module in report.modules}, key=BLOCKS.index):
        modules = [module for module in report.modules if module.block == block]
        norm = report.blocks.get(block, 0.0)
        energy = norm**2 / whole if whole > 0 else 0.0
        found.append(
            BlockDetails(
                block=block,
                modules=len(modules),
                least_rank=min(module.rank for module in modules),
                most_rank=max(module.rank for module in modules),
                norm=_finite(norm),
                energy=_finite(energy),
            )
        )
    return found


def _finite(value: float) -> float:
    return value if abs(value) < float("inf") else 0.0


def _entries(values: Mapping[str, Any]) -> list[Detail]:
    found = []
    for name, value in list(values.items())[:MOST_ENTRIES]:
        text = str(value)
        if text:
            shown, cut = seen(text[:MOST_TEXT]), max(0, len(text) - MOST_TEXT)
            found.append(Detail(name=seen(name[:200]), text=shown, cut=cut))
    return found
