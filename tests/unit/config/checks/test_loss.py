"""Contradictions and oddities of loss, noise, timesteps and masks."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasmith.config.checks import table as checks
from lorasmith.config.checks.loss import warnings_with
from lorasmith.config.dump import dump_toml
from lorasmith.config.load import load_settings
from lorasmith.core.errors import SettingsError

CONTRADICTIONS = [
    (["multires_iterations=6", "noise_offset=0.1"], "multires_iterations", "exclude each other"),
    (["multires_iterations=6", "adaptive_noise_scale=0.1"], "multires_iterations", "adaptive"),
    (["min_timestep=500", "max_timestep=500"], "min_timestep", "no noise level left"),
    (["min_timestep=600", "max_timestep=500"], "min_timestep", "not below"),
    (["antithetic_noise=true", "noise_candidates=4"], "noise_candidates", "exclude each other"),
    (["masked=folder"], "mask_folder", "none is named"),
    (["timesteps=importance", "min_snr_gamma=0"], "timesteps", "weighs all of them alike"),
]


@pytest.mark.parametrize(("assignments", "where", "what"), CONTRADICTIONS)
def test_contradictions(assignments: list[str], where: str, what: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, [f"loss.{item}" for item in assignments])
    (problem,) = caught.value.problems
    assert problem.where.endswith(f"loss.{where}")
    assert what in str(problem)
    assert problem.hint


ODDITIES = [
    (["debiased=true", "min_snr_gamma=5"], "debiased", "weigh every noise level twice"),
    (["min_snr_gamma=0.5"], "min_snr_gamma", "is low"),
    (["min_snr_gamma=50"], "min_snr_gamma", "is high"),
    (["noise_offset=0.5"], "noise_offset", "deep-fried"),
    (["noise_offset_random=true"], "noise_offset_random", "no effect"),
    (["adaptive_noise_scale=-0.1"], "adaptive_noise_scale", "only lower"),
    (["multires_discount=0.1"], "multires_discount", "no effect"),
    (["multires_iterations=1"], "multires_iterations", "no effect"),
    (["multires_iterations=6", "multires_discount=0.8"], "multires_discount", "blotchy"),
    (["input_perturbation=0.4"], "input_perturbation", "lose their details"),
    (["input_perturbation_random=true"], "input_perturbation_random", "no effect"),
    (["huber_c=0.2"], "huber_c", "the loss is l2"),
    (["type=l1", "huber_schedule=constant"], "huber_c", "the loss is l1"),
    (["type=huber", "huber_c=5"], "huber_c", "this is l2"),
    (["type=smooth_l1", "huber_c=5"], "huber_c", "slower by that factor"),
    (["min_timestep=950"], "max_timestep", "50 of 1000"),
    (["timestep_mean=1"], "timestep_mean", "timesteps are uniform"),
    (["timesteps=low", "timestep_std=2"], "timestep_mean", "timesteps are low"),
    (["timesteps=logit_normal", "timestep_power=2"], "timestep_power", "no effect"),
    (["mask_folder=masks"], "mask_folder", "masks are off"),
    (["masked=alpha", "mask_folder=masks"], "mask_folder", "alpha channel"),
    (["mask_floor=0.1"], "mask_floor", "masks are off"),
    (["mask_normalize=true"], "mask_normalize", "masks are off"),
    (["outside_mask=prior"], "outside_mask", "masks are off"),
    (["masked=alpha", "mask_floor=1"], "mask_floor", "mask nothing"),
]


@pytest.mark.parametrize(("assignments", "where", "what"), ODDITIES)
def test_oddities(assignments: list[str], where: str, what: str) -> None:
    warnings = checks.warnings(load_settings(None, [f"loss.{item}" for item in assignments]))
    found = [n for n in warnings if n.where == f"loss.{where}" and what in str(n)]
    assert len(found) == 1, warnings
    assert found[0].hint


USUAL = [
    [],
    ["type=huber"],
    ["type=smooth_l1", "huber_c=0.2", "huber_schedule=exponential"],
    ["debiased=true"],
    ["noise_offset=0.05", "noise_offset_random=true", "adaptive_noise_scale=0.05"],
    ["multires_iterations=8", "multires_discount=0.2"],
    ["input_perturbation=0.1", "input_perturbation_random=true"],
    ["min_timestep=200", "max_timestep=800", "timesteps=logit_normal", "timestep_mean=-0.5"],
    ["timesteps=high", "timestep_power=2"],
    ["timesteps=importance", "timestep_strata=both", "antithetic_noise=true"],
    ["timestep_strata=image", "noise_candidates=4"],
    ["masked=folder", "mask_folder=masks", "mask_floor=0.1", "mask_normalize=true"],
]


@pytest.mark.parametrize("assignments", USUAL, ids=" ".join)
def test_what_is_usual_is_not_odd(assignments: list[str]) -> None:
    settings = load_settings(None, [f"loss.{item}" for item in assignments])
    assert [n for n in checks.warnings(settings) if n.where.startswith("loss")] == []
    for prediction in ("v", "epsilon"):
        assert list(warnings_with(settings, prediction, zero_terminal_snr=False)) == []


@pytest.mark.parametrize(
    ("assignments", "prediction", "what"),
    [
        (["zero_terminal_snr=true"], "epsilon", "predicts the noise"),
        (["zero_terminal_snr=true"], "v", "count for nothing"),
        (["zero_terminal_snr=true", "min_snr_gamma=0"], "v", None),
        (["scale_v_like_noise=true"], "epsilon", "no effect"),
        (["scale_v_like_noise=true"], "v", None),
    ],
)
def test_what_is_odd_depends_on_what_the_model_predicts(
    assignments: list[str], prediction: str, what: str | None
) -> None:
    settings = load_settings(None, [f"loss.{item}" for item in assignments])
    to_noise = settings.loss.zero_terminal_snr is True
    found = list(warnings_with(settings, prediction, zero_terminal_snr=to_noise))
    assert len(found) == (what is not None)
    assert all(what is not None and what in str(problem) for problem in found)


def test_debiased_alone_takes_the_place_of_min_snr(tmp_path: Path) -> None:
    assert load_settings(None, ["loss.debiased=true"]).loss.min_snr_gamma is None
    assert load_settings(None, ["loss.debiased=false"]).loss.min_snr_gamma == 5.0
    settings = load_settings(None, ["loss.debiased=true"])
    path = tmp_path / "run.toml"
    path.write_text(dump_toml(settings), encoding="utf-8")
    assert load_settings(path) == settings
