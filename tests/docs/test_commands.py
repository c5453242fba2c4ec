"""The commands of pages run, one after the other, on small files by the names that the page has."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.docs.test_docs import PAGES, command_lines
from tests.recipes.runs import small_dataset

from lorasmith.adapters.file import save_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.cli.main import cli
from lorasmith.core.files import ASSETS, read_safetensors_header
from lorasmith.models.load import load_model

ELSEWHERE = {
    "bootstrap.md": "trains several times; tests/recipes/test_bootstrap.py",
    "commands.md": "is made from the program",
    "coming-from-sd-scripts.md": "tests/recipes/test_train_network.py",
    "dataset-images.md": "test_dataset_images_page.py",
    "dataset-import.md": "test_dataset_import_page.py",
    "dataset-caption.md": "needs captioning models; test_caption_page.py",
    "dataset-edit.md": "test_dataset_edit_page.py",
    "demo-model.md": "has none of the program",
    "doctor.md": "needs a second card; tests/unit/advice/doctor",
    "file-tools-resize-merge.md": "test_resize_merge_page.py",
    "generate.md": "needs pictures of other programs; tests/unit/cli/test_generate.py",
    "grid.md": "needs a run of many epochs; tests/unit/cli/test_grid.py",
    "diagnose.md": "needs a run; tests/recipes/test_diagnose.py",
    "pick.md": "needs a run of many epochs; tests/recipes/test_pick.py",
    "studio.md": "serves until it is ended; tests/studio",
    "prompts.md": "needs other people's embeddings; test_prompts_page.py",
}
LEFT_OUT = (
    *("lorasmith demo", "lorasmith control", "lorasmith tensorboard", "--preview", "their.png"),
    *("--tuned pony", "--model vpred", "noob-v", "xl_base"),
)
"""What needs minutes, a run that goes on, a picture in a file, a model of another family; what
serves until it is ended."""

SHORTER = {
    "train": (
        "--set data.resolution=64 --set train.steps=2 --set sample.every_epochs=0"
        " --set adapter.rank=4 --set sample.at_start=false --set log.tensorboard=false"
    ),
    "train-network": "--max_train_steps=2",
    "generate": "--steps 1 --size 64x64",
}
"""What makes a command of the page a quick one on the small model."""

MODELS = ("sd15", "mine", "model.ckpt", "models/v1-5-pruned-emaonly")
LORAS = ("zorp", "style", "pose", "character", "old/zorp.pt", "runs/pictures/pictures")
FOLDERS = ("pictures", "photos", "DIR", "demo/dataset")
RUN = [
    page for page in PAGES if page.name not in ELSEWHERE and list(command_lines(page.read_text()))
]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in MODELS:
        path = tmp_path / (name if "." in Path(name).name[-5:] else f"{name}.safetensors")
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(ASSETS / "demo_base.safetensors", path)
    network = AdapterNetwork.create(load_model("demo").adapter_roots(), rank=4)
    numbers = torch.Generator().manual_seed(0)
    tensors = {
        name: 0.1 * torch.randn(tensor.shape, generator=numbers)
        for name, tensor in network.state_dict().items()
    }
    for name in LORAS:
        path = tmp_path / (name if "." in name else f"{name}.safetensors")
        path.parent.mkdir(exist_ok=True, parents=True)
        save_lora(path, tensors, {})
    for name in FOLDERS:
        small_dataset(tmp_path / name)
    (tmp_path / "masks").mkdir()
    for image in (tmp_path / "pictures").rglob("*.png"):
        Image.new("L", (64, 64), 255).save(tmp_path / "masks" / image.name)
    tuned = load_file(tmp_path / "mine.safetensors")
    changed = {
        name: 1.5 * tuned[name] for name in tuned if name.endswith(("to_q.weight", "q_proj.weight"))
    }
    metadata = read_safetensors_header(tmp_path / "mine.safetensors").metadata
    save_file(tuned | changed, tmp_path / "mine.safetensors", metadata)
    (tmp_path / "run.toml").write_text("[train]\nsteps = 2\n")
    (tmp_path / "train.sh").write_text(
        "accelerate launch train_network.py --pretrained_model_name_or_path=sd15.safetensors"
        " --train_data_dir=pictures/img --network_module=networks.lora --output_name=zorp"
    )
    return tmp_path


@pytest.mark.broad  # Minutes; test_docs holds the options, test_page_files the files.
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_commands_of_pages_run(page: Path, files: Path) -> None:
    for line in command_lines(page.read_text(encoding="utf-8")):
        if any(text in line for text in LEFT_OUT):
            continue
        words = shlex.split(line, comments=True)[1:]
        target = words[words.index(">") + 1] if ">" in words else None
        words = words[: words.index(">")] if target else words
        words += shlex.split(SHORTER.get(words[0], ""))
        result = CliRunner().invoke(
            cli, [str(Path(w).expanduser()) if w[0] == "~" else w for w in words]
        )
        assert result.exit_code == 0, f"{line}\n{result.output}"
        if target:
            (files / target).write_text(result.stdout, encoding="utf-8")


def test_every_page_with_commands_is_run_somewhere() -> None:
    assert {page.name for page in PAGES} >= set(ELSEWHERE)
    assert len(RUN) > 8
