"""DeepDanbooru's network, as ``model-resnet_custom_v3.pt`` of TorchDeepDanbooru holds it.

A residual network of 179 convolutions, numbered through, with padding as TensorFlow pads ("same":
of an odd number the larger part follows). The file holds the weights and the names of the tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorasmith.core.errors import CheckpointError
from lorasmith.tensors.files import LOAD_ERRORS, load_torch_file

SIDE = 512
# Blocks of each stage, stride of its first, and whether that block's shortcut is numbered last.
_STAGES = (
    (3, 1, False),
    (8, 2, False),
    (20, 2, False),
    (20, 2, True),
    (3, 2, False),
    (3, 2, False),
)
_CONVOLUTIONS = 1 + sum(3 * blocks + 1 for blocks, _, _ in _STAGES) + 1
_HINT = "download model-resnet_custom_v3.pt again, or use the ONNX: --tagger deepdanbooru"


class DeepDanbooru(nn.Module):
    """Pixels (B, H, W, 3), RGB, 0..1 -> probabilities (B, tags)."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        for number in range(_CONVOLUTIONS):
            self.register_buffer(f"weight_{number}", weights[f"n_Conv_{number}.weight"].float())
            bias = weights.get(f"n_Conv_{number}.bias")
            self.register_buffer(f"bias_{number}", None if bias is None else bias.float())

    def forward(self, pixels: Tensor) -> Tensor:
        x = F.relu(self._convolve(0, F.pad(pixels.permute(0, 3, 1, 2), (2, 3, 2, 3)), 2))
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 3, 2)
        number = 1
        for blocks, stride, shortcut_last in _STAGES:
            first = number if shortcut_last else number + 1
            shortcut = self._convolve(number + 3 if shortcut_last else number, x, stride)
            x = F.relu(self._bottleneck(first, x, stride) + shortcut)
            number += 4
            for _ in range(blocks - 1):
                x = F.relu(self._bottleneck(number, x, 1) + x)
                number += 3
        return torch.sigmoid(self._convolve(number, x, 1).mean((2, 3)))

    def _bottleneck(self, number: int, x: Tensor, stride: int) -> Tensor:
        x = F.relu(self._convolve(number, x, 1))
        x = F.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        x = F.relu(self._convolve(number + 1, x, stride))
        return self._convolve(number + 2, x, 1)

    def _convolve(self, number: int, x: Tensor, stride: int) -> Tensor:
        weight, bias = getattr(self, f"weight_{number}"), getattr(self, f"bias_{number}")
        return F.conv2d(x, weight, bias, stride)


def load_deepdanbooru(path: Path) -> tuple[DeepDanbooru, list[str]]:
    """The network, and the names of its outputs (none where the file has none).

    Raises:
        CheckpointError: the file is damaged, asks for more than tensors, or is another model.
    """
    try:
        content: Any = load_torch_file(path)
    except LOAD_ERRORS as error:
        what = f"cannot be read as weights: {type(error).__name__}: {error}".splitlines()[0]
        raise CheckpointError.of(path, what, _HINT) from error
    if not isinstance(content, Mapping):
        raise CheckpointError.of(path, "is not DeepDanbooru's: it holds no table", _HINT)
    names = content.get("tags", [])
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    missing = [
        name
        for number in range(_CONVOLUTIONS)
        if (name := f"n_Conv_{number}.weight") not in tensors or tensors[name].dim() != 4
    ]
    if missing:
        what = f"is not DeepDanbooru's: it lacks {missing[0]}"
        raise CheckpointError.of(path, what, _HINT)
    return DeepDanbooru(tensors), [str(name) for name in names]
