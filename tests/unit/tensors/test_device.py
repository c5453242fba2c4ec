"""Which device is taken, and in which precision it computes."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from tests.unit.training.machines import Bench, bench

from lorasmith.config.load import load_settings
from lorasmith.core.errors import RunError, SettingsError
from lorasmith.tensors.device import (
    LARGE_FOR_CPU,
    choose_device,
    choose_precision,
    describe_machine,
    deterministic,
    device_name,
    peak_memory,
    total_memory,
)
from lorasmith.training.memory.plan import channels_last

__all__ = ["bench"]

Place = Callable[[Bench], torch.device]

MACHINES: dict[str, tuple[Place, str, str, str]] = {
    # What the guides say: bf16 from RTX 30 on, otherwise fp16.
    "RTX 4090": (lambda b: b.nvidia("RTX 4090", (8, 9)), "cuda", "bf16", "computes in bf16"),
    "RTX 3060": (lambda b: b.nvidia("RTX 3060", (8, 6)), "cuda", "bf16", "computes in bf16"),
    "H100": (lambda b: b.nvidia("H100", (9, 0)), "cuda", "bf16", "computes in bf16"),
    "RTX 2080": (lambda b: b.nvidia("GeForce RTX 2080", (7, 5)), "cuda", "fp16", "no bf16"),
    "T4": (lambda b: b.nvidia("Tesla T4", (7, 5)), "cuda", "fp16", "no bf16"),
    "V100": (lambda b: b.nvidia("Tesla V100", (7, 0)), "cuda", "fp16", "no bf16"),
    "GTX 1080": (lambda b: b.nvidia("GeForce GTX 1080", (6, 1)), "cuda", "fp16", "no bf16"),
    # And what they learned the hard way.
    "GTX 1660": (lambda b: b.nvidia("GeForce GTX 1660 Ti", (7, 5)), "cuda", "fp32", "NaN"),
    "GTX 1650": (lambda b: b.nvidia("GeForce GTX 1650", (7, 5)), "cuda", "fp32", "NaN"),
    "T1000": (lambda b: b.nvidia("NVIDIA T1000 8GB", (7, 5)), "cuda", "fp32", "NaN"),
    "RX 7900": (lambda b: b.amd("RX 7900 XTX", "gfx1100"), "rocm", "bf16", "computes in bf16"),
    "MI300": (lambda b: b.amd("MI300X", "gfx942:sramecc+"), "rocm", "bf16", "computes in bf16"),
    "RX 6800": (lambda b: b.amd("RX 6800", "gfx1030"), "rocm", "fp16", "no bf16"),
    "Arc": (lambda b: b.intel("Arc A770", fp64=False), "xpu", "bf16", "computes in bf16"),
    "Iris": (lambda b: b.intel("Iris Xe", bf16=False), "xpu", "fp16", "no bf16"),
    "UHD": (lambda b: b.intel("UHD", bf16=False, fp64=False), "xpu", "fp32", "scale the loss"),
    "Mac": (lambda b: b.mac(macos=(15, 1)), "mps", "fp32", "safe choice"),
    "CPU": (lambda b: b.cpu(avx512_bf16=True), "cpu", "bf16", "multiplies in bf16"),
    "old CPU": (lambda b: b.cpu(avx2=True), "cpu", "fp32", "does not multiply"),
}


@pytest.mark.parametrize("name", MACHINES)
def test_the_device_that_is_there_is_taken_in_the_precision_that_it_is_good_at(
    bench: Bench, name: str
) -> None:
    place, kind, precision, reason = MACHINES[name]
    device = place(bench)
    assert choose_device("auto").type == device.type
    assert describe_machine(device).kind == kind
    chosen = choose_precision("auto", device, LARGE_FOR_CPU)
    assert (chosen.name, reason in chosen.reason) == (precision, True)


def test_small_models_stay_in_fp32_on_a_cpu(bench: Bench) -> None:
    device = bench.cpu(amx_bf16=True)
    assert choose_precision("auto", device, LARGE_FOR_CPU - 1).name == "fp32"


def test_what_is_set_is_done(bench: Bench) -> None:
    device = bench.nvidia("RTX 4090", (8, 9))
    for name in ("fp32", "fp16", "bf16"):
        chosen = choose_precision(name, device, 0)
        assert (chosen.name, chosen.reason) == (name, "as set")


@pytest.mark.parametrize("name", ["rocm", "NVIDIA", "cuda", "cuda:1", "xpu", "mps", "metal", "tpu"])
@pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has one of them")
def test_a_device_that_is_not_there_is_refused_in_words(name: str) -> None:
    with pytest.raises(SettingsError, match=r"cannot be used here.*use auto"):
        choose_device(name)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has an accelerator")
def test_a_build_for_cpus_says_so() -> None:
    with pytest.raises(SettingsError, match="built for CPUs alone"):
        choose_device("cuda")


@pytest.mark.parametrize(("name", "current"), [("cuda:1", [1]), ("cuda", []), ("cpu", [])])
def test_one_of_several_gpus_becomes_the_current_one(
    monkeypatch: pytest.MonkeyPatch, name: str, current: list[int]
) -> None:
    """Pinned memory, and what libraries launch, would be the first one's."""
    made: list[int] = []
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    monkeypatch.setattr(torch.accelerator, "set_device_index", made.append)
    assert choose_device(name) == torch.device(name)
    assert made == current


LAYOUTS = [("auto", "cpu", False), ("auto", "cuda", True), ("true", "cpu", True),
           ("false", "cuda", False)]  # fmt: skip


@pytest.mark.parametrize(("asked", "where", "wanted"), LAYOUTS)
def test_convolutions_are_laid_out_as_is_fastest(asked: str, where: str, wanted: bool) -> None:
    settings = load_settings(None, [f"performance.channels_last={asked}"])
    assert channels_last(settings, torch.device(where)) is wanted


def test_names_and_memory_of_every_kind(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_name(bench.mac(macos=(14, 0))) == "Apple M3 Pro (mps)"
    assert device_name(bench.intel("Arc B580")) == "Arc B580"
    assert device_name(torch.device("cpu")) == "cpu"
    monkeypatch.setattr(torch.xpu, "max_memory_allocated", lambda device: 5)
    assert peak_memory(torch.device("xpu")) == 5
    used = peak_memory(torch.device("cpu"))
    assert 10**7 < used < 10**12, "bytes, whatever the system counts in"


def flags() -> tuple[object, ...]:
    cudnn = torch.backends.cudnn
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.deterministic,
        cudnn.benchmark,
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


@pytest.mark.parametrize("workspace", [None, ":0:0"])
def test_the_same_bits_are_asked_for_and_no_longer_afterwards(
    monkeypatch: pytest.MonkeyPatch, workspace: str | None
) -> None:
    if workspace is None:
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    else:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", workspace)
    before = flags()
    with deterministic(False):
        assert flags() == before
    with deterministic(True):
        # PyTorch raises for cuBLAS with any other workspace, and lets attention's backward passes
        # add in any order where it may only warn.
        assert flags() == (True, False, True, False, False, ":4096:8")
    assert flags() == before
    with pytest.raises(KeyError), deterministic(True):
        raise KeyError
    assert flags() == before


def test_what_cannot_give_the_same_bits_is_named() -> None:
    with pytest.raises(RunError) as raised, deterministic(True):
        torch.ones(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
    assert "performance.deterministic: cannot be kept here: put_ does not" in str(raised.value)
    with pytest.raises(RuntimeError, match="shape"), deterministic(True):
        torch.ones(3) @ torch.ones(2, 2)
    assert not torch.are_deterministic_algorithms_enabled()


def test_how_much_there_is_makes_no_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that only plans takes nothing of a graphics card that trains."""

    def look(device: object) -> None:
        raise AssertionError("makes a context")

    card = SimpleNamespace(total_memory=8_000_000_000)
    monkeypatch.setattr(torch.cuda, "mem_get_info", look)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    assert total_memory(torch.device("cuda")) == 8_000_000_000
