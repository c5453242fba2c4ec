"""Every optimizer and schedule trains the embedded model, at the settings that the docs recommend.

The demo model is small and wants about thirty times the learning rate of SD1.5, so rates are
scaled by that; adaptive ones start from a ``d0`` that saves them the hundred steps they take to
find it. Three runs are broken off and go on, and must end in the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.recipes.matrix import learns, losses, result_of, run_with

from lorasmith.config.optimizers import OPTIMIZERS, optimizer_facts
from lorasmith.training.run import resume

GUIDES = "decouple=True weight_decay=0.01 betas=0.9,0.99"
PRODIGY = f"{GUIDES} d_coef=2 use_bias_correction=True safeguard_warmup=True"
ADAPTIVE = {"optimizer.lr": "1", "schedule.name": "constant"}

CASES: dict[str, dict[str, str]] = {
    "AdamW": {"optimizer.lr": "3e-3"},
    "AdamW8bit": {"optimizer.lr": "3e-3"},
    "PagedAdamW8bit": {"optimizer.lr": "3e-3"},
    "AdamWScheduleFree": {"optimizer.lr": "1e-2", "schedule.name": "constant"},
    "Lion": {"optimizer.lr": "6e-4", "optimizer.args": "weight_decay=0.1"},
    "Lion8bit": {"optimizer.lr": "6e-4", "optimizer.args": "weight_decay=0.1"},
    "SGDNesterov": {"optimizer.lr": "3"},
    "SGDNesterov8bit": {"optimizer.lr": "3"},
    "AdaFactor": {
        "optimizer.args": "relative_step=True scale_parameter=True warmup_init=False",
        "schedule.name": "constant",
    },
    "AdaFactor, fixed": {
        "optimizer.lr": "3e-3",
        "optimizer.args": "relative_step=False scale_parameter=False warmup_init=False",
    },
    "DAdaptAdam": {**ADAPTIVE, "optimizer.args": f"{GUIDES} d0=1e-4"},
    "DAdaptLion": {**ADAPTIVE, "optimizer.args": "weight_decay=0.01 d0=1e-4"},
    "DAdaptSGD": {**ADAPTIVE, "optimizer.args": "momentum=0.9 d0=1e-3"},
    "DAdaptAdaGrad": {**ADAPTIVE, "optimizer.args": "d0=1e-4"},
    "DAdaptAdan": {**ADAPTIVE, "optimizer.args": "d0=1e-4"},
    "DAdaptAdanIP": {**ADAPTIVE, "train.steps": "40"},
    "Prodigy": {**ADAPTIVE, "optimizer.args": f"{PRODIGY} d0=1e-4"},
    "CAME": {"optimizer.lr": "1e-3"},
    "torch.optim.RMSprop": {"optimizer.lr": "1e-3"},
}

SCHEDULES: dict[str, dict[str, str]] = {
    "constant": {},
    "constant_with_warmup": {"schedule.warmup": "20%"},
    "linear": {"schedule.warmup": "1"},
    "cosine": {"schedule.min_ratio": "0.1"},
    "cosine_with_restarts": {"schedule.cycles": "2"},
    "polynomial": {"schedule.power": "2"},
    "inverse_sqrt": {"schedule.warmup": "10%"},
    "rex": {},
}


def library_of(case: str) -> str:
    name = case.partition(",")[0]
    return "pytorch_optimizer" if name == "CAME" else optimizer_facts(name).package


def settings_of(case: str) -> dict[str, str]:
    library = library_of(case)
    if library in ("bitsandbytes", "pytorch_optimizer"):
        pytest.importorskip(library)
    return {"optimizer.name": case.partition(",")[0], **CASES[case]}


def test_none_is_left_out() -> None:
    assert set(OPTIMIZERS) <= set(CASES)


@pytest.mark.broad_beyond(7)
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_learns_with_optimizer(case: str, tmp_path: Path) -> None:
    learns(tmp_path, settings_of(case))


@pytest.mark.broad  # What schedules do is held by their formulas.
@pytest.mark.parametrize("name", SCHEDULES)
def test_learns_with_schedule(name: str, tmp_path: Path) -> None:
    learns(tmp_path, {"schedule.name": name, **SCHEDULES[name]})


@pytest.mark.slow
@pytest.mark.parametrize("case", ["Prodigy", "DAdaptAdam", "AdaFactor", "AdamWScheduleFree"])
def test_killed_and_gone_on_with_gives_the_same_bytes(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the last step's state, it goes on from step 4 of 6."""

    def killed(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    settings = {**settings_of(case), "train.steps": "6", "save.state_every_steps": "4"}
    settings["optimizer.text_encoder_lr"] = "0.5"  # A ratio, with those that have one step size.
    whole = run_with(tmp_path / "whole", settings)
    with monkeypatch.context() as patch:
        patch.setattr("lorasmith.training.loop.save_snapshot", killed)
        with pytest.raises(KeyboardInterrupt):
            run_with(tmp_path, settings)
    broken = tmp_path / "out" / "run"
    assert not result_of(broken).exists()
    resume(broken, [])
    assert result_of(broken).read_bytes() == result_of(whole).read_bytes()
    assert losses(broken) == losses(whole)
