"""What a grid varies: setups of images, and axes along which they change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lorasmith.grids.tag_edits import LoraEdit, edit_prompt
from lorasmith.models.reference import ModelReference
from lorasmith.prompts.wildcards import Wildcards
from lorasmith.sampling.embeddings import EmbeddingLibrary
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.sampling.request import ImageRequest


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
    """A place on an axis: what stands above it, and what it does."""

    label: str
    apply: Callable[[CellSpec], CellSpec]


@dataclass(slots=True)
class Sources:
    """Where prompts and axes find what they name.

    Args:
        library: LoRAs by name; files that axes find elsewhere are added to it.
        embeddings, wildcards: of the prompts.
        folders: where a run may lie that is named without its folder.
        relatives: names of LoRAs that belong together: a run's snapshots.
    """

    library: LoraLibrary
    embeddings: EmbeddingLibrary = field(default_factory=EmbeddingLibrary)
    wildcards: Wildcards = field(default_factory=Wildcards)
    folders: Sequence[Path] = ()
    relatives: list[str] = field(default_factory=list)


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


NO_AXIS = Axis("", None, (Value("", lambda spec: spec),))
