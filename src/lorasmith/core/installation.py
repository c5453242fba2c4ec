"""How lorasmith was installed here, and the line that adds one of its extras to that."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

MARKER = "lorasmith-install"
"""The file by which install.sh and install.ps1 know the folder that they have made."""
_LAUNCHER_SAYS = "# lorasmith in "  # As install.sh writes it, with its folder.
_LAUNCHER_OF_WINDOWS = "lorasmith.cmd"
_SOURCE = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Installation:
    """
    Args:
        kind: "script" is what install.sh and install.ps1 made, "clone" is run from its source.
        pip: the command that installs a package.
        again: of "script", the line that brings it up to date.
        extras: of "script", those that were asked for.
    """

    kind: Literal["script", "clone", "pip"] = "pip"
    pip: str = "python -m pip"
    again: str = ""
    extras: tuple[str, ...] = ()

    def extra_line(self, name: str, requirements: Iterable[str] = ()) -> str:
        """The line that adds an extra, so that an update keeps it.

        Args:
            requirements: what the extra consists of, "rapidocr>=3.10", as far as it is known:
                it then does not matter where lorasmith itself is from.
        """
        if self.kind == "script":
            option = "-Extras" if self.again.startswith("powershell") else "--extras"
            return f"{self.again} {option} {','.join(dict.fromkeys((*self.extras, name)))}"
        if self.kind == "clone":
            return f'{self.pip} install -e ".[{name}]"  # in the folder of the source'
        texts = list(requirements) or [f"lorasmith[{name}]"]
        return f"{self.pip} install " + " ".join(f'"{text}"' for text in texts)


def extra_line(name: str) -> str:
    """The line that adds an extra to what runs this."""
    return find_installation().extra_line(name, _requirements(name))


def package_line(package: str) -> str:
    """The line that adds one package to what runs this: with its extra where an update of the
    installation would else remove it."""
    installation = find_installation()
    if installation.kind == "script":
        for extra in _extras():
            if package in map(_name, _requirements(extra)):
                return installation.extra_line(extra)
    return f"{installation.pip} install {package}"


def find_installation() -> Installation:
    """That of the Python that runs this."""
    environment = Path(sys.prefix)
    # uv makes environments without pip, and installs into them itself.
    has_pip = importlib.util.find_spec("pip") is not None
    pip = "uv pip" if not has_pip and shutil.which("uv") else "python -m pip"
    if (environment.parent / MARKER).is_file():
        script = "powershell -ExecutionPolicy Bypass -File install.ps1"
        again = script if os.name == "nt" else "sh install.sh"
        extras = tuple(filter(None, _first_line(environment / "extras").split(",")))
        # Its Python is on nobody's path.
        pip = f"{as_word(sys.executable)} -m pip"
        return Installation("script", pip, _first_line(environment / "again") or again, extras)
    if (_SOURCE / "pyproject.toml").is_file() and (_SOURCE / "src" / "lorasmith").is_dir():
        return Installation("clone", pip)
    return Installation("pip", pip)


def is_own_launcher(command: Path) -> bool:
    """Whether a command is the one that an installer's script made, and leads to what runs this."""
    environment = Path(sys.prefix)
    folder = environment.parent
    if not (folder / MARKER).is_file() or _first_line(folder / "current") != environment.name:
        return False
    if os.name == "nt":
        return command.name.lower() == _LAUNCHER_OF_WINDOWS and _same(command.parent.parent, folder)
    try:
        lines = command.read_text(encoding="utf-8", errors="surrogateescape")[:4096].splitlines()
    except OSError:
        return False
    named = [line.removeprefix(_LAUNCHER_SAYS) for line in lines if line.startswith(_LAUNCHER_SAYS)]
    return any(_same(Path(name), folder) for name in named)


def as_word(path: str) -> str:
    """For a command line; without quotes, in which a shell would not take ~ for the home folder."""
    if os.name == "nt":
        return f'"{path}"' if " " in path else path
    return path.replace(" ", "\\ ")


def _same(one: Path, other: Path) -> bool:
    with suppress(OSError):
        return one.samefile(other)
    return False


def _first_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return lines[0].strip() if lines else ""


def _name(requirement: str) -> str:
    return re.split(r"[<>=!~]", requirement)[0].lower().replace("_", "-")


def _extras() -> list[str]:
    with suppress(metadata.PackageNotFoundError):
        names = metadata.metadata("lorasmith").get_all("Provides-Extra") or []
        return [name for name in names if name != "dev"]
    return []


def _requirements(extra: str) -> list[str]:
    from packaging.requirements import Requirement

    try:
        texts = metadata.requires("lorasmith") or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for text in texts:
        one = Requirement(text)
        marker = one.marker
        if (
            marker is not None
            and marker.evaluate({"extra": extra})
            and not marker.evaluate({"extra": ""})
        ):
            found.append(f"{one.name}{one.specifier}")
    return found
