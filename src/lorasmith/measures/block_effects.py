"""What each block of an adapter contributes: what is lost without it.

Shapes: B blocks, S seeds of noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorasmith.measures.records import finite
from lorasmith.measures.strength_grid import mean_and_error

if TYPE_CHECKING:
    from lorasmith.adapters.network import AdapterNetwork
    from lorasmith.formats.block_weights import BlockMap
    from lorasmith.measures.noise_probe import Probe

NOTHING = 0.01
"""Share of the whole gain below which a block can be left out, if that is no chance."""


@dataclass(frozen=True, slots=True)
class BlockEffects:
    """
    Args:
        blocks: those that the LoRA has, BASE for the text encoder, in the model's order.
        whole: (S,) change of the loss since the base with all blocks; below 0.
        without: (B, S) the same with one block left out.
    """

    blocks: list[str]
    whole: list[float]
    without: list[list[float]]

    def contributions(self) -> dict[str, tuple[float, float]]:
        """By block, what is lost without it, as a share of the whole gain, and its standard error
        over the seeds; below 0 where the LoRA is better without."""
        found = {}
        for block, losses in zip(self.blocks, self.without, strict=True):
            shares = [
                (loss - whole) / max(-whole, 1e-9)
                for loss, whole in zip(losses, self.whole, strict=True)
            ]
            found[block] = mean_and_error(shares)
        return found

    def idle(self) -> list[str]:
        """Blocks that can be left out: what is lost without them is nothing, or less."""
        return [
            block
            for block, (share, error) in self.contributions().items()
            if share + 2 * error < NOTHING
        ]


def measure_blocks(
    network: AdapterNetwork,
    probes: Sequence[Probe],
    blocks: BlockMap,
    block_done: Callable[[], object] = lambda: None,
) -> BlockEffects:
    """
    Args:
        network: not attached.
        probes: the same images with the noise of each seed.
        blocks: of the model.
    """
    place = {key: blocks.block(target) for key, target in network.targets.items()}
    names = [name for name in blocks.names if name in place.values()]
    with network.attached():
        network.set_strength()
        whole = _losses(probes)
        without = []
        for name in names:
            for key, adapter in network.adapters.items():
                adapter.strength = 0.0 if place[key] == name else 1.0
            without.append(_losses(probes))
            block_done()
        network.set_strength()
    return BlockEffects(names, whole, without)


def _losses(probes: Sequence[Probe]) -> list[float]:
    return [finite(probe.change(probe.predict()).mean()) for probe in probes]
