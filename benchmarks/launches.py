"""How many kernels a training step starts on a GPU: our step's over the bare loop's.

    python benchmarks/launches.py                       # SD1.5 and SDXL, LoRA, each dropout
    python benchmarks/launches.py --models sd15 --types # every adapter type beside the same LoRA

On a GPU a step of batch 1 waits for the host more than for arithmetic, so that each kernel counts,
however small. Both sides are those of benchmarks/step.py, at full size on the meta device, in
bf16: every operation of PyTorch that computes or copies is counted as its number of kernels, views
and fresh memory as none. Attention is one call each way; optimizers and clipping choose what they
choose on a GPU. Results: benchmarks/launches.md.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lorasmith.adapters.dropout import Dropout
from lorasmith.config.adapter_types import ADAPTERS
from lorasmith.training.memory.trace import FusedAttention

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.random_models import random_model
from benchmarks.step import Bare, Case, Ours, both_sides
from tests.published import PUBLISHED

META = torch.device("meta")
DROPOUTS = {
    "none": Dropout(),
    "dropout": Dropout(neuron=0.1),
    "rank_dropout": Dropout(rank=0.1),
    "module_dropout": Dropout(module=0.1),
}
# Tensors and pieces of 65536 numbers that one kernel over lists takes, by the number of lists:
# ATen/native/cuda/MultiTensorApply.cuh.
LISTED, PIECES, PIECE = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}, 320, 65536
JOINED = 128  # Tensors that one kernel of cat takes: ATen/native/cuda/Shape.cu.


class Launches(TorchDispatchMode):
    """Counts kernels of operations on the meta device, by the operation's name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        results = tree_leaves(args if out is None else out)
        if any(isinstance(leaf, Tensor) and leaf.is_meta for leaf in results):
            self.counts[func._schema.name.partition("::")[2]] += kernels(func, args)
        return out

    @property
    def total(self) -> int:
        return self.counts.total()


def kernels(func: Any, args: tuple[Any, ...]) -> int:
    """How many kernels an operation is on a GPU."""
    name = func._schema.name.partition("::")[2]
    results = [result.alias_info for result in func._schema.returns]
    if any(alias is not None and not alias.is_write for alias in results):
        return 0  # A view.
    if name in ("_unsafe_view", "resize_") or name.removeprefix("new_").startswith("empty"):
        return 0
    if name == "cat":
        return math.ceil(len(args[0]) / JOINED)
    if name == "convolution_backward":
        return sum(args[10])
    if name.startswith(("_foreach", "_fused")):
        return over_lists(args, new=bool(results) and None in results)
    return 1


def over_lists(args: tuple[Any, ...], *, new: bool) -> int:
    """Kernels of an operation on lists of tensors, ``new`` where the result is another list."""
    lists = [arg for arg in args if isinstance(arg, list | tuple) and arg]
    lists = [one for one in lists if isinstance(one[0], Tensor)]
    most = LISTED[min(len(lists) + new, 5)]
    count = tensors = pieces = 0
    for tensor in lists[0]:
        tensors += 1
        pieces += math.ceil(tensor.numel() / PIECE)
        if tensors == most or pieces >= PIECES:
            count += max(1, pieces // PIECES)
            tensors = pieces = 0
    return count + bool(tensors)


@contextlib.contextmanager
def as_on_gpu() -> Iterator[None]:
    """Optimizers and clipping take lists of tensors, and attention is one operation."""
    lists = "_get_foreach_kernels_supported_devices"
    fused = "_get_fused_kernels_supported_devices"
    devices = mock.Mock(return_value=["meta", "cpu"])
    with contextlib.ExitStack() as stack:
        for module in map(
            importlib.import_module, ("torch.utils._foreach_utils", "torch.optim.optimizer")
        ):
            for name in (lists, fused):
                if hasattr(module, name):
                    stack.enter_context(mock.patch.object(module, name, devices))
        stack.enter_context(FusedAttention())
        yield


def count(side: Bare | Ours) -> Counter[str]:
    """Kernels of a step that is not the first, by operation."""
    with as_on_gpu(), side.attached():
        side.step(0)
        with Launches() as launches:
            side.step(1)
    return launches.counts


def count_both(
    model: str, odds: Dropout = DROPOUTS["none"], algorithm: str = "lora"
) -> tuple[Counter[str], Counter[str]]:
    """Bare and ours, batch 1, rank 32, at the model's own resolution, AdamW."""
    architecture = PUBLISHED[model]
    side = architecture.native_resolution
    case = Case("bf16", 1, side, 32, dropout=odds, algorithm=algorithm)
    bare, ours, _ = both_sides(random_model(architecture, torch.bfloat16, META), case)
    return count(bare), count(ours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["sd15", "sdxl"], choices=list(PUBLISHED))
    parser.add_argument("--types", action="store_true", help="every adapter type, not LoRA alone")
    parser.add_argument("--operations", action="store_true", help="which operations they are")
    options = parser.parse_args()
    print(f"torch {torch.__version__}\n")
    head = ["model", "type", "dropout", "bare", "ours", "ratio"]
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head), flush=True)
    for model in options.models:
        for algorithm in ADAPTERS if options.types else ["lora"]:
            for name, odds in DROPOUTS.items():
                if options.types and name not in ("none", "dropout"):
                    continue
                bare, ours = count_both(model, odds, algorithm)
                ratio = f"{ours.total() / bare.total():.3f}"
                cells = [model, algorithm, name, bare.total(), ours.total(), ratio]
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)
                if options.operations:
                    for which in sorted(bare | ours, key=lambda op: bare[op] - ours[op]):
                        print(f"    {which}: {bare[which]}, {ours[which]}")


if __name__ == "__main__":
    main()
