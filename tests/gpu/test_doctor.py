"""`lorasmith doctor` on a CUDA device: everything that training uses is tried, and works."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from lorasmith.cli.main import cli

pytestmark = pytest.mark.gpu


def test_a_machine_that_trains_is_found_able() -> None:
    report = json.loads(CliRunner().invoke(cli, ["doctor", "--json"]).stdout)
    by_check = {one["check"]: one for one in report["findings"]}
    for check in ("driver", "PyTorch", "code for the card", "device", "memory of the card"):
        assert by_check[check]["status"] == "ok", by_check[check]
    for check in ("fp32", "fp16", "bf16", "weights in fp8", "weights in nf4", "VAE"):
        assert by_check[check]["status"] in ("ok", "slow"), by_check[check]
    assert "CUDA" in by_check["driver"]["evidence"]
