"""Installed packages: versions, copies that hide each other, requirements that are not met."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from lorasmith.advice.doctor.computer import Package, Unmet

NEIGHBOURS = (
    *("torch", "numpy"),
    *("torchvision", "torchaudio", "xformers", "bitsandbytes", "triton", "triton-windows"),
    *("onnxruntime-gpu", "flash-attn", "sageattention", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
)
"""Built for one PyTorch, or loaded beside it, where they are installed."""
FOR_DEVELOPERS = "dev"


@dataclass
class Packages:
    """As in :class:`~lorasmith.advice.doctor.computer.Computer`."""

    packages: dict[str, Package] = field(default_factory=dict)
    installed: bool = True
    extras: dict[str, dict[str, str]] = field(default_factory=dict)
    needs: dict[str, str] = field(default_factory=dict)
    unmet: tuple[Unmet, ...] = ()


def gather_packages(root: str = "lorasmith") -> Packages:
    """Of the packages that ``root`` needs, directly or not, and their :data:`NEIGHBOURS`."""
    known = dict(_distributions())
    found = Packages()
    if root not in known:
        found.installed = False
    unmet: list[Unmet] = []
    waiting = [name for name in (root, *NEIGHBOURS) if name in known]
    seen = set(waiting)
    while waiting:
        name = waiting.pop(0)
        copies = known[name]
        found.packages[name] = Package(
            copies[0].version, tuple((one.version, str(one.locate_file(""))) for one in copies)
        )
        for requirement, extra in _requirements(copies[0], with_extras=name == root):
            other = canonicalize_name(requirement.name)
            if name == root:
                if extra:
                    found.extras.setdefault(extra, {})[other] = _text(requirement)
                else:
                    found.needs[other] = _text(requirement)
            if other not in known:
                # Of an extra that is not installed nothing is missing.
                if not extra:
                    unmet.append(Unmet(name, _text(requirement)))
                continue
            version = known[other][0].version
            if not _meets(requirement, version):
                unmet.append(Unmet(name, _text(requirement), version, extra))
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    found.unmet = tuple(unmet)
    return found


def _distributions() -> Iterator[tuple[str, list[metadata.Distribution]]]:
    """By normalised name; of one the imported copy first, each folder once."""
    by_name: dict[str, list[metadata.Distribution]] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"] if distribution.metadata else None
        if not name:
            continue  # What a broken upgrade left behind.
        copies = by_name.setdefault(canonicalize_name(name), [])
        place = (str(distribution.locate_file("")), distribution.version)
        if place not in [(str(one.locate_file("")), one.version) for one in copies]:
            copies.append(distribution)
    yield from by_name.items()


def _requirements(
    distribution: metadata.Distribution, *, with_extras: bool
) -> Iterator[tuple[Requirement, str]]:
    """What holds on this system, with the extra that asks for it."""
    extras = distribution.metadata.get_all("Provides-Extra") or [] if with_extras else []
    for text in distribution.requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement, ""
            continue
        for extra in extras:
            if extra != FOR_DEVELOPERS and requirement.marker.evaluate({"extra": extra}):
                yield requirement, extra


def _meets(requirement: Requirement, version: str) -> bool:
    try:
        return requirement.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return True


def _text(requirement: Requirement) -> str:
    return f"{requirement.name}{requirement.specifier}"
