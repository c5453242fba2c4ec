"""Every type that adds a weight: against lycoris, finite differences and dense layers."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from lycoris.modules import get_module, make_module
from tests.tolerances import LAYER, assert_near
from tests.unit.adapters.kinds import (
    ALPHA,
    KINDS,
    RANK,
    lycoris_of,
    merged_by,
    randomise,
    tensors_of,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lorasmith.adapters.additive import AdditiveAdapter
from lorasmith.adapters.base import AdaptedLayer
from lorasmith.adapters.dropout import Dropout
from lorasmith.adapters.registry import adapter_class, algorithm_of, fixed_options

LAYERS = {
    "linear": (lambda: nn.Linear(12, 18), (2, 5, 12)),
    "no_bias": (lambda: nn.Linear(12, 8, bias=False), (3, 12)),
    "conv1x1": (lambda: nn.Conv2d(6, 8, 1), (2, 6, 4, 5)),
    "conv3x3": (lambda: nn.Conv2d(6, 8, 3, stride=2, padding=1), (2, 6, 6, 5)),
}


kinds = pytest.mark.parametrize("name", list(KINDS))
cases = pytest.mark.parametrize("case", list(LAYERS))


def layer_of(case: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor]:
    build, shape = LAYERS[case]
    g = torch.Generator().manual_seed(1)
    layer = build().to(dtype).requires_grad_(False)
    for parameter in layer.parameters():
        parameter.normal_(generator=g)
    return layer, torch.randn(shape, generator=g, dtype=dtype)


def make(name: str, case: str, *, rank: int = RANK, effect: bool = True, dtype=torch.float64):
    """(wrapped layer, adapter, input)."""
    layer, x = layer_of(case, dtype)
    g = torch.Generator().manual_seed(3)
    adapter = adapter_class(KINDS[name].name).create(
        layer,
        rank=rank,
        alpha=ALPHA,
        generator=g,
        options=fixed_options(KINDS[name].name, KINDS[name].options),
    )
    assert isinstance(adapter, AdditiveAdapter)
    if effect:
        randomise(adapter)
    adapted = AdaptedLayer(layer)
    adapted.adapters.append(adapter)
    return adapted.to(dtype), adapter, x


@kinds
@cases
def test_a_module_of_lycoris_loads_and_means_the_same(name, case):
    layer, x = layer_of(case, torch.float32)
    theirs = lycoris_of(name, layer)
    tensors = {key: value.detach() for key, value in theirs.state_dict().items()}
    cls = algorithm_of(tensors)
    assert cls is adapter_class(KINDS[name].name)
    adapter = cls.from_tensors(layer, tensors)
    assert_near(adapter.merged_weight(layer), merged_by(theirs, layer), LAYER)
    adapted = AdaptedLayer(layer)
    adapted.adapters.append(adapter)
    assert_near(adapted(x), theirs(x), LAYER)


@kinds
@cases
def test_lycoris_reads_ours(name, case):
    adapted, adapter, _ = make(name, case, dtype=torch.float32)
    layer = adapted.layer
    theirs = lycoris_of(name, layer)
    tensors = tensors_of(adapter)
    theirs.load_state_dict(tensors)
    # Their module keeps the scale of its making; a file's is alpha over rank.
    assert float(tensors["alpha"]) == pytest.approx(float(theirs.alpha))
    assert_near(merged_by(theirs, layer), adapter.merged_weight(layer), LAYER)


@kinds
@cases
def test_lycoris_knows_the_file(name, case):
    """Through the door that its loader takes, which guesses rank and options from the tensors."""
    adapted, adapter, _ = make(name, case, dtype=torch.float32)
    layer = adapted.layer
    tensors = tensors_of(adapter)
    if "lokr_t2" in tensors:
        pytest.skip("lycoris 4.1 takes a Tucker LoKr's rank from the wrong side")
    if "dora_scale" in tensors and not KINDS[name].options.decompose_on_output:
        pytest.skip("lycoris 4.1 takes all lengths of a file for those of outputs")
    file = {f"x.{key}": value for key, value in tensors.items()}
    cls, parameters = get_module(file, "x")
    theirs = make_module(cls, parameters, "x", layer)
    assert theirs is not None
    assert_near(merged_by(theirs, layer), adapter.merged_weight(layer), LAYER)


@kinds
@cases
def test_begins_with_lycoris_names_and_shapes(name, case):
    adapted, adapter, _ = make(name, case, dtype=torch.float32)
    theirs = lycoris_of(name, adapted.layer).state_dict()
    ours = tensors_of(adapter)
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in theirs.items()
    }


@kinds
@cases
def test_new_adapter_changes_nothing(name, case):
    """To the last bit, but for lengths, which are divided by what they were measured as."""
    adapted, _, x = make(name, case, effect=False, dtype=torch.float32)
    if "dora_scale" in adapted.adapters[0].state_dict():
        assert_near(adapted(x), adapted.layer(x), LAYER)
    else:
        assert torch.equal(adapted(x), adapted.layer(x))


@kinds
@cases
def test_forward_is_the_layer_with_the_merged_weight(name, case):
    adapted, adapter, x = make(name, case, rank=2)
    for strength in (1.0, 0.4):
        adapter.strength = strength
        merged = adapter.merged_weight(adapted.layer, strength)
        wanted = torch.func.functional_call(adapted.layer, {"weight": merged}, (x,))
        assert_near(adapted(x), wanted, LAYER)
        general = adapter(x, adapted.layer(x), adapted.layer)
        assert_near(general, wanted, LAYER)
    change = adapted.layer.weight + 0.4 * adapter.delta_weight(adapted.layer)
    assert_near(change, merged, LAYER)


@kinds
@cases
def test_gradients_against_finite_differences(name, case):
    adapted, adapter, x = make(name, case)
    names = [name for name, _ in adapter.named_parameters()]

    def run(x: Tensor, *values: Tensor) -> Tensor:
        swapped = {f"adapters.0.{name}": v for name, v in zip(names, values, strict=True)}
        return torch.func.functional_call(adapted, swapped, (x,))

    values = [p.detach().clone().requires_grad_() for p in adapter.parameters()]
    assert torch.autograd.gradcheck(run, [x.clone().requires_grad_(), *values], fast_mode=True)


@kinds
@cases
def test_norm_and_rescale_against_the_dense_weight(name, case):
    _, adapter, _ = make(name, case, rank=2)
    before = adapter.added().detach()
    assert_near(adapter.norm(), before.norm(), LAYER)
    with torch.no_grad():
        adapter.shrink(torch.tensor(0.3, dtype=torch.float64))
    assert_near(adapter.added(), 0.3 * before, LAYER)


@pytest.mark.parametrize("drop", [Dropout(neuron=0.4), Dropout(rank=0.4), Dropout(module=0.5)])
@pytest.mark.parametrize(
    "name", ["locon tucker", "dora", "dora out", "loha", "lokr", "lokr decomposed"]
)
@pytest.mark.parametrize("case", ["linear", "conv3x3"])
def test_dropout_is_the_same_again_and_by_sample(name, case, drop):
    adapted, adapter, x = make(name, case, rank=2)
    adapter.dropout = drop
    x = torch.cat([x] * 8).requires_grad_()
    keys = torch.arange(16) * 7919 + 11
    adapter.begin_step(keys)
    first = adapted(x)
    assert torch.equal(first, checkpoint(adapted, x, use_reentrant=False))
    grads = [torch.autograd.grad(first.square().sum(), x, retain_graph=True)[0]]
    again = checkpoint(adapted, x, use_reentrant=False)
    grads.append(torch.autograd.grad(again.square().sum(), x)[0])
    assert torch.equal(*grads)
    adapter.end_step()
    whole = adapted(x)
    base = adapted.layer(x)
    off = [torch.allclose(a, b) for a, b in zip(first, base, strict=True)]
    if drop.module:
        on = [torch.allclose(a, b) for a, b in zip(first, whole, strict=True)]
        assert all(a != b for a, b in zip(on, off, strict=True))
        assert 0 < sum(on) < len(on)
    else:
        assert not torch.allclose(first, whole)
    # One sample alone has the masks that it has among others.
    adapter.begin_step(keys[3:4])
    assert_near(adapted(x[3:4]), first[3:4], LAYER)


@pytest.mark.parametrize("name", ["loha", "lokr", "lokr decomposed"])
def test_rank_dropout_keeps_the_mean(name):
    adapted, adapter, x = make(name, "linear", rank=2)
    adapter.dropout = Dropout(rank=0.5)
    adapter.begin_step(torch.arange(4000) * 104729)
    x = x[:1].requires_grad_()
    mean = adapted(x.expand(4000, -1, -1)).mean(0)
    adapter.end_step()
    change = (adapted(x) - adapted.layer(x))[0]
    torch.testing.assert_close(mean, adapted(x)[0], atol=0.1 * change.abs().max().item(), rtol=0)


@pytest.mark.parametrize("name", ["dora", "dora out", "loha", "lokr", "lokr decomposed"])
@pytest.mark.parametrize("case", ["linear", "conv3x3"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_sees_small_changes(name, case, dtype):
    """A change far below the spacing of the weight's own numbers still has its effect."""
    adapted, _, x = make(name, case, effect=False)
    layer = adapted.layer.to(dtype).double()
    adapter = (
        type(adapted.adapters[0])
        .create(
            layer,
            rank=2,
            alpha=None,
            generator=torch.Generator().manual_seed(4),
            options=fixed_options(KINDS[name].name, KINDS[name].options),
        )
        .double()
    )
    adapted.adapters[0] = adapter
    with torch.no_grad():
        for p in adapter.parameters():
            if not p.any():
                p.normal_(std=1e-4, generator=torch.Generator().manual_seed(5))
    change = (adapted(x) - adapted.layer(x)).detach()
    layer.to(dtype)
    adapter.float()
    delta = adapter.delta(x.to(dtype), layer)
    assert delta.dtype == dtype
    assert ((delta.double() - change).norm() / change.norm()).item() < 0.05
    adapted(x.to(dtype)).float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in adapter.parameters())


@kinds
def test_autocast_runs(name):
    adapted, _, x = make(name, "linear", dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = adapted(x.requires_grad_())
    y.sum().backward()
    assert y.dtype == torch.bfloat16


@pytest.mark.parametrize(("by_input", "shape"), [(True, (1, 12)), (False, (18, 1))])
def test_lengths_are_of_inputs_unless_asked_otherwise(by_input, shape):
    """And training goes on with those that a file has, whatever new ones would be."""
    name = "dora" if by_input else "dora out"
    adapted, adapter, x = make(name, "linear", effect=False)
    weight = adapted.layer.weight
    assert tuple(adapter.dora_scale.shape) == shape
    wanted = weight.norm(dim=0 if by_input else 1).float()
    assert_near(adapter.dora_scale.flatten().float(), wanted, LAYER)
    randomise(adapter)
    again = type(adapter).from_tensors(adapted.layer.float(), tensors_of(adapter))
    assert torch.equal(again.dora_scale, adapter.dora_scale.float())
    adapted.adapters[0] = again
    adapted(x.float()).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in again.parameters())
    merged = again.merged_weight(adapted.layer)
    lengths = merged.norm(dim=0 if by_input else 1)
    assert_near(lengths, again.dora_scale.abs().flatten(), LAYER)


def test_two_types_on_one_layer_add_up():
    adapted, first, x = make("dora", "linear", rank=2)
    _, second, _ = make("loha", "linear", rank=2)
    adapted.adapters.append(second)
    first.strength, second.strength = 0.5, -2.0
    layer = adapted.layer
    merged = layer.weight + 0.5 * first.delta_weight(layer) - 2.0 * second.delta_weight(layer)
    wanted = torch.func.functional_call(layer, {"weight": merged}, (x,))
    assert_near(adapted(x), wanted, LAYER)


MISFITS: list[Mapping[str, tuple[int, ...]]] = [
    {"hada_w1_a": (18, 2), "hada_w1_b": (2, 12), "hada_w2_a": (18, 2), "hada_w2_b": (2, 11)},
    {"hada_w1_a": (9, 2), "hada_w1_b": (2, 12), "hada_w2_a": (18, 2), "hada_w2_b": (2, 12)},
    {"lokr_w1": (3, 3), "lokr_w2": (6, 3)},
    {"lokr_w1_a": (3, 2), "lokr_w1_b": (1, 3), "lokr_w2": (6, 4)},
    {"lokr_w1": (3, 3), "lokr_w2_a": (6, 2), "lokr_w2_b": (3, 4)},
    {"lora_down.weight": (2, 12), "lora_up.weight": (18, 2), "dora_scale": (5, 1)},
]


@pytest.mark.parametrize("shapes", MISFITS)
def test_misfits_are_refused(shapes):
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    cls = algorithm_of(tensors)
    assert cls is not None
    with pytest.raises(ValueError, match=r"layer (takes|has)|make no weight"):
        cls.from_tensors(nn.Linear(12, 18), tensors)


def test_half_precision_files_keep_the_lengths(tiny):
    """Rounding a length moves its whole row, by more than training does."""
    network = tiny.network(algorithm="dora", alpha=3.0)
    saved = network.state_dict(torch.float16)
    exact = network.state_dict()
    for name, tensor in saved.items():
        wanted = torch.float32 if name.endswith("dora_scale") else torch.float16
        assert tensor.dtype == wanted or name.endswith("alpha")
    lengths = [name for name in saved if name.endswith("dora_scale")]
    assert len(lengths) == len(network)
    assert all(torch.equal(saved[name], exact[name]) for name in lengths)
