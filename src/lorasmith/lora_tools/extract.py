"""A LoRA from the difference of two checkpoints, so that base + LoRA is nearly the tuned model.

Module by module: the difference from both mapped files, its best approximation
(:mod:`lora_tools.random_svd`, :mod:`lora_tools.kronecker`), rounding, and on to the next; no more
than one weight of each is in memory. The error told is measured in float32 before rounding to the
file's precision.

As sd-scripts' ``extract_lora_from_models``: a text encoder that hardly differs is left out
(``min_diff``), alpha is the rank, factors may be clamped to a quantile. Otherwise than there,
nothing is clamped unless it is asked for, and a singular value is shared between both factors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lorasmith.adapters.base import Norm
from lorasmith.adapters.file import save_lora
from lorasmith.adapters.targets import Selection, Target, modules_of, select
from lorasmith.core.errors import CheckpointError, Problem, UserError
from lorasmith.core.events import Controls, Notice, Observer, ignore, with_progress
from lorasmith.lora_tools.checkpoint_diff import Differences
from lorasmith.lora_tools.extract_metadata import extract_metadata
from lorasmith.lora_tools.linalg.kronecker import kronecker_shapes, nearest_kronecker
from lorasmith.lora_tools.linalg.randomized_svd import Wanted, clamped, low_rank, with_clamping
from lorasmith.lora_tools.outputs import (
    alpha_tensor,
    check_output,
    check_space,
    choice_problems,
    file_bytes,
    model_problems,
    seed_problems,
)
from lorasmith.tensors.files import PRECISIONS, Precision
from lorasmith.tensors.rng import generator

Kind = Literal["lora", "locon", "lokr"]
KINDS: tuple[Kind, ...] = ("lora", "locon", "lokr")
Parts = Literal["all", "unet", "text-encoder"]
PARTS: dict[str, tuple[str, ...]] = {
    "all": ("unet", "text_encoder"), "unet": ("unet",), "text-encoder": ("text_encoder",),
}  # fmt: skip

# sd-scripts' threshold, in absolute weights.
MIN_DIFF = 0.01
# None has more digits in the metadata.
_LONGEST_ERROR = 1.23456e-5


@dataclass(frozen=True, slots=True)
class _Options:
    """What :func:`extract` is asked for.

    Args:
        wanted: of Linear layers and 1 x 1 convolutions; of LoKr's second factor.
        conv: of larger convolutions; ``None`` leaves them out, and with them the residual blocks.
        parts: "unet", "text_encoder".
    """

    kind: Kind
    wanted: Wanted
    conv: Wanted | None
    parts: tuple[str, ...]
    norms: bool
    min_diff: float
    clamp_quantile: float | None
    factor: int | None
    dtype: torch.dtype
    seed: int


@dataclass(frozen=True, slots=True)
class ExtractedModule:
    """
    Args:
        rank: 0 for a LoKr whose second factor is whole.
        norm: ‖D‖ of the difference, Frobenius.
        error: ‖D - what the module adds‖, before rounding to the file's precision.
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
        norm = sum(module.norm**2 for module in self.modules)
        return math.sqrt(sum(m.error**2 for m in self.modules) / norm) if norm > 0 else 0.0


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
    load_precision: Precision = "fp32",
    precision: Precision = "fp16",
    seed: int = 0,
    dry_run: bool = False,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> ExtractReport:
    """Write the LoRA that makes ``tuned`` of ``base``.

    >>> extract("base.safetensors", "tuned.safetensors", "x.safetensors", rank=16)  # doctest: +SKIP

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
    problems = [*model_problems("--base", base), *model_problems("--tuned", tuned)]
    for option, value, choices in (
        ("--type", type, KINDS), ("--parts", parts, PARTS), ("--precision", precision, PRECISIONS),
        ("--load-precision", load_precision, PRECISIONS),
    ):  # fmt: skip
        problems += choice_problems(option, value, choices)
    wanted, conv = Wanted(rank, retain), None
    if conv_rank != 0 and (type != "lora" or conv_rank is not None):
        conv = Wanted(rank if conv_rank is None else conv_rank, retain)
    out = Path(out)
    options = _Options(
        type, wanted, conv, PARTS.get(parts, ()), norms, min_diff, clamp_quantile, factor,
        PRECISIONS.get(precision, torch.float16), seed,
    )  # fmt: skip
    problems += [*_problems(options), *check_output(out, [Path(base), Path(tuned)])]
    if problems:
        raise UserError(problems)
    differences = Differences(base, tuned, PRECISIONS[load_precision])
    job = _Extraction(differences, options, observer, controls or Controls())
    planned = job.planned_bytes(out.stem)
    if dry_run:
        job.report.numbers, job.report.size = job.numbers(), planned
        return job.report
    # Where no rank is given, what it will be is not known before.
    known = options.wanted.rank is not None or options.kind == "lokr"
    if known and (problems := check_space(out, planned)):
        raise UserError(problems)
    tensors = job.run()
    metadata = job.metadata(out.stem, job.report.error)
    shapes = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    job.report.size = file_bytes(shapes, metadata)
    save_lora(out, tensors, metadata)
    job.report.written = out
    return job.report


def _problems(options: _Options) -> list[Problem]:
    problems = []
    for option, wanted in (("--rank", options.wanted), ("--conv-rank", options.conv)):
        if wanted is None:
            continue
        if wanted.rank is None and wanted.retain is None:
            what = "neither a rank nor a share to retain is given"
            problems.append(Problem(option, what, "give --rank or --retain"))
        if wanted.rank is not None and wanted.rank < 1:
            problems.append(Problem(option, f"{wanted.rank} is no rank", "choose 1 or more"))
        if wanted.retain is not None and not 0.0 < wanted.retain <= 1.0:
            what, hint = f"{wanted.retain:g} is no share", "choose a number up to 1, as 0.95"
            problems.append(Problem("--retain", what, hint))
    quantile = options.clamp_quantile
    if quantile is not None and not 0.0 < quantile <= 1.0:
        what, hint = f"{quantile:g} is no quantile", "choose a number up to 1, as 0.99"
        problems.append(Problem("--clamp-quantile", what, hint))
    if quantile is not None and options.kind == "lokr":
        problems.append(Problem("--clamp-quantile", "is not for lokr", "leave it out"))
    if options.factor is not None and (options.factor == 0 or options.factor < -1):
        hint = "choose 1 or more, or -1"
        problems.append(Problem("--factor", f"{options.factor} divides nothing", hint))
    elif options.factor is not None and options.kind != "lokr":
        hint = "leave it out, or choose --type lokr"
        problems.append(Problem("--factor", f"does nothing with {options.kind}", hint))
    if not 0.0 <= options.min_diff < math.inf:
        what, hint = f"{options.min_diff:g} is no difference", "choose 0 or more, as 0.01"
        problems.append(Problem("--min-diff", what, hint))
    return [*problems, *seed_problems(options.seed)]


class _Extraction:
    def __init__(
        self,
        differences: Differences,
        options: _Options,
        observer: Observer,
        controls: Controls,
    ) -> None:
        self.differences, self.options = differences, options
        self.report = ExtractReport()
        self._observer, self._controls = observer, controls
        selected = select(differences.roots, Selection(conv=options.conv is not None))
        self.targets = [target for target in selected if target.part in options.parts]
        self.norms = [
            target
            for root in differences.roots
            if options.norms and root.part in options.parts
            for target in modules_of(root)
            if isinstance(target.module, Norm)
        ]
        self.spatial = {target.key for target in self.targets if target.is_spatial}
        self._factor = -1 if options.factor is None else options.factor
        self.report.layers = len(self.targets)

    def shapes_of(self, target: Target) -> dict[str, tuple[int, ...]]:
        """Of a module's tensors at the rank asked for, or at most."""
        shape, wanted = tuple(target.layer.weight.shape), self._wanted(target)
        if self.options.kind == "lokr":
            return kronecker_shapes(shape, self._factor, wanted.rank)
        outputs, inputs = shape[0], math.prod(shape[1:])
        rank = min(wanted.rank or outputs, outputs, inputs)
        ones = [1] * (len(shape) - 2)
        return {"lora_up.weight": (outputs, rank, *ones), "lora_down.weight": (rank, *shape[1:])}

    def numbers(self) -> int:
        """Of all modules, at most."""
        shapes = (shape for target in self.targets for shape in self.shapes_of(target).values())
        norms = sum(2 * target.module.weight.numel() for target in self.norms)
        return sum(math.prod(shape) for shape in shapes) + norms

    def metadata(self, title: str, error: float) -> dict[str, str]:
        """Of the file, as far as its modules are made."""
        wanted: list[Wanted | None] = [self.options.wanted, self.options.conv]
        ranks: list[set[int]] = [set(), set()]
        for module in self.report.modules:
            ranks[module.key in self.spatial].add(module.rank)
        if self.options.kind == "lokr":
            # What has no rank since it is whole was still asked for one.
            asked = [own is not None and own.retain is None and own.rank for own in wanted]
            ranks = [{rank} if rank else set() for rank in asked]
        linear, conv = ranks
        return extract_metadata(
            self.differences,
            title,
            self.options.kind,
            linear or conv,
            conv if self.options.conv is not None else None,
            error,
        )

    def planned_bytes(self, title: str) -> int:
        """Of the file, at most."""
        dtype = self.options.dtype
        shapes: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
        for target in self.targets:
            for name, shape in self.shapes_of(target).items():
                shapes[f"{target.key}.{name}"] = dtype, shape
            alpha = alpha_tensor(float(self._wanted(target).rank or 1), dtype)
            shapes[f"{target.key}.alpha"] = alpha.dtype, ()
        for target in self.norms:
            for name in ("w_norm", "b_norm"):
                shapes[f"{target.key}.{name}"] = dtype, tuple(target.module.weight.shape)
        return file_bytes(shapes, self.metadata(title, _LONGEST_ERROR))

    def run(self) -> dict[str, Tensor]:
        """The file's tensors; fills the report."""
        tensors: dict[str, Tensor] = {}
        problems: list[Problem] = []
        targets = self._without_equal_texts()
        for target in with_progress(targets, "extracting", self._observer, self._controls):
            change = self.differences.of(target.root.folder, f"{target.path}.weight")
            norm = float(torch.linalg.vector_norm(change))
            if not math.isfinite(norm):
                name = f"{target.path}.weight"
                problems.append(self.differences.unusable(target.root.folder, name))
            elif norm == 0.0:
                self.report.unchanged.append(target.key)
            elif not problems:
                made = self._module(target, change)
                tensors.update((f"{target.key}.{name}", value) for name, value in made.items())
        norms = [t for t in self.norms if t.root.folder not in self.report.left_out]
        for target in norms:
            changes = self._norm(target, problems)
            self.report.norms += bool(changes)
            tensors.update((f"{target.key}.{name}", value) for name, value in changes.items())
        if problems:
            raise CheckpointError(problems)
        if not tensors:
            raise self._nothing()
        self.report.numbers = sum(tensor.numel() for tensor in tensors.values())
        held = {(t.root.folder, f"{t.path}.weight") for t in (*targets, *norms)}
        self._look_outside(held | {(t.root.folder, f"{t.path}.bias") for t in norms})
        return tensors

    def _nothing(self) -> UserError:
        """That no layer gets a module, and why."""
        what, hint = "has the base model's weights in all of these layers", "give the tuned model"
        if any(self.report.left_out.values()):
            what = f"{what}, but for the text encoders that hardly differ and are left out"
            hint = "say --min-diff 0 to take them"
        return CheckpointError.of(self.differences.tuned.source, what, hint)

    def _wanted(self, target: Target) -> Wanted:
        return (
            self.options.conv or self.options.wanted if target.is_spatial else self.options.wanted
        )

    def _without_equal_texts(self) -> list[Target]:
        """The targets but those of text encoders that hardly differ."""
        for root in self.differences.roots:
            names = [f"{t.path}.weight" for t in self.targets if t.root is root]
            if root.part == "unet" or not names:
                continue
            limit = self.options.min_diff
            largest = self.differences.largest(root.folder, names, limit)
            if largest <= limit:
                self.report.left_out[root.folder] = largest
                what = f"{root.folder}: differs by {largest:.2g} at most, so it is left out"
                self._observer(Notice("info", f"{what} (the limit is {limit:g})"))
        return [t for t in self.targets if t.root.folder not in self.report.left_out]

    def _module(self, target: Target, change: Tensor) -> dict[str, Tensor]:
        """Its tensors as the file holds them."""
        draw = generator(self.options.seed, f"extract {target.key}")
        wanted, shape = self._wanted(target), tuple(change.shape)
        if self.options.kind == "lokr":
            product = nearest_kronecker(change, self._factor, wanted, draw)
            made, rank = product.tensors(), product.rank
            total, residual = product.total, product.residual
            excess: float | None = None
        else:
            kept = None if self.options.clamp_quantile is None else change.clone()
            found = low_rank(change.flatten(1), wanted, draw)
            up, down, rank = found.up, found.down, found.rank
            total, residual, excess = found.total, found.residual, found.excess
            if kept is not None:
                assert self.options.clamp_quantile is not None
                up, down = clamped(found, self.options.clamp_quantile)
                residual = float((kept.flatten(1) - up @ down).double().square().sum())
                excess = with_clamping(found, residual)
            ones = [1] * (len(shape) - 2)
            made = {
                "lora_down.weight": down.reshape(rank, *shape[1:]),
                "lora_up.weight": up.reshape(-1, rank, *ones),
            }
        self.report.modules.append(
            ExtractedModule(
                target.key, target.root.folder, rank, math.sqrt(total), math.sqrt(residual), excess
            )
        )
        dtype = self.options.dtype
        rounded = {name: tensor.to(dtype) for name, tensor in made.items()}
        # Of a LoKr without a rank alpha is read by nobody, and LyCORIS writes one.
        return {**rounded, "alpha": alpha_tensor(float(rank or 1), dtype)}

    def _norm(self, target: Target, problems: list[Problem]) -> dict[str, Tensor]:
        """Both changes of a norm, which some readers take together only; none where it is equal."""
        changes = {}
        for name, leaf in (("w_norm", "weight"), ("b_norm", "bias")):
            change = self.differences.of(target.root.folder, f"{target.path}.{leaf}")
            if not bool(change.isfinite().all()):
                stored = f"{target.path}.{leaf}"
                problems.append(self.differences.unusable(target.root.folder, stored))
            changes[name] = change.to(self.options.dtype, copy=True)
        return changes if any(bool((change != 0).any()) for change in changes.values()) else {}

    def _look_outside(self, held: set[tuple[str, str]]) -> None:
        """Count what differs and is in no module."""
        parts = [root.folder for root in self.differences.roots if root.part in self.options.parts]
        for part, name, shape in self._others(parts, held):
            self._controls.check()
            if self.differences.differs(part, name):
                kind = _kind(name, shape)
                self.report.outside[kind] = self.report.outside.get(kind, 0) + 1

    def _others(
        self, parts: list[str], held: set[tuple[str, str]]
    ) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        shapes: Mapping[str, Mapping[str, Any]] = self.differences.shapes
        for part in parts:
            for name, shape in shapes[part].items():
                if (part, name) not in held and part not in self.report.left_out:
                    yield part, name, shape


def _kind(name: str, shape: tuple[int, ...]) -> str:
    if len(shape) == 4:
        return "convolutions"
    if len(shape) == 2:
        return "embeddings" if "embeddings." in name else "Linear layers"
    return "biases" if name.endswith(".bias") else "norms"
