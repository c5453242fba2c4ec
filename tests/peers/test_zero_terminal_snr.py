"""SNR weights at zero terminal SNR beside sd-scripts' own functions, run out of its source.

``LORASMITH_PEERS`` names the folder that holds a checkout, ``sd-scripts``.
"""

from __future__ import annotations

import os
import types
from numbers import Number
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from lorasmith.diffusion.schedule import (
    DDPMSchedule,
    scaled_linear_alphas_cumprod,
    zero_terminal_snr,
)
from lorasmith.diffusion.weights import debiased_weight, like_noise_weight, min_snr_weight

SOURCE = Path(os.environ.get("LORASMITH_PEERS", ""), "sd-scripts/library/custom_train_functions.py")
pytestmark = pytest.mark.skipif(
    "LORASMITH_PEERS" not in os.environ or not SOURCE.is_file(),
    reason="LORASMITH_PEERS names no folder with sd-scripts",
)

PREPARE = "prepare_scheduler_for_custom_training"  # Notes the SNR of each level.
CHANGE = "fix_noise_scheduler_betas_for_zero_terminal_snr"
ALL, ONE = torch.arange(1000), torch.ones(1000)


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    text = SOURCE.read_text(encoding="utf-8")
    space: dict[str, Any] = {
        "torch": torch, "DDPMScheduler": DDPMScheduler, "Number": Number,
        "logger": types.SimpleNamespace(info=lambda _: None),
    }  # fmt: skip
    names = (PREPARE, CHANGE, "apply_snr_weight", "get_snr_scale", "apply_debiased_estimation")
    for name in (*names, "scale_v_prediction_loss_like_noise_prediction"):
        start = text.index(f"def {name}(")
        exec(text[start : text.index("\ndef ", start)], space)
    return space


def scheduler(theirs: dict[str, Any], *order: str) -> DDPMScheduler:
    made = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
    )
    theirs[order[0]](*([made, "cpu"] if order[0] == PREPARE else [made]))
    theirs[order[1]](*([made, "cpu"] if order[1] == PREPARE else [made]))
    return made


def test_the_weights_are_theirs_for_the_schedule_that_is_trained_with(
    theirs: dict[str, Any],
) -> None:
    """What it would weigh with if it noted the SNR after it has changed the schedule."""
    changed = scheduler(theirs, CHANGE, PREPARE)
    abar = zero_terminal_snr(scaled_linear_alphas_cumprod())
    snr = DDPMSchedule("v", alphas_cumprod=abar).snr(ALL)
    like_noise = theirs["scale_v_prediction_loss_like_noise_prediction"]
    for expected, ours in (
        (theirs["apply_snr_weight"](ONE, ALL, changed, 5.0, True), min_snr_weight(snr, 5.0, "v")),
        (theirs["apply_debiased_estimation"](ONE, ALL, changed, True), debiased_weight(snr, "v")),
        (like_noise(ONE, ALL, changed), like_noise_weight(snr)),
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


def test_it_weighs_with_the_snr_of_the_schedule_before(theirs: dict[str, Any]) -> None:
    """The figures of docs/loss.md."""
    as_it_does = scheduler(theirs, PREPARE, CHANGE)
    abar = zero_terminal_snr(scaled_linear_alphas_cumprod())
    ours = min_snr_weight(DDPMSchedule("v", alphas_cumprod=abar).snr(ALL), 5.0, "v")
    weights = theirs["apply_snr_weight"](ONE, ALL, as_it_does, 5.0, True)
    plain = min_snr_weight(DDPMSchedule("v").snr(ALL), 5.0, "v")
    torch.testing.assert_close(weights, plain, rtol=1e-4, atol=1e-6)
    rounded = [
        (round(float(weights[t]), 3), round(float(ours[t]), 3)) for t in (250, 500, 750, 999)
    ]
    assert rounded == [(0.674, 0.652), (0.276, 0.241), (0.056, 0.033), (0.005, 0.0)]
    assert float(weights.mean() / ours.mean()) == pytest.approx(1.06, abs=0.005)
    # For the noise its weights are finite too, for the same reason.
    assert theirs["apply_snr_weight"](ONE, ALL, as_it_does, 5.0, False).isfinite().all()
