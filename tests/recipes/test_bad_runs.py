"""What can go wrong with a whole run: a clear message, exit status 2, no traceback, nothing lost.

Bad settings, images and checkpoints one by one have tables of their own beside their modules.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from tests.recipes.runs import FAST, small_dataset

from lorasmith.cli.main import cli
from lorasmith.config.optimizers import OPTIMIZERS
from lorasmith.core import files
from lorasmith.tensors.files import save_tensors

LORA_KEY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def lora_file(path: Path) -> None:
    save_tensors(
        path,
        {
            f"{LORA_KEY}.lora_down.weight": torch.zeros(4, 320),
            f"{LORA_KEY}.lora_up.weight": torch.zeros(320, 4),
            f"{LORA_KEY}.alpha": torch.tensor(4.0),
        },
        {},
    )


@dataclass
class Place:
    """A good dataset and an output folder, for cases to spoil."""

    root: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def output(self) -> Path:
        return self.root / "out"

    def train(self, *more: str) -> Result:
        arguments = ["train", "--data", str(self.data), "--output", str(self.output)]
        arguments += ["--name", "run"]
        for key, value in {**FAST, "train.steps": "1"}.items():
            arguments += ["--set", f"{key}={value}"]
        return CliRunner().invoke(cli, [*arguments, *more])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    small_dataset(tmp_path / "data", images=2)
    return Place(tmp_path, monkeypatch)


def refused(result: Result, *says: str) -> None:
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    flat = " ".join(result.output.split())
    for text in says:
        assert text in flat, result.output


def output_is_a_file(place: Place) -> list[str]:
    place.output.write_text("in the way")
    return []


def empty_reg(place: Place) -> list[str]:
    (place.root / "empty").mkdir()
    return ["--reg", str(place.root / "empty")]


def lora_as_base(place: Place) -> list[str]:
    lora_file(place.root / "lora.safetensors")
    return ["--model", str(place.root / "lora.safetensors")]


def nan_in_base(place: Place) -> list[str]:
    from safetensors.torch import load_file

    weights = load_file(files.ASSETS / "demo_base.safetensors")
    header = files.read_safetensors_header(files.ASSETS / "demo_base.safetensors")
    name = "model.diffusion_model.input_blocks.0.0.weight"
    weights[name] = torch.full_like(weights[name], float("nan"))
    save_tensors(place.root / "nan.safetensors", weights, header.metadata)
    return ["--model", str(place.root / "nan.safetensors")]


def base_is_a_program(place: Place) -> list[str]:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (place.root / "ran",)  # type: ignore[return-value]

    torch.save({"state_dict": Bomb()}, place.root / "model.ckpt")
    return ["--model", str(place.root / "model.ckpt")]


def no_library(place: Place) -> list[str]:
    missing = replace(OPTIMIZERS["AdamW8bit"], path="no_such_library.AdamW8bit")
    place.monkeypatch.setitem(OPTIMIZERS, "AdamW8bit", missing)
    return ["--set", "optimizer.name=AdamW8bit"]


def other_lora(place: Place) -> list[str]:
    lora_file(place.root / "lora.safetensors")
    return ["--set", f"adapter.init_from={place.root / 'lora.safetensors'}"]


def cut_image(place: Place) -> list[str]:
    path = next(place.data.glob("img/*/*.png"))
    path.write_bytes(path.read_bytes()[:300])
    return []


def no_images(place: Place) -> list[str]:
    for path in place.data.glob("img/*/*"):
        path.unlink()
    return []


CASES: dict[str, tuple[Callable[[Place], list[str]], tuple[str, ...]]] = {
    "output is a file": (output_is_a_file, ("out", "cannot be written")),
    "empty reg folder": (empty_reg, ("empty", "no picture", "regularisation")),
    "LoRA given as base model": (lora_as_base, ("lora.safetensors", "LoRA")),
    "NaN in the base model": (nan_in_base, ("nan.safetensors", "input_blocks.0.0.weight")),
    "base model runs a program": (base_is_a_program, ("model.ckpt",)),
    "library is not installed": (no_library, ("optimizer.name", "pip install bitsandbytes")),
    "LoRA of another family": (other_lora, ("lora.safetensors", "the base model's family")),
    "picture cut short": (cut_image, ("zorp_",)),
    "no pictures": (no_images, ("data",)),
    "device that is not there": (
        lambda p: ["--set", "performance.device=cuda:7"],
        ("performance.device", "cuda:7"),
    ),
    "text cached and trained": (
        lambda p: ["--set", "performance.cache_text=true"],
        ("performance.cache_text", "text encoder is trained"),
    ),
    "CLIP skip beyond the layers": (
        lambda p: ["--set", "model.clip_skip=12"],
        ("12 is no CLIP skip", "2 layers"),
    ),
    "LoRA to go on from is missing": (
        lambda p: ["--set", "adapter.init_from=gone.safetensors"],
        ("gone.safetensors", "cannot be read"),
    ),
    "model is missing": (lambda p: ["--model", "gone.safetensors"], ("gone.safetensors",)),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str, place: Place) -> None:
    spoil, says = CASES[name]
    refused(place.train(*spoil(place)), *says)
    assert not list(place.output.glob("run*/run*.safetensors"))
    assert not (place.root / "ran").exists()


def test_everything_wrong_is_said_at_once(place: Place) -> None:
    cut_image(place)
    result = place.train("--model", "gone.safetensors", "--set", 'sample.prompts=["<lora:"]')
    refused(result, "gone.safetensors")
    refused(place.train("--model", "gone.safetensors", "--set", "adapter.init_from=no.safetensors"),
            "gone.safetensors", "no.safetensors")  # fmt: skip


@pytest.mark.slow
def test_resume_refuses(place: Place) -> None:
    done = place.train()
    assert done.exit_code == 0, done.output
    run = place.output / "run"
    result = (run / "run.safetensors").read_bytes()

    def resume(*more: str) -> Result:
        return CliRunner().invoke(cli, ["train", "--resume", str(run), *more])

    refused(resume("--set", "adapter.rank=8"), "adapter.rank", "cannot be changed on resume")
    refused(resume("--name", "other"), "save.name", "the run's files stay where they are")
    again = resume("--data", os.path.relpath(place.data), "--name", "run")
    assert again.exit_code == 0, again.output  # What it is already is no change.
    refused(CliRunner().invoke(cli, ["train", "--resume", str(place.data)]), "not a run folder")
    image = next(place.data.glob("img/*/*.png"))
    Image.new("RGB", (64, 64), "red").save(image)
    refused(resume("--set", "train.steps=2"), "changed since this run began")
    assert (run / "run.safetensors").read_bytes() == result


@pytest.mark.slow
def test_damaged_state_is_named(place: Place) -> None:
    assert place.train().exit_code == 0
    run = place.output / "run"
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "status": "started"}))
    state = next((run / "state").glob("*.state"))
    state.write_bytes(state.read_bytes()[:100])
    result = CliRunner().invoke(cli, ["train", "--resume", str(run)])
    refused(result, state.name, "cannot be read as a training state")


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    "log", ["lorasmith.training.monitoring.observers._write_line", "tensorboard"]
)
def test_disk_full_while_a_log_is_written(log: str, place: Place) -> None:
    """Logs are appended to, not replaced: what the system says must not look like a bug."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if log == "tensorboard":
        log = "torch.utils.tensorboard.SummaryWriter.add_scalar"
    place.monkeypatch.setattr(log, full)
    result = place.train("--set", "log.tensorboard=true")
    refused(result, "the disk is full", "free some space", "train --resume")


@pytest.mark.slow_but_first
@pytest.mark.parametrize("suffix", [".state", ".safetensors", ".toml"])
def test_disk_full(suffix: str, place: Place) -> None:
    """Whatever is being written when the disk is full: said so, and no half file is left."""
    really = os.replace

    def full(source: str, target: str) -> None:
        if str(target).endswith(suffix):
            raise OSError(errno.ENOSPC, "No space left on device")
        really(source, target)

    place.monkeypatch.setattr(os, "replace", full)
    result = place.train()
    refused(result, "the disk is full", suffix)
    # "Run again" would begin another run.
    assert ("--resume" in result.output) == (suffix != ".toml")
    assert not list(place.root.rglob("*.tmp"))
    assert not list(place.output.rglob(f"*{suffix}"))


def test_a_cache_on_a_full_disk_is_said_with_what_it_costs(place: Place) -> None:
    """The run goes on without the cache; of the result nothing is lost."""
    really = os.replace

    def full(source: str, target: str) -> None:
        if ".lorasmith-cache" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        really(source, target)

    place.monkeypatch.setattr(os, "replace", full)
    result = place.train()
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "the disk is full, so latents are not cached: the VAE encodes" in said
    assert "performance.cache_dir" in said
    assert not list(place.root.rglob(".lorasmith-cache/*"))
    assert (place.output / "run" / "run.safetensors").is_file()


def test_a_cache_that_goes_elsewhere_is_said(place: Place) -> None:
    really = tempfile.TemporaryFile

    def full(*arguments: object, dir: object = None, **options: object) -> object:  # noqa: A002
        if str(dir).endswith(".lorasmith-cache"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(*arguments, dir=dir, **options)  # type: ignore[call-overload]

    place.monkeypatch.setattr(tempfile, "TemporaryFile", full)
    place.monkeypatch.setenv("XDG_CACHE_HOME", str(place.root / "home"))
    result = place.train()
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "the disk is full, so the cache lies in" in said
    assert list((place.root / "home").rglob("*.safetensors"))


def test_folder_in_use(place: Place) -> None:
    from lorasmith.core.errors import RunError
    from lorasmith.training.runs.folder import RunFolder

    with (
        RunFolder(place.output / "run"),
        pytest.raises(RunError, match="another process"),
        RunFolder(place.output / "run"),
    ):
        pass


@pytest.mark.slow
def test_loss_that_is_no_number_keeps_what_was_saved(place: Place) -> None:
    """A learning rate beyond reason: stopped with the step named, earlier files intact."""
    result = place.train(
        "--set", "optimizer.lr=100", "--set", "train.steps=300", "--set", "save.every_steps=1",
        "--set", "optimizer.max_grad_norm=0", "--set", "save.precision=fp32",
    )  # fmt: skip
    refused(result, "step", "learning rate")
    for path in place.output.glob("run/*.safetensors"):
        from safetensors.torch import load_file

        assert all(bool(t.isfinite().all()) for t in load_file(path).values())


@pytest.mark.slow
def test_a_run_that_never_began_does_not_take_its_name(place: Place) -> None:
    refused(place.train("--set", "model.clip_skip=12"))
    assert place.train().exit_code == 0
    assert [path.name for path in place.output.iterdir()] == ["run"]
    assert place.train().exit_code == 0
    assert sorted(path.name for path in place.output.iterdir()) == ["run", "run-2"]
    assert (place.output / "run-2" / "run-2.safetensors").exists()
