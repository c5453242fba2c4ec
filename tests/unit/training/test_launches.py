"""How many kernels a step starts on a GPU, beside the loop that one writes by hand."""

from __future__ import annotations

import pytest
import torch
from benchmarks.launches import DROPOUTS, META, Launches, count_both
from tests.published import PUBLISHED

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.models.load import assemble, empty_modules


def test_kernels_are_counted_and_views_are_not() -> None:
    x = torch.empty(4, 6, device=META, requires_grad=True)
    many = [torch.empty(5, device=META) for _ in range(300)]
    with Launches() as launches:
        y = torch.relu(x.t().reshape(3, 8)[1:] @ torch.empty(8, 2, device=META))
        y.sum().backward()
        torch.cat(many)
        torch._foreach_mul_(many, 2.0)
        torch.ones(3).add(1)
    assert launches.counts.pop("cat") == 3
    assert launches.counts.pop("_foreach_mul_") == 3
    # reshape copies; backward begins with a one, goes through a slice and multiplies once, and what
    # comes of t() is laid out anew for x.grad.
    forward = {"clone": 1, "mm": 1, "relu": 1, "sum": 1}
    backward = {"ones_like": 1, "threshold_backward": 1, "mm": 1, "slice_backward": 1}
    backward["copy_"] = 1
    expected = {op: forward.get(op, 0) + backward.get(op, 0) for op in forward | backward}
    assert {op: n for op, n in launches.counts.items() if n} == expected


@pytest.mark.parametrize(
    ("model", "name"),
    [
        *(pytest.param("sd15", name, marks=pytest.mark.slow) for name in ("none", "dropout")),
        *(
            pytest.param(model, name, marks=pytest.mark.broad)
            for model in ("sd15", "sdxl")
            for name in DROPOUTS
            if (model, name) not in (("sd15", "none"), ("sd15", "dropout"))
        ),
    ],
)
def test_a_step_starts_no_more_kernels_than_the_bare_loop(model: str, name: str) -> None:
    bare, ours = count_both(model, DROPOUTS[name])
    assert bare.total() > 3000
    assert ours.total() <= (1.0 if name == "none" else 1.05) * bare.total()


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["lora", "locon", "lokr"])
def test_limiting_norms_takes_a_few_kernels_for_all_modules(algorithm: str) -> None:
    architecture = PUBLISHED["sd15"]
    modules = empty_modules(architecture)
    model = assemble(architecture, modules, torch.bfloat16, META)
    network = AdapterNetwork.create(model.adapter_roots(), algorithm=algorithm, rank=8)
    products = len(network) if algorithm == "lokr" else 0  # w2 of its two factors.
    with Launches() as launches:
        network.scale_weight_norms(1.0)
    assert launches.total - products < len(network)
