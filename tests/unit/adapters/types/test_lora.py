"""LoRA as arithmetic: against dense layers, finite differences and lycoris."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from lycoris.modules.locon import LoConModule
from tests.tolerances import LAYER, assert_near
from torch import nn
from torch.utils.checkpoint import checkpoint

from lorasmith.adapters.base import AdaptedLayer
from lorasmith.adapters.types.lora import LoRA

SHAPES = {
    "linear": (lambda: nn.Linear(12, 10), (3, 5, 12)),
    "linear_2d": (lambda: nn.Linear(12, 10, bias=False), (3, 12)),
    "conv1x1": (lambda: nn.Conv2d(6, 10, 1), (3, 6, 4, 5)),
    "conv3x3": (lambda: nn.Conv2d(6, 10, 3, padding=1), (3, 6, 4, 5)),
    "conv_stride": (lambda: nn.Conv2d(6, 10, 3, stride=2, padding=1), (3, 6, 8, 7)),
    "conv_dilated": (lambda: nn.Conv2d(6, 10, 3, padding=2, dilation=2), (3, 6, 8, 7)),
}
cases = pytest.mark.parametrize("case", list(SHAPES))


def make(case: str, *, rank: int = 3, alpha: float | None = 2.0):
    """(wrapped layer, adapter with an effect, input), float64."""
    build, shape = SHAPES[case]
    g = torch.Generator().manual_seed(1)
    layer = build().double().requires_grad_(False)
    for parameter in layer.parameters():
        parameter.normal_(generator=g)
    adapter = LoRA.create(layer, rank=rank, alpha=alpha, generator=g)
    nn.init.normal_(adapter.lora_up.weight, generator=g)
    adapted = AdaptedLayer(layer)
    adapted.adapters.append(adapter)
    return adapted.double(), adapter, torch.randn(shape, generator=g, dtype=torch.float64)


def dense(layer: nn.Module, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The layer with other weights, by torch's own means."""
    return torch.func.functional_call(layer, {"weight": weight}, (x,))


@cases
def test_forward_is_the_layer_with_the_merged_weight(case):
    adapted, adapter, x = make(case)
    merged = adapted.layer.weight + adapter.delta_weight(adapted.layer)
    assert_near(adapted(x), dense(adapted.layer, merged, x), LAYER)


@cases
def test_the_general_path_equals_the_fast_one(case):
    adapted, adapter, x = make(case)
    y = adapter(x, adapted.layer(x), adapted.layer)
    assert_near(adapter.forward_with_base(x, adapted.layer), y, LAYER)
    assert_near(y - adapted.layer(x), adapter.delta(x, adapted.layer), LAYER)


@cases
@pytest.mark.slow_but_first
def test_gradients_against_finite_differences(case):
    adapted, adapter, x = make(case)
    parameters = list(adapter.parameters())

    def run(x, *values):
        for parameter, value in zip(parameters, values, strict=True):
            parameter.data = value.data
        swapped = {"adapters.0.lora_down.weight": values[0], "adapters.0.lora_up.weight": values[1]}
        return torch.func.functional_call(adapted, swapped, (x,))

    inputs = [
        x.clone().requires_grad_(),
        *(p.detach().clone().requires_grad_() for p in parameters),
    ]
    assert torch.autograd.gradcheck(run, inputs)


@cases
def test_new_adapter_changes_nothing(case):
    adapted, adapter, x = make(case)
    nn.init.zeros_(adapter.lora_up.weight)
    assert torch.equal(adapted(x), adapted.layer(x))


@cases
def test_weight_delta_equals_lycoris(case):
    adapted, adapter, _ = make(case)
    theirs = LoConModule.make_module_from_state_dict(
        "lora_unet_x",
        SHAPES[case][0](),
        adapter.lora_up.weight.float(),
        adapter.lora_down.weight.float(),
        None,
        adapter.alpha,
        None,
    ).get_diff_weight()[0]
    assert_near(adapter.delta_weight(adapted.layer).float(), theirs, LAYER)


@cases
def test_norm_needs_no_dense_weight(case):
    adapted, adapter, _ = make(case)
    assert_near(
        adapter.norm(), torch.linalg.vector_norm(adapter.delta_weight(adapted.layer)), LAYER
    )


def test_norms_of_many_are_those_of_each():
    adapters = [make(case, rank=rank)[1] for case in SHAPES for rank in (2, 3, 3)]
    assert_near(LoRA.norms(adapters), torch.stack([a.added().norm() for a in adapters]), LAYER)


@pytest.mark.parametrize(("alpha", "scale"), [(None, 1.0), (0, 1.0), (4, 1.0), (1, 0.25), (8, 2.0)])
def test_scale_is_alpha_over_rank(alpha, scale):
    adapter = LoRA.create(nn.Linear(5, 6), rank=4, alpha=alpha, generator=torch.Generator())
    assert adapter.scale == scale
    assert float(adapter.alpha) == scale * 4


@cases
def test_down_starts_kaiming_uniform(case):
    layer = SHAPES[case][0]()
    down = LoRA.create(
        layer, rank=64, alpha=None, generator=torch.Generator().manual_seed(0)
    ).lora_down.weight
    # Uniform with a = sqrt(5): bound 1 / sqrt(fan in), so variance bound² / 3.
    fan_in = layer.weight[0].numel()
    assert down.abs().max() <= 1 / math.sqrt(fan_in)
    assert down.var().item() == pytest.approx(1 / (3 * fan_in), rel=0.15)


def test_two_adapters_add_up_and_strength_is_linear():
    adapted, first, x = make("linear")
    second = LoRA.create(adapted.layer, rank=2, alpha=None, generator=torch.Generator())
    nn.init.normal_(second.lora_up.weight)
    adapted.adapters.append(second.double())
    first.strength, second.strength = 0.5, -2.0
    weight = (
        adapted.layer.weight
        + 0.5 * first.delta_weight(adapted.layer)
        - 2.0 * second.delta_weight(adapted.layer)
    )
    assert_near(adapted(x), dense(adapted.layer, weight, x), LAYER)
    second.strength = 0.0
    weight = adapted.layer.weight + 0.5 * first.delta_weight(adapted.layer)
    assert_near(adapted(x), dense(adapted.layer, weight, x), LAYER)


@cases
def test_checkpointing_gives_the_same_gradients(case):
    adapted, adapter, x = make(case)
    x.requires_grad_()
    plain = torch.autograd.grad(adapted(x).square().sum(), [x, *adapter.parameters()])
    again = checkpoint(adapted, x, use_reentrant=False).square().sum()
    for a, b in zip(plain, torch.autograd.grad(again, [x, *adapter.parameters()]), strict=True):
        assert torch.equal(a, b)


def test_no_gradient_below_the_first_adapter():
    adapted, _, x = make("linear")
    first = nn.Linear(12, 12).double().requires_grad_(False)
    y = first(x)
    out = adapted(y)
    assert not y.requires_grad
    assert out.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", ["linear", "conv3x3"])
def test_low_precision_computes_in_it_and_trains_float32(case, dtype):
    adapted, adapter, x = make(case)
    exact = adapted(x)
    adapted.layer.to(dtype)
    adapter.float()
    y = adapted(x.to(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), exact, rtol=0.05, atol=0.15)
    y.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in adapter.parameters())


def test_autocast_runs():
    adapted, _, x = make("linear")
    adapted.float()
    with torch.autocast("cpu", torch.bfloat16):
        y = adapted(x.float().requires_grad_())
    y.sum().backward()
    assert y.dtype == torch.bfloat16


@pytest.mark.slow
def test_compiles_into_one_graph():
    adapted, adapter, x = make("linear")
    compiled = torch.compile(adapted, fullgraph=True, backend="aot_eager")
    eager = torch.autograd.grad(adapted(x).square().sum(), list(adapter.parameters()))
    fast = torch.autograd.grad(compiled(x).square().sum(), list(adapter.parameters()))
    for a, b in zip(eager, fast, strict=True):
        assert_near(a, b, LAYER)


def test_linear_and_1x1_convolution_files_are_interchangeable():
    down, up = torch.randn(2, 6), torch.randn(10, 2)
    names = LoRA.weight_names
    linear = LoRA.from_tensors(nn.Linear(6, 10), dict(zip(names, (down, up), strict=True)))
    square = {names[0]: down[..., None, None], names[1]: up[..., None, None]}
    conv = LoRA.from_tensors(nn.Conv2d(6, 10, 1), square)
    crossed = LoRA.from_tensors(nn.Linear(6, 10), square)
    assert torch.equal(conv.added().flatten(1), linear.added())
    assert torch.equal(crossed.added(), linear.added())


@pytest.mark.parametrize(
    ("down", "up"), [((2, 7), (10, 2)), ((2, 6), (10, 3)), ((2, 6), (9, 2)), ((6,), (10, 2))]
)
def test_misfits_are_refused(down, up):
    tensors = {"lora_down.weight": torch.zeros(down), "lora_up.weight": torch.zeros(up)}
    with pytest.raises(ValueError, match=r"layer takes|not matrices"):
        LoRA.from_tensors(nn.Linear(6, 10), tensors)


def test_rescale_multiplies_the_weight_change():
    adapted, adapter, _ = make("conv3x3")
    before = adapter.delta_weight(adapted.layer).detach()
    with torch.no_grad():
        adapter.shrink(torch.tensor(0.3, dtype=torch.float64))
    assert_near(adapter.delta_weight(adapted.layer), 0.3 * before, LAYER)


def test_wrapper_reads_like_its_layer():
    conv = nn.Conv2d(6, 10, 3, stride=2, padding=1)
    adapted = AdaptedLayer(conv)
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "weight", "bias")
    for name in names:
        assert getattr(adapted, name) is getattr(conv, name)
    linear = nn.Linear(3, 4)
    assert AdaptedLayer(linear).in_features == 3


def test_dense_composition_of_convolutions():
    """down then up as two convolutions is one with the composed kernel (not our formula)."""
    adapted, adapter, _ = make("conv_stride")
    composed = F.conv2d(adapter.lora_down.weight.permute(1, 0, 2, 3), adapter.lora_up.weight)
    composed = composed.permute(1, 0, 2, 3) * (2.0 / 3)
    assert_near(adapter.delta_weight(adapted.layer), composed, LAYER)


def test_shape_cases_cover_both_layers():
    kinds = {type(build()) for build, _ in SHAPES.values()}
    assert kinds == {nn.Linear, nn.Conv2d}
