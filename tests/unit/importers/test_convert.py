"""Folders of images that a run names: those that are not here, and those around or within."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasmith.importers.conversion import Conversion
from lorasmith.importers.convert import convert_here
from lorasmith.importers.sd_scripts.argv import read_argv


def converted(folder: Path, *argv: str, complete: bool = True) -> Conversion:
    (folder / "img").mkdir(exist_ok=True)
    base = ["--pretrained_model_name_or_path=demo", f"--train_data_dir={folder / 'img'}"]
    source = read_argv([*base, "--network_module=networks.lora", *argv])
    return convert_here(source, complete=complete)


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_a_reg_folder_that_holds_nothing_is_none(tmp_path: Path) -> None:
    reg = tmp_path / "reg"
    argv = f"--reg_data_dir={reg}"
    reg.mkdir()
    assert "data.reg" not in converted(tmp_path, argv).values
    image(reg / "loose.png")
    assert "data.reg" not in converted(tmp_path, argv).values, "sd-scripts wants N_name folders"
    image(reg / "1_girl" / "a.png")
    assert converted(tmp_path, argv).values["data.reg"] == str(reg)


@pytest.mark.parametrize("complete", [True, False])
def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path, complete: bool) -> None:
    (tmp_path / "regs").mkdir()
    result = converted(tmp_path, f"--reg_data_dir={tmp_path / 'reg'}", complete=complete)
    (problem,) = result.problems
    assert problem.where == "--reg_data_dir"
    assert "there is no such folder" in problem.what
    assert "there is regs" in problem.hint


def test_a_file_of_another_machine_is_only_told_of(tmp_path: Path) -> None:
    argv = ["--train_data_dir=X:\\pics", "--reg_data_dir=X:\\reg"]
    result = converted(tmp_path, *argv, complete=False)
    assert result.problems == []
    assert sum("no such folder on this machine" in remark.why for remark in result.remarks) == 2
    assert len(converted(tmp_path, *argv).problems) == 2, "a run that is to start needs them"


def test_an_inner_reg_folder_names_its_parent(tmp_path: Path) -> None:
    image(tmp_path / "reg" / "1_girl" / "a.png")
    result = converted(tmp_path, f"--reg_data_dir={tmp_path / 'reg' / '1_girl'}")
    (problem,) = result.problems
    assert problem.where == "--reg_data_dir"
    assert problem.hint == f"give the folder that it is in, {tmp_path / 'reg'}"


def test_an_image_dir_is_the_folder_with_the_images(tmp_path: Path) -> None:
    image(tmp_path / "img" / "3_zorp" / "a.png")
    text = '[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = "{}"\n'
    for folder, hint in ((tmp_path / "img", "3_zorp"), (tmp_path / "none", "no such folder")):
        (tmp_path / "d.toml").write_text(text.format(folder), encoding="utf-8")
        (problem,) = converted(tmp_path, f"--dataset_config={tmp_path / 'd.toml'}").problems
        assert hint in str(problem)
    (tmp_path / "d.toml").write_text(text.format(tmp_path / "img" / "3_zorp"), encoding="utf-8")
    assert converted(tmp_path, f"--dataset_config={tmp_path / 'd.toml'}").problems == []


def test_a_reg_folder_beside_is_none_of_sd_scripts(tmp_path: Path) -> None:
    """The bash script's: the reg folder lies among the N_name folders."""
    image(tmp_path / "img" / "10_zorp" / "a.png")
    assert converted(tmp_path).values["data.path"] == str(tmp_path / "img")
    (tmp_path / "img" / "reg").mkdir()
    result = converted(tmp_path, f"--reg_data_dir={tmp_path / 'img' / 'reg'}")
    assert result.values["data.folders"] == [
        {"path": str(tmp_path / "img" / "10_zorp"), "repeats": 10}
    ]
    assert not {"data.path", "data.reg"} & set(result.values)
