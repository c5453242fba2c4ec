"""A LoRA at other ranks, at the least error that those ranks allow.

Each module's singular values come from its factors (:mod:`lora_tools.linalg.low_rank`); the first
of them are the best approximation in the Frobenius norm. The result is kohya's LoRA whatever the
file was, with alpha = rank in every module that changed, so that its scale is 1 for every reader.
Modules that have the rank already are taken over as they are.

DoRA (and LoHa or LoKr with ``dora_scale``) keeps its lengths, and the change that is added before
they are set is resized: the error told is that change's. DyLoRA, asked for one rank for all, is cut
instead: its first ranks were trained to be a LoRA of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lorasmith.adapters.file import save_lora
from lorasmith.adapters.types.dylora import cut_rank
from lorasmith.core.errors import LoraFileError, Problem, SettingsError, UserError
from lorasmith.core.events import Controls, Observer, ignore, with_progress
from lorasmith.lora_tools.linalg.factorize import NotLowRank, alternative, kernels_of, low_rank_part
from lorasmith.lora_tools.linalg.low_rank import Change, Decomposition, Product, check_finite
from lorasmith.lora_tools.lora_file import (
    DOWN,
    UP,
    LoraModule,
    LoraModules,
    read_modules,
    shortened,
)
from lorasmith.lora_tools.outputs import (
    alpha_tensor,
    carried_metadata,
    check_output,
    check_space,
    choice_problems,
    file_bytes,
    network_metadata,
    precision_of,
)
from lorasmith.lora_tools.rank_rules import RankRule, fill, rule_of
from lorasmith.tensors.files import PRECISIONS, Precision

# Another size may be written with more digits in the metadata.
_LONGER_COMMENT = 64


@dataclass(frozen=True, slots=True)
class ResizedModule:
    """What became of one module.

    Args:
        rank: the new one; 0 where the module was left out.
        norm: Frobenius norm of its change, ‖ΔW‖.
        error: ‖ΔW - new ΔW‖, before rounding to the file's precision.
        how: "svd"; "kept" as it was; "cut" to its first ranks; "left out".
        measure: see :meth:`RankRule.measure`.
    """

    key: str
    block: str
    old_rank: int
    rank: int
    norm: float
    error: float
    how: Literal["svd", "kept", "cut", "left out"]
    measure: float | None = None

    @property
    def retained(self) -> float:
        """Share of the energy ‖ΔW‖² that the new module holds."""
        return 1.0 - (self.error / self.norm) ** 2 if self.norm > 0 else 1.0


@dataclass(frozen=True, slots=True)
class ResizeReport:
    """
    Args:
        rule: how the ranks were chosen.
        old_bytes, new_bytes: sizes of the two files.
        written: the new file; ``None`` of a dry run.
        unmatched: tensors that belong to no layer and were left out.
        carried: how many changes of norms and biases, which have no rank, stay as they were.
    """

    modules: tuple[ResizedModule, ...]
    rule: RankRule
    old_bytes: int
    new_bytes: int
    written: Path | None
    unmatched: tuple[str, ...]
    carried: int = 0

    @property
    def error(self) -> float:
        """Of all modules together, over their norm."""
        norm = sum(module.norm**2 for module in self.modules)
        error = sum(module.error**2 for module in self.modules)
        return float((error / norm) ** 0.5) if norm > 0 else 0.0


def resize(
    source: str | Path,
    out: str | Path,
    *,
    rank: int | None = None,
    retain: float | None = None,
    ratio: float | None = None,
    cumulative: float | None = None,
    size_mb: float | None = None,
    precision: Precision | None = None,
    dry_run: bool = False,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> ResizeReport:
    """Write ``source`` to ``out`` at lower ranks; a dry run writes nothing.

    >>> resize("a.safetensors", "small.safetensors", retain=0.95)  # doctest: +SKIP

    Args:
        rank, retain, ratio, cumulative, size_mb: how the ranks are chosen, one of them; see
            :class:`lorasmith.lora_tools.rank_rules.RankRule`.
        precision: of the new file; the old one's for ``None``.
        observer: gets a Progress after each module.

    Raises:
        SettingsError: not exactly one way to choose ranks is given, or its value makes no sense.
        UserError: ``out`` is there already, or the disk is full.
        LoraFileError: the file is damaged, holds NaN, or what has no form as a LoRA without the
            base model; every module that is so.
        Stopped: asked to stop; nothing is written.
    """
    rule = rule_of(rank=rank, ratio=ratio, retain=retain, cumulative=cumulative, size=size_mb)
    source, out = Path(source), Path(out)
    problems = [
        *rule.problems(f"--{rule.by}"),
        *choice_problems("--precision", precision, PRECISIONS),
    ]
    problems += check_output(out, [source])
    if problems:
        raise SettingsError(problems)
    dtype = None if precision is None else PRECISIONS[precision]
    file = read_modules(source)
    job = _Resizing(file, rule, dtype, observer, controls or Controls())
    tensors = job.run(with_factors=not dry_run)
    metadata = job.metadata()
    report = ResizeReport(
        tuple(job.done),
        rule,
        source.stat().st_size,
        file_bytes(job.shapes, metadata),
        None if dry_run else out,
        file.unmatched,
        len(job.vectors),
    )
    if not dry_run:
        if problems := check_space(out, report.new_bytes):
            raise UserError(problems)
        save_lora(out, tensors, metadata)
    return report


class _Resizing:
    def __init__(
        self,
        file: LoraModules,
        rule: RankRule,
        dtype: torch.dtype | None,
        observer: Observer,
        controls: Controls,
    ) -> None:
        self.file, self.rule = file, rule
        modules = file.modules.values()
        self.dtype = dtype or precision_of(t for m in modules for t in m.tensors.values())
        self.kernels = kernels_of(file)
        self.done: list[ResizedModule] = []
        self.shapes: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
        self._alphas: dict[str, float] = {}
        self._observer, self._controls = observer, controls
        self.vectors = {
            f"{module.key}.{name}": tensor.to(self.dtype)
            for module in modules
            for name, tensor in module.vectors.items()
        }
        module = file.metadata.get("ss_network_module", "")
        args = file.metadata.get("ss_network_args", "")
        self._cuts = rule.by == "rank" and "dylora" in f"{module} {args}".lower()

    def run(self, *, with_factors: bool) -> dict[str, Tensor]:
        """The new file's tensors; fills ``done`` and ``shapes``."""
        ranks = self._ranks_for_size() if self.rule.by == "size" else None
        tensors = dict(self.vectors)
        self._note_vectors()
        for module, change, found in self._each("resizing"):
            values = None if found is None else found.values
            if ranks is not None:
                rank = ranks[module.key]
            else:
                rank = int(self.rule.value) if values is None else self.rule.rank_of(values)
            made = self._resized(module, change, found, rank, with_factors)
            tensors.update((f"{module.key}.{name}", tensor) for name, tensor in made.items())
        return tensors

    def _is_cut(self, module: LoraModule) -> bool:
        return self._cuts and {DOWN, UP} <= module.tensors.keys() <= {DOWN, UP, "alpha"}

    def _each(self, what: str) -> Iterator[tuple[LoraModule, Change, Decomposition | None]]:
        """Every module, its change and that decomposed, which it is not where it is cut.

        Once one is wrong, the others are only looked at, and all problems are raised at the end.
        """
        problems: list[Problem] = []
        modules = [module for module in self.file.modules.values() if module.has_matrix]
        for module in with_progress(modules, what, self._observer, self._controls):
            try:
                check_finite(*module.vectors.values())
                change = low_rank_part(module)
                if self._is_cut(module):
                    found = None
                    check_finite(*module.tensors.values())
                else:
                    found = change.decompose()
            except NotLowRank as error:
                hint = f"leave this file as it is{alternative(module)}"
                problems.append(Problem(str(self.file.path), f"{module.key}: {error}", hint))
            except ValueError as error:
                hint = "make or download it again"
                problems.append(Problem(str(self.file.path), f"{module.key}: {error}", hint))
            else:
                if not problems:
                    yield module, change, found
        if problems:
            raise LoraFileError(shortened(problems))

    def _ranks_for_size(self) -> dict[str, int]:
        values: dict[str, Tensor] = {}
        costs: dict[str, int] = {}
        for module, change, found in self._each("measuring"):
            assert found is not None
            values[module.key] = found.values
            costs[module.key] = sum(change.shape) * self.dtype.itemsize
            self._note_shapes(module, change.shape, len(found.values))
        # Names, alphas and lengths of all modules, as if none were left out.
        self._note_vectors()
        whole = file_bytes(self.shapes, self.metadata())
        fixed = whole - sum(costs[key] * len(values[key]) for key in values)
        self.shapes.clear()
        if not values:
            return {}
        budget = round(self.rule.value * 1e6) - fixed
        if budget < min(costs.values()):
            least = _rounded_up(fixed + min(costs.values()) + _LONGER_COMMENT)
            what = f"{self.rule.value:g} MB cannot hold the names and a single rank"
            raise UserError.of("--size", what, f"choose {least / 1e6:g} or more")
        return fill(values, costs, budget)

    def _resized(
        self,
        module: LoraModule,
        change: Change,
        found: Decomposition | None,
        rank: int,
        with_factors: bool,
    ) -> dict[str, Tensor]:
        """One module's new tensors; notes what became of it."""
        is_lora = module.algorithm in ("lora", "dora")
        if is_lora and rank >= module.rank:
            self._note(module, change, module.rank, found, "kept")
            return self._kept(module)
        if rank == 0:
            self._note(module, change, 0, found, "left out")
            return {}
        if found is None:
            self._note(module, change, rank, None, "cut")
            return self._cut(module, rank)
        self._note(module, change, rank, found, "svd")
        self._note_shapes(module, change.shape, rank)
        if not with_factors:
            return {}
        up, down = found.factors(rank)
        made = {UP: up, DOWN: down, "alpha": alpha_tensor(float(rank), self.dtype)}
        if module.decomposed:
            made["dora_scale"] = module.tensors["dora_scale"]
        return {
            name: tensor.to(self._dtype_of(name, tensor)).reshape(
                self.shapes[f"{module.key}.{name}"][1]
            )
            for name, tensor in made.items()
        }

    def _kept(self, module: LoraModule) -> dict[str, Tensor]:
        own = {n: t for n, t in module.tensors.items() if n not in ("alpha", *module.vectors)}
        kept = {name: tensor.to(self._dtype_of(name, tensor)) for name, tensor in own.items()}
        kept["alpha"] = alpha_tensor(module.alpha, self.dtype)
        self._take_shapes(module.key, kept)
        self._alphas[module.key] = module.alpha
        return kept

    def _cut(self, module: LoraModule, rank: int) -> dict[str, Tensor]:
        names = {f"{module.key}.{name}": tensor for name, tensor in module.tensors.items()}
        cut = {n.partition(".")[2]: t for n, t in cut_rank(names, rank).items()}
        alpha = float(cut["alpha"])
        made = {name: tensor.to(self.dtype) for name, tensor in cut.items() if name != "alpha"}
        made["alpha"] = alpha_tensor(alpha, self.dtype)
        self._take_shapes(module.key, made)
        self._alphas[module.key] = alpha
        return made

    def _dtype_of(self, name: str, tensor: Tensor) -> torch.dtype:
        return tensor.dtype if name in ("alpha", "dora_scale") else self.dtype

    def _note_vectors(self) -> None:
        for name, tensor in self.vectors.items():
            self.shapes[name] = (tensor.dtype, tuple(tensor.shape))

    def _take_shapes(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self.shapes[f"{key}.{name}"] = (tensor.dtype, tuple(tensor.shape))

    def _note_shapes(self, module: LoraModule, size: tuple[int, int], rank: int) -> None:
        outputs, inputs = size
        kernel = self.kernels[module.key]
        own = self.shapes
        channels = inputs // torch.Size(kernel).numel()
        own[f"{module.key}.{UP}"] = (self.dtype, (outputs, rank, *(1 for _ in kernel)))
        own[f"{module.key}.{DOWN}"] = (self.dtype, (rank, channels, *kernel))
        own[f"{module.key}.alpha"] = (alpha_tensor(float(rank), self.dtype).dtype, ())
        if module.decomposed:
            scale = module.tensors["dora_scale"]
            own[f"{module.key}.dora_scale"] = (scale.dtype, tuple(scale.shape))
        self._alphas[module.key] = float(rank)

    def _note(
        self,
        module: LoraModule,
        change: Change,
        rank: int,
        found: Decomposition | None,
        how: Literal["svd", "kept", "cut", "left out"],
    ) -> None:
        measure = None
        if found is None:
            norm, error = _cut_error(change, rank)
        else:
            measure = self.rule.measure(found.values, len(found.values) if how == "kept" else rank)
            norm = float(found.values.norm())
            error = 0.0 if how == "kept" else float(found.values[rank:].norm())
        self.done.append(
            ResizedModule(module.key, module.block, module.rank, rank, norm, error, how, measure)
        )

    def metadata(self) -> dict[str, str]:
        file, rule = self.file, self.rule
        kinds = {module.algorithm for module in file.modules.values()}
        old = sorted({module.rank for module in file.modules.values()})
        ranks = str(old[0]) if len(old) == 1 else f"{old[0]} to {old[-1]}"
        comment = f"Dynamic resize with {rule.by}: {rule.value:g} from {ranks}"
        if rule.by == "rank":
            comment = f"dimension is resized from {ranks} to {rule.value:g}"
        sizes = [
            (shape[0], self._alphas[key], len(shape) == 4 and shape[2:] != (1, 1))
            for name, (_, shape) in self.shapes.items()
            if name.endswith(f".{DOWN}") and (key := name.removesuffix(f".{DOWN}"))
        ]
        return network_metadata(
            carried_metadata(file.metadata),
            sizes,
            comment=f"{comment} (lorasmith)",
            was_lora=kinds <= {"lora", "dora"} and not self._cuts,
        )


def _rounded_up(size: int) -> int:
    """To three digits."""
    step: int = 10 ** max(len(str(size)) - 3, 0)
    return -(-size // step) * step


def _cut_error(change: Change, rank: int) -> tuple[float, float]:
    """(‖ΔW‖, ‖what the ranks after the first ``rank`` add‖)."""
    assert isinstance(change, Product)
    rest = Product(change.up[:, rank:], change.down[rank:], change.scale)
    return change.norm(), rest.norm()
