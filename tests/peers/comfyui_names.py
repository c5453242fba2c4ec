"""Run as a program in a process of its own: the names that ComfyUI's LoRA loader knows, as JSON.

    python comfyui_names.py COMFYUI < {"weights": [names], "unet": {configuration}}

What the loader imports and does not need here is stood in for by empty modules.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import sys
import types
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import MagicMock

_EMPTY = ("torchvision", "torchaudio", "av", "kornia", "comfy_api", "sentencepiece", "spandrel",
          "torchsde", "comfy.ldm.cosmos")  # fmt: skip


class _Empty(types.ModuleType):
    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(name=name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if any(name == root or name.startswith(f"{root}.") for root in _EMPTY):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def main() -> None:
    sys.meta_path.insert(0, _Finder())
    sys.path.insert(0, sys.argv[1])
    sys.argv = ["comfyui", "--cpu"]
    import comfy.options  # type: ignore[import-not-found]

    comfy.options.enable_args_parsing()
    import comfy.lora  # type: ignore[import-not-found]

    asked = json.load(sys.stdin)
    unet = {name: None for name in asked["weights"] if name.startswith("diffusion_model.")}
    clip = {name: None for name in asked["weights"] if name not in unet}
    model = SimpleNamespace(
        state_dict=lambda: unet, model_config=SimpleNamespace(unet_config=asked["unet"])
    )
    names = comfy.lora.model_lora_keys_unet(model, {})
    names = comfy.lora.model_lora_keys_clip(SimpleNamespace(state_dict=lambda: clip), names)
    known = {name: weight for name, weight in names.items() if weight in asked["weights"]}
    sys.stdout.write("\n" + json.dumps(known) + "\n")


if __name__ == "__main__":
    main()
