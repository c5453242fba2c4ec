"""Which programs read a LoRA file, by its names and its forms of adapter. Torch-free.

Which names a program knows is from its source, and for diffusers from trying. What it makes of each
form was found by running its own loader: `tests/peers` fills the table from checkouts of the
programs, for SD1 and SDXL, which are the same but in one place: AUTOMATIC1111 has the biases of
whole differences exact in SD1, and leaves out those of the attention in SDXL's second text encoder.
The base weights were random numbers in float32, alpha was not the rank, and the change was
compared with what `lorasmith bake` makes of the same file.

exact: within 1e-5 of the change. wrong: it changes the weights otherwise. partly: exact where it
applies it, but not on all layers. refused: it says so, or leaves it out. diffusers was not run
there: its column is held by the tests of `inspect` and `convert`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from lorasmith.formats.key_styles import STYLES, UNKNOWN
from lorasmith.lora_tools.inspect.report import ReadBy

READERS = {
    "AUTOMATIC1111": "1.10.1",
    "Forge": "dfdcbab6",
    "ComfyUI": "a125cd84",
    "sd-scripts": "48d368fa",
    "lycoris-lora": "f49d30d",
    "diffusers": "0.42.1",
}
"""The programs, and the version or commit that was tried."""

FORMS = {
    "lora": "LoRA",
    "lora rs": "LoRA with rs_lora",
    "lora tucker": "LoCon in Tucker form",
    "lora dora in": "DoRA with lengths of inputs",
    "lora dora out": "DoRA with lengths of outputs",
    "lora tucker dora in": "LoCon in Tucker form, DoRA of inputs",
    "lora tucker dora out": "LoCon in Tucker form, DoRA of outputs",
    "loha": "LoHa",
    "loha tucker": "LoHa in Tucker form",
    "loha dora in": "LoHa, DoRA of inputs",
    "loha dora out": "LoHa, DoRA of outputs",
    "lokr": "LoKr, the large factor low-rank",
    "lokr full": "LoKr of two whole factors",
    "lokr both": "LoKr of two low-rank factors",
    "lokr w1 pair": "LoKr, the small factor alone low-rank",
    "lokr tucker": "LoKr in Tucker form",
    "lokr dora in": "LoKr, DoRA of inputs",
    "lokr dora out": "LoKr, DoRA of outputs",
    "lokr tucker dora in": "LoKr in Tucker form, DoRA of inputs",
    "lokr tucker dora out": "LoKr in Tucker form, DoRA of outputs",
    "ia3 out": "(IA)³ of outputs",
    "ia3 in": "(IA)³ of inputs",
    "oft": "OFT",
    "oft loose": "OFT, a constraint out of reach",
    "oft bound": "OFT, a constraint that binds",
    "oft rescaled": "OFT rescaled",
    "oft loose rescaled": "OFT rescaled, a constraint out of reach",
    "oft bound rescaled": "OFT rescaled, a constraint that binds",
    "boft": "BOFT",
    "boft loose": "BOFT, a constraint out of reach",
    "boft bound": "BOFT, a constraint that binds",
    "boft rescaled": "BOFT rescaled",
    "boft loose rescaled": "BOFT rescaled, a constraint out of reach",
    "boft bound rescaled": "BOFT rescaled, a constraint that binds",
    "full": "whole differences (LyCORIS' full)",
    "full bias": "whole differences of weight and bias",
}
"""Every form that was tried, and what it is called."""

# In the order of READERS.
_TABLE = """
lora                   exact   exact   exact   exact   exact   exact
lora_rs                exact   exact   exact   exact   exact   exact
lora_tucker            exact   exact   exact   wrong   exact   refused
lora_dora_in           exact   exact   exact   wrong   refused wrong
lora_dora_out          wrong   wrong   wrong   wrong   exact   wrong
lora_tucker_dora_in    exact   exact   exact   wrong   refused refused
lora_tucker_dora_out   wrong   wrong   wrong   wrong   exact   refused
loha                   exact   exact   exact   refused exact   refused
loha_tucker            exact   exact   exact   refused exact   refused
loha_dora_in           exact   exact   exact   refused refused refused
loha_dora_out          wrong   wrong   wrong   refused exact   refused
lokr                   exact   exact   exact   refused exact   refused
lokr_full              exact   exact   exact   refused exact   refused
lokr_both              exact   exact   exact   refused exact   refused
lokr_w1_pair           exact   exact   exact   refused refused refused
lokr_tucker            exact   refused refused refused refused refused
lokr_dora_in           exact   exact   exact   refused refused refused
lokr_dora_out          wrong   wrong   wrong   refused exact   refused
lokr_tucker_dora_in    exact   refused refused refused refused refused
lokr_tucker_dora_out   wrong   refused refused refused refused refused
ia3_out                exact   refused refused refused refused refused
ia3_in                 exact   refused refused refused refused refused
oft                    exact   refused exact   refused exact   refused
oft_loose              exact   refused exact   refused exact   refused
oft_bound              exact   refused wrong   refused exact   refused
oft_rescaled           exact   refused wrong   refused exact   refused
oft_loose_rescaled     exact   refused wrong   refused exact   refused
oft_bound_rescaled     exact   refused wrong   refused exact   refused
boft                   exact   refused exact   refused exact   refused
boft_loose             exact   refused exact   refused exact   refused
boft_bound             exact   refused wrong   refused exact   refused
boft_rescaled          exact   refused exact   refused exact   refused
boft_loose_rescaled    exact   refused exact   refused exact   refused
boft_bound_rescaled    exact   refused wrong   refused exact   refused
full                   exact   exact   exact   refused partly  refused
full_bias              partly  exact   exact   refused refused refused
"""

VERDICTS: dict[str, dict[str, str]] = {
    words[0].replace("_", " "): dict(zip(READERS, words[1:], strict=True))
    for line in _TABLE.strip().splitlines()
    if (words := line.split())
}


# Programs that read a model's one text encoder under lora_te_ alone, and leave out lora_te1_.
_NO_FIRST = frozenset({"sd-scripts", "lycoris-lora"})

# Programs that read the embeddings in a LoRA's file. The others have no word of bundle_emb.
_READ_WORDS = frozenset({"AUTOMATIC1111", "Forge"})

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
    style: str,
    forms: Collection[str],
    *,
    unmatched: bool = False,
    words: bool = False,
    one_as_first: bool = False,
) -> tuple[ReadBy, ...]:
    """What each program makes of a file.

    Args:
        style: see :mod:`lorasmith.formats.key_styles`.
        forms: of the file's modules, see :func:`form_of`.
        unmatched: it holds tensors that belong to no layer.
        words: it carries embeddings.
        one_as_first: its model has one text encoder, which it calls the first (``lora_te1_``).
    """
    read_by = [_read_by(program, style, set(forms), unmatched) for program in READERS]
    if words:
        read_by = [_without_words(each) for each in read_by]
    if not one_as_first:
        return tuple(read_by)
    why = "it leaves out the text encoder, called lora_te1_; convert the file"
    return tuple(
        ReadBy(each.program, "partly", f"{each.why}; {why}" if each.why else why)
        if each.program in _NO_FIRST and each.reads in ("yes", "partly")
        else each
        for each in read_by
    )


def _without_words(each: ReadBy) -> ReadBy:
    """What a program makes of a LoRA that carries embeddings, by what it makes of the LoRA."""
    if each.program in _READ_WORDS or each.reads not in ("yes", "partly"):
        return each
    if each.program == "diffusers":  # It wants "lora" in every name.
        return ReadBy(each.program, "no", "it refuses files with words (embeddings)")
    why = "it leaves out the words (embeddings)"
    return ReadBy(each.program, "partly", f"{each.why}; {why}" if each.why else why)


def _read_by(program: str, style: str, forms: set[str], unmatched: bool) -> ReadBy:
    names = STYLES.get(style, UNKNOWN)
    if program not in names.read_by + names.partly_by:
        title = names.title if style in STYLES else "these names"
        return ReadBy(program, "no", f"it does not know {title}; convert the file")
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
    if program in names.partly_by:
        why = f"of {names.title} it knows those of some layers; convert the file"
        return ReadBy(program, "partly", why)
    return ReadBy(program, "yes", "")


def _titles(forms: Collection[str]) -> str:
    return ", ".join(FORMS.get(form, _UNTRIED.get(form, form)) for form in forms)


def _hint(program: str, wrong: Collection[str]) -> str:
    if program == "diffusers" and all(form.endswith("dora out") for form in wrong):
        return ": under these names it leaves the lengths out; convert the file to diffusers"
    return "; bake it into the model"


def verdict(form: str, reader: str) -> str:
    """exact, wrong, partly, refused; or untried, of a form that is not in the table.

    Forms that differ from tried ones by DoRA alone are what DoRA of that side is.
    """
    if form in VERDICTS:
        return VERDICTS[form][reader]
    base, mark, side = form.partition(" dora ")
    if not mark or base not in VERDICTS:
        return "untried"
    pair = {VERDICTS[base][reader], VERDICTS[f"lora dora {side}"][reader]}
    return next(word for word in ("refused", "wrong", "partly", "exact") if word in pair)
