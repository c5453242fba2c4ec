"""Every family at full size in every format: read as diffusers reads it, in how long and how much.

    python -m benchmarks.formats [sd15] [sd21] [sdxl]

Makes a checkpoint of random weights in each format, one at a time, in a temporary folder, and in a
process of its own reads it (float16, the VAE float32) and compares every weight with what
diffusers' own conversion makes of the LDM names. The first format of each model also trains two
steps on 64 px images (SDXL: 128 px); diffusers' pipeline then loads the LoRA, and what UNet and
text encoders compute with it is compared. The weights are numbers that float8 holds exactly, so all
formats hold the same model. Writes the table to `formats.md` beside this file. SDXL takes up to
14 GB of disk at a time and 17 GB of memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import save_file
from tests.pipelines import encode, pipeline_of, transformers_model
from tests.published import PUBLISHED, random_state
from torch import Tensor, nn

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.load import load_settings
from lorasmith.core.files import write_text
from lorasmith.demo.character import write_training_set
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.families.table import Architecture
from lorasmith.models.load import load_model
from lorasmith.training.run import train

REPORT = Path(__file__).with_suffix(".md")
PIXELS = {"sd15": 64, "sd21": 64, "sdxl": 128}
CAPTIONS = ["a cat, sitting", "a dog"]
MARKS = {"v": {"v_pred": torch.zeros(0)}, "epsilon": {}}


def reference(name: str) -> dict[str, Tensor]:
    """LDM names; float16 numbers that float8 (e4m3) holds."""
    architecture = PUBLISHED[name]
    state = random_state(architecture)
    for tensor in state.values():
        tensor.copy_(tensor.to(torch.float8_e4m3fn))
    return state | MARKS[architecture.prediction]


def one_file(dtype: torch.dtype) -> Callable[[str, Path], Path]:
    def write(name: str, folder: Path) -> Path:
        state = {key: tensor.to(dtype) for key, tensor in reference(name).items()}
        save_file(state, folder / "model.safetensors")
        return folder / "model.safetensors"

    return write


def torch_file(name: str, folder: Path) -> Path:
    torch.save({"state_dict": reference(name)}, folder / "model.ckpt")
    return folder / "model.ckpt"


def loaded(name: str, folder: Path) -> DiffusionModel:
    path = one_file(torch.float16)(name, folder)
    model = load_model(path, dtype=torch.float16, vae_dtype=torch.float16)
    path.unlink()
    return model


def diffusers_names(name: str, folder: Path) -> Path:
    model = loaded(name, folder)
    parts = zip(model.architecture.family.parts, model.networks, strict=True)
    state = {
        f"{part}.{key}": tensor
        for part, network in parts
        for key, tensor in network.named_parameters()
    }
    save_file(state | MARKS[model.prediction], folder / "model.safetensors")
    return folder / "model.safetensors"


def diffusers_folder(name: str, folder: Path, **options: Any) -> Path:
    model = loaded(name, folder)
    family = model.architecture.family
    for part, network in zip(family.parts, model.networks, strict=True):
        if part.startswith("text"):
            network = transformers_model(network, family.text_encoder(part)).half()
        network.save_pretrained(folder / "model" / part, **options)
    pipeline = {"epsilon": "epsilon", "v": "v_prediction"}[model.prediction]
    scheduler = folder / "model" / "scheduler" / "scheduler_config.json"
    scheduler.parent.mkdir()
    scheduler.write_text(json.dumps({"prediction_type": pipeline}), encoding="utf-8")
    return folder / "model"


FORMATS: dict[str, Callable[..., Path]] = {
    "float16": one_file(torch.float16),
    "float32": one_file(torch.float32),
    "bfloat16": one_file(torch.bfloat16),
    "float8": one_file(torch.float8_e4m3fn),
    "ckpt": torch_file,
    "diffusers names": diffusers_names,
    "folder": diffusers_folder,
    "fp16 variant": lambda name, folder: diffusers_folder(name, folder, variant="fp16"),
    "shards": lambda name, folder: diffusers_folder(name, folder, max_shard_size="500MB"),
}


class PeakMemory:
    """Bytes beyond what the process held before: all, and all but pages of mapped files, which the
    system takes back when it needs them."""

    def __enter__(self) -> PeakMemory:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._before, self._own_before = memory("VmRSS"), memory("RssAnon")
        self._own, self._done = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self._own = max(self._own, memory("RssAnon"))

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.total = memory("VmHWM") - self._before
        self.own = self._own - self._own_before


def memory(field: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def weights(modules: list[nn.Module]) -> int:
    return sum(p.numel() * p.element_size() for module in modules for p in module.parameters())


def converted(
    model: DiffusionModel, state: dict[str, Tensor]
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Each part's weights as diffusers makes them of the LDM names."""
    architecture = model.architecture
    yield "unet", convert_ldm_unet_checkpoint(dict(state), architecture.denoiser)
    yield "vae", convert_ldm_vae_checkpoint(dict(state), architecture.vae)
    for spec, config in zip(architecture.family.text_encoders, architecture.texts, strict=True):
        if spec.style == "open_clip":
            with torch.device("meta"):
                network = transformers_model(type(model.text_encoder)(
                    model.text_encoders[spec.part].config
                ), spec)  # fmt: skip
            assert config["num_hidden_layers"] == network.config.num_hidden_layers
            found = convert_open_clip_checkpoint(network, dict(state), prefix=spec.ldm_prefix)
        else:
            prefix = spec.ldm_prefix
            found = convert_ldm_clip_checkpoint(dict(state), remove_prefix=prefix)
        yield spec.part, {name.removeprefix("text_model."): t for name, t in found.items()}


def compare(model: DiffusionModel, name: str) -> int:
    """How many weights were compared; every one of ours is, and is equal."""
    state, compared = reference(name), 0
    networks = dict(zip(model.architecture.family.parts, model.networks, strict=True))
    for part, wanted in converted(model, state):
        for key, parameter in networks[part].named_parameters():
            # Rounding to float8 made all of these exact in float16 and float32.
            assert torch.equal(parameter, wanted[key].to(parameter.dtype)), f"{part} {key}"
            compared += 1
    return compared


def read(name: str, path: Path) -> dict[str, Any]:
    """In a fresh process: time and memory of loading, and the comparison."""
    with PeakMemory() as peak:
        start = time.perf_counter()
        model = load_model(path, dtype=torch.float16)
        seconds = time.perf_counter() - start
    size = weights(model.networks)
    known: Architecture = PUBLISHED[name]
    assert model.architecture == known, "not the published architecture"
    return {
        "seconds": seconds, "size": size, "peak": peak.total / size, "own": peak.own / size,
        "compared": compare(model, name),
    }  # fmt: skip


def train_two_steps(name: str, path: Path, folder: Path) -> dict[str, Any]:
    write_training_set(folder / "data", images=2, regularisation=0, repeats=1)
    settings = {
        "model.path": str(path), "data.path": str(folder / "data"), "save.output": str(folder),
        "save.name": "run", "data.resolution": str(PIXELS[name]), "buckets.min": str(PIXELS[name]),
        "train.steps": "2", "train.precision": "bf16", "train.batch": "1", "adapter.rank": "4",
        "optimizer.lr": "1e-2", "sample.at_start": "false", "sample.every_epochs": "0",
        "log.tensorboard": "false", "save.precision": "fp32",
    }  # fmt: skip
    start = time.perf_counter()
    with PeakMemory() as peak:
        run = train(load_settings(None, settings))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "own": peak.own, "lora": str(run / "run.safetensors")}


def in_diffusers(name: str, path: Path, lora: Path) -> dict[str, Any]:
    """How far diffusers' outputs with the LoRA are from ours, as a share of what it changes."""
    model = load_model(path)
    network = AdapterNetwork.load(load_lora(lora).tensors, model.adapter_roots())
    noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    sizes, t = torch.full((2, 6), 64.0), torch.tensor([30, 700])
    with torch.no_grad():
        base, _ = ours(model, noisy, t, sizes)
        with network.attached():
            mine, text = ours(model, noisy, t, sizes)
        pipeline = pipeline_of(model)
        pipeline.load_lora_weights(lora.parent, weight_name=lora.name)
        hidden, pooled = encode(pipeline, CAPTIONS)
        added = None if pooled is None else {"text_embeds": pooled, "time_ids": sizes}
        theirs = pipeline.unet(noisy, t, hidden, added_cond_kwargs=added).sample.float()
    return {
        "unet": float((mine - theirs).norm() / (mine - base).norm()),
        "text": float((text - hidden.float()).norm() / text.norm()),
        "changed": float((mine - base).norm() / base.norm()),
    }


def ours(model: DiffusionModel, noisy: Tensor, t: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    text = model.encode_text(CAPTIONS).with_size_ids(sizes)
    return model.denoise(noisy, t, text), text.prompt_embeds.float()


def in_child(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.formats", "--child", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(work: str, name: str, path: str, folder: str, lora: str = "") -> None:
    works: dict[str, Callable[[], dict[str, Any]]] = {
        "write": lambda: {"path": str(FORMATS[lora](name, Path(folder)))},
        "read": lambda: read(name, Path(path)),
        "train": lambda: train_two_steps(name, Path(path), Path(folder)),
        "diffusers": lambda: in_diffusers(name, Path(path), Path(lora)),
    }
    print(json.dumps(works[work]()))


def measure(name: str, formats: list[str], *, training: bool) -> Iterator[str]:
    """Lines of the table."""
    for kind in formats:
        folder = Path(tempfile.mkdtemp(prefix="formats-"))
        try:
            path = in_child("write", name, "-", str(folder), kind)["path"]
            found = in_child("read", name, path, str(folder))
            yield (
                f"| {name} | {kind} | {found['compared']} | {found['size'] / 1e9:.2f} "
                f"| {found['seconds']:.1f} | {found['peak']:.2f} | {found['own']:.2f} |"
            )
            if training and kind == formats[0]:
                trained = in_child("train", name, path, str(folder))
                same = in_child("diffusers", name, path, str(folder), trained["lora"])
                yield (
                    f"\n{name}: two steps at {PIXELS[name]} px in bf16 took "
                    f"{trained['seconds']:.0f} s with loading, and {trained['own'] / 1e9:.1f} GB. "
                    f"The LoRA changes the UNet's output by {same['changed']:.1%}; of this "
                    f"diffusers' differs by {same['unet']:.1e}, and of the text by "
                    f"{same['text']:.1e}.\n"
                )
        finally:
            shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(PUBLISHED))
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--no-training", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.child:
        child(*args.models)
        return
    rows: list[str] = []
    said: list[str] = []
    for name in args.models:
        for line in measure(name, args.formats.split(","), training=not args.no_training):
            print(line, flush=True)
            (rows if line.startswith("|") else said).append(line)
            # What is known is kept when a later model does not fit.
            write_text(REPORT, report(rows, said))


def report(rows: list[str], said: list[str]) -> str:
    head = (
        "# Formats\n\nMade by `python -m benchmarks.formats` on one thread of a "
        f"{platform.machine()} CPU, torch {torch.__version__}. Peaks are shares of the loaded "
        "model's size; the last column leaves out pages of mapped files.\n\n"
        "| model | format | weights equal to diffusers' | GB loaded | s | peak | own |\n"
        "|---|---|---|---|---|---|---|"
    )
    return "\n".join([head, *rows, *said]) + "\n"


if __name__ == "__main__":
    main()
