"""benchmarks/gpu_wheels.py: what is carried to a machine that downloads nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from benchmarks.gpu_wheels import CONSTRAINTS, PACKAGES, strip_libraries, versions

# On a machine that is set up for PyTorch.
THERE = {
    *("accelerate", "click", "huggingface-hub", "numpy", "packaging", "pillow", "psutil"),
    *("regex", "rich", "safetensors", "scipy", "tensorboard", "torch", "transformers"),
}

# Of taggers alone, which nothing that runs there needs; 28 MB.
NOT_CARRIED = {"onnxruntime"}


def test_every_need_is_there_or_carried() -> None:
    project = tomllib.loads(CONSTRAINTS.with_name("pyproject.toml").read_text("utf-8"))["project"]
    needs = project["dependencies"] + project["optional-dependencies"]["cuda"]
    names = {re.split(r"[<>=]", need)[0].replace("_", "-").lower() for need in needs}
    assert names - THERE - NOT_CARRIED <= set(PACKAGES)
    assert set(PACKAGES) <= versions().keys()


def wheel(path: Path, *libraries: str) -> Path:
    files = {
        "bitsandbytes/__init__.py": "NAME = 'stands in'\n",
        **{f"bitsandbytes/libbitsandbytes_{name}.so": name * 1000 for name in libraries},
        "bitsandbytes-1.0.dist-info/METADATA": (
            "Metadata-Version: 2.1\nName: bitsandbytes\nVersion: 1.0\n"
        ),
        "bitsandbytes-1.0.dist-info/WHEEL": (
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
        "bitsandbytes-1.0.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as file:
        for name, text in files.items():
            file.writestr(name, text)
    return path


@pytest.mark.slow
def test_a_stripped_wheel_installs(tmp_path: Path) -> None:
    """pip itself looks at the list of files and their digests."""
    path = wheel(tmp_path / "bitsandbytes-1.0-py3-none-any.whl", "cpu", "cuda129", "cuda130")
    strip_libraries(path)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    target = tmp_path / "site"
    subprocess.run([*command, "--target", str(target), str(path)], check=True)
    found = sorted(file.name for file in (target / "bitsandbytes").glob("*.so"))
    assert found == ["libbitsandbytes_cpu.so", "libbitsandbytes_cuda130.so"]
    record = (target / "bitsandbytes-1.0.dist-info" / "RECORD").read_text("utf-8")
    assert "cuda129" not in record
    assert "libbitsandbytes_cuda130.so,sha256=" in record


def test_a_wheel_without_the_library_is_refused(tmp_path: Path) -> None:
    path = wheel(tmp_path / "bitsandbytes-1.0-py3-none-any.whl", "cpu", "cuda129")
    with pytest.raises(SystemExit, match=r"no library for CUDA 13\.0"):
        strip_libraries(path)
