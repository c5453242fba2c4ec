"""A LoRA from the difference of two checkpoints, so that base + LoRA is nearly the tuned model.

Module by module: the difference from both mapped files, its best approximation
(:mod:`lora_tools.linalg.randomized_svd`, :mod:`lora_tools.linalg.kronecker`), rounding, and on to
the next; no more than one weight of each is in memory. The error told is measured in float32 before
rounding to the file's precision.

As sd-scripts' ``extract_lora_from_models``: a text encoder that hardly differs is left out
(``min_diff``), alpha is the rank, factors may be clamped to a quantile. Otherwise than there,
nothing is clamped unless it is asked for, and a singular value is shared between both factors.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from lorasmith.adapters.base import Norm
from lorasmith.adapters.targets import Selection, Target, modules_of, select
from lorasmith.config.adapter_types import ADAPTERS
from lorasmith.core.errors import CheckpointError, Problem, UserError
from lorasmith.core.events import Controls, Notice, Observer, ignore, with_progress
from lorasmith.core.files import PrecisionName
from lorasmith.formats.training_metadata import IMPLEMENTATIONS, ModelSpec
from lorasmith.lora_tools.checkpoint_diff import Differences
from lorasmith.lora_tools.linalg.kronecker import kronecker_shapes, nearest_kronecker
from lorasmith.lora_tools.linalg.randomized_svd import RankLimit, clamped, low_rank, with_clamping
from lorasmith.lora_tools.outputs import (
    Approximated,
    LoraWriter,
    check_output,
    check_space,
    choice_problems,
    empty_factors,
    model_problems,
    relative_error,
    seed_problems,
)
from lorasmith.tensors.files import PRECISIONS
from lorasmith.tensors.rng import generator

Kind = Literal["lora", "locon", "lokr"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Parts = Literal["all", "unet", "text-encoder"]
PARTS: dict[str, tuple[str, ...]] = {
    "all": ("unet", "text_encoder"), "unet": ("unet",), "text-encoder": ("text_encoder",),
}  # fmt: skip

# sd-scripts' threshold, in absolute weights.
MIN_DIFF = 0.01
# None has more digits in the metadata.
_LONGEST_ERROR = 1.23456e-5


@dataclass(frozen=True, slots=True)
class ExtractedModule(Approximated):
    """
    Args:
        rank: 0 for a LoKr whose second factor is whole.
        excess: by what share ``error`` may be above the least possible at this rank; an estimate.
            None where ``error`` is within single precision's rounding, and of a LoKr.
    """

    key: str
    part: str
    rank: int
    norm: float
    error: float
    excess: float | None


@dataclass(slots=True)
class ExtractReport:
    """
    Args:
        layers: how many were compared.
        norms: how many differ and are in the file.
        unchanged: keys of layers that are equal in both models; they get no module.
        left_out: text encoders that hardly differ -> their largest difference.
        outside: weights that differ and that no module holds, by kind.
        written: the new file; ``None`` of a dry run.
        numbers: how many the modules have; of a dry run, at the ranks asked for.
        size: of the file in bytes; of a dry run, at most.
    """

    modules: list[ExtractedModule] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    left_out: dict[str, float] = field(default_factory=dict)
    outside: dict[str, int] = field(default_factory=dict)
    written: Path | None = None
    numbers: int = 0
    size: int = 0
    layers: int = 0
    norms: int = 0

    @property
    def error(self) -> float:
        """‖D - what the LoRA adds‖ / ‖D‖ over all modules together."""
        return relative_error(self.modules)


def extract(
    base: str | Path,
    tuned: str | Path,
    out: str | Path,
    *,
    rank: int | None = None,
    retain: float | None = None,
    type: Kind = "lora",  # noqa: A002
    conv_rank: int | None = None,
    parts: Parts = "all",
    norms: bool = False,
    min_diff: float = MIN_DIFF,
    clamp_quantile: float | None = None,
    factor: int | None = None,
    load_precision: PrecisionName = "fp32",
    precision: PrecisionName = "fp16",
    seed: int = 0,
    dry_run: bool = False,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> ExtractReport:
    """Write the LoRA that makes ``tuned`` of ``base``.

    >>> extract("base.safetensors", "tuned.safetensors", "x.safetensors", rank=16)

    Args:
        base, tuned: see :func:`lorasmith.models.open.open_checkpoint`.
        rank: of every layer; with ``retain`` at most. One of the two must be given.
        retain: each layer's smallest rank that keeps this share of its change's norm, up to 1.
        type: "lora"; "locon", which has the residual blocks and resamplers too; "lokr", the
            nearest Kronecker product of the layers of "locon".
        conv_rank: of convolutions larger than 1 x 1, 0 for none of them and of the residual
            blocks; None is 0 for "lora" and otherwise as ``rank``.
        parts: "all", "unet" or "text-encoder".
        norms: those that differ are held too, exactly, as LyCORIS' ``w_norm`` and ``b_norm``.
        min_diff: a text encoder without a larger difference in any weight is left out.
        clamp_quantile: factors are clamped to this quantile of their values, with the singular
            values all in ``up``, as sd-scripts does at 0.99; ``None`` clamps nothing.
        factor: LoKr's, as LyCORIS': the size wished for of the first factor, -1 or None for the
            sides' square roots.
        load_precision: the difference is taken in it.
        precision: of the file.
        seed: of the random vectors that each decomposition starts from.
        dry_run: only say which layers and how many numbers; no weight is read.

    Raises:
        UserError: ``out`` is there already, or does not fit on the disk.
        CheckpointError: see :class:`lorasmith.lora_tools.checkpoint_diff.Differences`; weights that
            hold NaN, all of them; or the two models are the same in all layers.
        Stopped: asked to stop; nothing is written.
    """
    out, conv = Path(out), None
    if conv_rank != 0 and (type != "lora" or conv_rank is not None):
        conv = RankLimit(rank if conv_rank is None else conv_rank, retain)
    form = _Form(type, RankLimit(rank, retain), conv, clamp_quantile, factor, seed)
    problems = [*model_problems("--base", base), *model_problems("--tuned", tuned)]
    for option, value, choices in (
        ("--type", type, KINDS), ("--parts", parts, PARTS),
        ("--precision", precision, PRECISIONS), ("--load-precision", load_precision, PRECISIONS),
    ):  # fmt: skip
        problems += choice_problems(option, value, choices)
    problems += form.problems()
    if not 0.0 <= min_diff < math.inf:
        what, hint = f"{min_diff:g} is no difference", "choose 0 or more, as 0.01"
        problems.append(Problem("--min-diff", what, hint))
    problems += [*seed_problems(seed), *check_output(out, [Path(base), Path(tuned)])]
    if problems:
        raise UserError(problems)
    differences = Differences(base, tuned, PRECISIONS[load_precision])
    selected = select(differences.roots, Selection(conv=conv is not None))
    targets = [target for target in selected if target.part in PARTS[parts]]
    norm_targets = [
        target
        for root in differences.roots
        if norms and root.part in PARTS[parts]
        for target in modules_of(root)
        if isinstance(target.module, Norm)
    ]
    report = ExtractReport(layers=len(targets))
    plan, writer = (LoraWriter(out, PRECISIONS[precision]) for _ in range(2))
    for target in targets:
        form.plan(plan, target)
    for target in norm_targets:
        shape = target.module.weight.shape
        plan.add(target.key, {n: torch.empty(shape, device="meta") for n in ("w_norm", "b_norm")})
    planned = plan.size(_metadata(differences, form, writer, _LONGEST_ERROR))
    if dry_run:
        weights = [tensor for name, tensor in plan.tensors.items() if not name.endswith(".alpha")]
        report.numbers, report.size = sum(tensor.numel() for tensor in weights), planned
        return report
    # Where no rank is given, what it will be is not known before.
    has_known_rank = rank is not None or type == "lokr"
    if has_known_rank and (problems := check_space(out, planned)):
        raise UserError(problems)
    controls = controls or Controls()
    report.left_out = _equal_text_encoders(differences, targets, min_diff, observer)
    targets, norm_targets = (
        [target for target in each if target.root.folder not in report.left_out]
        for each in (targets, norm_targets)
    )
    for target in with_progress(targets, "extracting", observer, controls):
        change = differences.of(target.root.folder, f"{target.path}.weight")
        norm = float(torch.linalg.vector_norm(change))
        if not math.isfinite(norm):
            problems.append(differences.unusable(target.root.folder, f"{target.path}.weight"))
        elif norm == 0.0:
            report.unchanged.append(target.key)
        elif not problems:
            report.modules.append(form.add(writer, target, change))
    for target in norm_targets:
        changes = _norm_changes(differences, target, problems)
        report.norms += bool(changes)
        writer.add(target.key, changes)
    if problems:
        raise CheckpointError(problems)
    if not writer.tensors:
        raise _nothing(differences, report)
    report.numbers = sum(tensor.numel() for tensor in writer.tensors.values())
    in_modules = {(t.root.folder, f"{t.path}.weight") for t in (*targets, *norm_targets)}
    in_modules |= {(t.root.folder, f"{t.path}.bias") for t in norm_targets}
    folders = [root.folder for root in differences.roots if root.part in PARTS[parts]]
    folders = [folder for folder in folders if folder not in report.left_out]
    report.outside = _outside(differences, folders, in_modules, controls)
    metadata = _metadata(differences, form, writer, report.error)
    report.size = writer.size(metadata)
    writer.save(metadata)
    report.written = out
    return report


@dataclass(frozen=True, slots=True)
class _Form:
    """What a layer's change is put into.

    Args:
        linear: for Linear layers and 1 x 1 convolutions; of LoKr's second factor.
        conv: for larger convolutions; ``None`` leaves them out, and with them the residual blocks.
    """

    kind: Kind
    linear: RankLimit
    conv: RankLimit | None
    clamp_quantile: float | None
    factor: int | None
    seed: int

    def problems(self) -> list[Problem]:
        problems = []
        for option, limit in (("--rank", self.linear), ("--conv-rank", self.conv)):
            if limit is None:
                continue
            if limit.rank is None and limit.retain is None:
                what = "neither a rank nor a share to retain is given"
                problems.append(Problem(option, what, "give --rank or --retain"))
            if limit.rank is not None and limit.rank < 1:
                problems.append(Problem(option, f"{limit.rank} is no rank", "choose 1 or more"))
            if limit.retain is not None and not 0.0 < limit.retain <= 1.0:
                what, hint = f"{limit.retain:g} is no share", "choose a number up to 1, as 0.95"
                problems.append(Problem("--retain", what, hint))
        quantile, factor = self.clamp_quantile, self.factor
        if quantile is not None and not 0.0 < quantile <= 1.0:
            what, hint = f"{quantile:g} is no quantile", "choose a number up to 1, as 0.99"
            problems.append(Problem("--clamp-quantile", what, hint))
        if quantile is not None and self.kind == "lokr":
            problems.append(Problem("--clamp-quantile", "is not for lokr", "leave it out"))
        if factor is not None and (factor == 0 or factor < -1):
            hint = "choose 1 or more, or -1"
            problems.append(Problem("--factor", f"{factor} divides nothing", hint))
        elif factor is not None and self.kind != "lokr":
            hint = "leave it out, or choose --type lokr"
            problems.append(Problem("--factor", f"does nothing with {self.kind}", hint))
        return problems

    def rank_limit(self, target: Target) -> RankLimit:
        return self.conv or self.linear if target.is_spatial else self.linear

    def plan(self, writer: LoraWriter, target: Target) -> None:
        """A module without numbers, at the rank asked for, or at most."""
        shape, rank = tuple(target.layer.weight.shape), self.rank_limit(target).rank
        if self.kind == "lokr":
            shapes = kronecker_shapes(shape, self._factor, rank)
            tensors = {name: torch.empty(size, device="meta") for name, size in shapes.items()}
            writer.add(target.key, tensors, float(rank or 1))
        else:
            sides = shape[0], math.prod(shape[1:])
            writer.add_product(target.key, *empty_factors(sides, rank or min(sides)), shape[2:])

    @property
    def _factor(self) -> int:
        return -1 if self.factor is None else self.factor

    def add(self, writer: LoraWriter, target: Target, change: Tensor) -> ExtractedModule:
        """The nearest module to a change, which is overwritten."""
        draw = generator(self.seed, f"extract {target.key}")
        rank_limit, kernel = self.rank_limit(target), change.shape[2:]
        excess: float | None = None
        if self.kind == "lokr":
            product = nearest_kronecker(change, self._factor, rank_limit, draw)
            total, residual, rank = product.total, product.residual, product.rank
            # Of a LoKr without a rank alpha is read by nobody, and LyCORIS writes one.
            writer.add(target.key, product.tensors, float(rank or 1))
        else:
            original = None if self.clamp_quantile is None else change.flatten(1).clone()
            nearest = low_rank(change.flatten(1), rank_limit, draw)
            up, down, rank = nearest.up, nearest.down, nearest.rank
            total, residual, excess = nearest.total, nearest.residual, nearest.excess
            if original is not None:
                assert self.clamp_quantile is not None
                up, down = clamped(nearest, self.clamp_quantile)
                residual = float((original - up @ down).double().square().sum())
                excess = with_clamping(nearest, residual)
            writer.add_product(target.key, up, down, kernel)
        norm, error = math.sqrt(total), math.sqrt(residual)
        return ExtractedModule(target.key, target.root.folder, rank, norm, error, excess)


def _equal_text_encoders(
    differences: Differences, targets: list[Target], limit: float, observer: Observer
) -> dict[str, float]:
    """Text encoders that differ by no more than ``limit``, and by how much."""
    equal = {}
    for root in differences.roots:
        names = [f"{target.path}.weight" for target in targets if target.root is root]
        if root.part == "unet" or not names:
            continue
        largest = differences.largest(root.folder, names, limit)
        if largest <= limit:
            equal[root.folder] = largest
            what = f"{root.folder}: differs by {largest:.2g} at most, so it is left out"
            observer(Notice("info", f"{what} (the limit is {limit:g})"))
    return equal


def _norm_changes(
    differences: Differences, target: Target, problems: list[Problem]
) -> dict[str, Tensor]:
    """Both changes of a norm, which some readers take together only; none where it is equal."""
    changes = {}
    for name, leaf in (("w_norm", "weight"), ("b_norm", "bias")):
        change = differences.of(target.root.folder, f"{target.path}.{leaf}")
        if not bool(change.isfinite().all()):
            problems.append(differences.unusable(target.root.folder, f"{target.path}.{leaf}"))
        changes[name] = change.clone()
    return changes if any(bool((change != 0).any()) for change in changes.values()) else {}


def _nothing(differences: Differences, report: ExtractReport) -> UserError:
    """That no layer gets a module, and why."""
    what, hint = "has the base model's weights in all of these layers", "give the tuned model"
    if any(report.left_out.values()):
        what = f"{what}, but for the text encoders that hardly differ and are left out"
        hint = "say --min-diff 0 to take them"
    return CheckpointError.of(differences.tuned.source, what, hint)


def _outside(
    differences: Differences,
    folders: list[str],
    in_modules: set[tuple[str, str]],
    controls: Controls,
) -> dict[str, int]:
    """How many weights differ and are in no module, by kind."""
    counts = Counter[str]()
    for folder in folders:
        for name, shape in differences.shapes[folder].items():
            controls.check()
            if (folder, name) not in in_modules and differences.differs(folder, name):
                counts[_kind(name, shape)] += 1
    return dict(counts)


def _kind(name: str, shape: tuple[int, ...]) -> str:
    if len(shape) == 4:
        return "convolutions"
    if len(shape) == 2:
        return "embeddings" if "embeddings." in name else "Linear layers"
    return "biases" if name.endswith(".bias") else "norms"


def _metadata(
    differences: Differences, form: _Form, writer: LoraWriter, error: float
) -> dict[str, str]:
    """sd-scripts' minimum of ``ss_`` keys, modelspec, and what was extracted from what.

    Args:
        writer: holds the modules, as far as they are made.
        error: ‖D - what the LoRA adds‖ / ‖D‖.
    """
    title = writer.out.stem
    linear, conv = ({rank for rank, _ in sizes} for sizes in writer.sizes())
    if form.kind == "lokr":
        # What has no rank since it is whole was still asked for one.
        linear, conv = (
            {one.rank} if one is not None and one.retain is None and one.rank else set()
            for one in (form.linear, form.conv)
        )
    dim = _dim(linear or conv)
    architecture = differences.base.architecture
    family, prediction = architecture.family, architecture.prediction
    base, tuned = (Path(opened.source).name for opened in (differences.base, differences.tuned))
    row = ADAPTERS["c3lier" if form.kind == "lora" and form.conv is not None else form.kind]
    args: dict[str, str] = {} if row.algo is None else {"algo": row.algo}
    if form.conv is not None:
        args |= {"conv_dim": _dim(conv), "conv_alpha": _dim(conv)}
    side = architecture.native_resolution
    spec = ModelSpec(
        architecture=family.modelspec[prediction],
        implementation=IMPLEMENTATIONS[family.lora_names],
        title=title,
        resolution=(side, side),
        prediction=prediction,
        description=f"the difference of {tuned} to {base}",
    )
    values = {
        "ss_v2": str(family.name == "sd2"),
        "ss_base_model_version": family.base_model_version[prediction],
        "ss_network_module": row.module,
        "ss_network_dim": dim,
        "ss_network_alpha": dim,
        "ss_output_name": title,
        "ss_sd_model_name": base,
        "ss_training_comment": f"extracted from {tuned} by lorasmith",
        "lorasmith.extract": json.dumps(
            {"base": base, "tuned": tuned, "relative_error": float(f"{error:.6g}")}
        ),
    }
    if args:
        values["ss_network_args"] = json.dumps(args)
    return {**values, **spec.metadata()}


def _dim(ranks: set[int]) -> str:
    """As sd-scripts writes ranks that differ."""
    return str(*ranks) if len(ranks) == 1 else "Dynamic"
