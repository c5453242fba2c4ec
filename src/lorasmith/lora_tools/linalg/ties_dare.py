"""Sums of several weight changes that keep them out of each other's way: TIES and DARE.

Both act on the weight changes themselves, number by number, so each layer's are multiplied out in
turn. (To act on the factors, as some programs do, is another thing: a LoRA is the same with both
factors of a rank negated, and the sign of a factor's number says nothing.) What comes out is not
of low rank any more; a LoRA can only hold the best approximation of it, and how much of it that
is has to be looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def ties(changes: Sequence[Tensor], density: float) -> Tensor:
    """TIES (Yadav et al. 2023): trim, elect a sign, and average over those that have it.

    Of each change the ``density`` largest numbers by magnitude stay (per layer, where the paper
    takes them over the whole model). The sign of each number of the result is that of the sum;
    it is the mean of those that have this sign and were not trimmed. Weights are multiplied in
    beforehand, as in mergekit: they take part in the election, and a change that stands alone has
    its full weight.

    Args:
        changes: (O, I) each, times their weights.
        density: 0 < density <= 1.
    """
    trimmed = [_trimmed(change, density) for change in changes]
    sign = sum(trimmed[1:], trimmed[0]).sign()
    total, count = torch.zeros_like(trimmed[0]), torch.zeros_like(trimmed[0])
    for change in trimmed:
        agrees = (change.sign() == sign) & (change != 0)
        total += change * agrees
        count += agrees
    return total / count.clamp(min=1)


def dare(
    changes: Sequence[Tensor], density: float, generators: Sequence[torch.Generator]
) -> Tensor:
    """DARE (Yu et al. 2024): drop numbers at random, scale up the rest, and add.

    Each number stays with probability ``density`` and is divided by it, so that the sum is what it
    would be on average. The paper drops up to 99% of full fine-tuning's changes, which are many
    and small. A LoRA's are few and alike: dropping makes noise of full rank, most of which an
    approximation of low rank takes away again.

    Args:
        changes: (O, I) each, times their weights.
        density: 0 < density <= 1.
        generators: one for each change.
    """
    total = torch.zeros_like(changes[0])
    for change, generator in zip(changes, generators, strict=True):
        stays = torch.rand(change.shape, generator=generator) < density
        total += change * stays / density
    return total


def _trimmed(change: Tensor, density: float) -> Tensor:
    """The ``density`` largest numbers by magnitude, others 0; ties at the limit stay."""
    count = max(1, int(density * change.numel()))
    if count == change.numel():
        return change
    sizes = change.abs().flatten()
    limit = sizes.kthvalue(sizes.numel() - count + 1).values
    return torch.where(change.abs() >= limit, change, 0.0)
