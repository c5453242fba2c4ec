"""Faults of computers, each named with the line that mends it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lorasmith.advice.doctor.checks import CHECKS
from lorasmith.advice.doctor.computer import (
    Card,
    Computer,
    Device,
    Folder,
    Nvidia,
    Package,
    Python,
    Torch,
    Trial,
    Unmet,
)
from lorasmith.advice.doctor.doctor import report_of
from lorasmith.advice.doctor.finding import Finding
from lorasmith.advice.doctor.python_checks import EXTRAS
from lorasmith.core.installation import Installation

ROOT = Path(__file__).parents[4]
GB = 10**9

RTX = Card("NVIDIA GeForce RTX 3060", (8, 6), 12 * GB, 11 * GB)
GPU = Device(
    "cuda", RTX.name, bf16=True, small_floats=True, capability=(8, 6), precision="bf16",
    precision_reason="this GPU computes in bf16", attention=("flash", "memory-efficient", "math"),
    free=11 * GB, total=12 * GB,
)  # fmt: skip
CUDA_130 = Torch(
    "2.13.0+cu130", "13.0", architectures=("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
)
CUDA_126 = Torch(
    "2.13.0+cu126", "12.6", architectures=("sm_50", "sm_60", "sm_70", "sm_86", "sm_90")
)
CPU = Torch("2.13.0+cpu")

GOOD = Computer(
    packages={name: Package("1.0") for name in ("lorasmith", "numpy", "bitsandbytes")}
    | {"torch": Package("2.13.0")},
    extras={"cuda": {"bitsandbytes": "bitsandbytes>=0.48"}},
    needs={"numpy": "numpy>=2.1"},
    nvidia=Nvidia("nvidia-smi", "580.95.05", (13, 0), (RTX,)),
    folders=(
        Folder("runs", "/work/runs", 100 * GB, file_system="ext4"),
        Folder("caches", "/home/anna/.cache/lorasmith", 100 * GB),
        Folder("models", "/home/anna/.cache/huggingface/hub", 100 * GB),
        Folder("temporary files", "/tmp", 100 * GB),
    ),
    shared_memory=8 * GB,
    open_files=1024,
    torch=CUDA_130,
    device=GPU,
    trials={name: Trial(ratio=1.0) for name in ("fp32", "fp16", "bf16", "fp8", "nf4")}
    | {"VAE": Trial(), "bitsandbytes": Trial(), "8-bit optimizer": Trial()},
)
"""A computer with an NVIDIA card, of which nothing is to be said."""
WINDOWS = replace(
    GOOD,
    platform="win32",
    machine="AMD64",
    long_paths=False,
    shared_memory=None,
    open_files=None,
    python=Python(
        scripts=r"C:\lora\Scripts", command=r"c:\LORA\Scripts\lorasmith.EXE", environment="venv"
    ),
    folders=(Folder("runs", r"C:\lora\runs", 100 * GB),),
)


def folder(role: str, **facts: object) -> Computer:
    changed = tuple(
        replace(one, **facts) if one.role == role else one  # type: ignore[arg-type]
        for one in GOOD.folders
    )
    return replace(GOOD, folders=changed)


def trial(name: str, **facts: object) -> Computer:
    return replace(GOOD, trials={**GOOD.trials, name: Trial(**facts)})  # type: ignore[arg-type]


def driver(version: str, cuda: tuple[int, int] | None, *cards: Card, **more: object) -> Computer:
    nvidia = Nvidia("nvidia-smi", version, cuda, cards or (RTX,))
    return replace(GOOD, nvidia=nvidia, **more)  # type: ignore[arg-type]


def packages(**copies: tuple[tuple[str, str], ...]) -> dict[str, Package]:
    return {**GOOD.packages, **{name: Package(one[0][0], one) for name, one in copies.items()}}


@dataclass(frozen=True)
class Fault:
    """
    Args:
        check: the one that finds it.
        says: a part of its evidence.
        mend: a part of the line that mends it.
    """

    computer: Computer
    check: str
    status: str
    says: str
    mend: str


NO_DRIVER = replace(GOOD, nvidia=Nvidia("a card on the PCI bus"), device=Device(), torch=CUDA_130)
BLACKWELL = Card("NVIDIA GeForce RTX 5090", (12, 0), 32 * GB, 31 * GB)
PASCAL = Card("NVIDIA GeForce GTX 1080", (6, 1), 8 * GB, 7 * GB)
PLAIN = Device(attention=("math",), precision="fp32")
ON_CPU = replace(GOOD, nvidia=Nvidia(), torch=CPU, device=PLAIN)
TWO_CARDS = Nvidia("nvidia-smi", "580.95.05", (13, 0), (RTX, RTX))
ONEDRIVE = r"C:\Users\anna\OneDrive\Bilder\runs"

FAULTS = {
    "driver too old for this PyTorch": Fault(
        driver("550.54.14", (12, 4), device=Device(problem="The NVIDIA driver is too old")),
        "driver", "broken", "built for 13.0", "whl/cu126",
    ),
    "driver too old for any PyTorch": Fault(
        driver("470.256.02", (11, 4), device=Device(problem="too old")),
        "driver", "broken", "CUDA 11.4", "update the driver to 580.65.06",
    ),
    "driver too old for a Blackwell": Fault(
        driver("570.86", (12, 8), BLACKWELL, device=Device(problem="too old")),
        "driver", "broken", "built for 13.0", "whl/cu128",
    ),
    "a card without a driver": Fault(
        NO_DRIVER, "driver", "broken", "no driver", "https://www.nvidia.com/drivers",
    ),
    "a driver renewed under the system": Fault(
        replace(
            NO_DRIVER,
            nvidia=Nvidia("nvidia-smi", "580.95", (13, 0), error="Driver/library version mismatch"),
        ),
        "driver", "broken", "mismatch", "restart the computer",
    ),
    "a container without the card": Fault(
        replace(NO_DRIVER, container=True),
        "driver", "broken", "no driver", "docker run --gpus all",
    ),
    "PyTorch for CPUs beside an NVIDIA card": Fault(
        replace(GOOD, torch=CPU, device=Device()),
        "PyTorch", "broken", "CPUs alone", "whl/cu130",
    ),
    "PyTorch for CPUs on Windows, unasked": Fault(
        replace(WINDOWS, torch=None, device=None),
        "PyTorch", "broken", "CPUs alone", "--index-url https://download.pytorch.org/whl/cu130",
    ),
    "PyTorch for CPUs beside an AMD card": Fault(
        replace(GOOD, nvidia=Nvidia(), amd="/dev/kfd", torch=CPU, device=Device()),
        "PyTorch", "broken", "AMD card", "whl/rocm",
    ),
    "neither PyTorch nor driver": Fault(
        replace(GOOD, nvidia=Nvidia("a card on the PCI bus"), packages={}, torch=None, device=None),
        "PyTorch", "broken", "not installed", "whl/cu130",
    ),
    "no PyTorch": Fault(
        replace(GOOD, packages={}, torch=None, device=None),
        "PyTorch", "broken", "not installed", "python -m pip install",
    ),
    "PyTorch that does not load on Windows": Fault(
        replace(WINDOWS, torch=None, device=None, torch_problem="[WinError 126] error loading DLL"),
        "PyTorch", "broken", "WinError 126", "vc_redist.x64.exe",
    ),
    "PyTorch that ends Python": Fault(
        replace(GOOD, torch=None, device=None, torch_problem="it ends Python itself (SIGILL)"),
        "PyTorch", "broken", "SIGILL", "--force-reinstall torch",
    ),
    "no code for a card that is too new": Fault(
        driver("580.95.05", (13, 0), BLACKWELL, torch=CUDA_126),
        "code for the card", "broken", "RTX 5090", "whl/cu130",
    ),
    "no code for a card that is too old": Fault(
        driver("580.95.05", (13, 0), PASCAL),
        "code for the card", "broken", "6.1", "whl/cu126",
    ),
    "a hidden card": Fault(
        replace(GOOD, environment={"CUDA_VISIBLE_DEVICES": ""}, device=Device(problem="none")),
        "device", "broken", "hides the card", "unset CUDA_VISIBLE_DEVICES",
    ),
    "a card that fails": Fault(
        replace(GOOD, device=Device(problem="CUDA unknown error")),
        "device", "broken", "CUDA unknown error", "restart the computer",
    ),
    "no card at all": Fault(ON_CPU, "device", "slow", "no GPU", "--model demo"),
    "a card that others use": Fault(
        driver("580.95.05", (13, 0), replace(RTX, free=GB, users=(("comfy (process 7)", 9 * GB),))),
        "memory of the card", "broken", "comfy (process 7), 9.0 GB", "close comfy",
    ),
    "a small card": Fault(
        driver("580.95.05", (13, 0), replace(RTX, total=4 * GB, free=3 * GB)),
        "memory of the card", "slow", "3.0 GB of 4.0 GB", "train.base_precision",
    ),
    "only the plain kernel of attention": Fault(
        replace(GOOD, device=replace(GPU, attention=("math",))),
        "attention", "slow", "plain kernel", "--force-reinstall torch",
    ),
    "half precision that gives NaN": Fault(
        trial("bf16", finite=False), "bf16", "broken", "NaN", 'train.precision = "fp32"',
    ),
    "half precision that gives NaN, and is not taken": Fault(
        trial("fp16", finite=False), "fp16", "not there", "NaN", 'train.precision = "auto"',
    ),
    "half precision without instructions": Fault(
        replace(ON_CPU, trials={**GOOD.trials, "bf16": Trial(ratio=3.4)}),
        "bf16", "slow", "3.4 times", 'train.precision = "auto"',
    ),
    "fp32 that fails": Fault(
        trial("fp32", finite=False, problem="no kernel image is available"),
        "fp32", "broken", "no kernel image", "--force-reinstall torch",
    ),
    "no 8-bit floats": Fault(
        trial("fp8", skipped="needs 8-bit floats"),
        "weights in fp8", "not there", "8-bit floats", 'train.base_precision = "auto"',
    ),
    "a VAE that fails": Fault(
        trial("VAE", finite=False, problem="cuDNN error"),
        "VAE", "broken", "cuDNN error", "--force-reinstall torch",
    ),
    "bitsandbytes that does not load": Fault(
        trial("bitsandbytes", problem="it cannot be imported: libcudart.so.13"),
        "bitsandbytes", "broken", "libcudart", "--upgrade bitsandbytes",
    ),
    "bitsandbytes that ends Python, on a CPU": Fault(
        replace(ON_CPU, trials={"bitsandbytes": Trial(problem="it ends Python itself (SIGILL)")}),
        "bitsandbytes", "broken", "SIGILL", "uninstall -y bitsandbytes",
    ),
    "bitsandbytes that does not step": Fault(
        trial("8-bit optimizer", problem="has nothing that runs on cuda"),
        "8-bit optimizer", "broken", "nothing that runs", "--upgrade bitsandbytes",
    ),
    "no bitsandbytes": Fault(
        trial("8-bit optimizer", skipped="bitsandbytes is not installed"),
        "8-bit optimizer", "not there", "not installed", 'pip install "bitsandbytes>=0.48"',
    ),
    "a full disk": Fault(
        folder("runs", free=3 * 10**8), "runs", "broken", "300 MB free", "--output",
    ),
    "a full folder of temporary files": Fault(
        folder("temporary files", free=10**6),
        "temporary files", "broken", "1.0 MB free", "TMPDIR=",
    ),
    "no room for a model of the hub": Fault(
        folder("models", free=5 * GB), "models", "slow", "5.0 GB free", "export HF_HOME=",
    ),
    "no permission to write": Fault(
        folder("caches", problem="cannot be written: Permission denied"),
        "caches", "broken", "Permission denied", "chown",
    ),
    "a folder that OneDrive copies": Fault(
        replace(WINDOWS, folders=(Folder("runs", ONEDRIVE, 100 * GB, service="OneDrive"),)),
        "runs", "slow", "OneDrive", r"--output C:\lorasmith",
    ),
    "a folder on a network": Fault(
        folder("models", network=True, file_system="nfs4"), "models", "slow", "nfs4", "HF_HOME=",
    ),
    "paths that get too long": Fault(
        replace(WINDOWS, folders=(Folder("runs", "C:\\" + 20 * r"a folder\ ", 100 * GB),)),
        "long paths", "broken", "260", "LongPathsEnabled",
    ),
    "little memory": Fault(
        replace(ON_CPU, memory=(6 * GB, 2 * GB)), "memory", "slow", "SD 1.5", "close other",
    ),
    "no memory in a container": Fault(
        replace(GOOD, container=True, memory=(2 * GB, GB // 2)),
        "memory", "broken", "of 2.0 GB", "docker run --memory",
    ),
    "a small /dev/shm, several cards": Fault(
        replace(GOOD, nvidia=TWO_CARDS, shared_memory=64 * 10**6, container=True),
        "shared memory", "broken", "64.0 MB", "--shm-size",
    ),
    "more threads than cores": Fault(
        replace(GOOD, cores=(32, 2.0), torch=replace(CUDA_130, threads=16)),
        "cores", "slow", "2 of 32", "performance.threads = 2",
    ),
    "more threads than cores, by a variable": Fault(
        replace(GOOD, cores=(2, 2.0), torch=None, environment={"OMP_NUM_THREADS": "64"}),
        "cores", "slow", "64 threads (OMP_NUM_THREADS=64)", "export OMP_NUM_THREADS=2",
    ),
    "a number of threads that is none": Fault(
        replace(GOOD, environment={"OMP_NUM_THREADS": "abc"}),
        "cores", "slow", "OMP_NUM_THREADS=abc is no number", "unset OMP_NUM_THREADS",
    ),
    "a disk of which the folder is not there": Fault(
        folder("caches", nearest="/proc", problem="cannot be written: No such file or directory"),
        "caches", "broken", "/proc, the nearest folder there is, cannot", "performance.cache_dir",
    ),
    "a file in the place of runs": Fault(
        folder("runs", problem="is no folder"), "runs", "broken", "is no folder", "lorasmith train",
    ),
    "a folder for temporary files that is not there": Fault(
        folder("temporary files", refused="TMPDIR=/nope"),
        "temporary files", "slow", "TMPDIR=/nope cannot be used", "export TMPDIR=",
    ),
    "a card that is not there, looked for without PyTorch": Fault(
        replace(GOOD, asked="cuda:1", torch=None, device=None),
        "device", "broken", "tells of 1 card", 'performance.device = "auto"',
    ),
    "a device that is not looked at": Fault(
        replace(GOOD, asked="xpu", torch=None, device=None),
        "device", "not there", "xpu was not looked at", "lorasmith doctor --device xpu",
    ),
    "part of a core": Fault(
        replace(GOOD, cores=(32, 0.5), container=True), "cores", "slow", "0.5 of 32", "--cpus",
    ),
    "few open files": Fault(
        replace(GOOD, open_files=64), "open files", "broken", "64", "ulimit -n",
    ),
    "a console of cp1252": Fault(
        replace(WINDOWS, console="cp1252"), "console", "slow", "cp1252", "PYTHONUTF8=1",
    ),
    "names of files in ASCII": Fault(
        replace(GOOD, file_names="ascii"), "file names", "broken", "ascii", "LC_ALL=C.UTF-8",
    ),
    "two PyTorches": Fault(
        replace(
            GOOD,
            packages=packages(
                torch=(("2.13.0", "/venv/lib"), ("2.8.0", "/home/anna/.local/lib")),
            ),
            python=Python(user_site="/home/anna/.local/lib"),
        ),
        "copies", "broken", "hides 2.8.0", "PYTHONNOUSERSITE=1",
    ),
    "two PyTorches in one folder": Fault(
        replace(GOOD, packages=packages(torch=(("2.13.0", "/venv"), ("2.8.0", "/venv")))),
        "copies", "broken", "hides 2.8.0", "pip uninstall -y torch",
    ),
    "packages put before others": Fault(
        replace(
            GOOD,
            packages=packages(numpy=(("1.26", "/opt/ros"), ("2.4", "/venv"))),
            environment={"PYTHONPATH": "/opt/ros"},
        ),
        "copies", "broken", "numpy 1.26", "unset PYTHONPATH",
    ),
    "numpy 1": Fault(
        replace(GOOD, unmet=(Unmet("lorasmith", "numpy>=2.1", "1.26.4"),)),
        "requirements", "broken", "1.26.4", 'install --upgrade "numpy>=2.1"',
    ),
    "PyTorch built for another numpy": Fault(
        replace(GOOD, torch=replace(CUDA_130, numpy_problem="_ARRAY_API not found")),
        "numpy", "broken", "_ARRAY_API", '--upgrade "numpy>=2.1"',
    ),
    "a missing package": Fault(
        replace(GOOD, unmet=(Unmet("lorasmith", "psutil>=6.1"),)),
        "requirements", "broken", "missing", '"psutil>=6.1"',
    ),
    "xformers for another PyTorch": Fault(
        replace(GOOD, unmet=(Unmet("xformers", "torch==2.9.1", "2.13.0"),)),
        "clashes", "broken", "torch==2.9.1", "uninstall -y xformers",
    ),
    "PyTorch of another folder": Fault(
        replace(
            GOOD,
            packages=packages(torch=(("2.13.0", "/venv/lib"),)),
            torch=replace(CUDA_130, folder="/opt/pytorch"),
        ),
        "copies", "broken", "/opt/pytorch", "unset PYTHONPATH",
    ),
    "another package's clash": Fault(
        replace(GOOD, unmet=(Unmet("tensorboard", "protobuf>=3.19.6", "3.1"),)),
        "clashes", "broken", "protobuf>=3.19.6", "--upgrade tensorboard",
    ),
    "protobuf that TensorBoard cannot use": Fault(
        replace(
            GOOD,
            libraries={"torch.utils.tensorboard": "Descriptors cannot be created directly."},
        ),
        "libraries", "broken", "Descriptors", "--upgrade protobuf tensorboard",
    ),
    "an extra that is not installed": Fault(
        GOOD, "extra faces", "not there", "crops around faces", "lorasmith[faces]",
    ),
    "part of an extra": Fault(
        replace(GOOD, extras={"audit": {"torch": "torch>=2", "rapidocr": "rapidocr>=3.10"}}),
        "extra audit", "not there", "watermarks", 'python -m pip install "rapidocr>=3.10"',
    ),
    "no Triton": Fault(
        replace(
            WINDOWS, device=replace(GPU, compiler_problem="needs the package triton"),
        ),
        "compiler", "not there", "performance.compile needs", "pip install triton-windows",
    ),
    "no C++ compiler": Fault(
        replace(ON_CPU, device=replace(PLAIN, compiler_problem="needs a C++ compiler")),
        "compiler", "not there", "performance.compile needs", "apt install g++",
    ),
    "not installed": Fault(
        replace(GOOD, installed=False), "requirements", "not there", "source", "install -e .",
    ),
    "Python of 32 bits": Fault(
        replace(WINDOWS, python=replace(WINDOWS.python, bits=32)),
        "version", "broken", "32 bits", "64-bit Python",
    ),
    "Python that Rosetta translates": Fault(
        replace(ON_CPU, platform="darwin", python=Python(translated=True)),
        "version", "broken", "Rosetta", "brew install python",
    ),
    "Python too new for PyTorch": Fault(
        replace(GOOD, python=Python(version=(3, 17, 0)), packages={}, torch=None, device=None),
        "version", "broken", "3.17.0", "python3.14 -m venv",
    ),
    "Python too old": Fault(
        replace(GOOD, python=Python(version=(3, 10, 1))),
        "version", "broken", "3.11", "python3.11 -m venv",
    ),
    "another lorasmith on the PATH": Fault(
        replace(GOOD, python=Python(command="/usr/local/bin/lorasmith")),
        "command", "not there", "another Python", "python -m lorasmith",
    ),
    "a library of the system's before PyTorch's own": Fault(
        replace(
            GOOD,
            environment={"LD_LIBRARY_PATH": "/usr/local/cuda/lib64"},
            torch=None,
            device=None,
            torch_problem="undefined symbol: cudnnGetVersion",
        ),
        "variables", "broken", "/usr/local/cuda", "unset LD_LIBRARY_PATH",
    ),
    "a library of another Python": Fault(
        replace(GOOD, environment={"PYTHONHOME": "/opt/python"}),
        "variables", "broken", "/opt/python", "unset PYTHONHOME",
    ),
    "pip is not there": Fault(
        replace(GOOD, torch=CPU, device=Device(), python=Python(pip="uv pip")),
        "PyTorch", "broken", "CPUs alone", "uv pip install --upgrade --reinstall torch",
    ),
}  # fmt: skip


def findings(computer: Computer) -> dict[str, Finding]:
    return {one.check: one for check in CHECKS if (one := check(computer))}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_a_fault_is_named_with_its_mend(fault: Fault) -> None:
    finding = findings(fault.computer)[fault.check]
    assert finding.status == fault.status, finding
    assert fault.says in finding.evidence
    assert fault.mend in finding.mend


@pytest.mark.parametrize("computer", [GOOD, WINDOWS, ON_CPU], ids=["Linux", "Windows", "CPU"])
def test_of_a_good_computer_nothing_is_broken(computer: Computer) -> None:
    assert not [one for one in findings(computer).values() if one.status == "broken"]


def test_nobody_is_told_to_own_what_is_not_there() -> None:
    for name in ("a disk of which the folder is not there", "a file in the place of runs"):
        assert "chown" not in findings(FAULTS[name].computer)[FAULTS[name].check].mend


def test_a_quick_look_knows_a_card_by_nvidia_smi() -> None:
    finding = findings(replace(GOOD, asked="cuda:0", torch=None, device=None))["device"]
    assert finding.status == "ok"
    assert RTX.name in finding.evidence


def test_without_a_card_what_nvidia_smi_says_is_quoted() -> None:
    said = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    finding = findings(replace(ON_CPU, nvidia=Nvidia(error=said)))["driver"]
    assert finding.status == "not needed"
    assert said in finding.evidence


def test_what_is_not_ok_has_a_mend() -> None:
    for name, fault in FAULTS.items():
        for finding in findings(fault.computer).values():
            if finding.status in ("slow", "broken", "not there"):
                assert finding.mend, (name, finding)


def test_checks_have_names_of_their_own() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    areas = list(dict.fromkeys(check.area for check in CHECKS))
    assert [check.area for check in CHECKS] == sorted(
        (check.area for check in CHECKS), key=areas.index
    ), "each heading once"


def test_every_extra_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(EXTRAS) == project["optional-dependencies"].keys() - {"dev"}


def test_the_installers_command_is_ours() -> None:
    python = Python(command="/home/anna/.local/bin/lorasmith", launcher=True)
    assert findings(replace(GOOD, python=python))["command"].status == "ok"


@pytest.mark.parametrize(
    ("installation", "mend"),
    [
        (Installation("script", again="sh install.sh", extras=("cuda",)), "--extras cuda,faces"),
        (
            Installation("script", again="powershell -File install.ps1 -From ."),
            "powershell -File install.ps1 -From . -Extras faces",
        ),
        (Installation("clone"), 'python -m pip install -e ".[faces]"'),
        (Installation(), 'python -m pip install "lorasmith[faces]"'),
    ],
)
def test_an_extra_is_added_as_lorasmith_was_installed(
    installation: Installation, mend: str
) -> None:
    finding = findings(replace(GOOD, installation=installation))["extra faces"]
    assert finding.status == "not there"
    assert mend in finding.mend


def test_a_small_shared_memory_is_enough_for_one_card() -> None:
    finding = findings(replace(GOOD, shared_memory=64 * 10**6))["shared memory"]
    assert finding.status == "not needed"


def test_a_second_card_without_code_is_no_fault() -> None:
    old = Card("NVIDIA GeForce GT 710", (3, 5), 2 * GB, 2 * GB)
    finding = findings(driver("580.95.05", (13, 0), RTX, old))["code for the card"]
    assert finding.status == "ok"
    assert "none for that of 3.5" in finding.evidence


def test_a_mend_takes_what_is_built_for_one_pytorch_along() -> None:
    computer = replace(
        GOOD, torch=CPU, device=Device(), packages={**GOOD.packages, "torchvision": Package("0.28")}
    )
    assert "torch torchvision --index-url" in findings(computer)["PyTorch"].mend


def test_a_report_names_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/anna"))
    monkeypatch.setattr("getpass.getuser", lambda: "anna")
    computer = replace(
        GOOD,
        environment={
            "HF_HOME": "/data/anna/hf",
            "PYTHONPATH": "/mnt/c/Users/bert/src:/home/anna/src",
        },
        python=Python(executable="/home/anna/venv/bin/python", command=r"c:\users\Bert\lorasmith"),
        folders=(*GOOD.folders[1:], Folder("runs", ONEDRIVE, GB * 9, service="OneDrive")),
    )
    report = report_of(computer)
    text = str(report.to_json()) + str(report.findings) + str(report.computer)
    assert "anna" not in text
    assert "bert" not in text.lower()
    assert "~/.cache/huggingface" in text
    assert "/data/…/hf" in text
