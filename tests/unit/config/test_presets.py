"""Presets: read, checked, explained line by line, found by a name that is nearly right."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from lorasmith.cli.main import cli
from lorasmith.config import presets as preset_module
from lorasmith.config.load import load_settings
from lorasmith.config.presets import WIDTH, explained, preset_names, read_preset
from lorasmith.core.errors import SettingsError
from lorasmith.models.families.base import GUIDES_LENGTH
from lorasmith.training.setup.length import updates_for

# Preset: rank range, alpha range as a share of the rank, UNet's and text encoder's rate, number of
# images and least steps without regularisation: the guides' "starting settings", and their text on
# ranks ("64 can do the job" for a style, "as low as 8" for a concept).
STARTING_SETTINGS = {
    "character": ((32, 96), 1e-4, 5e-5, 100, 1000),
    "character-hard": ((32, 64), 1e-4, 4.5e-5, 30, 800),
    "style": ((64, 192), 1e-4, 4e-5, 150, 3000),
    "concept": ((8, 128), 1e-4, 4.5e-5, 100, 1000),
}


@pytest.mark.parametrize("name", STARTING_SETTINGS)
def test_starting_settings_are_those_of_the_guides(name: str) -> None:
    ranks, unet_lr, text_encoder_lr, images, steps = STARTING_SETTINGS[name]
    s = load_settings(None, preset=name)
    assert ranks[0] <= s.adapter.rank <= ranks[1]
    assert s.adapter.alpha is not None
    assert 1 <= s.adapter.alpha <= s.adapter.rank
    assert {"unet": unet_lr, "text_encoder": text_encoder_lr}.items() <= s.optimizer.lrs.items()
    rule = {"min_steps": 1, "max_steps": 10**6, **dict(GUIDES_LENGTH)}
    named = {key.removeprefix("train."): value for key, value in rule.items()}
    set_here = {key: getattr(s.train, key) for key in s.train.model_fields_set}
    rule_settings = s.train.model_copy(update={**named, **set_here})
    assert updates_for([images], 1, rule_settings)[0] >= 0.95 * steps
    if s.schedule.name == "cosine_with_restarts":
        assert s.schedule.cycles > 1, "one cycle is plain cosine"


@pytest.mark.parametrize(("name", "optimizer"), [("dadapt", "DAdaptAdam"), ("prodigy", "Prodigy")])
def test_easy_settings_are_those_of_the_guide(name: str, optimizer: str) -> None:
    s = load_settings(None, preset=name)
    args = s.optimizer.args
    assert (s.optimizer.name, s.schedule.name) == (optimizer, "constant")
    assert {"unet": 1.0, "text_encoder": 1.0}.items() <= s.optimizer.lrs.items()
    assert (args["decouple"], args["weight_decay"], args["betas"]) == (True, 0.01, (0.9, 0.99))
    assert s.adapter.rank in (32, 64)
    assert (s.loss.min_snr_gamma, s.model.max_tokens) == (5, 225)
    if optimizer == "Prodigy":
        assert args["d_coef"] == 2
        assert args["use_bias_correction"]
        assert args["safeguard_warmup"]


def test_the_mac_has_what_its_guide_sets() -> None:
    s = load_settings(None, preset="mac")
    assert (s.adapter.rank, s.adapter.alpha, s.optimizer.name) == (16, 8, "AdamW")
    assert set(s.optimizer.lrs.values()) == {2.5e-5}
    assert (s.train.batch, s.train.showings, s.train.precision) == (4, 15 * 7, "fp32")
    assert (s.schedule.name, s.augment.flip) == ("constant_with_warmup", True)


@pytest.mark.parametrize("name", preset_names())
def test_what_is_printed_is_the_preset_with_a_comment_to_each_line(name: str) -> None:
    preset = read_preset(name)
    text = explained(preset)
    assert tomllib.loads(text) == preset.values
    assert text.startswith(f"# lorasmith train --preset {name}\n")
    lines = text.splitlines()
    for before, line in itertools.pairwise(lines):
        assert len(line) <= WIDTH
        if "=" in line and not line.startswith("#"):
            assert "  # " in line or before.startswith("# "), line
    heading = " ".join(line.removeprefix("#").strip() for line in lines)
    assert preset.explains in heading


def test_a_printed_preset_is_a_settings_file(tmp_path: Path) -> None:
    for name in preset_names():
        result = CliRunner().invoke(cli, ["presets", name])
        (tmp_path / "mine.toml").write_text(result.stdout, encoding="utf-8")
        assert load_settings(tmp_path / "mine.toml") == load_settings(None, preset=name)


def test_lines_without_a_reason_get_the_setting_s_description(own: Path) -> None:
    (own / "plain.toml").write_text(
        '[preset]\ntitle = "T"\nexplains = "E"\n[adapter]\nrank = 4\n[optimizer]\n'
        'name = "Prodigy"\n[optimizer.args]\nd_coef = 2\n'
    )
    text = explained(read_preset("plain"))
    assert "rank = 4  # rank of the matrices (network dim): how much the LoRA can hold" in text
    assert re.search(r'# optimizer: one of .*\n.*\nname = "Prodigy"\n', text)
    assert "d_coef = 2  # argument of the optimizer" in text


def test_the_list_has_a_line_for_each() -> None:
    result = CliRunner().invoke(cli, ["presets"])
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[: len(preset_names())]] == preset_names()
    for line, name in zip(lines, preset_names(), strict=False):
        assert line.endswith(read_preset(name).title)
        assert len(line) <= WIDTH


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("charakter", "did you mean character?"),
        ("Style", "did you mean style?"),
        ("character_hard", "did you mean character-hard?"),
        ("sdxl", "did you mean sdxl-character or sdxl-style?"),
        ("DAdaptation", "did you mean dadapt?"),
        ("easy", "did you mean dadapt or prodigy?"),
        ("garment", "did you mean concept?"),
        ("qqq", "there are character, "),
    ],
)
def test_unknown_names_give_near_ones(asked: str, near: str) -> None:
    with pytest.raises(SettingsError) as error:
        read_preset(asked)
    assert near in str(error.value)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(preset_module, "FOLDER", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("rnak = 4", "did you mean adapter.rank?"),
        ("rank = 0", "from 1"),
        ("unet = false\ntext_encoder = false", "nothing to train"),
    ],
)
def test_a_preset_that_does_not_fit_the_settings_is_refused(
    own: Path, line: str, what: str
) -> None:
    (own / "bad.toml").write_text(f'[preset]\ntitle = "T"\nexplains = "E"\n[adapter]\n{line}\n')
    with pytest.raises(SettingsError, match="preset bad") as error:
        read_preset("bad")
    assert what in str(error.value)
