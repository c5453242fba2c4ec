"""OFT: the layer's outputs turned by a trained rotation (Qiu et al. 2023).

W' = Rᵀ W with R orthogonal: angles between what the layer tells apart stay as they are. OFT's R has
square blocks on its diagonal, each of them Cayley's (I + Q)(I - Q)⁻¹ of a skew Q = B - Bᵀ. Names
and shapes are LyCORIS' "diag-oft": ``oft_blocks`` holds B, ``alpha`` the constraint, ``rescale`` a
factor per output. The bias is not turned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from lorasmith.adapters.base import PLAIN, Adapter, AdapterOptions, Layer, base_output
from lorasmith.adapters.types.lokr import factorization

# Size of block that a matrix multiplication of rows is quickest with.
_WIDE = 32


class Rotation(Adapter):
    """What OFT and BOFT share; each says how large its blocks are and how they turn a matrix.

    The layer's outputs are turned, not its weight: no gradient of the weight's size is computed.

    Args:
        blocks: B, (..., s, s), float32.
        rescale: (O, 1[, 1, 1]) or None.
        constraint: the largest norm that all Q together may have, divided by O; 0 is none.
    """

    weight_names: ClassVar[tuple[str, ...]] = ("oft_blocks",)
    optional_names: ClassVar[tuple[str, ...]] = ("rescale", "alpha")

    ndim: ClassVar[int]
    """Dimensions of ``oft_blocks``, which alone tell OFT and BOFT apart in a file."""

    rescale: nn.Parameter | None

    def __init__(
        self, blocks: Tensor, *, outputs: int, rescale: Tensor | None, constraint: float
    ) -> None:
        super().__init__(alpha=constraint, scale=1.0, device=blocks.device)
        self.outputs = outputs
        self.limit = constraint * outputs
        self.oft_blocks = nn.Parameter(blocks)
        self.register_parameter("rescale", None if rescale is None else nn.Parameter(rescale))

    @classmethod
    def block_shape(cls, outputs: int, rank: int) -> tuple[int, ...]:
        """Shape of ``oft_blocks`` for a layer of ``outputs`` and a block size near ``rank``.

        Raises:
            ValueError: this number of outputs cannot be had.
        """
        raise NotImplementedError

    @classmethod
    def fits(cls, shape: tuple[int, ...], outputs: int) -> bool:
        """Whether ``oft_blocks`` of a file turn a layer of ``outputs``."""
        raise NotImplementedError

    def turn(self, rotations: Tensor, y: Tensor) -> Tensor:
        """Rᵀ y of ``y`` (..., O, C), from all R (..., s, s)."""
        raise NotImplementedError

    def turn_rows(self, rotations: Tensor, y: Tensor) -> Tensor:
        """The same of rows ``y`` (N, O)."""
        return self.turn(rotations, y.t().contiguous()).t().contiguous()

    @classmethod
    def claims(cls, tensors: Mapping[str, Tensor]) -> bool:
        return super().claims(tensors) and tensors["oft_blocks"].ndim == cls.ndim

    @classmethod
    def create(
        cls,
        layer: Layer,
        *,
        rank: int,
        alpha: float | None,
        generator: torch.Generator,
        options: AdapterOptions = PLAIN,
    ) -> Self:
        """B is zero. ``rank`` is the size of a block; ``alpha`` means nothing."""
        outputs, _, *kernel = layer.weight.shape
        device = layer.weight.device
        ones = torch.ones(outputs, 1, *(1 for _ in kernel), device=device)
        return cls(
            torch.zeros(cls.block_shape(outputs, rank), device=device),
            outputs=outputs,
            rescale=ones if options.rescaled else None,
            constraint=options.constraint,
        )

    @classmethod
    def from_tensors(cls, layer: Layer, tensors: Mapping[str, Tensor]) -> Self:
        blocks, rescale = tensors["oft_blocks"], tensors.get("rescale")
        outputs, _, *kernel = layer.weight.shape
        if not cls.fits(tuple(blocks.shape), outputs):
            shape = tuple(blocks.shape)
            raise ValueError(f"oft_blocks is {shape}, which turns no {outputs} outputs")
        if rescale is not None:
            if rescale.numel() != outputs:
                raise ValueError(f"rescale is {tuple(rescale.shape)} for {outputs} outputs")
            rescale = rescale.detach().to(layer.weight.device, torch.float32, copy=True)
            rescale = rescale.reshape(outputs, 1, *(1 for _ in kernel))
        return cls(
            blocks.detach().to(layer.weight.device, torch.float32, copy=True),
            outputs=outputs,
            rescale=rescale,
            constraint=float(tensors["alpha"]) if "alpha" in tensors else 0.0,
        )

    @property
    def rank(self) -> int:
        """The size of a block."""
        return self.oft_blocks.shape[-1]

    @property
    def gates(self) -> int:
        return self.outputs

    def delta_weight(self, layer: Layer) -> Tensor:
        weight = layer.weight.to(self.oft_blocks.dtype).flatten(1)
        return (self._turned(weight) - weight).reshape(layer.weight.shape)

    def delta(self, x: Tensor, layer: Layer) -> Tensor:
        y = base_output(layer, x)
        change = self._turned_outputs(y, layer) - y
        if not self.dropping:
            return change
        if isinstance(layer, nn.Conv2d):
            return self.drop(change.movedim(1, -1)).movedim(-1, 1)
        return self.drop(change)

    def forward_with_base(self, x: Tensor, layer: Layer) -> Tensor:
        """The layer's product once, then the rotation, then the bias."""
        if self.dropping or self.strength != 1.0:
            return self.forward(x, layer(x), layer)
        y = self._turned_outputs(base_output(layer, x), layer)
        if layer.bias is None:
            return y
        bias = layer.bias.view(-1, 1, 1) if isinstance(layer, nn.Conv2d) else layer.bias
        return y.add_(bias.to(y.dtype))

    def rotations(self) -> Tensor:
        """All R, float32, of the shape of ``oft_blocks``."""
        q = self.oft_blocks - self.oft_blocks.mT
        if self.limit > 0:
            q = q * (self.limit / (q.norm() + 1e-8)).clamp(max=1.0)
        eye = torch.eye(q.shape[-1], dtype=q.dtype, device=q.device)
        # I - Q of a skew Q is never singular, and asking whether it was would wait for the device.
        rotations: Tensor = torch.linalg.solve_ex(eye - q, eye + q).result
        return rotations

    def _turned(self, y: Tensor) -> Tensor:
        """Rᵀ y of ``y`` (..., O, C), each output then times its ``rescale``."""
        turned = self.turn(self.rotations().to(y.dtype), y)
        return turned if self.rescale is None else _scaled(turned, self.rescale.flatten(1))

    def _turned_outputs(self, y: Tensor, layer: Layer) -> Tensor:
        if isinstance(layer, nn.Conv2d):
            return self._turned(y.flatten(2)).view(y.shape)
        rows = self.turn_rows(self.rotations().to(y.dtype), y.reshape(-1, y.shape[-1]))
        if self.rescale is not None:
            rows = _scaled(rows, self.rescale.flatten())
        return rows.view(y.shape)


def _scaled(y: Tensor, factors: Tensor) -> Tensor:
    # A factor is near 1, where half precision has few numbers; its distance to 1 fares well.
    return torch.addcmul(y, y, (factors - 1.0).to(y.dtype))


class OFT(Rotation):
    """oft_blocks (O / s, s, s)."""

    ndim = 3

    @classmethod
    def block_shape(cls, outputs: int, rank: int) -> tuple[int, ...]:
        """The larger number of the two that make O counts the blocks, as in LyCORIS."""
        size, count = factorization(outputs, rank)
        return count, size, size

    @classmethod
    def fits(cls, shape: tuple[int, ...], outputs: int) -> bool:
        """Any size that divides O: kohya's OFT has few large blocks."""
        return shape[0] * shape[1] == outputs and shape[1] == shape[2]

    def turn(self, rotations: Tensor, y: Tensor) -> Tensor:
        blocks = y.unflatten(-2, rotations.shape[:2])
        return (rotations.mT @ blocks).flatten(-3, -2)

    def turn_rows(self, rotations: Tensor, y: Tensor) -> Tensor:
        wide = _widened(rotations)
        count, size, _ = wide.shape
        turned = y.view(-1, count, size).transpose(0, 1) @ wide
        return turned.transpose(0, 1).reshape(y.shape)


def _widened(rotations: Tensor) -> Tensor:
    """Blocks (n, s, s) side by side on the diagonals of larger ones, up to _WIDE: the same turn.

    Many products of tiny matrices take longer than a few with zeros in them.
    """
    count, size, _ = rotations.shape
    joined = max(n for n in range(1, count + 1) if count % n == 0 and (n == 1 or n * size <= _WIDE))
    if joined == 1:
        return rotations
    grouped = rotations.view(-1, joined, size, size).permute(0, 2, 3, 1)
    diagonal = torch.diag_embed(grouped).permute(0, 3, 1, 4, 2)
    return diagonal.reshape(-1, joined * size, joined * size)
