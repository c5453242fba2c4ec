"""Where adapters attach, and what each place is called in a file.

Kohya's names: ``{key prefix}_{module path with . as _}``. The path is that of diffusers for the
UNet and of transformers up to 4 for CLIP, whose text model lay under ``text_model``; a root
therefore carries the part of the path that its module no longer has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from lorasmith.adapters.base import AdaptedLayer, Layer


class AdapterRoot(NamedTuple):
    """A network that adapters attach to.

    Args:
        part: "unet" or "text_encoder": decides strength, learning rate and the long file names.
        key_prefix: how kohya's keys begin: "lora_unet", "lora_te".
        path_prefix: what precedes the module's own paths in keys: "" or "text_model".
        module: the network itself.
        targets: class names of the blocks whose layers LoRA-LierLa adapts:
            ("Transformer2DModel",), ("CLIPAttention", "CLIPMLP").
        conv_targets: those whose layers LoRA-C3Lier and LoCon add:
            ("ResnetBlock2D", "Downsample2D", "Upsample2D") of a UNet.
    """

    part: str
    key_prefix: str
    path_prefix: str
    module: nn.Module
    targets: tuple[str, ...]
    conv_targets: tuple[str, ...] = ()

    def key(self, path: str) -> str:
        """Kohya's key of the layer at ``path`` below this root."""
        return f"{self.key_prefix}_{self._full(path)}".replace(".", "_")

    def long_names(self, path: str) -> list[str]:
        """The layer's names in diffusers' and peft's files, the usual one first."""
        full = f"{self.part}.{self._full(path)}"
        bare = f"{self.part}.{path}"
        return [full] if full == bare else [full, bare]

    def _full(self, path: str) -> str:
        return f"{self.path_prefix}.{path}" if self.path_prefix else path


@dataclass(frozen=True, slots=True)
class Target:
    """One layer that can be adapted: ``root.module`` at ``path``, called ``key`` in files."""

    root: AdapterRoot
    path: str
    key: str

    @property
    def part(self) -> str:
        return self.root.part

    @property
    def parent(self) -> nn.Module:
        return self.root.module.get_submodule(self.path.rpartition(".")[0])

    @property
    def attribute(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def slot(self) -> nn.Module:
        """What stands at the path now: the layer, or the :class:`AdaptedLayer` around it."""
        slot: nn.Module = getattr(self.parent, self.attribute)
        return slot

    @property
    def layer(self) -> Layer:
        """The frozen layer itself, whether wrapped or not."""
        slot = self.slot
        layer = slot.layer if isinstance(slot, AdaptedLayer) else slot
        assert isinstance(layer, nn.Linear | nn.Conv2d), f"{self.path} is a {type(layer).__name__}"
        return layer

    @property
    def is_spatial(self) -> bool:
        """A convolution larger than 1 x 1: what ``conv_rank`` and ``conv_alpha`` are for."""
        layer = self.layer
        return isinstance(layer, nn.Conv2d) and tuple(layer.kernel_size) != (1, 1)


@dataclass(frozen=True, slots=True)
class Size:
    """Rank of an adapter and its alpha; alpha of None or 0 means ``rank``."""

    rank: int
    alpha: float | None = None


# Which size a layer's adapter gets; None leaves the layer alone.
SizeRule = Callable[[Target], Size | None]


@dataclass(frozen=True, slots=True)
class UniformSizes:
    """One size for Linear layers and 1 x 1 convolutions, one for larger convolutions."""

    linear: Size
    conv: Size | None = None

    def __call__(self, target: Target) -> Size | None:
        return self.conv if target.is_spatial else self.linear


def layers_of(root: AdapterRoot) -> list[Target]:
    """Every Linear and Conv2d layer of a root, in the order of its modules."""
    return [Target(root, path, root.key(path)) for path, _ in _walk(root.module, "", False)]


def targets_of(root: AdapterRoot, *, conv: bool = False) -> list[Target]:
    """The layers that kohya's LoRA adapts: those inside the root's target blocks.

    Args:
        conv: those inside its ``conv_targets`` too.
    """
    blocks = (*root.targets, *root.conv_targets) if conv else root.targets
    found = _walk(root.module, "", False, frozenset(blocks))
    return [Target(root, path, root.key(path)) for path, inside in found if inside]


def find_targets(
    roots: Sequence[AdapterRoot], sizes: SizeRule, *, conv: bool = False
) -> list[tuple[Target, Size]]:
    """The layers of all roots that get an adapter, each with its size."""

    sized = ((target, sizes(target)) for root in roots for target in targets_of(root, conv=conv))
    return [(target, size) for target, size in sized if size is not None]


def _walk(
    module: nn.Module, path: str, inside: bool, blocks: frozenset[str] = frozenset()
) -> Iterator[tuple[str, bool]]:
    """Paths of the layers below ``module``, each with whether it lies in one of ``blocks``."""
    if isinstance(module, nn.Linear | nn.Conv2d | AdaptedLayer):
        yield path, inside
        return
    inside = inside or type(module).__name__ in blocks
    for name, child in module.named_children():
        yield from _walk(child, f"{path}.{name}" if path else name, inside, blocks)
