"""Real runs with everything that saves memory, against runs without it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file
from tests.recipes.runs import FAST, losses, small_dataset
from tests.tolerances import NETWORK, near

from lorasmith.cli.main import cli
from lorasmith.config.load import load_settings
from lorasmith.core.events import Event, Notice
from lorasmith.training.run import resume, train
from lorasmith.training.runs.folder import RunFolder, write_info

COMMON = {
    "train.steps": "4", "log.every_steps": "1", "adapter.text_encoder": "false",
    # Losses are compared: see tests/tolerances.py.
    "optimizer.name": "SGDNesterov", "optimizer.lr": "1",
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_dataset(tmp_path_factory.mktemp("low-memory") / "data")


def trained(data: Path, name: str, **more: str) -> Path:
    chosen = {key.replace("__", "."): value for key, value in more.items()}
    paths = {"data.path": str(data), "save.output": str(data.parent / "out"), "save.name": name}
    settings = load_settings(None, {**FAST, **COMMON, **paths, **chosen})
    return train(settings)


@pytest.fixture(scope="module")
def plain(data: Path) -> Path:
    return trained(data, "plain")


@pytest.mark.slow_but_first
@pytest.mark.parametrize("blocks", ["true", "2"])
def test_recomputing_changes_no_loss(data: Path, plain: Path, blocks: str) -> None:
    run = trained(data, f"recomputed-{blocks}", train__gradient_checkpointing=blocks)
    assert losses(run) == near(losses(plain), 4 * NETWORK)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "away"), [("fp8", 0.05), ("nf4", 0.2)])
def test_packed_weights_learn_much_the_same(
    data: Path, plain: Path, precision: str, away: float
) -> None:
    run = trained(
        data, precision, train__base_precision=precision, sample__every_epochs="1",
        sample__steps="2", sample__size="64", train__gradient_checkpointing="true",
    )  # fmt: skip
    packed, whole = losses(run), losses(plain)
    assert sum(packed.values()) == pytest.approx(sum(whole.values()), rel=away)
    assert packed != whole
    assert list((run / "samples").glob("*.png"))
    assert (
        load_file(run / f"{precision}.safetensors").keys()
        == load_file(plain / "plain.safetensors").keys()
    )
    assert "saves memory on a CPU" in json.dumps(json.loads((run / "run.json").read_text()))


@pytest.mark.slow
def test_a_run_on_packed_weights_goes_on_as_if_it_had_not_stopped(data: Path) -> None:
    whole = trained(data, "whole", train__base_precision="fp8")
    half = trained(
        data, "half", train__base_precision="fp8", train__steps="4", save__every_steps="2"
    )
    for path in (half / "state").glob("*4.state"):
        path.unlink()
    resume(half, [])
    first, second = (load_file(run / f"{run.name}.safetensors") for run in (whole, half))
    assert all(bool((first[name] == second[name]).all()) for name in first)


@pytest.mark.slow
def test_4_bit_weights_keep_their_numbers_whoever_unpacks_them(
    data: Path,
) -> None:
    run = trained(data, "unpacked", train__base_precision="nf4", save__every_steps="2")
    assert json.loads((run / "run.json").read_text())["nf4_unpacker"] == "lorasmith"
    whole = (run / "unpacked.safetensors").read_bytes()
    for before, message in {
        "bitsandbytes 0.48.0": "were by bitsandbytes 0.48.0: the same numbers",
        "": "rounded 4-bit weights otherwise",
    }.items():
        write_info(RunFolder(run), status="stopped", nf4_unpacker=before)
        (run / "unpacked.safetensors").unlink()
        (run / "state" / "step-00000004.state").unlink()
        events: list[Event] = []
        resume(run, observer=events.append)
        assert any(message in e.text for e in events if isinstance(e, Notice))
        assert (run / "unpacked.safetensors").read_bytes() == whole
    assert json.loads((run / "run.json").read_text())["nf4_unpacker"] == "lorasmith"


@pytest.mark.slow
def test_tiles_and_slices(data: Path, plain: Path) -> None:
    run = trained(
        data, "tiles", performance__vae_tiling="true", performance__vae_slicing="true",
        performance__cache_dir=str(data.parent / "tiles-cache"),
    )  # fmt: skip
    assert losses(run) == near(losses(plain), 4 * NETWORK)  # No image is over 512 px.


def test_settings_that_cannot_be_are_said(data: Path) -> None:
    arguments = ["train", "--data", str(data), "--plan", "--set", "performance.offload_blocks=3"]
    found = CliRunner().invoke(cli, arguments)
    assert found.exit_code == 0, found.output
    assert "no other memory to be in" in " ".join(found.output.split())
    found = CliRunner().invoke(
        cli, [*arguments, "--set", "performance.compile=true", "--set", "train.base_precision=fp8"]
    )
    assert found.exit_code == 2
    assert "cannot be compiled" in " ".join(found.output.split())


@pytest.mark.slow
def test_a_machine_that_is_too_small_is_told_of_beforehand(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorasmith.training.memory.plan.free_memory", lambda device: 20_000_000)
    found = CliRunner().invoke(
        cli, ["train", "--data", str(data), "--plan", "--set", "train.batch=4"]
    )
    assert found.exit_code == 0, found.output
    text = " ".join(found.output.split())
    assert "20.0 MB are free" in text
    assert "train.batch = 1 (saves" in text
