"""Ids that are ignored, kept beside the dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasmith.advice.audit.ignored import ignored_in, remember
from lorasmith.core.errors import DatasetError


def test_ids_are_kept_until_they_are_taken_out(tmp_path: Path) -> None:
    assert ignored_in([tmp_path]) == []
    assert remember([tmp_path], ["blurred", "same-file:0011"]) == ["blurred", "same-file:0011"]
    assert remember([tmp_path], ["blurred"]) == ["blurred", "same-file:0011"]
    assert remember([tmp_path], unignore=["blurred"]) == ["same-file:0011"]
    assert ignored_in([tmp_path]) == ["same-file:0011"]


def test_what_was_ignored_in_one_of_several_datasets_is_ignored_in_that_one(
    tmp_path: Path,
) -> None:
    zorp, vellu = tmp_path / "zorp", tmp_path / "vellu"
    remember([zorp], ["same-file:0011"])
    remember([vellu], ["blurred"])
    both = [zorp, vellu]
    assert ignored_in(both) == ["same-file:0011", "same-file:0011@zorp", "blurred"]
    remember(both, ["dark:0022@vellu", "text:0033", "light"])
    assert ignored_in([zorp]) == ["same-file:0011", "text:0033", "light"]
    assert ignored_in([vellu]) == ["blurred", "dark:0022", "text:0033", "light"]
    remember(both, unignore=["same-file:0011@vellu", "dark:0022@vellu"])
    assert ignored_in([zorp]) == ["same-file:0011", "text:0033", "light"]
    assert ignored_in([vellu]) == ["blurred", "text:0033", "light"]


def test_reading_writes_nothing(tmp_path: Path) -> None:
    ignored_in([tmp_path])
    remember([tmp_path])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ignored": 3}', '{"ignored": [3]}'])
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / ".lorasmith").mkdir()
    (tmp_path / ".lorasmith" / "audit.json").write_text(text)
    with pytest.raises(DatasetError, match="ignore"):
        ignored_in([tmp_path])
