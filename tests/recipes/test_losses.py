"""Every choice of loss, noise and timesteps trains; weights of images act."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.recipes.matrix import learns, losses, run_with
from tests.tolerances import NETWORK, near

from lorasmith.demo.character import write_training_set

CASES: dict[str, dict[str, str]] = {
    "l1": {"type": "l1"},
    "huber": {"type": "huber"},
    "smooth l1, exponential": {"type": "smooth_l1", "huber_schedule": "exponential"},
    "debiased": {"debiased": "true"},
    "random and adaptive offset": {
        "noise_offset": "0.1",
        "noise_offset_random": "true",
        "adaptive_noise_scale": "0.05",
    },
    "pyramid noise": {"multires_iterations": "6"},
    "input perturbation": {"input_perturbation": "0.1", "input_perturbation_random": "true"},
    "logit-normal timesteps in a range": {
        "timesteps": "logit_normal",
        "min_timestep": "100",
        "max_timestep": "900",
    },
    "low timesteps": {"timesteps": "low"},
    "timesteps by importance": {"timesteps": "importance"},
    "spread timesteps, antithetic noise": {"timestep_strata": "both", "antithetic_noise": "true"},
    "the nearest noise of four": {"noise_candidates": "4", "timestep_strata": "image"},
}


@pytest.mark.broad_beyond(5)
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_learns(name: str, tmp_path: Path) -> None:
    learns(tmp_path, {f"loss.{key}": value for key, value in CASES[name].items()})


VELOCITY: dict[str, dict[str, str]] = {
    "zero terminal SNR": {"zero_terminal_snr": "true", "min_snr_gamma": "0"},
    "as the noise": {"scale_v_like_noise": "true", "min_snr_gamma": "0"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VELOCITY)
def test_learns_velocity(name: str, tmp_path: Path) -> None:
    choice = {f"loss.{key}": value for key, value in VELOCITY[name].items()}
    learns(tmp_path, {"model.prediction": "v", **choice})


# A whole epoch in one step, so that what is in it does not depend on the order.
ONE_STEP = {"train.batch": "32", "train.steps": "1", "loss.min_snr_gamma": "0"}


def first_loss(folder: Path, **changes: str) -> float:
    settings = {key.replace("__", "."): value for key, value in changes.items()}
    return losses(run_with(folder, {**ONE_STEP, **settings}))[0]


@pytest.mark.slow
def test_the_prior_weight_scales_the_share_of_regularisation(tmp_path: Path) -> None:
    none, one, two = (first_loss(tmp_path, loss__prior_weight=weight) for weight in "012")
    assert one > none > 0
    assert two - one == near(one - none, NETWORK)


@pytest.mark.slow
def test_a_folders_weight_scales_its_share(tmp_path: Path) -> None:
    write_training_set(tmp_path / "data", images=3, regularisation=2, repeats=1)
    first, second = tmp_path / "data/img/1_zorp", tmp_path / "data/reg/1_creature"

    def loss(weight: str) -> float:
        folders = f'[{{path = "{first}", weight = {weight}}}, {{path = "{second}", weight = 1.0}}]'
        return first_loss(tmp_path, data__folders=folders, data__path="none")

    half, one, two = loss("0.5"), loss("1.0"), loss("2.0")
    assert one > half > 0
    assert two - one == near(2 * (one - half), NETWORK)


@pytest.mark.slow
def test_masks_weigh_places(tmp_path: Path) -> None:
    no_reg = {"loss__prior_weight": "0"}
    whole = first_loss(tmp_path, **no_reg)
    for image in (tmp_path / "data" / "img").glob("*/*.png"):
        half = np.zeros((64, 64), np.uint8)
        half[:, :32] = 255
        for name, mask in (("left", half), ("right", 255 - half)):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(mask).save(tmp_path / name / image.name)

    def masked(name: str, **changes: str) -> float:
        folder = str(tmp_path / name)
        choice = {"loss__masked": "folder", "loss__mask_folder": folder, **no_reg, **changes}
        return first_loss(tmp_path, **choice)

    left = masked("left")
    assert 0 < left < whole
    assert left + masked("right") == near(whole, NETWORK)
    floored = masked("left", loss__mask_floor="0.25")
    assert floored == near(0.75 * left + 0.25 * whole, NETWORK)
    assert masked("left", loss__mask_normalize="true") == near(2 * left, NETWORK)
