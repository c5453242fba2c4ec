"""Going on with files of others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.tiny_models import tiny_model

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.load import load_settings
from lorasmith.core.errors import SettingsError
from lorasmith.training.kinds.adapter import make_network


def test_norms_of_a_file_are_not_trained_and_can_be_left_out(tmp_path: Path) -> None:
    model = tiny_model()
    lora = AdapterNetwork.create(model.adapter_roots(), rank=2).state_dict()
    norm = "lora_unet_down_blocks_0_resnets_0_norm1"
    lora |= {f"{norm}.{name}": torch.ones(8) for name in ("w_norm", "b_norm")}
    save_file(lora, tmp_path / "a.safetensors")
    start = f"adapter.init_from={tmp_path / 'a.safetensors'}"
    with pytest.raises(SettingsError, match=rf"cannot be trained \({norm}.*adapter\.exclude"):
        make_network(load_settings(None, [start]), model.architecture, model.adapter_roots())
    settings = load_settings(None, [start, 'adapter.exclude=["norm*"]'])
    network = make_network(settings, model.architecture, model.adapter_roots())
    assert network.state_dict().keys() == lora.keys() - {f"{norm}.w_norm", f"{norm}.b_norm"}
    assert all(name.startswith(norm) for name in network.report.unmatched)
    assert network.report.unmatched
