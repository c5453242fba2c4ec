"""A LoRA at other ranks, at the least error that those ranks allow.

Each module's singular values come from its factors (:mod:`lora_tools.linalg.low_rank`); the first
of them are the best approximation in the Frobenius norm. The result is kohya's LoRA whatever the
file was, with alpha = rank in every module that changed, so that its scale is 1 for every reader.
Modules that have the rank already are taken over as they are.

DoRA (and LoHa or LoKr with ``dora_scale``) keeps its lengths, and the change that is added before
they are set is resized: the error told is that change's. DyLoRA, asked for one rank for all, is cut
instead: its first ranks were trained to be a LoRA of their own. What trained it decides their
strength, see :func:`~lorasmith.adapters.types.dylora.cut_rank`.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lorasmith.adapters.types.dylora import cut_rank
from lorasmith.core.errors import LoraFileError, Problem, SettingsError, UserError, shortened
from lorasmith.core.events import Controls, Observer, ignore, with_progress
from lorasmith.core.files import PrecisionName
from lorasmith.lora_tools.linalg.factorize import NotLowRank, alternative, kernels_of, low_rank_part
from lorasmith.lora_tools.linalg.low_rank import Change, Decomposition, Product, check_finite
from lorasmith.lora_tools.lora_file import (
    DOWN,
    UP,
    LoraModule,
    LoraModules,
    read_modules,
)
from lorasmith.lora_tools.outputs import (
    Approximated,
    LoraWriter,
    carried_metadata,
    check_output,
    choice_problems,
    empty_factors,
    precision_of,
    relative_error,
)
from lorasmith.tensors.files import PRECISIONS

By = Literal["rank", "ratio", "retain", "cumulative", "size"]
How = Literal["svd", "kept", "cut", "left out"]

# Another size may be written with more digits in the metadata.
_LONGER_COMMENT = 64


@dataclass(frozen=True, slots=True)
class RankRule:
    """How ranks are chosen. All but "size" look at each module by itself, and leave it 1 at least.

    ====================  ====================================================================
    ``rank``              this rank for all, or the module's own where that is less
    ``ratio``             singular values above the largest over ``value`` (sd-scripts' sv_ratio)
    ``retain``            the fewest whose part of the change has at least ``value`` of its
                          Frobenius norm (sv_fro); its square is the energy's share
    ``cumulative``        the fewest whose sum is at least ``value`` of the sum of all
                          (sv_cumulative)
    ``size``              so many that the file has at most ``value`` MB (of 1,000,000 bytes), and
                          the squared error, summed over all modules, is the least
    ====================  ====================================================================

    Args:
        most: the rank that no module exceeds, of "ratio", "retain" and "cumulative"; ``None`` sets
            no limit.
    """

    by: By
    value: float
    most: int | None = None

    def problems(self) -> list[Problem]:
        """What is wrong with the value."""
        where, value = f"--{self.by}", self.value
        if self.most is not None and self.by in ("rank", "size"):
            hint = "it is for --ratio, --retain and --cumulative"
            return [Problem("--max-rank", f"does nothing with {where}", hint)]
        if self.most is not None and self.most < 1:
            hint = "choose a whole number from 1 on"
            return [Problem("--max-rank", f"{self.most} is not a rank", hint)]
        if self.by == "rank" and not (value >= 1 and value == int(value)):
            return [Problem(where, f"{value:g} is not a rank", "choose a whole number from 1 on")]
        if self.by == "ratio" and not 1 < value < math.inf:
            hint = "choose how many times smaller than the largest a singular value may be, as 10"
            return [Problem(where, f"{value:g} is not a ratio above 1", hint)]
        if self.by in ("retain", "cumulative") and not 0 < value <= 1:
            return [Problem(where, f"{value:g} is no share", "choose a number up to 1, as 0.95")]
        if self.by == "size" and not 0 < value < math.inf:
            return [Problem(where, f"{value:g} is not a size", "choose the file's size in MB")]
        return []

    def measure(self, values: Tensor, rank: int) -> float | None:
        """What the first ``rank`` of a module's singular values have of what ``value`` asks for.

        The share of the norm, or of the sum; of "ratio" the largest over the smallest that stays.
        None for "rank" and "size", and for a module that changes nothing.
        """
        if not float(values[0]) > 0.0 or self.by in ("rank", "size"):
            return None
        top = values[:rank]
        if self.by == "ratio":
            return float(values[0] / top[-1])
        if self.by == "retain":
            return float(top.norm() / values.norm())
        return float(top.sum() / values.sum())

    def rank_of(self, values: Tensor) -> int:
        """The rank for singular values (n,), falling; not for "size"."""
        if self.by == "rank":
            return min(int(self.value), len(values))
        if not float(values[0]) > 0.0:
            return 1
        if self.by == "ratio":
            rank = max(1, int((values > values[0] / self.value).sum()))
        elif self.by == "retain":
            rank = _fewest(values.square(), self.value**2)
        else:
            assert self.by == "cumulative", self.by
            rank = _fewest(values, self.value)
        return rank if self.most is None else min(rank, self.most)


def rule_of(**values: float | None) -> RankRule:
    """The one rule that has a value.

    Raises:
        SettingsError: not exactly one has.
    """
    rules = {name: value for name, value in values.items() if value is not None}
    if len(rules) != 1:
        options = ", ".join(f"--{name}" for name in values)
        count = f"{len(rules)} of" if rules else "none of"
        where = ", ".join(f"--{name}" for name in rules)
        raise SettingsError(Problem(where, f"{count} {options} given", "choose one, as --rank 32"))
    ((name, value),) = rules.items()
    return RankRule(name, value)  # type: ignore[arg-type]


def _fewest(parts: Tensor, share: float) -> int:
    """How many of the first ``parts`` make at least ``share`` of their sum."""
    sums = parts.cumsum(0)
    # Rounding in the sum must not ask for what is nothing: a share of 1 is all that counts.
    goal = share * float(sums[-1]) * (1.0 - torch.finfo(sums.dtype).eps * len(sums))
    return min(1 + int((sums < goal).sum()), len(parts))


@dataclass(frozen=True, slots=True)
class ResizedModule(Approximated):
    """What became of one module.

    Args:
        rank: the new one; 0 where the module was left out.
        how: "svd"; "kept" as it was; "cut" to its first ranks; "left out".
        measure: see :meth:`RankRule.measure`.
    """

    key: str
    block: str
    old_rank: int
    rank: int
    norm: float
    error: float
    how: How
    measure: float | None = None


@dataclass(frozen=True, slots=True)
class ResizeReport:
    """
    Args:
        rule: how the ranks were chosen.
        old_bytes, new_bytes: sizes of the two files.
        written: the new file; ``None`` of a dry run.
        unmatched: tensors that belong to no layer and were left out.
        carried: how many changes of norms and biases, which have no rank, stay as they were.
        words: names of the embeddings that the file carries, which stay as they were.
    """

    modules: tuple[ResizedModule, ...]
    rule: RankRule
    old_bytes: int
    new_bytes: int
    written: Path | None
    unmatched: tuple[str, ...]
    carried: int = 0
    words: tuple[str, ...] = ()

    @property
    def error(self) -> float:
        """Of all modules together, over their norm."""
        return relative_error(self.modules)


def resize(
    source: str | Path,
    out: str | Path,
    *,
    rank: int | None = None,
    retain: float | None = None,
    ratio: float | None = None,
    cumulative: float | None = None,
    size_mb: float | None = None,
    max_rank: int | None = None,
    precision: PrecisionName | None = None,
    dry_run: bool = False,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> ResizeReport:
    """Write ``source`` to ``out`` at lower ranks; a dry run writes nothing.

    >>> resize("a.safetensors", "small.safetensors", retain=0.95)

    Args:
        rank, retain, ratio, cumulative, size_mb: how the ranks are chosen, one of them; see
            :class:`RankRule`.
        max_rank: the most that a module keeps by ratio, retain or cumulative.
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
    rule = replace(rule, most=max_rank)
    source, out, controls = Path(source), Path(out), controls or Controls()
    problems = [*rule.problems(), *choice_problems("--precision", precision, PRECISIONS)]
    problems += check_output(out, [source])
    if problems:
        raise SettingsError(problems)
    file = read_modules(source)
    dtype = PRECISIONS[precision] if precision else precision_of(file.tensors)
    writer = LoraWriter(out, dtype)
    for module in file.modules.values():
        writer.add(module.key, module.vectors)
    carried = len(writer.tensors)
    ranks: dict[str, int] | None = None
    if rule.by == "size":
        ranks = _ranks_for_size(file, rule, LoraWriter(out, dtype), observer, controls)
    kernels = kernels_of(file)
    modules = []
    for module, change, svd in _each(file, rule, "resizing", observer, controls):
        if ranks is not None:
            new_rank = ranks[module.key]
        else:
            new_rank = int(rule.value) if svd is None else rule.rank_of(svd.values)
        how: How = "svd" if svd is not None else "cut"
        if module.algorithm in ("lora", "dora") and new_rank >= module.rank:
            how, new_rank = "kept", module.rank
        elif new_rank == 0:
            how = "left out"
        stronger = module.rank / new_rank if how == "cut" and not _is_ours(file) else 1.0
        modules.append(_resized(module, change, svd, new_rank, how, rule, stronger))
        if how == "kept":
            matrices = {n: t for n, t in module.tensors.items() if n not in module.vectors}
            writer.add(module.key, matrices, module.alpha)
        elif how == "cut":
            tensors = cut_rank(
                {f"{module.key}.{n}": t for n, t in module.tensors.items()},
                new_rank,
                keep_alpha=not _is_ours(file),
            )
            matrices = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
            writer.add(module.key, matrices, float(matrices["alpha"]))
        elif how == "svd":
            assert svd is not None
            factors = empty_factors(change.shape, new_rank) if dry_run else svd.factors(new_rank)
            _add(writer, module, *factors, kernels[module.key])
    writer.add_words(file.words)
    metadata = _metadata(file, rule, writer)
    if not dry_run:
        writer.save(metadata)
    return ResizeReport(
        tuple(modules),
        rule,
        source.stat().st_size,
        writer.size(metadata),
        None if dry_run else out,
        file.unmatched,
        carried,
        tuple(file.words),
    )


def _each(
    file: LoraModules, rule: RankRule, what: str, observer: Observer, controls: Controls
) -> Iterator[tuple[LoraModule, Change, Decomposition | None]]:
    """Every module, its change and that decomposed, which it is not where it is cut.

    Once one is wrong, the others are only looked at, and all problems are raised at the end.
    """
    problems: list[Problem] = []
    modules = [module for module in file.modules.values() if module.has_matrix]
    for module in with_progress(modules, what, observer, controls):
        try:
            check_finite(*module.vectors.values())
            change = low_rank_part(module)
            svd = None
            if _is_dylora(file, rule) and {DOWN, UP} <= module.tensors.keys() <= {
                DOWN,
                UP,
                "alpha",
            }:
                check_finite(*module.tensors.values())
            else:
                svd = change.decompose()
        except ValueError as error:
            hint = "make or download it again"
            if isinstance(error, NotLowRank):
                hint = f"leave this file as it is{alternative(module)}"
            problems.append(Problem(str(file.path), f"{module.key}: {error}", hint))
        else:
            if not problems:
                yield module, change, svd
    if problems:
        raise LoraFileError(shortened(problems))


def _is_dylora(file: LoraModules, rule: RankRule) -> bool:
    """Whether its modules are cut to their first ranks."""
    texts = (file.metadata.get(f"ss_network_{name}", "") for name in ("module", "args"))
    return rule.by == "rank" and "dylora" in " ".join(texts).lower()


def _is_ours(file: LoraModules) -> bool:
    """Whether lorasmith trained it: every prefix of a DyLoRA then at the scale of the whole."""
    return file.metadata.get("modelspec.implementation_version", "").startswith("lorasmith/")


def _add(
    writer: LoraWriter, module: LoraModule, up: Tensor, down: Tensor, kernel: tuple[int, ...]
) -> None:
    writer.add_product(module.key, up, down, kernel)
    if module.decomposed:
        writer.add(module.key, {"dora_scale": module.tensors["dora_scale"]})


def _ranks_for_size(
    file: LoraModules,
    rule: RankRule,
    plan: LoraWriter,
    observer: Observer,
    controls: Controls,
) -> dict[str, int]:
    """
    Args:
        plan: gets every module at its whole rank, as if none were left out.
    """
    values: dict[str, Tensor] = {}
    costs: dict[str, int] = {}
    kernels = kernels_of(file)
    for module in file.modules.values():
        plan.add(module.key, module.vectors)
    plan.add_words(file.words)
    for module, change, svd in _each(file, rule, "measuring", observer, controls):
        assert svd is not None
        values[module.key] = svd.values
        costs[module.key] = sum(change.shape) * plan.dtype.itemsize
        _add(plan, module, *empty_factors(change.shape, len(svd.values)), kernels[module.key])
    if not values:
        return {}
    size = plan.size(_metadata(file, rule, plan))
    fixed = size - sum(costs[key] * len(values[key]) for key in values)
    budget = round(rule.value * 1e6) - fixed
    if budget < min(costs.values()):
        least = _rounded_up(fixed + min(costs.values()) + _LONGER_COMMENT)
        what = f"{rule.value:g} MB cannot hold the names and a single rank"
        raise UserError.of("--size", what, f"choose {least / 1e6:g} or more")
    return fill(values, costs, budget)


def _resized(
    module: LoraModule,
    change: Change,
    svd: Decomposition | None,
    rank: int,
    how: How,
    rule: RankRule,
    stronger: float = 1.0,
) -> ResizedModule:
    """What becomes of a module, for the report.

    Args:
        stronger: what the ranks that a cut leaves are multiplied by.
    """
    measure = None
    if svd is None:
        assert isinstance(change, Product)
        up = torch.cat([change.up[:, :rank] * (1.0 - stronger), change.up[:, rank:]], 1)
        norm, error = change.norm(), Product(up, change.down, change.scale).norm()
    else:
        measure = rule.measure(svd.values, len(svd.values) if how == "kept" else rank)
        norm = float(svd.values.norm())
        error = 0.0 if how == "kept" else float(svd.values[rank:].norm())
    return ResizedModule(module.key, module.block, module.rank, rank, norm, error, how, measure)


def _metadata(file: LoraModules, rule: RankRule, writer: LoraWriter) -> dict[str, str]:
    kinds = {module.algorithm for module in file.modules.values()}
    old = sorted({module.rank for module in file.modules.values()})
    ranks = str(old[0]) if len(old) == 1 else f"{old[0]} to {old[-1]}"
    comment = f"Dynamic resize with {rule.by}: {rule.value:g} from {ranks}"
    if rule.by == "rank":
        comment = f"dimension is resized from {ranks} to {rule.value:g}"
    return writer.network_metadata(
        carried_metadata(file.metadata),
        comment=f"{comment} (lorasmith)",
        was_lora=kinds <= {"lora", "dora"} and not _is_dylora(file, rule),
    )


def _rounded_up(size: int) -> int:
    """To three digits."""
    step: int = 10 ** max(len(str(size)) - 3, 0)
    return -(-size // step) * step


def fill(values: Mapping[str, Tensor], costs: Mapping[str, int], budget: int) -> dict[str, int]:
    """Ranks for which the singular values left out have the least sum of squares.

    Each next rank goes where it takes away most error for its bytes. As a module's squares fall
    and its ranks cost the same, no other choice of the same size is better until one no longer
    fits; what is left of the budget then goes to the best that does.

    Args:
        values: of each module, (n,), falling.
        costs: bytes of one rank of each module.
        budget: bytes for all.
    """
    ranks = dict.fromkeys(values, 0)
    queue = [(-gain / costs[key], key) for key in values if (gain := _gain(values[key], 0)) > 0]
    heapq.heapify(queue)
    left = budget
    while queue:
        _, key = heapq.heappop(queue)
        if costs[key] > left:
            continue  # Its later ranks cost as much and are worth less.
        left -= costs[key]
        ranks[key] += 1
        gain = _gain(values[key], ranks[key])
        if gain > 0:
            heapq.heappush(queue, (-gain / costs[key], key))
    return ranks


def _gain(values: Tensor, rank: int) -> float:
    return float(values[rank]) ** 2 if rank < len(values) else 0.0
