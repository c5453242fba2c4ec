"""``lorasmith train``: what reaches the training, and how Ctrl-C reaches it."""

from __future__ import annotations

import os
import signal
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lorasmith.cli.main import cli
from lorasmith.cli.signals import stop_on_interrupt
from lorasmith.config.load import Override
from lorasmith.config.schema import SHORT_OPTIONS, all_settings
from lorasmith.core.events import Controls


class FakeTraining(types.ModuleType):
    """Stands in for what trains, plans and shows plans, and keeps what it was called with."""

    def __init__(self) -> None:
        super().__init__("lorasmith.training.run")
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def _called(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.calls.append((name, args, kwargs))

    def train(self, *args: Any, **kwargs: Any) -> Path:
        self._called("train", *args, **kwargs)
        return Path("runs/x")

    def resume(self, *args: Any, **kwargs: Any) -> Path:
        self._called("resume", *args, **kwargs)
        return Path("runs/x")

    def make_plan(self, *args: Any, **kwargs: Any) -> None:
        self._called("plan", *args, **kwargs)

    def show_plan(self, *args: Any) -> None:
        pass


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> FakeTraining:
    fake = FakeTraining()
    for name in ("run", "plan"):
        monkeypatch.setitem(sys.modules, f"lorasmith.training.{name}", fake)
    return fake


def train(*args: str) -> Result:
    return CliRunner().invoke(cli, ["train", *args])


def test_the_options_of_the_contract(training: FakeTraining) -> None:
    result = train(
        *("--model", "a.safetensors", "--data", "pictures", "--reg", "reg", "--output", "out"),
        *("--name", "zorp", "--preset", "character", "--set", "train.epochs=3"),
        *("--set", "adapter.rank=8", "--optimizer.lr", "3e-4"),
    )
    assert result.exit_code == 0, result.output
    ((name, (settings,), keywords),) = training.calls
    assert name == "train"
    assert set(keywords) == {"origins", "observer", "controls"}
    assert settings.model.path == "a.safetensors"
    assert (settings.data.path, settings.data.reg) == (Path("pictures"), Path("reg"))
    assert (settings.save.output, settings.save.name) == (Path("out"), "zorp")
    assert (settings.train.epochs, settings.adapter.rank) == (3, 8)
    assert (settings.adapter.alpha, settings.optimizer.lr) == (16, 3e-4)


def test_where_settings_come_from_is_handed_on(training: FakeTraining) -> None:
    train("--data", "x", "--set", "adapter.alpha=64", "--preset", "character")
    origins = training.calls[0][2]["origins"]
    assert (origins["adapter.alpha"], origins["data.path"]) == ("--set", "--data")
    assert origins["adapter.rank"] == "preset character"


def test_a_folder_is_that_of_the_pictures(training: FakeTraining, tmp_path: Path) -> None:
    assert train(str(tmp_path), "--model", "demo").exit_code == 0
    assert training.calls[0][1][0].data.path == tmp_path
    result = train(str(tmp_path), "--data", "other")
    assert result.exit_code == 2
    assert "given differently" in result.stderr


def test_plan(training: FakeTraining) -> None:
    assert train("--data", "x", "--plan").exit_code == 0
    assert [name for name, _, _ in training.calls] == ["plan"]


def test_resume_takes_changes_but_no_new_settings_file(training: FakeTraining) -> None:
    assert train("--resume", "runs/x", "--set", "train.epochs=20").exit_code == 0
    name, (run, overrides), _ = training.calls[0]
    assert (name, run) == ("resume", Path("runs/x"))
    assert overrides == [Override("train.epochs", "20")]
    assert train("--resume", "runs/x", "--preset", "style").exit_code == 2
    assert train("--resume", "runs/x", "--set", "train.epochs").exit_code == 2
    assert len(training.calls) == 1


def test_every_setting_is_an_option(training: FakeTraining) -> None:
    shown = train("--help-all").stdout
    short = train("--help").stdout
    for path in all_settings():
        if path != "data.folders":
            assert f"--{path}" in shown, path
            assert f"--{path}" not in short, path
    for name in (*SHORT_OPTIONS, "preset", "set", "resume", "plan", "help-all"):
        assert f"--{name}" in short
    assert training.calls == []


def test_first_ctrl_c_asks_and_second_interrupts() -> None:
    controls = Controls()
    before = signal.getsignal(signal.SIGINT)
    with stop_on_interrupt(controls):
        os.kill(os.getpid(), signal.SIGINT)
        assert controls.stopping, "the first one only asks"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_system_that_shuts_down_asks_for_a_clean_stop_too() -> None:
    controls = Controls()
    with stop_on_interrupt(controls):
        os.kill(os.getpid(), signal.SIGTERM)
    assert controls.stopping


def test_presets_are_listed_and_shown() -> None:
    listed = CliRunner().invoke(cli, ["presets"])
    assert listed.exit_code == 0
    assert "character" in listed.stdout
    shown = CliRunner().invoke(cli, ["presets", "character"])
    assert "rank = 32" in shown.stdout
    assert CliRunner().invoke(cli, ["presets", "nope"]).exit_code == 2
