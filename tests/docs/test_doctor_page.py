"""docs/doctor.md shows what the program prints, and the table of drivers as it is."""

from __future__ import annotations

import re

from click import unstyle
from tests.docs.test_docs import ROOT
from tests.unit.advice.doctor.test_faults import GPU, RTX, driver

from lorasmith.advice.doctor.checks import ROLES
from lorasmith.advice.doctor.computer import Device
from lorasmith.advice.doctor.doctor import report_of
from lorasmith.advice.doctor.finding import STATUSES
from lorasmith.cli.doctor import report_lines
from lorasmith.core.torch_builds import CUDA_BUILDS, ROCM_INDEX, driver_for

PAGE = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")


def test_the_example_is_what_is_printed() -> None:
    assert GPU.capability == RTX.capability
    said = "The NVIDIA driver on your system is too old (found version 12040)."
    computer = driver("550.54.14", (12, 4), device=Device(problem=said))
    printed = unstyle("\n".join(report_lines(report_of(computer))))
    example = re.search(r"^```\n(Graphics card\n.*?)```", PAGE, re.DOTALL | re.MULTILINE)
    assert example
    assert example[1] in printed


def test_every_build_is_in_the_table() -> None:
    for build in CUDA_BUILDS:
        (row,) = [line for line in PAGE.splitlines() if line.endswith(f"| `{build.index}` |")]
        for windows in (False, True):
            assert f"| {driver_for(build.index, windows=windows)} |" in row
        assert "CUDA {}.{}".format(*build.driver_cuda) in row
        last = build.torch[1]
        assert ("up to" in row) == (last is not None)
        assert last is None or "up to {}.{}".format(*last) in row
    assert f"`{ROCM_INDEX}`" in PAGE


def test_every_word_is_explained() -> None:
    for status in STATUSES:
        assert f"\n| {status} | " in PAGE
    assert len(ROLES) == 4, "the page names them"
