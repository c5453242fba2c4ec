"""The guides' two scripts train the embedded model: their arguments, with other paths.

The scripts are for images of 512 pixels, at which a step of the demo model takes a CPU core some
seconds; the runs are of one image and one epoch.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file
from tests.tiny_models import tiny_checkpoint

from lorasmith.cli.main import cli
from lorasmith.demo.character import write_training_set
from lorasmith.grids.snapshots import find_snapshots
from lorasmith.sampling.infotext import read_infotext

# As the scripts at the end of the guide give them; {…} are the paths, and epochs are cut to 1.
POWERSHELL = [
    "--network_module=networks.lora",
    "--pretrained_model_name_or_path={ckpt}", "--train_data_dir={image_dir}",
    "--reg_data_dir={reg_dir}", "--output_dir={output}",
    "--caption_extension=.txt", "--shuffle_caption", "--keep_tokens=1`",
    "--prior_loss_weight=1",
    "--resolution=512",
    "--enable_bucket", "--min_bucket_reso=320", "--max_bucket_reso=960",
    "--train_batch_size=1",
    "--learning_rate=0.0001", "--unet_lr=0.0001", "--text_encoder_lr=5E-05",
    "--max_train_epochs=1",
    "--mixed_precision=fp16", "--save_precision=fp16",
    "--optimizer_type=AdamW8bit", "--xformers",
    "--save_every_n_epochs=1",
    "--save_model_as=safetensors",
    "--clip_skip=2",
    "--seed=420",
    "--flip_aug",
    "--network_dim=128", "--network_alpha=128",
    "--max_token_length=225",
    "--cache_latents",
    "--lr_scheduler=cosine_with_restarts",
    "--noise_offset=0",
]  # fmt: skip

BASH = [
    "--network_module=networks.lora",
    "--pretrained_model_name_or_path={ckpt}", "--train_data_dir={image_dir}",
    "--reg_data_dir={image_dir}/reg/", "--output_dir={output}",
    "--output_name=penny_last_e6_n160",
    "--caption_extension=.txt", "--shuffle_caption",
    "--prior_loss_weight=1",
    "--network_alpha=160",
    "--resolution=512",
    "--enable_bucket", "--min_bucket_reso=320", "--max_bucket_reso=768",
    "--train_batch_size=2",
    "--gradient_accumulation_steps=1",
    "--learning_rate=0.0001", "--unet_lr=0.0001", "--text_encoder_lr=0.00005",
    "--max_train_epochs=1",
    "--mixed_precision=fp16", "--save_precision=fp16",
    "--use_8bit_adam", "--xformers",
    "--save_every_n_epochs=2",
    "--save_model_as=safetensors",
    "--clip_skip=2",
    "--seed=420",
    "--flip_aug", "--color_aug", "--face_crop_aug_range=2.0,4.0",
    "--network_dim=160",
    "--max_token_length=150",
    "--lr_scheduler=cosine_with_restarts",
    "--training_comment=LORA:penny",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "name", "rank"),
    [
        pytest.param(POWERSHELL, "last", 128, marks=pytest.mark.broad, id="powershell"),
        pytest.param(BASH, "penny_last_e6_n160", 160, id="bash"),
    ],
)
def test_a_guides_script_trains(tmp_path: Path, arguments: list[str], name: str, rank: int) -> None:
    write_training_set(tmp_path / "data", images=1, regularisation=0, repeats=1)
    (tmp_path / "data" / "img" / "reg").mkdir()
    paths = {
        "ckpt": "demo", "image_dir": tmp_path / "data" / "img",
        "reg_dir": tmp_path / "reg", "output": tmp_path / "lora",
    }  # fmt: skip
    argv = [argument.format(**paths) for argument in arguments]
    result = CliRunner().invoke(cli, ["train-network", *argv])
    assert result.exit_code == 0, result.output
    if not torch.cuda.is_available():
        assert "tens of times as long as its 32-bit form" in " ".join(result.output.split())
    assert "PyTorch's own attention is always used" in result.output
    file = tmp_path / "lora" / f"{name}.safetensors"
    tensors = load_file(file)
    downs = [tensor for key, tensor in tensors.items() if key.endswith("lora_down.weight")]
    assert {tensor.shape[0] for tensor in downs} == {rank}
    assert any(tensor.any() for key, tensor in tensors.items() if key.endswith("lora_up.weight"))
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert metadata["ss_network_dim"] == str(rank)
    assert metadata["ss_seed"] == "420"


@pytest.mark.slow
def test_sdxl(tmp_path: Path) -> None:
    """The usual lines of a script for SDXL, in small."""
    base = tiny_checkpoint(tmp_path / "base.safetensors", family="sdxl")
    write_training_set(tmp_path / "data", images=1, regularisation=0, repeats=1)
    argv = [
        "--network_module=networks.lora", f"--pretrained_model_name_or_path={base}",
        f"--train_data_dir={tmp_path / 'data' / 'img'}", f"--output_dir={tmp_path}",
        "--output_name=kin", "--caption_extension=.txt", "--resolution=64", "--max_train_steps=2",
        "--train_batch_size=1", "--unet_lr=1e-3", "--text_encoder_lr", "5e-4", "5e-4",
        "--network_dim=4", "--network_alpha=1", "--mixed_precision=bf16", "--save_precision=fp16",
        "--optimizer_type=AdamW8bit", "--optimizer_args", "weight_decay=0.1",
        "--min_snr_gamma=5", "--no_half_vae", "--cache_latents", "--max_data_loader_n_workers=2",
        "--gradient_checkpointing", "--sdpa", "--max_token_length=225",
    ]  # fmt: skip
    result = CliRunner().invoke(cli, ["sdxl-train-network", *argv])
    assert result.exit_code == 0, result.output
    tensors = load_file(tmp_path / "kin.safetensors")
    assert {key.split("_")[1] for key in tensors} == {"unet", "te1", "te2"}
    refused = CliRunner().invoke(cli, ["train-network", *argv, "--v2"])
    assert refused.exit_code == 2
    assert "sd2" in refused.output or "Stable Diffusion 2" in refused.output


def seen_by_a_web_ui(folder: Path) -> list[str]:
    """Names of all that web UIs list as LoRAs: they look into every folder but hidden ones."""
    paths = [
        path for ending in ("safetensors", "pt", "ckpt") for path in folder.rglob(f"*.{ending}")
    ]
    shown = [path.relative_to(folder) for path in paths]
    return sorted(str(path) for path in shown if not any(p.startswith(".") for p in path.parts))


def lorasmith(*arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


@pytest.mark.slow
def test_files_lie_where_sd_scripts_puts_them_and_the_run_is_found_by_them(tmp_path: Path) -> None:
    write_training_set(tmp_path / "data", images=2, regularisation=0, repeats=1)
    (tmp_path / "p.txt").write_text("zorp --w 64 --h 64 --s 1")
    out = tmp_path / "webui loras"
    argv = [
        "--network_module=networks.lora", "--pretrained_model_name_or_path=demo",
        f"--train_data_dir={tmp_path / 'data' / 'img'}", f"--output_dir={out}",
        "--output_name=zorp", "--caption_extension=.txt", "--resolution=64", "--max_train_epochs=2",
        "--save_every_n_epochs=1", "--save_every_n_steps=3", "--network_dim=2", "--seed=1",
        "--sample_every_n_epochs=2", f"--sample_prompts={tmp_path / 'p.txt'}",
    ]  # fmt: skip
    out.mkdir()
    (out / "other.safetensors").write_bytes(b"somebody else's")
    lorasmith("train-network", *argv)
    files = ["zorp-000001.safetensors", "zorp-step00000003.safetensors", "zorp.safetensors"]
    assert seen_by_a_web_ui(out) == sorted(["other.safetensors", *files])
    assert [path.name for path in (out / "sample").iterdir()] == ["zorp_e000002_00_0.png"]
    run = out / ".zorp.lorasmith"
    assert list((run / "state").glob("step-*"))

    # By the LoRA, by a snapshot, by its name, by the hidden folder, by the folder of LoRAs.
    for name in (out / "zorp.safetensors", out / "zorp-000001.safetensors", out / "zorp", run, out):
        assert "done" in lorasmith("control", name)
        assert "finished" in lorasmith("train", "--resume", name)
    for name in (out / "zorp", run):
        assert [s.label for s in find_snapshots(name)] == ["epoch 1", "step 3", "epoch 2"]
        assert "6 pictures drawn" in lorasmith(
            *("grid", "--epochs", f"{name}:1-2", "--steps", "1", "--size", "64x64", "--out"),
            tmp_path / f"grid-{name.name}",
        )
    for name in (out, run, out / "zorp"):
        image = tmp_path / "pictures"
        lorasmith(
            *("generate", "<lora:zorp:1>", "--steps", "1", "--size", "64x64", "--seed", "1"),
            *("--lora-dir", name, "--out", image),
        )
    assert "name the LoRA in it" in lorasmith("inspect", run, status=2)

    # A longer run goes on beside it, and another one takes nothing away.
    lorasmith("train", "--resume", out / "zorp", "--train.epochs", "3")
    assert "zorp-000002.safetensors" in seen_by_a_web_ui(out)
    before = (out / "zorp.safetensors").read_bytes()
    output = lorasmith("train-network", *argv)
    assert "zorp is there already, so this run and its files are called zorp-2" in output
    assert (out / "zorp.safetensors").read_bytes() == before
    assert "zorp-2.safetensors" in seen_by_a_web_ui(out)
    assert "holds 2 runs" in lorasmith("control", out, status=2)
    assert "files stay where they are" in lorasmith(
        "train", "--resume", out / "zorp", "--save.layout", "folder", status=2
    )

    # Nor does a LoRA that no run here has made.
    output = lorasmith("train-network", *argv, "--output_name=other", "--plan")
    assert "other-2.safetensors" in output


@pytest.mark.slow
def test_sample_prompts_keep_their_own_size_seed_and_words(tmp_path: Path) -> None:
    write_training_set(tmp_path / "data", images=1, regularisation=0, repeats=1)
    (tmp_path / "p.txt").write_text(
        "zorp --w 64 --h 64 --d 1 --s 2\nzorp --n dog --w 128 --h 64 --d 2 --s 3\n"
        "zorp --w 64 --h 64 --d -1 --s 2\n"
    )
    argv = [
        "--network_module=networks.lora", "--pretrained_model_name_or_path=demo",
        f"--train_data_dir={tmp_path / 'data' / 'img'}",
        "--output_name=zorp", "--caption_extension=.txt", "--resolution=64", "--max_train_epochs=2",
        "--save_every_n_epochs=1", "--network_dim=2", "--sample_sampler=euler_a",
        "--sample_every_n_epochs=1", f"--sample_prompts={tmp_path / 'p.txt'}",
    ]  # fmt: skip
    drawn = []
    for name in ("one", "two"):
        lorasmith("train-network", *argv, f"--output_dir={tmp_path / name}")
        drawn.append(sorted((tmp_path / name / "sample").iterdir()))
    names = [path.name for path in drawn[0]]
    assert names == [path.name for path in drawn[1]]  # Random seeds are a run's own.
    assert [name[:15] for name in names] == [
        f"zorp_e00000{e}_0{i}" for e in (1, 2) for i in (0, 1, 2)
    ]
    assert names[2].rpartition("_")[2] != names[5].rpartition("_")[2]
    infos = [read_infotext(path) for path in drawn[0]]
    facts = [
        (info.negative, *(info.settings[name] for name in ("Size", "Seed", "Steps")))
        for info in infos
        if info is not None
    ]
    assert facts[:2] == [("", "64x64", "1", "2"), ("dog", "128x64", "2", "3")]
    assert facts[2][2] == names[2].rpartition("_")[2].removesuffix(".png")
    grid = lorasmith(
        "grid", "--epochs", tmp_path / "one" / "zorp", "--z", "size=64x64, 96x64", "--out",
        tmp_path / "grid",
    )  # fmt: skip
    assert "pictures drawn" in grid
