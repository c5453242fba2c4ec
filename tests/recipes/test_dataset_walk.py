"""A pile of pictures becomes a LoRA by the commands of docs/dataset-walk.md, and a pile again."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors import safe_open
from tests.crashes import contents
from tests.docs.test_docs import command_lines

from lorasmith.cli.main import cli
from lorasmith.curation.collection import open_collection
from lorasmith.demo.world import VALUES

PAGE = Path(__file__).parents[2] / "docs" / "dataset-walk.md"
# The page trains as the demo does; that it learns is shown there and in the test of learning.
SHORTER = {"train": ["--set", "train.steps=10", "--set", "sample.every_epochs=0"]}
# The two files that are no pictures are named: what could not be done ends with 2.
LEFT_OUT = ("lorasmith dataset convert pile ", "lorasmith dataset init zorp --from pile ")


def run(line: str) -> str:
    words = shlex.split(line)
    assert words[0] == "lorasmith"
    result = CliRunner().invoke(cli, [*words[1:], *SHORTER.get(words[1], [])])
    expected = 2 if line.startswith(LEFT_OUT) else 0
    assert result.exit_code == expected, f"{line}\n{result.output}\n{result.exception}"
    return result.output


@pytest.mark.slow
def test_a_pile_becomes_a_lora_and_a_pile_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(PAGE.parents[1] / "examples")
    import pile  # type: ignore[import-not-found]

    pile.make_pile(tmp_path / "pile")
    before = contents(tmp_path / "pile")
    lines = [line for line in command_lines(PAGE.read_text("utf-8")) if "pile.py" not in line]
    back = next(number for number, line in enumerate(lines) if " history " in line)
    outputs = {line: run(line) for line in lines[:back]}

    collection = open_collection(tmp_path / "zorp")
    assert 15 <= len(collection.images) <= pile.ZORPS
    for image in collection.images:
        assert image.tags[0] == "zorp"
        assert image.tags.count("zorp") == 1
        assert not {"purple body", "wings", "highres", "someone"} & set(image.tags)
        with Image.open(image.path) as picture:
            assert picture.mode in ("RGB", "RGBA")
            assert picture.width == picture.height
            assert picture.getexif().get(0x0112, 1) == 1
    with_eyes = [image for image in collection.images if set(VALUES["eyes"]) & set(image.tags)]
    assert len(with_eyes) >= 0.9 * len(collection.images)
    names = {image.path.stem for image in open_collection(tmp_path / "zorp" / "reg").images}
    assert names == {f"friend ({number})" for number in range(pile.OTHERS)}
    (check,) = (text for line, text in outputs.items() if " check " in line)
    assert "This dataset is fine." in check
    (train,) = (line for line in lines if " train " in line)
    plan = CliRunner().invoke(cli, [*shlex.split(train)[1:], "--name", "planned", "--plan"]).output
    (steps,) = re.findall(r"this trains (\d+ steps)", plan)
    assert f"Training takes {steps} here" in PAGE.read_text("utf-8")
    with safe_open(tmp_path / "runs" / "zorp" / "zorp.safetensors", framework="np") as file:
        repeats = int(collection.images[0].path.parent.name.partition("_")[0])
        assert repeats > 1
        uses = repeats * len(collection.images)
        assert file.metadata()["ss_num_train_images"] == str(uses)
    assert list((tmp_path / "zorps").glob("*.png"))

    for line in lines[back:]:
        run(line)
    assert contents(tmp_path / "pile") == before
    assert not [name for name in contents(tmp_path / "zorp") if "/.lorasmith-cache/" not in name]
