"""Several LoRAs in one file: Σ weight · ΔW, exactly or at the least error of a rank.

A sum of LoRAs is their factors side by side ("concat": exact, and its rank the sum of theirs). Its
best approximation of a lower rank comes from the same factors ("svd"), see
:mod:`lora_tools.linalg.low_rank`. "ties" and "dare" change what is added, see
:mod:`lora_tools.interference`.

The result is kohya's LoRA with alpha = rank in every module, whatever the files were: LoHa, LoKr
and whole differences are added as what they are, and so are changes of norms and biases. DoRA,
(IA)^3 and rotations depend on the base model's weight and are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from lorasmith.adapters.file import save_lora
from lorasmith.core.errors import LoraFileError, Problem, UserError
from lorasmith.core.events import Controls, Notice, Observer, ignore, with_progress
from lorasmith.formats.kohya_keys import block_of_key, part_of
from lorasmith.lora_tools.family import GUESSED_BLOCKS, lora_family
from lorasmith.lora_tools.inputs import LoraSource, Sources, parse_sources
from lorasmith.lora_tools.linalg.factorize import NotLowRank, alternative, change_of, kernels_of
from lorasmith.lora_tools.linalg.low_rank import (
    Change,
    NotFinite,
    as_product,
    check_finite,
    concatenate,
    whole,
)
from lorasmith.lora_tools.linalg.ties_dare import dare, ties
from lorasmith.lora_tools.linalg.truncated_svd import Truncated, truncate
from lorasmith.lora_tools.lora_file import DOWN, UP, LoraModules, read_modules, shortened
from lorasmith.lora_tools.merge_metadata import merged_metadata
from lorasmith.lora_tools.outputs import (
    alpha_tensor,
    check_output,
    check_space,
    choice_problems,
    file_bytes,
    precision_of,
    seed_problems,
)
from lorasmith.tensors.files import PRECISIONS, Precision
from lorasmith.tensors.rng import generator

Method = Literal["concat", "svd", "average", "ties", "dare"]
# A norm's weight as a whole difference is the same as LyCORIS' own name for it.
_VECTORS = {"diff": "w_norm"}
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, slots=True)
class _Options:
    """What :func:`merge` is asked for."""

    method: Method = "concat"
    rank: int | None = None
    density: float | None = None
    seed: int | None = None

    def problems(self) -> list[Problem]:
        problems = choice_problems("--method", self.method, METHODS)
        if self.rank is not None and self.rank < 1:
            problems.append(Problem("--rank", f"{self.rank} is not a rank", "choose 1 or more"))
        if self.rank is not None and self.method == "concat":
            what = "concat keeps every rank of every file"
            problems.append(Problem("--rank", what, "leave it out, or choose --method svd"))
        if self.density is not None and not 0 < self.density <= 1:
            hint = "choose the share that stays, up to 1, as 0.5"
            problems.append(Problem("--density", f"{self.density:g} is no share", hint))
        if self.seed is not None:
            problems += seed_problems(self.seed)
        for option, value, methods in (
            ("--density", self.density, ("ties", "dare")),
            ("--seed", self.seed, ("dare",)),
        ):
            if value is not None and self.method not in methods:
                hint = f"leave it out, or choose --method {' or '.join(methods)}"
                problems.append(Problem(option, f"does nothing with {self.method}", hint))
        return problems


@dataclass(frozen=True, slots=True)
class MergedModule:
    """One module of the result.

    Args:
        ranks: those of the files that have it, 0 for the others.
        norm: Frobenius norm of the merged change.
        error: ‖merged change - what the file holds‖, before rounding to the file's precision.
    """

    key: str
    block: str
    ranks: tuple[int, ...]
    rank: int
    norm: float
    error: float

    @property
    def retained(self) -> float:
        """Share of the energy ‖ΔW‖² that the module holds."""
        return 1.0 - (self.error / self.norm) ** 2 if self.norm > 0 else 1.0


@dataclass(frozen=True, slots=True)
class MergeReport:
    """
    Args:
        new_bytes: size of the new file.
        written: the new file; ``None`` of a dry run.
        unmatched: of each source, tensors that belong to no layer and were left out.
        vectors: changes of norms and biases in the new file; they are added as they are.
    """

    modules: tuple[MergedModule, ...]
    sources: tuple[LoraSource, ...]
    new_bytes: int
    written: Path | None
    unmatched: tuple[tuple[str, ...], ...]
    vectors: int = 0

    @property
    def error(self) -> float:
        """Of all modules together, over their norm."""
        norm = sum(module.norm**2 for module in self.modules)
        error = sum(module.error**2 for module in self.modules)
        return math.sqrt(error / norm) if norm > 0 else 0.0


def merge(
    sources: Sources,
    out: str | Path,
    *,
    method: Method | None = None,
    rank: int | None = None,
    density: float | None = None,
    seed: int | None = None,
    precision: Precision | None = None,
    dry_run: bool = False,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> MergeReport:
    """Write the sum of ``sources`` to ``out``; a dry run writes nothing.

    >>> merge({"a.safetensors": 0.8, "b.safetensors": 0.4}, "ab.safetensors")  # doctest: +SKIP

    Args:
        sources: ``{path: weight}``, or a list of files, of ``(path, weight)``, and of texts as the
            command line takes them: ``["a.safetensors:0.8:lbw=OUTALL", "b.safetensors"]``.
        method: "concat" and "svd" add; "average" divides the weights by their sum first; "ties"
            and "dare" are those of :mod:`lorasmith.lora_tools.linalg.ties_dare`. None is "concat",
            or "svd" where a rank is given.
        rank: the most that a module has. None keeps everything, which "ties" and "dare" cannot:
            they, and "svd", then take the largest rank of the files.
        density: of "ties" and "dare": the share of numbers that stays, 0.5 for None.
        seed: of "dare"; 0 for None.
        precision: of the new file; that of the files for None, fp32 where these differ.
        observer: gets a Progress after each module, and what the user should know.

    Raises:
        UserError: an option makes no sense, ``out`` is there already, or the disk is full.
        LoraFileError: a file is damaged, holds NaN, is of another family than the first, or has
            modules that cannot be added without the base model; every such file or module.
        Stopped: asked to stop; nothing is written.
    """
    options = _Options(method or ("concat" if rank is None else "svd"), rank, density, seed)
    problems = [*options.problems(), *choice_problems("--precision", precision, PRECISIONS)]
    sources, out = parse_sources(sources), Path(out)
    problems += check_output(out, [source.path for source in sources])
    if not sources:
        problems.append(Problem("", "there is no file to merge", "name at least one"))
    if problems:
        raise UserError(problems)
    files = _read(sources)
    for file in files:
        if lora_family(file.modules, file.unmatched, file.metadata).guesses_blocks:
            observer(Notice("warning", f"{file.path.name}: {GUESSED_BLOCKS}"))
    job = _Merging(sources, files, options, precision, observer, controls or Controls())
    tensors = job.run()
    if not tensors:
        raise UserError.of("", "every weight is 0, so nothing is left", "choose other weights")
    sizes = [(module.rank, float(module.rank), job.is_conv(module.key)) for module in job.done]
    metadata = merged_metadata(sources, files, sizes, method=options.method, name=out.stem)
    size = file_bytes(job.shapes, metadata)
    if not dry_run:
        if problems := check_space(out, size):
            raise UserError(problems)
        save_lora(out, tensors, metadata)
    return MergeReport(
        tuple(job.done),
        tuple(sources),
        size,
        None if dry_run else out,
        tuple(file.unmatched for file in files),
        job.vectors,
    )


def _read(sources: Sequence[LoraSource]) -> list[LoraModules]:
    """All files, which must be of one family.

    Raises:
        LoraFileError: see :func:`merge`; the problems of all files at once.
    """
    files: list[LoraModules] = []
    problems: list[Problem] = []
    for source in sources:
        try:
            files.append(read_modules(source.path))
        except LoraFileError as error:
            problems += error.problems
    for file in files[1:]:
        if file.sdxl != files[0].sdxl:
            this, first = (
                "SDXL" if one.sdxl else "Stable Diffusion 1 or 2" for one in (file, files[0])
            )
            what = f"is a LoRA of {this}, but {files[0].path.name} is of {first}"
            problems.append(Problem(str(file.path), what, "merge LoRAs of one family"))
    if problems:
        raise LoraFileError(problems)
    return files


@dataclass(frozen=True, slots=True)
class _Term:
    """One file's change of a layer. ``number`` is the file's among the sources."""

    number: int
    weight: float
    rank: int
    change: Change


class _Merging:
    def __init__(
        self,
        sources: Sequence[LoraSource],
        files: Sequence[LoraModules],
        options: _Options,
        precision: Precision | None,
        observer: Observer,
        controls: Controls,
    ) -> None:
        self._sources, self._files, self._options = sources, files, options
        self._observer, self._controls = observer, controls
        self._kernels: dict[str, tuple[int, ...]] = {}
        for file in files:
            for key, kernel in kernels_of(file).items():
                # A Linear's factors do for a 1 x 1 convolution, but not every reader takes them.
                self._kernels[key] = self._kernels.get(key) or kernel
        self.dtype = PRECISIONS[precision] if precision else _common_precision(files)
        self._rank = options.rank
        if self._rank is None and options.method in ("svd", "ties", "dare"):
            self._rank = max(m.rank for file in files for m in file.modules.values())
        self.done: list[MergedModule] = []
        self.vectors = 0
        self.shapes: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}

    def is_conv(self, key: str) -> bool:
        """Whether it is a convolution larger than 1 x 1."""
        return math.prod(self._kernels[key]) > 1

    def run(self) -> dict[str, Tensor]:
        """The new file's tensors; fills ``done`` and ``shapes``."""
        tensors: dict[str, Tensor] = {}
        for key, terms, summed in self._each():
            rank = summed.down.shape[0]
            kernel = self._kernels[key]
            made = {
                UP: summed.up.to(self.dtype).reshape(-1, rank, *(1 for _ in kernel)),
                DOWN: summed.down.to(self.dtype).reshape(rank, -1, *kernel),
                "alpha": alpha_tensor(float(rank), self.dtype),
            }
            for name, tensor in made.items():
                self.shapes[f"{key}.{name}"] = (tensor.dtype, tuple(tensor.shape))
                tensors[f"{key}.{name}"] = tensor
            ranks = {term.number: term.rank for term in terms}
            own = tuple(ranks.get(number, 0) for number in range(len(self._files)))
            self.done.append(
                MergedModule(key, block_of_key(key), own, rank, summed.norm, summed.error)
            )
        summed_vectors = self._summed_vectors()
        self.vectors = len(summed_vectors)
        for name, tensor in summed_vectors.items():
            self.shapes[name] = (tensor.dtype, tuple(tensor.shape))
        return {**tensors, **summed_vectors}

    def _summed_vectors(self) -> dict[str, Tensor]:
        """Changes of norms and biases, added up as those of weights are.

        Raises:
            LoraFileError: two files have them at different lengths, or one holds NaN.
        """
        by_name: dict[tuple[str, str], list[tuple[int, float, Tensor]]] = {}
        problems: list[Problem] = []
        for number, (source, file) in enumerate(zip(self._sources, self._files, strict=True)):
            for key, module in file.modules.items():
                weight = source.weight(module.part, module.block)
                for name, tensor in module.vectors.items() if weight != 0 else ():
                    terms = by_name.setdefault((key, _VECTORS.get(name, name)), [])
                    terms.append((number, weight, tensor.double()))
                    if len(tensor) != len(terms[0][2]):
                        what = f"{key}: {name} has {len(tensor)} numbers, not {len(terms[0][2])}"
                        hint = "merge LoRAs of one family of models"
                        problems.append(Problem(str(file.path), what, hint))
                    elif not bool(tensor.isfinite().all()):
                        what, hint = f"{key}: holds NaN or infinity", "make or download it again"
                        problems.append(Problem(str(file.path), what, hint))
        if problems:
            raise LoraFileError(shortened(problems))
        summed = {}
        for (key, name), terms in by_name.items():
            weights = self._weights(key, [weight for _, weight, _ in terms])
            changes = [w * tensor for w, (_, _, tensor) in zip(weights, terms, strict=True)]
            if self._options.method in ("ties", "dare"):
                whole_sum = self._interfering(f"{key}.{name}", changes, [n for n, _, _ in terms])
            else:
                whole_sum = torch.stack(changes).sum(0)
            summed[f"{key}.{name}"] = whole_sum.to(self.dtype)
        return summed

    def _each(self) -> Iterator[tuple[str, list[_Term], Truncated]]:
        """Every layer that has a change, with all of them and their sum.

        Once one is wrong, the others are only looked at, and all problems are raised at the end.
        """
        problems: list[Problem] = []
        for key in with_progress(self._kernels, "merging", self._observer, self._controls):
            terms = self._terms(key, problems)
            try:
                if terms and not problems:
                    yield key, terms, self._merged(key, terms)
            except NotFinite:
                problems += self._not_finite(key, terms)
        if problems:
            raise LoraFileError(shortened(problems))

    def _terms(self, key: str, problems: list[Problem]) -> list[_Term]:
        terms: list[_Term] = []
        for number, (source, file) in enumerate(zip(self._sources, self._files, strict=True)):
            module = file.modules.get(key)
            if module is None or not module.has_matrix:
                continue
            where = str(source.path)
            weight = source.weight(module.part, module.block)
            if weight == 0:
                continue
            try:
                change = change_of(module)
            except NotLowRank as error:
                hint = f"leave this file out{alternative(module)}"
                problems.append(Problem(where, f"{key}: {error}", hint))
                continue
            except ValueError as error:
                problems.append(Problem(where, f"{key}: {error}", "make or download it again"))
                continue
            terms.append(_Term(number, weight, module.rank, change))
            if terms[0].change.shape != change.shape:
                shapes = [f"{o} x {i}" for o, i in (change.shape, terms[0].change.shape)]
                first = self._files[terms[0].number].path.name
                what = f"{key}: changes a weight of {shapes[0]}, but {first} one of {shapes[1]}"
                problems.append(Problem(where, what, "merge LoRAs of one family of models"))
        return terms

    def _not_finite(self, key: str, terms: Sequence[_Term]) -> Iterator[Problem]:
        for term in terms:
            file = self._files[term.number]
            try:
                check_finite(*file.modules[key].tensors.values())
            except NotFinite as error:
                yield Problem(str(file.path), f"{key}: {error}", "make or download it again")

    def _merged(self, key: str, terms: Sequence[_Term]) -> Truncated:
        """
        Raises:
            NotFinite: a file holds NaN or infinity.
        """
        weights = self._weights(key, [term.weight for term in terms])
        if self._options.method in ("ties", "dare"):
            merged = whole(self._without_interference(key, terms, weights))
            return truncate(merged, self._rank or merged.rank)
        summed = concatenate(
            [(weight, as_product(t.change)) for weight, t in zip(weights, terms, strict=True)]
        )
        if summed.rank > min(self._rank or summed.rank, *summed.shape):
            return truncate(summed, self._rank or summed.rank)
        return Truncated(summed.up, summed.down, summed.norm(), 0.0)

    def _weights(self, key: str, weights: Sequence[float]) -> list[float]:
        """The terms' weights; of an average, over the sum of all files' for this layer."""
        if self._options.method != "average":
            return list(weights)
        total = sum(s.weight(part_of(key), block_of_key(key)) for s in self._sources)
        if total == 0:
            what = f"the weights at {key} add up to 0, which nothing can be divided by"
            raise UserError.of("--method average", what, "choose other weights, or --method svd")
        return [weight / total for weight in weights]

    def _without_interference(
        self, key: str, terms: Sequence[_Term], weights: Sequence[float]
    ) -> Tensor:
        changes = [t.change.dense() * weight for t, weight in zip(terms, weights, strict=True)]
        check_finite(*changes)  # NaN is never among the largest: trimming would hide it.
        return self._interfering(key, changes, [term.number for term in terms])

    def _interfering(self, key: str, changes: Sequence[Tensor], numbers: Sequence[int]) -> Tensor:
        """Changes of the files of these ``numbers``, by "ties" or "dare"."""
        density = 0.5 if self._options.density is None else self._options.density
        if self._options.method == "ties":
            return ties(changes, density)
        seed = self._options.seed or 0
        return dare(changes, density, [generator(seed, f"dare {key}", n) for n in numbers])


def _common_precision(files: Sequence[LoraModules]) -> torch.dtype:
    found = {
        precision_of(t for module in file.modules.values() for t in module.tensors.values())
        for file in files
    }
    return found.pop() if len(found) == 1 else torch.float32
