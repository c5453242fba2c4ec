"""All checks, in the order of the report; those of disk, memory and text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from lorasmith.advice.doctor import python_checks, torch_checks, trial_checks
from lorasmith.advice.doctor.computer import Computer, Folder
from lorasmith.advice.doctor.finding import Check, Finding, Status
from lorasmith.core.text import bytes_text


@dataclass(frozen=True, slots=True)
class Role:
    """What a folder is for.

    Args:
        least: bytes that should be free; a round number.
        below: what it is where less is free: what lies in files of the user's own goes on.
        elsewhere: what puts it into another ``FOLDER``.
        holds: in a sentence.
    """

    least: int
    below: Status
    elsewhere: str
    holds: str


ROLES = {
    "runs": Role(10**9, "broken", "--output FOLDER", "snapshots, samples and states of a run"),
    "caches": Role(
        10**9, "slow", 'performance.cache_dir = "FOLDER"',
        "latents where the dataset's folder takes none",
    ),
    "models": Role(
        7 * 10**9, "slow", "HF_HOME=FOLDER", "models from the hub; one of SDXL takes 7 GB"
    ),
    "temporary files": Role(10**8, "broken", "TMPDIR=FOLDER", "what libraries put aside"),
}  # fmt: skip

LONGEST_PATH = 260
"""Of Windows, without long paths."""
# From the folder of runs on: NAME/samples/NAME-000100-00_zorp.png, with a name of ordinary length.
BELOW_RUNS = 100

# Measured: the most that `lorasmith doctor` itself takes, PyTorch and the demo model in it.
LEAST_MEMORY = 750_000_000
# On a CPU the model lies there too: a step of SD 1.5 in bf16, of docs/low-memory.md.
SD15_STEP = 2_800_000_000
# Docker's default is 64 MB, which NCCL's buffers between several GPUs do not fit into.
LEAST_SHARED = 256 * 10**6
FEWEST_FILES = 256
# What the reports, tables and bars of lorasmith are made of.
SIGNS = "…•→×–"


def _folder(computer: Computer, role: str) -> Finding | None:
    folder = computer.folder(role)
    if folder is None:
        return None
    row = ROLES[role]
    setting = _set(computer, row.elsewhere)
    free = "" if folder.free is None else f", {bytes_text(folder.free)} free"
    what = f"{folder.path}{free}"
    if folder.problem:
        mend = _permission(computer, folder, setting)
        where = f"{folder.nearest}, the nearest folder there is, " if folder.nearest else ""
        return Finding("broken", f"{what}: {where}{folder.problem} ({row.holds})", mend)
    if folder.free is not None and folder.free < row.least:
        mend = f"{setting}  # or free some space"
        return Finding(row.below, f"{what}: too little for {row.holds}", mend)
    if folder.refused:
        what += f": {folder.refused} cannot be used (is it there, with room, and yours?)"
        return Finding("slow", what, setting)
    if folder.service:
        what += f": {folder.service} copies each file as it is written"
        return Finding("slow", what, _set(computer, row.elsewhere, outside=True))
    if folder.network:
        kind = folder.file_system or "a share"
        return Finding("slow", f"{what}: on a network ({kind})", setting)
    return Finding("ok", f"{what} ({row.holds})")


def _permission(computer: Computer, folder: Folder, setting: str) -> str:
    # What is not there, no folder or read-only can be given to nobody.
    if computer.windows or folder.nearest or "ermission" not in folder.problem:
        return setting
    return f'sudo chown -R "$USER" {folder.path}  # or {setting}'


def _set(computer: Computer, setting: str, *, outside: bool = False) -> str:
    """A setting with a folder to be copied; variables as the system's shell sets them."""
    folder = r"C:\lorasmith" if computer.windows else "~/lorasmith"
    if not outside and not computer.windows:
        folder = "/another/disk"
    text = setting.replace("FOLDER", folder)
    if "=" in text and " " not in text:
        return f"set {text}" if computer.windows else f"export {text}"
    return f"lorasmith train … {text}" if text.startswith("--") else text


def _long_paths(computer: Computer) -> Finding:
    if not computer.windows:
        return Finding("not needed", f"paths beyond {LONGEST_PATH} characters are Windows' trouble")
    if computer.long_paths:
        return Finding("ok", f"paths may be longer than {LONGEST_PATH} characters")
    folder = computer.folder("runs")
    length = len(folder.path) if folder else 0
    what = f"paths end at {LONGEST_PATH} characters"
    line = (
        r"reg add HKLM\SYSTEM\CurrentControlSet\Control\FileSystem"
        " /v LongPathsEnabled /t REG_DWORD /d 1 /f  # as administrator; then restart"
    )
    if length + BELOW_RUNS > LONGEST_PATH:
        return Finding("broken", f"{what}, and the folder of runs alone has {length}", line)
    return Finding("ok", f"{what}; the folder of runs has {length}")


def _memory(computer: Computer) -> Finding:
    total, free = computer.memory
    what = f"{bytes_text(free)} of {bytes_text(total)} free"
    mend = "docker run --memory 16g …" if computer.container else "close other programs"
    if free < LEAST_MEMORY:
        return Finding("broken", f"{what}, less than PyTorch takes with the demo model", mend)
    on_cpu = computer.device is not None and computer.device.kind == "cpu"
    if on_cpu and free < LEAST_MEMORY + SD15_STEP:
        return Finding("slow", f"{what}: enough for the demo model, too little for SD 1.5", mend)
    return Finding("ok", what)


def _shared(computer: Computer) -> Finding:
    size = computer.shared_memory
    if size is None:
        return Finding("not needed", "there is no /dev/shm on this system")
    cards = max(len(computer.nvidia.cards), computer.device.cards if computer.device else 1)
    what = f"/dev/shm has {bytes_text(size)}"
    if size >= LEAST_SHARED:
        return Finding("ok", what)
    line = "docker run --shm-size=1g …" if computer.container else (
        "sudo mount -o remount,size=1G /dev/shm"
    )  # fmt: skip
    if cards > 1:
        return Finding("broken", f"{what}, too little for several GPUs to exchange data", line)
    return Finding("not needed", f"{what}: too little for several GPUs, enough for one", line)


def _cores(computer: Computer) -> Finding:
    count, usable = computer.cores
    what = f"{usable:g} of {count} cores" if usable < count else f"{count} cores"
    limit = "docker run --cpus 4 …" if computer.container else "taskset -p -c 0-3 $$"
    enough = max(1, round(usable))
    name, value = _thread_variable(computer)
    if name and not value.split(",")[0].strip().isdigit():
        line = f"set {name}=" if computer.windows else f"unset {name}"
        return Finding("slow", f"{what}; {name}={value} is no number of threads", line)
    # Of several levels of threads, as in "4,2", the first is that of PyTorch.
    asked = int(value.split(",")[0]) if name else 0
    threads = computer.torch.threads if computer.torch else asked
    if threads > enough:
        mend = f"performance.threads = {enough}"
        by = ""
        if asked > enough:
            by = f" ({name}={value})"
            mend = f"{'set' if computer.windows else 'export'} {name}={enough}"
        return Finding("slow", f"{what}, and PyTorch takes {threads} threads{by}", mend)
    if usable < 2 and usable < count:
        return Finding("slow", f"{what}: pictures are decoded one by one", limit)
    return Finding("ok", what)


def _thread_variable(computer: Computer) -> tuple[str, str]:
    """The one that says how many threads PyTorch takes, with its value; both empty without one."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        if value := computer.environment.get(name, "").strip():
            return name, value
    return "", ""


def _open_files(computer: Computer) -> Finding:
    limit = computer.open_files
    if limit is None:
        return Finding("not needed", "no limit on open files")
    if limit < FEWEST_FILES:
        return Finding("broken", f"{limit} at once", "ulimit -n 4096")
    return Finding("ok", f"{limit} at once")


def _console(computer: Computer) -> Finding:
    if _encodes(SIGNS, computer.console):
        return Finding("ok", computer.console)
    what = f"{computer.console} has no sign for some of {' '.join(SIGNS)}, which become ?"
    line = "set PYTHONUTF8=1" if computer.windows else "export PYTHONUTF8=1 LC_ALL=C.UTF-8"
    return Finding("slow", what, line)


def _encodes(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _file_names(computer: Computer) -> Finding:
    if _encodes("ä語🐾", computer.file_names):
        return Finding("ok", computer.file_names)
    what = f"{computer.file_names}: pictures with other letters in their names cannot be opened"
    return Finding("broken", what, "export LC_ALL=C.UTF-8 PYTHONUTF8=1")


CHECKS: tuple[Check, ...] = (
    *python_checks.CHECKS,
    *torch_checks.CHECKS,
    *trial_checks.CHECKS,
    *(Check(role, "Disk", partial(_folder, role=role)) for role in ROLES),
    Check("long paths", "Disk", _long_paths),
    Check("memory", "Memory and processor", _memory),
    Check("shared memory", "Memory and processor", _shared),
    Check("cores", "Memory and processor", _cores),
    Check("open files", "Memory and processor", _open_files),
    Check("console", "Text", _console),
    Check("file names", "Text", _file_names),
)
