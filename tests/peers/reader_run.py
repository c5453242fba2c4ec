"""One other program's own code reading files of every form: run as a process of its own.

    python reader_run.py READER CHECKOUT FOLDER FORM... > results.json

FOLDER is as :mod:`lora_forms` fills it. What the program imports and does not use in reading a LoRA
is stood in for by empty modules. Nothing of lorasmith is imported, since some programs want other
versions of its libraries.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from base_model import Base
from stand_ins import stand_in


class Heard(logging.Handler):
    """What is logged while a block runs."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def __enter__(self) -> Heard:
        logging.getLogger().setLevel(logging.DEBUG)
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)


class Result:
    """What a reader made of one file."""

    def __init__(self, base: Base, folder: Path, form: str) -> None:
        import torch

        truth = torch.load(folder / f"{form}.pt", mmap=True)
        self.base, self.changed = base, set(truth["changed"])
        self.new: dict[str, Any] = truth["new"]  # until they are compared
        self.path = folder / f"{form}.safetensors"
        self.touched: set[str] = set()
        self.errors: dict[str, float] = {}
        self.said: list[str] = []

    def compare(self, stored: str, weight: Any) -> None:
        """Their new weight; the error is relative to the change."""
        old = self.base.values(stored).double()
        wanted = self.new[stored].double() - old
        found = weight.detach().double().reshape(old.shape) - old
        self.touched.add(stored)
        if float(found.abs().max()) == 0.0:
            self.touched.discard(stored)  # refused without a word
            return
        self.errors[stored] = float((found - wanted).norm() / wanted.norm())

    def whole(self, read: Callable[[str], Any]) -> None:
        """Compare every weight for which ``read`` gives one and does not fail."""
        for stored in sorted(self.new):
            try:
                weight = read(stored)
            except Exception as error:  # noqa: BLE001 - theirs may be any
                self.said.append(f"{stored}: {type(error).__name__} {error}")
                self.touched.discard(stored)
                continue
            if weight is not None:
                self.compare(stored, weight)
        self.new = dict.fromkeys(self.new)

    def summary(self) -> dict[str, Any]:
        worst = max(self.errors, key=lambda name: self.errors[name], default="")
        error = self.errors.get(worst, 0.0)
        compared = set(self.new)
        left = sorted(compared - self.touched)
        others = sorted(self.changed - compared - self.touched) if self.every else []
        if not self.errors:
            verdict = "refused"
        elif error > 1e-5 or math.isnan(error):
            verdict = "wrong"
        else:
            verdict = "partly" if left or others else "exact"
        return {"verdict": verdict, "error": error, "worst": worst, "said": self.said[:2],
                "left": [len(left), *left[:3]], "unread": [len(others), *others[:2]]}  # fmt: skip

    every = False
    """Whether ``touched`` holds all that the reader changes, also what is not compared."""


def patched(
    base: Base, names: dict[str, tuple[str, int | None]], apply: Callable[[str, Any], Any]
) -> Callable[[str], Any]:
    """Reads a stored weight whose thirds may be patched apart."""
    by_stored: dict[str, list[str]] = {}
    for name, (stored, _) in names.items():
        by_stored.setdefault(stored, []).append(name)

    def read(stored: str) -> Any:
        weight = base.values(stored)
        for name in by_stored.get(stored, []):
            third = names[name][1]
            part = weight if third is None else weight.chunk(3)[third]
            part.copy_(apply(name, part.clone()).reshape(part.shape))
        return weight if stored in by_stored else None

    return read


def comfyui(checkout: Path, base: Base, results: dict[str, Result]) -> None:
    sys.path.insert(0, str(checkout))
    stand_in("torchvision", "torchaudio", "av", "kornia", "comfy_api", "sentencepiece", "spandrel",
         "torchsde", "comfy.ldm.cosmos")  # fmt: skip
    sys.argv = ["x", "--cpu"]
    import comfy.options
    import torch

    comfy.options.enable_args_parsing()
    import comfy.lora
    import comfy.lora_convert
    import comfy.model_detection
    import comfy.utils

    names = base.in_comfy()
    meta = {name: torch.empty(shape, device="meta") for name, shape in base.shapes.items()}
    config = comfy.model_detection.model_config_from_unet(meta, "model.diffusion_model.")
    unet = {n: meta[s] for n, (s, _) in names.items() if n.startswith("diffusion_model.")}
    clip = {n: meta[s] for n, (s, _) in names.items() if n.startswith("clip")}
    model = SimpleNamespace(state_dict=lambda: unet, model_config=config)
    keys = comfy.lora.model_lora_keys_unet(model, {})
    keys = comfy.lora.model_lora_keys_clip(SimpleNamespace(state_dict=lambda: clip), keys)
    for result in results.values():
        with Heard() as heard:
            tensors = comfy.utils.load_torch_file(str(result.path), safe_load=True)
            patches = comfy.lora.load_lora(comfy.lora_convert.convert_lora(tensors), keys)

            def apply(name: str, weight: Any, patches: Any = patches) -> Any:
                patch = [(1.0, patches[name], 1.0, None, None)]
                return comfy.lora.calculate_weight(patch, weight, name)

            used = {name: names[name] for name in patches}
            result.touched = {stored for stored, _ in used.values()}
            result.every = True
            result.whole(patched(base, used, apply))
        result.said += heard.lines


def forge(checkout: Path, base: Base, results: dict[str, Result]) -> None:
    sys.path.insert(0, str(checkout))
    stand_in("modules", "modules_forge", "bitsandbytes", "backend.operations", "torchvision",
             "gguf", "backend.memory_management", "backend.utils", "backend.args")  # fmt: skip
    sys.argv = ["x"]
    import backend.memory_management as memory

    memory.cast_to_device = lambda x, device, dtype, copy=False: x.to(device=device, dtype=dtype)
    import backend.patcher.lora as lora
    from safetensors.torch import load_file

    names = base.in_comfy()
    depths = (
        {"num_res_blocks": [2] * 3, "channel_mult": [1, 2, 4],
         "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_middle": 10,
         "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10]}
        if base.sdxl else
        {"num_res_blocks": [2] * 4, "channel_mult": [1, 2, 4, 4],
         "transformer_depth": [1] * 6 + [0] * 2, "transformer_depth_middle": 1,
         "transformer_depth_output": [1] * 9 + [0] * 3}
    )  # fmt: skip
    unet = dict.fromkeys(name for name in names if name.startswith("diffusion_model."))
    clip = dict.fromkeys(name for name in names if name.startswith("clip"))
    model = SimpleNamespace(
        state_dict=lambda: unet,
        config=SimpleNamespace(unet_config=depths, huggingface_repo=""),
        diffusion_model=SimpleNamespace(config=depths),
    )
    unet_keys = lora.model_lora_keys_unet(model, {})
    clip_keys = lora.model_lora_keys_clip(SimpleNamespace(state_dict=lambda: clip), {})
    for result in results.values():
        patches, rest = lora.load_lora(load_file(result.path), unet_keys)
        more, rest = lora.load_lora(rest, clip_keys)
        patches = {**patches, **more}

        def apply(name: str, weight: Any, patches: Any = patches) -> Any:
            return lora.merge_lora_to_weight([(1.0, patches[name], 1.0, None, None)], weight, name)

        used = {name: names[name] for name in patches}
        result.touched = {stored for stored, _ in used.values()}
        result.every = True
        result.whole(patched(base, used, apply))
        result.said += list(rest)[:1]


def a1111(checkout: Path, base: Base, results: dict[str, Result]) -> None:
    sys.path.insert(0, str(checkout / "extensions-builtin" / "Lora"))
    stand_in("gradio", "modules")
    import torch

    sys.modules["lora_patches"] = types.ModuleType("lora_patches")
    import modules.devices as devices
    import modules.models.sd3.mmdit as mmdit
    import modules.sd_models as sd_models
    import modules.shared as shared
    from safetensors.torch import load_file

    mmdit.QkvLinear = type("QkvLinear", (torch.nn.Linear,), {})
    devices.cpu = devices.device = torch.device("cpu")
    devices.dtype = torch.float32
    sd_models.read_state_dict = load_file
    import networks

    def tree(prefix: str) -> Any:
        """Layers on the meta device, by name below ``prefix``."""
        layers = {}
        for stored, shape in base.shapes.items():
            if not stored.startswith(prefix):
                continue
            with torch.device("meta"):
                name = stored.removesuffix(".weight")
                if stored.endswith("in_proj_weight"):
                    name = stored.removesuffix(".in_proj_weight")
                    layer: Any = torch.nn.MultiheadAttention(shape[1], 8)
                elif not stored.endswith(".weight") or len(shape) not in (1, 2, 4):
                    continue
                elif len(shape) == 4:
                    layer = torch.nn.Conv2d(shape[1], shape[0], shape[2:], padding=shape[2] // 2)
                elif len(shape) == 2:
                    layer = torch.nn.Linear(shape[1], shape[0])
                else:
                    layer = torch.nn.LayerNorm(shape[0])
            layer.stored = stored
            layers[name.removeprefix(prefix)] = layer
        return SimpleNamespace(named_modules=lambda: list(layers.items()))

    model = SimpleNamespace(is_sdxl=base.sdxl, model=tree("model."))
    if base.sdxl:
        prefixes = [f"conditioner.embedders.{number}." for number in (0, 1)]
        wrapped = [SimpleNamespace(wrapped=tree(prefix)) for prefix in prefixes]
        model.conditioner = SimpleNamespace(embedders=wrapped)
    else:
        model.cond_stage_model = SimpleNamespace(wrapped=tree("cond_stage_model."))
    shared.sd_model = model
    networks.assign_network_names_to_compvis_modules(model)
    layers = {layer.stored: (n, layer) for n, layer in model.network_layer_mapping.items()}
    for result in results.values():
        with Heard() as heard:
            try:
                network = networks.load_network("x", SimpleNamespace(filename=str(result.path)))
            except Exception as error:  # noqa: BLE001 - theirs may be any
                result.said.append(f"{type(error).__name__} {error}")
                continue
        result.said += [line for line in heard.lines if "didn't match" in line]
        network.te_multiplier = network.unet_multiplier = 1.0
        network.dyn_dim = None

        def modules_of(name: str, layer: Any, network: Any = network) -> list[Any]:
            stacked = layer.stored.endswith("in_proj_weight")
            ends = ("_q_proj", "_k_proj", "_v_proj") if stacked else ("",)
            there = [name + end for end in ends if name + end in network.modules]
            return [network.modules[key] for key in there]

        def read(stored: str, modules_of: Any = modules_of) -> Any:
            weight_name = re.sub("bias$", "weight", stored)
            if weight_name not in layers:
                return None
            own = modules_of(*layers[weight_name])
            if not own:
                return None
            weight = base.values(weight_name)
            with torch.no_grad():
                parts = zip(own, weight.chunk(len(own), 0), strict=True)
                changes = [module.calc_updown(part) for module, part in parts]
            if stored != weight_name:
                bias = changes[0][1]
                return None if bias is None else base.values(stored) + bias
            return weight + torch.vstack([change.reshape(len(change), -1) for change, _ in changes]
                                         ).reshape(weight.shape)  # fmt: skip

        result.touched = {s for s, (n, layer) in layers.items() if modules_of(n, layer)}
        result.every = True
        result.whole(read)


def sd_scripts(checkout: Path, base: Base, results: dict[str, Result]) -> None:
    sys.path[:0] = [
        str(checkout.parent / "transformers4"),
        str(checkout),
        str(checkout / "networks"),
    ]
    stand_in("cv2", "torchvision", "triton", "imagesize")
    import lora
    import torch
    from safetensors.torch import load_file

    unet, encoders = _their_models(base)
    for result in results.values():
        tensors = load_file(result.path)
        texts = encoders if base.sdxl else encoders[0]
        try:
            network, tensors = lora.create_network_from_weights(
                1.0, str(result.path), None, texts, unet, tensors, for_inference=True
            )
        except Exception as error:  # noqa: BLE001 - theirs may be any
            result.said.append(f"{type(error).__name__} {error}")
            continue
        by_name = {one.lora_name: one for one in network.text_encoder_loras + network.unet_loras}

        def apply(key: str, weight: Any, by_name: Any = by_name, tensors: Any = tensors) -> Any:
            own = by_name[key]
            layer = own.org_module[0] if isinstance(own.org_module, list) else own.org_module
            stand_in = torch.nn.Linear(1, 1, bias=False)
            stand_in.weight = torch.nn.Parameter(weight.reshape(layer.weight.shape).clone(), False)
            own.org_module = stand_in
            prefix = f"{key}."
            parts = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            own.merge_to(parts, torch.float32, "cpu")
            own.org_module = layer
            return stand_in.weight

        used = {key: place for key, place in _kohya_keys(base).items() if key in by_name}
        result.touched = {stored for stored, _ in used.values()}
        result.every = True
        result.whole(patched(base, used, apply))


def _their_models(base: Base) -> tuple[Any, list[Any]]:
    """sd-scripts' UNet and transformers' text encoders, on the meta device."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    with torch.device("meta"):
        if base.sdxl:
            from library.sdxl_original_unet import SdxlUNet2DConditionModel

            unet = SdxlUNet2DConditionModel()
        else:
            from library.original_unet import UNet2DConditionModel

            unet = UNet2DConditionModel(
                sample_size=64, attention_head_dim=8, cross_attention_dim=768,
                use_linear_projection=False, upcast_attention=False,
            )  # fmt: skip
        small = CLIPTextConfig(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
        )
        encoders = [CLIPTextModel(small)]
        if base.sdxl:
            large = CLIPTextConfig(
                hidden_size=1280, intermediate_size=5120, num_hidden_layers=32,
                num_attention_heads=20, projection_dim=1280,
            )  # fmt: skip
            encoders.append(CLIPTextModelWithProjection(large))
    return unet, encoders


def _kohya_keys(base: Base) -> dict[str, tuple[str, int | None]]:
    """kohya's key of a layer -> the stored name of its weight, third of stacked q, k, v."""
    keys: dict[str, tuple[str, int | None]] = {}
    for stored, names in base.names.items():
        for part, name in names:
            if not name.endswith(".weight"):
                continue
            path = name.removesuffix(".weight")
            third = None
            if stored.endswith("in_proj_weight"):
                third = "qkv".index(path.split(".")[-1][0])
            if part == "unet":
                keys["lora_unet_" + path.replace(".", "_")] = (stored, None)
                ldm = stored.removeprefix("model.diffusion_model.").removesuffix(".weight")
                keys["lora_unet_" + ldm.replace(".", "_")] = (stored, None)
            elif part.startswith("text_encoder"):
                number = "" if not base.sdxl else "1" if part == "text_encoder" else "2"
                own = path.removeprefix("text_model.").replace(".", "_")
                keys[f"lora_te{number}_text_model_{own}"] = (stored, third)
    return keys


def lycoris(checkout: Path, base: Base, results: dict[str, Result]) -> None:
    """Its loader of single modules, and what their forward pass then adds to weight and bias."""
    sys.path.insert(0, str(checkout))
    import torch
    from lycoris.modules import get_module, make_module
    from safetensors.torch import load_file

    places = _kohya_keys(base)

    def added(tensors: Any, key: str, weight: Any) -> tuple[Any, Any]:
        outputs, inputs, *kernel = weight.shape
        with torch.device("meta"):
            layer: Any = (
                torch.nn.Conv2d(inputs, outputs, tuple(kernel))
                if kernel
                else torch.nn.Linear(inputs, outputs)
            )
        layer.weight = torch.nn.Parameter(weight, requires_grad=False)
        stored = places[key][0]
        if re.sub("weight$", "bias", stored) in base.shapes:
            layer.bias = torch.nn.Parameter(torch.zeros(outputs), requires_grad=False)
        else:
            layer.bias = None
        kind, parameters = get_module(tensors, key)
        module = None if kind is None else make_module(kind, parameters, key, layer)
        if module is None:
            raise ValueError("no type of LyCORIS'")
        changes = []

        def operation(x: Any, weight: Any, bias: Any, **_: Any) -> Any:
            changes.append((weight, bias))
            return x

        module.op = operation
        module.org_forward = lambda x: x
        with torch.no_grad():
            module.eval()(torch.zeros(1))
        ((change, bias),) = changes
        return change, bias

    for result in results.values():
        tensors = load_file(result.path)
        present = {name.partition(".")[0] for name in tensors}
        used = {key: place for key, place in places.items() if key in present}

        def apply(key: str, weight: Any, tensors: Any = tensors) -> Any:
            return weight + added(tensors, key, weight)[0]

        weights = patched(base, used, apply)

        def read(
            stored: str, used: Any = used, tensors: Any = tensors, weights: Any = weights
        ) -> Any:
            if not stored.endswith(".bias"):
                return weights(stored)
            weight_name = stored.removesuffix("bias") + "weight"
            key = next(key for key, place in used.items() if place == (weight_name, None))
            return base.values(stored) + added(tensors, key, base.values(weight_name))[1]

        result.whole(read)


READERS = {"ComfyUI": comfyui, "Forge": forge, "AUTOMATIC1111": a1111,
           "sd-scripts": sd_scripts, "lycoris-lora": lycoris}  # fmt: skip


def main() -> None:
    import torch

    reader, checkout, folder, *forms = sys.argv[1:]
    torch.set_num_threads(1)
    base = Base(Path(folder))
    out, sys.stdout = sys.stdout, sys.stderr  # their code prints
    results = {form: Result(base, Path(folder), form) for form in forms}
    READERS[reader](Path(checkout).resolve(), base, results)
    json.dump({form: result.summary() for form, result in results.items()}, out)


if __name__ == "__main__":
    main()
