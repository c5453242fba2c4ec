"""Held-out loss and the average of the weights in real runs of the embedded model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.recipes.matrix import learns, losses, result_of, run_with
from tests.tolerances import NETWORK, near

from lorasmith.core.errors import UserError
from lorasmith.demo.character import write_training_set
from lorasmith.training.run import resume

HELD_OUT = {"validation.split": "25%", "validation.timesteps": "4", "validation.every_steps": "2"}
AVERAGED = {"train.ema": "0.7"}


def measures(run: Path) -> dict[int, dict[str, Any]]:
    """What validation found, by step."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["step"]: row for row in map(json.loads, lines) if "held_out" in row}


def data(folder: Path, images: int = 8) -> Path:
    write_training_set(folder / "data", images=images, regularisation=2, repeats=1)
    return folder / "data"


@pytest.mark.slow
def test_held_out_loss_falls_and_every_image_is_on_one_side(tmp_path: Path) -> None:
    images = data(tmp_path)
    run = run_with(tmp_path, {**HELD_OUT, "train.steps": "12", "validation.every_steps": "6"})
    found = measures(run)
    assert list(found) == [0, 6, 12]
    assert found[0]["held_out_change"] == 0
    assert found[12]["held_out"] < found[0]["held_out"]
    assert found[12]["held_out_change"] < -2 * found[12]["errors"]["held_out_change"]
    assert found[12]["pictures"] == 2
    assert len(found[12]["quarters"]) == 4
    report = json.loads((run / "dataset.json").read_text(encoding="utf-8"))
    trained = {row["path"] for row in report["pictures"]}
    assert len(report["held_out"]) == 2
    assert not trained & set(report["held_out"])
    assert all("reg" not in Path(path).parts for path in report["held_out"])
    assert len(trained | set(report["held_out"])) == len(list(images.rglob("*.png")))
    events = (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    assert sum(json.loads(line)["event"] == "ValidationDone" for line in events) == 3


@pytest.mark.slow
def test_runs_that_differ_begin_with_the_same_number(tmp_path: Path) -> None:
    data(tmp_path)
    one = run_with(tmp_path, {**HELD_OUT, "train.steps": "2"})
    changes = {"train.seed": "9", "train.batch": "1", "adapter.rank": "2", "optimizer.lr": "1e-4",
               "adapter.dropout": "0.3", "augment.flip": "true", "captions.shuffle": "true",
               "train.steps": "2", "loss.min_snr_gamma": "0"}  # fmt: skip
    other = run_with(tmp_path, {**HELD_OUT, **changes})
    first, second = measures(one), measures(other)
    for name in ("held_out", "training"):
        assert first[0][name] == second[0][name]
        assert first[2][name] != second[2][name]


@pytest.mark.slow
def test_measuring_changes_nothing_of_the_training(tmp_path: Path) -> None:
    data(tmp_path)
    often = run_with(
        tmp_path, {**HELD_OUT, "validation.every_steps": "1", "adapter.dropout": "0.2"}
    )
    never = {"validation.every_steps": "0", "validation.every_epochs": "0"}
    seldom = run_with(tmp_path, {**HELD_OUT, **never, "adapter.dropout": "0.2"})
    assert measures(often)
    assert not measures(seldom)
    assert losses(often) == losses(seldom)
    weights, others = load_file(result_of(often)), load_file(result_of(seldom))
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.slow
def test_killed_and_resumed_with_validation_and_average(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    data(tmp_path)
    settings = {**HELD_OUT, **AVERAGED, "train.steps": "6", "save.state_every_steps": "3"}
    settings["save.every_epochs"] = "0"
    whole = run_with(tmp_path, settings)
    with monkeypatch.context() as patch:
        patch.setattr("lorasmith.training.loop.save_snapshot", killed)
        with pytest.raises(KeyboardInterrupt):
            run_with(tmp_path, {**settings, "save.name": "broken"})
    broken = tmp_path / "out" / "broken"
    assert not result_of(broken).exists()
    resume(broken, [])
    one, other = load_file(result_of(whole)), load_file(result_of(broken))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert losses(broken) == losses(whole)
    assert list(measures(broken)) == [0, 2, 4, 6]
    assert measures(broken) == measures(whole)


@pytest.mark.slow
def test_the_average_learns_and_is_what_is_saved(tmp_path: Path) -> None:
    averaged = learns(tmp_path / "averaged", AVERAGED)
    plain = run_with(tmp_path / "plain", {"train.steps": "10"})
    assert losses(averaged) == losses(plain), "the steps themselves are the same"
    one, other = load_file(result_of(averaged)), load_file(result_of(plain))
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_folder_of_its_own(tmp_path: Path) -> None:
    data(tmp_path)
    write_training_set(tmp_path / "other", images=3, regularisation=1, repeats=1, seed=5)
    folder = {"validation.folder": str(tmp_path / "other"), "train.steps": "2"}
    run = run_with(tmp_path, folder)
    report = json.loads((run / "dataset.json").read_text(encoding="utf-8"))
    assert len(report["held_out"]) == 3
    assert measures(run)[2]["pictures"] == 3
    with pytest.raises(UserError, match="trained on too"):
        run_with(tmp_path, {"validation.folder": str(tmp_path / "data"), "train.steps": "2"})


def test_nothing_to_hold_out(tmp_path: Path) -> None:
    data(tmp_path, images=1)
    with pytest.raises(UserError, match="nothing can be held out"):
        run_with(tmp_path, HELD_OUT)


WAYS: dict[str, dict[str, str]] = {
    "nothing cached": {"performance.cache_latents": "false", "performance.cache_text": "false"},
    "text cached": {"adapter.text_encoder": "false"},
    "text live": {"adapter.text_encoder": "false", "captions.shuffle": "true"},
    "gradient checkpointing": {"train.gradient_checkpointing": "true"},
    "bf16": {"train.precision": "bf16"},
}


@pytest.mark.slow
def test_measures_the_same_whatever_the_way(tmp_path: Path) -> None:
    data(tmp_path)
    at_start = {**HELD_OUT, "train.steps": "1"}
    expected = measures(run_with(tmp_path, at_start))[0]["held_out"]
    for name, way in WAYS.items():
        found = measures(run_with(tmp_path, {**at_start, **way}))[0]["held_out"]
        assert found == (
            pytest.approx(expected, rel=0.02) if name == "bf16" else near(expected, NETWORK)
        ), name
