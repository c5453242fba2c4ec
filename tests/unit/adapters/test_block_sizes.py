"""Blocks: sizes, rates, groups, and what is not computed."""

from __future__ import annotations

import pytest

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.adapters.targets import BlockSizes, Selection, Size, layers_of, select
from lorasmith.formats.block_weights import BLOCKS, learning_weights, unet_block_map

# Blocks of SD1 by number in the original code, with the count of kohya's 12 layers a transformer.
WITH_ATTENTION = {"IN01", "IN02", "IN04", "IN05", "IN07", "IN08", "M00"} | {
    f"OUT{n:02}" for n in range(3, 12)
}
FULL = Selection(("full",))


def network(roots, weights: str, selection: Selection | None = None, **options) -> AdapterNetwork:
    """LoRA of rank 4 with block weights, for a UNet of SD1's division."""
    blocks = options.pop("blocks", unet_block_map())
    rule = BlockSizes(
        blocks,
        Size(4),
        Size(4),
        weights=learning_weights(weights, side=blocks.side),
        **{key: options.pop(key) for key in ("ranks", "alphas", "conv_ranks") if key in options},
    )
    return AdapterNetwork.create_sized(roots, rule, selection=selection, rates=rule.rate, **options)


def test_every_layer_of_sd15_has_a_block(sd15_roots):
    blocks = unet_block_map()
    assert set(blocks.names) == set(BLOCKS)
    counts: dict[str, int] = {}
    for target in select(sd15_roots, Selection()):
        counts[blocks.block(target)] = counts.get(blocks.block(target), 0) + 1
    assert counts == {"BASE": 72, **dict.fromkeys(sorted(WITH_ATTENTION), 12)}
    assert {blocks.block(t) for root in sd15_roots for t in layers_of(root)} == set(BLOCKS)


def test_demo_sized_models_have_fewer(tiny):
    blocks = unet_block_map(levels=2, layers_per_block=1)
    names = ("BASE", "IN00", "IN01", "IN02", "IN03", "M00", "OUT00", "OUT01", "OUT02", "OUT03")
    assert blocks.names == names
    assert {blocks.block(t) for root in tiny.roots for t in layers_of(root)} == set(names)


def test_blocks_of_weight_0_get_no_adapters(sd15_roots):
    made = network(sd15_roots, "OUTALL")
    assert made.parts() == {"unet": 9 * 12, "text_encoder": 72}
    assert all("_up_blocks_" in key for key in made.adapters if key.startswith("lora_unet"))
    assert network(sd15_roots, "rest=0 OUT=1").parts() == {"unet": 9 * 12}
    assert network(sd15_roots, "rest=0 M00=1").parts() == {"unet": 12}


def test_blocks_of_one_rate_share_a_group(sd15_roots):
    groups = network(sd15_roots, "rest=1 IN=0.25 OUT04=0.25").parameter_groups()
    assert [(g.name, g.part, g.rate) for g in groups] == [
        ("unet x0.25", "unet", 0.25),
        ("unet", "unet", 1.0),
        ("text_encoder", "text_encoder", 1.0),
    ]
    blocks = unet_block_map()
    assert blocks.ranges({blocks.block(t) for t in groups[0].targets}) == (
        "IN01-IN02, IN04-IN05, IN07-IN08, OUT04"
    )
    assert [len(g.targets) for g in groups] == [7 * 12, 9 * 12, 72]


def test_plain_networks_have_the_groups_of_their_parts(sd15_roots):
    groups = AdapterNetwork.create(sd15_roots, rank=2).parameter_groups()
    assert [(g.name, g.rate) for g in groups] == [("unet", 1.0), ("text_encoder", 1.0)]
    assert [len(g.parameters) for g in groups] == [2 * 192, 2 * 72]


def test_lora_plus_sets_the_up_matrices_apart(sd15_roots):
    made = network(sd15_roots, "rest=0 OUT=1 M00=0.5", up_rate=16.0)
    groups = {group.name: group for group in made.parameter_groups()}
    assert {name: group.rate for name, group in groups.items()} == {
        "unet x0.5": 0.5, "unet x8": 8.0, "unet": 1.0, "unet x16": 16.0,
    }  # fmt: skip
    up = [adapter.lora_up.weight for adapter in made.adapters.values()]
    fast = [*groups["unet x8"].parameters, *groups["unet x16"].parameters]
    assert {id(p) for p in fast} == {id(p) for p in up}
    everything = [p for group in groups.values() for p in group.parameters]
    assert len(everything) == len({id(p) for p in everything}) == 2 * len(made)


def test_ranks_and_alphas_by_block(sd15_roots):
    made = network(
        sd15_roots,
        "ALL",
        FULL,
        ranks={"OUT03": 8, "M00": 0, "BASE": 2},
        alphas={"OUT03": 1.0},
        conv_ranks={"IN03": 3, "M00": 1},
    )
    by_key = made.adapters
    one = by_key["lora_unet_up_blocks_1_attentions_0_proj_in"]
    assert (one.rank, one.scale) == (8, 1.0 / 8)
    assert by_key["lora_unet_up_blocks_1_attentions_1_proj_in"].rank == 4
    assert by_key["lora_unet_up_blocks_1_resnets_0_conv1"].rank == 4
    assert by_key["lora_unet_down_blocks_0_downsamplers_0_conv"].rank == 3
    assert by_key["lora_te_text_model_encoder_layers_0_mlp_fc1"].rank == 2
    middle = [key for key in by_key if "_mid_block_" in key]
    assert len(middle) == 4
    assert all(by_key[key].rank == 1 for key in middle)


def backward_reaches(tiny, made: AdapterNetwork) -> dict[str, bool]:
    """Whether a gradient goes back into the outputs of each stage of the UNet."""
    unet = tiny.unet
    stages = {
        "down 0": unet.down_blocks[0], "down 1": unet.down_blocks[1], "mid": unet.mid_block,
        "up 0": unet.up_blocks[0], "up 1": unet.up_blocks[1],
    }  # fmt: skip
    reached = {}
    handles = []
    for name, module in stages.items():

        def look(_module, _inputs, output, name=name):
            first = output[0] if isinstance(output, tuple) else output
            reached[name] = first.requires_grad

        handles.append(module.register_forward_hook(look))
    with made.attached():
        tiny.predict().square().mean().backward()
    for handle in handles:
        handle.remove()
    return reached


def test_nothing_is_computed_backward_below_the_first_trained_block(tiny):
    small = unet_block_map(levels=2, layers_per_block=1)
    last = backward_reaches(tiny, network(tiny.roots, "rest=0 OUT03=1", blocks=small))
    assert last == {"down 0": False, "down 1": False, "mid": False, "up 0": False, "up 1": True}
    middle = backward_reaches(tiny, network(tiny.roots, "rest=0 M00=1", blocks=small))
    assert middle == {"down 0": False, "down 1": False, "mid": True, "up 0": True, "up 1": True}
    first = backward_reaches(tiny, network(tiny.roots, "rest=0 IN01=1", blocks=small))
    assert all(first.values())


def test_mirrored_curves_share_their_groups(sd15_roots):
    """Their values differ in the last bit; a group's name must still be its own."""
    made = network(sd15_roots, "down=cosine+0.01 up=sine+0.01")
    names = [group.name for group in made.parameter_groups()]
    assert len(names) == len(set(names))
    assert len(names) <= 12 + 1


def test_only_keeps_some_and_names_the_rest(tiny):
    whole = AdapterNetwork.create(tiny.roots, rank=2)
    part = whole.filter(lambda target: target.part == "unet")
    assert part.parts() == {"unet": whole.parts()["unet"]}
    assert all(part.adapters[key] is whole.adapters[key] for key in part.adapters)
    left = whole.state_dict().keys() - part.state_dict().keys()
    assert set(part.report.unmatched) == left


@pytest.mark.parametrize("text", ["rest=0 OUT=1 M00=0.5", "up=sine+0.1 down=zeros mid=0"])
def test_rates_are_the_weights(sd15_roots, text):
    made, blocks = network(sd15_roots, text), unet_block_map()
    weights = learning_weights(text)
    for group in made.parameter_groups():
        for target in group.targets:
            assert group.rate == pytest.approx(weights[blocks.block(target)], rel=1e-5)
    assert {blocks.block(t) for t in made.targets.values()} == {
        block for block in (*WITH_ATTENTION, "BASE") if weights[block]
    }
