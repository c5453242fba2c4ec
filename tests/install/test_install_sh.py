"""install.sh at work, offline and by a user without rights."""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.install.stand_in_wheels import SCRIPT, Machine, write_lorasmith, write_wheel

from lorasmith.core.torch_builds import CUDA_BUILDS, ROCM_INDEX, choose_index, parse_version

PLACE = ".local/share/lorasmith"
COMMAND = ".local/bin/lorasmith"
NO_TERMINAL = "there is no terminal to ask at"

SMI = """
| NVIDIA-SMI 570.86.15   Driver Version: 570.86.15   CUDA {word}Version: {cuda}  |
"""


def nvidia_smi(machine: Machine, cuda: str, *cards: str, word: str = "") -> None:
    lines = "\n".join(f"echo {card}" for card in cards)
    header = SMI.format(cuda=cuda, word=word).strip()
    machine.program(
        "nvidia-smi", f"case $1 in --query-gpu*) {lines or 'exit 6'} ;; *) echo '{header}' ;; esac"
    )


def test_it_says_what_it_will_do_and_does_nothing_unasked(machine: Machine) -> None:
    text = machine.run(status=2)
    assert NO_TERMINAL in text
    assert "--yes" in text
    for place in (machine.home / PLACE, machine.home / COMMAND, machine.programs / "uv"):
        assert str(place) in text
    assert re.search(r"to load +about \d+ MB", text)
    assert re.search(r"on disk +about [\d.]+ [MG]B; [\d.]+ [MG]B are free", text)
    assert not list(machine.home.iterdir())


@pytest.mark.parametrize(("answer", "status"), [("n", 130), ("", 130), ("y", 2)])
def test_it_asks_at_the_terminal(
    machine: Machine, tmp_path: Path, answer: str, status: int
) -> None:
    ours, theirs = pty.openpty()
    words = ["sh", str(SCRIPT), "--wheels", str(tmp_path)]  # Where nothing is, so a yes fails.
    process = subprocess.Popen(
        words, env=machine.environment, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs
    )
    os.write(ours, answer.encode() + b"\n")
    output = process.communicate(timeout=60)[0].decode()
    os.close(ours)
    os.close(theirs)
    assert process.returncode == status
    assert "Go on? [y/N]" in output
    assert ("Nothing was done" in output) == (status == 130)
    assert (machine.home / PLACE).exists() == (status == 2)


@pytest.mark.slow
def test_installs_updates_and_leaves_nothing(machine: Machine, wheels: Path) -> None:
    """Into folders with spaces and umlauts, whatever the environment says of other places."""
    mine = machine.home / "mine"
    elsewhere = {
        "PYTHONPATH": "/nonsense",
        "VIRTUAL_ENV": str(mine),
        "PIP_TARGET": str(mine),
        "UV_SYSTEM_PYTHON": "1",
        "UV_PYTHON": "3.99",
        "UV_TORCH_BACKEND": "cu128",
    }
    text = machine.run("--yes", "--wheels", wheels, **elsewhere)
    assert "lorasmith, version 0.1.0 is installed, with PyTorch 2.13.0." in text
    assert f'export PATH="{machine.home}/.local/bin:$PATH"' in text
    first = machine.home / PLACE / "env-1"
    # As given, without a PYTHONPATH that is not for it.
    assert machine.command("a b", "ü", PYTHONPATH="/nonsense") == f"['a b', 'ü'] None {first}\n"
    assert not mine.exists()
    assert not list(first.rglob("bitsandbytes*")), "there is no NVIDIA card"

    more = machine.folder / "newer"
    shutil.copytree(wheels, more)
    write_lorasmith(more, "0.2.0")
    text = machine.run("--yes", "--wheels", more, "--extras", "audit")
    assert "brought up to date" in text
    assert "version 0.2.0" in text
    assert machine.command("--version") == "lorasmith, version 0.2.0\n"
    assert list((machine.home / PLACE / "env-2").rglob("looker.py"))
    assert not first.exists()
    here = f"{machine.home}/.local/bin:{machine.environment['PATH']}"
    text = machine.run("--yes", "--wheels", more, PATH=here)
    assert "Try it: lorasmith demo" in text
    assert "with the extras audit" in text, "those that are there stay"
    plan = machine.run("--wheels", more, "--extras", "cuda,,audit,", status=2)
    assert "with the extras cuda,audit\n" in plan
    assert "cpu (no GPU with a working driver was found): 2.13.0, which is there, stays" in plan
    assert "at most about 210 MB" in machine.run(status=2), "without PyTorch"

    machine.run("--yes", "--wheels", more, "--torch", "cu126", "--extras", "none")
    assert "cu126 (as asked for)" in machine.run("--wheels", more, status=2)
    assert "cpu (no GPU" in machine.run("--wheels", more, "--torch", "auto", status=2)

    text = machine.run("--uninstall", status=2)
    assert NO_TERMINAL in text
    text = machine.run("--uninstall", "--yes")
    assert "lorasmith is removed." in text
    assert machine.files() == set()
    assert not (machine.home / PLACE).exists()
    assert not (machine.home / COMMAND).parent.exists(), "the script has made it"


@pytest.mark.slow
def test_a_certain_release_or_file(machine: Machine, wheels: Path) -> None:
    more = machine.folder / "newer"
    shutil.copytree(wheels, more)
    write_lorasmith(more, "0.3.0")
    machine.run("--yes", "--wheels", more, "--version", "0.1.0")
    assert machine.command("--version") == "lorasmith, version 0.1.0\n"
    (machine.home / "für [mich]").mkdir()
    file = write_lorasmith(machine.home / "für [mich]", "0.2.0")
    text = machine.run("--yes", "--wheels", more, "--from", file.relative_to(machine.home))
    assert f"what      {file}, with the extras studio\n" in text
    # What `lorasmith doctor` says of extras.
    again = (machine.home / PLACE / "env-2" / "again").read_text()
    assert shlex.split(again) == [
        *("sh", str(machine.script), "--from", str(file), "--wheels", str(more))
    ]
    assert machine.command("--version") == "lorasmith, version 0.2.0\n"


BREAK = """
case "$*" in *{at}*) if [ ! -e "{once}" ]; then : >"{once}"; {how}; fi ;; esac
exec "{uv}" "$@"
"""


def break_off(machine: Machine, at: str, how: str) -> None:
    """uv that comes to an end once, the first time when it is called with certain words."""
    once = machine.home / "broken"
    once.unlink(missing_ok=True)
    machine.program("uv", BREAK.format(at=at, once=once, how=how, uv=machine.uv))


@pytest.mark.slow
def test_broken_off_it_goes_on_and_takes_nothing_half_for_whole(
    machine: Machine, wheels: Path
) -> None:
    break_off(machine, "torch", "kill -KILL 0")  # The script and all that it has started.
    machine.run("--yes", "--wheels", wheels, status=-signal.SIGKILL)
    place = machine.home / PLACE
    assert (place / "env-1").exists()
    assert (place / "lock").exists()
    assert not (place / "current").exists()
    assert not (machine.home / COMMAND).exists()
    text = machine.run("--yes", "--wheels", wheels)
    assert "is installed" in text
    assert machine.command("--version") == "lorasmith, version 0.1.0\n"

    # An update that breaks off leaves what there was.
    more = machine.folder / "newer"
    shutil.copytree(wheels, more)
    write_lorasmith(more, "0.2.0")
    break_off(machine, "lorasmith[[]audit", "exit 1")
    text = machine.run("--yes", "--wheels", more, "--extras", "audit", status=2)
    assert "could not go on with: what lorasmith needs, and audit" in text
    assert "the same command goes on from there" in text
    assert machine.command("--version") == "lorasmith, version 0.1.0\n"
    machine.run("--yes", "--wheels", more)
    assert machine.command("--version") == "lorasmith, version 0.2.0\n"
    assert [path.name for path in place.glob("env-*")] == [(place / "current").read_text().strip()]


def test_stopped_it_says_so(machine: Machine, wheels: Path) -> None:
    break_off(machine, "venv", "sleep 300")  # ended below
    process = machine.start("--yes", "--wheels", wheels)
    for _ in range(200):
        if (machine.home / "broken").exists():
            break
        time.sleep(0.05)
    text = machine.run("--yes", "--wheels", wheels, status=2)
    assert "another installation is under way" in text
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command goes on from there" in output
    assert not (machine.home / PLACE / "lock").exists()


@pytest.mark.slow
def test_what_runs_is_not_removed(machine: Machine, wheels: Path) -> None:
    place = machine.home / PLACE
    machine.run("--yes", "--wheels", wheels)
    running = subprocess.Popen([place / "env-1/bin/python", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        text = machine.run("--yes", "--wheels", wheels)
        assert f"{place}/env-1 is in use" in text
        assert (place / "env-1/bin/python").exists()
    finally:
        running.communicate()


def test_others_folders_and_commands_are_left_alone(machine: Machine) -> None:
    theirs = machine.home / "documents"
    theirs.mkdir()
    (theirs / "letter").touch()
    assert "is not empty" in machine.run("--yes", "--dir", theirs, status=2)
    assert "left alone" in machine.run("--yes", "--uninstall", "--dir", theirs, status=2)
    assert "there is no such folder" in machine.run("--yes", "--uninstall", status=2)
    (theirs / "lorasmith").write_text("#!/bin/sh\n# pipx made this\n")
    text = machine.run("--yes", "--bin", theirs, status=2)
    assert "is there already" in text
    assert "--bin" in text
    assert sorted(path.name for path in theirs.iterdir()) == ["letter", "lorasmith"]


def test_what_came_into_the_folder_otherwise_stays(machine: Machine, wheels: Path) -> None:
    place = machine.home / "studio"
    machine.run("--yes", "--wheels", wheels, "--dir", place)
    (place / "zorp.safetensors").touch()
    text = machine.run("--yes", "--uninstall", "--dir", place)
    assert "zorp.safetensors" in text
    assert [path.name for path in place.iterdir()] == ["zorp.safetensors"]


CARDS = [
    ("13.0", ()),
    ("13.1", ("8.6",)),
    ("13.0", ("6.1",)),
    ("13.0", ("6.1", "8.6")),
    ("13.0", ("6.1", "6.1", "12.0")),
    ("12.8", ("12.0",)),
    ("12.8", ("8.9",)),
    ("12.2", ("7.0", "3.5")),
    ("12.2", ("12.0",)),
    ("11.8", ("8.6",)),
]


def test_the_build_is_chosen_as_the_package_does() -> None:
    """By the table of :mod:`lorasmith.core.torch_builds`, for drivers and cards old and new."""
    functions = SCRIPT.read_text().removesuffix('main "$@"\n')
    calls = "\n".join(f"choose_cuda {driver} '{' '.join(cards)}'" for driver, cards in CARDS)
    output = subprocess.run(
        ["sh", "-s"], input=functions + calls, capture_output=True, text=True, check=True
    ).stdout

    def pair(text: str) -> tuple[int, int]:
        major, minor = text.split(".")
        return int(major), int(minor)

    expected = [choose_index(pair(driver), map(pair, cards)) for driver, cards in CARDS]
    assert output.split() == expected
    assert {build.index for build in CUDA_BUILDS} | {"cpu"} == set(expected)


def test_an_nvidia_card_gets_its_build_and_bitsandbytes(machine: Machine) -> None:
    nvidia_smi(machine, "13.0", "8.6")
    text = machine.run(status=2)
    assert "cu130 (NVIDIA's driver can do CUDA 13.0, the card is of compute capability 8.6)" in text
    assert "with the extras cuda,studio\n" in text
    assert re.search(r"to load +about [\d.]+ GB", text)
    nvidia_smi(machine, "12.4", word="UMD ")
    assert "cu126 (NVIDIA's driver can do CUDA 12.4)" in machine.run(status=2)
    nvidia_smi(machine, "11.4", "8.6")
    text = machine.run(status=2)
    assert "cpu (NVIDIA's driver can do CUDA 11.4" in text
    assert "renew the driver" in text
    assert "with the extras studio\n" in text
    assert "the extras audit" in machine.run("--extras", "audit", "--torch", "cu130", status=2)
    assert "the extras" not in machine.run("--extras=none", "--torch=cu130", status=2)


def test_a_driver_that_does_not_answer_is_none(machine: Machine) -> None:
    machine.program("nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
    assert "cpu (no GPU with a working driver was found)" in machine.run(status=2)


def test_a_full_disk_is_said_before(machine: Machine) -> None:
    machine.program("df", "echo Filesystem; echo 'disk 100 90 512000 90% /'")
    text = machine.run("--yes", status=2)
    assert "has 500 MB free" in text
    assert "--dir" in text
    assert not list(machine.home.iterdir())


@pytest.mark.parametrize(
    ("programs", "sentence"),
    [
        ({"getconf": "echo glibc 2.27"}, "glibc is 2.27; PyTorch needs 2.28"),
        ({"getconf": "exit 1"}, "another C library than glibc"),
        ({"uname": "case $1 in -m) echo riscv64 ;; *) echo Linux ;; esac"}, "Linux on riscv64"),
        ({"uname": "echo MINGW64_NT-10.0"}, "on Windows: install.ps1"),
        (
            {"uname": "case $1 in -m) echo x86_64 ;; *) echo Darwin ;; esac", "sysctl": "echo 0"},
            "Macs with Intel processors",
        ),
        (
            {
                "uname": "case $1 in -m) echo x86_64 ;; *) echo Darwin ;; esac",
                "sysctl": "echo 1",
                "sw_vers": "echo 13.7.1",
            },
            "macOS is 13.7.1; lorasmith needs 14",
        ),
    ],
)
def test_machines_without_builds_are_told_so(
    machine: Machine, programs: dict[str, str], sentence: str
) -> None:
    for name, text in programs.items():
        machine.program(name, text)
    assert sentence in machine.run("--yes", status=2)
    assert not list(machine.home.iterdir())


def test_apple_has_its_own_build_and_folder(machine: Machine) -> None:
    machine.program("uname", "case $1 in -m) echo arm64 ;; *) echo Darwin ;; esac")
    machine.program("sysctl", "echo 1")
    machine.program("sw_vers", "echo 15.1")
    text = machine.run(status=2, SHELL="/bin/zsh")
    assert f"{machine.home}/Library/Application Support/lorasmith" in text
    assert "pypi (the one for Apple's chips)" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--force"], "there is no option --force"),
        (["--dir"], "--dir needs a value"),
        (["--extras", "magic"], "there is no extra magic"),
        (["--torch", "cuda"], "there is no build cuda"),
        (["--torch", "cu999"], "there is no build cu999"),
        (["--from", "missing.whl"], "missing.whl: there is no such file"),
        (["--from", "."], "has no pyproject.toml"),
        (["--from", ".", "--version", "1"], "exclude each other"),
        (["--wheels", "missing"], "missing: there is no such folder"),
        (["--python", "/nowhere/python"], "there is no such program"),
        (["--python", "sh"], "is no 64-bit CPython 3.11 to 3.14"),
        (["--yes=1"], "--yes takes no value"),
    ],
)
def test_mistakes_are_named(machine: Machine, words: list[str], sentence: str) -> None:
    assert sentence in machine.run(*words, status=2)


def test_without_a_python_uv_brings_one(machine: Machine, wheels: Path) -> None:
    for name in ("python3.11", "python3.12", "python3.13", "python3.14", "python3"):
        machine.program(name, "echo")  # One that does not fit.
    real = shutil.which("python3.11", path="/usr/bin") or sys.executable
    find = f"""case "$*" in
        "python install 3.12")
            echo "$UV_PYTHON_INSTALL_DIR $UV_PYTHON_INSTALL_BIN" >"{machine.home}/log" ;;
        "python find"*) echo "{real}" ;;
        *) exec "{machine.uv}" "$@" ;;
    esac"""
    machine.program("uv", find)
    text = machine.run("--yes", "--wheels", wheels)
    assert "Python    3.12, its own, loaded by uv" in text
    # Into the folder, and no command python3.12 on the user's path.
    assert (machine.home / "log").read_text() == f"{machine.home / PLACE}/python 0\n"


def uv_wheel(machine: Machine, folder: Path) -> None:
    """A wheel that holds uv where the real one does; a few lines that start the real one."""
    folder.mkdir(exist_ok=True)
    path = write_wheel(
        folder,
        "uv",
        "0.13.9",
        {"uv-0.13.9.data/scripts/uv": f'#!/bin/sh\nexec {machine.uv} "$@"\n'},
    )
    path.rename(folder / "uv-0.13.9-py3-none-manylinux_2_28_x86_64.whl")
    (machine.programs / "uv").unlink()


@pytest.mark.slow
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the wheel's name is for x86-64")
def test_uv_comes_from_the_folder_of_wheels(machine: Machine, wheels: Path) -> None:
    more = machine.folder / "with uv"
    shutil.copytree(wheels, more)
    machine.program("uv", "echo uv 0.1.0")  # Too old.
    assert "holds no wheel of uv" in machine.run("--yes", "--wheels", more, status=2)
    uv_wheel(machine, more)
    text = machine.run("--yes", "--wheels", more)
    assert f"uv        from {more}/uv-0.13.9" in text
    assert (machine.home / PLACE / "uv/uv").exists()
    text = machine.run("--wheels", more, status=2)
    assert f"uv        {machine.home / PLACE}/uv/uv" in text


PIP = """case "$*" in
    *"pip --version") ;;
    *"pip install"*)
        while [ "$1" != --target ]; do shift; done
        mkdir -p "$2/bin" "$2/uv"
        cp "{uv}" "$2/bin/uv" ;;
    *) exec {python} "$@" ;;
esac"""


def test_uv_comes_by_pip(machine: Machine) -> None:
    """Of a Python that is there: from whatever index pip is set up with."""
    machine.program("uv", "exit 1")
    python = shutil.which("python3.11", path="/usr/bin") or sys.executable
    machine.program("python3.12", PIP.format(uv=machine.uv, python=python))
    text = machine.run("--yes", status=2)
    assert "uv        loaded by pip" in text
    # With the package there is a folder uv, too.
    assert [path.name for path in (machine.home / PLACE / "uv").iterdir()] == ["uv"]
    assert "could not go on with: lorasmith" in text


def test_uv_comes_by_its_installer(machine: Machine, wheels: Path) -> None:
    """Where the Python that is there has no pip."""
    machine.program("uv", "exit 1")
    python = shutil.which("python3.11", path="/usr/bin") or sys.executable
    machine.program("python3.12", f'case "$*" in *pip*) exit 1 ;; *) exec {python} "$@" ;; esac')
    (machine.folder / "installer").write_text(f'cp "{machine.uv}" "$UV_UNMANAGED_INSTALL/uv"')
    load = f'while [ "$1" != -o ]; do echo $1; shift; done; cat "{machine.folder}/installer" >"$2"'
    machine.program("curl", load)
    text = machine.run(
        "--yes", "--torch", "pypi", status=2
    )  # Offline, so that it ends with lorasmith.
    assert "uv        loaded by its installer, https://astral.sh/uv/install.sh" in text
    assert "https://astral.sh/uv/install.sh\n" in text
    assert (machine.home / PLACE / "uv/uv").exists()
    assert "could not go on with: lorasmith" in text


def test_indexes_that_pip_knows_are_uvs(machine: Machine) -> None:
    log = 'echo "$UV_DEFAULT_INDEX|$UV_INDEX|$SSL_CERT_FILE|$HTTPS_PROXY|$*"'
    machine.program("uv", f'case "$*" in --version) echo uv 0.13.9 ;; *) {log} ;; esac')
    environment = {
        "PIP_INDEX_URL": "https://mirror/simple",
        "PIP_EXTRA_INDEX_URL": "https://more/simple",
        "PIP_CERT": "/certificates",
        "HTTPS_PROXY": "http://proxy:3128",
    }
    text = machine.run("--yes", "--torch", "cu130", status=2, **environment)
    ours = "https://mirror/simple|{}|/certificates|http://proxy:3128|"
    lines = [line for line in text.splitlines() if "|" in line]
    assert any(line.startswith(ours.format("https://more/simple")) for line in lines)
    # PyTorch comes from its own index, whatever others there are.
    (torch,) = (line for line in lines if "torch==" in line)
    assert torch.startswith(ours.format(""))
    assert "--default-index https://download.pytorch.org/whl/cu130 torch==2.13.0" in torch
    mine = ("--yes", "--torch=cu999", "--torch-index=https://m/cpu")
    text = machine.run(*mine, status=2, **environment)
    assert "2.13.0, the tested version, if the index has it" in text
    assert "--default-index https://m/cpu torch==2.13.0" in text
    assert "torch>=2.8" not in text
    # An index of someone's own may have other versions alone.
    refuse = f'case "$*" in --version) echo uv 0.13.9 ;; *torch==*) exit 1 ;; *) {log} ;; esac'
    machine.program("uv", refuse)
    text = machine.run(*mine, status=2, **environment)
    assert "--default-index https://m/cpu torch>=2.8" in text


def test_uv_locks_no_passwords_that_there_are_none_of(machine: Machine) -> None:
    log = 'echo "credentials: $UV_CREDENTIALS_DIR"'
    machine.program("uv", f'case "$*" in --version) echo uv 0.13.9 ;; *) {log} ;; esac')
    ours = f"credentials: {machine.home / PLACE}/credentials\n"
    assert ours in machine.run("--yes", status=2)
    (machine.home / ".local/share/uv/credentials").mkdir(parents=True)
    assert "credentials: \n" in machine.run("--yes", status=2), "someone's own are heeded"


def test_the_tested_pytorch_is_taken_where_there_is_a_build_of_it(machine: Machine) -> None:
    constraints = (SCRIPT.parent / "constraints.txt").read_text().splitlines()
    (tested,) = (line.removeprefix("torch==") for line in constraints if line.startswith("torch=="))
    table = dict(re.findall(r"^(TESTED_\w+)='?(.*?)'?$", SCRIPT.read_text(), re.MULTILINE))
    assert table["TESTED_TORCH"] == tested
    version = parse_version(tested)[:2]
    having = {"cpu", "pypi", ROCM_INDEX}
    for build in CUDA_BUILDS:
        first, last = build.torch
        if first <= version and (last is None or version <= last):
            having.add(build.index)
    assert set(table["TESTED_BUILDS"].split()) == having
    text = machine.run("--torch", "pypi", status=2)
    assert f"pypi (as asked for): {tested}, the tested version\n" in text
    text = machine.run("--torch", "cu128", status=2)
    assert f"the newest there is of it, since {tested}, the tested version, may not be\n" in text


@pytest.mark.broad
def test_the_real_one_from_a_folder_of_wheels(machine: Machine) -> None:
    """As docs/install.md says: collected with pip, from PyPI, and installed without a network."""
    import torch

    wheels = machine.folder / "wheels"
    collect = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(wheels)]
    # The build that is at work here, so that no other one of several GB is loaded.
    subprocess.run([*collect, f"torch=={torch.__version__}"], check=True)
    constraints = [
        "--find-links",
        str(wheels),
        "--constraint",
        str(SCRIPT.parent / "constraints.txt"),
    ]
    subprocess.run([*collect, *constraints, str(SCRIPT.parent), "uv"], check=True)
    machine.program("uv", "exit 1")
    text = machine.run("--yes", "--wheels", wheels)
    assert "loaded by" not in text
    assert f"with PyTorch {torch.__version__}" in text
    assert "Make a LoRA" in machine.command("--help")
    assert "zorp" in machine.command("tokens", "zorp", "--pieces")
    machine.run("--yes", "--uninstall")
    assert machine.files() == set()
