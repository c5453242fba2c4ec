"""benchmarks/gpu.py: every table, with tiny models; what hangs or dies loses only itself."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.gpu import PARTS, SECONDS, dry_run, limit
from benchmarks.gpu_parts.bench import Part, page
from benchmarks.gpu_parts.profile import HostReads, Operations, union
from benchmarks.gpu_parts.steps import step_operations
from tests.published import SD15

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"
TABLES = {
    "environment": ["Machine", "Matrix products", "Copies", "What the host pays"],
    "runs": ["The demo model, 64 px, batch 4"],
    "steps-sd15": ["A step at 64 px, rank 4, bf16, AdamW"],
    "steps-sdxl": ["A step at 64 px, rank 4, bf16, AdamW"],
    "profile": [
        "What a step launches, batch 1, bf16",
        *(f"The longest of sd15, {side}" for side in ("bare", "ours")),
        "Where the host waits for the device",
    ],
    "memory": ["Memory of a step, rank 4, bf16, batch 1"],
    "repeat": ["4 steps of SD1.5, batch 2, beside the first run's"],
    "repeat-exact": ["4 steps of SD1.5, batch 2, beside the first run's"],
    "pictures": [
        "Drawn: dpmpp_2m, 2 steps, guidance 7",
        "Encoded: PNG files to cached latents",
    ],
    "compiled": ["Our step, bf16, eager and compiled"],
}
FAKES = """
import os, time
def well(bench): bench.row("Numbers", {"a": 1.5, "b": None})
def hangs(bench): bench.row("Before it hangs", {"a": 1}); time.sleep(60)
def raises(bench): bench.row("Before it raises", {"a": 2}); raise RuntimeError("out of memory")
def dies(bench): bench.row("Before it dies", {"a": 3}); os.kill(os.getpid(), 11)
"""


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "rows.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.broad  # A minute; what it measures is held by the tests of what it calls.
def test_every_table_is_printed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--tiny", "--device", "cpu", "--out", str(tmp_path / "out")],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    out = tmp_path / "out"
    assert done.returncode == 0, done.stdout + done.stderr + (out / "gpu.log").read_text("utf-8")
    report = (out / "gpu.md").read_text("utf-8")
    for part in PARTS:
        mine = [record for record in records(out) if record["part"] == part.name]
        assert [one["outcome"] for one in mine if "outcome" in one] == ["done"]
        rows = [record for record in mine if "table" in record]
        assert {row["table"] for row in rows} == set(TABLES[part.name])
        for row in rows:
            numbers = [cell for cell in row["row"].values() if isinstance(cell, float)]
            assert all(map(math.isfinite, numbers)), row
        assert not [one["note"] for one in mine if "FAILED" in one.get("note", "")]
        assert f"## {part.name}: {part.what}" in report
        assert all(f"### {table}\n" in report for table in TABLES[part.name])
    assert set(report.splitlines()[1:]) <= set(done.stdout.splitlines())


@pytest.mark.parametrize("device", ["cpu", "cuda"])  # Forked, or begun anew; neither is touched.
def test_a_part_that_hangs_raises_or_dies_loses_only_itself(tmp_path: Path, device: str) -> None:
    (tmp_path / "fakes.py").write_text(FAKES, "utf-8")
    program = f"""
from pathlib import Path
from benchmarks.gpu import Options, run_parts
from benchmarks.gpu_parts.bench import Part
names = ("hangs", "raises", "dies", "well")
parts = [Part(name, "a fake", 2, f"fakes:{{name}}") for name in names]
print(run_parts(parts, Options(Path({str(tmp_path / "out")!r}), {device!r}, True, 12)))
"""
    paths = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": paths},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("False\n")
    found = records(tmp_path / "out")
    outcomes = {one["part"]: one["outcome"] for one in found if "outcome" in one}
    assert outcomes["hangs"].startswith("STOPPED after its ")
    assert outcomes["raises"].startswith("FAILED")
    assert outcomes["dies"] == "DIED of SIGSEGV; see gpu.log"
    assert outcomes["well"] == "done"
    assert {one["table"] for one in found if "table" in one} == {
        "Before it hangs", "Before it raises", "Before it dies", "Numbers"
    }  # fmt: skip
    report = (tmp_path / "out" / "gpu.md").read_text("utf-8")
    assert "| 1.5 | - |" in report
    assert "- FAILED: RuntimeError: out of memory" in report
    log = (tmp_path / "out" / "gpu.log").read_text("utf-8")
    assert "in hangs" in log  # The line at which it hung.
    assert "Segmentation fault" in log


def test_the_dry_run_names_every_part_and_fits_the_loan() -> None:
    lines = dry_run(PARTS).splitlines()
    heads = {line.split()[2].rstrip(":"): int(line.split()[0]) for line in lines if " s  " in line}
    assert list(heads)[:-1] == [part.name for part in PARTS]
    assert sum(list(heads.values())[:-1]) == list(heads.values())[-1] <= SECONDS == 540


def test_limits_fit_what_is_left() -> None:
    """However long the earlier ones take, and none falls below its own while there is time."""
    left = 540.0
    for number, part in enumerate(PARTS):
        allowed = limit(PARTS, number, left)
        assert allowed >= part.seconds
        left -= allowed + 1.0  # Each hangs.
        assert left >= -1e-6
    scarce = [limit(PARTS, number, 60.0) for number in range(len(PARTS))]
    assert all(0 < allowed <= 60 for allowed in scarce)
    assert limit(PARTS, 0, 10_000.0) == 2 * PARTS[0].seconds
    assert limit(PARTS, len(PARTS) - 1, 301.0) == 300.0  # Nobody comes after it.


def test_time_at_work_counts_what_runs_side_by_side_once() -> None:
    assert union([(5, 9), (0, 4), (1, 2), (8, 12)]) == 11
    assert union([]) == 0


def test_operations_and_reads_are_counted_where_they_are() -> None:
    x = torch.ones(3, 4)
    with Operations() as operations:
        (x.view(12).t() * 2).add_(1)  # A product and a sum: views launch nothing.
    assert operations.count == 2
    reads = []
    with HostReads(lambda: reads.append(1)):
        float(x.sum())
        x.nonzero()
    assert len(reads) == 2


@pytest.mark.slow
def test_the_floor_of_sd15_is_known() -> None:
    """1.73 TFLOP for a step at 512 px and batch 1, give or take what the LoRA computes."""
    assert step_operations(SD15, 512, 8) == pytest.approx(1.73e12, rel=0.01)


def test_a_part_that_is_run_again_replaces_its_rows() -> None:
    parts = [Part("one", "a part", 1, "")]
    run: list[dict[str, Any]] = [
        {"begun": ""},
        {"table": "T", "row": {"x": 1}},
        {"outcome": "done", "seconds": 1.0},
    ]
    again: list[dict[str, Any]] = [
        {"begun": ""},
        {"table": "T", "row": {"x": 22}},
        {"outcome": "done", "seconds": 2.0},
    ]
    text = page([{"part": "one", **record} for record in run + again], parts)
    assert "| 22 |" in text
    assert "| 1 |" not in text
