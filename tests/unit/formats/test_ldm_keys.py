"""Names translate both ways for models of any size."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny_models import tiny_architecture

from lorasmith.formats.ldm_keys import (
    UNetPlan,
    VaePlan,
    inverted,
    translate,
    unet_plan_of_diffusers,
    unet_plan_of_ldm,
    unet_table,
    vae_from_old_diffusers,
    vae_plan_of_diffusers,
    vae_plan_of_ldm,
    vae_table,
)
from lorasmith.models.export import ldm_weights
from lorasmith.models.families.table import Architecture
from lorasmith.models.layout import canonical_shapes, single_file_layout
from lorasmith.models.load import empty_modules

unet_plans = st.builds(
    UNetPlan, st.integers(1, 4), st.lists(st.booleans(), min_size=1, max_size=6).map(tuple)
)
vae_plans = st.builds(VaePlan, st.integers(1, 4), st.integers(1, 6))


def weights_of(names: dict[str, str]) -> list[str]:
    """A weight below every module, as a file would have it."""
    return [
        f"{ldm}.norm.weight" if new.startswith(("down_blocks", "up_blocks")) and "attentions" in new
        else f"{ldm}.weight"
        for ldm, new in names.items()
    ]  # fmt: skip


@given(unet_plans)
def test_unet_names_go_there_and_back(plan: UNetPlan) -> None:
    table = unet_table(plan)
    back = inverted(table)
    ldm = weights_of(table)
    diffusers = [translate(name, table) for name in ldm]
    assert None not in diffusers
    assert [translate(str(name), back) for name in diffusers] == ldm
    assert unet_plan_of_ldm(ldm) == plan
    assert unet_plan_of_diffusers(str(name) for name in diffusers) == plan


@given(vae_plans)
def test_vae_names_go_there_and_back(plan: VaePlan) -> None:
    table = vae_table(plan)
    back = inverted(table)
    ldm = [f"{name}.weight" for name in table]
    diffusers = [str(translate(name, table)) for name in ldm]
    assert [translate(name, back) for name in diffusers] == ldm
    assert vae_plan_of_ldm(ldm) == plan
    assert vae_plan_of_diffusers(diffusers) == plan


attention = st.lists(st.booleans(), min_size=1, max_size=4)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(attention, st.integers(1, 3), st.booleans(), st.sampled_from([2, 4, 8]))
def test_every_weight_of_diffusers_own_modules_is_named(
    attention: list[bool], layers: int, linear: bool, factor: int
) -> None:
    """The modules of diffusers are the truth: all their weights, and no others, come back."""
    architecture = _architecture(attention, layers, linear, factor)
    modules = empty_modules(architecture)
    family = architecture.family
    shapes = {name: tuple(tensor.shape) for name, tensor in ldm_weights(modules, family)}
    layout = single_file_layout(shapes, family)
    assert layout.unknown == []
    assert layout.unused == []
    for part, found in canonical_shapes(layout, shapes).items():
        wanted = {name: tuple(p.shape) for name, p in modules[part].named_parameters()}
        assert found == wanted


def _architecture(attention: list[bool], layers: int, linear: bool, factor: int) -> Architecture:
    tiny = tiny_architecture(latent_factor=factor, linear=linear)
    down = ["CrossAttnDownBlock2D" if has else "DownBlock2D" for has in attention]
    unet = tiny.denoiser | {
        "block_out_channels": [8, 16, 16, 24][: len(down)],
        "layers_per_block": layers,
        "down_block_types": down,
        "up_block_types": [name.replace("Down", "Up") for name in reversed(down)],
    }
    return dataclasses.replace(tiny, denoiser=unet, vae=tiny.vae | {"layers_per_block": layers})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("encoder.mid_block.attentions.0.query.weight",
         "encoder.mid_block.attentions.0.to_q.weight"),
        ("decoder.mid_block.attentions.0.proj_attn.bias",
         "decoder.mid_block.attentions.0.to_out.0.bias"),
        ("decoder.mid_block.attentions.0.group_norm.bias",
         "decoder.mid_block.attentions.0.group_norm.bias"),
        ("encoder.conv_in.weight", "encoder.conv_in.weight"),
    ],
)  # fmt: skip
def test_old_diffusers_vae_names(old: str, new: str) -> None:
    assert vae_from_old_diffusers(old) == new


def test_unequal_levels_are_not_an_ldm_unet() -> None:
    names = ["input_blocks.0.0.weight", "input_blocks.2.0.op.weight", "input_blocks.7.0.in_layers"]
    with pytest.raises(ValueError, match="levels of equal size"):
        unet_plan_of_ldm([*names, "input_blocks.7.0.in_layers.0.weight"])
