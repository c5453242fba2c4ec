"""Checks of PyTorch beside the driver and the card, and of what the card can do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lorasmith.advice.doctor.computer import Computer, Torch
from lorasmith.advice.doctor.finding import Check, Finding
from lorasmith.core.text import bytes_text, quantity, word_list
from lorasmith.core.torch_builds import (
    CPU_INDEX,
    CUDA_BUILDS,
    OLDEST_CUDA,
    ROCM_INDEX,
    Capability,
    Version,
    build_of,
    choose_index,
    driver_for,
    install_command,
    parse_version,
    runs_with,
)

DRIVERS_PAGE = "https://www.nvidia.com/drivers"
REDISTRIBUTABLE = "https://aka.ms/vs/17/release/vc_redist.x64.exe"
BUILT_FOR_ONE_TORCH = ("torchvision", "torchaudio")

# Of docs/low-memory.md: a step of SD 1.5 with the UNet in fp8 and all blocks computed twice, and as
# it is, with what the driver and a desktop take.
LEAST_CARD_MEMORY = 1_200_000_000
ENOUGH_CARD_MEMORY = 3_300_000_000

AMPERE = (8, 0)  # The first with TF32.
_ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")
_TAG = re.compile(r"\+(cpu|cu|rocm|xpu)([\d.]*)")


@dataclass(frozen=True, slots=True)
class Build:
    """What a PyTorch is built for.

    Args:
        kind: "cuda", "rocm", "xpu", "mps", "cpu"; empty where only running it would tell.
        cuda: the version, of "cuda".
    """

    kind: str
    cuda: Version = ()


def build(computer: Computer) -> Build:
    torch = computer.torch
    if torch is not None:
        return _told(torch)
    match = _TAG.search(computer.version("torch"))
    if match is None:
        # PyPI's builds have no tag: for CUDA on Linux, for the CPU on Windows.
        return Build({"win32": "cpu", "darwin": "mps"}.get(computer.platform, ""))
    kind, number = match.groups()
    if kind == "cu":
        return Build("cuda", (int(number[:-1]), int(number[-1])))
    return Build(kind)


def _told(torch: Torch) -> Build:
    if torch.cuda:
        return Build("cuda", parse_version(torch.cuda))
    for kind, there in (("rocm", torch.hip), ("xpu", torch.xpu), ("mps", torch.mps)):
        if there:
            return Build(kind)
    return Build("cpu")


def best_index(computer: Computer) -> str:
    """The index with the PyTorch for this computer; empty for PyPI."""
    if computer.platform == "darwin":
        return ""
    if computer.nvidia.sign:
        return choose_index(computer.nvidia.cuda, capabilities(computer))
    if computer.amd and computer.platform == "linux":
        return ROCM_INDEX
    return CPU_INDEX


def wanted_index(computer: Computer) -> str:
    """As :func:`best_index`, where a driver that is missing or too old will have been renewed."""
    index = best_index(computer)
    return _after_driver(computer) if computer.nvidia.sign and not build_of(index) else index


def capabilities(computer: Computer) -> list[Capability]:
    """Of the NVIDIA cards, as far as they are known."""
    known = [card.capability for card in computer.nvidia.cards if card.capability is not None]
    device = computer.device
    if not known and device is not None and device.capability is not None:
        known = [parse_capability_pair(device.capability)]
    return known


def parse_capability_pair(values: Sequence[int]) -> Capability:
    return values[0], values[1]


def torch_line(computer: Computer, index: str) -> str:
    """The line that installs PyTorch from an index, with what is built for one of it."""
    packages = ["torch", *(name for name in BUILT_FOR_ONE_TORCH if name in computer.packages)]
    return install_command(index, packages=packages, pip=computer.python.pip)


def _after_driver(computer: Computer) -> str:
    """The index once the driver is new."""
    return choose_index(CUDA_BUILDS[0].driver_cuda, capabilities(computer))


def _driver_line(computer: Computer) -> str:
    index = _after_driver(computer)
    windows = computer.windows
    oldest = driver_for(index if build_of(index) else "cu126", windows=windows)
    return f"update the driver to {oldest} or newer: {DRIVERS_PAGE}"


def _card_names(computer: Computer) -> str:
    names = [card.name for card in computer.nvidia.cards]
    return word_list(names) if names else "an NVIDIA card"


def _driver(computer: Computer) -> Finding:
    nvidia = computer.nvidia
    if not nvidia.sign:
        said = f" was noticed; nvidia-smi says: {nvidia.error}" if nvidia.error else ""
        return Finding("not needed", f"no NVIDIA card{said}")
    works = computer.device is not None and computer.device.kind == "cuda"
    if works and not nvidia.driver:
        return Finding("ok", "PyTorch can use the card, though nvidia-smi does not tell of it")
    if not works and (nvidia.error or not nvidia.driver):
        what = nvidia.error or f"{nvidia.sign} tells of a card, and no driver answers"
        return Finding("broken", what, _driver_that_fails(computer))
    can = f"driver {nvidia.driver}"
    if nvidia.cuda is None:
        what = f"{can} is older than all that PyTorch is built for"
        return Finding("broken", what, _driver_line(computer))
    can += f" can do CUDA {_dotted(nvidia.cuda)}"
    if nvidia.cuda < OLDEST_CUDA:
        what = f"{can}; PyTorch needs one for {_dotted(OLDEST_CUDA)} or newer"
        return Finding("broken", what, _driver_line(computer))
    cuda = build(computer).cuda
    if cuda and not runs_with((cuda[0], cuda[1]), nvidia.cuda):
        what = f"{can}; this PyTorch is built for {_dotted(cuda)}"
        index = best_index(computer)
        if index == CPU_INDEX:
            return Finding("broken", what, _driver_line(computer))
        return Finding("broken", what, torch_line(computer, index))
    return Finding("ok", f"{can}; PyTorch is built for {_dotted(cuda)}" if cuda else can)


def _driver_that_fails(computer: Computer) -> str:
    if "mismatch" in computer.nvidia.error.lower():
        return "restart the computer: the driver was renewed under the running system"
    if computer.container:
        return "docker run --gpus all …  # with the NVIDIA Container Toolkit on the host"
    if "communicate" in computer.nvidia.error.lower():
        return f"restart the computer; if that does not help, install the driver: {DRIVERS_PAGE}"
    return f"install the driver: {DRIVERS_PAGE}"


def _dotted(version: Iterable[int]) -> str:
    return ".".join(map(str, version))


def _torch(computer: Computer) -> Finding:
    index = wanted_index(computer)
    if "torch" not in computer.packages and computer.torch is None:
        return Finding("broken", "PyTorch is not installed", torch_line(computer, index))
    if computer.torch_problem:
        what = f"PyTorch cannot be imported: {computer.torch_problem}"
        if computer.windows and "dll" in computer.torch_problem.lower():
            return Finding("broken", what, f"install {REDISTRIBUTABLE}, then restart")
        return Finding("broken", what, torch_line(computer, index))
    version = computer.torch.version if computer.torch else computer.version("torch")
    built = build(computer)
    if built.kind == "cpu" and computer.nvidia.sign:
        what = f"{version} is built for CPUs alone, and there is {_card_names(computer)}"
        return Finding("broken", what, torch_line(computer, index))
    if built.kind == "cpu" and computer.amd and computer.platform == "linux":
        what = f"{version} is built for CPUs alone, and there is an AMD card"
        return Finding("broken", what, torch_line(computer, ROCM_INDEX))
    if built.kind == "cuda" and computer.amd and not computer.nvidia.sign:
        what = f"{version} is built for NVIDIA's cards, and there is an AMD card"
        return Finding("broken", what, torch_line(computer, ROCM_INDEX))
    kinds = {
        "cuda": f"CUDA {_dotted(built.cuda)}", "rocm": "ROCm", "xpu": "Intel's GPUs",
        "mps": "Apple's GPUs", "cpu": "CPUs alone",
    }  # fmt: skip
    what = f"{version}, built for {kinds[built.kind]}" if built.kind else version
    return Finding("ok", what)


def has_code_for(architectures: Iterable[str], capability: Capability) -> bool:
    """Whether code for these runs on a card: code for the same major version and no newer minor
    one does ("sm_86"), and so does what the driver compiles ("compute_90") on every later card."""
    for text in architectures:
        match = _ARCHITECTURE.fullmatch(text)
        if match is None:
            continue
        kind, major, minor, suffix = match.groups()
        architecture = (int(major), int(minor))
        if suffix == "a":  # For this one alone.
            works = architecture == capability
        elif kind == "compute":
            works = architecture <= capability
        else:
            works = architecture[0] == capability[0] and architecture <= capability
        if works:
            return True
    return False


def _code(computer: Computer) -> Finding | None:
    """Whether PyTorch has code for the card."""
    known = capabilities(computer)
    built = build(computer)
    if not known or built.kind != "cuda":
        return None
    torch = computer.torch
    if torch is not None and torch.architectures:
        lacking = [one for one in known if not has_code_for(torch.architectures, one)]
        has = ", ".join(torch.architectures)
    else:
        row = build_of("cu" + "".join(map(str, built.cuda[:2])))
        if row is None:
            return None
        lacking = [one for one in known if not row.runs_on(one)]
        first, last = row.capabilities
        has = f"{_dotted(first)} to {_dotted(last)}"
    if len(lacking) < len(known):
        # PyTorch's first card is the quickest, and one is enough.
        some = [one for one in known if one not in lacking]
        what = f"for compute capability {word_list(map(_dotted, some))}"
        if lacking:
            what += f", none for that of {word_list(map(_dotted, lacking))}"
        return Finding("ok", what)
    what = f"none for {_card_names(computer)}, of compute capability "
    what += f"{word_list(map(_dotted, lacking))}; there is {has}"
    index = choose_index(computer.nvidia.cuda or CUDA_BUILDS[0].driver_cuda, lacking)
    if index == CPU_INDEX:
        newer = choose_index(CUDA_BUILDS[0].driver_cuda, lacking)
        mend = _driver_line(computer) if newer != CPU_INDEX else 'performance.device = "cpu"'
        return Finding("broken", what, mend)
    return Finding("broken", what, torch_line(computer, index))


def _device(computer: Computer) -> Finding | None:
    device = computer.device
    if device is None:
        return _unseen_device(computer)
    if device.problem:
        visible = computer.environment.get("CUDA_VISIBLE_DEVICES")
        if visible is not None and visible.strip() in ("", "-1"):
            line = "set" if computer.windows else "unset"
            what = f"CUDA_VISIBLE_DEVICES={visible} hides the card"
            return Finding(
                "broken",
                what,
                f"{line} CUDA_VISIBLE_DEVICES" + ("=" if computer.windows else ""),
            )
        if computer.nvidia.sign or device.kind != "cpu":
            mend = "restart the computer, then look at nvidia-smi"
            if not runs_with_driver(computer):
                mend = _driver(computer).mend or mend
            elif computer.container:
                mend = "docker run --gpus all …"
            return Finding("broken", f"the card cannot be used: {device.problem}", mend)
        if "cannot be used here" in device.problem:
            return Finding("broken", device.problem, 'performance.device = "auto"')
    if device.kind == "cpu":
        what = "no GPU: a training takes tens of times as long"
        return Finding("slow", what, "lorasmith train PICTURES --model demo  # what a CPU can do")
    more = f", {device.cards} of them" if device.cards > 1 else ""
    able = [name for name, has in (("bf16", device.bf16), ("fp8", device.small_floats)) if has]
    if device.capability is not None and parse_capability_pair(device.capability) >= AMPERE:
        # PyTorch's own default: fp32 convolutions are rounded so, products of matrices are not.
        able.append("TF32")
    can = f"; has {word_list(able)}" if able else "; has neither bf16 nor fp8"
    taken = f"; train.precision = auto takes {device.precision}: {device.precision_reason}"
    return Finding("ok", f"{device.name}{more}{can}{taken}")


def _unseen_device(computer: Computer) -> Finding | None:
    """One that was asked for, where PyTorch has not been imported."""
    kind, _, number = computer.asked.partition(":")
    if kind == "auto" or computer.torch_problem:
        return None
    if kind == "cpu":
        return Finding("ok", "cpu, as asked for")
    if kind == "cuda" and not computer.amd:
        cards = computer.nvidia.cards
        if int(number or 0) < len(cards):
            name = cards[int(number or 0)].name
            return Finding("ok", f"{computer.asked} is {name}, says nvidia-smi; it was not tried")
        has = quantity(len(cards), "card") if cards else "no card"
        what = f"{computer.asked} was asked for, and nvidia-smi tells of {has}"
        return Finding("broken", what, 'performance.device = "auto"')
    what = f"{computer.asked} was not looked at, which takes PyTorch"
    return Finding("not there", what, f"lorasmith doctor --device {computer.asked}")


def runs_with_driver(computer: Computer) -> bool:
    return _driver(computer).status != "broken"


def _card_memory(computer: Computer) -> Finding | None:
    cards = computer.nvidia.cards
    device = computer.device
    if cards:
        card = max(cards, key=lambda card: card.free)
        total, free, users = card.total, card.free, card.users
    elif device is not None and device.kind != "cpu" and device.free is not None:
        total, free, users = device.total or 0, device.free, ()
    else:
        return None
    if not total:
        return None
    shown = [f"{name}, {bytes_text(size)}" if size else name for name, size in users[:3]]
    by = f", taken by {word_list(shown)}" if shown and free < 0.9 * total else ""
    what = f"{bytes_text(free)} of {bytes_text(total)} free{by}"
    close = f"close {users[0][0]}" if users and free < 0.9 * total else "close other programs"
    less = 'train.base_precision = "fp8", train.gradient_checkpointing = true'
    if free < LEAST_CARD_MEMORY:
        mend = close if total > ENOUGH_CARD_MEMORY else 'performance.device = "cpu"'
        return Finding("broken", f"{what}, less than any model of Stable Diffusion takes", mend)
    if free < ENOUGH_CARD_MEMORY:
        mend = close if total > 2 * ENOUGH_CARD_MEMORY else less
        return Finding("slow", f"{what}: SD 1.5 fits, at less speed", mend)
    return Finding("ok", what)


def _attention(computer: Computer) -> Finding | None:
    device = computer.device
    if device is None or device.problem:
        return None
    if not device.attention:
        what = "no kernel of attention works in the precision that training takes"
        return Finding("broken", what, torch_line(computer, wanted_index(computer)))
    what = f"{word_list(device.attention)} ({quantity(len(device.attention), 'kernel')})"
    if device.kind != "cpu" and device.attention == ("math",):
        what = "only the plain kernel works, which takes far more memory"
        return Finding("slow", what, torch_line(computer, wanted_index(computer)))
    return Finding("ok", what)


def _compiler(computer: Computer) -> Finding | None:
    """For ``performance.compile``, which is off by itself."""
    device = computer.device
    if device is None or device.problem:
        return None
    problem = device.compiler_problem
    if not problem:
        return Finding("ok", "performance.compile can be set")
    what = f"performance.compile {problem}"
    if "triton" in problem:
        package = "triton-windows" if computer.windows else "triton"
        return Finding("not there", what, f"{computer.python.pip} install {package}")
    if "C++" in problem:
        lines = {
            "win32": "winget install Microsoft.VisualStudio.2022.BuildTools",
            "darwin": "xcode-select --install",
        }
        return Finding("not there", what, lines.get(computer.platform, "sudo apt install g++"))
    return Finding("not needed", what)


CHECKS = (
    Check("driver", "Graphics card", _driver),
    Check("PyTorch", "Graphics card", _torch),
    Check("code for the card", "Graphics card", _code),
    Check("device", "Graphics card", _device),
    Check("memory of the card", "Graphics card", _card_memory),
    Check("attention", "Graphics card", _attention),
    Check("compiler", "Graphics card", _compiler),
)
