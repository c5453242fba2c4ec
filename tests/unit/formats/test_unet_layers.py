"""The lists of layers against the models that diffusers and transformers build."""

from __future__ import annotations

import pytest
from tests.published import PUBLISHED
from tests.unit.lora_tools.made_files import empty_networks

from lorasmith.adapters.targets import layers_of, targets_of
from lorasmith.formats.adapter_roots import AdapterRoot
from lorasmith.formats.unet_layers import UNETS, family_layers

USUAL = ("attention", "feed-forward", "projections")


@pytest.fixture(scope="module", params=list(PUBLISHED))
def roots(request: pytest.FixtureRequest) -> tuple[str, list[AdapterRoot]]:
    architecture = PUBLISHED[request.param]
    modules = empty_networks(request.param)
    texts = {part: modules[part] for part in architecture.family.parts[2:]}
    made = architecture.adapter_roots(modules["unet"], texts)
    return architecture.family_name, made


def test_every_layer_of_a_family_is_listed_with_its_part(roots) -> None:
    family, made = roots
    there = {target.key: target for root in made for target in layers_of(root)}
    # The pooled text's projection is a layer that no LoRA adapts.
    there = {key: target for key, target in there.items() if "text_projection" not in key}
    listed = family_layers(family)
    assert listed.keys() == there.keys()
    for key, (part, group) in listed.items():
        layer = there[key].layer
        assert part == (there[key].root.folder or there[key].part)
        spatial = layer.weight.ndim == 4 and layer.weight.shape[2:] != (1, 1)
        assert spatial <= (group in ("convolutions", "ends")), key


def test_kohyas_layers_are_three_of_the_groups(roots) -> None:
    family, made = roots
    usual = {key for key, (_, group) in family_layers(family).items() if group in USUAL}
    assert usual == {target.key for root in made for target in targets_of(root)}
    unet = [key for key in usual if key.startswith("lora_unet")]
    assert len(unet) == {"sd1": 192, "sd2": 192, "sdxl": 722}[family]


def test_the_order_is_that_of_the_modules(roots) -> None:
    family, made = roots
    order = [target.key for target in layers_of(made[0])]
    unet = [key for key in family_layers(family) if key.startswith("lora_unet")]
    blocks = [key.split("_attentions")[0] for key in order if "_attentions_0_proj_in" in key]
    assert blocks == [key.split("_attentions")[0] for key in unet if "_attentions_0_proj_in" in key]
    assert UNETS[family].plan.layers == 2
