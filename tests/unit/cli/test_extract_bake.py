"""``lorasmith extract`` and ``lorasmith bake`` at the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from tests.unit.lora_tools.tuned_models import base_file, random_lora, tuned

from lorasmith.cli.lora_files import _OF_SD_SCRIPTS, extract
from lorasmith.cli.main import cli


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def base() -> Path:
    return base_file("sd1")


@pytest.mark.slow
def test_extract_says_the_error_and_what_it_leaves(base: Path, tmp_path: Path) -> None:
    other, out = tuned(tmp_path / "tuned.safetensors", base), tmp_path / "lora.safetensors"
    words = ("extract", "--base", base, "--tuned", other, "--out", out)
    planned = run(*words, "--rank", 2, "--dry-run")
    assert planned.exit_code == 0, planned.output
    assert "at most" in planned.output
    assert not out.exists()
    done = run(*words, "--rank", 2)
    assert done.exit_code == 0, done.output
    assert "unet: 84 layers, rank 2" in done.output
    assert "differs too, and is not in the file: " in done.output
    assert "error over all layers, measured" in done.output
    assert len(load_file(out)) > 100
    again = run(*words, "--rank", 2)
    assert again.exit_code == 2
    assert "exists already" in again.output


def test_extract_as_json(base: Path, tmp_path: Path) -> None:
    other, out = tuned(tmp_path / "tuned.safetensors", base), tmp_path / "lora.safetensors"
    done = run(
        "extract", "--base", base, "--tuned", other, "--out", out, "--retain", 0.5,
        "--type", "locon", "--min-diff", 0, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    assert 0 < said["relative_error"] < 1
    assert {"key", "rank", "norm", "error", "excess"} <= said["modules"][0].keys()
    assert said["written"] == str(out)


@pytest.mark.slow
def test_nearness_is_not_claimed_where_rounding_hides_it(base: Path, tmp_path: Path) -> None:
    lora, other = random_lora(tmp_path / "a.safetensors", base), tmp_path / "other.safetensors"
    words = ("--lora", lora, "--out", other, "--precision", "fp32")
    assert run("bake", "--model", base, *words).exit_code == 0
    out = tmp_path / "lora.safetensors"
    done = run("extract", "--base", base, "--tuned", other, "--out", out, "--rank", 8)
    assert "above the least possible" not in done.output
    assert "it is within single precision's rounding (0.03%)" in " ".join(done.output.split())


def test_a_model_has_a_name(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    lora = random_lora(tmp_path / "a.safetensors", base)
    for words in (
        ("bake", "--model", "", "--lora", lora),
        ("extract", "--base", "", "--tuned", base, "--rank", 2),
    ):
        done = run(*words, "--out", out)
        assert (done.exit_code, "no model is named" in done.output) == (2, True)


def test_extract_says_what_options_of_sd_scripts_are_called_here() -> None:
    result = run("extract", "--model_org", "demo", "--model_tuned", "x.safetensors")
    assert result.exit_code == 2
    assert "it is called --base here" in result.output
    options = {one for parameter in extract.params for one in parameter.opts}
    assert options.issuperset(f"--{here}" for here in _OF_SD_SCRIPTS.values())
    assert "No such option '--nonsense'" in run("extract", "--nonsense").output


def test_extract_needs_a_rank(base: Path, tmp_path: Path) -> None:
    done = run("extract", "--base", base, "--tuned", base, "--out", tmp_path / "a.safetensors")
    assert done.exit_code == 2
    assert "give --rank or --retain" in done.output


def test_bake_says_what_it_changed(base: Path, tmp_path: Path) -> None:
    lora = random_lora(tmp_path / "style.safetensors", base)
    out = tmp_path / "baked.safetensors"
    words = ("bake", "--model", base, "--lora", f"{lora}:0.8:0.5", "--out", out)
    planned = run(*words, "--dry-run")
    assert planned.exit_code == 0, planned.output
    assert "would be" in planned.output
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert "style (unet 0.8, te 0.5): layers: " in done.output
    assert "tensors changed" in done.output
    assert out.exists()
    again = run(*words)
    assert again.exit_code == 2
    assert "exists already" in again.output


def test_bake_names_every_file_that_is_wrong(base: Path, tmp_path: Path) -> None:
    done = run(
        "bake", "--model", base, "--lora", tmp_path / "no.safetensors",
        "--lora", tmp_path / "neither.safetensors", "--out", tmp_path / "out.safetensors",
    )  # fmt: skip
    assert done.exit_code == 2
    assert "2 errors" in done.output
