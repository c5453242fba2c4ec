"""What changes for the machine and its folders."""

from __future__ import annotations

from pathlib import Path

from lorasmith.config.foreign.argv import read_argv
from lorasmith.config.foreign.engine import convert_source
from lorasmith.config.foreign.machine import Machine, fit
from lorasmith.config.foreign.result import Conversion

CPU, MAC, NVIDIA = Machine(False, False), Machine(True, False), Machine(True, True)


def fitted(folder: Path, machine: Machine, *argv: str) -> Conversion:
    base = ["--pretrained_model_name_or_path=demo", f"--train_data_dir={folder / 'img'}"]
    source = read_argv([*base, "--network_module=networks.lora", *argv])
    result = convert_source(source)
    assert result.problems == []
    fit(result, machine)
    return result


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_gpu_options_without_one(tmp_path: Path) -> None:
    argv = ("--mixed_precision=fp16", "--use_8bit_adam")
    pairs = {
        name: (result.values["train.precision"], result.values["optimizer.name"])
        for name, machine in (("cpu", CPU), ("mac", MAC), ("nvidia", NVIDIA))
        for result in [fitted(tmp_path, machine, *argv)]
    }
    assert pairs == {
        "cpu": ("auto", "AdamW"), "mac": ("fp16", "AdamW"), "nvidia": ("fp16", "AdamW8bit"),
    }  # fmt: skip
    said = [remark.why for remark in fitted(tmp_path, CPU, *argv).remarks]
    assert any("no GPU" in why for why in said)
    assert any("NVIDIA" in why for why in said)


def test_a_reg_folder_that_holds_nothing_is_none(tmp_path: Path) -> None:
    reg = tmp_path / "reg"
    argv = f"--reg_data_dir={reg}"
    assert "data.reg" not in fitted(tmp_path, CPU, argv).values
    picture(reg / "loose.png")
    assert "data.reg" not in fitted(tmp_path, CPU, argv).values, "sd-scripts wants N_name folders"
    picture(reg / "1_girl" / "a.png")
    assert fitted(tmp_path, CPU, argv).values["data.reg"] == str(reg)


def test_a_reg_folder_beside_is_none_of_sd_scripts(tmp_path: Path) -> None:
    """The bash script's: the reg folder lies among the N_name folders."""
    picture(tmp_path / "img" / "10_zorp" / "a.png")
    assert fitted(tmp_path, CPU).values["data.path"] == str(tmp_path / "img")
    (tmp_path / "img" / "reg").mkdir()
    result = fitted(tmp_path, CPU, f"--reg_data_dir={tmp_path / 'img' / 'reg'}")
    assert result.values["data.folders"] == [
        {"path": str(tmp_path / "img" / "10_zorp"), "repeats": 10}
    ]
    assert not {"data.path", "data.reg"} & set(result.values)
