"""What LoKr alone has: division of sides, scale of full matrices, two ways to one result."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lycoris.functional.general import factorization as lycoris_factorization
from tests.tolerances import LAYER, assert_near
from torch import nn

from lorasmith.adapters.base import AdaptedLayer, AdapterOptions, apply_weight
from lorasmith.adapters.types import lokr
from lorasmith.adapters.types.lokr import LoKr, factorization


@given(st.integers(1, 3000), st.one_of(st.just(-1), st.integers(1, 64)))
def test_sides_are_divided_as_lycoris_does(size: int, factor: int) -> None:
    assert factorization(size, factor) == lycoris_factorization(size, factor)


def make(layer: nn.Module, **options: object) -> LoKr:
    g = torch.Generator().manual_seed(0)
    made = LoKr.create(
        layer, rank=3, alpha=1.0, generator=g, options=AdapterOptions(**options)
    ).double()
    with torch.no_grad():
        for p in made.parameters():
            p.normal_(generator=g)
    return made


@pytest.mark.parametrize("layer", [nn.Linear(24, 36), nn.Conv2d(24, 36, 3, padding=1)])
@pytest.mark.parametrize("options", [{}, {"factor": 2}, {"factor": 2, "tucker": True}])
def test_product_and_factors_give_the_same(layer, options, monkeypatch):
    """torch.kron makes the weight; the layer never does, whichever way it takes."""
    layer = layer.double().requires_grad_(False)
    adapter = make(layer, **options)
    x = torch.randn(2, 24, 5, 4, dtype=torch.float64)
    x = (x if isinstance(layer, nn.Conv2d) else x.flatten(2).mT.contiguous()).requires_grad_()
    parameters = [x, *adapter.parameters()]
    factors = adapter.factors()
    w2 = adapter._second(factors).contiguous()
    w1 = lokr._first(factors)
    w1 = w1.reshape(*w1.shape, *[1] * (w2.ndim - 2))
    weight = layer.weight + torch.kron(w1, w2) * adapter.scale
    wanted = apply_weight(layer, x, weight, layer.bias)
    wanted_grads = torch.autograd.grad(wanted.square().sum(), parameters)
    adapted = AdaptedLayer(layer)
    adapted.adapters.append(adapter)
    for dense in (True, False):
        monkeypatch.setattr(LoKr, "_dense_is_less_work", lambda self, x, dense=dense: dense)
        y = adapted(x)
        assert_near(y, wanted, LAYER)
        grads = torch.autograd.grad(y.square().sum(), parameters)
        assert_near(grads, wanted_grads, LAYER)


def test_the_product_is_for_large_factors_and_many_rows():
    layer = nn.Linear(320, 320)
    small, large = (
        LoKr.create(
            layer, rank=4, alpha=None, generator=torch.Generator(), options=AdapterOptions(**o)
        )
        for o in ({}, {"factor": 2, "full_matrix": True})
    )
    many, few = torch.zeros(4096, 320), torch.zeros(77, 320)
    assert large._dense_is_less_work(many)
    assert not large._dense_is_less_work(few)
    assert not small._dense_is_less_work(many)


def test_full_matrices_have_no_scale():
    adapter = LoKr.create(
        nn.Linear(24, 36),
        rank=1000,
        alpha=1.0,
        generator=torch.Generator(),
        options=AdapterOptions(rs_lora=True),
    )
    assert adapter.scale == 1.0
    assert float(adapter.alpha) == adapter.rank


def test_root_rank_scale_is_in_the_alpha():
    adapter = LoKr.create(
        nn.Linear(24, 36),
        rank=2,
        alpha=3.0,
        generator=torch.Generator(),
        options=AdapterOptions(rs_lora=True),
    )
    assert adapter.scale == pytest.approx(3.0 / math.sqrt(2))
    assert float(adapter.alpha) / 2 == pytest.approx(adapter.scale)
