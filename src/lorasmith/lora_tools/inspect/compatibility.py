"""Which programs read a LoRA file, by its names and its forms of adapter. Torch-free.

What each program makes of each form is in :mod:`lorasmith.lora_tools.inspect.reader_table`, from
running it. Which names it knows is from its source, and for diffusers from trying.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from lorasmith.lora_tools.inspect.reader_table import FORMS, READERS, verdict
from lorasmith.lora_tools.inspect.report import ReadBy


@dataclass(frozen=True, slots=True)
class _Names:
    """The names that a program reads, and those of which it reads some layers'."""

    known: frozenset[str]
    partly: frozenset[str] = frozenset()


_KOHYA = frozenset({"kohya", "kohya-diffusers"})
_NAMES = {
    "AUTOMATIC1111": _Names(_KOHYA),
    "Forge": _Names(_KOHYA, partly=frozenset({"comfy"})),
    "ComfyUI": _Names(
        _KOHYA | {"comfy", "lycoris"}, partly=frozenset({"diffusers", "diffusers-old"})
    ),
    "sd-scripts": _Names(_KOHYA),
    "lycoris-lora": _Names(frozenset({"kohya", "lycoris"})),
    "diffusers": _Names(_KOHYA | {"diffusers", "diffusers-old"}),
}

# Programs that read a model's one text encoder under lora_te_ alone, and leave out lora_te1_.
_NO_FIRST = frozenset({"sd-scripts", "lycoris-lora"})

# Forms that are not in the table, for people.
_UNTRIED = {"unknown": "a type that is not known here", "norm": "trained norms", "glora": "GLoRA"}


def form_of(algorithm: str, tensors: Mapping[str, Any]) -> str:
    """The row of the table that a module is of; ``algorithm`` itself where it has none.

    Args:
        algorithm, tensors: as those of :class:`lorasmith.lora_tools.lora_file.LoraModule`.
    """
    names = tensors.keys()
    form = algorithm
    if algorithm in ("lora", "dora"):
        form = "lora tucker" if "lora_mid.weight" in names else "lora"
    elif algorithm == "loha":
        form = "loha tucker" if "hada_t1" in names else "loha"
    elif algorithm == "lokr":
        form = _lokr_form(names)
    elif algorithm == "ia3":
        form = "ia3 in" if "on_input" in names and bool(tensors["on_input"]) else "ia3 out"
    elif algorithm == "full":
        form = "full bias" if "diff_b" in names else "full"
    elif algorithm in ("oft", "boft"):
        form += _bound(tensors) + (" rescaled" if "rescale" in names else "")
    if "diff_b" in names and algorithm != "full":
        form += " with bias"
    if "dora_scale" in names:
        lengths = tensors["dora_scale"]
        form += " dora in" if lengths.shape[0] == 1 and lengths.numel() > 1 else " dora out"
    return form


def _lokr_form(names: Collection[str]) -> str:
    if "lokr_t2" in names:
        return "lokr tucker"
    if "lokr_w1" in names:
        return "lokr full" if "lokr_w2" in names else "lokr"
    return "lokr w1 pair" if "lokr_w2" in names else "lokr both"


def _bound(tensors: Mapping[str, Any]) -> str:
    """A rotation's constraint, its alpha: none, " loose" (out of reach in any unit) or " bound"."""
    alpha = float(tensors["alpha"]) if "alpha" in tensors else 0.0
    if alpha == 0.0:
        return ""
    blocks = tensors["oft_blocks"].float()
    return " loose" if float((blocks - blocks.mT).norm()) <= alpha else " bound"


def readers(
    style: str, forms: Collection[str], *, unmatched: bool = False, one_as_first: bool = False
) -> tuple[ReadBy, ...]:
    """What each program makes of a file.

    Args:
        style: see :mod:`lorasmith.formats.key_styles`.
        forms: of the file's modules, see :func:`form_of`.
        unmatched: it holds tensors that belong to no layer.
        one_as_first: its model has one text encoder, which it calls the first (``lora_te1_``).
    """
    read_by = (_read_by(program, style, set(forms), unmatched) for program in READERS)
    if not one_as_first:
        return tuple(read_by)
    why = "it leaves out the text encoder, called lora_te1_; convert the file"
    return tuple(
        ReadBy(each.program, "partly", why)
        if each.program in _NO_FIRST and each.reads == "yes"
        else each
        for each in read_by
    )


def _read_by(program: str, style: str, forms: set[str], unmatched: bool) -> ReadBy:
    names = _NAMES[program]
    if style not in names.known | names.partly:
        return ReadBy(program, "no", f"it does not know {_called(style)}; convert the file")
    if program == "diffusers" and style == "diffusers":
        # Under these names peft applies the lengths of outputs, the only ones that they can hold.
        forms = {form.removesuffix(" dora out") for form in forms}
    if program == "diffusers" and style.startswith("kohya") and unmatched:
        return ReadBy(program, "no", "it refuses files with names that it does not know")
    by_verdict: dict[str, list[str]] = {}
    for form in sorted(forms):
        by_verdict.setdefault(verdict(form, program), []).append(form)
    if wrong := by_verdict.get("wrong"):
        return ReadBy(program, "wrong", f"it misreads {_titles(wrong)}{_hint(program, wrong)}")
    refused = by_verdict.get("refused", [])
    if refused and (program == "diffusers" or len(refused) == len(forms)):
        return ReadBy(program, "no", f"it does not read {_titles(refused)}")
    if left_out := [*refused, *by_verdict.get("partly", [])]:
        return ReadBy(program, "partly", f"it leaves out {_titles(left_out)}")
    if untried := by_verdict.get("untried"):
        return ReadBy(program, "untried", f"nobody has tried {_titles(untried)}")
    if style in names.partly:
        why = f"of {_called(style)} it knows those of some layers; convert the file"
        return ReadBy(program, "partly", why)
    return ReadBy(program, "yes", "")


def _titles(forms: Collection[str]) -> str:
    return ", ".join(FORMS.get(form, _UNTRIED.get(form, form)) for form in forms)


def _hint(program: str, wrong: Collection[str]) -> str:
    if program == "diffusers" and all(form.endswith("dora out") for form in wrong):
        return ": under these names it leaves the lengths out; convert the file to diffusers"
    return "; bake it into the model"


def _called(style: str) -> str:
    names = {
        "kohya": "kohya's names", "kohya-diffusers": "kohya's names", "comfy": "ComfyUI's names",
        "diffusers": "diffusers' names", "diffusers-old": "diffusers' old names",
        "peft": "peft's names", "lycoris": "names that begin with lycoris_",
        "cloneofsimo": "numbers for names", "onetrainer": "OneTrainer's names",
    }  # fmt: skip
    return names.get(style, "these names")
