"""A fourth family is one file, a table of names and a row: all that is done with a model is done
with one whose denoiser is no UNet."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.made_up_family import ROW, Drifter, drift_checkpoint
from tests.recipes.matrix import losses, result_of, run_with

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.core.errors import CheckpointError
from lorasmith.lora_tools.inspect.inspect import inspect
from lorasmith.models.families.table import FAMILIES
from lorasmith.models.load import load_model
from lorasmith.models.open import open_checkpoint
from lorasmith.models.skeleton import skeleton_roots, stored_shapes
from lorasmith.sampling.generate import generate
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.sampling.request import ImageRequest


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(FAMILIES, ROW.name, ROW)
    return drift_checkpoint(tmp_path / "drift.safetensors")


def test_without_its_row_it_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        load_model(drift_checkpoint(tmp_path / "drift.safetensors"))


def test_it_is_opened_and_recognised(base: Path) -> None:
    model = load_model(base)
    assert isinstance(model.denoiser, Drifter)
    stored = load_file(base)
    assert torch.equal(model.denoiser.pieces[1].think.weight, stored["drift.stack.1.mlp.weight"])
    report = inspect(base)
    assert report.family == "drift"
    assert "Drift" in model.architecture.summary


def test_its_layers_are_known_from_their_names_alone(base: Path) -> None:
    opened = open_checkpoint(base)
    planned = AdapterNetwork.create(
        skeleton_roots(opened.architecture, stored_shapes(opened)), rank=2
    )
    real = AdapterNetwork.create(load_model(base).adapter_roots(), rank=2)
    assert planned.targets.keys() == real.targets.keys()
    assert "lora_unet_pieces_0_mix_to_text" in planned.targets


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["lora", "loha", "ia3"])
def test_it_is_trained_and_draws(base: Path, tmp_path: Path, adapter: str) -> None:
    run = run_with(
        tmp_path,
        {
            "model.path": str(base),
            "adapter.type": adapter,
            "train.steps": "2",
            "adapter.blocks": "IN00=0.5 IN01=1",
            **({"adapter.targets": "attn-mlp"} if adapter == "ia3" else {}),
        },
    )
    assert len(losses(run)) == 2
    lora, model = result_of(run), load_model(base)
    network = AdapterNetwork.load(load_lora(lora).tensors, model.adapter_roots())
    assert not network.report.unmatched
    assert any(key.startswith("lora_unet_pieces_1") for key in network.targets)
    report = inspect(lora)
    assert report.family.title == "Drift"
    request = ImageRequest(f"a star <lora:{lora.stem}:1>", steps=2, width=32, height=32)
    plain = ImageRequest("a star", steps=2, width=32, height=32)
    library = LoraLibrary(lora.parent)
    images = [image.image for image in generate(model, [request, plain], loras=library)]
    assert images[0].size == (32, 32)
    assert images[0].tobytes() != images[1].tobytes()
