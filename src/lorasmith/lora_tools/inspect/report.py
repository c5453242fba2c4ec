"""What ``inspect`` finds: plain values, written as JSON as they stand. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from lorasmith.core.canvas import GRID, PALE, Canvas
from lorasmith.formats.embedding_keys import BUNDLE
from lorasmith.formats.hashes import FileHashes
from lorasmith.lora_tools.family import LoraFamily

FORMAT = 1
"""Of the JSON. Raised when a name goes or changes its meaning; names may be added at any time."""


@dataclass(frozen=True, slots=True)
class ModuleReport:
    """One adapted layer.

    Args:
        key: kohya's, whatever style the file has.
        block: BASE for text encoders, IN00 to OUT11.
        group: one of :data:`lorasmith.formats.unet_layers.GROUPS`, or "other".
        norm: Frobenius norm of the weight's change at strength 1; None where it depends on the
            base model's weight, or is no number.
        precision: "F16", …; several with " " between them.
        dead: it changes nothing.
        finite: it holds neither NaN nor infinity.
    """

    key: str
    part: str
    block: str
    group: str
    algorithm: str
    rank: int
    alpha: float | None
    norm: float | None
    precision: str
    numbers: int
    dead: bool
    finite: bool


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many of a family's layers of one kind the file adapts."""

    part: str
    group: str
    adapted: int
    layers: int


@dataclass(frozen=True, slots=True)
class ReadBy:
    """Whether a program reads the file, and why: "yes" (exactly), "partly" (the rest is left out),
    "wrong" (it changes weights otherwise), "no", or "untried"."""

    program: str
    reads: str
    why: str


# A tag in so many of a folder's captions is taken to be what triggers the LoRA.
NEARLY_ALL = 0.9
MOST_TRIGGERS = 5


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that a LoRA was trained on.

    Args:
        tags: captions by tag, the most frequent first.
        images, repeats: None where the file does not say.
        reg: of regularisation images: they show what the LoRA is not about.
    """

    name: str
    tags: dict[str, int]
    pictures: int | None = None
    repeats: int | None = None
    reg: bool = False

    @property
    def triggers(self) -> tuple[str, ...]:
        """Tags of (nearly) all of its captions; none of regularisation images."""
        if self.reg:
            return ()
        most = self.pictures or max(self.tags.values(), default=0)
        # A folder of another kind may have the same name, and its tags are among these.
        common = [tag for tag, n in self.tags.items() if NEARLY_ALL * most <= n <= most]
        return tuple(common[:MOST_TRIGGERS])


@dataclass(frozen=True, slots=True)
class TriggerWords:
    """
    Args:
        triggers: what to write into a prompt: the file's own trigger phrase, or else the tags that
            (nearly) all captions of a training folder have.
        said: the triggers are the file's own words.
        folders: of its training.
    """

    triggers: tuple[str, ...] = ()
    said: bool = False
    folders: tuple[Folder, ...] = ()


@dataclass(frozen=True, slots=True)
class LoraReport:
    """
    Args:
        path: as it was given.
        size: of the file, in bytes.
        container: "safetensors" or "pickle".
        style: whose names the tensors have, see :mod:`lorasmith.formats.key_styles`.
        types: modules by type of adapter.
        sizes: (rank, alpha, modules), the most frequent first.
        blocks: Frobenius norm of all changes of a block, of those blocks that have any.
        precision: bytes by safetensors dtype name.
        training: what the metadata says of it: name -> words.
        unmatched: tensors that belong to no layer, those of embeddings among them.
        problems: what is malformed.
        unread: modules of types that are not read here, with what they are.
        tensor_hash: 32 hex digits of names, shapes and numbers, whatever the order and metadata.
        preview: an image is embedded.
        embeddings: those that the file carries: vectors by name, of the first text encoder.
    """

    kind: ClassVar[str] = "lora"

    path: Path
    size: int
    container: str
    style: str
    family: LoraFamily
    types: dict[str, int]
    sizes: tuple[tuple[int, float, int], ...]
    coverage: tuple[Coverage, ...]
    blocks: dict[str, float]
    norm: float
    precision: dict[str, int]
    dead: tuple[str, ...]
    not_finite: tuple[str, ...]
    unmatched: tuple[str, ...]
    problems: tuple[str, ...]
    unread: tuple[str, ...]
    words: TriggerWords
    training: dict[str, str]
    read_by: tuple[ReadBy, ...]
    hashes: FileHashes
    tensor_hash: str
    preview: bool
    modules: tuple[ModuleReport, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    embeddings: dict[str, int] = field(default_factory=dict)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Those of :attr:`unmatched` that are no embedding's."""
        return tuple(name for name in self.unmatched if not name.startswith(BUNDLE))


@dataclass(frozen=True, slots=True)
class CheckpointReport:
    """
    Args:
        family: "sd1", "sd2" or "sdxl".
        summary: of its architecture, for people.
        prediction: "epsilon" or "v".
        precision: bytes by safetensors dtype name.
        parameters: numbers by part of the model.
        ema: averaged weights that it holds beside the model's own.
        baked: what was merged into it, as its metadata says.
        hashes: None where the checkpoint is a folder.
    """

    kind: ClassVar[str] = "checkpoint"

    path: Path
    size: int
    container: str
    family: str
    summary: str
    prediction: str
    zero_terminal_snr: bool
    native_resolution: int
    precision: dict[str, int]
    parameters: dict[str, int]
    ema: int
    baked: tuple[str, ...]
    notes: tuple[str, ...]
    hashes: FileHashes | None
    preview: bool
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EmbeddingReport:
    """A file of textual-inversion embeddings, without a LoRA.

    Args:
        family: for people, told by the vectors' width.
        embeddings: vectors by name; of a file of one, the file's name, as prompts have it.
        word: what its only one was trained as; "" where the file does not say.
        widths: numbers of a vector, by tensor.
    """

    kind: ClassVar[str] = "embedding"

    path: Path
    size: int
    family: str
    embeddings: dict[str, int]
    word: str
    widths: dict[str, int]
    hashes: FileHashes
    metadata: dict[str, str] = field(default_factory=dict)


Report = LoraReport | CheckpointReport | EmbeddingReport


def as_json(report: Report) -> dict[str, Any]:
    """The report as JSON's own values; what is no number becomes null."""
    values: dict[str, Any] = _plain(asdict(report))
    return {"format": FORMAT, "kind": report.kind, **values}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


# Sizes in pixels.
_ROW, _LABEL, _FIELD, _VALUE, _EDGE, _HEAD = 22, 64, 460, 90, 16, 44
_COLOURS = {"BASE": "#8a63d2", "IN": "#1f6feb", "M": "#d29922", "OUT": "#2da44e"}


def draw_blocks(blocks: Mapping[str, float], title: str) -> Image.Image:
    """One bar for each block, as long as its norm; RGB."""
    canvas = Canvas(_EDGE + _LABEL + _FIELD + _VALUE, _HEAD + _ROW * len(blocks) + _EDGE)
    canvas.text(title, (_EDGE, _EDGE), 15)
    largest = max(blocks.values(), default=0.0) or 1.0
    left = _EDGE + _LABEL
    for row, (block, norm) in enumerate(blocks.items()):
        top = _HEAD + row * _ROW
        middle = top + _ROW / 2
        length = _FIELD * norm / largest
        canvas.text(block, (_EDGE, middle), 12, anchor="lm")
        canvas.box(left, top + 3, left + _FIELD, top + _ROW - 3, GRID)
        if length >= 1:
            canvas.box(left, top + 3, left + length, top + _ROW - 3, _colour_of(block))
        canvas.text(f"{norm:.3g}", (left + _FIELD + 8, middle), 12, PALE, anchor="lm")
    return canvas.image()


def _colour_of(block: str) -> str:
    return next(colour for beginning, colour in _COLOURS.items() if block.startswith(beginning))
