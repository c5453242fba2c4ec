"""Which build of PyTorch a machine takes: from the driver and the card to the package index.

PyTorch's wheels bring their own CUDA; of NVIDIA the machine needs the driver alone, new enough for
it. Two tables say which:

- :data:`DRIVERS`: with which driver each CUDA came, after NVIDIA's CUDA Toolkit release notes 13.2,
  table 3 (docs.nvidia.com/cuda/cuda-toolkit-release-notes). Within one major version an older
  driver does, from the first of that major version on (table 2 there, "minor version
  compatibility": 12.x from 525 on, 13.x from 580 on).
- :data:`CUDA_BUILDS`: what download.pytorch.org has for PyTorch 2.8 and later and for which cards,
  after the release compatibility matrix and the CUDA support matrix of pytorch/pytorch's RELEASE.md
  (rows 2.8 to 2.14; pull requests #175253, #187075, #194367).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

Version = tuple[int, ...]
Capability = tuple[int, int]
"""Compute capability of an NVIDIA card: (8, 6) is an RTX 30."""

WHEELS = "https://download.pytorch.org/whl"

# CUDA: the driver for Linux, for Windows. Since 13.1 no driver for Windows comes with CUDA, and for
# 13.0 none is named: of these the branch counts, as in table 2.
DRIVERS: dict[Capability, tuple[str, str]] = {
    (13, 2): ("595.45.04", "595"),
    (13, 1): ("590.44.01", "590"),
    (13, 0): ("580.65.06", "580"),
    (12, 9): ("575.51.03", "576.02"),
    (12, 8): ("570.26", "570.65"),
    (12, 6): ("560.28.03", "560.76"),
    (12, 5): ("555.42.02", "555.85"),
    (12, 4): ("550.54.14", "551.61"),
    (12, 3): ("545.23.06", "545.84"),
    (12, 2): ("535.54.03", "536.25"),
    (12, 1): ("530.30.02", "531.14"),
    (12, 0): ("525.60.13", "527.41"),
    (11, 8): ("520.61.05", "520.06"),
    (11, 7): ("515.43.04", "516.01"),
    (11, 6): ("510.39.01", "511.23"),
    (11, 5): ("495.29.05", "496.04"),
    (11, 4): ("470.42.01", "471.11"),
}


@dataclass(frozen=True, slots=True)
class CudaBuild:
    """A CUDA for which PyTorch is published.

    Args:
        index: its name on download.pytorch.org, "cu130".
        cuda: the version it brings along.
        driver_cuda: what the driver must be able to do, in the words of ``nvidia-smi``.
        capabilities: the cards that it has code for, from and to.
        torch: the first and the last release of it that lorasmith takes; ``None``: still published.
    """

    index: str
    cuda: Capability
    driver_cuda: Capability
    capabilities: tuple[Capability, Capability]
    torch: tuple[Version, Version | None]

    def runs_on(self, capability: Capability) -> bool:
        return self.capabilities[0] <= capability <= self.capabilities[1]


CUDA_BUILDS = (
    # Turing to Blackwell. Stable from 2.11 on, and kept beside 13.2, which 2.14 made the default.
    CudaBuild("cu130", (13, 0), (13, 0), ((7, 5), (12, 9)), ((2, 9), None)),
    # Maxwell to Hopper; the only one that PyTorch still publishes for drivers before 580.
    CudaBuild("cu126", (12, 6), (12, 0), ((5, 0), (9, 0)), ((2, 8), (2, 14))),
    # Blackwell with a driver of 570 to 579; before 2.11 it had Volta, too.
    CudaBuild("cu128", (12, 8), (12, 8), ((7, 5), (12, 9)), ((2, 8), (2, 11))),
)
"""The first that fits is the one to take."""

ROCM_INDEX = "rocm7.2"
"""For AMD cards, on Linux alone: PyTorch 2.11 to 2.13. AMD publishes later ones itself."""
XPU_INDEX = "xpu"
CPU_INDEX = "cpu"

OLDEST_CUDA = min(build.driver_cuda for build in CUDA_BUILDS)
"""What the oldest driver must be able to do that any of the builds runs with."""

# Newer drivers say "CUDA UMD Version" (user-mode driver) and "KMD Version".
_SMI_CUDA = re.compile(r"CUDA(?: \w+)? Version\s*:\s*(\d+)\.(\d+)", re.IGNORECASE)
_SMI_DRIVER = re.compile(r"(?:Driver|KMD) Version\s*:\s*(\d+(?:\.\d+)+)", re.IGNORECASE)


def parse_version(text: str) -> Version:
    """The leading numbers: (580, 65, 6) for "580.65.06", (2, 13, 0) for "2.13.0+cpu"; else ()."""
    match = re.match(r"\s*v?(\d+(?:\.\d+)*)", text)
    return tuple(map(int, match[1].split("."))) if match else ()


def parse_capability(text: str) -> Capability | None:
    """(8, 6) for "8.6", as ``nvidia-smi --query-gpu=compute_cap`` says it."""
    match = re.fullmatch(r"\s*(\d+)\.(\d+)\s*", text)
    return (int(match[1]), int(match[2])) if match else None


def parse_nvidia_smi(text: str) -> tuple[str, Capability | None]:
    """The driver's version and the newest CUDA it can do, from what ``nvidia-smi`` prints.

    Returns:
        ("570.86.15", (12, 8)); ("", None) where it names neither.
    """
    driver, cuda = _SMI_DRIVER.search(text), _SMI_CUDA.search(text)
    return (
        driver[1] if driver else "",
        (int(cuda[1]), int(cuda[2])) if cuda else None,
    )


def newest_cuda(driver: str, *, windows: bool = False) -> Capability | None:
    """The newest CUDA that a driver can do, ``None`` where it is older than the table."""
    version = parse_version(driver)
    for cuda, drivers in DRIVERS.items():
        if version >= parse_version(drivers[windows]):
            return cuda
    return None


def choose_index(
    driver_cuda: Capability | None, capabilities: Iterable[Capability | None] = ()
) -> str:
    """The index for a machine with an NVIDIA card: "cu130", "cu128", "cu126", or "cpu" where the
    driver or the card is too old for every build.

    Args:
        driver_cuda: the newest CUDA that the driver can do, by ``nvidia-smi`` or
            :func:`newest_cuda`; ``None`` where there is no driver that works.
        capabilities: of the cards, of which the build must have code for one at least, and for as
            many as can be had. Where none is known any build is taken to have it.
    """
    if driver_cuda is None:
        return CPU_INDEX
    usable = [build for build in CUDA_BUILDS if build.driver_cuda <= driver_cuda]
    known = [capability for capability in capabilities if capability is not None]
    if known:
        usable = [build for build in usable if any(map(build.runs_on, known))]
        # Stable: of those that serve as many cards the first stays first.
        usable.sort(key=lambda build: -sum(map(build.runs_on, known)))
    return usable[0].index if usable else CPU_INDEX


def build_of(index: str) -> CudaBuild | None:
    """The row of an index; ``None`` for what is not CUDA, or not in the table."""
    return next((build for build in CUDA_BUILDS if build.index == index), None)


def driver_for(index: str, *, windows: bool = False) -> str:
    """The oldest driver that runs the build of a CUDA index: "525.60.13" for cu126 on Linux."""
    build = build_of(index)
    assert build is not None, f"{index} is none of CUDA's"
    return DRIVERS[build.driver_cuda][windows]


def runs_with(cuda: Capability, driver_cuda: Capability) -> bool:
    """Whether PyTorch built for ``cuda`` runs with a driver that can do ``driver_cuda``: within a
    major version every driver does."""
    return cuda[0] <= driver_cuda[0]


def install_command(
    index: str, *, packages: Iterable[str] = ("torch",), pip: str = "python -m pip"
) -> str:
    """The line that puts a build of PyTorch in the place of the one that is there.

    pip takes "2.13.0+cpu" for "2.13.0+cu130", so without being forced it would change nothing.

    Args:
        index: "cu130", "cpu"; empty for PyPI, which has Apple's builds.
        packages: what is built for one PyTorch and so changes with it ("torchvision").
    """
    force = "--reinstall" if pip.startswith("uv") else "--force-reinstall"
    command = f"{pip} install --upgrade {force} {' '.join(packages)}"
    return f"{command} --index-url {WHEELS}/{index}" if index else command
