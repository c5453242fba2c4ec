"""Wheels for a machine that has PyTorch and can download nothing: what lorasmith needs beside it.

    python benchmarks/gpu_wheels.py --out .whl                 # for Python 3.12 on x86-64
    python benchmarks/gpu_wheels.py --out .whl --without bitsandbytes

Gets the versions of constraints.txt. Of bitsandbytes, which has a library for each release of CUDA,
those of one release and of CPUs are kept. benchmarks/gpu.md has the commands to run there.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
# Not there where PyTorch, transformers, accelerate, peft and the usual scientific packages are.
PACKAGES = (
    *("bitsandbytes", "diffusers", "importlib-metadata", "pydantic", "pydantic-core"),
    *("annotated-types", "typing-inspection", "ftfy", "wcwidth"),
    *("dadaptation", "lion-pytorch", "prodigyopt", "schedulefree"),
)
GLIBC = (39, 35, 34, 31, 28, 27, 24, 17)
KEPT_LIBRARIES = re.compile(r"libbitsandbytes_(cpu|cuda130)\.so$")


def versions() -> dict[str, str]:
    """Exact versions by normal name."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pins = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {re.sub(r"[-_.]+", "-", name).lower(): rest.strip() for name, rest in pins}


def download(package: str, python: str, folder: Path) -> None:
    version = versions()[package]
    platforms = [f"manylinux_2_{n}_x86_64" for n in GLIBC] + ["manylinux2014_x86_64"]
    common = [sys.executable, "-m", "pip"]
    binary = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    binary += [word for name in platforms for word in ("--platform", name)]
    target = ["--quiet", "--no-deps", f"{package}=={version}"]
    done = subprocess.run([*common, "download", *binary, "-d", str(folder), *target], check=False)
    if done.returncode:  # Pure Python that is published as source alone.
        subprocess.run([*common, "wheel", "-w", str(folder), *target], check=True)


def strip_libraries(path: Path) -> None:
    """Leave libraries out of a wheel of bitsandbytes, and out of its list of files."""
    stripped = path.with_suffix(".new")
    with zipfile.ZipFile(path) as old:
        if not any(name.endswith("_cuda130.so") for name in old.namelist()):
            raise SystemExit(f"{path.name} has no library for CUDA 13.0")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(stripped, "w", zipfile.ZIP_DEFLATED) as new:
        record = next(name for name in old.namelist() if name.endswith(".dist-info/RECORD"))
        kept = [
            name
            for name in old.namelist()
            if name != record and (not name.endswith(".so") or KEPT_LIBRARIES.search(name))
        ]
        rows = io.StringIO()
        writer = csv.writer(rows, lineterminator="\n")
        for name in kept:
            data = old.read(name)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            writer.writerow([name, f"sha256={digest}", len(data)])
            new.writestr(name, data)
        writer.writerow([record, "", ""])
        new.writestr(record, rows.getvalue())
    stripped.replace(path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--python", default="3.12", help="version of Python there")
    parser.add_argument("--without", nargs="*", default=[], choices=PACKAGES, metavar="PACKAGE")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for old in options.out.glob("*.whl"):  # Two versions of one would stop the installation there.
        old.unlink()
    for package in PACKAGES:
        if package not in options.without:
            download(package, options.python, options.out)
    for wheel in options.out.glob("bitsandbytes-*.whl"):
        strip_libraries(wheel)
    wheels = sorted(options.out.glob("*.whl"), key=lambda path: path.stat().st_size)
    for wheel in wheels:
        print(f"{wheel.stat().st_size / 2**20:6.2f} MiB  {wheel.name}")
    print(f"{sum(wheel.stat().st_size for wheel in wheels) / 2**20:6.2f} MiB  in all")


if __name__ == "__main__":
    main()
