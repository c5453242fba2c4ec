"""Facts of this computer, and of described ones where the system's files can be put in place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import lorasmith as ls
from lorasmith.advice.doctor import doctor as doctor_module
from lorasmith.advice.doctor import gather as gather_module
from lorasmith.advice.doctor import nvidia as nvidia_module
from lorasmith.advice.doctor.computer import Card, Computer, Nvidia
from lorasmith.advice.doctor.doctor import probed
from lorasmith.advice.doctor.gather import describe_folder, hub_folder, service_of
from lorasmith.advice.doctor.nvidia import CardWatch, find_nvidia
from lorasmith.advice.doctor.packages import gather_packages
from lorasmith.cli.main import cli
from lorasmith.core.errors import SettingsError
from lorasmith.core.events import Controls, ignore
from lorasmith.core.installation import Installation, find_installation, package_line
from lorasmith.data.layout import user_cache_folder

SMI = """#!/bin/sh
case "$*" in
  *compute_cap*) echo "0, NVIDIA GeForce RTX 3060, 8.6, 12288, 2048" ;;
  *compute-apps*) echo "/usr/lib/Xorg, 12, 300"; echo "/home/anna/ComfyUI/python, 4711, 9000" ;;
  *) echo "| NVIDIA-SMI 570.86.15    Driver Version: 570.86.15    CUDA Version: 12.8  |" ;;
esac
"""
FAILING_SMI = """#!/bin/sh
echo "Failed to initialize NVML: Driver/library version mismatch"
exit 18
"""


def put_smi(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "nvidia-smi"
    program.write_text(text, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_a_card_as_nvidia_smi_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_smi(tmp_path, SMI, monkeypatch)
    nvidia = find_nvidia()
    assert (nvidia.driver, nvidia.cuda) == ("570.86.15", (12, 8))
    (card,) = nvidia.cards
    assert (card.name, card.capability) == ("NVIDIA GeForce RTX 3060", (8, 6))
    assert (card.total, card.free) == (12288 * 1024**2, 2048 * 1024**2)
    assert card.users == (
        ("python (process 4711)", 9000 * 1024**2),
        ("Xorg (process 12)", 300 * 1024**2),
    )


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_a_driver_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_smi(tmp_path, FAILING_SMI, monkeypatch)
    monkeypatch.setattr(nvidia_module, "_other_sign", lambda: "/proc/driver/nvidia")
    nvidia = find_nvidia()
    assert nvidia.sign
    assert "version mismatch" in nvidia.error
    monkeypatch.setattr(nvidia_module, "_other_sign", lambda: "")
    nvidia = find_nvidia()
    assert not nvidia.sign, "an image that has the program, on a machine without a card"
    assert "version mismatch" in nvidia.error


def watch_of(answers: list[Nvidia], seconds: float) -> CardWatch:
    """A watch over what each look finds; a look more than there are answers is a mistake."""
    return CardWatch(seconds, lambda: answers.pop(0))


def test_cards_are_asked_for_every_few_seconds_at_most() -> None:
    card, fuller = Card("A", free=2), Card("A", free=1)
    watch = watch_of([Nvidia("nvidia-smi", cards=(card,))], 60)
    assert [watch.cards() for _ in range(3)] == [(card,)] * 3
    watch = watch_of([Nvidia("nvidia-smi", cards=(one,)) for one in (card, fuller)], 0)
    assert [watch.cards() for _ in range(2)] == [(card,), (fuller,)]


def test_a_computer_without_a_card_is_asked_once() -> None:
    watch = watch_of([Nvidia(error="nvidia-smi ends with 18")], 0)
    assert [watch.cards() for _ in range(3)] == [()] * 3
    hanging, card = Nvidia("nvidia-smi", error="does not answer"), Card("A")
    watch = watch_of([hanging, Nvidia("nvidia-smi", cards=(card,))], 0)
    assert [watch.cards() for _ in range(2)] == [(), (card,)]


def test_a_folder_is_looked_at_and_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "runs"
    mounts = {"/": "ext4", str(tmp_path): "nfs4"}
    folder = describe_folder("runs", path, mounts)
    assert not folder.problem
    assert folder.free
    assert folder.network
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    assert describe_folder("runs", tmp_path / "file", {}).problem == "is no folder"
    assert (folder.nearest, describe_folder("runs", tmp_path, {}).nearest) == (str(tmp_path), "")


def test_a_folder_for_temporary_files_that_is_not_taken_is_told() -> None:
    there = os.path.abspath("/tmp")
    assert gather_module.refused_temporary({"TMPDIR": "/nope"}, there) == "TMPDIR=/nope"
    assert gather_module.refused_temporary({"TMPDIR": "/tmp/"}, there) == ""
    assert gather_module.refused_temporary({"TMPDIR": "", "TEMP": "/tmp"}, there) == ""
    assert gather_module.refused_temporary({}, there) == ""


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
@pytest.mark.parametrize("said", ["[Not Supported]", "No running processes found", "a, b"])
def test_lines_of_nvidia_smi_that_name_no_program_are_left_out(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_smi(tmp_path, SMI.replace('echo "/usr/lib/Xorg, 12, 300"', f'echo "{said}"'), monkeypatch)
    (card,) = find_nvidia().cards
    assert card.users == (("python (process 4711)", 9000 * 1024**2),)


def test_a_folder_that_takes_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert "Permission denied" in describe_folder("runs", tmp_path, {}).problem


@pytest.mark.parametrize(
    ("path", "service"),
    [
        (r"C:\Users\anna\OneDrive - Firma\runs", "OneDrive"),
        ("/Users/anna/Library/Mobile Documents/com~apple~CloudDocs/x", "iCloud"),
        ("/home/anna/Dropbox/lora", "Dropbox"),
        ("/home/anna/drops/lora", ""),
    ],
)
def test_services_are_told_by_the_path(path: str, service: str) -> None:
    assert service_of(path) == service


def test_the_hubs_folder_is_the_librarys_own() -> None:
    from huggingface_hub import constants

    cache = user_cache_folder()
    assert str(hub_folder(os.environ, cache)) == constants.HF_HUB_CACHE
    assert hub_folder({"HF_HOME": "/models"}, cache) == Path("/models/hub")
    assert hub_folder({"HF_HUB_CACHE": "/hub", "HF_HOME": "/models"}, cache) == Path("/hub")


def distribution(folder: Path, name: str, version: str, *lines: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    text = "\n".join([f"Name: {name}", f"Version: {version}", *lines])
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\n{text}\n", encoding="utf-8")


def test_requirements_are_compared_with_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    distribution(
        first, "made-up", "1.0",
        "Requires-Dist: other-one>=2", "Requires-Dist: gone>1",
        "Provides-Extra: more", 'Requires-Dist: third-one>=1; extra == "more"',
        'Requires-Dist: elsewhere; sys_platform == "no such system"',
    )  # fmt: skip
    distribution(first, "other_one", "1.5", "Requires-Dist: third.one==9")
    distribution(first, "third-one", "1.2")
    distribution(second, "other_one", "2.5")
    for folder in (second, first):
        monkeypatch.syspath_prepend(str(folder))
    found = gather_packages("made-up")
    assert found.installed
    assert found.needs == {"other-one": "other-one>=2", "gone": "gone>1"}
    assert found.extras == {"more": {"third-one": "third-one>=1"}}
    assert found.packages["other-one"].version == "1.5"
    assert [version for version, _ in found.packages["other-one"].copies] == ["1.5", "2.5"]
    unmet = {(one.of, one.requirement, one.installed) for one in found.unmet}
    assert unmet >= {
        ("made-up", "other-one>=2", "1.5"),
        ("made-up", "gone>1", ""),
        ("other-one", "third.one==9", "1.2"),
    }
    assert not gather_packages("never heard of").installed


def child_that(code: str) -> object:
    """In the place of the probe: a Python that writes what ``code`` does for each stage."""
    script = (
        "import json, os, signal, sys\n"
        "out, names = sys.argv[1], sys.argv[3:]\n"
        "def write(**record):\n"
        "    with open(out, 'a') as file: file.write(json.dumps(record) + '\\n')\n"
        "hidden = [name for name in names if name.startswith('hide:')]\n"
        "for name in names[len(hidden):]:\n"
        "    write(stage=name)\n"
        f"    {code}\n"
        "    known = {'torch': {'version': '2.13.0'}, 'device': {'name': 'cpu'}, 'libraries': {}}\n"
        "    write(stage=name, result=known.get(name, {'finite': True}))\n"
    )

    def arguments(out: Path, device: str, names: list[str]) -> list[str]:
        return [sys.executable, "-S", "-c", script, str(out), device, *names]

    return arguments


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_library_that_ends_python_takes_only_its_own_stage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    child = child_that("if name == '8-bit optimizer': os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setattr(doctor_module, "child_arguments", child)
    computer = probed(Computer(), "auto", ignore, Controls())
    assert computer.torch is not None
    assert computer.trials["VAE"].finite
    assert "SIGSEGV" in computer.trials["8-bit optimizer"].problem
    child = child_that(
        "if name in ('bitsandbytes', 'fp32') and not hidden: os.kill(os.getpid(), signal.SIGILL)"
    )
    monkeypatch.setattr(doctor_module, "child_arguments", child)
    computer = probed(Computer(), "auto", ignore, Controls())
    assert "SIGILL" in computer.trials["bitsandbytes"].problem
    assert computer.trials["fp32"].finite, "what imports it was tried without it"
    child = child_that("if name == 'fp16': raise SystemExit('it broke')")
    monkeypatch.setattr(doctor_module, "child_arguments", child)
    computer = probed(Computer(), "auto", ignore, Controls())
    assert computer.trials["fp16"].problem == "it broke"
    assert computer.trials["bf16"].finite
    assert computer.trials["8-bit optimizer"].finite


def test_a_pytorch_that_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    child = child_that("raise ImportError('libtorch_cpu.so: cannot open')")
    monkeypatch.setattr(doctor_module, "child_arguments", child)
    computer = probed(Computer(), "auto", ignore, Controls())
    assert computer.torch is None
    assert computer.torch_problem == "ImportError: libtorch_cpu.so: cannot open"
    assert not computer.trials


def test_a_library_that_never_comes_back_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "SECONDS_PER_STAGE", 0.3)
    child = child_that("__import__('time').sleep(60 * (name == 'torch'))")
    monkeypatch.setattr(doctor_module, "child_arguments", child)
    assert "does not come back" in probed(Computer(), "auto", ignore, Controls()).torch_problem


def test_a_device_without_a_name_is_refused() -> None:
    with pytest.raises(SettingsError, match="is empty"):
        ls.doctor(device=" ")
    for name in ("quatsch", "cuda:", "cuda:x", "cpu:1:2"):
        with pytest.raises(SettingsError, match=r"is no device.*use auto"):
            ls.doctor(device=name)


def test_a_quick_look_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, lorasmith as ls\n"
        "report = ls.doctor(quick=True)\n"
        "assert report.quick and len(report.findings) > 15\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_the_report_as_json_and_the_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(cli, ["doctor", "--quick", "--json"])
    report = json.loads(result.stdout)
    assert report["lorasmith"] == ls.__version__
    assert sum(report["counts"].values()) == len(report["findings"])
    assert result.exit_code == (2 if report["counts"]["broken"] else 0)
    monkeypatch.setattr(gather_module, "_open_files", lambda: 8)
    result = CliRunner().invoke(cli, ["doctor", "--quick"])
    assert result.exit_code == 2
    assert "-> ulimit -n 4096" in result.stdout
    assert str(Path.home()) + "/" not in result.stdout


@pytest.mark.slow
def test_this_computer_makes_loras() -> None:
    """The whole command, in truth: what runs this suite can train."""
    result = CliRunner().invoke(cli, ["doctor", "--json"])
    report = json.loads(result.stdout)
    by_check = {one["check"]: one for one in report["findings"]}
    assert by_check["fp32"]["status"] == "ok"
    assert by_check["VAE"]["status"] == "ok"
    assert by_check["libraries"]["status"] == "ok"
    assert by_check["attention"]["status"] in ("ok", "slow")
    assert by_check["bf16"]["status"] in ("ok", "slow")


def test_what_an_installer_made_is_mended_with_its_own_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = tmp_path / "my lorasmith" / "env-1"
    prefix.mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(prefix))
    monkeypatch.setattr(sys, "executable", str(prefix / "bin" / "python"))
    assert "env-1" not in find_installation().pip
    (prefix.parent / "lorasmith-install").touch()
    installation = find_installation()
    quoted = f'"{sys.executable}"' if os.name == "nt" else sys.executable.replace(" ", "\\ ")
    assert installation.pip == f"{quoted} -m pip"
    assert installation.extra_line("audit").endswith("xtras audit")
    (prefix / "again").write_text("sh /src/install.sh --from /src\n")
    (prefix / "extras").write_text("cuda\n")
    line = find_installation().extra_line("audit", ["rapidocr>=3.10"])
    assert line == "sh /src/install.sh --from /src --extras cuda,audit"
    # What pip puts there goes with an update.
    assert package_line("gallery-dl") == "sh /src/install.sh --from /src --extras cuda,gather"
    assert package_line("never-heard-of") == f"{installation.pip} install never-heard-of"


@pytest.mark.skipif(sys.platform == "win32", reason="the command of install.sh")
def test_the_installers_command_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, command = tmp_path / "my lorasmith", tmp_path / "bin" / "lorasmith"
    (place / "env-2").mkdir(parents=True)
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\n# lorasmith in {place}\nexec …\n", encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent))
    monkeypatch.setattr(sys, "prefix", str(place / "env-2"))
    assert not gather_module._python(Installation()).launcher
    (place / "lorasmith-install").touch()
    (place / "current").write_text("env-2\n")
    python = gather_module._python(Installation())
    assert (python.command, python.launcher) == (str(command), True)
    (place / "current").write_text("env-3\n")
    assert not gather_module._python(Installation()).launcher, "it starts another environment"


def test_onnxruntime_writes_no_identifier_of_the_computer(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    code = (
        "from lorasmith.core.telemetry import switch_off_telemetry\n"
        "switch_off_telemetry()\n"
        "import onnxruntime\n"
    )
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    variables = {key: value for key, value in os.environ.items() if "TELEMETRY" not in key}
    subprocess.run([sys.executable, "-c", code], check=True, env=variables | home)
    assert not list(tmp_path.rglob(".onnxruntime"))
