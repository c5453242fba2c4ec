"""TIES and DARE against peft's, and by what they promise."""

from __future__ import annotations

import pytest
import torch
from peft.utils.merge_utils import ties as peft_ties
from tests.tolerances import LAYER, assert_near

from lorasmith.lora_tools.linalg.ties_dare import dare, ties


@pytest.mark.parametrize("density", [0.2, 0.5, 0.99])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.8, -0.5, 0.3), (2.0,)])
def test_ties_is_pefts(density: float, weights: tuple[float, ...]) -> None:
    generator = torch.Generator().manual_seed(len(weights))
    changes = [weight * torch.randn(20, 30, generator=generator) for weight in weights]
    expected = peft_ties(changes, torch.ones(len(weights)), density)
    assert_near(ties(changes, density), expected, LAYER)


def test_dare_keeps_the_sum_on_average() -> None:
    changes = [torch.randn(8, 5), torch.randn(8, 5)]

    def once(seed: int) -> torch.Tensor:
        draws = [torch.Generator().manual_seed(2 * seed + n) for n in range(2)]
        return dare(changes, 0.4, draws)

    assert torch.equal(once(3), once(3))
    assert not torch.equal(once(3), once(4))
    mean = torch.stack([once(seed) for seed in range(3000)]).mean(0)
    torch.testing.assert_close(mean, changes[0] + changes[1], atol=0.2, rtol=0)


def test_dare_drops_that_share() -> None:
    made = dare([torch.ones(200, 100)], 0.3, [torch.Generator().manual_seed(0)])
    assert float((made != 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert torch.equal(made[made != 0].unique(), torch.tensor([1 / 0.3]))
