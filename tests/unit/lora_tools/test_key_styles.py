from __future__ import annotations

import pytest
from tests.published import PUBLISHED
from tests.unit.lora_tools.made_files import empty_networks
from torch import nn

from lorasmith.lora_tools.key_styles import WRITTEN, style_of, styled_name, unet_names, with_dots
from lorasmith.lora_tools.keys import kohya_names
from lorasmith.lora_tools.layer_lists import family_layers
from lorasmith.models.key_maps import translate

FAMILIES = ("sd1", "sd2", "sdxl")
TENSORS = ("lora_down.weight", "lora_up.weight", "dora_scale")


@pytest.mark.parametrize("style", WRITTEN)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_has_a_name_of_its_own_that_is_read_again(family: str, style: str) -> None:
    names = {
        styled_name(key, tensor, style, family): (key, tensor)
        for key in family_layers(family)
        for tensor in TENSORS
    }
    assert len(names) == len(TENSORS) * len(family_layers(family))
    assert None not in names
    assert kohya_names([name for name in names if name]) == names
    same = style == "kohya-diffusers" and family != "sdxl"
    assert style_of([name for name in names if name]) == ("kohya" if same else style)


@pytest.mark.parametrize("published", list(PUBLISHED))
def test_dots_are_put_back_where_diffusers_has_them(published: str) -> None:
    for module in empty_networks(published).values():
        for path, layer in module.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                assert with_dots(path.replace(".", "_")) == path


def test_the_comfy_names_are_those_of_the_checkpoint() -> None:
    """Whose modules ComfyUI runs under its own names: LDM's."""
    unet = empty_networks("sdxl")["unet"]
    to_ldm = unet_names("sdxl")[1]
    in_file = {translate(name, to_ldm) for name, _ in unet.named_parameters()}
    for key, (part, _) in family_layers("sdxl").items():
        if part == "unet":
            name = styled_name(key, "lora_up.weight", "comfy", "sdxl")
            assert name is not None
            layer = name.removeprefix("diffusion_model.").removesuffix(".lora_up.weight")
            assert f"{layer}.weight" in in_file


@pytest.mark.parametrize(
    ("name", "style"),
    [
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.alpha", "kohya"),
        ("lora_unet_input_blocks_4_1_proj_in.lora_up.weight", "kohya"),
        ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_ff_net_2.alpha",
         "kohya-diffusers"),
        ("unet.mid_block.attentions.0.proj_in.lora_A.weight", "diffusers"),
        ("unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.up.weight",
         "diffusers-old"),
        ("mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.up.weight",
         "diffusers-old"),
        ("base_model.model.mid_block.attentions.0.proj_in.lora_A.weight", "peft"),
        ("diffusion_model.middle_block.1.proj_in.lora_up.weight", "comfy"),
        ("lycoris_mid_block_attentions_0_proj_in.lora_up.weight", "lycoris"),
        ("zorp", "unknown"),
    ],
)  # fmt: skip
def test_styles_are_told_apart(name: str, style: str) -> None:
    assert style_of([name]) == style
