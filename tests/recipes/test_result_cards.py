"""What lies beside a finished LoRA for web UIs and for people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from tests.recipes.runs import FAST, small_dataset

from lorasmith.cli.main import cli
from lorasmith.sampling.infotext import read_infotext

# What A1111 1.10 keeps of a LoRA in NAME.json (its Lora extension, ui_edit_user_metadata.py).
A1111 = {
    "description",
    "sd version",
    "activation text",
    "preferred weight",
    "negative text",
    "notes",
}


def lorasmith(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def settings(**more: str) -> list[str]:
    chosen = {**FAST, **{key.replace("__", "."): value for key, value in more.items()}}
    return [part for key, value in chosen.items() for part in ("--set", f"{key}={value}")]


@pytest.mark.slow
def test_cards_are_written_and_a_changed_one_stays(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data", images=2)
    prompts = '["plain", "zorp, smile --s 2"]'
    more = settings(
        train__epochs="1", sample__prompts=prompts, sample__size="64", sample__steps="2",
        sample__every_epochs="1", save__comment="a creature", log__tensorboard="true",
        save__author="me | you", schedule__name="constant",
    )  # fmt: skip
    (tmp_path / "o ut").mkdir()
    own = tmp_path / "o ut" / "r"
    own.mkdir()
    (own / "r.md").write_text("written by somebody")
    output = lorasmith("train", "--data", data, "--output", tmp_path / "o ut", "--name", "r", *more)
    assert f"lorasmith pick '{own}'" in output
    assert f"lorasmith grid --epochs '{own}'" in output
    assert f"tensorboard --logdir '{own}/tensorboard'" in output

    card = json.loads((own / "r.json").read_text(encoding="utf-8"))
    assert card.keys() == A1111
    assert (card["activation text"], card["sd version"]) == ("zorp", "SD1")
    assert card["preferred weight"] == 1.0
    info = read_infotext(own / "r.png")
    assert info is not None
    assert info.prompt.startswith("zorp, smile")
    assert Image.open(own / "r.png").size == (64, 64)
    assert (own / "r.md").read_text() == "written by somebody"
    assert "r.md stays as before" in " ".join(output.split())

    card["preferred weight"] = 0.7
    (own / "r.json").write_text(json.dumps(card), encoding="utf-8")
    (own / "r.md").unlink()
    before = (own / "r.png").read_bytes()
    output = lorasmith("train", "--resume", own, "--train.epochs", "2")
    assert json.loads((own / "r.json").read_text(encoding="utf-8"))["preferred weight"] == 0.7
    assert "r.json stays as before" in " ".join(output.split())
    assert (own / "r.png").read_bytes() != before
    page = (own / "r.md").read_text(encoding="utf-8")
    for part in ("# r\n", "`zorp`", "a creature", "| me / you |", "2 pictures", "zorp, smile"):
        assert part in page, part
