"""LoRA file tools at full size, beside a direct implementation of each, the way the field does it.

    python -m benchmarks.filetools [sd15] [sdxl] [--case NAME]

Makes the files of a LoRA with all of a model's layers in a temporary folder and runs each tool and
its counterpart in processes of their own on one thread: CPU seconds (the machine may be busy),
wall seconds, and peak memory. Random numbers, float16, rank 128, of singular values that fall by a
factor of about 300.

The direct ways are written here, as the usual programs do it: the whole file in memory in float32,
every layer multiplied out, a full SVD of it by PyTorch. Where a model has many layers of one shape,
the direct way may do a few of each and count them for all; the table says so. Both results are
compared with the least possible error, by a float64 SVD of one layer of each shape.

Writes the table to `filetools.md` beside this file. Extracting and baking, which need checkpoints:
`filetools_models.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tests.published import PUBLISHED
from torch import Tensor

from lorasmith.adapters.targets import targets_of
from lorasmith.core.files import PrecisionName, write_text
from lorasmith.lora_tools.inputs import LoraSource
from lorasmith.lora_tools.merge import merge
from lorasmith.lora_tools.resize import resize
from lorasmith.models.load import empty_modules

REPORT = Path(__file__).with_suffix(".md")
RANK = 128
DOWN, UP = "lora_down.weight", "lora_up.weight"


@dataclass(frozen=True, slots=True)
class Case:
    """One tool and its direct counterpart.

    Args:
        target: how many times as fast the tool is to be.
        prepare: writes the inputs for a model into a folder, once for all cases; must leave what
            is there already.
        ours, direct: do the work in a folder, leaving ``NAME-ours.safetensors`` or so there. If
            direct did only a part of it, it returns the CPU seconds that all would take.
        measures: what is to be said of the results.
    """

    name: str
    target: float
    prepare: Callable[[Path, str], None]
    ours: Callable[[Path, str], float | None]
    direct: Callable[[Path, str], float | None]
    measures: Callable[[Path, str], dict[str, Any]]


def lora_layers(model: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights that kohya's LoRA adapts, by key."""
    modules = empty_modules(PUBLISHED[model])
    texts = {part: module for part, module in modules.items() if part.startswith("text")}
    roots = PUBLISHED[model].adapter_roots(modules["unet"], texts)
    found = (target for root in roots for target in targets_of(root))
    return {target.key: tuple(target.layer.weight.shape) for target in found}


def write_lora(path: Path, model: str, seed: int) -> None:
    """A LoRA of all of a model's layers, float16, alpha half of its rank."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for key, (outputs, inputs, *kernel) in lora_layers(model).items():
        ones = [1] * len(kernel)
        down = torch.randn(RANK, inputs, *kernel, generator=generator) / inputs**0.5
        up = torch.randn(outputs, RANK, *ones, generator=generator)
        down *= torch.logspace(0, -1, RANK).view(-1, 1, *ones)
        up *= torch.logspace(-1, -2.5, RANK).view(1, -1, *ones)
        tensors[f"{key}.{DOWN}"], tensors[f"{key}.{UP}"] = down.half(), up.half()
        tensors[f"{key}.alpha"] = torch.tensor(RANK / 2, dtype=torch.float16)
    save_file(tensors, path, {"ss_network_dim": str(RANK), "ss_network_module": "networks.lora"})


def prepare_loras(folder: Path, model: str) -> None:
    for seed, name in enumerate(("a", "b")):
        path = folder / f"{name}.safetensors"
        if not path.exists():
            write_lora(path, model, seed)


# The usual way


def some_of_each_shape(keys: Iterable[str], shapes: Mapping[str, Any], most: int) -> dict[str, int]:
    """Up to ``most`` keys of each shape, and how many layers each stands for in all."""
    groups: dict[Any, list[str]] = {}
    for key in keys:
        groups.setdefault(shapes[key], []).append(key)
    return {key: len(group) for group in groups.values() for key in group[:most]}


def multiplied_out(file: Mapping[str, Tensor], key: str) -> Tensor:
    down, up = file[f"{key}.{DOWN}"], file[f"{key}.{UP}"]
    return (up.flatten(1) @ down.flatten(1)) * (file[f"{key}.alpha"] / down.shape[0])


def cut(weight: Tensor, rank: int, key: str) -> dict[str, Tensor]:
    u, s, vh = torch.linalg.svd(weight)
    up, down = u[:, :rank] @ torch.diag(s[:rank]), vh[:rank]
    return {
        f"{key}.{UP}": up.half().contiguous(),
        f"{key}.{DOWN}": down.half().contiguous(),
        f"{key}.alpha": torch.tensor(float(rank)).half(),
    }


def cut_all(
    keys: Iterable[str], weight_of: Callable[[str], Tensor], rank: int, out: Path, most: int | None
) -> float | None:
    """An SVD of every layer, or of ``most`` of each shape; the CPU seconds of all in that case."""
    made: dict[str, Tensor] = {}
    keys = list(keys)
    if most is None:
        for key in keys:
            made |= cut(weight_of(key), rank, key)
        save_file(made, out)
        return None
    shapes = {key: tuple(weight_of(key).shape) for key in keys}
    counted = some_of_each_shape(keys, shapes, most)
    before, total = time.process_time(), 0.0
    for key, count in counted.items():
        start = time.process_time()
        made |= cut(weight_of(key), rank, key)
        done = sum(1 for other in counted if shapes[other] == shapes[key])
        total += (time.process_time() - start) * count / done
    save_file(made, out)
    return before + total


def in_float32(path: Path) -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in load_file(path).items()}


def keys_of(file: Mapping[str, Tensor]) -> list[str]:
    return [name.removesuffix(f".{DOWN}") for name in file if name.endswith(f".{DOWN}")]


# SDXL's layers are ten times the work of SD1.5's: one of each shape is done and counted for all.
MOST = {"sd15": None, "sd21": None, "sdxl": 1}


def resize_directly(folder: Path, model: str) -> float | None:
    file = in_float32(folder / "a.safetensors")
    out = folder / "resize-direct.safetensors"
    return cut_all(keys_of(file), lambda key: multiplied_out(file, key), 32, out, MOST[model])


def merge_directly(folder: Path, model: str) -> float | None:
    merged: dict[str, Tensor] = {}
    for name, weight in (("a", 0.8), ("b", 0.6)):
        file = in_float32(folder / f"{name}.safetensors")
        for key in keys_of(file):
            change = weight * multiplied_out(file, key)
            merged[key] = merged[key] + change if key in merged else change
    out = folder / "merge-direct.safetensors"
    return cut_all(merged, merged.__getitem__, 32, out, MOST[model])


# Ours


def resize_ours(
    folder: Path, model: str, name: str = "ours", precision: PrecisionName | None = None
) -> None:
    out = folder / f"resize-{name}.safetensors"
    out.unlink(missing_ok=True)
    resize(folder / "a.safetensors", out, rank=32, precision=precision)


def merge_ours(
    folder: Path, model: str, name: str = "ours", precision: PrecisionName | None = None
) -> None:
    out = folder / f"merge-{name}.safetensors"
    out.unlink(missing_ok=True)
    sources = [LoraSource(folder / f"{n}.safetensors", w, w) for n, w in (("a", 0.8), ("b", 0.6))]
    merge(sources, out, method="svd", rank=32, precision=precision)


def errors(folder: Path, name: str, wanted: Callable[[str], Tensor]) -> dict[str, Any]:
    """By what share the error of a layer is above the least possible, the worst of all shapes."""
    least: dict[str, tuple[Tensor, float]] = {}
    made = load_file(folder / f"{name}-direct.safetensors")
    shapes = {key: tuple(wanted(key).shape) for key in keys_of(made)}
    for key in some_of_each_shape(shapes, shapes, 1):
        weight = wanted(key)
        least[key] = weight, float(torch.linalg.svdvals(weight)[32:].norm())
    found: dict[str, Any] = {"layers compared": len(least)}
    for side in ("ours in fp32", "ours", "direct"):
        file = load_file(folder / f"{name}-{side.replace(' in ', '-')}.safetensors")
        file = {n: tensor.double() for n, tensor in file.items()}
        found[side] = max(
            float((weight - multiplied_out(file, key)).norm()) / best - 1
            for key, (weight, best) in least.items()
        )
    return found


def resize_measures(folder: Path, model: str) -> dict[str, Any]:
    resize_ours(folder, model, "ours-fp32", "fp32")
    file = load_file(folder / "a.safetensors")
    return errors(folder, "resize", lambda key: _double(file, key))


def merge_measures(folder: Path, model: str) -> dict[str, Any]:
    merge_ours(folder, model, "ours-fp32", "fp32")
    a, b = (load_file(folder / f"{name}.safetensors") for name in "ab")
    return errors(folder, "merge", lambda key: 0.8 * _double(a, key) + 0.6 * _double(b, key))


def _double(file: Mapping[str, Tensor], key: str) -> Tensor:
    names = [f"{key}.{name}" for name in (DOWN, UP, "alpha")]
    return multiplied_out({name: file[name].double() for name in names}, key)


CASES = [
    Case("resize", 40, prepare_loras, resize_ours, resize_directly, resize_measures),
    Case("merge", 30, prepare_loras, merge_ours, merge_directly, merge_measures),
]


# Processes


def one(case: Case, side: str, model: str, folder: Path) -> dict[str, Any]:
    """One side of a case, in this process."""
    torch.set_num_threads(1)
    if side == "measures":
        return case.measures(folder, model)
    wall, cpu = time.perf_counter(), time.process_time()
    whole = (case.ours if side == "ours" else case.direct)(folder, model)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"cpu": whole or cpu, "wall": wall, "peak": peak, "part": whole is not None}


def in_a_process(case: str, side: str, model: str, folder: Path) -> dict[str, Any]:
    arguments = ["--case", case, "--side", side, "--folder", str(folder), model]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.filetools", *arguments],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, **one_thread},
    )
    found: dict[str, Any] = json.loads(done.stdout.decode().splitlines()[-1])
    return found


def row(case: Case, model: str, folder: Path) -> str:
    case.prepare(folder, model)
    ours = in_a_process(case.name, "ours", model, folder)
    direct = in_a_process(case.name, "direct", model, folder)
    said = in_a_process(case.name, "measures", model, folder)
    again = in_a_process(case.name, "ours", model, folder)
    if again["cpu"] < ours["cpu"]:
        ours = again
    wall = "in part" if direct["part"] else f"{direct['wall']:.0f} s"
    measures = ", ".join(
        f"{name} {value:.1e}" if isinstance(value, float) else f"{name} {value}"
        for name, value in said.items()
    )
    cells = [
        model, case.name,
        f"{ours['cpu']:.2f} s", f"{ours['wall']:.1f} s", f"{ours['peak']:.2f} GB",
        f"{direct['cpu']:.0f} s", wall, f"{direct['peak']:.2f} GB",
        f"{direct['cpu'] / ours['cpu']:.0f} ({case.target})", measures,
    ]  # fmt: skip
    line = f"| {' | '.join(map(str, cells))} |"
    print(line, flush=True)
    return line


HEAD = f"""# File tools

Made by `python -m benchmarks.filetools` on one thread of a {platform.machine()} CPU \
({platform.python_version()}, torch {torch.__version__}), each tool and its
direct counterpart in processes of their own. CPU seconds count all work but imports; memory is the
process's peak. Where the direct way is "in part", it did one layer of each shape, and its CPU
seconds are those times as many as there are.

`resize` is rank 128 to 32, `merge` two files of rank 128 to rank 32, by the best approximation; a
full SVD of every layer is the direct way. Errors are by what share the distance to the exact change
is above the least possible (float64 SVD), the worst of one layer of each shape; files are float16
but for "ours in fp32". `filetools_models.md` has extracting and baking.

"""
COLUMNS = ["model", "tool", "CPU", "wall", "memory", "direct CPU", "wall", "memory",
           "times as fast (to reach)", "result"]  # fmt: skip


def write_report(lines: Iterable[str]) -> None:
    """The rows of this run, and those of others that are there already."""
    rows: dict[str, str] = {}
    old = REPORT.read_text(encoding="utf-8").splitlines() if REPORT.exists() else []
    for line in [*old, *lines]:
        if line.startswith("| sd"):
            rows[" ".join(line.split("|")[1:3])] = line
    table = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *rows.values()]
    write_text(REPORT, HEAD + "\n".join(table) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["sd15", "sdxl"])
    parser.add_argument("--case", help="one of them alone")
    parser.add_argument("--folder", type=Path, help="where files are made")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = {case.name: case for case in CASES}
    if options.side:
        found = one(cases[options.case], options.side, options.models[0], options.folder)
        print(json.dumps(found))
        return
    chosen = [cases[options.case]] if options.case else list(cases.values())
    lines = []
    for model in options.models:
        with tempfile.TemporaryDirectory(prefix="filetools-", dir=options.folder) as folder:
            lines += [row(case, model, Path(folder)) for case in chosen]
    write_report(lines)


if __name__ == "__main__":
    main()
