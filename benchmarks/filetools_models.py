"""Extracting from, and baking into, full-size checkpoints, beside the direct way.

    python -m benchmarks.filetools_models sd15 --folder /tmp/models
    python -m benchmarks.filetools_models sdxl --folder /tmp/models

The direct way is what the usual tools do, written as well as it can be: both files in memory as
float32, a full (thin) SVD of each difference; the whole checkpoint in memory as float32, each
product added, all of it rounded and saved. Weights are random, float16; tuned is the base,
a change of rank 24 with falling singular values, and noise. Each side runs in a process of its own
on one thread; CPU time is its user and system time from after its imports to the end, the least of
the rounds, in which the sides take turns (the direct extraction has one). For SDXL the
direct extraction decomposes one layer of each shape and is scaled by how many there are.
Results: benchmarks/filetools_models.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lorasmith.adapters.targets import Selection, Target, select
from lorasmith.lora_tools.bake.bake import bake
from lorasmith.lora_tools.checkpoint_diff import Differences
from lorasmith.lora_tools.extract import extract
from lorasmith.lora_tools.inputs import LoraSource
from lorasmith.models.open import open_checkpoint
from lorasmith.models.skeleton import skeleton_roots, stored_shapes
from lorasmith.models.weights import placed

EXTRACT_RANK, BAKE_RANK = 64, 128
CHANGE_RANK = 24


def make_files(name: str, folder: Path) -> None:
    """base, tuned and a LoRA of rank 128."""
    from tests.published import PUBLISHED, random_state

    base = random_state(PUBLISHED[name])
    save_file(base, folder / "base.safetensors", {"format": "pt"})
    draw = torch.Generator().manual_seed(0)
    noise = 1.5e-3 * torch.randn(1 << 22, generator=draw)
    for number, (key, weight) in enumerate(base.items()):
        if key.startswith("first_stage_model.") or weight.ndim < 2:
            continue
        flat = weight.float().flatten(1)
        up = 1e-3 * torch.randn(flat.shape[0], CHANGE_RANK, generator=draw)
        down = torch.randn(CHANGE_RANK, flat.shape[1], generator=draw)
        flat.addmm_(up, down * torch.linspace(1.0, 0.2, CHANGE_RANK)[:, None])
        repeats = 1 + flat.numel() // noise.numel()
        flat.view(-1).add_(noise.roll(17 * number).repeat(repeats)[: flat.numel()])
        base[key] = flat.reshape(weight.shape).half()
    save_file(base, folder / "tuned.safetensors", {"format": "pt"})
    del base
    lora: dict[str, Tensor] = {}
    for target in targets(folder / "base.safetensors"):
        outputs, inputs, *kernel = target.layer.weight.shape
        ones = [1] * len(kernel)
        down = torch.randn(BAKE_RANK, inputs, *ones, generator=draw)
        up = 1e-4 * torch.randn(outputs, BAKE_RANK, *ones, generator=draw)
        lora[f"{target.key}.lora_down.weight"] = down.half()
        lora[f"{target.key}.lora_up.weight"] = up.half()
        lora[f"{target.key}.alpha"] = torch.tensor(float(BAKE_RANK))
    save_file(lora, folder / "lora.safetensors")


def targets(path: Path) -> list[Target]:
    opened = open_checkpoint(path)
    roots = skeleton_roots(opened.architecture, stored_shapes(opened))
    return select(roots, Selection())


def our_extract(folder: Path, name: str) -> dict[str, Any]:
    report = extract(
        folder / "base.safetensors", folder / "tuned.safetensors", folder / "ours.safetensors",
        rank=EXTRACT_RANK,
    )  # fmt: skip
    return {"errors": {module.key: module.error for module in report.modules}}


def direct_extract(folder: Path, name: str) -> dict[str, Any]:
    """Of SDXL, the seconds of decompositions are scaled up."""
    opened = open_checkpoint(folder / "base.safetensors")
    sampled = name == "sdxl"
    chosen = targets(folder / "base.safetensors")
    shapes = Counter(tuple(target.layer.weight.shape) for target in chosen)
    states = []
    for which in ("base", "tuned"):
        stored = load_file(folder / f"{which}.safetensors")
        # SDXL's two in float32 are 28 GB.
        states.append(stored if sampled else {key: t.float() for key, t in stored.items()})
    made: dict[str, Tensor] = {}
    errors: dict[str, float] = {}
    seen: set[tuple[int, ...]] = set()
    extra = 0.0
    for target in chosen:
        shape = tuple(target.layer.weight.shape)
        if sampled and shape in seen:
            continue
        seen.add(shape)
        start = time.process_time()
        place = opened.weights[target.root.folder][f"{target.path}.weight"].place
        base, tuned = (placed(state[place.name], place).float() for state in states)
        change = (tuned - base).flatten(1)
        U, S, Vh = torch.linalg.svd(change, full_matrices=False)
        made[f"{target.key}.lora_up.weight"] = (
            (U[:, :EXTRACT_RANK] * S[:EXTRACT_RANK]).half().contiguous()
        )
        made[f"{target.key}.lora_down.weight"] = Vh[:EXTRACT_RANK].half().contiguous()
        if sampled:
            extra += (shapes[shape] - 1) * (time.process_time() - start)
        errors[target.key] = float(S[EXTRACT_RANK:].double().square().sum().sqrt())
    save_file(made, folder / "direct.safetensors")
    return {"errors": errors, "extra": extra}


def our_bake(folder: Path, name: str, *, hashes: bool = False) -> dict[str, Any]:
    source = LoraSource(folder / "lora.safetensors", 0.8, 0.8)
    bake(folder / "base.safetensors", [source], folder / "ours.safetensors", hash=hashes)
    return {}


def our_bake_hashed(folder: Path, name: str) -> dict[str, Any]:
    return our_bake(folder, name, hashes=True)


def direct_bake(folder: Path, name: str) -> dict[str, Any]:
    opened = open_checkpoint(folder / "base.safetensors")
    state = {key: t.float() for key, t in load_file(folder / "base.safetensors").items()}
    lora = load_file(folder / "lora.safetensors")
    for target in targets(folder / "base.safetensors"):
        place = opened.weights[target.root.folder][f"{target.path}.weight"].place
        weight = placed(state[place.name], place)
        up, down = (lora[f"{target.key}.lora_{side}.weight"].float() for side in ("up", "down"))
        scale = 0.8 * float(lora[f"{target.key}.alpha"]) / BAKE_RANK
        weight += scale * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
    for key in list(state):
        state[key] = state[key].half()
    save_file(state, folder / "direct.safetensors", {"format": "pt"})
    return {}


def floor_extract(folder: Path, name: str) -> dict[str, Any]:
    """Reading both files and taking the differences, and nothing else."""
    differences = Differences(folder / "base.safetensors", folder / "tuned.safetensors")
    for target in select(differences.roots, Selection()):
        differences.of(target.root.folder, f"{target.path}.weight")
    return {}


def floor_bake(folder: Path, name: str) -> dict[str, Any]:
    """Copying the file within the kernel, and one product for each layer."""
    source, out = folder / "base.safetensors", folder / "ours.safetensors"
    with open(source, "rb") as read, open(out, "wb") as write:
        while os.copy_file_range(read.fileno(), write.fileno(), 1 << 30):
            pass
        os.fsync(write.fileno())
    factors = torch.randn(10240, BAKE_RANK), torch.randn(BAKE_RANK, 10240)
    result = torch.empty(0)
    for target in targets(source):
        m, n = target.layer.weight.flatten(1).shape
        result.resize_(m, n)
        torch.mm(factors[0][:m], factors[1][:, :n], out=result)
    return {}


SIDES: dict[str, Callable[[Path, str], dict[str, Any]]] = {
    "extract ours": our_extract,
    "extract direct": direct_extract,
    "extract floor": floor_extract,
    "bake ours": our_bake,
    "bake ours, --hash": our_bake_hashed,
    "bake direct": direct_bake,
    "bake floor": floor_bake,
}


def status(field: str) -> float:
    """GB, of this process."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e9
    raise KeyError(field)


def run_side(side: str, folder: Path, name: str) -> None:
    """Measure this process and print a line of JSON."""
    torch.set_num_threads(1)
    before = status("RssAnon")
    peak = [before]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], status("RssAnon"))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    wall, cpu = time.perf_counter(), os.times()
    try:
        result = SIDES[side](folder, name)
    finally:
        now, wall = os.times(), time.perf_counter() - wall
        done.set()
        thread.join()
    result["wall"] = wall
    result["user"], result["system"] = now.user - cpu.user, now.system - cpu.system
    result |= {"anonymous": peak[0], "imports": before, "resident": status("VmHWM")}
    print("\n" + json.dumps(result))


def measured(side: str, folder: Path, name: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.filetools_models", name, "--folder", str(folder)]
    done = subprocess.run(
        [*command, "--side", side], check=True, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def seconds(result: dict[str, Any]) -> float:
    """Of CPU."""
    return float(result["user"] + result["system"] + result.get("extra", 0.0))


def rows(name: str, results: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield f"### {name}\n"
    yield "| | CPU s (user + system) | wall s | memory of its own, GB | and with mapped pages |"
    yield "|---|---|---|---|---|"
    for side, result in results.items():
        extra = result.get("extra", 0.0)
        scaled = " (scaled)" if extra else ""
        yield (
            f"| {side} | {seconds(result):.1f}{scaled} "
            f"({result['user'] + extra:.1f} + {result['system']:.1f}) "
            f"| {result['wall'] + extra:.1f} | {result['anonymous']:.2f} "
            f"| {result['resident']:.2f} |"
        )
    yield ""
    for tool, ours in (("extract", "ours"), ("bake", "ours"), ("bake", "ours, --hash")):
        pair = [results.get(f"{tool} {side}") for side in ("direct", ours)]
        if None in pair:
            continue
        cpu = [seconds(result) for result in pair if result is not None]
        yield f"{tool}, {ours}: {cpu[0] / cpu[1]:.1f} times less CPU time than the direct way."
    if {"extract ours", "extract direct"} <= results.keys():
        least, error = (results[f"extract {s}"]["errors"] for s in ("direct", "ours"))
        worst = max(error[key] / least[key] for key in least)
        total = math.sqrt(
            sum(error[k] ** 2 for k in least) / sum(value**2 for value in least.values())
        )
        yield (
            f"Error over the least possible, of {len(least)} layers: {total - 1:.3%} together, "
            f"{worst - 1:.3%} in the worst."
        )
    yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=["sd15", "sdxl"])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--side", choices=list(SIDES))
    parser.add_argument("--only", nargs="*", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.side:
        run_side(args.side, args.folder, args.name)
        return
    folder = args.folder / args.name
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "lora.safetensors").exists():
        make_files(args.name, folder)
    results: dict[str, dict[str, Any]] = {}
    for turn in range(args.rounds):
        for side in args.only:
            if side == "extract direct" and turn > 0:
                continue
            result = measured(side, folder, args.name)
            print(side, {k: v for k, v in result.items() if k != "errors"}, flush=True)
            if side not in results or seconds(result) < seconds(results[side]):
                results[side] = result
            for made in ("ours.safetensors", "direct.safetensors"):
                (folder / made).unlink(missing_ok=True)
            # What waits to be written would be paid for by who writes next.
            os.sync()
    print("\n" + "\n".join(rows(args.name, results)))


if __name__ == "__main__":
    main()
