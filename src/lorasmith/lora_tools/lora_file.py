"""A LoRA file as its modules, read without a base model.

What every file tool starts from. Tensors of safetensors files are memory-mapped, so a module's
numbers are read from the disk when they are first used.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lorasmith.adapters.base import Adapter
from lorasmith.adapters.registry import algorithm_of
from lorasmith.adapters.types.boft import BOFT
from lorasmith.adapters.types.differences import BIAS, BIASES, WEIGHTS, Difference
from lorasmith.adapters.types.dylora import DyLoRA
from lorasmith.adapters.types.glora import GLoRA
from lorasmith.adapters.types.ia3 import IA3
from lorasmith.adapters.types.loha import LoHa
from lorasmith.adapters.types.lokr import LoKr
from lorasmith.adapters.types.lora import LoRA
from lorasmith.adapters.types.oft import OFT
from lorasmith.adapters.types.tlora import TLoRA
from lorasmith.core.errors import LoraFileError, Problem, shortened
from lorasmith.formats.embedding_keys import BUNDLE, words_in
from lorasmith.formats.kohya_keys import block_of_key, is_sdxl, kohya_names, part_of
from lorasmith.formats.layer_names import describe
from lorasmith.lora_tools.convert.cloneofsimo import read_lora

DOWN, UP, MID = "lora_down.weight", "lora_up.weight", "lora_mid.weight"


@dataclass(frozen=True, slots=True)
class AdapterType:
    """What is known of a type of module, whatever layer it is of.

    Args:
        cls: the adapters that read it.
        signs: tensors that tell it where no adapter reads it.
        zeros: what must be all 0 for the module to change nothing.
        why_not: why its change has no form as a LoRA; "" where it has one.
        needs_model: its change depends on the base model's weight.
    """

    cls: tuple[type[Adapter], ...] = ()
    signs: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()
    why_not: str = ""
    needs_model: bool = False


TYPES = {
    "lora": AdapterType((LoRA, DyLoRA, TLoRA), zeros=(UP,)),
    "dora": AdapterType(zeros=(UP,)),
    "loha": AdapterType((LoHa,), zeros=("hada_w2_a",)),
    "lokr": AdapterType((LoKr,), zeros=("lokr_w2", "lokr_w2_b")),
    "ia3": AdapterType(
        (IA3,), ("ia3_l",), ("weight",), "(IA)^3 multiplies the base model's weight", True
    ),
    "oft": AdapterType((OFT,), (), ("oft_blocks",), "OFT turns the base model's weight", True),
    "boft": AdapterType((BOFT,), (), ("oft_blocks",), "BOFT turns the base model's weight", True),
    "glora": AdapterType(
        (GLoRA,), ("bm.weight",), (), "GLoRA multiplies the base model's weight", True
    ),
    "full": AdapterType(
        (), (), ("diff", "diff_b"), "it changes a bias or a norm, which LoRA has no form for"
    ),
    "norm": AdapterType(
        (), (), ("w_norm", "b_norm"), "it changes a norm, which LoRA has no form for"
    ),
    "unknown": AdapterType(),
}


@dataclass(frozen=True, slots=True)
class LoraModule:
    """The adapter of one layer, as a file holds it.

    Args:
        key: kohya's: ``lora_unet_mid_block_attentions_0_proj_in``.
        part: "unet", "text_encoder" or "text_encoder_2".
        algorithm: one of :data:`TYPES`: "lora" (convolutions, DyLoRA and T-LoRA too), "dora" (a
            LoRA with ``dora_scale``), "full" (whole differences), … LoHa and LoKr may be decomposed
            as well, see :attr:`decomposed`, and any type may have a change of the bias beside it,
            see :attr:`vectors`.
        tensors: name within the module ("lora_down.weight") -> tensor, as stored.
        rank: of its factors; the block size of OFT, 1 of (IA)^3, 0 of what has none.
        alpha: as readers use it: the rank where the file says none, or 0.
    """

    key: str
    part: str
    algorithm: str
    tensors: dict[str, Tensor]
    rank: int
    alpha: float

    @property
    def decomposed(self) -> bool:
        return "dora_scale" in self.tensors

    @property
    def decomposed_by_input(self) -> bool:
        """Whether DoRA's lengths are those of the layer's inputs, (1, I[, 1, 1])."""
        scale = self.tensors.get("dora_scale")
        return scale is not None and scale.shape[0] == 1 and scale.numel() > 1

    @property
    def vectors(self) -> dict[str, Tensor]:
        """Changes that have no rank, of a norm and of a bias: name -> (O,)."""
        names = ("diff", "w_norm", *BIASES)
        changes = {name: self.tensors[name] for name in names if name in self.tensors}
        return {name: tensor for name, tensor in changes.items() if tensor.ndim == 1}

    @property
    def has_matrix(self) -> bool:
        """Whether it changes a matrix or a kernel, and not vectors alone."""
        return bool(self.tensors.keys() - self.vectors.keys() - {"alpha"})

    @property
    def scale(self) -> float:
        """What the product of the factors is multiplied by: alpha / rank.

        1 for a LoKr of two whole matrices, and for what has no rank.
        """
        if self.rank == 0 or {"lokr_w1", "lokr_w2"} <= self.tensors.keys():
            return 1.0
        return self.alpha / self.rank

    @property
    def block(self) -> str:
        """BASE for text encoders, IN00-IN11, M00, OUT00-OUT11."""
        return block_of_key(self.key)

    @property
    def numel(self) -> int:
        return sum(tensor.numel() for tensor in self.tensors.values())


@dataclass(frozen=True, slots=True)
class LoraModules:
    """A LoRA file.

    Args:
        modules: in the file's order, by key.
        metadata: the file's own; empty for pickles.
        unmatched: names of tensors that belong to no layer (other networks').
        path: where it was read.
        problems: what is malformed, one for each module at most; its modules are not among
            ``modules``. Empty unless it was read with ``strict=False``.
        words: the embeddings that it carries: their tensors, (n vectors, width), by their names in
            the file.
    """

    modules: dict[str, LoraModule]
    metadata: dict[str, str]
    unmatched: tuple[str, ...]
    path: Path
    problems: tuple[Problem, ...] = field(default=())
    words: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def sdxl(self) -> bool:
        """Whether the layers are SDXL's; otherwise they are SD1's or SD2's."""
        return is_sdxl(self.modules)

    @property
    def tensors(self) -> Iterator[Tensor]:
        """Of all modules."""
        return (tensor for module in self.modules.values() for tensor in module.tensors.values())


def read_modules(path: Path, *, strict: bool = True) -> LoraModules:
    """The modules of a LoRA file in any style, under kohya's keys.

    Args:
        strict: malformed modules are an error; otherwise they are told in ``problems``.

    Raises:
        LoraFileError: the file is no LoRA, is damaged, or none of its tensors is known; and if
            ``strict``, every module that is malformed (up without down, shapes that do not fit).
    """
    path = Path(path)
    file = read_lora(path)
    modules, unmatched, problems = group_modules(file.tensors, str(path), file.metadata)
    if problems and strict:
        raise LoraFileError(shortened(problems))
    if not modules and not problems:
        raise LoraFileError(no_module(path, file.tensors))
    return lora_modules(path, file.tensors, file.metadata, modules, unmatched, problems)


def lora_modules(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    modules: dict[str, LoraModule],
    unmatched: Iterable[str],
    problems: Iterable[Problem],
) -> LoraModules:
    """What :func:`group_modules` found in a file, and the words that it carries."""
    words = words_in(tensors)
    others = tuple(name for name in unmatched if not name.startswith(BUNDLE))
    return LoraModules(modules, dict(metadata), others, path, tuple(problems), words)


def merged_words(
    files: Sequence[LoraModules],
) -> tuple[dict[str, dict[str, Tensor]], dict[str, tuple[str, ...]]]:
    """The embeddings of all files; and those that cannot be kept, for files have them with other
    vectors, by the names of these files.

    Vectors are no sum: half of a word is no weaker word, so they are kept as they are.
    """
    found: dict[str, list[tuple[str, dict[str, Tensor]]]] = {}
    for file in files:
        for name, tensors in file.words.items():
            found.setdefault(name, []).append((file.path.name, tensors))
    kept, dropped = {}, {}
    for name, each in found.items():
        first = each[0][1]
        if all(_are_same(first, tensors) for _, tensors in each[1:]):
            kept[name] = first
        else:
            dropped[name] = tuple(path for path, _ in each)
    return kept, dropped


def _are_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(tensor, other[name]) for name, tensor in one.items()
    )


def group_modules(
    tensors: Mapping[str, Tensor], where: str, metadata: Mapping[str, str] | None = None
) -> tuple[dict[str, LoraModule], list[str], list[Problem]]:
    """(modules by key, names that belong to no layer, what is malformed) of a file's tensors."""
    names = kohya_names(tensors, metadata)
    grouped: dict[str, dict[str, Tensor]] = {}
    problems: list[Problem] = []
    for name, (key, declared) in names.items():
        module = grouped.setdefault(key, {})
        if declared in module:
            what = f"{key} is there twice, under names of two styles ({name})"
            problems.append(Problem(where, what, "keep one of the two"))
        # peft's lengths are of outputs, (1, O, 1, 1) of a convolution too.
        of_peft = "lora_magnitude_vector" in name
        module[declared] = tensors[name].flatten() if of_peft else tensors[name]
    modules: dict[str, LoraModule] = {}
    for key, entries in grouped.items():
        try:
            modules[key] = as_module(key, entries)
        except ValueError as error:
            problems.append(Problem(where, f"{key}: {error}", "make or download the file again"))
    return modules, [name for name in tensors if name not in names], problems


def no_module(path: Path, names: Collection[str]) -> Problem:
    """That no tensor of a file is of a layer, and what the file is, where its names tell."""
    first = next(iter(names), "nothing")
    what = f"none of its tensors ({len(names)}) is named as a layer's (first: {first})"
    if kind := describe(names):
        what = f"is {kind}, not a LoRA of Stable Diffusion ({first}, …)"
    return Problem(str(path), what, "choose a LoRA of Stable Diffusion")


def as_module(key: str, tensors: Mapping[str, Tensor]) -> LoraModule:
    """One module from its tensors.

    Raises:
        ValueError: a tensor is missing beside another, or shapes do not fit each other.
    """
    entries = dict(tensors)
    if "dora_scale" in entries and entries["dora_scale"].ndim == 1:
        ones = [1] * (entries[DOWN].ndim - 1 if DOWN in entries else 1)
        entries["dora_scale"] = entries["dora_scale"].reshape(-1, *ones)
    cls = algorithm_of(entries)
    if cls is None and BIAS in entries:
        cls = algorithm_of({name: tensor for name, tensor in entries.items() if name != BIAS})
    if cls is Difference:
        algorithm = "norm" if entries.keys() & {"w_norm", "b_norm"} else "full"
    else:
        names = (name for name, row in TYPES.items() if cls is not None and cls in row.cls)
        algorithm = next(names, "") or _other(entries)
    if algorithm == "lora" and "dora_scale" in entries:
        algorithm = "dora"
    rank = _rank(algorithm, entries)
    alpha = float(entries["alpha"].float()) if _has_alpha(entries) else 0.0
    return LoraModule(key, part_of(key), algorithm, entries, rank, alpha or float(rank))


def _has_alpha(tensors: Mapping[str, Tensor]) -> bool:
    if "alpha" not in tensors:
        return False
    if tensors["alpha"].numel() != 1:
        raise ValueError(f"alpha is {tuple(tensors['alpha'].shape)}, not one number")
    if not math.isfinite(float(tensors["alpha"])):
        raise ValueError(f"alpha is {float(tensors['alpha'])}")
    return True


def _other(tensors: Mapping[str, Tensor]) -> str:
    """The type of what is no adapter here.

    Raises:
        ValueError: it is one with a half missing.
    """
    for name, row in TYPES.items():
        if tensors.keys() & set(row.signs):
            return name
    halves = (
        (DOWN, UP),
        ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
        ("lokr_w1_a", "lokr_w1_b"),
        ("lokr_w2_a", "lokr_w2_b"),
    )
    for names in halves:
        there = [name for name in names if name in tensors]
        if there and len(there) < len(names):
            missing = next(name for name in names if name not in tensors)
            raise ValueError(f"has {there[0]} without {missing}")
    if "alpha" in tensors and len(tensors) == 1:
        raise ValueError("has an alpha and nothing else")
    return "unknown"


def _rank(algorithm: str, tensors: Mapping[str, Tensor]) -> int:
    """The rank, by the shapes.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    fits, rank = True, 0
    if algorithm in ("lora", "dora"):
        rank = tensors[DOWN].shape[0] if tensors[DOWN].ndim else 0
        fits = _lora_fits(tensors)
    elif algorithm == "loha":
        rank = tensors["hada_w1_b"].shape[0] if tensors["hada_w1_b"].ndim else 0
        fits = all(_pair_fits(tensors, f"hada_w{n}", f"hada_t{n}", rank) for n in (1, 2))
    elif algorithm == "lokr":
        rank, fits = _lokr_rank(tensors)
    elif algorithm in ("oft", "boft"):
        rank = tensors["oft_blocks"].shape[-1]
    elif algorithm == "ia3":
        rank = 1
    elif algorithm == "glora" and "bm.weight" not in tensors:
        rank = min(tensors["a1.weight"].shape[:2])
    elif algorithm in ("full", "norm"):
        fits = all(tensors[name].ndim in (1, 2, 4) for name in WEIGHTS if name in tensors)
    fits &= all(tensors[name].ndim == 1 for name in ("w_norm", *BIASES) if name in tensors)
    if not fits or any(tensor.numel() == 0 for tensor in tensors.values()):
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"its shapes do not fit each other: {shapes}")
    return rank


def _lora_fits(tensors: Mapping[str, Tensor]) -> bool:
    down, up, mid = tensors[DOWN], tensors[UP], tensors.get(MID)
    if down.ndim not in (2, 4) or up.ndim not in (2, 4) or up.shape[2:].numel() != 1:
        return False
    if mid is None:
        return up.shape[1] == down.shape[0]
    ranks = (up.shape[1], down.shape[0])
    return mid.ndim == 4 and tuple(mid.shape[:2]) == ranks and down.shape[2:].numel() == 1


def _pair_fits(tensors: Mapping[str, Tensor], name: str, core_name: str, rank: int) -> bool:
    """Whether ``{name}_a`` and ``{name}_b``, of LyCORIS, multiply to a matrix of this rank."""
    a, b, core = tensors[f"{name}_a"], tensors[f"{name}_b"], tensors.get(core_name)
    if a.ndim != 2 or b.ndim not in (2, 4) or b.shape[0] != rank:
        return False
    if core is None:
        return a.shape[1] == rank
    # Tucker form, where a is turned.
    return core.ndim == 4 and b.ndim == 2 and tuple(core.shape[:2]) == (a.shape[0], rank)


def _lokr_rank(tensors: Mapping[str, Tensor]) -> tuple[int, bool]:
    """The rank of w2, or else of w1, 1 where both are whole; and whether all fits."""
    rank, fits = 1, True
    for name, core, dims in (("lokr_w1", "", (2,)), ("lokr_w2", "lokr_t2", (2, 4))):
        if name in tensors:
            fits &= tensors[name].ndim in dims
            continue
        b = tensors[f"{name}_b"]
        rank = b.shape[0] if b.ndim else 0
        fits &= b.ndim in dims and _pair_fits(tensors, name, core, rank)
    return rank, fits
