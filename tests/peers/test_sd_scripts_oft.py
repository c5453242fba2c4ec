"""sd-scripts' OFT, whose files are named ``oft_unet_…``, merged by its own module and by ours.

``LORASMITH_PEERS`` names the folder that holds a checkout, ``sd-scripts``.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import nn

from lorasmith.adapters.types.oft import OFT

CODE = Path(os.environ.get("LORASMITH_PEERS", "")) / "sd-scripts" / "networks" / "oft.py"
pytestmark = pytest.mark.skipif(
    "LORASMITH_PEERS" not in os.environ or not CODE.is_file(),
    reason="LORASMITH_PEERS names no folder with sd-scripts in it",
)


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, without what it imports for training."""
    for name in ("library", "library.utils", "einops"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    spec = importlib.util.spec_from_file_location("sd_scripts_oft", CODE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("alpha", [1e-3, 1.0])
@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_its_rotation_is_ours(theirs: Any, alpha: float, conv: bool, strength: float) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 24, 3, padding=1) if conv else nn.Linear(10, 24)
    module = theirs.OFTInfModule("oft_unet_zorp", layer, strength, dim=4, alpha=alpha)
    nn.init.normal_(module.oft_blocks)
    tensors = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    assert tensors.keys() == {"alpha", "oft_blocks"}
    with torch.no_grad():
        ours = OFT.from_tensors(layer, tensors).merged_weight(layer, strength)
        module.merge_to(strength)
    torch.testing.assert_close(ours, layer.weight, rtol=1e-5, atol=1e-5)
