"""What is known of a computer: plain facts, so that any computer can be described in a test.

``None`` and empty values are "unknown" or "not there"; all sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lorasmith.core.installation import Installation
from lorasmith.core.torch_builds import Capability, Version

EnvironmentKind = Literal["venv", "conda", "system"]


@dataclass(frozen=True, slots=True)
class Python:
    """
    Args:
        version: (3, 11, 7).
        executable: of the interpreter that runs this.
        environment: "venv" also for those of uv and virtualenv.
        bits: 64, or 32.
        translated: built for Intel and run on an Apple chip.
        pip: the command that installs into it.
        scripts: the folder of its commands.
        command: the ``lorasmith`` that a shell would run; empty where there is none.
        launcher: that command is one of install.sh or install.ps1, and leads to this Python.
        user_site: the folder of packages installed for the user alone, if it is searched.
    """

    version: Version = (3, 12, 0)
    executable: str = "/venv/bin/python"
    environment: EnvironmentKind = "venv"
    bits: int = 64
    translated: bool = False
    pip: str = "python -m pip"
    scripts: str = "/venv/bin"
    command: str = "/venv/bin/lorasmith"
    launcher: bool = False
    user_site: str = ""


@dataclass(frozen=True, slots=True)
class Package:
    """An installed distribution.

    Args:
        version: the one that is imported.
        copies: version and folder of each that is on the path, the imported one first.
    """

    version: str
    copies: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Unmet:
    """A requirement that the installed packages do not meet.

    Args:
        of: the distribution whose requirement it is.
        requirement: "numpy>=2.1".
        installed: the version that is there; empty for none.
        extra: of lorasmith's, where it is one of those.
    """

    of: str
    requirement: str
    installed: str = ""
    extra: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """An NVIDIA card, as ``nvidia-smi`` has it.

    Args:
        users: other programs that have memory there, "python (process 4711)", with how much; 0
            where that is not told.
    """

    name: str
    capability: Capability | None = None
    total: int = 0
    free: int = 0
    users: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Nvidia:
    """
    Args:
        sign: by what a card was noticed ("nvidia-smi", "/proc/driver/nvidia"); empty without one.
        driver: its version; empty where no driver answers.
        cuda: the newest CUDA that the driver can do.
        error: what ``nvidia-smi`` said, where it failed.
    """

    sign: str = ""
    driver: str = ""
    cuda: Capability | None = None
    cards: tuple[Card, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Folder:
    """Where something will be written.

    Args:
        role: "runs", "caches", "models", "temporary files".
        nearest: the nearest folder above that is there, where this one is not.
        refused: what a variable names in its place, and could not be used.
        free: bytes; ``None`` where the system does not say.
        problem: why nothing can be written there; empty where it can.
        file_system: its type, "ext4".
        network: it is on another computer.
        service: what copies it elsewhere: "OneDrive".
    """

    role: str
    path: str
    free: int | None = None
    problem: str = ""
    file_system: str = ""
    network: bool = False
    service: str = ""
    nearest: str = ""
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Torch:
    """PyTorch as it is installed.

    Args:
        version: "2.13.0+cu130".
        cuda: what it is built for, "13.0"; empty for other builds.
        hip: as ``cuda``, of ROCm.
        xpu, mps: built for Intel's or Apple's GPUs.
        architectures: that it has code for: "sm_86", "compute_90", "gfx1100".
        threads: that it computes with on the CPU.
        numpy_problem: why it cannot share memory with numpy; empty where it can.
        folder: that it was imported from, the one with the folder "torch" in it.
    """

    version: str
    cuda: str = ""
    hip: str = ""
    xpu: bool = False
    mps: bool = False
    architectures: tuple[str, ...] = ()
    threads: int = 0
    numpy_problem: str = ""
    folder: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """The device that training takes.

    Args:
        kind: as in :class:`lorasmith.tensors.device.Machine`.
        bf16: it computes in bfloat16.
        fp16_breaks: its float16 is known to give NaN.
        small_floats: it holds 8-bit floats.
        precision: what ``train.precision = "auto"`` takes for a model of SD 1.5's size, and why.
        attention: kernels that attention can use, the quickest first.
        free, total: its memory.
        cards: how many of the kind there are.
        compiler_problem: why ``performance.compile`` is of no use.
        problem: why the one that was asked for cannot be used.
    """

    kind: str = "cpu"
    name: str = "cpu"
    bf16: bool = False
    fp16_breaks: bool = False
    small_floats: bool = False
    capability: Capability | None = None
    precision: str = "fp32"
    precision_reason: str = ""
    attention: tuple[str, ...] = ()
    free: int | None = None
    total: int | None = None
    cards: int = 1
    compiler_problem: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """Something that was tried.

    Args:
        finite: its numbers were.
        ratio: time beside that of fp32, of a layer as large as those of SD 1.5; ``None`` where it
            was not measured.
        problem: why it could not be done; empty where it could.
        skipped: why it was not tried.
    """

    finite: bool = True
    ratio: float | None = None
    problem: str = ""
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class Computer:
    """Everything that checks look at.

    Args:
        platform: as :data:`sys.platform`.
        system: "Linux 6.8.0 (Ubuntu 24.04)".
        machine: "x86_64", "AMD64", "arm64", "aarch64".
        installation: how lorasmith came here.
        environment: those variables that matter here, where they are set.
        packages: by normalised name, those that lorasmith has to do with.
        installed: whether lorasmith's own requirements are known.
        extras: what each of lorasmith's extras adds, requirements by distribution's name.
        needs: lorasmith's own requirements, "numpy>=2.1" by name.
        amd: by what an AMD card was noticed.
        cores: that the computer has, and that this process may use.
        memory: of the computer or the container, in all and free.
        shared_memory: size of /dev/shm; ``None`` where there is none.
        open_files: how many the process may have open.
        long_paths: whether Windows takes paths beyond 260 characters; ``None`` elsewhere.
        console: encoding of what is printed.
        file_names: encoding of files' names.
        torch_problem: why PyTorch cannot be imported.
        libraries: imports that failed, with their reason.
        asked: the device that was asked for, as in ``performance.device``.
        trials: by name: "fp32", "bf16", "vae", "8-bit optimizer".
    """

    platform: str = "linux"
    system: str = "Linux"
    machine: str = "x86_64"
    container: bool = False
    python: Python = field(default_factory=Python)
    installation: Installation = field(default_factory=Installation)
    environment: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, Package] = field(default_factory=dict)
    installed: bool = True
    extras: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    unmet: tuple[Unmet, ...] = ()
    nvidia: Nvidia = field(default_factory=Nvidia)
    amd: str = ""
    folders: tuple[Folder, ...] = ()
    cores: tuple[int, float] = (8, 8.0)
    memory: tuple[int, int] = (16 * 10**9, 12 * 10**9)
    shared_memory: int | None = None
    open_files: int | None = None
    long_paths: bool | None = None
    console: str = "utf-8"
    file_names: str = "utf-8"
    torch: Torch | None = None
    torch_problem: str = ""
    asked: str = "auto"
    device: Device | None = None
    libraries: Mapping[str, str] = field(default_factory=dict)
    trials: Mapping[str, Trial] = field(default_factory=dict)

    @property
    def windows(self) -> bool:
        return self.platform == "win32"

    @property
    def apple_chip(self) -> bool:
        return self.platform == "darwin" and (self.machine == "arm64" or self.python.translated)

    def folder(self, role: str) -> Folder | None:
        return next((folder for folder in self.folders if folder.role == role), None)

    def version(self, package: str) -> str:
        """Of an installed distribution; empty where it is not there."""
        found = self.packages.get(package)
        return found.version if found else ""


def from_record(cls: type[Any], record: Mapping[str, Any]) -> Any:
    """A record of facts from JSON, whose lists are tuples here."""
    return cls(**{key: tuple(v) if isinstance(v, list) else v for key, v in record.items()})
