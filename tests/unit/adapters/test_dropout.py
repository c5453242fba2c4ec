"""Masks are functions of seed, step, module and sample, with the right odds."""

from __future__ import annotations

import pytest
import torch
from tests.tolerances import NETWORK, assert_near

from lorasmith.adapters.dropout import Dropout, module_id, step_keys, uniform


def keys(modules=("a", "b"), seed=0, step=0, samples=(0, 1, 2)) -> torch.Tensor:
    return step_keys(torch.tensor([module_id(m) for m in modules]), seed, step, samples)


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


@pytest.fixture
def dropping(tiny, randomised):
    def build(**odds: float):
        network = tiny.network(rank=8, dropout=Dropout(**odds))
        randomised(network)
        network.attach()
        return network

    return build


def test_same_step_same_masks_whatever_came_before(tiny, dropping):
    network = dropping(neuron=0.2, rank=0.2, module=0.2)
    network.begin_step(1, 5, [10, 11])
    first = tiny.predict()
    network.begin_step(1, 6, [10, 11])
    assert not torch.equal(tiny.predict(), first)
    network.begin_step(1, 5, [10, 11])
    assert torch.equal(tiny.predict(), first)


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
    return torch.stack([adapter.gate for adapter in adapters])


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
