"""T-LoRA: ranks by noise level, a start that changes nothing, files that are plain LoRAs."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lycoris.modules import get_module, make_module
from lycoris.modules.tlora import (
    TLoraModule,
    clear_timestep_mask,
    compute_timestep_mask,
    set_timestep_mask,
)
from peft import LoraConfig, inject_adapter_in_model
from tests.tolerances import LAYER, assert_near
from torch import Tensor, nn

from lorasmith.adapters.base import AdaptedLayer, AdapterOptions, Layer
from lorasmith.adapters.dropout import Dropout
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.adapters.types.dylora import cut_rank
from lorasmith.adapters.types.lora import LoRA
from lorasmith.adapters.types.tlora import (
    DownFromStart,
    TLoRA,
    UpFromStart,
    orthonormal_rows,
    ranks_at,
    smallest_singular_values,
)

T = 1000


def layer_of(kind: str) -> Layer:
    if kind == "linear":
        return nn.Linear(12, 10).requires_grad_(False)
    size = 3 if kind == "conv" else 1
    return nn.Conv2d(12, 10, size, padding=size // 2).requires_grad_(False)


def input_of(layer: Layer, count: int = 3) -> Tensor:
    g = torch.Generator().manual_seed(5)
    shape = (count, 5, 12) if isinstance(layer, nn.Linear) else (count, 12, 4, 4)
    return torch.randn(shape, generator=g)


def make(layer: Layer, rank: int = 4, alpha: float = 3.0, **options: object) -> TLoRA:
    return TLoRA.create(
        layer,
        rank=rank,
        alpha=alpha,
        generator=torch.Generator().manual_seed(0),
        options=AdapterOptions(**options),  # type: ignore[arg-type]
    )


def moved(adapter: TLoRA) -> TLoRA:
    """As after some training."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=g), alpha=0.3)
    return adapter


def on(layer: Layer, adapter: TLoRA) -> AdaptedLayer:
    adapted = AdaptedLayer(layer)
    adapted.adapters.append(adapter)
    return adapted


def gone(timestep: int) -> float:
    return (T - timestep) / T


@given(
    st.integers(0, T - 1), st.integers(1, 64), st.integers(1, 64), st.sampled_from([0.5, 1.0, 2.0])
)
def test_ranks_are_those_of_lycoris(timestep: int, rank: int, least: int, power: float) -> None:
    least = min(least, rank)
    theirs = int(compute_timestep_mask(timestep, T, rank, least, power).sum())
    assert ranks_at(gone(timestep), rank, least, power) == theirs


@given(st.integers(1, 64))
def test_ranks_fall_from_all_to_the_least(rank: int) -> None:
    counts = [ranks_at(gone(t), rank) for t in range(T)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == rank
    assert counts[-1] == max(1, rank // 2)


@pytest.mark.parametrize("shape", [(4, 12), (12, 12), (14, 12)])
def test_first_vectors_are_orthonormal(shape: tuple[int, int]) -> None:
    rows = orthonormal_rows(*shape, torch.Generator().manual_seed(0))
    assert rows.shape == shape
    product = rows @ rows.t() if shape[0] <= shape[1] else rows.t() @ rows
    assert_near(product, torch.eye(len(product)), LAYER)


def test_first_values_are_those_of_random_matrices() -> None:
    g = torch.Generator().manual_seed(0)
    for outputs, inputs in ((40, 40), (30, 60)):
        drawn = [
            torch.linalg.svdvals(torch.randn(outputs, inputs, generator=g) / 8)[-8:]
            for _ in range(200)
        ]
        mean = torch.stack(drawn).mean(0)
        ours = torch.tensor(smallest_singular_values(8, outputs, inputs))
        assert (ours - mean).abs().max() < 0.1 * mean.max()
    beyond = smallest_singular_values(6, 4, 9)
    assert len(beyond) == 6
    assert beyond[3] == beyond[5] > 0


@pytest.mark.parametrize("kind", ["linear", "conv", "pointwise"])
@pytest.mark.parametrize("orthogonal", [True, False])
def test_a_new_adapter_changes_nothing_at_any_noise(kind: str, orthogonal: bool) -> None:
    layer = layer_of(kind)
    adapter = make(layer, orthogonal=orthogonal)
    assert not adapter.delta_weight(layer).any()
    assert float(adapter.norm().detach()) == 0.0
    x = input_of(layer)
    adapter.begin_step(torch.arange(3), noise_gone=[1.0, 0.4, 0.001])
    y = on(layer, adapter)(x)
    assert_near(y, layer(x), LAYER)
    y.square().sum().backward()
    grads = [p.grad for p in adapter.parameters()]
    assert any(grad is not None and grad.any() for grad in grads), "and yet it learns"


def test_every_orthogonal_part_learns_from_the_start() -> None:
    layer = layer_of("linear")
    adapter = make(layer)
    on(layer, adapter)(input_of(layer)).square().sum().backward()
    for name, parameter in adapter.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("orthogonal", [True, False])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_each_sample_has_the_ranks_of_its_noise(kind: str, orthogonal: bool) -> None:
    layer = layer_of(kind)
    adapter = moved(make(layer, rank=6, min_rank=2, orthogonal=orthogonal))
    timesteps = [0, 500, 999]
    each = 2 if orthogonal else 1
    adapter.begin_step(torch.arange(3), noise_gone=[gone(t) for t in timesteps])
    x = input_of(layer)
    y = on(layer, adapter)(x)
    tensors = {f"x.{name}": t.detach() for name, t in adapter.state_dict().items()}
    for number, count in enumerate((6, 4, 2)):
        own = {n.removeprefix("x."): t for n, t in cut_rank(tensors, each * count).items()}
        prefix = on(layer, LoRA.from_tensors(layer, own))  # type: ignore[arg-type]
        assert_near(y[number], prefix(x[number : number + 1])[0], LAYER)
    with torch.no_grad():
        whole = on(layer, LoRA.from_tensors(layer, adapter.state_dict()))  # type: ignore[arg-type]
        assert_near(on(layer, adapter)(x), whole(x), LAYER)


def test_ranks_that_are_left_out_get_no_gradient() -> None:
    layer = layer_of("linear")
    adapter = moved(make(layer, rank=6, min_rank=2))
    adapter.begin_step(torch.arange(3), noise_gone=[0.0] * 3)
    on(layer, adapter)(input_of(layer)).square().sum().backward()
    down, up = adapter.lora_down, adapter.lora_up
    assert isinstance(down, DownFromStart)
    assert isinstance(up, UpFromStart)
    for grad in (down.vectors.grad, up.vectors.grad.t(), up.values.grad[:, None]):  # type: ignore[union-attr,index]
        assert grad is not None
        assert grad[:2].any(1).all()
        assert not grad[2:].any()


def lycoris_of(adapter: TLoRA, layer: Layer, rank: int, alpha: float) -> TLoraModule:
    """LyCORIS' module with the same numbers."""
    down, up = adapter.lora_down, adapter.lora_up
    assert isinstance(down, DownFromStart)
    assert isinstance(up, UpFromStart)
    theirs = TLoraModule("x", layer, lora_dim=rank, alpha=alpha).eval()
    with torch.no_grad():
        theirs.q_layer.weight.copy_(down.vectors)
        theirs.p_layer.weight.copy_(up.vectors)
        theirs.lambda_layer.copy_(up.values[None])
        theirs.base_q.copy_(down.start)
        # Ours holds the product.
        theirs.base_p.copy_(up.start)
        theirs.base_lambda.fill_(1.0)
    return theirs


@pytest.mark.parametrize("kind", ["linear", "pointwise"])
def test_lycoris_computes_the_same_with_the_same_numbers(kind: str) -> None:
    """Not larger convolutions: LyCORIS 4.1 gives those a kernel of one pixel."""
    layer = layer_of(kind)
    adapter = moved(make(layer, rank=6, alpha=3.0, min_rank=1, rank_power=2.0))
    theirs = lycoris_of(adapter, layer, 6, 3.0)
    x = input_of(layer, 1)
    for timestep in (0, 300, 700, 999):
        adapter.begin_step(torch.arange(1), noise_gone=[gone(timestep)])
        set_timestep_mask(compute_timestep_mask(timestep, T, 6, 1, 2.0))
        try:
            ours = on(layer, adapter)(x) - layer(x)
            assert_near(ours, theirs.bypass_forward_diff(x), LAYER)
            grads = torch.autograd.grad(ours.square().sum(), list(adapter.parameters()))
            loss = theirs.bypass_forward_diff(x).square().sum()
            their_parameters = [theirs.q_layer.weight, theirs.p_layer.weight, theirs.lambda_layer]
            for grad, other in zip(grads, torch.autograd.grad(loss, their_parameters), strict=True):
                assert_near(grad, other.view_as(grad), LAYER)
        finally:
            clear_timestep_mask()
    adapter.end_step()
    assert_near(adapter.delta_weight(layer), theirs.get_diff_weight()[0], LAYER)


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_the_file_is_a_lora_to_lycoris_and_to_peft(kind: str) -> None:
    layer = layer_of(kind)
    adapter = moved(make(layer, rank=4, alpha=3.0))
    tensors = adapter.state_dict()
    assert tensors.keys() == {"alpha", "lora_down.weight", "lora_up.weight"}
    change = adapter.delta_weight(layer)
    named = {f"x.{name}": tensor for name, tensor in tensors.items()}
    module_type, parameters = get_module(named, "x")
    theirs = make_module(module_type, parameters, "x", layer)
    assert_near(theirs.get_diff_weight()[0].view_as(change), change, LAYER)
    model = nn.ModuleDict({"x": layer})
    config = LoraConfig(r=8, lora_alpha=6, target_modules=["x"])
    wrapped = inject_adapter_in_model(config, model)["x"]
    with torch.no_grad():
        wrapped.lora_A["default"].weight.copy_(tensors["lora_down.weight"])
        wrapped.lora_B["default"].weight.copy_(tensors["lora_up.weight"])
    assert_near(wrapped.get_delta_weight("default").view_as(change), change, LAYER)


def test_half_precision_costs_a_small_change_no_more_than_a_lora() -> None:
    """What the adapter starts from is much larger than what it has learned."""
    layer = nn.Linear(64, 64).requires_grad_(False)
    adapter = make(layer, rank=8)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=1e-4)
    half = {name: tensor.half().float() for name, tensor in adapter.state_dict().items()}
    change = adapter.delta_weight(layer)
    error = LoRA.from_tensors(layer, half).delta_weight(layer) - change
    assert float((error.norm() / change.norm()).detach()) < 2e-3


def test_only_the_unet_goes_by_the_noise(tiny) -> None:
    network = tiny.network(algorithm="tlora", rank=4, alpha=2.0)
    network.begin_step(0, 0, [7, 8], noise_gone=[1.0, 0.0])
    for key, adapter in network.adapters.items():
        if network.targets[key].part == "unet":
            assert adapter.masks is not None
            assert adapter.masks.gate.sum(1).tolist() == [8.0, 4.0]
        else:
            assert adapter.masks is None
    network.end_step()
    assert all(adapter.masks is None for adapter in network.adapters.values())


def test_dropout_joins_the_ranks_of_the_noise(tiny) -> None:
    network = tiny.network(
        algorithm="tlora", rank=8, unet=True, text_encoder=True, dropout=Dropout(rank=0.5)
    )
    network.begin_step(0, 0, list(range(64)), noise_gone=[0.0] * 64)
    for key, adapter in network.adapters.items():
        assert adapter.masks is not None
        is_open = (adapter.masks.gate > 0).float().mean(0)
        beyond = is_open[8:]
        assert is_open[:8].min() > 0.2
        assert bool(beyond.any()) == (network.targets[key].part == "text_encoder")


def test_what_was_saved_is_taken_over(tiny) -> None:
    network = tiny.network(algorithm="tlora", rank=4)
    for adapter in network.adapters.values():
        moved(adapter)  # type: ignore[arg-type]
    tensors = network.state_dict()
    other = tiny.network(algorithm="tlora", rank=4, seed=9)
    other.load_state_dict(tensors)
    for name, tensor in other.state_dict().items():
        assert_near(tensor, tensors[name], LAYER)


def test_the_same_seed_starts_the_same(tiny) -> None:
    def start(seed: int) -> list[Tensor]:
        network = tiny.network(algorithm="tlora", rank=4, seed=seed)
        return [p.detach() for adapter in network.adapters.values() for p in adapter.parameters()]

    for one, same in zip(start(1), start(1), strict=True):
        assert torch.equal(one, same)
    assert not torch.equal(start(1)[0], start(2)[0])


def test_a_file_is_trained_on_as_tlora_when_asked(tiny) -> None:
    tensors = tiny.network(algorithm="tlora", rank=2).state_dict()
    plain = AdapterNetwork.load(tensors, tiny.roots)
    assert {type(adapter) for adapter in plain.adapters.values()} == {LoRA}
    again = AdapterNetwork.load(tensors, tiny.roots, algorithm="tlora")
    assert {type(adapter) for adapter in again.adapters.values()} == {TLoRA}
    assert {adapter.gates_open(0.0) for adapter in again.adapters.values()} == {2}


def test_checkpointing_and_compiling_see_the_same_ranks() -> None:
    layer = layer_of("linear")
    adapter = moved(make(layer, rank=6, min_rank=1))
    adapted, x = on(layer, adapter), input_of(layer).requires_grad_()
    adapter.begin_step(torch.arange(3), noise_gone=[1.0, 0.5, 0.1])
    parameters = [x, *adapter.parameters()]
    plain = torch.autograd.grad(adapted(x).square().sum(), parameters)
    again = torch.utils.checkpoint.checkpoint(adapted, x, use_reentrant=False)
    for one, other in zip(
        plain, torch.autograd.grad(again.square().sum(), parameters), strict=True
    ):
        assert torch.equal(one, other)
    assert all(math.isfinite(float(grad.norm())) for grad in plain)


@pytest.mark.slow
def test_compiled_it_is_the_same() -> None:
    layer = layer_of("linear")
    adapter = moved(make(layer, rank=6, min_rank=1))
    adapted, x = on(layer, adapter), input_of(layer)
    compiled = torch.compile(adapted, backend="aot_eager")
    for noise in ([1.0, 0.5, 0.1], [0.2, 0.9, 0.4]):
        adapter.begin_step(torch.arange(3), noise_gone=noise)
        eager = torch.autograd.grad(adapted(x).square().sum(), list(adapter.parameters()))
        fast = torch.autograd.grad(compiled(x).square().sum(), list(adapter.parameters()))
        for one, other in zip(eager, fast, strict=True):
            assert_near(one, other, LAYER)
