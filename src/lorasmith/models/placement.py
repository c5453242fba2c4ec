"""How a denoiser's frozen weights are kept: whole or in fewer bits, on the device or in main
memory.

Only layers inside the denoiser's blocks are kept otherwise, and of them only Linear layers and
convolutions: first and last convolution, the embeddings of time and size, norms and biases are
small, and what they lose all others would inherit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lorasmith.core.text import bytes_text
from lorasmith.models.memory import blocks_by_weight, within
from lorasmith.tensors.offload import Prefetcher, replace_layer

# 4 bits are made for the many weights of Linear layers; convolutions are fewer and lose more.
FORMATS_OF: Mapping[str, tuple[str, str]] = {
    "none": ("none", "none"), "fp8": ("fp8", "fp8"), "nf4": ("nf4", "fp8"),
}  # fmt: skip
"""Formats of Linear layers and of convolutions, by the name of both."""


@dataclass(frozen=True, slots=True)
class WeightPlacement:
    """
    Args:
        weight_format: "none", "fp8" (e4m3) or "nf4".
        offloaded_blocks: how many blocks' weights stay in main memory, the heaviest first.
    """

    weight_format: str = "none"
    offloaded_blocks: int = 0


IN_FULL = WeightPlacement()


class WeightPlacer:
    """Takes those weights of a denoiser that are kept otherwise, one at a time as they are read."""

    def __init__(
        self,
        denoiser: nn.Module,
        blocks: Sequence[str],
        placement: WeightPlacement,
        device: torch.device,
    ) -> None:
        self._denoiser, self._formats = denoiser, FORMATS_OF[placement.weight_format]
        self._blocks = blocks
        self._away = blocks_by_weight(denoiser, blocks)[: placement.offloaded_blocks]
        self._prefetcher = Prefetcher(device) if self._away else None

    def place(self, name: str, weight: Tensor) -> bool:
        """Put ``weight`` in its place if it is to be stored otherwise; whether it was."""
        path, _, leaf = name.rpartition(".")
        if leaf != "weight" or not within(path, self._blocks):
            return False
        layer = self._denoiser.get_submodule(path)
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            return False
        weight_format = self._formats[isinstance(layer, nn.Conv2d)]
        offloaded = within(path, self._away)
        if weight_format == "none" and not offloaded:
            return False
        stored_layer = replace_layer(self._denoiser, path, weight, weight_format)
        if offloaded and self._prefetcher is not None:
            stored_layer.stored.move_to_host(self._prefetcher)
        return True

    @property
    def notes(self) -> list[str]:
        """What a user should know about how it went."""
        if self._prefetcher is None or not self._prefetcher.unlocked:
            return []
        text = (
            f"the system locked no memory for {bytes_text(self._prefetcher.unlocked)} of the "
            "offloaded weights: they come to the GPU more slowly, and the program waits for each "
            "(offload fewer blocks)"
        )
        return [text]


def place_weights(
    denoiser: nn.Module, blocks: Sequence[str], placement: WeightPlacement, device: torch.device
) -> None:
    """Keep a denoiser's weights as ``placement`` says: of one that is there already."""
    keeper = WeightPlacer(denoiser, blocks, placement, device)
    for name, parameter in list(denoiser.named_parameters()):
        keeper.place(name, parameter.detach())
