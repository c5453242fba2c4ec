"""Masks are functions of seed, step, module and sample, with the right odds."""

from __future__ import annotations

import pytest
import torch
from tests.tolerances import NETWORK, assert_near

from lorasmith.adapters import dropout
from lorasmith.adapters.dropout import (
    Dropout,
    as_keys,
    draw_masks,
    module_id,
    step_keys,
    uniform,
)


def keys(modules=("a", "b"), seed=0, step=0, samples=(0, 1, 2)) -> torch.Tensor:
    return step_keys(as_keys([module_id(m) for m in modules]), seed, step, samples)


def test_keys_depend_on_their_own_module_and_sample_alone():
    both = keys()
    assert torch.equal(keys(modules=("b",))[0], both[1])
    assert torch.equal(keys(samples=(2, 0))[:, 0], both[:, 2])
    assert not torch.equal(keys(step=1), both)
    assert not torch.equal(keys(seed=1), both)
    assert len(both.unique()) == both.numel()


def test_uniform_is_uniform_and_independent():
    u = uniform(keys(samples=range(200)), 500).double()
    assert u.min() >= 0
    assert u.max() < 1
    counts = torch.histc(u, bins=50, min=0, max=1)
    expected = u.numel() / 50
    # chi² with 49 degrees of freedom: 95 is beyond the 0.9999 quantile.
    assert ((counts - expected).square() / expected).sum() < 95
    flat = u.reshape(-1, 500)
    for pair in ((flat[:, 0], flat[:, 1]), (flat[0], flat[1]), (flat[0, 1:], flat[0, :-1])):
        assert abs(torch.corrcoef(torch.stack(pair))[0, 1]) < 0.2


def test_uniform_takes_each_position_by_itself():
    assert torch.equal(uniform(keys(), 3), uniform(keys(), 10)[..., :3])


def test_the_hash_is_what_it_was_when_runs_that_are_to_be_resumed_began():
    """From a version that hashed in 64-bit numbers: by its key, a mask is forever."""
    both = keys(("lora_unet_a", "lora_te_b"), 42, 7, (0, 123456789012))
    assert (both.to(torch.int64) & 0xFFFFFFFF).tolist() == [
        [3020523481, 2918998262], [3969614757, 115987624]
    ]  # fmt: skip
    assert (uniform(both, 4) * 2**24).int().tolist() == [
        [[10654344, 12465699, 14129876, 7506040], [3362085, 4996197, 12858873, 15389415]],
        [[1876579, 16700627, 3869040, 11043053], [1751461, 9142657, 4183462, 4346559]],
    ]


def test_masks_are_where_the_uniform_numbers_are_not_below_the_odds():
    own, odds = keys(samples=range(3)), Dropout(neuron=0.3, rank=0.25, module=0.4)
    for index, masks in enumerate(draw_masks(odds, own, [3, 5], [0, 0], torch.float32)):
        width = (3, 5)[index]
        draws = uniform(own[index], 1 + width)
        kept = (draws[:, :1] >= 0.4).float()
        gate = kept * (draws[:, 1:] >= 0.25) / 0.75
        assert torch.equal(masks.kept, kept)
        assert torch.equal(masks.gate, gate)
        neurons = uniform(own[index] ^ 0x5BD1E995, 7 * width).view(3, 7, width) >= 0.3
        mask, ready = masks.of(7, torch.float32)
        assert not ready
        assert torch.equal(mask, gate[:, None] * neurons / 0.7)
        assert torch.equal(masks.of(2, torch.float32)[0], mask[:, :2])


@pytest.mark.parametrize("at_once", [1, 40, 1000, 1 << 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masks_made_at_once_are_those_made_one_by_one(monkeypatch, at_once, dtype):
    own, odds = keys("abcdef"), Dropout(neuron=0.3, rank=0.25, module=0.4)
    gates, rows = [3, 3, 3, 5, 5, 8], [4, 9, 9, 2, 0, 30]
    monkeypatch.setattr(dropout, "_AT_ONCE_ON_CPU", at_once)
    for index, masks in enumerate(draw_masks(odds, own, gates, rows, dtype)):
        alone = draw_masks(odds, own[index : index + 1], gates[index:][:1], [0], dtype)[0]
        assert torch.equal(masks.gate, alone.gate)
        mask, ready = masks.of(max(1, rows[index]), dtype)
        assert ready == bool(rows[index])
        assert torch.equal(mask, alone.of(max(1, rows[index]), dtype)[0])
        other = torch.float32 if dtype == torch.bfloat16 else torch.bfloat16
        assert torch.equal(masks.of(3, other)[0], alone.of(3, other)[0])


def test_masks_that_are_too_large_together_are_made_when_they_are_needed(monkeypatch):
    monkeypatch.setattr(dropout, "_MOST_BYTES", 3 * 4 * (3 * 9 + 8 * 4))
    made = draw_masks(Dropout(neuron=0.5), keys("abc"), [3, 8, 8], [9, 4, 30], torch.float32)
    assert [masks.neurons is not None for masks in made] == [True, True, False]


@pytest.fixture
def dropping(tiny, randomised):
    def build(**odds: float):
        network = tiny.network(rank=8, dropout=Dropout(**odds))
        randomised(network)
        network.attach()
        return network

    return build


@pytest.mark.slow
def test_same_step_same_masks_whatever_came_before(tiny, dropping):
    network = dropping(neuron=0.2, rank=0.2, module=0.2)
    network.begin_step(1, 5, [10, 11])
    first = tiny.predict()
    network.begin_step(1, 6, [10, 11])
    assert not torch.equal(tiny.predict(), first)
    network.begin_step(1, 5, [10, 11])
    assert torch.equal(tiny.predict(), first)


def test_masks_of_a_size_seen_before_are_made_ahead_and_the_same(tiny, dropping):
    network = dropping(neuron=0.2, rank=0.2, module=0.2)

    def step(number, size=(16, 16)):
        network.begin_step(1, number, [10, 11], size=size)
        return tiny.predict()

    def ready():
        return [a.masks.neurons is not None for a in network.adapters.values()]

    first = step(5)
    parts = [target.part == "unet" for target in network.targets.values()]
    assert torch.equal(step(5), first)
    assert ready() == parts, "the text encoder has not run"
    tiny.encode()
    assert torch.equal(step(5, (8, 8)), first)
    assert not any(ready()), "of that size nothing is known"
    assert torch.equal(step(5), first)
    assert all(ready())
    longer = torch.cat([tiny.hidden, tiny.hidden], 1)
    shorter, tiny.hidden = tiny.hidden, longer
    long = step(5)
    assert torch.equal(step(5), long)
    tiny.hidden = shorter
    assert torch.equal(step(5), first), "of larger masks it takes the beginning"


def test_a_sample_does_not_see_its_neighbours(tiny, dropping):
    network = dropping(neuron=0.2, rank=0.2, module=0.2)
    network.begin_step(1, 5, [10, 11])
    together = tiny.predict()
    tiny.noisy, tiny.hidden = tiny.noisy[1:], tiny.hidden[1:]
    tiny.timesteps = tiny.timesteps[1:]
    network.begin_step(1, 5, [11])
    assert_near(tiny.predict()[0], together[1], NETWORK)


def test_sampling_sees_the_whole_adapter(tiny, dropping):
    network = dropping(rank=0.5)
    whole = tiny.predict()
    network.begin_step(1, 5, [10, 11])
    assert not torch.equal(tiny.predict(), whole)
    with torch.no_grad():
        assert torch.equal(tiny.predict(), whole)
    network.end_step()
    assert torch.equal(tiny.predict(), whole)


@pytest.mark.slow
def test_a_block_compiles_whole_with_and_without_masks(tiny, dropping):
    network = dropping(neuron=0.2, rank=0.2, module=0.2)
    whole = tiny.predict()
    network.begin_step(1, 5, [10, 11])
    eager = tiny.predict()
    block = tiny.unet.mid_block.attentions[0].transformer_blocks[0]
    block.compile(fullgraph=True, backend="eager")
    assert_near(tiny.predict(), eager, NETWORK)
    network.end_step()
    assert_near(tiny.predict(), whole, NETWORK)


def test_text_chunks_of_a_sample_share_its_masks(tiny, dropping):
    network = dropping(rank=0.5)
    network.begin_step(1, 5, [10])
    tiny.ids = tiny.ids[:1].repeat(3, 1)
    hidden = tiny.encode()
    assert_near(hidden[0], hidden[2], NETWORK)


def masks(network, **odds):
    adapters = list(network.adapters.values())
    network.begin_step(0, 0, list(range(400)))
    return torch.stack([adapter.masks.gate for adapter in adapters])


def test_odds_and_scales(dropping):
    gates = masks(dropping(rank=0.25))
    values, counts = gates.unique(return_counts=True)
    assert_near(values, torch.tensor([0.0, 1 / 0.75]), NETWORK)
    assert counts[0] / gates.numel() == pytest.approx(0.25, abs=0.01)


def test_module_dropout_drops_whole_modules_unscaled(dropping):
    gates = masks(dropping(module=0.4))
    assert torch.equal(gates.amin(-1), gates.amax(-1))
    assert gates.unique().tolist() == [0.0, 1.0]
    assert (1 - gates.mean()).item() == pytest.approx(0.4, abs=0.01)


def test_neuron_dropout_keeps_the_mean(dropping):
    network = dropping(neuron=0.3)
    adapter = next(iter(network.adapters.values()))
    network.begin_step(0, 0, list(range(50)))
    h = adapter.drop(torch.ones(50, 20, 8))
    assert (h == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert h.max().item() == pytest.approx(1 / 0.7)
