"""SD1.5 at full size, random weights: what diffusers makes of our file is what we make of it."""

from __future__ import annotations

import gc
import math

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from lycoris.modules import get_module, make_module
from tests.unit.adapters.conftest import randomise_up, roots_of, sd15
from torch import nn

from lorasmith.adapters.file import load_lora, save_lora
from lorasmith.adapters.network import AdapterNetwork

pytestmark = pytest.mark.broad  # test_interop.py and test_families.py: the same, tiny.


def fill_(module: nn.Module) -> None:
    """Random weights at the usual scale, cheaply: slices of one table of normal numbers."""
    module.to_empty(device="cpu")
    table = torch.randn(2**22, generator=torch.Generator().manual_seed(0))
    for number, (name, p) in enumerate(module.named_parameters()):
        if p.ndim == 1:
            p.data.fill_(1.0 if name.endswith("weight") else 0.0)
            continue
        offset = 977 * number
        repeats = math.ceil((p.numel() + offset) / len(table))
        values = table.repeat(repeats)[offset : offset + p.numel()]
        p.data.copy_(values.view(p.shape)).mul_(1 / math.sqrt(p[0].numel()))
    for name, buffer in module.named_buffers():
        assert name.endswith("position_ids"), name
        buffer.copy_(torch.arange(buffer.shape[-1]))


class Full:
    def __init__(self) -> None:
        with torch.device("meta"):
            self.unet, self.text_encoder = sd15()
        for module in (self.unet, self.text_encoder):
            fill_(module)
            module.eval().requires_grad_(False)
        self.roots = roots_of(self.unet, self.text_encoder)
        g = torch.Generator().manual_seed(5)
        self.noisy = torch.randn(1, 4, 8, 8, generator=g)
        self.hidden = torch.randn(1, 77, 768, generator=g)
        self.ids = torch.randint(0, 49000, (1, 77), generator=g)

    @torch.no_grad()
    def outputs(self) -> tuple[torch.Tensor, torch.Tensor]:
        return (
            self.unet(self.noisy, 321, self.hidden).sample,
            self.text_encoder(self.ids).last_hidden_state,
        )


@pytest.fixture(scope="module")
def full():
    model = Full()
    yield model
    del model.unet, model.text_encoder, model.roots
    gc.collect()


@pytest.fixture(scope="module")
def path(full, tmp_path_factory):
    network = AdapterNetwork.create(full.roots, rank=8, alpha=3.0)
    assert network.parts() == {"unet": 192, "text_encoder": 72}
    randomise_up(network, std=0.1)
    path = tmp_path_factory.mktemp("lora") / "full.safetensors"
    save_lora(path, network.state_dict(torch.float16), {"ss_network_dim": "8"})
    return path


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def test_diffusers_computes_what_we_compute(full, path):
    base = full.outputs()
    network = AdapterNetwork.load(load_lora(path).tensors, full.roots)
    with network.attached():
        ours = full.outputs()
    pipeline = StableDiffusionPipeline(
        vae=None,
        text_encoder=full.text_encoder,
        tokenizer=None,
        unet=full.unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.load_lora_weights(path.parent, weight_name=path.name)
    theirs = full.outputs()
    pipeline.unload_lora_weights()
    for mine, other, without in zip(ours, theirs, base, strict=True):
        assert relative(mine, without) > 0.05, "the LoRA does nothing here"
        assert relative(mine, other) < 1e-4
    assert all(torch.equal(a, b) for a, b in zip(full.outputs(), base, strict=True))


def test_lycoris_merges_the_same_weights(full, path):
    tensors = load_lora(path).tensors
    network = AdapterNetwork.load(tensors, full.roots)
    for key, adapter in network.adapters.items():
        layer = network.targets[key].layer
        kind, parameters = get_module(tensors, key)
        theirs = make_module(kind, parameters, key, layer).get_diff_weight()[0]
        assert relative(adapter.delta_weight(layer), theirs) < 1e-5, key
