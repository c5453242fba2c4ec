"""Messages about what doctor would have seen lead to it."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest
import torch

from lorasmith.cli.main import NO_MEMORY
from lorasmith.config.load import load_settings
from lorasmith.core.disk import write_error
from lorasmith.core.errors import DOCTOR, SettingsError
from lorasmith.tensors.device import LARGE_FOR_CPU, Machine, choose_device
from lorasmith.training.optim import find_optimizer
from lorasmith.training.setup.hardware import eight_bit_fails, slow_device

CPU = torch.device("cpu")


def test_a_device_that_is_not_there() -> None:
    missing = "xpu:99" if torch.cuda.is_available() else "cuda:99"
    with pytest.raises(SettingsError) as caught:
        choose_device(missing)
    assert DOCTOR in caught.value.problems[0].hint


def test_a_large_model_on_a_cpu() -> None:
    machine = Machine(CPU, "cpu", "cpu", bf16=True)
    (problem,) = slow_device(load_settings(None), machine, LARGE_FOR_CPU)
    assert DOCTOR in problem.hint


def test_bitsandbytes_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "bitsandbytes"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(SettingsError) as caught:
        find_optimizer("AdamW8bit")
    assert DOCTOR in caught.value.problems[0].hint
    assert DOCTOR in eight_bit_fails("AdamW8bit", {}, CPU)


def test_a_full_disk_and_no_memory() -> None:
    error = write_error(Path("a.png"), OSError(errno.ENOSPC, "No space left on device"))
    assert "`lorasmith doctor` looks at the disks" in error.problems[0].hint
    assert "doctor" not in str(write_error(Path("a"), OSError(errno.EISDIR, "Is a directory")))
    assert DOCTOR in NO_MEMORY.hint
