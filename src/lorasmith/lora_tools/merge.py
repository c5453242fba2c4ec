"""Several LoRAs in one file: Σ weight · ΔW, exactly or at the least error of a rank.

A sum of LoRAs is their factors side by side ("concat": exact, and its rank the sum of theirs). Its
best approximation of a lower rank comes from the same factors ("svd"), see
:mod:`lora_tools.linalg.low_rank`. "ties" and "dare" change what is added, see
:mod:`lora_tools.linalg.ties_dare`.

The result is kohya's LoRA with alpha = rank in every module, whatever the files were: LoHa, LoKr
and whole differences are added as what they are, and so are changes of norms and biases. DoRA,
(IA)^3 and rotations depend on the base model's weight and are refused.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from lorasmith.core.errors import LoraFileError, Problem, UserError, shortened
from lorasmith.core.events import Controls, Notice, Observer, ignore, with_progress
from lorasmith.core.files import PrecisionName, parse_json
from lorasmith.formats.kohya_keys import block_of_key, part_of
from lorasmith.formats.training_metadata import ENTRIES
from lorasmith.lora_tools.family import GUESSED_BLOCKS, lora_family
from lorasmith.lora_tools.inputs import LoraSource, Sources, parse_sources
from lorasmith.lora_tools.inspect.training_summary import regularisation_folders
from lorasmith.lora_tools.linalg.factorize import NotLowRank, alternative, change_of, kernels_of
from lorasmith.lora_tools.linalg.low_rank import (
    Change,
    NotFinite,
    Truncated,
    as_product,
    check_finite,
    concatenate,
    truncate,
    whole,
)
from lorasmith.lora_tools.linalg.ties_dare import dare, ties
from lorasmith.lora_tools.lora_file import LoraModules, merged_words, read_modules
from lorasmith.lora_tools.outputs import (
    Approximated,
    LoraWriter,
    carried_metadata,
    check_output,
    choice_problems,
    precision_of,
    relative_error,
    seed_problems,
)
from lorasmith.tensors.files import PRECISIONS
from lorasmith.tensors.rng import generator

Method = Literal["concat", "svd", "average", "ties", "dare"]
METHODS: tuple[Method, ...] = get_args(Method)
# A norm's weight as a whole difference is the same as LyCORIS' own name for it.
_VECTORS = {"diff": "w_norm"}

MERGED_FROM = "lorasmith.merged_from"

_TAGS = "ss_tag_frequency"


@dataclass(frozen=True, slots=True)
class MergedModule(Approximated):
    """One module of the result.

    Args:
        ranks: those of the files that have it, 0 for the others.
    """

    key: str
    block: str
    ranks: tuple[int, ...]
    rank: int
    norm: float
    error: float


@dataclass(frozen=True, slots=True)
class MergeReport:
    """
    Args:
        new_bytes: size of the new file.
        written: the new file; ``None`` of a dry run.
        unmatched: of each source, tensors that belong to no layer and were left out.
        vectors: changes of norms and biases in the new file; they are added as they are.
        words: names of the embeddings in the new file, as they were.
        dropped_words: those that several files have, with other vectors: the files of each.
    """

    modules: tuple[MergedModule, ...]
    sources: tuple[LoraSource, ...]
    new_bytes: int
    written: Path | None
    unmatched: tuple[tuple[str, ...], ...]
    vectors: int = 0
    words: tuple[str, ...] = ()
    dropped_words: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def error(self) -> float:
        """Of all modules together, over their norm."""
        return relative_error(self.modules)


def merge(
    sources: Sources,
    out: str | Path,
    *,
    method: Method | None = None,
    rank: int | None = None,
    density: float | None = None,
    seed: int | None = None,
    precision: PrecisionName | None = None,
    dry_run: bool = False,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> MergeReport:
    """Write the sum of ``sources`` to ``out``; a dry run writes nothing.

    >>> merge({"a.safetensors": 0.8, "b.safetensors": 0.4}, "ab.safetensors")

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
    method = method or ("concat" if rank is None else "svd")
    sources, out = parse_sources(sources), Path(out)
    problems = _problems(method, rank, density, seed)
    problems += choice_problems("--precision", precision, PRECISIONS)
    problems += check_output(out, [source.path for source in sources])
    if not sources:
        problems.append(Problem("", "there is no file to merge", "name at least one"))
    if problems:
        raise UserError(problems)
    files = _read(sources)
    for file in files:
        if lora_family(file.modules, file.unmatched, file.metadata).guesses_blocks:
            observer(Notice("warning", f"{file.path.name}: {GUESSED_BLOCKS}"))
    if rank is None and method in ("svd", "ties", "dare"):
        rank = max(module.rank for file in files for module in file.modules.values())
    writer = LoraWriter(out, PRECISIONS[precision] if precision else _common_precision(files))
    merging = _Merging(sources, files, method, rank, density or 0.5, seed or 0)
    modules = []
    for key, terms, product in merging.products(observer, controls or Controls()):
        writer.add_product(key, product.up, product.down, merging.kernels[key])
        ranks = {term.number: term.rank for term in terms}
        ranks_by_file = tuple(ranks.get(number, 0) for number in range(len(files)))
        new_rank = product.down.shape[0]
        modules.append(
            MergedModule(
                key, block_of_key(key), ranks_by_file, new_rank, product.norm, product.error
            )
        )
    vectors = merging.vectors()
    for (key, name), vector in vectors.items():
        writer.add(key, {name: vector})
    if not writer.tensors:
        raise UserError.of("", "every weight is 0, so nothing is left", "choose other weights")
    weighed = [
        file
        for source, file in zip(sources, files, strict=True)
        if source.unet or source.text_encoder
    ]
    words, dropped_words = merged_words(weighed)
    writer.add_words(words)
    metadata = _metadata(sources, files, writer, method)
    if not dry_run:
        writer.save(metadata)
    return MergeReport(
        tuple(modules),
        tuple(sources),
        writer.size(metadata),
        None if dry_run else out,
        tuple(file.unmatched for file in files),
        len(vectors),
        tuple(words),
        dropped_words,
    )


def _problems(
    method: str, rank: int | None, density: float | None, seed: int | None
) -> list[Problem]:
    problems = choice_problems("--method", method, METHODS)
    if rank is not None and rank < 1:
        problems.append(Problem("--rank", f"{rank} is not a rank", "choose 1 or more"))
    if rank is not None and method == "concat":
        what = "concat keeps every rank of every file"
        problems.append(Problem("--rank", what, "leave it out, or choose --method svd"))
    if density is not None and not 0 < density <= 1:
        hint = "choose the share that stays, up to 1, as 0.5"
        problems.append(Problem("--density", f"{density:g} is no share", hint))
    if seed is not None:
        problems += seed_problems(seed)
    for option, value, methods in (
        ("--density", density, ("ties", "dare")),
        ("--seed", seed, ("dare",)),
    ):
        if value is not None and method not in methods:
            hint = f"leave it out, or choose --method {' or '.join(methods)}"
            problems.append(Problem(option, f"does nothing with {method}", hint))
    return problems


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
    """The sums of all files' changes.

    Args:
        rank: the most that a product has; None for all.
    """

    def __init__(
        self,
        sources: Sequence[LoraSource],
        files: Sequence[LoraModules],
        method: Method,
        rank: int | None,
        density: float,
        seed: int,
    ) -> None:
        self._sources, self._files = sources, files
        self._method, self._rank, self._density, self._seed = method, rank, density, seed
        self.kernels: dict[str, tuple[int, ...]] = {}
        for file in files:
            for key, kernel in kernels_of(file).items():
                # A Linear's factors do for a 1 x 1 convolution, but not every reader takes them.
                self.kernels[key] = self.kernels.get(key) or kernel

    def products(
        self, observer: Observer, controls: Controls
    ) -> Iterator[tuple[str, list[_Term], Truncated]]:
        """Every layer that has a change, with all of them and their sum.

        Once one is wrong, the others are only looked at, and all problems are raised at the end.
        """
        problems: list[Problem] = []
        for key in with_progress(self.kernels, "merging", observer, controls):
            terms = self._terms(key, problems)
            try:
                if terms and not problems:
                    yield key, terms, self._sum(key, terms)
            except NotFinite:
                problems += self._not_finite(key, terms)
        if problems:
            raise LoraFileError(shortened(problems))

    def vectors(self) -> dict[tuple[str, str], Tensor]:
        """Changes of norms and biases, added up as those of weights are, by key and name.

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
        sums = {}
        for (key, name), terms in by_name.items():
            weights = self._weights(key, [weight for _, weight, _ in terms])
            changes = [w * tensor for w, (_, _, tensor) in zip(weights, terms, strict=True)]
            if self._method in ("ties", "dare"):
                numbers = [number for number, _, _ in terms]
                sums[key, name] = self._ties_or_dare(f"{key}.{name}", changes, numbers)
            else:
                sums[key, name] = torch.stack(changes).sum(0)
        return sums

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

    def _sum(self, key: str, terms: Sequence[_Term]) -> Truncated:
        """
        Raises:
            NotFinite: a file holds NaN or infinity.
        """
        weights = self._weights(key, [term.weight for term in terms])
        if self._method in ("ties", "dare"):
            changes = [t.change.dense() * weight for t, weight in zip(terms, weights, strict=True)]
            check_finite(*changes)  # NaN is never among the largest: trimming would hide it.
            merged = whole(self._ties_or_dare(key, changes, [term.number for term in terms]))
            return truncate(merged, self._rank or merged.rank)
        product = concatenate(
            [(weight, as_product(t.change)) for weight, t in zip(weights, terms, strict=True)]
        )
        rank = self._rank or product.rank
        if product.rank > min(rank, *product.shape):
            return truncate(product, rank)
        return Truncated(product.up, product.down, product.norm(), 0.0)

    def _weights(self, key: str, weights: Sequence[float]) -> list[float]:
        """The terms' weights; of an average, over the sum of all files' for this layer."""
        if self._method != "average":
            return list(weights)
        total = sum(s.weight(part_of(key), block_of_key(key)) for s in self._sources)
        if total == 0:
            what = f"the weights at {key} add up to 0, which nothing can be divided by"
            raise UserError.of("--method average", what, "choose other weights, or --method svd")
        return [weight / total for weight in weights]

    def _ties_or_dare(self, key: str, changes: Sequence[Tensor], numbers: Sequence[int]) -> Tensor:
        """Of changes of the files of these ``numbers``."""
        if self._method == "ties":
            return ties(changes, self._density)
        draws = [generator(self._seed, f"dare {key}", number) for number in numbers]
        return dare(changes, self._density, draws)


def _common_precision(files: Sequence[LoraModules]) -> torch.dtype:
    precisions = {precision_of(file.tensors) for file in files}
    return precisions.pop() if len(precisions) == 1 else torch.float32


def _metadata(
    sources: Sequence[LoraSource], files: Sequence[LoraModules], writer: LoraWriter, method: str
) -> dict[str, str]:
    """Kept is what all files say alike; the tags' counts are added up.

    ``modelspec.merged_from`` lists the files, as sd-scripts' merging does, and
    ``lorasmith.merged_from`` says as JSON how much of each, and which hash web UIs know it by.
    """
    name = writer.out.stem
    texts = [carried_metadata(file.metadata) for file in files]
    common = {
        key: texts[0][key]
        for key, entry in ENTRIES.items()
        if entry.merged
        and key in texts[0]
        and all(text.get(key) == texts[0][key] for text in texts)
    }
    if tags := _tags(files):
        common[_TAGS] = json.dumps(tags)
    if "modelspec.sai_model_spec" in common:
        common["modelspec.title"] = name
        common["modelspec.merged_from"] = ", ".join(source.path.stem for source in sources)
    common["ss_output_name"] = name
    common[MERGED_FROM] = json.dumps(
        {
            "method": method,
            "files": [_part(source, file) for source, file in zip(sources, files, strict=True)],
        }
    )
    files_text = ", ".join(source.text for source in sources)
    comment = f"merged by {method} of {files_text} by lorasmith"
    return writer.network_metadata(common, comment=comment, was_lora=False)


def _part(source: LoraSource, file: LoraModules) -> dict[str, object]:
    part: dict[str, object] = {
        "name": source.path.name,
        "unet": source.unet,
        "text_encoder": source.text_encoder,
    }
    if source.blocks is not None:
        part["blocks"] = {block: weight for block, weight in source.blocks.items() if weight != 1}
    if "sshs_model_hash" in file.metadata:
        part["sshs_model_hash"] = file.metadata["sshs_model_hash"]
    return part


def _tags(files: Sequence[LoraModules]) -> dict[str, dict[str, int]]:
    """``ss_tag_frequency`` of all files, folders of one name together.

    Without regularisation folders: the merged file does not say which they are.
    """
    summed: dict[str, Counter[str]] = {}
    for file in files:
        reg = regularisation_folders(file.metadata)
        for folder, counts in _counts(file.metadata.get(_TAGS)).items():
            if folder not in reg:
                summed.setdefault(folder, Counter()).update(counts)
    return {folder: dict(counts) for folder, counts in summed.items()}


def _counts(text: str | None) -> dict[str, dict[str, int]]:
    """Empty where it is not what sd-scripts writes: tags are no reason to refuse a file."""
    try:
        value = parse_json(text or "{}")
        return {
            str(folder): {str(tag): int(count) for tag, count in counts.items()}
            for folder, counts in value.items()
        }
    except (ValueError, TypeError, AttributeError):
        return {}
