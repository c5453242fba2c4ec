"""Whole runs of textual inversion, alone and beside a LoRA: gone on with, and what lies there."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file
from tests.recipes.runs import command, dark_and_bright, run_here

from lorasmith.core.files import read_safetensors_header
from lorasmith.demo.character import write_training_set
from lorasmith.formats.embedding_keys import WORD
from lorasmith.sampling.embeddings import EmbeddingLibrary

SETTINGS = {
    "train__kind": "embedding",
    "adapter__rank": "16",
    "train__steps": "4",
    "embedding__vectors": "2",
    "embedding__init": "creature",
    "sample__steps": "2",
    "save__every_steps": "2",
    "save__every_epochs": "0",
}


def test_a_run_that_is_gone_on_with_ends_in_the_same_file(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_training_set(data, images=4, regularisation=0)
    run_here(command(data, tmp_path / "whole", "zorp", **SETTINGS))
    whole = tmp_path / "whole" / "zorp"
    shorter = {**SETTINGS, "train__steps": "2", "schedule__name": "constant"}
    run_here(command(data, tmp_path / "parts", "zorp", **shorter))
    parts = tmp_path / "parts" / "zorp"
    arguments = [sys.executable, "-m", "lorasmith", "train", "--resume", str(parts)]
    run_here([*arguments, "--train.steps", "4"])
    same = {**SETTINGS, "schedule__name": "constant"}
    run_here(command(data, tmp_path / "again", "zorp", **same))
    again = tmp_path / "again" / "zorp"
    result = "zorp.safetensors"
    assert (parts / result).read_bytes() == (again / result).read_bytes()
    assert (parts / result).read_bytes() != (whole / result).read_bytes(), "another schedule"

    assert {"zorp.safetensors", "zorp-step00000002.safetensors"} <= {
        path.name for path in whole.glob("*.safetensors")
    }
    assert set(load_file(whole / result)) == {"emb_params"}
    metadata = read_safetensors_header(whole / result).metadata
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/textual-inversion"
    assert metadata["modelspec.trigger_phrase"] == "zorp"
    assert metadata["ss_steps"] == "4"
    assert "ss_network_module" not in metadata
    assert "textual inversion, 1 embedding of 2 vectors (zorp)" in (whole / "zorp.md").read_text()
    assert json.loads((whole / "run.json").read_text())["status"] == "done"
    assert metadata[WORD] == "zorp"
    assert "trained as" not in (whole / "zorp.md").read_text()

    # A second run of the name: web UIs go by its file's.
    output = " ".join(run_here(command(data, tmp_path / "whole", "zorp", **same)).split())
    assert "which go by that, its word is zorp-2" in output
    assert "its word is zorp-2 wherever files' names are words" in output
    second = tmp_path / "whole" / "zorp-2"
    assert json.loads((second / "zorp-2.json").read_text())["activation text"] == "zorp-2"
    page = (second / "zorp-2.md").read_text()
    assert "| trigger | `zorp-2` |" in page
    assert "| trained as | `zorp`, which" in page
    assert {"zorp", "zorp-2"} <= set(EmbeddingLibrary(second).names)


@pytest.mark.slow
def test_a_negative_word_is_learned_from_pairs_and_gone_on_with(tmp_path: Path) -> None:
    pairs = dark_and_bright(tmp_path / "pairs")
    for old, new in (("low", "bad"), ("high", "good")):
        (pairs / old).rename(pairs / new)
    settings = {**SETTINGS, "embedding__negative": "true", "captions__trigger": "awful"}
    settings |= {"save__state_every_steps": "2", "sample__every_steps": "4", "sample__size": "64"}
    arguments = command(pairs, tmp_path / "out", "", **settings)
    del arguments[arguments.index("--name") : arguments.index("--name") + 2]
    output = " ".join(run_here(arguments).split())
    whole = tmp_path / "out" / "awful"
    assert "--negative awful --embedding-dir" in output
    assert set(load_file(whole / "awful.safetensors")) == {"emb_params"}
    for sample in (whole / "samples").glob("*.png"):  # The word is not drawn, but avoided.
        with Image.open(sample) as image:
            assert image.text["parameters"].startswith("\nNegative prompt: awful")  # type: ignore[attr-defined]
    assert list((whole / "samples").glob("*.png"))
    card = json.loads((whole / "awful.json").read_text())
    assert (card["activation text"], card["negative text"]) == ("", "awful")
    assert "| trigger | `awful`, for negative prompts |" in (whole / "awful.md").read_text()
    broken = tmp_path / "broken" / "awful"
    shutil.copytree(whole, broken)
    (broken / "state" / "step-00000004.state").unlink()
    (broken / "awful.safetensors").unlink()
    run_here([sys.executable, "-m", "lorasmith", "train", "--resume", str(broken)])
    result = (broken / "awful.safetensors").read_bytes()
    assert result == (whole / "awful.safetensors").read_bytes()


def test_a_lora_with_a_word_is_gone_on_with_and_planned(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_training_set(data, images=4, regularisation=0)
    settings = {
        **SETTINGS,
        "train__kind": "lora+embedding",
        "adapter__rank": "2",
        "schedule__name": "constant",
        "preservation__enabled": "true",
        "preservation__share": "1",
        "embedding__separate": "true",
        "sample__steps": "1",
    }
    arguments = command(data, tmp_path / "parts", "pair", **settings)
    plan = run_here([*arguments, "--plan"])
    assert "2 vectors" in plan
    assert "0.0005" in plan, "the vectors' rate beside a LoRA"
    run_here(command(data, tmp_path / "whole", "pair", **settings))
    run_here(command(data, tmp_path / "parts", "pair", **{**settings, "train__steps": "2"}))
    parts, whole = tmp_path / "parts" / "pair", tmp_path / "whole" / "pair"
    run_here([*arguments[:3], "train", "--resume", str(parts), "--train.steps", "4"])
    result = "pair.safetensors"
    assert (parts / result).read_bytes() == (whole / result).read_bytes()
    assert "bundle_emb.zorp.string_to_param.*" in load_file(whole / result)
    assert set(load_file(whole / "embeddings" / "zorp.safetensors")) == {"emb_params"}
    assert "with 1 embedding of 2 vectors (zorp)" in (whole / "pair.md").read_text()
