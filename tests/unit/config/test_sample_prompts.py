"""Prompts with settings of their own, in all the ways in which they can be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasmith.config.checks import table as checks
from lorasmith.config.dump import dump_toml
from lorasmith.config.load import load_settings
from lorasmith.config.sample_prompts import SamplePrompt
from lorasmith.core.errors import SettingsError

FULL = SamplePrompt(
    prompt="zorp", negative="dog", width=640, height=512, seed=3, steps=20, cfg=6.5, sampler="euler"
)
LINE = "zorp --n dog --w 640 --h 512 --d 3 --s 20 --l 6.5 --ss euler"


def test_a_text_with_options_and_a_table_are_the_same(tmp_path: Path) -> None:
    table = """[[sample.prompts]]
prompt = "zorp"
negative = "dog"
size = [640, 512]
seed = 3
steps = 20
cfg = 6.5
sampler = "euler"
"""
    (tmp_path / "a.toml").write_text(table)
    for settings in (
        load_settings(tmp_path / "a.toml"),
        load_settings(None, [f"sample.prompts={LINE}"]),
        load_settings(None, [f'sample.prompts=["{LINE}"]']),
    ):
        (prompt,) = settings.sample.prompts
        assert isinstance(prompt, SamplePrompt)
        assert prompt.model_dump() == FULL.model_dump()


def test_settings_are_written_and_read_again(tmp_path: Path) -> None:
    settings = load_settings(None, [f'sample.prompts=["plain -- words", "{LINE}", "b --d -1"]'])
    (tmp_path / "settings.toml").write_text(dump_toml(settings))
    assert load_settings(tmp_path / "settings.toml").sample.prompts == settings.sample.prompts
    assert settings.sample.prompts[0] == "plain -- words"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zorp --ar 3", "prompt 1: --ar 3 is not an option; there are --n, --w"),
        ("zorp --w wide", "--w wide has no value that can be read"),
        ("zorp --w 64x64", "prompt 1: --w 64x64 is more than the number 64"),
        ("zorp --s 3,5", "prompt 1: --s 3,5 is more than the number 3"),
        ("zorp --l 7,5", "prompt 1: --l 7,5 is more than the number 7"),
        ("zorp --d 5.5 smile", "prompt 1: --d 5.5 smile is more than the number 5"),
        ('["zorp --ar 3 --no 1", "b --s 3,5"]', "--no 1 is not an option"),
        ('["zorp --ar 3", "b --s 3,5"]', "prompt 2: --s 3,5 is more"),
        ("zorp --s 100000", "prompt 1: steps: '100000'"),
        ('[{prompt = "a", sead = 3}]', "prompt 1: sead is not known; a prompt has size, prompt"),
        ("[{seed = 3}]", "prompt 1: prompt is missing"),
        ('["a", {prompt = "b", seed = -2}]', "prompt 2: seed: -2"),
        ('[{prompt = "b", sampler = "x"}]', "prompt 1: sampler: 'x'"),
        ("[3]", "is not a list of texts or tables"),
    ],
)
def test_what_is_wrong_is_said_with_its_prompt(text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, [f"sample.prompts={text}"])
    assert message in str(caught.value)


def test_words_that_were_meant_as_options_are_said() -> None:
    for text in ("zorp -w 640", "zorp \u2014w 640", "zorp -d 3 --s 20"):
        settings = load_settings(None, [f"sample.prompts={text}"])
        (oddity,) = [o for o in checks.warnings(settings) if o.where == "sample.prompts"]
        assert "drawn as words" in oddity.what
    settings = load_settings(None, ["sample.prompts=--w 640"])
    assert any("no prompt" in oddity.what for oddity in checks.warnings(settings))
