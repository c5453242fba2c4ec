"""Logging to Weights & Biases, through a module that stands in for its client."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from .runs import command, run_here, small_dataset


class ClientError(Exception):
    """As ``wandb.Error``, of which the errors of its client are kinds."""


class StandIn(ModuleType):
    """What of ``wandb`` is public and used: ``init``, ``Image``, and a run's methods."""

    Error = ClientError

    def __init__(self, fails: str = "") -> None:
        super().__init__("wandb")
        self.__spec__ = ModuleSpec("wandb", None)
        self.fails = fails
        self.inits: list[dict[str, Any]] = []
        self.logs: list[dict[str, Any]] = []
        self.finished = 0

    def init(self, **options: Any) -> StandIn:
        if self.fails == "init":
            raise ClientError("no API key configured")
        self.inits.append(options)
        self.id = options["id"] or "abc123"
        return self

    def Image(self, data: str, caption: str) -> tuple[str, str]:
        assert Path(data).is_file()
        return ("image", caption)

    def define_metric(self, name: str, step_metric: str) -> None:
        assert (name, step_metric) == ("*", "step")

    def log(self, values: dict[str, Any]) -> None:
        if self.fails == "log":
            raise ConnectionError
        self.logs.append(values)

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> StandIn:
    module = StandIn(getattr(request, "param", ""))
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


@pytest.mark.slow
def test_numbers_and_samples_are_sent_and_a_resumed_run_goes_on_there(
    tmp_path: Path, stand_in: StandIn
) -> None:
    data = small_dataset(tmp_path / "data", 2)
    settings = {
        "train__steps": "2",
        "log__wandb": "zorps",
        "sample__every_epochs": "1",
        "sample__steps": "1",
        "sample__size": "64",
        "sample__prompts": '["zorp", "zorp, smile"]',
    }
    run_here(command(data, tmp_path, "run", **settings))
    (init,) = stand_in.inits
    assert (init["project"], init["name"], init["id"]) == ("zorps", "run", None)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    kept = {record["step"]: record["loss"] for record in map(json.loads, lines)}
    sent = {each["step"]: each["loss/step"] for each in stand_in.logs if "loss/step" in each}
    assert sent == kept
    assert {"step": 2, "samples/2": ("image", "zorp, smile")} in stand_in.logs
    assert stand_in.finished == 1
    resume = [*command(data, tmp_path, "run")[:4], "--resume", str(tmp_path / "run")]
    run_here([*resume, "--set", "train.steps=3"])
    assert stand_in.inits[1]["id"] == "abc123"
    assert {each["step"] for each in stand_in.logs if "loss/step" in each} == {1, 2, 3}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("stand_in", ["init", "log"], indirect=True)
def test_what_goes_wrong_there_is_said_once_and_stops_nothing(
    tmp_path: Path, stand_in: StandIn
) -> None:
    data = small_dataset(tmp_path / "data", 2)
    output = run_here(command(data, tmp_path, "run", train__steps="2", log__wandb="zorps"))
    assert output.count("Weights & Biases: ") == 1
    assert ("no API key configured" if stand_in.fails == "init" else "ConnectionError") in output
    assert (tmp_path / "run" / "run.safetensors").is_file()
