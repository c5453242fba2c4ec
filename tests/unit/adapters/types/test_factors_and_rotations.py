"""Types that change the layer's own weight, (IA)^3, OFT and BOFT: against lycoris, the dense layer
and finite differences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from lycoris.modules.base import LycorisBaseModule
from lycoris.modules.boft import ButterflyOFTModule
from lycoris.modules.diag_oft import DiagOFTModule
from lycoris.modules.ia3 import IA3Module
from tests.tiny_models import tiny_model
from tests.tolerances import LAYER, assert_near
from torch import Tensor, nn

from lorasmith.adapters.base import AdaptedLayer, Adapter, AdapterOptions
from lorasmith.adapters.dropout import Dropout
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.adapters.registry import adapter_class, algorithm_of, fixed_options

LAYERS = {
    "linear": (lambda: nn.Linear(12, 24), (2, 5, 12)),
    "no_bias": (lambda: nn.Linear(12, 8, bias=False), (3, 12)),
    "conv1x1": (lambda: nn.Conv2d(6, 8, 1), (2, 6, 4, 5)),
    "conv3x3": (lambda: nn.Conv2d(6, 24, 3, stride=2, padding=1), (2, 6, 6, 5)),
}


@dataclass
class Kind:
    """A type with its options, lycoris' module and arguments for the same."""

    name: str
    theirs: type[LycorisBaseModule]
    options: AdapterOptions = AdapterOptions()  # noqa: RUF009 (frozen)
    arguments: dict[str, Any] = field(default_factory=dict)


KINDS = {
    "ia3": Kind("ia3", IA3Module),
    "ia3 inputs": Kind(
        "ia3", IA3Module, AdapterOptions(train_on_input=True), {"train_on_input": True}
    ),
    "oft": Kind("oft", DiagOFTModule),
    "oft rescaled": Kind("oft", DiagOFTModule, AdapterOptions(rescaled=True), {"rescaled": True}),
    "oft bounded": Kind(
        "oft", DiagOFTModule, AdapterOptions(constraint=0.01), {"constraint": 0.01}
    ),
    "boft": Kind("boft", ButterflyOFTModule),
    "boft rescaled": Kind(
        "boft",
        ButterflyOFTModule,
        AdapterOptions(rescaled=True, constraint=0.02),
        {"rescaled": True, "constraint": 0.02},
    ),
}
kinds = pytest.mark.parametrize("name", list(KINDS))
cases = pytest.mark.parametrize("case", list(LAYERS))
# Of 8 and of 24 outputs, both have blocks and a butterfly.
RANK = 6


def layer_of(case: str, dtype: torch.dtype = torch.float64) -> tuple[Any, Tensor]:
    build, shape = LAYERS[case]
    g = torch.Generator().manual_seed(1)
    layer = build().to(dtype).requires_grad_(False)
    for parameter in layer.parameters():
        parameter.normal_(generator=g)
    return layer, torch.randn(shape, generator=g, dtype=dtype)


def randomise(module: nn.Module) -> None:
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=g, dtype=p.dtype))


def make(
    name: str, case: str, *, effect: bool = True, dtype: torch.dtype = torch.float64
) -> tuple[AdaptedLayer, Any, Tensor]:
    """(wrapped layer, adapter, input)."""
    layer, x = layer_of(case, dtype)
    adapter = adapter_class(KINDS[name].name).create(
        layer,
        rank=RANK,
        alpha=None,
        generator=torch.Generator().manual_seed(3),
        options=fixed_options(KINDS[name].name, KINDS[name].options),
    )
    if effect:
        randomise(adapter)
    adapted = AdaptedLayer(layer)
    adapted.adapters.append(adapter)
    return adapted.to(dtype), adapter, x


def lycoris_of(name: str, layer: nn.Module) -> LycorisBaseModule:
    wanted = KINDS[name]
    module = wanted.theirs("x", layer, lora_dim=RANK, **wanted.arguments).eval()
    return module.requires_grad_(False)


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


@kinds
@cases
def test_a_module_of_lycoris_loads_and_means_the_same(name, case):
    layer, x = layer_of(case, torch.float32)
    theirs = lycoris_of(name, layer)
    randomise(theirs)
    tensors = tensors_of(theirs)
    cls = algorithm_of(tensors)
    assert cls is adapter_class(KINDS[name].name)
    adapter = cls.from_tensors(layer, tensors)
    assert_near(adapter.merged_weight(layer), theirs.get_merged_weight()[0], LAYER)
    adapted = AdaptedLayer(layer)
    adapted.adapters.append(adapter)
    assert_near(adapted(x), theirs(x), LAYER)


@kinds
@cases
def test_lycoris_reads_ours(name, case):
    adapted, adapter, _ = make(name, case, dtype=torch.float32)
    theirs = lycoris_of(name, adapted.layer)
    ours = tensors_of(adapter)
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in theirs.state_dict().items()
    }
    theirs.load_state_dict(ours)
    assert_near(theirs.get_merged_weight()[0], adapter.merged_weight(adapted.layer), LAYER)


@kinds
@cases
def test_new_adapter_changes_nothing(name, case):
    adapted, adapter, x = make(name, case, effect=False)
    assert_near(adapted(x), adapted.layer(x), LAYER)
    assert not adapter.delta_weight(adapted.layer).any()


@kinds
@cases
def test_forward_is_the_layer_with_the_merged_weight(name, case):
    adapted, adapter, x = make(name, case)
    for strength in (1.0, 0.4):
        adapter.strength = strength
        merged = adapter.merged_weight(adapted.layer, strength)
        wanted = torch.func.functional_call(adapted.layer, {"weight": merged}, (x,))
        assert_near(adapted(x), wanted, LAYER)
        general = adapter(x, adapted.layer(x), adapted.layer)
        assert_near(general, wanted, LAYER)


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


@pytest.mark.parametrize("name", ["oft", "oft bounded", "boft"])
@cases
def test_rotations_keep_lengths_and_angles(name, case):
    """The Gram matrix of the weight's columns is the base's."""
    adapted, adapter, _ = make(name, case)
    base = adapted.layer.weight.flatten(1)
    turned = adapter.merged_weight(adapted.layer).flatten(1)
    assert (turned - base).norm() > 0.01 * base.norm()
    assert_near(turned.mT @ turned, base.mT @ base, LAYER)


@pytest.mark.parametrize("drop", [Dropout(neuron=0.4), Dropout(rank=0.4), Dropout(module=0.5)])
@pytest.mark.parametrize("name", ["ia3", "ia3 inputs", "oft", "boft"])
@pytest.mark.parametrize("case", ["linear", "conv3x3"])
def test_dropout_is_by_sample_and_keeps_the_mean(name, case, drop):
    adapted, adapter, x = make(name, case)
    adapter.dropout = drop
    count = 3000
    keys = torch.arange(count) * 104729
    x = x[:1]
    adapter.begin_step(keys)
    outputs = adapted(x.expand(count, *x.shape[1:]))
    adapter.begin_step(keys[5:6])
    assert_near(adapted(x), outputs[5:6], LAYER)
    adapter.end_step()
    base = adapted.layer(x)[0]
    change = adapted(x)[0] - base
    kept = 0.5 if drop.module else 1.0
    error = (outputs.mean(0) - base - kept * change).abs().max()
    assert error < 0.1 * change.abs().max()


@kinds
@pytest.mark.parametrize("case", ["linear", "conv3x3"])
def test_bfloat16_sees_small_changes(name, case):
    adapted, adapter, x = make(name, case, effect=False)
    layer = adapted.layer.to(torch.bfloat16).double()
    with torch.no_grad():
        for p in adapter.parameters():
            p.add_(1e-4 * torch.randn(p.shape, generator=torch.Generator().manual_seed(5)))
    x = x.bfloat16().double()
    wanted = adapter.delta_weight(layer)
    layer.bfloat16()
    adapter.float()
    change = adapter.delta(x.bfloat16(), layer)
    assert change.dtype == torch.bfloat16
    if not name.startswith("ia3"):
        return  # Outputs are turned in their own precision: only what is trained must be finer.
    exact = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Linear
    assert isinstance(layer, exact)
    dense = torch.func.functional_call(layer.double(), {"weight": wanted}, (x,))
    dense = dense - (layer.bias if dense.ndim < 4 else layer.bias.view(-1, 1, 1))
    assert ((change.double() - dense).norm() / dense.norm()).item() < 0.02


@kinds
@cases
def test_half_precision_layers_train_float32_numbers(name, case):
    adapted, adapter, x = make(name, case, dtype=torch.float32)
    adapted.layer.bfloat16()
    y = adapted(x.bfloat16().requires_grad_())
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.any() for p in adapter.parameters())


@kinds
def test_autocast_runs(name):
    adapted, _, x = make(name, "linear", dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = adapted(x.requires_grad_())
    y.sum().backward()
    assert y.dtype == torch.bfloat16


def test_shrinking_factors_shrinks_the_change():
    adapted, adapter, _ = make("ia3", "conv3x3")
    before = adapter.delta_weight(adapted.layer).detach()
    with torch.no_grad():
        adapter.shrink(torch.tensor(0.3))
    assert_near(adapter.delta_weight(adapted.layer), 0.3 * before, LAYER, dtype=torch.float32)


def test_a_butterfly_takes_the_smallest_block_where_none_is_small_enough():
    made = adapter_class("boft").create(
        nn.Linear(4, 320), rank=4, alpha=None, generator=torch.Generator()
    )
    assert made.rank == 10  # 320 = 10 * 32, and lycoris refuses a rank of 4 here


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": torch.zeros(12), "on_input": torch.tensor(0)}, "outputs take"),
        ({"weight": torch.zeros(18), "on_input": torch.tensor(1)}, "inputs take"),
        ({"oft_blocks": torch.zeros(4, 4, 4)}, "turns no 18"),
        ({"oft_blocks": torch.zeros(6, 3, 3), "rescale": torch.zeros(4, 1)}, "rescale"),
        ({"oft_blocks": torch.zeros(1, 6, 3, 3)}, "turns no 18"),
        ({"oft_blocks": torch.zeros(9, 1, 18, 18)}, "turns no 18"),
    ],
)
def test_misfits_are_refused(tensors, message):
    cls = algorithm_of(tensors)
    assert cls is not None
    assert issubclass(cls, Adapter)
    with pytest.raises(ValueError, match=message):
        cls.from_tensors(nn.Linear(12, 18), tensors)


@pytest.mark.parametrize("algorithm", ["oft", "boft"])
def test_the_norm_of_a_rotation_is_that_of_the_weight_s_change(algorithm: str) -> None:
    model = tiny_model()
    network = AdapterNetwork.create(model.adapter_roots(), algorithm=algorithm, rank=2)
    for adapter in network.adapters.values():
        for parameter in adapter.parameters():
            parameter.data.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    changes = [
        (adapter.merged_weight(target.layer) - target.layer.weight).detach()
        for target, adapter in zip(network.targets.values(), network.adapters.values(), strict=True)
    ]
    expected = torch.tensor([float(change.double().norm()) for change in changes])
    torch.testing.assert_close(network.norms(), expected, rtol=1e-4, atol=1e-5)
