"""Where kohya's LoRA attaches and what its keys are: counts and names as in its files."""

from __future__ import annotations

import torch

from lorasmith.adapters.targets import Size, UniformSizes, find_targets, layers_of, targets_of

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


def test_sd15_has_kohyas_modules(sd15_roots):
    unet, text_encoder = map(targets_of, sd15_roots)
    assert (len(unet), len(text_encoder)) == (192, 72)
    keys = {target.key for target in (*unet, *text_encoder)}
    assert len(keys) == 192 + 72
    assert keys >= KNOWN_KEYS


def test_conv_adds_resnets_and_resamplers(sd15_roots):
    # 22 resnet blocks of 3 layers, 14 shortcuts, 3 resamplers each way: 192 + 66 + 14 + 6.
    unet, text_encoder = (targets_of(root, conv=True) for root in sd15_roots)
    assert (len(unet), len(text_encoder)) == (278, 72)
    keys = {target.key: target for target in unet}
    assert keys["lora_unet_down_blocks_0_resnets_0_conv1"].is_spatial
    assert keys["lora_unet_down_blocks_1_downsamplers_0_conv"].is_spatial
    assert not keys["lora_unet_down_blocks_1_resnets_0_conv_shortcut"].is_spatial
    assert not keys["lora_unet_down_blocks_0_resnets_0_time_emb_proj"].is_spatial
    assert "lora_unet_conv_in" not in keys


def test_targets_are_among_the_layers_in_order(sd15_roots):
    for root in sd15_roots:
        layers = [target.key for target in layers_of(root)]
        targets = [target.key for target in targets_of(root, conv=True)]
        assert targets == [key for key in layers if key in set(targets)]


def test_sizes_by_kind_of_layer(sd15_roots):
    sizes = UniformSizes(linear=Size(8, 4.0), conv=Size(2))
    found = {t.key: size for t, size in find_targets(sd15_roots, sizes, conv=True)}
    assert found["lora_unet_down_blocks_0_resnets_0_conv1"] == Size(2)
    assert found["lora_unet_down_blocks_0_attentions_0_proj_in"] == Size(8, 4.0)
    only_linear = find_targets(sd15_roots, UniformSizes(Size(8)), conv=True)
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
