"""Every choice that a run has really trains: a few steps on the demo model each, in one process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.recipes.matrix import losses, run_with
from tests.tolerances import NETWORK, assert_near, near

from lorasmith.config.load import Override, load_settings
from lorasmith.demo.character import write_training_set
from lorasmith.training.run import resume, train

CASES: dict[str, dict[str, str]] = {
    "Prodigy": {"optimizer.name": "Prodigy", "optimizer.lr": "1", "schedule.name": "constant"},
    "linear with warm-up": {"schedule.name": "linear", "schedule.warmup": "50%"},
    "restarts": {"schedule.name": "cosine_with_restarts", "schedule.cycles": "2"},
    "own rates": {"optimizer.unet_lr": "1e-3", "optimizer.text_encoder_lr": "5e-4"},
    "convolutions": {"adapter.conv_rank": "2", "adapter.conv_alpha": "1"},
    "all dropouts": {
        "adapter.dropout": "0.1",
        "adapter.rank_dropout": "0.1",
        "adapter.module_dropout": "0.1",
    },
    "norm limit": {"adapter.scale_weight_norms": "1e-3"},
    "UNet alone, text cached": {"adapter.text_encoder": "false"},
    "UNet alone, text live": {"adapter.text_encoder": "false", "captions.shuffle": "true"},
    "text encoder alone": {"adapter.unet": "false"},
    "nothing cached": {"performance.cache_latents": "false", "performance.cache_text": "false"},
    "gradient checkpointing": {"train.gradient_checkpointing": "true"},
    "bf16": {"train.precision": "bf16"},
    "channels last": {"performance.channels_last": "true"},
    "accumulation": {"train.accumulation": "3"},
    "noise offset, plain loss": {"loss.noise_offset": "0.1", "loss.min_snr_gamma": "0"},
    "v-prediction": {"model.prediction": "v"},
    "flip": {"augment.flip": "true"},
    "buckets off": {"buckets.enabled": "false"},
    "own resolution": {"data.resolution": "[48, 64]"},
    "captions vary": {
        "captions.tag_dropout": "0.3",
        "captions.dropout": "0.2",
        "captions.prefix": "a {big|small}",
        "captions.wildcards": "true",
    },
    "CLIP skip and long captions": {"model.clip_skip": "2", "model.max_tokens": "150"},
}


# Ways to the same result; all others must give another one, or the setting does nothing.
SAME = {
    "nothing cached",
    "gradient checkpointing",
    "channels last",
    "buckets off",
}
# What tells the same result from another: see tests/tolerances.py.
PLAIN_DESCENT = {"optimizer.name": "SGDNesterov", "optimizer.lr": "1"}

Result = tuple[list[float], dict[str, torch.Tensor]]


def result(folder: Path, changes: Mapping[str, str]) -> Result:
    run = run_with(folder, changes)
    return losses(run), load_file(run / "run.safetensors")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return result(tmp_path_factory.mktemp("plain"), {})


@pytest.fixture(scope="module")
def descended(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return result(tmp_path_factory.mktemp("descended"), PLAIN_DESCENT)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SAME))
def test_another_way_to_the_same(name: str, tmp_path: Path, descended: Result) -> None:
    found, expected = result(tmp_path, {**PLAIN_DESCENT, **CASES[name]}), descended
    assert max(float(t.abs().max()) for n, t in found[1].items() if "lora_up" in n) > 1e-3
    assert found[0] == near(expected[0], len(expected[0]) * NETWORK)
    assert_near(found[1], expected[1], len(expected[0]) * NETWORK)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", sorted(CASES.keys() - SAME))
def test_trains(name: str, tmp_path: Path, plain: Result) -> None:
    _, tensors = result(tmp_path, CASES[name])
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    changed = [n for n, t in tensors.items() if "lora_up" in n and float(t.abs().max()) > 0]
    assert changed
    weights = plain[1]
    assert tensors.keys() != weights.keys() or not all(
        torch.allclose(tensors[n], weights[n], rtol=1e-2, atol=1e-4) for n in weights
    )


@pytest.mark.slow
def test_a_resumed_run_keeps_the_layout_that_it_was_begun_with(tmp_path: Path) -> None:
    run = run_with(tmp_path, {"train.steps": "1"})
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert info["channels_last"] is False
    # As if another version's "auto" had taken the other.
    (run / "run.json").write_text(json.dumps({**info, "channels_last": True}), encoding="utf-8")
    resume(run, [Override("train.steps", "2")])
    assert "channels_last = true" in (run / "settings.toml").read_text(encoding="utf-8")


@pytest.mark.slow
def test_goes_on_from_a_lora(tmp_path: Path) -> None:
    first = run_with(tmp_path, {"adapter.rank": "3"})
    start = first / "run.safetensors"
    second = run_with(tmp_path, {"adapter.init_from": str(start), "optimizer.lr": "1e-9"})
    before, after = load_file(start), load_file(second / f"{second.name}.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_going_on_without_the_text_encoder_keeps_the_unets_part(tmp_path: Path) -> None:
    first = run_with(tmp_path, {})
    changes = {"adapter.init_from": str(first / "run.safetensors"), "adapter.text_encoder": "false"}
    second = run_with(tmp_path, changes)
    names = load_file(second / f"{second.name}.safetensors")
    assert names
    assert all(name.startswith("lora_unet_") for name in names)


@pytest.mark.slow
def test_snapshots_by_step_and_the_newest_kept(tmp_path: Path) -> None:
    run = run_with(tmp_path, {"save.every_steps": "1", "save.keep_last": "2", "train.steps": "4"})
    names = sorted(path.name for path in run.glob("*.safetensors"))
    assert len(names) == 3
    assert "run.safetensors" in names
    assert "run-step00000003.safetensors" in names


@pytest.mark.slow
def test_samples_show_the_base_first(tmp_path: Path) -> None:
    changes = {"sample.at_start": "true", "sample.every_steps": "2", "sample.steps": "2"}
    run = run_with(tmp_path, {**changes, "sample.prompts": '["zorp", "blue body"]'})
    steps = sorted(path.name[:8] for path in (run / "samples").glob("*.png"))
    assert steps == ["00000000"] * 2 + ["00000002"] * 2 + ["00000004"] * 2


@pytest.mark.slow
def test_no_samples_when_they_are_off(tmp_path: Path) -> None:
    assert not list(run_with(tmp_path, {}).glob("samples/*"))


@pytest.mark.slow
def test_a_run_killed_before_its_last_state_still_gets_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are written before the state that counts them as done."""

    def killed(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    whole = run_with(tmp_path / "whole", {"save.state_every_steps": "3"})
    with monkeypatch.context() as patch:
        patch.setattr("lorasmith.training.loop.save_snapshot", killed)
        with pytest.raises(KeyboardInterrupt):
            run_with(tmp_path, {"save.state_every_steps": "3"})
    run = tmp_path / "out" / "run"
    assert not (run / "run.safetensors").exists()
    resume(run, [])
    assert (run / "run.safetensors").read_bytes() == (whole / "run.safetensors").read_bytes()


@pytest.mark.slow
def test_folders_with_settings_of_their_own(tmp_path: Path) -> None:
    write_training_set(tmp_path / "data", images=3, regularisation=2, repeats=1)
    toml = tmp_path / "run.toml"
    toml.write_text(
        f"""
        [[data.folders]]
        path = "{tmp_path}/data/img/1_zorp"
        repeats = 3
        weight = 0.5

        [[data.folders]]
        path = "{tmp_path}/data/reg/1_creature"
        reg = true
        """,
        encoding="utf-8",
    )
    overrides = {
        "save.output": str(tmp_path / "out"),
        "train.epochs": "1",
        "sample.every_epochs": "0",
        "sample.at_start": "false",
        "log.tensorboard": "false",
    }
    settings = load_settings(toml, overrides)
    run = train(settings)
    report = json.loads((run / "dataset.json").read_text(encoding="utf-8"))
    assert report["steps"]["total"] == -(-3 * 3 * 2 // 4), "four to a step, as suits the model"


@pytest.mark.slow
def test_folders_of_two_sizes_train_together(tmp_path: Path) -> None:
    write_training_set(tmp_path / "data", images=3, repeats=1)
    (folder,) = (tmp_path / "data" / "img").iterdir()
    folders = (
        f'[{{path = "{folder}"}}, '
        f'{{path = "{folder}", resolution = 48, batch = 1, augment = {{flip = true}}}}]'
    )
    run = run_with(tmp_path, {"data.path": "none", "data.folders": folders, "train.epochs": "1"})
    sizes = json.loads((run / "dataset.json").read_text(encoding="utf-8"))["buckets"]
    assert {(row["width"], row["height"]): row["batches"] for row in sizes} == {
        (64, 64): 2,
        (48, 48): 3,
    }
    assert len(losses(run)) == 4
    assert all(loss == loss for loss in losses(run))
