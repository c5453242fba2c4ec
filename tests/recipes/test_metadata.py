"""``ss_*`` of a LoRA file have the forms that sd-scripts writes and other tools parse."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from safetensors import safe_open
from tests.recipes.runs import command, run_here, small_dataset

from lorasmith.models.open import DEMO
from lorasmith.training.runs.metadata import file_hashes

PEERS = os.environ.get("LORASMITH_PEERS")
# Those that say when and by which program, which would make equal runs unequal files.
CLOCK = {"session_id", "training_started_at", "training_finished_at", "sd_scripts_commit_hash"}


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("metadata")
    base = folder / "a base.v1.safetensors"
    shutil.copy(DEMO, base)
    arguments = command(
        small_dataset(folder / "data"), folder / "out", "r",
        train__steps="1", train__accumulation="2", model__max_tokens="150",
        augment__face_crop="2,4", optimizer__args__weight_decay="0.01",
        optimizer__args__betas="[0.9, 0.99]", save__every_epochs="0",
    )  # fmt: skip
    arguments[arguments.index("demo")] = str(base)
    run_here(arguments)
    with safe_open(folder / "out" / "r" / "r.safetensors", "pt") as file:
        return dict(file.metadata())


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("key", "value"),
    [("sd_model_name", "a base.v1.safetensors"),
     ("new_sd_model_hash", hashlib.sha256(DEMO.read_bytes()).hexdigest()),
     ("sd_model_hash", hashlib.sha256(DEMO.read_bytes()[0x100000:0x110000]).hexdigest()[:8]),
     ("num_train_images", "10"), ("num_reg_images", "3"),
     ("batch_size_per_device", "2"), ("total_batch_size", "4"),
     ("optimizer", "torch.optim.adamw.AdamW(weight_decay=0.01,betas=(0.9, 0.99))"),
     ("clip_skip", "None"), ("max_token_length", "150"), ("face_crop_aug_range", "(2.0, 4.0)"),
     ("resolution", "(64, 64)"), ("network_alpha", "4.0"), ("network_dim", "4"),
     ("learning_rate", "0.002"), ("unet_lr", "None"), ("mixed_precision", "no"),
     ("enable_bucket", "True"), ("bucket_no_upscale", "False"), ("min_bucket_reso", "32"),
     ("max_bucket_reso", "128"), ("fp8_base", "False"), ("resize_interpolation", "None"),
     ("max_grad_norm", "1.0"), ("seed", "0"), ("lowram", "False"), ("vae_name", None)],
)  # fmt: skip
def test_forms_of_values(metadata: dict[str, str], key: str, value: str | None) -> None:
    assert metadata.get(f"ss_{key}") == value


def test_tables(metadata: dict[str, str]) -> None:
    assert json.loads(metadata["ss_dataset_dirs"]) == {"2_zorp": {"n_repeats": 2, "img_count": 5}}
    buckets = json.loads(metadata["ss_bucket_info"])
    assert buckets["buckets"]["0"]["resolution"] == [64, 64]
    assert json.loads(metadata["ss_tag_frequency"])["2_zorp"]["zorp"] == 5


@pytest.mark.skipif(not PEERS, reason="LORASMITH_PEERS names no folder with sd-scripts")
def test_every_value_of_sd_scripts_is_there(metadata: dict[str, str]) -> None:
    source = (Path(str(PEERS)) / "sd-scripts" / "train_network.py").read_text("utf-8")
    theirs = set(re.findall(r'"ss_(\w+)"', source)) - CLOCK
    # Where there is no VAE of its own, no network argument and a single dataset.
    theirs -= {"vae_name", "vae_hash", "new_vae_hash", "network_args", "datasets"}
    assert len(theirs) > 70
    assert not {key for key in theirs if f"ss_{key}" not in metadata}


def test_hashes_are_remembered_until_the_file_changes(tmp_path: Path) -> None:
    path, memo = tmp_path / "m.ckpt", tmp_path / "memo.json"
    path.write_bytes(b"first")
    os.utime(path, (1, 1))
    first = file_hashes(path, memo)
    assert first[1] == hashlib.sha256(b"first").hexdigest()
    text = memo.read_text().replace(str(first[1]), "remembered")
    memo.write_text(text)
    assert file_hashes(path, memo)[1] == "remembered"
    path.write_bytes(b"other")
    assert file_hashes(path, memo)[1] == hashlib.sha256(b"other").hexdigest()
    assert file_hashes(tmp_path, memo) == (None, None)
