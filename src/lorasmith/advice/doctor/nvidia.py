"""Graphics cards and drivers, by what the system says of them without PyTorch."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lorasmith.advice.doctor.computer import Card, Nvidia
from lorasmith.core.torch_builds import newest_cuda, parse_capability, parse_nvidia_smi

# Where it lies without being on the path: of Windows, and of Linux inside Windows.
SMI_PLACES = (
    *(r"C:\Windows\System32\nvidia-smi.exe",),
    *(r"C:\Program Files\NVIDIA Corporation\NVSMI\nvidia-smi.exe",),
    *("/usr/lib/wsl/lib/nvidia-smi", "/usr/bin/nvidia-smi"),
)
SECONDS = 20.0  # A driver that hangs does not answer at all.
MIB = 1024**2
NVIDIA_VENDOR, AMD_VENDOR = "0x10de", "0x1002"
DISPLAY_CLASS = "0x03"


def find_nvidia() -> Nvidia:
    """The card and its driver; empty where nothing tells of one."""
    program = shutil.which("nvidia-smi") or next(
        (place for place in SMI_PLACES if os.path.exists(place)), None
    )
    if program is not None:
        text, error = _ask(program)
        driver, cuda = parse_nvidia_smi(text)
        if driver:
            cuda = cuda or newest_cuda(driver, windows=sys.platform == "win32")
            return Nvidia("nvidia-smi", driver, cuda, tuple(_cards(program)))
        # A program that is installed is no card: images for many machines have it.
        sign = _other_sign()
        return Nvidia(sign, _driver_of_linux() if sign else "", error=error)
    sign = _other_sign()
    driver = _driver_of_linux()
    cuda = newest_cuda(driver, windows=sys.platform == "win32") if driver else None
    return Nvidia(sign, driver, cuda) if sign else Nvidia()


class CardWatch:
    """The cards and how much of their memory is free, for who asks again and again.

    Starting ``nvidia-smi`` takes a tenth of a second of a processor, and wakes cards that sleep: so
    an answer holds for a while, and where there is no sign of a card nobody asks again. Safe to use
    from any thread.

    Args:
        seconds: for which an answer holds.
        find: what asks.
    """

    def __init__(self, seconds: float = 3.0, find: Callable[[], Nvidia] = find_nvidia) -> None:
        self._seconds, self._find = seconds, find
        self._lock = threading.Lock()
        self._cards: tuple[Card, ...] = ()
        self._until = 0.0

    def cards(self) -> tuple[Card, ...]:
        with self._lock:
            if time.monotonic() >= self._until:
                found = self._find()
                self._cards = found.cards
                self._until = time.monotonic() + self._seconds if found.sign else math.inf
            return self._cards


def _ask(program: str, *arguments: str) -> tuple[str, str]:
    """What ``nvidia-smi`` prints; or why it fails."""
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False,
            stdin=subprocess.DEVNULL, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "", f"nvidia-smi does not answer within {SECONDS:g} seconds"
    except OSError as error:
        return "", f"nvidia-smi cannot be run: {error.strerror}"
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        return "", lines[0].strip() if lines else f"nvidia-smi ends with {done.returncode}"
    return done.stdout, ""


def _cards(program: str) -> Iterator[Card]:
    names = "index,name,compute_cap,memory.total,memory.free"
    table = _ask(program, f"--query-gpu={names}", "--format=csv,noheader,nounits")[0]
    if not table:  # Drivers before 470 do not know compute_cap.
        names = "index,name,memory.total,memory.free"
        table = _ask(program, f"--query-gpu={names}", "--format=csv,noheader,nounits")[0]
    users = _users(program)
    for line in table.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4:
            fields.insert(2, "")
        if len(fields) == 5:
            index, name, capability, total, free = fields
            yield Card(
                name,
                parse_capability(capability),
                _mebibytes(total),
                _mebibytes(free),
                # The table of programs names cards by identifiers of their own; with one it is all.
                tuple(users) if index == "0" and table.count("\n") <= 1 else (),
            )


def _users(program: str) -> list[tuple[str, int]]:
    """Names of programs without their folders, and their processes, the largest first."""
    names = "--query-compute-apps=process_name,pid,used_memory"
    table = _ask(program, names, "--format=csv,noheader,nounits")[0]
    users = []
    for line in table.splitlines():
        if line.count(",") < 2:
            continue  # "[Not Supported]", or a sentence.
        *parts, pid, memory = line.split(",")
        name = re.split(r"[/\\]", ",".join(parts).strip())[-1]
        if name and not name.startswith("["):  # "[Insufficient Permissions]"
            users.append((f"{name} (process {pid.strip()})", _mebibytes(memory)))
    return sorted(users, key=lambda user: -user[1])


def _mebibytes(text: str) -> int:
    return int(text) * MIB if text.strip().isdigit() else 0


def _other_sign() -> str:
    """Of a card, without ``nvidia-smi``."""
    if Path("/proc/driver/nvidia/version").exists():
        return "/proc/driver/nvidia"
    if sys.platform == "win32":
        library = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll"
        return "nvcuda.dll" if library.exists() else ""
    if Path("/usr/lib/wsl/lib/libcuda.so.1").exists() and Path("/dev/dxg").exists():
        return "libcuda of WSL"
    return "a card on the PCI bus" if _on_pci(NVIDIA_VENDOR) else ""


def _driver_of_linux() -> str:
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    match = re.search(r"Kernel Module\D*?(\d+\.\d+(?:\.\d+)?)", text)
    return match[1] if match else ""


def find_amd() -> str:
    """By what an AMD card was noticed: on Linux, where ROCm's kernel driver has it."""
    if not Path("/dev/kfd").exists():
        return ""
    return "/dev/kfd" if _on_pci(AMD_VENDOR) else ""


def _on_pci(vendor: str) -> bool:
    """Whether the bus has a display controller of a vendor; Linux alone says so in files."""
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            is_vendor = (device / "vendor").read_text(encoding="ascii").strip() == vendor
            if is_vendor and (device / "class").read_text(encoding="ascii").startswith(
                DISPLAY_CLASS
            ):
                return True
        except OSError:
            continue
    return False
