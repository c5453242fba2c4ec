"""Every program's names are read as the same LoRA, with the model at hand and without."""

from __future__ import annotations

import pytest
import torch
from tests.tiny_models import tiny_architecture, tiny_model
from tests.unit.adapters.namings import NAMINGS, UNET_ONLY, exported, renamed
from torch import Tensor

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.core.errors import LoraFileError
from lorasmith.formats.layer_names import describe, read_name
from lorasmith.models.diffusion_model import DiffusionModel

FAMILIES = ("sd1", "sdxl")


def model_of(family: str) -> DiffusionModel:
    return tiny_model(architecture=tiny_architecture(family=family, layers=2))


def network_of(model: DiffusionModel) -> AdapterNetwork:
    network = AdapterNetwork.create(model.adapter_roots(), rank=2, alpha=3.0, conv_rank=2, seed=1)
    generator = torch.Generator().manual_seed(0)
    for adapter in network.adapters.values():
        for parameter in adapter.parameters():
            parameter.data.normal_(generator=generator)
    return network


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_finds_its_layers_under_every_name(family: str) -> None:
    model = model_of(family)
    network = network_of(model)
    whole = network.state_dict()
    for title, naming in NAMINGS.items():
        tensors = renamed(network, naming)
        assert len(tensors) == len(whole), title
        found = AdapterNetwork.load(tensors, model.adapter_roots())
        assert found.report.unmatched == (), title
        assert same(found.state_dict(), whole), title
    unet = {name: tensor for name, tensor in whole.items() if name.startswith("lora_unet_")}
    for title, naming in UNET_ONLY.items():
        found = AdapterNetwork.load(renamed(network, naming, unet_only=True), model.adapter_roots())
        assert found.report.unmatched == (), title
        assert same(found.state_dict(), unet), title


@pytest.mark.slow_but_first
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("title", ["diffusers", "diffusers 0.21"])
def test_what_diffusers_exports_to_kohya(family: str, title: str) -> None:
    model = model_of(family)
    network = network_of(model)
    tensors = renamed(network, NAMINGS[title])
    if title == "diffusers":
        tensors = exported(tensors)
    else:
        # Its converter takes peft's names; files of the older ones went through its first version,
        # which put "_" for all dots but the last two.
        tensors = {
            name.replace("text_encoder_2", "lora_te2").replace("text_encoder", "lora_te1")
            .replace("unet", "lora_unet").replace(".", "_", name.count(".") - 2): tensor
            for name, tensor in tensors.items()
            if not name.endswith(".alpha")
        }  # fmt: skip
    found = AdapterNetwork.load(tensors, model.adapter_roots())
    assert found.report.unmatched == ()
    written = found.state_dict()
    whole = network.state_dict()
    factors = {name for name in whole if not name.endswith(".alpha")}
    assert all(torch.equal(written[name], whole[name]) for name in factors)


def test_a_tensor_under_two_names_is_said() -> None:
    model = model_of("sd1")
    network = network_of(model)
    tensors = network.state_dict()
    one = renamed(network, NAMINGS["diffusers"])
    name = next(name for name in one if name.endswith("lora_A.weight"))
    with pytest.raises(LoraFileError, match="under another name too"):
        AdapterNetwork.load({**tensors, name: one[name]}, model.adapter_roots())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lora_unet_double_blocks_0_img_attn_proj.lora_up.weight", "Flux"),
        ("transformer.single_transformer_blocks.3.attn.to_q.lora_A.weight", "Flux"),
        ("lora_unet_joint_blocks_0_x_block_attn_proj.alpha", "Stable Diffusion 3"),
        ("diffusion_model.layers.3.adaLN_modulation.0.lora_A.weight", "Z-Image"),
        ("diffusion_model.transformer_blocks.3.img_mlp.net.2.lora_A.weight", "Qwen-Image"),
        ("lora_prior_unet_down_blocks_0_1_channelwise_0.lora_up.weight", "Stable Cascade"),
        ("bundle_emb.cat.string_to_param.*", "an embedding that is bundled"),
        ("lllite_unet_input_blocks_4_1_attn1_to_q.down.0.weight", "LLLite"),
        ("lora_te3_encoder_block_0_layer_0_SelfAttention_q.alpha", "T5"),
    ],
)
def test_what_is_not_read_is_named(name: str, said: str, model: DiffusionModel) -> None:
    assert said in describe([name])
    if "bundle" in name or "lllite" in name:
        return
    with pytest.raises(LoraFileError, match=said):
        AdapterNetwork.load({name: torch.zeros(2, 2)}, model.adapter_roots())


def test_unknown_names_are_not_guessed() -> None:
    for name in ("zorp", "zorp.weight", "", ".", "lora_unet_", "unet.", "lora_unet_.alpha"):
        assert read_name(name) is None, name
    assert describe(["zorp"]) == ""
