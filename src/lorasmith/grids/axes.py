"""What a grid varies: setups of images, and axes along which they change. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lorasmith.core.errors import PromptError
from lorasmith.models.reference import ModelReference
from lorasmith.prompts.lora_tags import LoraTag, format_tag
from lorasmith.prompts.parse import parse_prompt
from lorasmith.sampling.request import ImageRequest

if TYPE_CHECKING:
    from lorasmith.sampling.sources import Sources


@dataclass(frozen=True, slots=True)
class LoraEdit:
    """What becomes of a tag; ``None`` leaves it as it is.

    Args:
        name: of another file.
        removed: there is to be no LoRA.
        unet, text_encoder: strengths.
        blocks: what ``lbw=`` is to say.
    """

    name: str | None = None
    removed: bool = False
    unet: float | None = None
    text_encoder: float | None = None
    blocks: str | None = None

    def then(self, other: LoraEdit) -> LoraEdit:
        """Both; they change different things."""
        names = ("name", "unet", "text_encoder", "blocks")
        changes = {key: value for key in names if (value := getattr(other, key)) is not None}
        return replace(self, **changes, removed=self.removed or other.removed)


def edit_prompt(prompt: str, target: str, edit: LoraEdit, relatives: Sequence[str] = ()) -> str:
    """The prompt with the tag of ``target`` changed; without a tag, one is added to its end.

    Args:
        target: the name in the tag; "" where there can be no doubt: for the only one.
        relatives: names that belong together, such as a run's snapshots: the only one of these is
            meant then, and tags of others stay as they are.

    Raises:
        PromptError: there is no such tag, or more than one that it could be.
    """
    tag = _target(prompt, target, relatives)
    if tag is None and edit.removed:
        return prompt
    if tag is None and edit.name is None:
        raise PromptError.of(f'"{prompt}"', "has no LoRA to change", "add one, as in <lora:NAME:1>")
    if tag is None:
        assert edit.name is not None
        return f"{prompt} {_written(LoraTag(edit.name), edit)}".lstrip()
    if edit.removed:
        before, after = prompt.split(tag.source, 1)
        return " ".join(part for part in (before.rstrip(), after.lstrip()) if part)
    return prompt.replace(tag.source, _written(tag, edit), 1)


def _target(prompt: str, target: str, relatives: Sequence[str]) -> LoraTag | None:
    tags = parse_prompt(prompt).loras
    if target:
        matches = [tag for tag in tags if tag.name == target]
        if not matches:
            has = ", ".join(tag.name for tag in tags) or "none"
            raise PromptError.of(f'"{prompt}"', f"has no <lora:{target}:…>", f"its LoRAs: {has}")
        return matches[0]
    candidates = [tag for tag in tags if not relatives or tag.name in relatives]
    if len(candidates) > 1:
        names = " or ".join(f"AXIS@{tag.name}=" for tag in candidates)
        raise PromptError.of(
            f'"{prompt}"', f"names {len(candidates)} LoRAs", f"say which one is meant: {names}"
        )
    return candidates[0] if candidates else None


def _written(tag: LoraTag, edit: LoraEdit) -> str:
    edited = replace(
        tag,
        name=edit.name or tag.name,
        unet=tag.unet if edit.unet is None else edit.unet,
        text_encoder=tag.text_encoder if edit.text_encoder is None else edit.text_encoder,
        ambiguous=False,  # By name there is only one way to read two strengths.
    )
    if edit.blocks is not None:
        weights, x = split_blocks(edit.blocks)
        edited = replace(edited, block_weights=weights, block_x=x)
    return format_tag(edited)


def split_blocks(text: str) -> tuple[str, float | None]:
    """``INX:x=0.3`` as block weights and what X stands for.

    Raises:
        ValueError: they cannot be read.
    """
    weights, colon, x = text.partition(":")
    number = float(x.strip().lower().removeprefix("x=")) if colon else None
    _ = LoraTag("", block_weights=weights, block_x=number).blocks
    return weights, number


@dataclass(frozen=True, slots=True)
class CellSpec:
    """Everything that one image of a grid is made from.

    Args:
        edits: of LoRA tags, with the names that they are for, "" where there is but one.
    """

    request: ImageRequest
    model: ModelReference = field(default_factory=ModelReference)
    edits: tuple[tuple[str, LoraEdit], ...] = ()

    def asking(self, **fields: object) -> CellSpec:
        """With other fields of the request."""
        return replace(self, request=replace(self.request, **fields))  # type: ignore[arg-type]

    def loading(self, **fields: object) -> CellSpec:
        """With other fields of the model's reference."""
        return replace(self, model=replace(self.model, **fields))  # type: ignore[arg-type]

    def editing(self, target: str, edit: LoraEdit) -> CellSpec:
        before = dict(self.edits)
        before[target] = before.get(target, LoraEdit()).then(edit)
        return replace(self, edits=tuple(before.items()))

    def finished(self, relatives: Sequence[str] = ()) -> CellSpec:
        """With the edits made to the prompt.

        Raises:
            PromptError: a tag to be changed is not there, or could be one of several.
        """
        prompt = self.request.prompt
        for target, edit in self.edits:
            prompt = edit_prompt(prompt, target, edit, relatives)
        return replace(self.asking(prompt=prompt), edits=())


@dataclass(frozen=True, slots=True)
class Value:
    """A place on an axis: what stands above it, and what it does.

    Args:
        file: what was trained that it draws with, where it names one.
        changes: as of :class:`AxisType`, where it is other things than the axis' own.
    """

    label: str
    apply: Callable[[CellSpec], CellSpec]
    file: Path | None = None
    changes: str | None = None


@dataclass(frozen=True, slots=True)
class AxisType:
    """What one kind of axis is.

    Args:
        name: as one writes it; spaces, signs and case do not matter.
        title: as it stands at the axis.
        aliases: other ways to write it, such as the web UI's.
        values: from the items of the list, the LoRA that is meant ("" for the only one), and
            sources. Raises ValueError or UserError.
        changes: what no second axis of the grid may change as well; "" where two may.
        example: a list of values.
        order: lower ones are applied first, whatever their side: texts are put into the prompt
            before others look for something in it.
        tag: whether it changes a LoRA's tag, so that ``AXIS@NAME=`` may say which.
    """

    name: str
    title: str
    aliases: tuple[str, ...]
    values: Callable[[list[str], str, Sources], list[Value]]
    changes: str
    example: str
    order: int = 2
    tag: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """One side of a grid.

    Args:
        option: what it was given as, "--x".
        kind: ``None`` for a side that has but one place.
        target: the LoRA that it changes, "" for the only one.
    """

    option: str
    kind: AxisType | None
    values: tuple[Value, ...]
    target: str = ""

    @property
    def title(self) -> str:
        title = self.kind.title if self.kind else ""
        return f"{title} of {self.target}" if self.target else title

    @property
    def order(self) -> int:
        return self.kind.order if self.kind else 0

    @property
    def changes(self) -> frozenset[str]:
        """What no second axis may change as well."""
        own = self.kind.changes if self.kind else ""
        each = (own if value.changes is None else value.changes for value in self.values)
        return frozenset(thing for changes in each for thing in changes.split())


NO_AXIS = Axis("", None, (Value("", lambda spec: spec),))
