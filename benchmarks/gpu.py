"""All that wants to be measured on a GPU, in one command that fits a short loan of one.

    python benchmarks/gpu.py --dry-run                      # what it would do, and for how long
    python benchmarks/gpu.py --out DIR                      # on the CUDA device, 540 s at most
    python benchmarks/gpu.py --out DIR --only steps-sdxl compiled
    python benchmarks/gpu.py --out DIR --tiny --device cpu  # every table, with tiny models

Each part is a process of its own under its own time limit, so that what hangs, crashes or takes all
the memory loses only itself. Rows are written at once to ``rows.jsonl``; ``gpu.md`` is made anew
from them after each part; what the parts print is in ``gpu.log``, with the place of one that hangs.
``--out`` holds these three, and one trace of a step. Weights are random and nothing is downloaded.
Results: benchmarks/gpu.md.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for benchmarks, tests and
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "src"))  # an uninstalled lorasmith
from benchmarks.gpu_parts.bench import Bench, Part, Rows, page, read_rows

SECONDS = 540
# From saying stop to the next part's beginning.
BETWEEN = 1.0
HERE = "benchmarks.gpu_parts"

PARTS = (
    Part(
        "environment", "the machine, and what it can do at most", 35, f"{HERE}.environment:measure",
        ("versions, GPU, memory, driver",
         "matrix products in bf16 and fp32, copies, what a launch and a wait cost"),
    ),
    Part(
        "runs", "short runs of the demo model, with all dropouts", 55, f"{HERE}.runs:measure",
        ("LoRA with dropout, rank dropout and module dropout; then every other adapter type so",
         "fp8, 4-bit and offloaded weights, everything that saves memory, 8-bit AdamW"),
    ),
    Part(
        "steps-sd15", "SD1.5: a step beside the bare loop's", 50, f"{HERE}.steps:sd15",
        ("512 px, batch 1, 4, 8, rank 32, bf16, AdamW: bare and ours by turns A B B A",),
    ),
    Part(
        "steps-sdxl", "SDXL: a step beside the bare loop's", 65, f"{HERE}.steps:sdxl",
        ("1024 px, batch 1, 4, rank 32, bf16, AdamW: bare and ours by turns A B B A",),
    ),
    Part(
        "profile", "where the host waits, and what a step launches", 45, f"{HERE}.profile:measure",
        ("SD1.5 and SDXL at batch 1, bare and ours: launches, GPU idle, longest kernels, a trace",
         "PyTorch's warnings of synchronisation by the place in lorasmith, of steps and of runs"),
    ),
    Part(
        "memory", "what saves memory: time and peak beside the plan", 85, f"{HERE}.memory:of_plan",
        ("SDXL at 1024 px, batch 1, rank 32: whole, fp8, NF4, offloaded, AdamW8bit, recomputed",
         "SD1.5 at 512 px: whole, fp8, recomputed"),
    ),
    Part(
        "repeat", "do runs of SD1.5 repeat, and go on exactly?", 45, f"{HERE}.repeat:as_it_comes",
        ("a run of 12 steps, the same again, and one that is stopped after 6 and resumed",),
    ),
    Part(
        "repeat-exact", "the same with performance.deterministic", 45, f"{HERE}.repeat:exact",
    ),
    Part(
        "pictures", "pictures drawn and encoded a second", 45, f"{HERE}.pictures:measure",
        ("20 steps with guidance: 16 pictures of SD1.5 at 512 px, 4 of SDXL at 1024 px",
         "96 and 32 PNG files to cached latents"),
    ),
    Part(
        "compiled", "compiled steps, and their graphs", 60, f"{HERE}.compiled:measure",
        ("SD1.5 at batch 1 and 4, SDXL at batch 1: graphs, breaks, seconds to compile, ms",),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    out: Path
    device: str
    tiny: bool
    seconds: float


def limit(parts: Sequence[Part], number: int, left: float) -> float:
    """Seconds for ``parts[number]``: its share of those that are left. All but the last get at most
    twice their own, so that one that hangs takes little from the others."""
    part, later = parts[number], parts[number + 1 :]
    free = max(0.0, left - BETWEEN * (1 + len(later)))
    share = free * part.seconds / (part.seconds + sum(one.seconds for one in later))
    return min(share, 2.0 * part.seconds) if later else share


def run_parts(parts: Sequence[Part], options: Options) -> bool:
    """Run them one after the other, and print each one's tables; whether all were done."""
    options.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + options.seconds
    well = True
    for number, part in enumerate(parts):
        rows = Rows(options.out / "rows.jsonl", part.name)
        begin, allowed = time.monotonic(), limit(parts, number, end - time.monotonic())
        rows.write(begun=time.strftime("%Y-%m-%d %H:%M:%S"))
        scratch = Path(tempfile.mkdtemp(prefix="gpu-"))
        try:
            outcome = run_part(part, options, allowed, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        well = well and outcome == "done"
        rows.write(outcome=outcome, seconds=time.monotonic() - begin)
        records = read_rows(rows.path)
        write_page(options.out / "gpu.md", page(records, PARTS if part in PARTS else parts))
        print(page(records, [part]).partition("\n\n")[2], flush=True)
    return well


def write_page(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def run_part(part: Part, options: Options, seconds: float, scratch: Path) -> str:
    """What became of it: "done", or why it was not."""
    # A process that has touched CUDA cannot be forked; without, forking saves imports.
    method = "fork" if options.device == "cpu" else "spawn"
    context = multiprocessing.get_context(method)
    process = context.Process(target=child, args=(part, options, seconds, scratch))
    process.start()
    try:
        process.join(seconds)
        if process.exitcode is None:
            return f"STOPPED after its {seconds:.0f} s; gpu.log has where it was"
        if process.exitcode < 0:
            return f"DIED of {signal.Signals(-process.exitcode).name}; see gpu.log"
        return "done" if process.exitcode == 0 else "FAILED; see gpu.log"
    finally:
        # With whatever it has started: compilers, for one.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()


def child(part: Part, options: Options, seconds: float, scratch: Path) -> None:
    os.setsid()
    gc.freeze()  # What was imported before a fork is not looked through again and again.
    log = (options.out / "gpu.log").open("a", encoding="utf-8", buffering=1)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout = sys.stderr = log
    print(f"\n=== {part.name}, {seconds:.0f} s at most", flush=True)
    faulthandler.enable(log)
    faulthandler.dump_traceback_later(max(0.1, seconds - 0.5), file=log)
    rows = Rows(options.out / "rows.jsonl", part.name)
    until = time.monotonic() + seconds - 1
    bench = Bench(options.device, options.tiny, until, rows, options.out, scratch)
    module, _, name = part.function.partition(":")
    try:
        getattr(importlib.import_module(module), name)(bench)
    except BaseException as error:  # noqa: BLE001
        traceback.print_exc()
        bench.note(f"FAILED: {type(error).__name__}: {str(error)[:400]}")
        log.flush()
        os._exit(1)
    log.flush()
    os._exit(0)  # Nothing that is torn down at the end may hang or fail any more.


def dry_run(parts: Sequence[Part]) -> str:
    lines = []
    for part in parts:
        lines.append(f"{part.seconds:4d} s  {part.name}: {part.what}")
        lines += [f"          - {line}" for line in part.plan]
    total = sum(part.seconds for part in parts)
    lines.append(f"{total:4d} s  in all at most; what one part leaves, the later ones may take")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder for rows.jsonl, gpu.md and gpu.log")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for everything together")
    parser.add_argument("--tiny", action="store_true", help="tiny models, a few steps")
    names = [part.name for part in PARTS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="PART", help=", ".join(names))
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    args = parser.parse_args()
    parts = [part for part in PARTS if args.only is None or part.name in args.only]
    if args.dry_run:
        print(dry_run(parts))
        return
    if args.out is None:
        parser.error("--out is needed")
    if args.device == "cpu":
        for part in PARTS:  # Once, for all those that are forked from here.
            importlib.import_module(part.function.partition(":")[0])
    options = Options(args.out.resolve(), args.device, args.tiny, args.seconds)
    raise SystemExit(0 if run_parts(parts, options) else 1)


if __name__ == "__main__":
    main()
