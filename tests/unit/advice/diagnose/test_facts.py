"""What is known of a run, from its pictures and from its file."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tests.unit.advice.diagnose.made import facts

from lorasmith.advice.diagnose.facts import (
    _joined,
    _of_metadata,
    _of_settings,
    dataset_facts,
    file_parts,
    tells_tags,
)
from lorasmith.advice.diagnose.subject import Subject, named_triggers
from lorasmith.config.load import load_settings
from lorasmith.core.events import Controls, ignore
from lorasmith.demo.character import write_training_set
from lorasmith.lora_tools.inspect.report import TriggerWords

SHARED = {"usual_lr": {"unet": 1e-4, "text_encoder": 5e-5}, "uses": 200.0, "usual_uses": 100.0}


def test_rates_and_length_are_told_by_what_is_usual() -> None:
    one = facts(lr={"unet": 4e-4, "text_encoder": 5e-5}, uses=50.0)
    assert one.rate("unet") == pytest.approx(4)
    assert one.rate("text_encoder") == pytest.approx(1)
    assert one.length == pytest.approx(0.5)
    assert facts(sets_lr=True).rate("unet") is None
    assert facts(uses=None).length is None


def test_a_file_says_how_it_was_trained() -> None:
    metadata = {
        "ss_learning_rate": "0.0008",
        "ss_text_encoder_lr": "5e-05",
        "ss_network_dim": "16",
        "ss_network_alpha": "32.0",
        "ss_clip_skip": "2",
        "ss_optimizer": "torch.optim.adamw.AdamW(weight_decay=0.01)",
    }
    one = _of_metadata(metadata, dict(SHARED))
    assert one.source == "metadata"
    assert one.rate("unet") == pytest.approx(8)
    assert one.rate("text_encoder") == pytest.approx(1)
    assert (one.rank, one.scale, one.clip_skip) == (16, 2.0, 2)
    odd = _of_metadata({"ss_network_dim": "None", "ss_learning_rate": "nan"}, dict(SHARED))
    assert (odd.rank, dict(odd.lr)) == (None, {})
    silent = _of_metadata({}, dict(SHARED))
    assert (silent.source, silent.clip_skip) == ("nothing", None)
    assert _of_metadata({"ss_clip_skip": "None"}, dict(SHARED)).clip_skip == 1


def test_parts_that_were_not_trained_have_no_rate(tmp_path: Path) -> None:
    file = tmp_path / "unet.safetensors"
    name = "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"
    save_file({name: torch.zeros(1, 1)}, file)
    assert file_parts(file) == {"unet"}
    (tmp_path / "old.pt").write_bytes(b"pickle")
    assert file_parts(tmp_path / "old.pt") is None
    said = {"ss_learning_rate": "1e-4", "ss_text_encoder_lr": "None"}
    assert dict(_of_metadata(said, dict(SHARED), {"unet"}).lr) == {"unet": 1e-4}
    assert set(_of_metadata(said, dict(SHARED)).lr) == {"unet", "text_encoder"}
    assert dict(_of_metadata({**said, "ss_text_encoder_lr": "0"}, dict(SHARED)).lr) == {
        "unet": 1e-4
    }
    run = SimpleNamespace(settings="run/settings.toml")
    subject = cast(Subject, SimpleNamespace(eval_set=None, triggers=(), run=run))
    trained = load_settings(None, {"adapter.text_encoder": "false"})
    assert set(_of_settings(subject, trained, dict(SHARED)).lr) == {"unet"}


def test_what_is_usual_is_so_for_the_optimizer_of_the_file() -> None:
    said = {"ss_unet_lr": "2e-5", "ss_text_encoder_lr": "[5e-05, 5e-05]"}
    lion = _of_metadata({**said, "ss_optimizer": "lion_pytorch.Lion()"}, dict(SHARED))
    assert lion.rate("unet") == pytest.approx(1)
    paged = "bitsandbytes.optim.adamw.PagedAdamW8bit(weight_decay=0.1)"
    adam = _of_metadata({**said, "ss_optimizer": paged}, dict(SHARED))
    assert adam.rate("unet") == pytest.approx(0.2)
    assert adam.rate("text_encoder") == pytest.approx(1)
    unknown = _of_metadata({**said, "ss_optimizer": "came.CAME()"}, dict(SHARED))
    assert unknown.rate("unet") is None


def test_a_file_tells_tags_where_it_has_some() -> None:
    frequency = '{"10_zorp": {"zorp": 3, "smile": 2}}'
    assert tells_tags({"ss_tag_frequency": frequency})
    prose = '{"10_zorp": {"a small creature is standing on the wide green field": 1}}'
    assert not tells_tags({"ss_tag_frequency": prose})
    assert not tells_tags({"ss_learning_rate": "1e-4"})


def test_what_all_captions_of_all_kinds_have_calls_nothing() -> None:
    assert named_triggers(TriggerWords(("1girl", "solo", "zorp"))) == ("zorp",)
    assert named_triggers(TriggerWords(("solo",), said=True)) == ("solo",)


def test_repeats_of_folders_are_those_of_the_settings(tmp_path: Path) -> None:
    for number, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        noise = Image.effect_noise((64, 64), 50 + 40 * number)
        noise.convert("RGB").save(tmp_path / name / f"{name}.png")
        (tmp_path / name / f"{name}.txt").write_text("zorp, smile")
    paths = (tmp_path / "a", tmp_path / "b")
    file = tmp_path / "run.toml"
    tables = (
        f'[[data.folders]]\npath = "{path.as_posix()}"\nrepeats = {repeats}\n'
        for path, repeats in zip(paths, (9, 1), strict=True)
    )
    file.write_text("".join(tables))
    settings = load_settings(file)
    subject = cast(Subject, SimpleNamespace(folders=paths, settings=settings))
    found = dataset_facts(subject, ignore, Controls())
    assert found.repeated == pytest.approx(0.9)
    assert found.repeated_image == tmp_path / "a" / "a.png"


def test_groups_with_a_picture_in_common_are_one() -> None:
    a, b, c, d = map(Path, "abcd")
    assert _joined([(a, b), (c, d), (b, c)]) == [(a, b, c, d)]
    assert _joined([(a, b), (c, d)]) == [(a, b), (c, d)]


@pytest.mark.slow
def test_copies_of_a_picture_are_counted_together(tmp_path: Path) -> None:
    write_training_set(tmp_path, images=4, regularisation=0, repeats=2)
    folder = next((tmp_path / "img").iterdir())
    first = sorted(folder.glob("*.png"))[0]
    for number in range(4):
        shutil.copyfile(first, folder / f"copy{number}.png")
        shutil.copyfile(first.with_suffix(".txt"), folder / f"copy{number}.txt")
    settings = load_settings(None, {"data.path": str(tmp_path)})
    subject = cast(Subject, SimpleNamespace(folders=(tmp_path,), settings=settings))
    found = dataset_facts(subject, ignore, Controls())
    assert found.images == 8
    assert found.copies == 5
    assert found.repeated == pytest.approx(5 / 8)
    assert found.even_share == pytest.approx(1 / 4)
    assert found.tags == pytest.approx(3)
    assert found.contradictory == 0
