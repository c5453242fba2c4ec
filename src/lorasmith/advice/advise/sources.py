"""Where rules of advice come from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """
    Args:
        name: as lines of a settings file name it.
        title: of the guide, paper or page.
        address: where it is.
    """

    name: str
    title: str
    address: str = ""


SCIENCE = "The Other LoRA Training Rentry"
_SCIENCE_ADDRESS = "https://rentry.org/59xed3"


def science(section: str) -> Source:
    """A section of that guide."""
    anchor = section.lower().replace(" ", "-")
    return Source(f"rentry 59xed3, {section}", SCIENCE, f"{_SCIENCE_ADDRESS}#{anchor}")


TUTORIAL = Source("LoRA Training Tutorial", "LoRA Training Tutorial, by Haoming, 2023-04-05")
HDG = Source(
    "hdg guide", "hdg LoRA Training Guide, by EZScriptsAnon", "https://rentry.org/hdg-collab-master"
)
PONY = Source(
    "kohya guide for Pony",
    "Kohya_ss step by step, by Victorcorcos",
    "https://gist.github.com/Victorcorcos/ab946d10f424e2e1b99e066c3f347027",
)
DUMMIES = Source("Lora for dummies", "Lora for dummies, by EF1500")
LYCORIS = Source(
    "LyCORIS guidelines",
    "LyCORIS guidelines, tested on SD1",
    "https://github.com/KohakuBlueleaf/LyCORIS/blob/main/docs/Guidelines.md",
)
TLORA = Source("arXiv 2507.05964", "T-LoRA", "https://arxiv.org/abs/2507.05964")
FIND_LR = Source(
    "benchmarks/find_lr.md", "The rate that --find-lr proposes, beside that of a sweep"
)
GIVEN = Source("as given", "what was asked")
PICTURES = Source("these pictures", "what the dataset holds")
BASE = Source("the base model's file", "lorasmith.defaults in its metadata")
FAMILY = Source("the base's family", "models/families")
LENGTH = Source("length rule", "docs/train.md")
MACHINE = Source("this machine", "docs/devices.md")
MEMORY = Source("memory plan", "training/memory, docs/low-memory.md")
DEFAULT = Source("default", "docs/settings.md, docs/defaults.md")
