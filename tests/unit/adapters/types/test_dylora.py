"""DyLoRA: draws that agree everywhere, prefixes that stand alone, files that can be cut."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from lycoris.modules import get_module, make_module
from tests.tolerances import LAYER, assert_near
from torch import Tensor, nn

from lorasmith.adapters.base import AdaptedLayer, AdapterOptions
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.adapters.types.dylora import DyLoRA, cut_rank
from lorasmith.adapters.types.lora import LoRA


def make(rank: int = 8, unit: int = 1, alpha: float = 4.0) -> tuple[AdaptedLayer, DyLoRA]:
    g = torch.Generator().manual_seed(0)
    layer = nn.Linear(12, 10).requires_grad_(False)
    adapter = DyLoRA.create(
        layer, rank=rank, alpha=alpha, generator=g, options=AdapterOptions(unit=unit)
    )
    with torch.no_grad():
        adapter.lora_up.weight.normal_(generator=g)
    adapted = AdaptedLayer(layer)
    adapted.adapters.append(adapter)
    return adapted, adapter


def drawn(adapter: DyLoRA, key: int) -> int:
    adapter.begin_step(torch.tensor([1, 2, 3]), torch.tensor(key))
    assert adapter.masks is not None
    gate = adapter.masks.gate
    assert torch.equal(gate, gate[:1].expand_as(gate)), "samples of a step share the draw"
    count = int(gate[0].sum())
    assert torch.equal(gate[0], (torch.arange(adapter.rank) < count).float())
    return count


@pytest.mark.parametrize(("rank", "unit", "sizes"), [(8, 1, 8), (8, 4, 2), (6, 4, 2), (4, 9, 1)])
def test_prefixes_are_drawn_evenly(rank, unit, sizes):
    _, adapter = make(rank, unit)
    counts = Counter(drawn(adapter, key * 7919) for key in range(600))
    assert len(counts) == sizes
    assert max(counts) == rank
    assert all(count % adapter.unit == 0 or count == rank for count in counts)
    assert min(counts.values()) > 0.7 * 600 / sizes


def test_a_step_is_the_prefix_at_the_scale_of_the_whole():
    adapted, adapter = make()
    x = torch.randn(3, 5, 12)
    b = drawn(adapter, 77)
    assert 1 <= b < 8
    y = adapted(x)
    with torch.no_grad():
        whole = 4.0 / 8 * adapter.lora_up.weight[:, :b] @ adapter.lora_down.weight[:b]
    assert_near(y, adapted.layer(x) + x @ whole.T, LAYER)
    y.square().sum().backward()
    for grad in (adapter.lora_down.weight.grad, adapter.lora_up.weight.grad.T):
        assert grad[:b].any(1).all()
        assert not grad[b:].any()


def test_without_gradients_the_whole_applies():
    adapted, adapter = make()
    drawn(adapter, 77)
    x = torch.randn(3, 12)
    with torch.no_grad():
        seen = adapted(x)
    adapter.end_step()
    assert_near(seen, adapted(x), LAYER)


def test_draws_are_a_function_of_seed_step_and_module(tiny):
    network = tiny.network(algorithm="dylora", rank=8)

    def draws(seed: int, step: int, samples: list[int]) -> list[int]:
        network.begin_step(seed, step, samples)
        masks = [adapter.masks for adapter in network.adapters.values()]
        return [int(one.gate[0].sum()) for one in masks if one is not None]

    first = draws(1, 5, [10, 11])
    assert len(set(first)) > 4, "modules draw for themselves"
    assert draws(1, 5, [3]) == first, "micro-batches and processes of a step agree"
    assert draws(1, 6, [10, 11]) != first
    assert draws(2, 5, [10, 11]) != first


def trained(adapter: LoRA, target: Tensor, steps: int) -> None:
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=1e-2, weight_decay=0.0)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    adapted = AdaptedLayer(nn.Linear(24, 24, bias=False).requires_grad_(False))
    adapted.layer.weight.zero_()
    adapted.adapters.append(adapter)
    for step in range(steps):
        adapter.begin_step(torch.tensor([0]), torch.tensor(step * 7919 + 13))
        loss = (adapted(torch.eye(24)[None]) - target.T).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    adapter.end_step()


@pytest.mark.slow
def test_every_prefix_learns_what_its_rank_can_hold():
    """Within a few percent of the truncated SVD at every cut; a LoRA's prefixes are far off."""
    g = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(24, 24, generator=g))
    v, _ = torch.linalg.qr(torch.randn(24, 24, generator=g))
    values = 0.8 ** torch.arange(24)
    target = u @ torch.diag(values) @ v.T
    left = {}
    for kind in (DyLoRA, LoRA):
        adapter = kind.create(nn.Linear(24, 24), rank=8, alpha=8.0, generator=g)
        trained(adapter, target, 800)
        tensors = {f"x.{name}": t for name, t in adapter.state_dict().items()}
        for rank in (1, 2, 4, 8):
            cut = {n.removeprefix("x."): t for n, t in cut_rank(tensors, rank).items()}
            change = LoRA.from_tensors(nn.Linear(24, 24), cut).added()
            left[kind, rank] = float((change.detach() - target).square().sum())
    for rank in (1, 2, 4, 8):
        best = float(values[rank:].square().sum())
        assert left[DyLoRA, rank] < 1.1 * best + 0.01
    assert left[LoRA, 2] > 1.3 * left[DyLoRA, 2]


def test_a_cut_file_is_the_prefix_and_loads_everywhere(tiny, randomised):
    network = tiny.network(algorithm="dylora", rank=8, alpha=3.0, conv_rank=4)
    randomised(network)
    cut = cut_rank(network.state_dict(torch.float16), 5)
    assert cut.keys() == network.state_dict().keys()
    loaded = AdapterNetwork.load(cut, tiny.roots)
    assert loaded.report.unmatched == ()
    for key, adapter in loaded.adapters.items():
        whole = network.adapters[key]
        rank = min(5, whole.rank)
        assert adapter.rank == rank
        layer = network.targets[key].layer
        up = whole.lora_up.weight.detach().half().float().flatten(1)[:, :rank]
        down = whole.lora_down.weight.detach().half().float().flatten(1)[:rank]
        prefix = (up @ down * whole.scale).view(layer.weight.shape)
        assert_near(adapter.delta_weight(layer), prefix, LAYER)
        kind, parameters = get_module(cut, key)
        theirs = make_module(kind, parameters, key, layer).float().get_diff_weight()[0]
        assert_near(theirs, prefix, LAYER)


def test_a_cut_at_the_whole_rank_changes_nothing(tiny, randomised):
    network = tiny.network(algorithm="dylora", rank=4)
    randomised(network)
    tensors = network.state_dict()
    for name, tensor in cut_rank(tensors, 64).items():
        assert torch.equal(tensor, tensors[name])


@pytest.mark.parametrize(
    ("name", "rank", "message"),
    [("x.lora_mid.weight", 2, "not a plain LoRA"), ("x.alpha", 0, "at least 1 rank")],
)
def test_what_cannot_be_cut_is_refused(name, rank, message):
    tensors = {"x.lora_down.weight": torch.zeros(4, 3), "x.lora_up.weight": torch.zeros(3, 4)}
    with pytest.raises(ValueError, match=message):
        cut_rank({**tensors, name: torch.zeros(())}, rank)


def test_a_file_is_trained_on_as_dylora_when_asked(tiny):
    tensors = tiny.network(algorithm="dylora", rank=4).state_dict()
    plain = AdapterNetwork.load(tensors, tiny.roots)
    assert {type(adapter) for adapter in plain.adapters.values()} == {LoRA}
    again = AdapterNetwork.load(tensors, tiny.roots, algorithm="dylora")
    assert {type(adapter) for adapter in again.adapters.values()} == {DyLoRA}
