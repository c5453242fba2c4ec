"""Which programs read a LoRA file, by its names and its types of adapter. Torch-free.

Known from the programs' documentation, change logs and issues, and for diffusers from trying.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from lorasmith.lora_tools.report import ReadBy


@dataclass(frozen=True, slots=True)
class _Program:
    """
    Args:
        styles: names that it reads; ``partly`` those of which it reads some.
        types: of adapters that it reads -> what to know of that ("since 1.9"), mostly nothing.
    """

    name: str
    styles: frozenset[str]
    types: dict[str, str]
    partly: frozenset[str] = frozenset()


_EVERYWHERE = dict.fromkeys(("lora", "loha", "lokr", "full"), "")
_PROGRAMS = (
    _Program(
        "AUTOMATIC1111",
        frozenset({"kohya", "kohya-diffusers"}),
        {
            **_EVERYWHERE, "ia3": "", "norm": "", "oft": "since 1.7", "glora": "since 1.7",
            "boft": "since 1.9", "dora": "since 1.9",
        },
    ),
    _Program(
        "Forge",
        frozenset({"kohya", "kohya-diffusers"}),
        {**_EVERYWHERE, "dora": "", "glora": "", "norm": ""},
        partly=frozenset({"comfy"}),
    ),
    _Program(
        "ComfyUI",
        frozenset({"kohya", "kohya-diffusers", "comfy", "lycoris"}),
        {
            **_EVERYWHERE, "dora": "", "glora": "", "norm": "", "oft": "since 0.3.31",
            "boft": "since 0.3.31",
        },
        partly=frozenset({"diffusers", "diffusers-old"}),
    ),
    _Program(
        "diffusers",
        frozenset({"kohya", "kohya-diffusers", "diffusers", "diffusers-old"}),
        {"lora": "", "dora": ""},
    ),
)  # fmt: skip
_NEEDS_ALL_NAMES = "diffusers"


def readers(
    style: str, types: Collection[str], *, tucker: bool = False, unmatched: bool = False
) -> tuple[ReadBy, ...]:
    """What each program makes of a file.

    Args:
        style: see :mod:`lorasmith.lora_tools.key_styles`.
        types: of the file's modules.
        tucker: some convolutions have a core (``lora_mid``).
        unmatched: it holds tensors that belong to no layer.
    """
    return tuple(_read_by(program, style, types, tucker, unmatched) for program in _PROGRAMS)


def _read_by(
    program: _Program, style: str, types: Collection[str], tucker: bool, unmatched: bool
) -> ReadBy:
    unread = sorted(set(types) - program.types.keys())
    if style not in program.styles | program.partly:
        return ReadBy(program.name, "no", f"it does not know {_called(style)}; convert the file")
    if unread:
        reads = "no" if len(unread) == len(set(types)) else "partly"
        return ReadBy(program.name, reads, f"it does not know the type {', '.join(unread)}")
    if style in program.partly:
        why = f"of {_called(style)} it knows those of some layers; convert the file"
        return ReadBy(program.name, "partly", why)
    if program.name == "diffusers" and style.startswith("kohya"):
        if tucker:
            return ReadBy(program.name, "no", "it refuses cores of convolutions (lora_mid)")
        if unmatched:
            return ReadBy(program.name, "no", "it refuses files with names that it does not know")
        if "dora" in types:
            why = "under these names it leaves out DoRA's lengths; convert the file to diffusers"
            return ReadBy(program.name, "partly", why)
    notes = sorted({f"{kind} {note}" for kind in types if (note := program.types[kind])})
    return ReadBy(program.name, "yes", ", ".join(notes))


def _called(style: str) -> str:
    names = {
        "kohya": "kohya's names", "kohya-diffusers": "kohya's names", "comfy": "ComfyUI's names",
        "diffusers": "diffusers' names", "diffusers-old": "diffusers' old names",
        "peft": "peft's names", "lycoris": "names that begin with lycoris_",
        "cloneofsimo": "numbers for names", "onetrainer": "OneTrainer's names",
    }  # fmt: skip
    return names.get(style, "these names")
