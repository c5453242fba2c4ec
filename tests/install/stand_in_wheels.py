"""Wheels of a few lines in the place of lorasmith and what it needs, and a folder that an ordinary
user can run install.sh in: what the script does with them is real, and takes a second."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "install.sh"
NOBODY = 65534

COMMAND = """
import os, sys
def main():
    if "--version" in sys.argv:
        print("lorasmith, version {version}")
    else:
        print(sys.argv[1:], os.environ.get("PYTHONPATH"), sys.prefix)
"""
TORCH = """
__version__ = "{version}"
class cuda:
    is_available = staticmethod(lambda: False)
"""


def write_wheel(
    folder: Path,
    name: str,
    version: str,
    files: Mapping[str, str],
    *,
    needs: tuple[str, ...] = (),
    extras: Mapping[str, str] | None = None,
    command: str = "",
) -> Path:
    """A wheel of pure Python, good for every machine."""
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {need}" for need in needs]
    for extra, need in (extras or {}).items():
        lines += [f"Provides-Extra: {extra}", f'Requires-Dist: {need}; extra == "{extra}"']
    members = {
        **{path: text.format(version=version) for path, text in files.items()},
        f"{info}/METADATA": "\n".join(lines) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if command:
        members[f"{info}/entry_points.txt"] = f"[console_scripts]\nlorasmith = {command}\n"
    members[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*members, f"{info}/RECORD"])
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in members.items():
            archive.writestr(member, text)
    return path


def write_lorasmith(folder: Path, version: str = "0.1.0") -> Path:
    return write_wheel(
        folder,
        "lorasmith",
        version,
        {
            "lorasmith/__init__.py": "",
            "lorasmith/main.py": COMMAND,
            "lorasmith/assets/constraints.txt": "needed==1.0\ntorch==2.13.0\n",
        },
        needs=("torch>=2.8", "needed>=1"),
        extras={"cuda": "bitsandbytes>=0.48", "audit": "looker"},
        command="lorasmith.main:main",
    )


def write_wheels(folder: Path) -> Path:
    """All of them, with PyTorch's stand-in in two versions."""
    folder.mkdir(parents=True)
    write_lorasmith(folder)
    for version in ("2.7.0", "2.13.0"):
        write_wheel(folder, "torch", version, {"torch/__init__.py": TORCH})
    write_wheel(folder, "needed", "1.0", {"needed.py": ""})
    write_wheel(folder, "bitsandbytes", "0.50.0", {"bitsandbytes.py": ""})
    write_wheel(folder, "looker", "1.0", {"looker.py": ""})
    return folder


class Machine:
    """A home folder, and a path with the programs that a test puts there.

    Run as root the script is run as a user without rights, if a Python that such a one may start
    is there; else as who runs the tests.
    """

    def __init__(self, folder: Path, uv: Path, python: str, *, drop_rights: bool) -> None:
        self.folder, self.uv = folder, uv
        self.home, self.programs = folder / "home", folder / "programs"
        self.home.mkdir()
        self.programs.mkdir()
        (self.programs / "python3.12").symlink_to(python)
        # The clone's own folder may be closed to others.
        self.script = Path(shutil.copy(SCRIPT, folder))
        self.program("nvidia-smi", "exit 9")
        if sys.platform != "linux":
            self.program("uname", "case $1 in -m) echo x86_64 ;; *) echo Linux ;; esac")
            self.program("getconf", "echo glibc 2.36")
        self.prefix = (
            [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if drop_rights else []
        )
        if self.prefix:
            self.prefix.insert(0, "setpriv")
            os.chown(self.home, NOBODY, NOBODY)
        self.environment = {
            "HOME": str(self.home),
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "TMPDIR": str(self.home),
            "UV_OFFLINE": "1",
            "LANG": "C.UTF-8",
        }

    def program(self, name: str, text: str) -> None:
        """A program of a few lines of shell, first on the path."""
        path = self.programs / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def with_uv(self) -> None:
        self.program("uv", f'exec "{self.uv}" "$@"')

    def start(self, *words: str | Path, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.prefix, "sh", str(self.script), *map(str, words)],
            env=self.environment | environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # No terminal to ask at.
            # What the tests' own shell lets them ignore, a script could not take heed of.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *words: str | Path, status: int = 0, **environment: str) -> str:
        process = self.start(*words, **environment)
        output, _ = process.communicate(timeout=900)
        assert process.returncode == status, output
        assert "Traceback" not in output
        return output

    def command(self, *words: str, **environment: str) -> str:
        """What the installed command prints."""
        return subprocess.run(
            [*self.prefix, str(self.home / ".local/bin/lorasmith"), *words],
            env=self.environment | environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def files(self) -> set[str]:
        """All that is in the home folder, folders of the user's own aside."""
        return {
            str(path.relative_to(self.home))
            for path in self.home.rglob("*")
            if path.is_symlink() or path.is_file()
        }


def python_for_anyone() -> str | None:
    """A Python 3.11 to 3.14 that a user without rights may start."""
    for minor in (11, 12, 13, 14):
        path = shutil.which(f"python3.{minor}", path="/usr/bin:/usr/local/bin")
        if path is not None:
            return path
    return None
