"""From axes to images: which cells there are, what is wrong with them, in what order to draw.

A cell is known by a digest of all that it is made from, so that it is drawn once however often it
stands in a grid, and never again while its file is there.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from lorasmith.core.errors import Problem, PromptError, UserError
from lorasmith.core.files import quick_fingerprint
from lorasmith.grids.axes import NO_AXIS, Axis, CellSpec
from lorasmith.models.embedding_names import EmbeddingSource
from lorasmith.models.open import locate
from lorasmith.prompts.lora_tags import take_tags
from lorasmith.prompts.parse import parse_prompt
from lorasmith.sampling.batching import check_requests
from lorasmith.sampling.request import ImageRequest
from lorasmith.sampling.sources import Sources

MOST_CELLS = 10_000
SIDES = ("x", "y", "z")


@dataclass(frozen=True, slots=True)
class Cell:
    """A place of the grid.

    Args:
        place: along x, y and z, from 0.
        labels: what stands at the axes there.
        spec: what its image is made from.
    """

    place: tuple[int, int, int]
    labels: tuple[str, ...]
    spec: CellSpec


@dataclass(frozen=True, slots=True)
class Grid:
    """
    Args:
        axes: x, y and z; sides that were not asked for have one place.
        base: what the axes vary.
        cells: row by row, page by page.
    """

    axes: tuple[Axis, Axis, Axis]
    base: CellSpec
    cells: tuple[Cell, ...]


def lay_out(base: CellSpec, axes: Sequence[Axis], sources: Sources) -> Grid:
    """All cells of the grid, with what is wrong with any of them.

    Args:
        axes: x, y and z, as many as there are.

    Raises:
        PromptError: two axes change the same thing, a cell's prompt or values are wrong, or a
            LoRA is unknown; all of it, each once. Models and VAEs are not looked at.
    """
    problems = _clashes(axes)
    sides = (*axes, *[NO_AXIS] * (len(SIDES) - len(axes)))
    size = [len(side.values) for side in sides]
    if size[0] * size[1] * size[2] > MOST_CELLS:
        what = f"{' x '.join(map(str, size))} are more than {MOST_CELLS} pictures"
        problems.append(Problem("grid", what, "leave some values out"))
    if problems:
        raise PromptError(problems)
    cells: list[Cell] = []
    invalid: dict[Problem, None] = {}
    for place in itertools.product(*(range(n) for n in reversed(size))):
        z, y, x = place
        try:
            cells.append(_cell(base, sides, (x, y, z), sources))
        except UserError as error:
            invalid |= dict.fromkeys(error.problems)
    invalid |= dict.fromkeys(_problems(cells, axes, sources))
    if invalid:
        raise PromptError(invalid)
    first, second, third = sides
    return Grid((first, second, third), base, tuple(cells))


def _clashes(axes: Sequence[Axis]) -> list[Problem]:
    problems = []
    for one, other in itertools.combinations(axes, 2):
        if one.kind is None or other.kind is None:
            continue
        both = one.changes & other.changes
        if both and one.target == other.target:
            names = sorted({one.kind.name, other.kind.name})
            what = f"both change the same thing ({' and '.join(names)})"
            problems.append(Problem(f"{one.option} and {other.option}", what, "keep one of them"))
    return problems


def _cell(
    base: CellSpec, sides: Sequence[Axis], place: tuple[int, int, int], sources: Sources
) -> Cell:
    values = [side.values[n] for side, n in zip(sides, place, strict=True)]
    spec = base
    in_order = sorted(zip(sides, values, strict=True), key=lambda pair: pair[0].order)
    for _, value in in_order:
        spec = value.apply(spec)
    labels = tuple(value.label for side, value in zip(sides, values, strict=True) if side.kind)
    return Cell(place, labels, spec.finished(sources.relatives))


def _problems(cells: Iterable[Cell], axes: Sequence[Axis], sources: Sources) -> Iterable[Problem]:
    """Those of the requests, named by the axis that brought them, and of the LoRAs' names."""
    option = {
        changed.replace(" ", "_"): f"{axis.option} {axis.kind.name}"
        for axis in axes
        if axis.kind
        for changed in ("width height" if axis.kind.name == "size" else axis.kind.changes).split()
    }
    requests = (cell.spec.request for cell in cells)
    for problem in check_requests(requests, sources.library, sources.wildcards):
        yield replace(problem, where=option.get(problem.where, problem.where))


class Identity:
    """Digests of setups; each file is looked at once."""

    def __init__(
        self,
        sources: Sources,
        precisions: Mapping[str, str],
        folders: Sequence[Path] = (),
    ) -> None:
        """
        Args:
            precisions: that each model is drawn in, by its path.
            sources: of the LoRAs and embeddings that prompts name.
            folders: of what they may name besides.
        """
        self._sources, self._precisions = sources, precisions
        self._folders = [quick_fingerprint(folder) for folder in folders]
        self._files: dict[str, str] = {}
        self._in_texts: dict[str, tuple[EmbeddingSource, ...]] = {}

    def digest(self, spec: CellSpec) -> str:
        """12 hex digits of everything that the image is made from, the files' content too."""
        model = spec.model
        parts = {
            "request": _stated(spec.request),
            "model": self._file(locate(model.path)),
            "vae": model.vae and self._file(locate(model.vae, vae=True)),
            "loras": {
                tag.name: self._file(self._sources.library.find(tag.name))
                for tag in parse_prompt(spec.request.prompt).loras
            },
            "precision": self._precisions[str(model.path)],
            "prediction": model.prediction,
            "zero_terminal_snr": model.zero_terminal_snr,
            "folders": self._folders,
        }
        if embeddings := self._embeddings(spec.request):
            parts["embeddings"] = embeddings
        text = json.dumps(parts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]

    def _embeddings(self, request: ImageRequest) -> dict[str, str]:
        texts = (request.prompt, request.negative)
        named = [source for text in texts for source in self._in_text(text)]
        return {source.name: self._file(source.path) for source in named}

    def _in_text(self, text: str) -> tuple[EmbeddingSource, ...]:
        if text not in self._in_texts:
            self._in_texts[text] = tuple(
                self._sources.embeddings.in_text(take_tags(text)[0]).values()
            )
        return self._in_texts[text]

    def _file(self, path: Path) -> str:
        if str(path) not in self._files:
            self._files[str(path)] = quick_fingerprint(path)
        return self._files[str(path)]


def _stated(request: ImageRequest) -> dict[str, Any]:
    """What of a request is not the default, so that fields of later versions change no digest."""
    stated = {
        each.name: getattr(request, each.name)
        for each in fields(request)
        if getattr(request, each.name) != each.default
    }
    return {
        name: quick_fingerprint(value) if isinstance(value, Path) else value
        for name, value in stated.items()
    } | ({"inpaint": asdict(request.inpaint)} if request.inpaint else {})


# The order of work


@dataclass(frozen=True, slots=True)
class SwapCost:
    """How often something had to be exchanged to draw the images in an order.

    Args:
        models: base models loaded, the first included.
        vaes: VAEs exchanged while the base model stayed.
        loras: times that other LoRA files had to be put in.
    """

    models: int = 0
    vaes: int = 0
    loras: int = 0


def state(spec: CellSpec) -> tuple[str, str, tuple[str, ...]]:
    """What has to be in place for an image: model, VAE, LoRAs; in the order of their cost."""
    loras = tuple(sorted(tag.name for tag in parse_prompt(spec.request.prompt).loras))
    return str(spec.model.path), str(spec.model.vae or ""), loras


def work_order(specs: Iterable[CellSpec]) -> list[CellSpec]:
    """The setups such that models change as seldom as can be, then VAEs, then LoRAs.

    Setups of one state stay together, and a VAE's LoRAs begin with those that are in place.
    Otherwise the order is that given.
    """
    models: dict[str, dict[str, dict[tuple[str, ...], list[CellSpec]]]] = {}
    for spec in specs:
        model, vae, loras = state(spec)
        models.setdefault(model, {}).setdefault(vae, {}).setdefault(loras, []).append(spec)
    ordered: list[CellSpec] = []
    for vaes in models.values():
        in_place: tuple[str, ...] | None = None
        groups = list(vaes.values())
        for group, following in zip(groups, [*groups[1:], {}], strict=True):
            names = sorted(group, key=lambda loras: loras != in_place)
            # The next VAE can go on with what comes last.
            lasting = [n for n in names[1:] or names if n in following]
            if lasting:
                names.sort(key=lambda loras: loras == lasting[-1])
            ordered += [spec for loras in names for spec in group[loras]]
            in_place = names[-1]
    return ordered


def count_switches(specs: Sequence[CellSpec]) -> SwapCost:
    """What drawing in this order exchanges."""
    models = vaes = loras = 0
    before: tuple[str, str, tuple[str, ...]] | None = None
    for now in map(state, specs):
        new_model = before is None or now[0] != before[0]
        models += new_model
        vaes += not new_model and before is not None and now[1] != before[1]
        loras += bool(now[2]) and (new_model or before is None or now[2] != before[2])
        before = now
    return SwapCost(models, vaes, loras)
