"""Files of sample prompts."""

# ruff: noqa: E501 - the files are as they are

from __future__ import annotations

from pathlib import Path

import pytest

from lorasmith.config.foreign.argv import read_argv
from lorasmith.config.foreign.engine import convert_source
from lorasmith.config.foreign.gui_json import read_gui_json
from lorasmith.config.foreign.result import Conversion

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
        "sample.prompts": ["zorp, forest", "zorp"], "sample.negative": "blurry",
        "sample.every_epochs": None, "sample.every_steps": 50, "sample.at_start": False,
        "sample.steps": 28, "sample.cfg": 6.5, "sample.sampler": "euler_a", "sample.seed": 5,
        "sample.size": [640, 520],
    }  # fmt: skip


def test_the_window_holds_the_prompts_themselves() -> None:
    table = {"LoRA_type": "Standard", "sample_every_n_steps": 50, "sample_prompts": FILES["p.txt"]}
    result = convert_source(read_gui_json(table, "x.json"), complete=False)
    assert result.problems == []
    assert result.values["sample.prompts"] == ["zorp, forest", "zorp"]
    assert result.values["sample.steps"] == 28
    table["sample_prompts"] = "zorp --w wide"
    (problem,) = convert_source(read_gui_json(table, "x.json"), complete=False).problems
    assert (problem.where, problem.what) == (
        "x.json: sample_prompts", "the text: a prompt's width is not a number",
    )  # fmt: skip


def test_plain_prompts_have_sd_scripts_defaults(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a cat\na dog --s 10\n", encoding="utf-8")
    result = converted(tmp_path / "p.txt", "--sample_every_n_epochs=2", "--sample_at_first")
    assert result.values["sample.steps"] == 30
    assert result.values["sample.size"] == 512
    assert result.values["sample.at_start"] is True
    assert any("differ in sample_steps" in remark.why for remark in result.remarks)


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
