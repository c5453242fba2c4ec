"""The commands for people who come from other trainers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lorasmith.cli.main import cli
from lorasmith.config.load import load_settings
from lorasmith.demo.character import write_training_set
from lorasmith.importers.sd_scripts.table import arguments_page

SAMPLES = Path(__file__).parents[1] / "importers" / "scripts"


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, list(args))


def test_everything_wrong_at_once() -> None:
    result = run("train-network", "--network_dims=8", "--resume=x", "--learning_rate=0,0001")
    assert result.exit_code == 2
    for says in ("--network_dims", "did you mean --network_dim", "states of sd-scripts",
                 "write 0.0001, with a point", "--train_data_dir: is missing"):  # fmt: skip
        assert says in result.output


def test_settings_that_are_wrong_name_the_argument() -> None:
    argv = ["--pretrained_model_name_or_path=demo", "--train_data_dir=.", "--network_dim=0"]
    result = run("train-network", *argv, "--network_module=networks.lora")
    assert result.exit_code == 2
    assert "--network_dim: 0 is out of range" in result.output


def test_plan_shows_what_became_of_each_argument(tmp_path: Path) -> None:
    write_training_set(tmp_path, images=2, repeats=1, regularisation=0)
    argv = ["--pretrained_model_name_or_path=demo", f"--train_data_dir={tmp_path / 'img'}",
            "--network_module=networks.lora", "--resolution", "64", "--xformers",
            "--caption_extension=.txt", "--max_train_epochs", "1"]  # fmt: skip
    result = run("train-network", *argv, f"--output_dir={tmp_path / 'out'}", "--plan")
    assert result.exit_code == 0, result.output
    assert "adapter.rank = 4" in result.output
    assert "--xformers: PyTorch's own attention" in result.output
    assert not list((tmp_path / "out").rglob("*")), "nothing was trained"


@pytest.mark.parametrize("name", ["sample.ps1", "sample.sh"])
def test_convert_config(tmp_path: Path, name: str) -> None:
    out = tmp_path / "run.toml"
    result = run("convert-config", str(SAMPLES / name), "--out", str(out))
    assert result.exit_code == 0, result.output
    settings = load_settings(out, for_training=True)
    assert settings.optimizer.unet_lr == 1e-4
    assert "rank = " in run("convert-config", str(SAMPLES / name)).output


def test_convert_config_in_part(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        'network_module = "networks.lora"\nnetwork_dim = 99999\nresume = "x"\nclip_skip = 2\n'
    )
    out = tmp_path / "run.toml"
    result = run("convert-config", str(file), "--out", str(out))
    assert result.exit_code == 2
    assert not out.exists()
    result = run("convert-config", str(file), "--out", str(out), "--partial")
    assert result.exit_code == 0, result.output
    assert "left out" in result.output
    text = out.read_text(encoding="utf-8")
    assert "Refused, and not in this file" in text
    assert load_settings(out).model.clip_skip == 2


def test_convert_config_says_what_the_file_says_in_comments(tmp_path: Path) -> None:
    file = tmp_path / "sd.toml"
    file.write_text(
        'network_module = "networks.lora"\nkeep_token = 1\nxformers = true\n'
        "sample_every_n_epochs = 1\n"
        f'sample_prompts = "{(tmp_path / "gone.txt").as_posix()}"\n'
    )
    out = tmp_path / "run.toml"
    result = run("convert-config", str(file), "--out", str(out))
    assert result.exit_code == 0, result.output
    comments = out.read_text(encoding="utf-8").partition("\nversion")[0].splitlines()[2:]
    assert comments
    for line in comments:
        assert line.lstrip("# ") in result.output
    for said in ("keep_token", "gone.txt", "xformers"):
        assert said in result.output


def test_the_table_of_arguments() -> None:
    assert run("convert-config", "--arguments").output == arguments_page()


def written(folder: Path) -> Path:
    """The little data set, with an empty folder for regularisation, as kohya_ss would be told."""
    write_training_set(folder, images=2, repeats=1, regularisation=0)
    (folder / "reg").mkdir(exist_ok=True)
    return folder


ASKS = {
    "pretrained_model_name_or_path": "demo", "network_module": "networks.lora",
    "resolution": "64", "caption_extension": ".txt", "max_train_epochs": 1,
    "mixed_precision": "fp16", "network_dim": 2,
}  # fmt: skip


def files(folder: Path) -> dict[str, str]:
    """One run in the forms that people have it in."""
    asks = {**ASKS, "train_data_dir": str(folder / "img"), "reg_data_dir": str(folder / "reg"),
            "output_dir": str(folder / "out")}  # fmt: skip
    argv = " ".join(f"--{name}={value}" for name, value in asks.items())
    window = {"LoRA_type": "Standard", "sdxl": False, **asks, "max_resolution": "64"}
    del window["resolution"], window["network_module"]
    return {
        "run.sh": f"accelerate launch train_network.py {argv}\n",
        "run.ps1": f"accelerate launch train_network.py {argv}\n",
        "run.toml": "".join(f"{name} = {json.dumps(value)}\n" for name, value in asks.items()),
        "run.json": json.dumps(window),
    }


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", ["run.sh", "run.ps1", "run.toml", "run.json"])
def test_all_ways_to_a_run_answer_alike(tmp_path: Path, name: str) -> None:
    """fp16 on a CPU and an empty reg folder stop none of them."""
    text = files(written(tmp_path))[name]
    (tmp_path / name).write_text(text, encoding="utf-8")
    out = tmp_path / "converted.toml"
    direct = run("train", str(tmp_path / name), "--plan")
    made = run("convert-config", str(tmp_path / name), "--out", str(out))
    assert made.exit_code == 0, made.output
    later = run("train", str(out), "--plan")
    for result in (direct, later):
        assert result.exit_code == 0, result.output
        assert "fp16 does not train on a CPU" in " ".join(result.output.split())
    assert "so there are none; sd-scripts takes it so" in direct.output
    # But for where each setting comes from: that is the file.
    _, _, plan = later.output.partition("learning rate ─")
    same = [line for line in plan.splitlines()[1:] if "free" not in line]
    assert len(same) > 20
    assert set(same) <= set(direct.output.splitlines()), "one plan; above it what became of what"


def test_options_win_over_a_file_of_another_trainer(tmp_path: Path) -> None:
    text = files(tmp_path)["run.toml"].replace(str(tmp_path / "img"), "/nowhere/img")
    (tmp_path / "run.toml").write_text(text.replace(str(tmp_path / "reg"), ""), encoding="utf-8")
    data = str(written(tmp_path / "other") / "img")
    result = run("train", str(tmp_path / "run.toml"), "--data", data, "--adapter.rank=3", "--plan")
    assert result.exit_code == 0, result.output
    assert "1 / 3" in result.output, "alpha / rank"


@pytest.mark.parametrize("command", ["convert-config", "train", "train-network"])
def test_a_folder_that_does_not_exist_is_an_error_everywhere(tmp_path: Path, command: str) -> None:
    text = files(written(tmp_path))["run.toml"].replace(str(tmp_path / "reg"), "/no/such/folder")
    (tmp_path / "run.toml").write_text(text, encoding="utf-8")
    file = str(tmp_path / "run.toml")
    result = run(command, f"--config_file={file}" if command == "train-network" else file)
    assert result.exit_code == 2
    assert "/no/such/folder: there is no such folder" in result.output


def test_convert_config_overwrites_nothing(tmp_path: Path) -> None:
    file, out = tmp_path / "run.toml", tmp_path / "out.toml"
    file.write_text(files(written(tmp_path))["run.toml"], encoding="utf-8")
    out.write_text("mine", encoding="utf-8")
    for argv in ((), ("--partial",)):
        result = run("convert-config", str(file), "--out", str(out), *argv)
        assert result.exit_code == 2
        assert "exists already" in result.output
        assert out.read_text(encoding="utf-8") == "mine"
    assert run("convert-config", str(file), "--out", str(out), "--overwrite").exit_code == 0
    assert load_settings(out).adapter.rank == 2


def test_train_names_what_another_file_is(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text('{"nodes": [], "links": []}', encoding="utf-8")
    for command in ("train", "convert-config"):
        result = run(command, str(tmp_path / "w.json"))
        assert result.exit_code == 2
        assert "is a ComfyUI workflow" in result.output
