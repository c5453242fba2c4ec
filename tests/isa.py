"""The numeric tests with the arithmetic of other processors, on this one: ``make test-isa``.

PyTorch and oneDNN choose their kernels by what the processor can do, and both can be told to do
without its newer instructions. Every combination of the two, with one and with two threads, adds
the terms of sums in another order; a test that passes under all of them has no tolerance that was
read off one machine. A processor that lacks some of the instructions runs the others.

All tests under all 24 combinations take hours on two cores. So each combination runs every eighth
test, another eighth for each of those with the same instructions in PyTorch: every test runs under
all three of these, each time with other instructions in oneDNN. ``--all`` runs all under each.

    python tests/isa.py [--all]    # what follows goes to pytest: -k step
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

TORCH = ("default", "avx2", "avx512")
ONEDNN = ("SSE41", "AVX2", "AVX512_CORE", "")
THREADS = ("1", "2")
ROOT = Path(__file__).parents[1]
SLICES = len(ONEDNN) * len(THREADS)
SLICE = "LORASMITH_ISA_SLICE"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """As a plugin of pytest: keep one slice of the tests, spread over all files."""
    chosen = os.environ.get(SLICE)
    if chosen is not None:
        numeric = [item for item in items if item.get_closest_marker("numeric")]
        items[:] = numeric[int(chosen) :: SLICES]


def combinations() -> Iterator[tuple[str, str, str, int]]:
    """Instructions for PyTorch and oneDNN, threads, and the slice of the tests."""
    for first, torch in enumerate(TORCH):
        for number, (onednn, threads) in enumerate(product(ONEDNN, THREADS)):
            if torch != "avx512" and not onednn:
                # No processor has AMX without AVX512, and PyTorch's attention stops in bf16 there.
                onednn = "AVX512_CORE_BF16"
            # Three places on, so that a test meets other instructions of oneDNN's too.
            yield torch, onednn, threads, (number + 3 * first) % SLICES


def main(arguments: list[str]) -> int:
    whole = "--all" in arguments
    more = [argument for argument in arguments if argument != "--all"]
    failed = 0
    # The others would be collected for nothing, 24 times.
    files = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests" / "unit").rglob("test_*.py"))
        if "tests.tolerances" in path.read_text(encoding="utf-8")
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.isa"]
    for torch, onednn, threads, number in combinations():
        chosen = {"ATEN_CPU_CAPABILITY": torch, "OMP_NUM_THREADS": threads}
        chosen |= {"ONEDNN_MAX_CPU_ISA": onednn} if onednn else {}
        chosen |= {} if whole else {SLICE: str(number)}
        inherited = {k: v for k, v in os.environ.items() if k != "ONEDNN_MAX_CPU_ISA"}
        begin = time.perf_counter()
        done = subprocess.run(
            [*command, "-m", "numeric and not broad", *files, *more],
            cwd=ROOT,
            env={**inherited, **chosen},
            capture_output=True,
            text=True,
        )
        summary = done.stdout.strip().splitlines()[-1:] or [done.stderr[-200:]]
        seconds = time.perf_counter() - begin
        where = f"torch {torch:8} oneDNN {onednn or 'unset':12} threads {threads}"
        sys.stdout.write(f"{where}  {summary[0]} ({seconds:.0f} s)\n")
        sys.stdout.flush()
        if done.returncode:
            failed += 1
            sys.stdout.write(done.stdout + done.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
