"""Functions for programs: what they make of their arguments."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import lorasmith as ls
from lorasmith.api import _request
from lorasmith.config.load import load_settings
from lorasmith.core.errors import SettingsError
from lorasmith.jobs.training import TrainRequest

ROOT = Path(__file__).parents[2]


def settings_of(settings: object = None, **more: object) -> ls.TrainSettings:
    request = _request(TrainRequest, None, settings, more, data="images")  # type: ignore[arg-type]
    return load_settings(request.config, request.settings, request.preset)


def test_settings_are_keywords_tables_and_paths() -> None:
    table = {"optimizer": {"lr": 5e-5}, "adapter.rank": 8}
    settings = settings_of(table, train__seed=3, adapter__rank=16, save__name=None)
    assert settings.optimizer.lr == 5e-5
    assert settings.adapter.rank == 16, "keywords win"
    assert settings.train.seed == 3
    assert settings.data.path == Path("images")


def test_settings_that_were_loaded_are_used(tmp_path: Path) -> None:
    loaded = load_settings(None, {"optimizer.lr": "5e-5", "data.path": "other"})
    settings = settings_of(loaded)
    assert settings.optimizer.lr == 5e-5
    assert settings.data.path == Path("images")


def test_unknown_keywords_are_told_with_what_was_meant() -> None:
    with pytest.raises(SettingsError, match=r"lr: .*section__key; lr belongs to .optimizer"):
        ls.train("images", lr=1e-4)
    with pytest.raises(SettingsError, match=r"optimizer__lrr.*did you mean optimizer\.lr"):
        ls.train("images", optimizer__lrr=1e-4)


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(ls.UserError):
        ls.Run(tmp_path)


@pytest.mark.slow
def test_a_users_type_checker_sees_real_types(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            from pathlib import Path
            from typing import Any, assert_type
            import lorasmith as ls
            run = ls.train("images", model="demo", epochs=4, optimizer__lr=1e-4)
            assert_type(run.result, Path)
            assert_type(run.metrics, list[dict[str, Any]])
            assert_type(ls.load_model("demo").generate("zorp", seeds=range(4))[0].seed, int)
            assert_type(ls.resize("a", "b", rank=16).error, float)
            ls.resize("a", "b", rank="16")
            ls.merge({"a": 0.8}, "ab", methode="svd")
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(program)],
        cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    for text in (
        'Argument "rank" to "resize" has incompatible type "str"',
        'Unexpected keyword argument "methode" for "merge"',
    ):
        assert text in done.stdout
    assert "Found 2 errors" in done.stdout
