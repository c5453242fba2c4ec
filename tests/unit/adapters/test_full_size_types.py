"""SD1.5 at full size: names and shapes of every type's files, and the weights of its layers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from lycoris.kohya import create_network
from tests.unit.adapters.kinds import KINDS, lycoris_of, merged_by, randomise, tensors_of
from torch import Tensor, nn

from lorasmith.adapters.base import AdapterOptions
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.adapters.registry import adapter_class
from lorasmith.adapters.targets import targets_of

# Above this a layer says nothing that smaller ones of its kind do not, and takes long.
LARGEST = 1280 * 1280


def shapes_of(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("algorithm", "algo", "options", "arguments"),
    [
        ("locon", "locon", {}, {}),
        ("locon", "locon", {"tucker": True}, {"use_tucker": True}),
        ("loha", "loha", {"tucker": True}, {"use_tucker": True}),
        ("lokr", "lokr", {"factor": 8}, {"factor": 8}),
        ("lokr", "lokr", {"decompose_both": True}, {"decompose_both": True}),
    ],
)
@pytest.mark.usefixtures("lycoris_settings")
def test_lycoris_makes_the_same_tensors(sd15_roots, tmp_path, algorithm, algo, options, arguments):
    """Its whole network on SD1.5's UNet, asked for the blocks that kohya's C3Lier adapts."""
    preset = tmp_path / "blocks.toml"
    blocks = (*sd15_roots[0].targets, *sd15_roots[0].conv_targets)
    preset.write_text(f"unet_target_module = {list(blocks)}\nunet_target_name = []\n")
    unet = sd15_roots[0]
    ours = AdapterNetwork.create(
        [unet],
        algorithm=algorithm,
        rank=8,
        alpha=4,
        conv_rank=8,
        conv_alpha=4,
        options=AdapterOptions(**options),
    )
    theirs = create_network(
        1.0, 8, 4.0, None, [], unet.module, algo=algo, preset=str(preset), **arguments
    )
    known = {module.lora_name: shapes_of(module) for module in theirs.unet_loras}
    assert len(ours) > 250
    assert {key: shapes_of(adapter) for key, adapter in ours.adapters.items()} == known


def distinct_layers(roots) -> Iterator[nn.Module]:
    """A layer of each kind and size that SD1.5 has, with weights of the usual scale."""
    seen = set()
    g = torch.Generator().manual_seed(0)
    for root in roots:
        for target in targets_of(root, conv=True):
            layer, shape = target.layer, tuple(target.layer.weight.shape)
            found = (type(layer), shape)
            if found in seen or layer.weight.numel() > LARGEST:
                continue
            seen.add(found)
            layer = type(layer)(shape[1], shape[0], *shape[2:3]).requires_grad_(False)
            layer.weight.normal_(std=shape[1] ** -0.5, generator=g)
            yield layer


@pytest.fixture(scope="module")
def layers(sd15_roots) -> list[nn.Module]:
    return list(distinct_layers(sd15_roots))


def distance(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    "name", ["locon tucker", "dora", "loha", "loha tucker", "lokr", "lokr decomposed"]
)
def test_lycoris_means_the_same_weights(layers, name):
    """Both ways: theirs read by us, ours read by them."""
    assert len(layers) > 8
    for layer in layers:
        theirs = lycoris_of(name, layer, rank=4)
        tensors = {key: value.detach() for key, value in theirs.state_dict().items()}
        ours = adapter_class(KINDS[name].name).from_tensors(layer, tensors)
        wanted = merged_by(theirs, layer) - layer.weight
        found = ours.delta_weight(layer)
        assert wanted.norm() > 0
        assert distance(found, wanted) < 1e-5, layer
        randomise(ours, seed=9)
        theirs.load_state_dict(tensors_of(ours))
        wanted = merged_by(theirs, layer) - layer.weight
        assert distance(ours.delta_weight(layer), wanted) < 1e-5, layer
