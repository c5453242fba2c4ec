"""The command line that does what a form asks for, and the paths that settings name."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lorasmith.cli.main import cli
from lorasmith.config.load import load_settings
from lorasmith.config.schema import IN_GUIDES, all_settings
from lorasmith.core.events import ignore
from lorasmith.demo.character import write_training_set
from lorasmith.jobs.plan import command_line, named_paths, overrides_of
from lorasmith.jobs.training import PlanRequest


def words(values: dict[str, Any], **more: Any) -> list[str]:
    request = PlanRequest(settings=overrides_of(values), **more)
    return shlex.split(command_line(request))[2:]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"data.path": "my pictures"}, ["my pictures"]),
        ({"data.path": "p", "model.path": "a.safetensors"}, ["p", "--model", "a.safetensors"]),
        ({"save.name": "O'Hara"}, ["--name", "O'Hara"]),
        ({"data.path": "p", "model.clip_skip": 2}, ["p", "--model.clip_skip", "2"]),
        # A base model may say it, so that what is said counts though it is the default.
        ({"optimizer.lr": 1e-4}, ["--optimizer.lr", "0.0001"]),
        ({"optimizer.lr": 1e-4, "model.defaults": False}, ["--optimizer.lr", "0.0001",
                                                           "--model.defaults", "false"]),
        ({"train.seed": 0, "log.tensorboard": True}, []),
        ({"captions.separator": " ; "}, ["--captions.separator", '" ; "']),
        ({"captions.trigger": "none"}, ["--trigger", "none"]),
        ({"sample.prompts": ["a cat", "a \"dog\""]},
         ["--sample.prompts", '["a cat", "a \\"dog\\""]']),
        ({"adapter.alpha": None}, ["--adapter.alpha", "none"]),
        ({"optimizer.args": {"d_coef": 2}}, ["--optimizer.args", "{d_coef = 2}"]),
    ],
)  # fmt: skip
def test_words_of_the_command(values: dict[str, Any], expected: list[str]) -> None:
    assert words(values) == expected


def test_what_a_preset_says_is_not_said_again() -> None:
    preset = load_settings(preset="character")
    same = {"adapter.rank": preset.adapter.rank, "adapter.alpha": preset.adapter.alpha}
    assert words(same, preset="character") == ["--preset", "character"]
    other = {"adapter.rank": preset.adapter.rank + 1}
    assert words(other, preset="character")[2:] == ["--adapter.rank", f"{preset.adapter.rank + 1}"]


HARD: list[dict[str, Any]] = [
    {"save.comment": "  blanks  "},
    {"save.comment": '"quoted"'},
    {"save.comment": "$(rm -rf /) `x` 'y' \\ \n two"},
    {"captions.separator": " "},
    {"captions.trigger": "123"},
    {"sample.prompts": ["-not an option", "none"]},
    {"data.folders": [{"path": "a b", "repeats": 3}]},
]


@pytest.mark.parametrize("values", HARD, ids=str)
def test_texts_mean_what_they_are(values: dict[str, Any]) -> None:
    request = PlanRequest(settings=overrides_of({"data.path": "p", **values}))
    if "data.folders" in values:
        request = PlanRequest(settings=overrides_of(values))
    settings = request.load(ignore).settings
    for path, value in values.items():
        section, _, name = path.partition(".")
        dumped = getattr(settings, section).model_dump(mode="json", exclude_unset=True)[name]
        assert dumped == value


def test_paths_that_settings_name(tmp_path: Path) -> None:
    settings = load_settings(
        None,
        {
            "data.folders": '[{path = "/pictures/a"}, {path = "b"}]',
            "model.path": "/models/x.safetensors",
            "model.vae": "/models/vae",
            "save.output": "/out",
            "adapter.init_from": "../start.safetensors",
        },
    )
    named = {(path, str(value)) for path, value in named_paths(settings)}
    assert named == {
        ("data.folders[1].path", "/pictures/a"),
        ("data.folders[2].path", "b"),
        ("model.path", "/models/x.safetensors"),
        ("model.vae", "/models/vae"),
        ("save.output", "/out"),
        ("adapter.init_from", "../start.safetensors"),
    }
    hub = load_settings(None, {"model.path": "owner/model", "data.path": "p"})
    assert {path for path, _ in named_paths(hub)} == {"data.path", "save.output", "model.path"}
    home = load_settings(None, {"model.path": "~/x.safetensors", "data.path": "~/p"})
    assert {str(path) for _, path in named_paths(home)} == {
        str(Path("~/x.safetensors").expanduser()), str(Path("~/p").expanduser()), "runs",
    }  # fmt: skip


def test_the_plan_as_json(tmp_path: Path) -> None:
    write_training_set(tmp_path / "data", images=2, regularisation=0, repeats=1)
    arguments = ["train", str(tmp_path / "data"), "--plan", "--json", "--epochs", "2"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["epochs"] == 2
    assert CliRunner().invoke(cli, ["train", str(tmp_path), "--json"]).exit_code == 2


def test_guides_name_settings_that_there_are() -> None:
    assert set(all_settings()) > IN_GUIDES
