"""The facts of this computer that need no PyTorch."""

from __future__ import annotations

import contextlib
import locale
import os
import platform
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import psutil

from lorasmith.advice.doctor.computer import Computer, EnvironmentKind, Folder, Python
from lorasmith.advice.doctor.nvidia import find_amd, find_nvidia
from lorasmith.advice.doctor.packages import gather_packages
from lorasmith.core.errors import RunError
from lorasmith.core.files import check_writable, free_bytes, nearest_existing
from lorasmith.core.installation import Installation, find_installation, is_own_launcher
from lorasmith.data.layout import user_cache_folder

VARIABLES = (
    *("PYTHONPATH", "PYTHONHOME", "PYTHONNOUSERSITE", "LD_LIBRARY_PATH", "LD_PRELOAD"),
    *("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION"),
    *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "OMP_NUM_THREADS", "MKL_NUM_THREADS"),
    *("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TMPDIR", "TEMP", "XDG_CACHE_HOME"),
)
"""That change what happens here."""

NETWORKS = {
    *("nfs", "nfs4", "cifs", "smbfs", "smb3", "afpfs", "webdav", "davfs", "ncpfs", "9p", "drvfs"),
    *("fuse.sshfs", "fuse.rclone", "fuse.davfs2", "fuse.gcsfuse", "fuse.s3fs", "prl_fs", "vboxsf"),
}
"""File systems whose files are on another computer, or behind the border of a virtual machine."""

SERVICES = {
    "onedrive": "OneDrive",
    "dropbox": "Dropbox",
    "icloud": "iCloud",
    "mobile documents": "iCloud",
    "com~apple~clouddocs": "iCloud",
    "google drive": "Google Drive",
    "googledrive": "Google Drive",
    "my drive": "Google Drive",
    "nextcloud": "Nextcloud",
    "owncloud": "ownCloud",
    "pcloud": "pCloud",
    "megasync": "MEGA",
}
"""What copies a folder elsewhere, by how a part of its path begins."""


def gather(output: Path) -> Computer:
    """
    Args:
        output: the folder of runs.
    """
    container = _in_container()
    packages = gather_packages()
    installation = find_installation()
    return Computer(
        platform=sys.platform,
        system=_system(container),
        machine=platform.machine(),
        container=container,
        python=_python(installation),
        installation=installation,
        environment={name: os.environ[name] for name in VARIABLES if name in os.environ},
        packages=packages.packages,
        installed=packages.installed,
        extras=packages.extras,
        needs=packages.needs,
        unmet=packages.unmet,
        nvidia=find_nvidia(),
        amd=find_amd(),
        folders=tuple(_folders(output)),
        cores=_cores(),
        memory=_memory(),
        shared_memory=_shared_memory(),
        open_files=_open_files(),
        long_paths=_long_paths(),
        console=str(getattr(sys.stdout, "encoding", None) or locale.getpreferredencoding(False)),
        file_names=sys.getfilesystemencoding(),
    )


def _system(container: bool) -> str:
    name = f"{platform.system()} {platform.release()}"
    if sys.platform == "darwin":
        name = f"macOS {platform.mac_ver()[0]}"
    elif sys.platform == "linux":
        with contextlib.suppress(OSError):  # There is no such file.
            name += f" ({platform.freedesktop_os_release().get('PRETTY_NAME', 'Linux')})"
    return f"{name}, in a container" if container else name


def _in_container() -> bool:
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return True
    text = _read("/proc/1/cgroup")
    return any(word in text for word in ("docker", "kubepods", "containerd", "lxc"))


def _python(installation: Installation) -> Python:
    kind: EnvironmentKind = "system"
    if sys.prefix != sys.base_prefix:
        kind = "venv"
    elif (Path(sys.prefix) / "conda-meta").is_dir():
        kind = "conda"
    command = shutil.which("lorasmith") or ""
    user_site = ""
    if "site" in sys.modules and getattr(sys.modules["site"], "ENABLE_USER_SITE", False):
        user_site = sysconfig.get_path("purelib", f"{os.name}_user")
    return Python(
        version=sys.version_info[:3],
        executable=sys.executable or "",
        environment=kind,
        bits=64 if sys.maxsize > 2**32 else 32,
        translated=sys.platform == "darwin" and _is_translated(),
        pip=installation.pip,
        scripts=sysconfig.get_path("scripts"),
        command=command,
        launcher=bool(command) and is_own_launcher(Path(command)),
        user_site=user_site,
    )


def _is_translated() -> bool:
    """Whether macOS translates this process from Intel's instructions to those of its own chip."""
    import ctypes
    import ctypes.util

    value = ctypes.c_int(0)
    size = ctypes.c_size_t(ctypes.sizeof(value))
    library = ctypes.CDLL(ctypes.util.find_library("c"))
    failed = library.sysctlbyname(
        b"sysctl.proc_translated", ctypes.byref(value), ctypes.byref(size), None, 0
    )
    return not failed and value.value == 1


def _folders(output: Path) -> Iterator[Folder]:
    mounts = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    places = {
        "runs": output,
        "caches": user_cache_folder() / "lorasmith",
        "models": hub_folder(os.environ, user_cache_folder()),
        "temporary files": Path(tempfile.gettempdir()),
    }
    for role, path in places.items():
        folder = describe_folder(role, path.expanduser().absolute(), mounts)
        if role == "temporary files":
            folder = replace(folder, refused=refused_temporary(os.environ, folder.path))
        yield folder


def refused_temporary(variables: Mapping[str, str], taken: str) -> str:
    """``TMPDIR=/nope`` where a variable names a folder for temporary files that Python does not
    take, as one that is not there or has no room; else empty.

    Args:
        taken: the folder that it takes instead.
    """
    for name in ("TMPDIR", "TEMP", "TMP"):  # tempfile's own order.
        if variables.get(name):
            named = os.path.abspath(variables[name])
            return "" if Path(named) == Path(taken) else f"{name}={variables[name]}"
    return ""


def hub_folder(variables: Mapping[str, str], cache: Path) -> Path:
    """Where the hub's library keeps models (huggingface.co/docs, environment variables).

    Args:
        cache: the user's folder of caches, whose Linux form it has on every system.
    """
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if variables.get(name):
            return Path(variables[name])
    if variables.get("HF_HOME"):
        return Path(variables["HF_HOME"]) / "hub"
    default = cache if sys.platform == "linux" else Path.home() / ".cache"
    return Path(variables.get("XDG_CACHE_HOME") or default) / "huggingface" / "hub"


def describe_folder(role: str, path: Path, mounts: Mapping[str, str]) -> Folder:
    """
    Args:
        path: need not be there yet; nothing is left behind.
        mounts: types of file systems by where they are mounted.
    """
    there = nearest_existing(path)
    problem = ""
    try:
        if not there.is_dir():
            problem = "is no folder"
        else:
            check_writable(there)
    except RunError as error:
        problem = error.problems[0].what
    try:
        free = free_bytes(there)
    except OSError:
        free = None
    mount = max((point for point in mounts if there.is_relative_to(point)), key=len, default="")
    file_system = mounts.get(mount, "")
    return Folder(
        role,
        str(path),
        free,
        problem,
        file_system,
        network=file_system.lower() in NETWORKS or str(path).startswith("\\\\"),
        service=service_of(str(path)),
        nearest="" if there == path else str(there),
    )


def service_of(path: str) -> str:
    """The service that copies a folder elsewhere, told by the names in its path."""
    for part in path.replace("\\", "/").lower().split("/"):
        for beginning, service in SERVICES.items():
            if part.startswith(beginning):
                return service
    return ""


def _cores() -> tuple[int, float]:
    """All cores, and those that the scheduler and the container leave to this process."""
    count = os.cpu_count() or 1
    usable = float(count)
    if sys.platform == "linux":
        usable = float(len(os.sched_getaffinity(0)))
    quota, period = 0.0, 0.0
    words = _read("/sys/fs/cgroup/cpu.max").split()
    if len(words) == 2 and words[0] != "max":
        quota, period = float(words[0]), float(words[1])
    elif text := _read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"):
        quota = float(text)
        period = float(_read("/sys/fs/cgroup/cpu/cpu.cfs_period_us") or 0)
    if quota > 0 and period > 0:
        usable = min(usable, quota / period)
    return count, usable


def _memory() -> tuple[int, int]:
    memory = psutil.virtual_memory()
    total, free = int(memory.total), int(memory.available)
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes",
         "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):  # fmt: skip
        text = _read(limit)
        if text.isdigit() and int(text) < total:
            total = int(text)
            taken = _read(used)
            free = min(free, total - int(taken)) if taken.isdigit() else min(free, total)
    return total, max(0, free)


def _shared_memory() -> int | None:
    try:
        return shutil.disk_usage("/dev/shm").total
    except OSError:
        return None


def _open_files() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def _long_paths() -> bool | None:
    if sys.platform == "win32":
        import winreg

        place = r"SYSTEM\CurrentControlSet\Control\FileSystem"
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as key:
                return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
        except OSError:
            return False
    return None


def _read(path: str) -> str:
    """A small file of the system's; empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
