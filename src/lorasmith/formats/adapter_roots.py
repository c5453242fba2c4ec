"""Where adapters attach in a network, and what each place is called in a file. Torch-free.

Kohya's names: ``{key prefix}_{module path with . as _}``. The path is that of diffusers for the
UNet and of transformers up to 4 for CLIP, whose text model lay under ``text_model``; a root
therefore carries the part of the path that its module no longer has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from lorasmith.formats.layer_names import TEXT_PROJECTION

if TYPE_CHECKING:
    from torch import nn


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
        folder: the network's name in the long file names, where it is not ``part``:
            "text_encoder_2".
        renamed: other names of module paths in kohya's keys: SDXL's are LDM's.
        other_names: other names of module paths, which some programs' files have: LDM's.
        attention: class names of attention in these blocks.
        ends: paths of layers outside of all blocks that the preset ``full`` adapts too.
    """

    part: str
    key_prefix: str
    path_prefix: str
    module: nn.Module
    targets: tuple[str, ...]
    conv_targets: tuple[str, ...] = ()
    folder: str = ""
    renamed: Mapping[str, str] | None = None
    other_names: Mapping[str, str] | None = None
    attention: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()

    def key(self, path: str) -> str:
        """Kohya's key of the layer at ``path`` below this root."""
        full = self._full((self.renamed or {}).get(path, path))
        return f"{self.key_prefix}_{full}".replace(".", "_")

    def paths(self, path: str) -> list[str]:
        """All names of a module's path in files, without what :attr:`path_prefix` adds."""
        others = ((names or {}).get(path) for names in (self.renamed, self.other_names))
        return [path, *(other for other in others if other is not None)]

    def long_names(self, path: str) -> list[str]:
        """The layer's names in diffusers' and peft's files, the usual one first."""
        name = self.folder or self.part
        full = f"{name}.{self._full(path)}"
        bare = f"{name}.{path}"
        return [full] if full == bare else [full, bare]

    def _full(self, path: str) -> str:
        if not self.path_prefix or path == TEXT_PROJECTION:
            return path
        return f"{self.path_prefix}.{path}"
