"""Data-set files of sd-scripts: what changes nothing, what stands in the wrong place."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasmith.config.load import load_settings
from lorasmith.importers.conversion import Conversion
from lorasmith.importers.convert import convert_source
from lorasmith.importers.sd_scripts.argv import read_argv


def converted(folder: Path, text: str, *argv: str) -> Conversion:
    (folder / "data.toml").write_text(text, encoding="utf-8")
    base = ["--pretrained_model_name_or_path=demo", "--network_module=networks.lora"]
    source = read_argv([*base, f"--dataset_config={folder / 'data.toml'}", *argv])
    return convert_source(source)


TWO = """
[general]
{general}
[[datasets]]
resolution = 64
{first_set}
  [[datasets.subsets]]
  image_dir = "a"
  {first}
[[datasets]]
resolution = 64
{second_set}
  [[datasets.subsets]]
  image_dir = "b"
  {second}
"""


def two(folder: Path, *argv: str, **places: str) -> Conversion:
    empty = dict.fromkeys(("general", "first_set", "second_set", "first", "second"), "")
    return converted(folder, TWO.format(**{**empty, **places}), *argv)


@pytest.mark.parametrize(
    "places",
    [
        {"general": "network_multiplier = 1.0"},
        {"second_set": "network_multiplier = 1"},
        {"first": "cache_info = true"},
        {"first": "cache_info = true", "second": "cache_info = false"},
        {"first": "custom_attributes = {}"},
        {"first_set": "validation_seed = 3"},
        {"first_set": "validation_seed = 3", "second_set": "validation_seed = 4"},
    ],
)
def test_what_changes_nothing_is_not_refused(tmp_path: Path, places: dict[str, str]) -> None:
    result, plain = two(tmp_path, **places), two(tmp_path)
    assert result.problems == []
    assert result.values == plain.values


@pytest.mark.parametrize(
    ("places", "name"),
    [
        ({"general": "network_multiplier = 0.5"}, "network_multiplier"),
        ({"first": "alpha_mask = true"}, "alpha_mask"),
        ({"first_set": "validation_split = 0.1"}, "validation_split"),
        (
            {
                "general": "validation_split = 0.1",
                "first_set": "validation_seed = 3",
                "second_set": "validation_seed = 4",
            },
            "validation_seed",
        ),
    ],
)
def test_what_differs_and_cannot_here_is_refused(
    tmp_path: Path, places: dict[str, str], name: str
) -> None:
    (problem,) = two(tmp_path, **places).problems
    assert problem.where == f"data.toml: {name}"


def test_metadata_files_of_fine_tuning_say_where_captions_go(tmp_path: Path) -> None:
    (problem,) = two(tmp_path, first='metadata_file = "meta.json"').problems
    assert problem.where == "data.toml: metadata_file"
    assert ".txt" in problem.hint


@pytest.mark.parametrize(
    ("places", "name", "place"),
    [
        ({"first": "validation_split = 1.0"}, "validation_split", "[[datasets]]"),
        ({"first": "enable_bucket = true"}, "enable_bucket", "[[datasets]]"),
        ({"general": "is_reg = true"}, "is_reg", "[[datasets.subsets]]"),
        ({"first_set": "image_dir = 'a'"}, "image_dir", "[[datasets.subsets]]"),
    ],
)
def test_what_stands_in_the_wrong_place_is_sent_to_the_right_one(
    tmp_path: Path, places: dict[str, str], name: str, place: str
) -> None:
    (problem,) = two(tmp_path, **places).problems
    assert problem.where == f"data.toml: {name}"
    assert place in problem.hint


def test_separators_keep_their_blanks(tmp_path: Path) -> None:
    result = two(tmp_path, first="caption_separator = ' '", second="caption_separator = ';'")
    assert result.problems == []
    settings = load_settings(None, result.overrides(), for_training=True)
    assert settings.captions.separator == " "
    assert result.values["data.folders"][1]["captions"] == {"separator": ";"}
