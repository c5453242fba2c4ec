"""BOFT: OFT with a butterfly of rotations (Liu et al. 2024).

R is a product of stages; each turns blocks of outputs that lie twice as far apart as those of the
stage before, so that few numbers turn every output into every other. Names and shapes are LyCORIS'
"boft". At strengths other than 1 the change of the weight is scaled, as for every type; LyCORIS
moves each stage towards doing nothing instead.
"""

from __future__ import annotations

from torch import Tensor

from lorasmith.adapters.types.oft import Rotation


class BOFT(Rotation):
    """oft_blocks (stages, O / s, s, s); s is even and O / s a power of 2."""

    ndim = 4

    @classmethod
    def block_shape(cls, outputs: int, rank: int) -> tuple[int, ...]:
        """The largest s up to ``rank`` that O allows, or else the smallest that it does."""
        sizes = [s for s in range(2, outputs + 1, 2) if _is_butterfly(outputs, s)]
        if not sizes:
            raise ValueError(f"{outputs} outputs have no butterfly: their number is odd")
        size = max((s for s in sizes if s <= rank), default=sizes[0])
        count = outputs // size
        return (count - 1).bit_count() + 1, count, size, size

    @classmethod
    def fits(cls, shape: tuple[int, ...], outputs: int) -> bool:
        stages, count, size, other = shape
        return (
            size == other
            and size * count == outputs
            and _is_butterfly(outputs, size)
            and 1 <= stages <= (count - 1).bit_count() + 1
        )

    def turn(self, rotations: Tensor, y: Tensor) -> Tensor:
        _, count, size, _ = rotations.shape
        for stage, blocks in enumerate(rotations):
            distance = 2**stage * (size // 2)
            paired = y.unflatten(-2, (-1, 2, distance)).transpose(-3, -2)
            turned = blocks @ paired.reshape(*y.shape[:-2], count, size, y.shape[-1])
            y = turned.reshape(paired.shape).transpose(-3, -2).reshape(y.shape)
        return y


def _is_butterfly(outputs: int, size: int) -> bool:
    return size % 2 == 0 and outputs % size == 0 and (outputs // size).bit_count() == 1
