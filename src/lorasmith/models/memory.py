"""Ways to need less memory for the same numbers: recomputing, and being elsewhere for a while."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

TILE = 512
"""Side in pixels of the tiles that a VAE takes a large image in."""


def blocks_by_activations(blocks: Sequence[str]) -> list[str]:
    """Blocks, first those whose recomputing saves most memory for its time.

    Activations grow with channels times positions, arithmetic with the channels' square: so the
    outermost blocks come first, where images are largest and channels fewest.

    Args:
        blocks: in the order in which they run.
    """
    middle = len(blocks) // 2
    return sorted(blocks, key=lambda block: -abs(blocks.index(block) - middle))


def blocks_by_weight(denoiser: nn.Module, blocks: Sequence[str]) -> list[str]:
    """Blocks, first those with the most weights."""
    sizes = {
        block: sum(parameter.numel() for parameter in denoiser.get_submodule(block).parameters())
        for block in blocks
    }
    return sorted(sizes, key=lambda block: -sizes[block])


def within(path: str, blocks: Collection[str]) -> bool:
    """Whether a module's path is one of ``blocks`` or lies in one."""
    return any(path == block or path.startswith(f"{block}.") for block in blocks)


def checkpoint_denoiser(denoiser: nn.Module, blocks: Collection[str] | None = None) -> None:
    """Recompute the residual blocks and transformer blocks within ``blocks``; all for ``None``."""
    # Not reentrant: that kind would need inputs with gradients, and those of a base have none.
    denoiser.enable_gradient_checkpointing()  # type: ignore[operator]
    for path, module in denoiser.named_modules():
        if blocks is not None and hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = within(path, blocks)


def checkpoint_text_encoder(text_encoder: nn.Module) -> None:
    for layer in text_encoder.encoder.layers:  # type: ignore[union-attr]
        # transformers' own switch works in training mode only; a frozen model is not in it.
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)


@contextlib.contextmanager
def on_device(module: nn.Module, device: torch.device) -> Iterator[None]:
    """``module`` on ``device`` within the block, for computing without gradients; its own tensors
    stay where they are, and are the module's again after it."""
    with torch.inference_mode(False):  # Sampling infers, and weights must not become its tensors.
        places: list[tuple[dict[str, Any], str, Tensor]] = [
            (owned, name, tensor)
            for part in module.modules()
            for owned in (part._parameters, part._buffers)
            for name, tensor in owned.items()
            if tensor is not None
        ]
        for owned, name, tensor in places:
            moved = tensor.detach().to(device)
            is_parameter = isinstance(tensor, nn.Parameter)
            owned[name] = nn.Parameter(moved, requires_grad=False) if is_parameter else moved
    try:
        yield
    finally:
        for owned, name, tensor in places:
            owned[name] = tensor
