"""Where the first number that is none comes from, on a tiny model."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from tests.tiny_models import tiny_model
from torch import Tensor, nn

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.training.monitoring.diagnosis import NanFinder, NanSite
from lorasmith.training.objective import MicroBatch
from lorasmith.training.setup.upcast import compute_in_fp32, find_module

ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
KEY = "lora_unet_" + ATTENTION.replace(".", "_")


@pytest.fixture
def model() -> DiffusionModel:
    return tiny_model()


def network_of(model: DiffusionModel) -> AdapterNetwork:
    network = AdapterNetwork.create(model.adapter_roots(), rank=2, seed=0)
    network.attach()
    with torch.no_grad():
        for adapter in network.adapters.values():
            for name, parameter in adapter.named_parameters():
                if "up" in name:
                    parameter += 0.01
    return network


def batch_of(model: DiffusionModel, mean: Tensor | None = None) -> MicroBatch:
    captions = ["one", "two", "three"]
    mean = torch.zeros(3, 4, 8, 8) if mean is None else mean
    condition = partial(model.encode_text, captions)
    return MicroBatch(mean, torch.zeros_like(mean), condition, torch.ones(3), [7, 8, 9])


def inspect(model: DiffusionModel, network: AdapterNetwork, batch: MicroBatch) -> NanSite | None:
    inspector = NanFinder(model, network)
    with inspector.watching():
        for given in inspector.feed([batch]):
            timesteps = torch.tensor([10, 20, 30])
            prediction = model.denoise(given.mean + 0.1, timesteps, given.condition())
            prediction.square().sum().backward()
    return inspector.site


def test_nothing_to_find(model: DiffusionModel) -> None:
    network = network_of(model)
    assert inspect(model, network, batch_of(model)) is None


def test_latents(model: DiffusionModel) -> None:
    mean = torch.zeros(3, 4, 8, 8)
    mean[1, 2, 3, 4] = math.nan
    spot = inspect(model, network_of(model), batch_of(model, mean))
    assert spot is not None
    assert (spot.phase, spot.samples) == ("input", (8,))


def test_text_features(model: DiffusionModel) -> None:
    hidden = model.encode_text(["one", "two", "three"]).prompt_embeds.detach().clone()
    hidden[2, 5] = math.inf
    batch = batch_of(model)
    given = MicroBatch(
        batch.mean, batch.std, lambda: Conditioning(hidden), batch.weight, batch.samples
    )
    spot = inspect(model, network_of(model), given)
    assert spot is not None
    assert (spot.phase, spot.samples) == ("input", (9,))
    assert "text" in spot.what


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"{ATTENTION}.to_q", f"{KEY}_to_q"),
        ("mid_block.resnets.0.conv1", "unet.mid_block.resnets.0.conv1"),
    ],
)
def test_a_layer_and_the_sample(model: DiffusionModel, path: str, name: str) -> None:
    network = network_of(model)

    def spoil(module: nn.Module, given: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[0, ..., 0] = math.inf
        return output

    model.denoiser.get_submodule(path).register_forward_hook(spoil)
    spot = inspect(model, network, batch_of(model))
    assert spot is not None
    assert (spot.phase, spot.module, spot.samples) == ("forward", name, (7,))


def test_between_layers_is_the_module_around(model: DiffusionModel) -> None:
    """Scores of an attention overflow where no layer's output shows it."""
    network = network_of(model)
    attention = model.denoiser.get_submodule(ATTENTION)
    really = attention.processor

    def overflow(*given: object, **more: object) -> Tensor:
        return attention.to_out[0](really(*given, **more) * math.inf)

    attention.set_processor(overflow)
    spot = inspect(model, network, batch_of(model))
    assert spot is not None
    assert spot.phase == "forward"
    assert spot.module == f"unet.{ATTENTION}"
    assert "between its layers" in spot.what


def test_a_gradient(model: DiffusionModel) -> None:
    network = network_of(model)

    def spoil(module: nn.Module, given: object, output: Tensor) -> None:
        output.register_hook(lambda grad: grad * math.nan)

    model.denoiser.get_submodule(f"{ATTENTION}.to_k").register_forward_hook(spoil)
    spot = inspect(model, network, batch_of(model))
    assert spot is not None
    assert (spot.phase, spot.module) == ("backward", f"{KEY}_to_k")


def test_weights(model: DiffusionModel) -> None:
    network = network_of(model)
    with torch.no_grad():
        next(network.adapters[f"{KEY}_to_v"].parameters())[0, 0] = math.nan
    spot = inspect(model, network, batch_of(model))
    assert spot is not None
    assert (spot.phase, spot.module) == ("weights", f"{KEY}_to_v")


def test_float32_inside_mends_what_overflows_inside() -> None:
    """A product beyond 65504 that is divided again: infinity in float16, the right number in
    float32; and the weights come back as they were."""

    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            wide: Tensor = self.wide(x)
            return (wide * 400) * 400 / 1e5

    gate = Gate()
    x = torch.full((2, 4), 3.0)
    right = gate.half().float()(x)
    half = gate.half()
    weights = {name: value.clone() for name, value in half.state_dict().items()}
    assert not bool(half(x.half()).isfinite().all())
    undo = compute_in_fp32(half, torch.float16)
    mended = half(x.half())
    assert mended.dtype == torch.float16
    torch.testing.assert_close(mended.float(), right, rtol=1e-3, atol=1e-3)
    undo()
    assert not bool(half(x.half()).isfinite().all())
    assert all(torch.equal(value, weights[name]) for name, value in half.state_dict().items())


def test_modules_are_found_by_the_names_that_are_told(model: DiffusionModel) -> None:
    assert find_module(model, f"unet.{ATTENTION}") is model.denoiser.get_submodule(ATTENTION)
