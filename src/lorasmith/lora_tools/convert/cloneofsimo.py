"""LoRA files whose tensors have numbers for names, in the order of the model's modules.

cloneofsimo's first LoRA program and sd_dreambooth_extension wrote ``.pt`` files that are a bare
list: up, down, up, down, …, one pair for each Linear layer inside the UNet's attention and GEGLU
modules; the text encoder's list lies in a file beside it. cloneofsimo's ``.safetensors`` hold the
same as ``unet:0:up``, ``unet:0:down``, …. The scale was 1, so that alpha is the rank.

Attention came before the feed-forward in diffusers' blocks until 0.17, and around it since; the
shapes tell which.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from lorasmith.adapters.file import LoraFile, check_numbers, load_lora, odd_tensors
from lorasmith.core.errors import CheckpointError, LoraFileError, Problem, UserError
from lorasmith.core.files import read_safetensors_header
from lorasmith.core.text import quantity
from lorasmith.formats.key_styles import style_of
from lorasmith.formats.layer_names import looks_like_lora
from lorasmith.formats.pickle_header import read_pickle_header
from lorasmith.formats.unet_layers import ATTENTION, UNETS, unet_layers
from lorasmith.models.open import GIVE, read_header
from lorasmith.tensors.files import LOAD_ERRORS, load_torch_file

Pairs = list[tuple[Tensor, Tensor]]
"""up (O, r) and down (r, I), in order."""

# transformers' order of the modules inside CLIPAttention.
_TEXT_ATTENTION = ("k_proj", "v_proj", "q_proj", "out_proj")
_NAME = re.compile(r"(unet|text_encoder):(\d+):(up|down)")
_BESIDE = (".text_encoder.pt", "_txt.pt")
_TEXT_WIDTHS = (768, 1024)


def is_cloneofsimo(path: Path) -> bool:
    """Whether a file is such a one, by its header or its pickle's outermost object.

    False for whatever cannot be read: reading it as something else tells why.
    """
    try:
        if _is_safetensors(path):
            return style_of(read_safetensors_header(path).tensors) == "cloneofsimo"
        header = read_pickle_header(path)
        return not header.dangerous and not header.tensors and bool(_list_of(path))
    except (OSError, ValueError, UserError):
        return False


def is_lora(path: Path) -> bool:
    """Whether a file is a LoRA of any kind, by its header alone.

    Raises:
        UserError: it is not there, cannot be read safely, or is something else altogether.
    """
    try:
        there, folder = path.exists(), path.is_dir()
    except OSError as error:
        raise LoraFileError(Problem(str(path), f"cannot be read: {error.strerror}")) from error
    if not there:
        raise LoraFileError(Problem(str(path), "there is no such file", "check the path"))
    if folder:
        raise LoraFileError(Problem(str(path), "is a folder, not a file", "name a file in it"))
    try:
        names = list(read_header(path).shapes)
    except CheckpointError as error:
        raise LoraFileError([_of_either(problem) for problem in error.problems]) from error
    return looks_like_lora(names) or is_cloneofsimo(path)


def _of_either(problem: Problem) -> Problem:
    """What is wrong with a file, for a tool that reads LoRAs and checkpoints."""
    if problem.hint != GIVE:
        return problem
    hint = "give a LoRA or a checkpoint"
    if "picture" in problem.what:
        hint += "; `lorasmith generate --from-png PICTURE` reads what a picture was drawn with"
    return Problem(problem.where, problem.what, hint)


def read_lora(path: Path) -> LoraFile:
    """A LoRA file of any kind, one with numbers for names under kohya's.

    Raises:
        LoraFileError: see :func:`~lorasmith.adapters.file.load_lora` and :func:`read_cloneofsimo`.
    """
    if not is_cloneofsimo(path):
        return load_lora(path)
    file, _ = read_cloneofsimo(path)
    check_numbers(path, file.tensors)
    return file


def _is_safetensors(path: Path) -> bool:
    """By its content: names are changed more easily."""
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"


def read_cloneofsimo(path: Path) -> tuple[LoraFile, list[str]]:
    """(the file under kohya's names, what the user should know).

    The text encoder's list beside a ``.pt``, ``NAME.text_encoder.pt`` or ``NAME_txt.pt``, is read
    too.

    Raises:
        LoraFileError: it is damaged, or its tensors are not those of SD1's or SD2's layers.
    """
    notes: list[str] = []
    metadata: dict[str, str] = {}
    if _is_safetensors(path):
        lists, metadata, left_out = _from_safetensors(path)
        if left_out:
            notes.append(f"left out, as no part of a LoRA: {', '.join(left_out[:3])}")
    else:
        lists = [_pairs(_list_of(path), path)]
        beside = _text_beside(path)
        if beside is not None and not _is_text(lists[0]):
            lists.append(_pairs(_list_of(beside), beside))
            notes.append(f"the text encoder is from {beside.name}")
    numbers = {f"number {n}": t for pairs in lists for n, pair in enumerate(pairs) for t in pair}
    if odd := odd_tensors(path, numbers):
        raise LoraFileError(odd)
    tensors: dict[str, Tensor] = {}
    for pairs in lists:
        for key, (up, down) in zip(_keys(pairs, path), pairs, strict=True):
            tensors[f"{key}.lora_up.weight"] = up
            tensors[f"{key}.lora_down.weight"] = down
            tensors[f"{key}.alpha"] = torch.tensor(float(down.shape[0]))
    return LoraFile(path, tensors, metadata), notes


def _from_safetensors(path: Path) -> tuple[list[Pairs], dict[str, str], list[str]]:
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise _error(path, f"is damaged: {error}") from error
    halves: dict[tuple[str, int], dict[str, Tensor]] = {}
    left_out = []
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name)
        if match is None:
            left_out.append(name)
            continue
        halves.setdefault((match[1], int(match[2])), {})[match[3]] = tensor
    lists = []
    for part in ("unet", "text_encoder"):
        numbers = sorted(number for own, number in halves if own == part)
        flat = [halves[part, n].get(side) for n in numbers for side in ("up", "down")]
        if numbers and (numbers != list(range(len(numbers))) or None in flat):
            raise _error(path, f"its pairs of {part} are not numbered from 0 without a gap")
        if numbers:
            lists.append(_pairs([tensor for tensor in flat if tensor is not None], path))
    metadata = read_safetensors_header(path).metadata
    own = {key: value for key, value in metadata.items() if not _is_bookkeeping(key, value)}
    return lists, own, left_out


def _is_bookkeeping(key: str, value: str) -> bool:
    """What cloneofsimo's program says in the header of its own numbering."""
    part = key.partition(":")[0]
    return part in ("unet", "text_encoder") or value == "<embed>"


def _list_of(path: Path) -> list[Tensor]:
    """The tensors of a pickled list; empty if it is something else.

    Raises:
        LoraFileError: it cannot be read without running what it asks for.
    """
    try:
        content = load_torch_file(path)
    except LOAD_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _error(path, f"cannot be read: {reason}") from error
    if not isinstance(content, list) or not all(isinstance(item, Tensor) for item in content):
        return []
    return [item.detach() for item in content]


def _text_beside(path: Path) -> Path | None:
    stem = path.with_suffix("")
    candidates = (stem.with_name(stem.name + ending) for ending in _BESIDE)
    return next((beside for beside in candidates if beside.is_file()), None)


def _pairs(tensors: Sequence[Tensor], path: Path) -> Pairs:
    pairs = list(zip(tensors[::2], tensors[1::2], strict=False))
    for number, (up, down) in enumerate(pairs):
        if up.ndim < 2 or down.ndim < 2 or up.shape[1] != down.shape[0]:
            shapes = f"{tuple(up.shape)} and {tuple(down.shape)}"
            raise _error(path, f"pair {number} is {shapes}, no up and down of a LoRA")
    if len(tensors) % 2 or not pairs:
        raise _error(
            path, f"is a list of {quantity(len(tensors), 'tensor')}, not of pairs of up and down"
        )
    return pairs


def _is_text(pairs: Pairs) -> bool:
    sides = {(up.shape[0], down.shape[1]) for up, down in pairs}
    return len(sides) == 1 and sides <= {(width, width) for width in _TEXT_WIDTHS}


def _keys(pairs: Pairs, path: Path) -> list[str]:
    """Kohya's key of each pair.

    Raises:
        LoraFileError: number and shapes are not those of a model's layers.
    """
    if _is_text(pairs) and len(pairs) % len(_TEXT_ATTENTION) == 0:
        return [
            f"lora_te_text_model_encoder_layers_{layer}_self_attn_{name}"
            for layer in range(len(pairs) // len(_TEXT_ATTENTION))
            for name in _TEXT_ATTENTION
        ]
    sides = [(up.shape[0], down.shape[1]) for up, down in pairs]
    for geglu in ("between", "last", ""):
        for resnets in (False, True):
            layers = list(_unet_order(geglu, resnets=resnets))
            fits = len(layers) == len(sides) and all(map(_fits, layers, sides))
            if fits:
                return [f"lora_unet_{layer.replace('.', '_')}" for layer in layers]
    what = f"its {len(pairs)} pairs are not those of the layers of Stable Diffusion 1 or 2"
    raise _error(path, what)


def _unet_order(geglu: str, *, resnets: bool) -> Iterator[str]:
    """Diffusers' paths of the Linear layers in attention and GEGLU modules, in modules' order.

    Args:
        geglu: where it stands: "between" the two attentions, "last", or "" for nowhere.
        resnets: those of the residual blocks too, and their convolutions ("extended").
    """
    blocks: dict[str, list[str]] = {}
    for path, _ in unet_layers(UNETS["sd1"]):
        match = re.match(r"((?:down|up)_blocks\.\d+|mid_block)\.(attentions|resnets)\.\d+", path)
        if match and (resnets or match[2] == "attentions"):
            blocks.setdefault(f"{match[1]}.{match[2]}", []).append(path)
    order = {"between": ("attn1", "ff", "attn2"), "last": ("attn1", "attn2", "ff")}
    for paths in blocks.values():
        for path in paths:
            if ".resnets." in path:
                yield path
            elif path.endswith("proj_in"):
                block = path.removesuffix("proj_in") + "transformer_blocks.0"
                for module in order.get(geglu, ("attn1", "attn2")):
                    inner = ("net.0.proj",) if module == "ff" else ATTENTION
                    yield from (f"{block}.{module}.{name}" for name in inner)


def _fits(path: str, sides: tuple[int, int]) -> bool:
    """Whether a layer of that path may have so many outputs and inputs."""
    outputs, inputs = sides
    if path.endswith("ff.net.0.proj"):
        return outputs == 8 * inputs
    if re.search(r"attn2\.to_[kv]$", path):
        return inputs in _TEXT_WIDTHS
    return ".resnets." in path or outputs == inputs


def _error(path: Path, what: str) -> LoraFileError:
    hint = "get the LoRA as .safetensors, or train it again"
    return LoraFileError.of(path, what, hint)
