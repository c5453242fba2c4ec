"""Files of sample prompts."""

# ruff: noqa: E501 - the files are as they are

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from lorasmith.config.load import load_settings
from lorasmith.importers.conversion import Conversion
from lorasmith.importers.convert import convert_source
from lorasmith.importers.kohya_gui import read_gui_json
from lorasmith.importers.sd_scripts.argv import read_argv
from lorasmith.importers.sd_scripts.sample_prompts import prompt_line
from lorasmith.training.samples import sample_request

FILES = {
    "p.txt": "# a comment\nzorp, forest --n blurry --w 640 --h 520 --d 5 --s 28 --l 6.5\nzorp --n blurry --w 640 --h 520 --d 5 --s 28 --l 6.5\n",
    "p.json": '[{"prompt": "zorp, forest", "negative_prompt": "blurry", "width": 640, "height": 520, "seed": 5, "sample_steps": 28, "scale": 6.5}, {"prompt": "zorp", "negative_prompt": "blurry", "width": 640, "height": 520, "seed": 5, "sample_steps": 28, "scale": 6.5}]',
    "p.toml": '[prompt]\nnegative_prompt = "blurry"\nwidth = 640\nheight = 520\nseed = 5\nsample_steps = 28\nscale = 6.5\n[[prompt.subset]]\nprompt = "zorp, forest"\n[[prompt.subset]]\nprompt = "zorp"\n',
}  # fmt: skip


def converted(path: Path, *argv: str) -> Conversion:
    base = ["--pretrained_model_name_or_path=demo", "--train_data_dir=d"]
    network = "--network_module=networks.lora"
    return convert_source(read_argv([*base, network, f"--sample_prompts={path}", *argv]))


@pytest.mark.parametrize("name", FILES)
def test_prompts(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    result = converted(tmp_path / name, "--sample_every_n_steps=50", "--sample_sampler=k_euler_a")
    assert result.problems == []
    values = {k: v for k, v in result.values.items() if k.startswith("sample.")}
    assert values == {
        "sample.prompts": [{"prompt": "zorp, forest", "seed": 5}, {"prompt": "zorp", "seed": 5}],
        "sample.negative": "blurry",
        "sample.every_epochs": None, "sample.every_steps": 50, "sample.at_start": False,
        "sample.steps": 28, "sample.cfg": 6.5, "sample.sampler": "euler_a",
        "sample.size": [640, 520],
    }  # fmt: skip


def test_the_window_holds_the_prompts_themselves() -> None:
    table = {"LoRA_type": "Standard", "sample_every_n_steps": 50, "sample_prompts": FILES["p.txt"]}
    result = convert_source(read_gui_json(table, "x.json"), complete=False)
    assert result.problems == []
    prompts = result.values["sample.prompts"]
    assert [each["prompt"] for each in prompts] == ["zorp, forest", "zorp"]
    assert result.values["sample.steps"] == 28
    table["sample_prompts"] = "zorp --w wide"
    result = convert_source(read_gui_json(table, "x.json"), complete=False)
    assert result.problems == []
    assert "--w wide" in [remark.what for remark in result.remarks]


def test_plain_prompts_have_sd_scripts_defaults(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a cat\na dog --s 10\n", encoding="utf-8")
    result = converted(tmp_path / "p.txt", "--sample_every_n_epochs=2", "--sample_at_first")
    assert result.values["sample.steps"] == 30
    assert result.values["sample.size"] == 512
    assert result.values["sample.at_start"] is True
    assert result.values["sample.prompts"] == ["a cat", {"prompt": "a dog", "steps": 10}]


LINES = [
    "zorp --w 64 --h 72 --d 1 --s 3",
    "zorp --n dog, cat --W 128 --h 64 --d 2 --s 5 --l 3.5 --ss euler_a",
    "a, b --w 100px --d -1 --cn c.png --g 3",
    "zorp --l .5 --h 1000000",
    "  # not a comment, as in sd-scripts, where it is stripped later",
]


@pytest.mark.skipif("LORASMITH_PEERS" not in os.environ, reason="no checkout of sd-scripts")
@pytest.mark.parametrize("line", LINES)
def test_lines_are_taken_apart_as_sd_scripts_does(line: str) -> None:
    """Its function is run out of its source, since the module imports half the world."""
    source = Path(os.environ["LORASMITH_PEERS"], "sd-scripts", "library", "train_util.py")
    text = source.read_text(encoding="utf-8")
    start = text.index("def line_to_prompt_dict")
    space: dict[str, Any] = {"re": re, "logger": None}
    exec(text[start : text.index("\ndef ", start)], space)
    theirs = space["line_to_prompt_dict"](line.strip())
    ours = prompt_line(line.strip())
    numbers = {"width": int, "height": int, "seed": int, "sample_steps": int, "scale": float}
    for name in ("prompt", "negative_prompt", "sample_sampler", *numbers):
        value = ours.get(name)
        if name == "seed" and value == "-1":  # What they take for no seed, so random too.
            value = None
        assert (numbers.get(name, str)(value) if value is not None else None) == theirs.get(name)


def test_each_prompt_keeps_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(
        "zorp --w 64 --h 64 --d 1 --s 3\nzorp --n dog --w 128 --h 64 --d 2 --s 5\n"
        "zorp --w 64 --h 64 --ss k_euler --d -1\n",
        encoding="utf-8",
    )
    result = converted(tmp_path / "p.txt", "--sample_every_n_epochs=2")
    sample = load_settings(None, result.overrides()).sample
    requests = [sample_request(sample, each, number) for number, each in enumerate(sample.prompts)]
    told = [(r.width, r.height, r.seed, r.steps, r.negative, r.cfg, r.sampler) for r in requests]
    assert told == [
        (64, 64, 1, 3, "", 7.5, "ddim"),
        (128, 64, 2, 5, "dog", 7.5, "ddim"),
        (64, 64, -1, 30, "", 7.5, "euler"),
    ]


def test_what_looks_like_options_is_said(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(
        "zorp -w 640\n--w 640\nzorp —s 20 --ar 16:9\nzorp --h 96x64\n", encoding="utf-8"
    )
    result = converted(tmp_path / "p.txt", "--sample_every_n_epochs=2")
    said = " ".join(f"{remark.what}: {remark.why}" for remark in result.remarks)
    for part in (
        "-w 640: is drawn as words",
        "no prompt",
        "--ar 16:9",
        "—s 20: is drawn",
        "96 is read",
    ):
        assert part in said, part


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", "{"),
        ("p.json", '[{"width": "x"}]'),
        ("p.toml", "="),
        ("p.txt", ""),
        ("p.json", "3"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    problems = converted(tmp_path / name, "--sample_every_n_epochs=2").problems
    assert [problem.where for problem in problems] == ["--sample_prompts"]


@pytest.mark.parametrize(
    ("text", "seed"),
    [
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", 0),
        ("18446744073709551615", 2**63 - 1),
    ],
)
def test_seeds_beyond_ours_are_said(tmp_path: Path, text: str, seed: int) -> None:
    (tmp_path / "p.txt").write_text(f"zorp --d {text}\nother --d 5", encoding="utf-8")
    result = converted(tmp_path / "p.txt", "--sample_every_n_epochs=2")
    assert result.values["sample.prompts"][0]["seed"] == seed
    said = any(remark.what == f"a prompt's seed {text}" for remark in result.remarks)
    assert said is (int(text) > 2**63 - 1)
