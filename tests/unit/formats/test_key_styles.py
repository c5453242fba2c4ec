from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.published import PUBLISHED
from tests.unit.adapters.namings import NAMINGS, renamed
from tests.unit.lora_tools.made_files import empty_networks, kohya_tensors
from tests.unit.lora_tools.tuned_models import base_file, loaded, random_lora, weights_of
from torch import nn

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.formats.key_styles import WRITTEN, style_of, styled_name, unet_names, with_dots
from lorasmith.formats.kohya_keys import kohya_names
from lorasmith.formats.ldm_keys import translate
from lorasmith.formats.unet_layers import family_layers
from lorasmith.lora_tools.bake.bake import bake
from lorasmith.lora_tools.convert.convert import convert
from lorasmith.lora_tools.family import lora_family
from lorasmith.lora_tools.inputs import LoraSource
from lorasmith.lora_tools.lora_file import group_modules

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


@pytest.mark.broad_beyond(7)
@pytest.mark.slow_but_first
@pytest.mark.parametrize("style", WRITTEN)
@pytest.mark.parametrize("family", FAMILIES)
def test_there_and_back_by_names_alone(tmp_path: Path, family: str, style: str) -> None:
    """Without what a converted file keeps of the first one in its metadata."""
    groups = ("attention", "projections", "convolutions", "time", "ends")
    tensors = kohya_tensors(family, groups=groups, dtype=torch.float32)
    save_file(tensors, tmp_path / "first.safetensors")
    convert(tmp_path / "first.safetensors", tmp_path / "there.safetensors", to=style)
    with safe_open(tmp_path / "there.safetensors", "pt") as file:
        said = (file.metadata() or {}).get("lora_adapter_metadata", "{}")
    there = load_file(tmp_path / "there.safetensors")
    save_file(there, tmp_path / "bare.safetensors", {"lora_adapter_metadata": said})
    convert(tmp_path / "bare.safetensors", tmp_path / "back.safetensors", to="kohya")
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_what_is_baked_does_not_depend_on_the_names(tmp_path: Path, family: str) -> None:
    base = base_file(family)
    first = random_lora(tmp_path / "kohya.safetensors", base, conv_rank=2)
    network = AdapterNetwork.load(load_file(first), loaded(base).adapter_roots())
    baked = []
    for number, title in enumerate(("kohya", "ComfyUI", "diffusers 0.21", "OneTrainer, OMI")):
        lora, out = tmp_path / f"{number}.safetensors", tmp_path / f"baked{number}.safetensors"
        save_file(renamed(network, NAMINGS[title]), lora)
        report = bake(base, [LoraSource(lora, 0.7, 0.3)], out)
        assert report.loras[0].unmatched == ()
        baked.append(weights_of(out))
    for weights in baked[1:]:
        assert all(torch.equal(weights[name], baked[0][name]) for name in baked[0])


def test_a_text_encoder_of_sd1_that_is_named_as_sdxl_s(tmp_path: Path) -> None:
    """diffusers exports SD1's as ``lora_te1_``; ``--to kohya`` gives it kohya's name."""
    tensors = {
        name.replace("lora_te_", "lora_te1_"): tensor
        for name, tensor in kohya_tensors("sd1", blocks="_attn").items()
    }
    assert any(name.startswith("lora_te1_") for name in tensors)
    for wanted in ("", "attentions_0_transformer_blocks_0_attn2", "down_blocks_1"):
        own = {n: t for n, t in tensors.items() if n.startswith("lora_te1_") or wanted in n}
        if wanted == "down_blocks_1":  # Told by the width of the texts that are read.
            own = {n: t for n, t in own.items() if "te1" in n or "attn2_to_k" in n}
        read = kohya_names(own)
        assert {read[name] for name in own} == {
            tuple(name.replace("lora_te1_", "lora_te_").split(".", 1)) for name in own
        }
    save_file(tensors, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", to="kohya")
    assert (
        load_file(tmp_path / "b.safetensors").keys() == kohya_tensors("sd1", blocks="_attn").keys()
    )


_TEXT_WIDTHS = {"sd1": 768, "sd2": 1024, "sdxl": 2048}
_OF_WIDTH: dict[str, Callable[[int], dict[str, tuple[int, ...]]]] = {
    "lora": lambda width: {"lora_down.weight": (2, width), "lora_up.weight": (640, 2)},
    "loha": lambda width: {
        "hada_w1_a": (640, 2), "hada_w1_b": (2, width),
        "hada_w2_a": (640, 2), "hada_w2_b": (2, width),
    },
    "lokr": lambda width: {"lokr_w1": (4, 8), "lokr_w2": (160, width // 8)},
    "lokr of pairs": lambda width: {
        "lokr_w1_a": (4, 2), "lokr_w1_b": (2, 8),
        "lokr_w2_a": (160, 2), "lokr_w2_b": (2, width // 8),
    },
    "whole": lambda width: {"diff": (640, width)},
    "glora": lambda width: {
        "a1.weight": (width, 2), "a2.weight": (2, width),
        "b1.weight": (640, 2), "b2.weight": (2, width),
    },
    "glora before 2.0": lambda width: {
        "a1.weight": (2, width), "a2.weight": (width, 2),
        "b1.weight": (2, width), "b2.weight": (640, 2),
    },
    "oft with lengths": lambda width: {"oft_blocks": (160, 4, 4), "dora_scale": (1, width)},
}  # fmt: skip


@pytest.mark.parametrize("kind", _OF_WIDTH)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_width_of_the_texts_tells_the_family_of_every_type(family: str, kind: str) -> None:
    # A layer that SD1 and SDXL both have, and whose name in LDM's UNet is no family's own.
    path = "input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    shapes = _OF_WIDTH[kind](_TEXT_WIDTHS[family])
    tensors = {f"lora_unet_{path}.{name}": torch.empty(shape) for name, shape in shapes.items()}
    expected = path if family == "sdxl" else path.replace(
        "input_blocks_4_1", "down_blocks_1_attentions_0"
    )  # fmt: skip
    modules = group_modules(tensors, "x")[0]
    assert list(modules) == [f"lora_unet_{expected}"]
    assert lora_family(modules).name == family


def test_a_text_encoder_alone_of_sd2_that_is_named_as_sdxl_s() -> None:
    path = "text_model_encoder_layers_0_mlp_fc1"
    shapes = {"lora_down.weight": (2, 1024), "lora_up.weight": (4096, 2)}
    tensors = {f"lora_te1_{path}.{name}": torch.empty(shape) for name, shape in shapes.items()}
    modules = group_modules(tensors, "x")[0]
    assert list(modules) == [f"lora_te_{path}"]
    assert lora_family(modules).name == "sd2"
