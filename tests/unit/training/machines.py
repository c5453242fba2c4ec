"""Machines that are not here, as PyTorch would describe them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch


class Bench:
    """Puts one device at a time into PyTorch's answers; no tensor can be made on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    def cpu(self, **capabilities: bool) -> torch.device:
        self._patch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
        return self._there("cpu")

    def nvidia(self, name: str, capability: tuple[int, int]) -> torch.device:
        self._patch.setattr(torch.version, "hip", None)
        self._patch.setattr(torch.cuda, "get_device_name", lambda device=None: name)
        self._patch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        return self._there("cuda")

    def amd(self, name: str, arch: str) -> torch.device:
        facts = SimpleNamespace(gcnArchName=arch)
        self._patch.setattr(torch.version, "hip", "6.4")
        self._patch.setattr(torch.cuda, "get_device_name", lambda device=None: name)
        self._patch.setattr(torch.cuda, "get_device_properties", lambda device=None: facts)
        return self._there("cuda")

    def intel(self, name: str, *, bf16: bool = True, fp64: bool = True) -> torch.device:
        facts = SimpleNamespace(has_bfloat16_conversions=bf16, has_fp64=fp64)
        self._patch.setattr(torch.xpu, "get_device_name", lambda device=None: name)
        self._patch.setattr(torch.xpu, "get_device_properties", lambda device=None: facts)
        return self._there("xpu")

    def mac(self, *, macos: tuple[int, int]) -> torch.device:
        mps = torch.backends.mps
        self._patch.setattr(mps, "get_name", lambda: "Apple M3 Pro")
        self._patch.setattr(mps, "is_macos_or_newer", lambda *asked: macos >= asked)
        return self._there("mps")

    def _there(self, kind: str) -> torch.device:
        found = None if kind == "cpu" else torch.device(kind)
        self._patch.setattr(
            torch.accelerator, "current_accelerator", lambda check_available=False: found
        )
        return torch.device(kind)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)
