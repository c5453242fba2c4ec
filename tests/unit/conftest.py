"""What unit tests of several folders share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lorasmith.adapters.file import save_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.load import load_model


@pytest.fixture
def lycoris_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that make LyCORIS' networks: it keeps the last preset on its class, where those
    that come later would find it."""
    from lycoris.kohya import LycorisNetworkKohya

    for name, value in vars(LycorisNetworkKohya).items():
        if name.isupper():
            monkeypatch.setattr(LycorisNetworkKohya, name, value)


@pytest.fixture(scope="session")
def model() -> DiffusionModel:
    return load_model("demo")


def write_lora(path: Path, model: DiffusionModel, seed: int, size: float = 0.3) -> None:
    """A LoRA of random weights that changes UNet and text encoder visibly."""
    network = AdapterNetwork.create(model.adapter_roots(), rank=2, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(tensor.shape, generator=generator) * size if "lora_up" in name else tensor
        for name, tensor in network.state_dict().items()
    }
    save_lora(path, tensors, {"ss_output_name": path.stem})


@pytest.fixture(scope="session")
def lora_folder(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("loras")
    write_lora(folder / "cat.safetensors", model, 1)
    write_lora(folder / "deep" / "dog v1.5.safetensors", model, 2)
    write_lora(folder / "one" / "twin.safetensors", model, 3)
    write_lora(folder / "two" / "twin.safetensors", model, 4)
    (folder / "broken.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{not json       ")
    (folder / "note.txt").write_text("not a LoRA")
    return folder


@pytest.fixture
def latents(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The latents that were decoded, collected as images are made."""
    seen: list[torch.Tensor] = []
    decode = DiffusionModel.decode_latents

    def recording(self: DiffusionModel, latents: torch.Tensor) -> torch.Tensor:
        seen.append(latents.clone())
        return decode(self, latents)

    monkeypatch.setattr(DiffusionModel, "decode_latents", recording)
    return seen
