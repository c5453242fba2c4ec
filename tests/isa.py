"""The numeric tests with the arithmetic of other processors, on this one: ``make test-isa``.

PyTorch and oneDNN choose their kernels by what the processor can do, and both can be told to do
without its newer instructions. Every combination of the two, with one and with two threads, adds
the terms of sums in another order; a test that passes under all of them has no tolerance that was
read off one machine. A processor that lacks some of the instructions runs the others.

    python tests/isa.py            # all of them
    python tests/isa.py -k step    # what follows goes to pytest
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

TORCH = ("default", "avx2", "avx512")
ONEDNN = ("SSE41", "AVX2", "AVX512_CORE", "")
THREADS = ("1", "2")
PYTEST = ("-m", "pytest", "-q", "-m", "numeric and not broad", "tests/unit")


def main() -> int:
    failed = 0
    for torch, onednn, threads in product(TORCH, ONEDNN, THREADS):
        chosen = {"ATEN_CPU_CAPABILITY": torch, "OMP_NUM_THREADS": threads}
        chosen |= {"ONEDNN_MAX_CPU_ISA": onednn} if onednn else {}
        inherited = {k: v for k, v in os.environ.items() if k != "ONEDNN_MAX_CPU_ISA"}
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *PYTEST, *sys.argv[1:]],
            cwd=Path(__file__).parents[1],
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
    sys.exit(main())
