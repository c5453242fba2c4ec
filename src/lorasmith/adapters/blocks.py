"""Sizes and learning rates of adapters by the denoiser's blocks.

A block of weight 0 gets no adapter at all: nothing of it is trained, saved, or passed through in
the backward pass where no gradient has to go on below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lorasmith.adapters.targets import Size, Target
from lorasmith.formats.block_weights import BlockMap


@dataclass(frozen=True, slots=True)
class BlockSizes:
    """Rank, alpha and learning rate of each layer's adapter, as a size rule and as a rate rule.

    Args:
        linear: of Linear layers and 1 x 1 convolutions.
        conv: of larger convolutions; None leaves them alone.
        weights: learning rates by block, relative; blocks that are not named have 1.
        ranks, alphas, conv_ranks, conv_alphas: by block, in place of ``linear`` and ``conv``; a
            rank of 0 leaves the block's layers alone.
    """

    blocks: BlockMap
    linear: Size
    conv: Size | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    ranks: Mapping[str, float] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)
    conv_ranks: Mapping[str, float] = field(default_factory=dict)
    conv_alphas: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, target: Target) -> Size | None:
        block = self.blocks.block(target)
        if self.weights.get(block, 1.0) == 0.0:
            return None
        if target.is_spatial:
            return _size(self.conv, self.conv_ranks.get(block), self.conv_alphas.get(block))
        return _size(self.linear, self.ranks.get(block), self.alphas.get(block))

    def rate(self, target: Target) -> float:
        """What multiplies the layer's learning rate."""
        return self.weights.get(self.blocks.block(target), 1.0)


def _size(usual: Size | None, rank: float | None, alpha: float | None) -> Size | None:
    """``usual`` with the rank and alpha of a block in place of its own."""
    if rank is None:
        return usual if usual is None or alpha is None else Size(usual.rank, alpha)
    if rank == 0:
        return None
    return Size(int(rank), usual.alpha if alpha is None and usual is not None else alpha)
