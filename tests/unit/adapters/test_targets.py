"""Where adapters attach and what their keys are: counts and names of kohya's and LyCORIS' files."""

from __future__ import annotations

from hashlib import sha256

import pytest
import torch
from lycoris.config import PRESET
from lycoris.kohya import LycorisNetworkKohya
from tests.published import SDXL
from torch import nn

from lorasmith.adapters.targets import (
    PRESETS,
    Selection,
    Size,
    Target,
    UniformSizes,
    find_targets,
    layers_of,
    matches,
    select,
    targets_of,
    unmatched,
)
from lorasmith.formats.adapter_roots import AdapterRoot
from lorasmith.models.load import empty_modules

KNOWN_KEYS = {
    "lora_unet_down_blocks_0_attentions_0_proj_in",
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
    "lora_unet_down_blocks_2_attentions_1_transformer_blocks_0_attn2_to_out_0",
    "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj",
    "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_ff_net_2",
    "lora_unet_up_blocks_3_attentions_2_proj_out",
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj",
    "lora_te_text_model_encoder_layers_0_self_attn_out_proj",
    "lora_te_text_model_encoder_layers_11_mlp_fc1",
    "lora_te_text_model_encoder_layers_11_mlp_fc2",
}


def keys(targets: list[Target]) -> list[str]:
    return [target.key for target in targets]


def chosen(roots, *targets: str, **options) -> list[str]:
    return keys(select(roots, Selection(targets, **options)))


def test_sd15_has_kohyas_modules(sd15_roots):
    unet, text_encoder = map(targets_of, sd15_roots)
    assert (len(unet), len(text_encoder)) == (192, 72)
    found = {*keys(unet), *keys(text_encoder)}
    assert len(found) == 192 + 72
    assert found >= KNOWN_KEYS


def test_conv_adds_resnets_and_resamplers(sd15_roots):
    # 22 resnet blocks of 3 layers, 14 shortcuts, 3 resamplers each way: 192 + 66 + 14 + 6.
    unet, text_encoder = (targets_of(root, conv=True) for root in sd15_roots)
    assert (len(unet), len(text_encoder)) == (278, 72)
    found = {target.key: target for target in unet}
    assert found["lora_unet_down_blocks_0_resnets_0_conv1"].is_spatial
    assert found["lora_unet_down_blocks_1_downsamplers_0_conv"].is_spatial
    assert not found["lora_unet_down_blocks_1_resnets_0_conv_shortcut"].is_spatial
    assert not found["lora_unet_down_blocks_0_resnets_0_time_emb_proj"].is_spatial
    assert "lora_unet_conv_in" not in found


def lycoris_layers(root: AdapterRoot, preset: str) -> set[str]:
    """Paths of the layers that LyCORIS' own preset attaches to."""
    asked = dict(PRESET[preset])
    # It names the time embedding's layers twice, by class and by name, and then stops at that.
    asked["unet_target_module"] = [c for c in asked["unet_target_module"] if c[:8] != "Timestep"]
    LycorisNetworkKohya.apply_preset(asked)
    is_unet = root.part == "unet"
    network = LycorisNetworkKohya(
        [] if is_unet else root.module,
        root.module if is_unet else nn.Module(),
        lora_dim=1,
        network_module="lora",
        warn_on_unmatched=False,
    )
    paths = {id(module): path for path, module in root.module.named_modules()}
    return {paths[id(lora.org_module[0])] for lora in network.loras}


# Its preset "ia3" matches names from their beginning and so finds nothing in these models.
@pytest.mark.parametrize("preset", ["full", "attn-mlp"])
@pytest.mark.usefixtures("lycoris_settings")
def test_presets_are_lycoris(sd15_roots, preset):
    for root in sd15_roots:
        ours = {target.path for target in select([root], Selection((preset,)))}
        assert ours == lycoris_layers(root, preset)


def test_counts_of_presets(sd15_roots):
    counts = {
        name: [len(select([root], Selection((name,)))) for root in sd15_roots] for name in PRESETS
    }
    # attn: 16 transformers with 2 attentions of 4 layers; 12 text layers with one.
    assert counts == {"attn": [128, 48], "attn-mlp": [192, 72], "full": [282, 72], "ia3": [80, 36]}


def test_one_part_alone(sd15_roots):
    unet, text_encoder = (keys(targets_of(root)) for root in sd15_roots)
    assert chosen(sd15_roots, "unet-only") == unet
    assert chosen(sd15_roots, "te-only") == text_encoder
    assert len(chosen(sd15_roots, "full", "unet-only")) == 282
    assert len(chosen(sd15_roots, "attn", "te-only")) == 48
    assert chosen(sd15_roots, "unet-only", "te-only") == unet + text_encoder


def test_patterns_instead_of_presets(sd15_roots):
    assert len(chosen(sd15_roots, "attn2.*")) == 64
    assert len(chosen(sd15_roots, "attn2.to_k", "attn2.to_v")) == 32
    assert chosen(sd15_roots, "conv_in") == ["lora_unet_conv_in"]
    assert len(chosen(sd15_roots, "attn", "conv_in", "unet-only")) == 129


def test_include_adds_and_exclude_takes_away(sd15_roots):
    usual = chosen(sd15_roots, "attn-mlp")
    more = chosen(sd15_roots, "attn-mlp", include=("time_embedding.*", "conv_in"))
    assert len(more) == len(usual) + 3
    less = chosen(sd15_roots, "attn-mlp", exclude=("ff.net.*", "re:_fc[12]$"))
    assert len(less) == len(usual) - 16 * 2 - 24
    assert chosen(sd15_roots, "conv_in", exclude=("conv_*",)) == []


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("to_q", True),
        ("attn1.to_q", True),
        ("attn1.*", True),
        ("down_blocks.1.*", True),
        ("unet.down_blocks.*", True),
        ("lora_unet_down_blocks_1_*", True),
        ("*attn[13]*", True),
        (r"re:down_blocks\.[01]\..*attn1", True),
        ("o_q", False),
        ("attn1", False),
        ("DOWN_BLOCKS.*", False),
        ("re:^attn1", False),
    ],
)
def test_how_patterns_match(sd15_roots, pattern, fits):
    path = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    assert matches(pattern, Target(sd15_roots[0], path, sd15_roots[0].key(path))) == fits


def test_patterns_that_match_nothing_come_with_near_names(sd15_roots):
    wrong = ("to_kk", "lora_te_text_model_encoder_layer_0_mlp_fc1")
    found = unmatched(sd15_roots, (*wrong, "to_k", "re:conv_(in|out)"))
    assert list(found) == list(wrong)
    assert "to_k" in found["to_kk"]
    assert found[wrong[1]][0] == "lora_te_text_model_encoder_layers_0_mlp_fc1"


def test_targets_are_among_the_layers_in_order(sd15_roots):
    for root in sd15_roots:
        layers = keys(layers_of(root))
        targets = keys(targets_of(root, conv=True))
        assert targets == [key for key in layers if key in set(targets)]


def test_sizes_by_kind_of_layer(sd15_roots):
    conv = Selection(conv=True)
    sizes = UniformSizes(linear=Size(8, 4.0), conv=Size(2))
    found = {t.key: size for t, size in find_targets(sd15_roots, sizes, conv)}
    assert found["lora_unet_down_blocks_0_resnets_0_conv1"] == Size(2)
    assert found["lora_unet_down_blocks_0_attentions_0_proj_in"] == Size(8, 4.0)
    only_linear = find_targets(sd15_roots, UniformSizes(Size(8)), conv)
    assert not any(target.is_spatial for target, _ in only_linear)


def test_a_rule_may_leave_layers_out(sd15_roots):
    found = find_targets(sd15_roots, lambda t: Size(4) if "up_blocks" in t.path else None)
    assert found
    assert all("up_blocks" in target.path for target, _ in found)


def test_paths_lead_to_layers(tiny):
    for root in tiny.roots:
        for target in layers_of(root):
            assert target.layer is root.module.get_submodule(target.path)
            assert isinstance(target.layer, torch.nn.Linear | torch.nn.Conv2d)


# SHA-256 of the sorted names, a line each, that sd-scripts' own SDXL UNet gives (48d368f).
SDXL_NAMES = {
    False: (722, "5d819b833e27947d429ba79ac3e24f388212474b229fb83dbc3444086264e018"),
    True: (788, "6eaed2d7a4528e0a5cd7d54f06410bec8d1c8b707015310af1925b23533a4b69"),
}


@pytest.mark.parametrize("conv", [False, True])
def test_sdxl_has_the_names_of_sd_scripts(conv: bool) -> None:
    modules = empty_modules(SDXL)
    roots = SDXL.adapter_roots(modules["unet"], modules)
    unet, first, second = (keys(targets_of(root, conv=conv)) for root in roots)
    digest = sha256("\n".join(sorted(unet)).encode()).hexdigest()
    assert (len(unet), digest) == SDXL_NAMES[conv]
    assert (len(first), len(second)) == (72, 192)
    assert "lora_te1_text_model_encoder_layers_11_mlp_fc2" in first
    assert "lora_te2_text_model_encoder_layers_31_self_attn_q_proj" in second
