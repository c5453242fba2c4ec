"""Where the host waits for the device, what a step launches, and for how long the GPU has nothing
to do."""

from __future__ import annotations

import contextlib
import statistics
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from benchmarks.gpu_parts.bench import Bench
from benchmarks.gpu_parts.runs import DROPOUTS, demo_run
from benchmarks.random_models import random_model
from benchmarks.step import Bare, Case, Ours, time_steps
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from lorasmith.adapters.targets import targets_of

RANK = 32
KERNELS = 14  # so many of the longest are named
# What makes the host read a number that the device has computed.
READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal")
# What launches nothing.
ALLOCATES = ("aten::empty", "aten::new_empty", "aten::detach", "aten::lift_fresh", "aten::alias")


def measure(bench: Bench) -> None:
    for name in ("sd15",) if bench.tiny else ("sd15", "sdxl"):
        bench.attempt(name, lambda name=name: one_model(bench, name))
    bench.attempt("waits of a whole run", lambda: whole_run(bench))


def one_model(bench: Bench, name: str) -> None:
    model = random_model(
        bench.architecture(name), torch.bfloat16, bench.device, channels_last=bench.cuda
    )
    root = model.adapter_roots()[0]
    case = Case("bf16", 1, bench.pixels(name), 4 if bench.tiny else RANK)
    ours = Ours(model, root, case)
    sides: dict[str, Bare | Ours] = {"bare": Bare(model, targets_of(root), case), "ours": ours}
    for side_name, side in sides.items():
        seconds = statistics.median(time_steps(side, 1 if bench.tiny else 5, bench.clock))
        with side.attached():
            side.step(1)
            launches(bench, f"{name}, {side_name}", side, seconds)
    with ours.attached(), waits(bench) as places:
        steps = 1 if bench.tiny else 3
        for number in range(2, 2 + steps):
            ours.step(number)
    wait_rows(bench, f"a step of {name}", places, steps)


def launches(bench: Bench, label: str, side: Bare | Ours, seconds: float) -> None:
    with Operations() as operations:
        side.step(2)
    bench.free()
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * bench.cuda]
    with profile(activities=activities):  # The first time pays for setting up.
        torch.zeros(1, device=bench.device).add_(1)
    with profile(activities=activities) as record:
        side.step(3)
        bench.clock.sync()
    device = device_events(record)
    cells: dict[str, Any] = {
        "": label, "operations": operations.count, "launches": None, "copies": None,
        "step ms": 1e3 * seconds, "GPU busy ms": None, "GPU idle": None,
    }  # fmt: skip
    if bench.cuda:
        copies = sum(name.startswith(("Memcpy", "Memset")) for name, _, _ in device)
        busy = union([(begin, end) for _, begin, end in device]) / 1e6
        cells |= {
            "launches": len(device) - copies, "copies": copies,
            "GPU busy ms": 1e3 * busy, "GPU idle": max(0.0, 1 - busy / seconds),
        }  # fmt: skip
        if label.endswith("ours"):
            record.export_chrome_trace(str(bench.out / f"step-{label.split(',')[0]}.json.gz"))
    bench.row("What a step launches, batch 1, bf16", cells)
    kernel_rows(bench, label, device if bench.cuda else host_events(record))


def device_events(record: profile) -> list[tuple[str, float, float]]:
    """Name, begin and end in µs of whatever ran on the device.

    As they were recorded: ``record.events()`` takes many seconds for the events of a step.
    """
    assert record.profiler is not None
    return [
        (event.name(), event.start_ns() / 1e3, event.end_ns() / 1e3)
        for event in record.profiler.kineto_results.events()
        if event.device_type() == DeviceType.CUDA and not event.is_user_annotation()
    ]


def host_events(record: profile) -> list[tuple[str, float, float]]:
    """The same of operations on a CPU, each by the time that is its own."""
    return [
        (event.name, 0.0, event.self_cpu_time_total)
        for event in record.events() or ()
        if event.name.startswith("aten::")
    ]


def union(spans: Sequence[tuple[float, float]]) -> float:
    """How long at least one of them lasts: kernels may run beside each other."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def kernel_rows(bench: Bench, label: str, events: Sequence[tuple[str, float, float]]) -> None:
    calls: Counter[str] = Counter()
    times: Counter[str] = Counter()
    for name, begin, end in events:
        calls[name] += 1
        times[name] += end - begin  # type: ignore[assignment]
    total = sum(times.values()) or 1
    for name, time in times.most_common(3 if bench.tiny else KERNELS):
        short = name if len(name) <= 90 else f"{name[:60]}…{name[-29:]}"
        bench.row(
            f"The longest of {label}",
            {"kernel": f"`{short}`", "calls": calls[name], "ms": time / 1e3, "share": time / total},
        )


class Operations(TorchDispatchMode):
    """Counts the operations that compute or copy, on any device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        schema = func._schema
        returns = [one.alias_info for one in schema.returns]
        is_view = any(alias is not None and not alias.is_write for alias in returns)
        if not is_view and not schema.name.startswith((*ALLOCATES, *READS)):
            self.count += 1
        return func(*args, **(kwargs or {}))


class HostReads(TorchDispatchMode):
    """Calls ``note`` for each number of a tensor that the host asks for: where nothing warns."""

    def __init__(self, note: Callable[[], None]) -> None:
        super().__init__()
        self.note = note

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func._schema.name in READS:
            self.note()
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def waits(bench: Bench, within: str = "") -> Iterator[Counter[str]]:
    """Counts, by the place in lorasmith, how often the host waits for the device.

    On CUDA by PyTorch's own warnings, elsewhere by what would wait there.

    Args:
        within: only what a function of this name has called.
    """
    places: Counter[str] = Counter()

    def note(*_: Any, **__: Any) -> None:
        stack = traceback.extract_stack()
        if within and not any(frame.name == within for frame in stack):
            return
        ours = [frame for frame in stack if "/lorasmith/" in frame.filename]
        frame = ours[-1] if ours else stack[-2]
        file = "/".join(Path(frame.filename).parts[-2:])
        places[f"{file}:{frame.lineno} {frame.name}"] += 1

    if not bench.cuda:
        with HostReads(note):
            yield places
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=".*synchronizing CUDA operation.*")
        usual = warnings.showwarning

        def show(message: Warning | str, *rest: Any, **more: Any) -> None:
            if "synchronizing CUDA operation" in str(message):
                note()
            else:
                usual(message, *rest, **more)

        warnings.showwarning = show
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode("default")


def wait_rows(bench: Bench, label: str, places: Counter[str], steps: int) -> None:
    table = "Where the host waits for the device"
    bench.row(table, {"": label, "place": "all", "a step": sum(places.values()) / steps})
    for place, count in places.most_common(20):
        bench.row(table, {"": label, "place": f"`{place}`", "a step": count / steps})


def whole_run(bench: Bench) -> None:
    """Loading of batches and reading of losses included; by steps alone, not by what is around."""
    steps = 2 if bench.tiny else 20
    runs = {"a run with dropouts": DROPOUTS, "a run": {}}
    for label, settings in list(runs.items())[: 1 if bench.tiny else None]:
        with waits(bench, within="do_step") as places:
            demo_run(bench, label, steps, {"log.every_steps": "10", **settings})
        wait_rows(bench, f"{label} of the demo model, logged every 10 steps", places, steps)
