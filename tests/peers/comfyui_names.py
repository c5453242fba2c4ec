"""Run as a program in a process of its own: the names that ComfyUI's LoRA loader knows, as JSON.

    python comfyui_names.py COMFYUI < {"weights": [names], "unet": {configuration}}

What the loader imports and does not need here is stood in for by empty modules.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

from stand_ins import stand_in

_EMPTY = ("torchvision", "torchaudio", "av", "kornia", "comfy_api", "sentencepiece", "spandrel",
          "torchsde", "comfy.ldm.cosmos")  # fmt: skip


def main() -> None:
    stand_in(*_EMPTY)
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
