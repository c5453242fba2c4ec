"""Each family trains, saves, and its file is read by diffusers with the same result."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.recipes.matrix import losses, result_of, run_with
from tests.tiny_models import tiny_checkpoint

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.models.load import load_model
from lorasmith.models.reference import ModelReference

SETTINGS = {"train.steps": "3", "train.precision": "fp32", "model.max_tokens": "150"}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("text", ["true", "false"])
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_trains(family: str, text: str, tmp_path: Path) -> None:
    base = tiny_checkpoint(tmp_path / "base.safetensors", family=family)
    changes = {"model.path": str(base), "model.family": family, "adapter.text_encoder": text}
    run = run_with(tmp_path, {**SETTINGS, **changes})
    assert len(losses(run)) == 3
    tensors = load_file(result_of(run))
    ups = {name: float(t.abs().max()) for name, t in tensors.items() if "lora_up" in name}
    assert any(size > 0 for size in ups.values())
    parts = {name.split("_")[1] for name in tensors}
    encoders = {"sdxl": {"te1", "te2"}}.get(family, {"te"})
    assert parts == {"unet", *(encoders if text == "true" else set())}
    network = AdapterNetwork.load(
        load_lora(result_of(run)).tensors,
        load_model(ModelReference(base, family=family)).adapter_roots(),
    )
    assert not network.report.unmatched
