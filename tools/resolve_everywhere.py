"""Whether what lorasmith needs can be had as wheels on every system and with every Python.

python -m tools.resolve_everywhere    # asks PyPI; some minutes

For each platform, Python and extra: the newest releases that pyproject.toml admits, and those of
constraints.txt, which install.sh and install.ps1 take. Nothing is installed.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import uv

ROOT = Path(__file__).parents[1]

PLATFORMS = {
    "x86_64-pc-windows-msvc": "Windows x86-64",
    "aarch64-apple-darwin": "macOS arm64",
    "x86_64-manylinux_2_28": "Linux x86-64",
    "aarch64-manylinux_2_28": "Linux aarch64",
}
MACOS = "14.0"
"""The oldest that ONNX Runtime and PyTorch have builds for."""
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
EXTRAS = ("", "cuda", "optimizers", "gather", "faces", "audit")

SOURCE = "dadaptation"
"""On PyPI without a wheel: pure Python, which is built without a compiler."""


def resolve(platform: str, python: str, extra: str = "", *, tested: bool = False) -> list[str]:
    """What would be installed: ["torch==2.13.0", …].

    Raises:
        RuntimeError: something cannot be had as a wheel; with what uv says of it.
    """
    words = [uv.find_uv_bin(), "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    words += ["--python-platform", platform, "--python-version", python, "--only-binary", ":all:"]
    words += ["--no-binary", SOURCE]
    if extra:
        words += ["--extra", extra]
    if tested:
        words += ["--constraints", str(ROOT / "constraints.txt")]
    environment = os.environ | {"MACOSX_DEPLOYMENT_TARGET": MACOS}
    result = subprocess.run(
        [*words, str(ROOT / "pyproject.toml")], capture_output=True, text=True, env=environment
    )
    if result.returncode:
        raise RuntimeError(result.stderr)
    return [line for line in result.stdout.splitlines() if "==" in line]


def main() -> None:
    failures = 0
    for platform, python, extra in itertools.product(PLATFORMS, PYTHONS, EXTRAS):
        for tested in (False, True):
            name = f"{PLATFORMS[platform]}, Python {python}, {extra or 'no extra'}"
            try:
                packages = resolve(platform, python, extra, tested=tested)
            except RuntimeError as error:
                failures += 1
                print(f"{name}{', as tested' if tested else ''}: FAILS\n{error}")
            else:
                torch = next(line for line in packages if line.startswith("torch=="))
                print(f"{name}: {len(packages)} packages, {torch}")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
