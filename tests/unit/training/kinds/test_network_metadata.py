"""ss_network_*: the other programs' names, and the same network where they make it from them."""

from __future__ import annotations

from typing import Any

import pytest
from diffusers import UNet2DConditionModel
from lycoris import kohya
from torch import nn

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.adapter_types import ADAPTERS
from lorasmith.config.sections.adapter import AdapterSettings
from lorasmith.formats.adapter_roots import AdapterRoot
from lorasmith.training.kinds.adapter import adapter_options
from lorasmith.training.kinds.kind import NetworkFacts
from lorasmith.training.kinds.network_metadata import network_facts


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    return UNet2DConditionModel(
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )


def made(unet: nn.Module, **values: Any) -> tuple[NetworkFacts, AdapterNetwork]:
    adapter = AdapterSettings(rank=4, **values)
    network = AdapterNetwork.create(
        [AdapterRoot("unet", "lora_unet", "", unet, ("Transformer2DModel",))],
        algorithm=adapter.type,
        rank=adapter.rank,
        alpha=adapter.alpha,
        options=adapter_options(adapter),
    )
    return network_facts(adapter, network), network


CASES: dict[str, tuple[dict[str, Any], str, dict[str, str]]] = {
    "lora": ({}, "networks.lora", {}),
    "lora, dropout": ({"rank_dropout": 0.1}, "networks.lora", {"rank_dropout": "0.1"}),
    "c3lier": (
        {"type": "c3lier", "conv_rank": 2, "conv_alpha": 1},
        "networks.lora",
        {"conv_dim": "2", "conv_alpha": "1"},
    ),
    "dylora": ({"type": "dylora", "unit": 2}, "networks.dylora", {"unit": "2"}),
    "tlora": (
        {"type": "tlora", "orthogonal": False, "conv_rank": 4},
        "networks.lora",
        {"conv_dim": "4", "conv_alpha": "4"},
    ),
    "dora": (
        {"type": "dora"},
        "lycoris.kohya",
        {"algo": "locon", "preset": "attn-mlp", "dora_wd": "True", "wd_on_output": "False"},
    ),
    "dora of outputs": (
        {"type": "dora", "decompose_on_output": True},
        "lycoris.kohya",
        {"algo": "locon", "preset": "attn-mlp", "dora_wd": "True", "wd_on_output": "True"},
    ),
    "rsLoRA": (
        {"rs_lora": True},
        "lycoris.kohya",
        {"algo": "locon", "preset": "attn-mlp", "rs_lora": "True"},
    ),
    "lokr": (
        {"type": "lokr", "factor": 8, "conv_rank": 0},
        "lycoris.kohya",
        {"algo": "lokr", "preset": "attn-mlp", "factor": "8"},
    ),
    "ia3": ({"type": "ia3"}, "lycoris.kohya", {"algo": "ia3", "preset": "ia3"}),
}


@pytest.mark.parametrize("name", list(CASES))
def test_names_are_those_of_the_other_programs(unet, name):
    values, module, args = CASES[name]
    facts, _ = made(unet, **values)
    assert (facts.module, facts.dim, facts.args) == (module, 4, args)


def test_a_tlora_says_the_rank_of_its_file(unet):
    facts, network = made(unet, type="tlora", conv_rank=2, block_ranks="rest=4 OUT=8")
    assert {(adapter.rank, float(adapter.alpha)) for adapter in network.adapters.values()} == {
        (facts.dim, facts.alpha)
    }
    assert (facts.dim, facts.args["conv_dim"]) == (8, "4")
    assert facts.args["block_dims"] == ",".join(["8"] * 13 + ["16"] * 12)


def test_blocks_are_sd_scripts_lists(unet):
    facts, _ = made(unet, blocks="OUTALL", block_ranks="rest=4 OUT=8", block_alphas="rest=2")
    assert facts.args["down_lr_weight"] == ",".join(["0"] * 12)
    assert facts.args["up_lr_weight"] == ",".join(["1"] * 12)
    assert facts.args["block_dims"] == ",".join(["4"] * 13 + ["8"] * 12)
    assert facts.args["block_alphas"] == ",".join(["2"] * 25)


@pytest.mark.parametrize(
    "values",
    [
        {"type": "loha"},
        {"type": "lokr", "factor": 4, "decompose_both": True},
        {"type": "lokr", "full_matrix": True},
        {"type": "dora"},
        {"type": "loha", "weight_decompose": True, "decompose_on_output": True},
        {"type": "oft", "rescaled": True, "constraint": 0.1},
        {"type": "boft"},
        {"rs_lora": True},
    ],
    ids=str,
)
@pytest.mark.usefixtures("lycoris_settings")
def test_lycoris_makes_the_same_network_from_them(unet, values):
    conv = {"conv_rank": 0} if ADAPTERS[values.get("type", "lora")].conv else {}
    facts, network = made(unet, alpha=2.0, **values, **conv)
    theirs = kohya.create_network(1.0, facts.dim, facts.alpha, None, None, unet, **facts.args)
    shapes = {
        f"{module.lora_name}.{name}": tensor.shape
        for module in theirs.loras
        # LyCORIS 4.1 finds these by a class that it added for another model.
        if "time_embedding" not in module.lora_name
        for name, tensor in module.state_dict().items()
    }
    assert {name: tensor.shape for name, tensor in network.state_dict().items()} == shapes


def test_a_file_that_is_gone_on_with_speaks_for_itself(unet):
    network = AdapterNetwork.create(
        [AdapterRoot("unet", "lora_unet", "", unet, ("Transformer2DModel",))],
        algorithm="loha",
        rank=3,
        alpha=1.5,
    )
    facts = network_facts(AdapterSettings(init_from="there.safetensors"), network)
    assert (facts.module, facts.dim, facts.alpha) == ("lycoris.kohya", 3, 1.5)
    assert facts.args["algo"] == "loha"
