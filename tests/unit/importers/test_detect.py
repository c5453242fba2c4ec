"""Files of other programs: sd-scripts' TOML, kohya_ss' JSON, LoRA_Easy_Training_Scripts."""

# ruff: noqa: E501 - the files are as they are

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorasmith.config.load import load_settings
from lorasmith.config.schema import for_folder
from lorasmith.core.errors import SettingsError
from lorasmith.importers.conversion import Conversion, to_toml
from lorasmith.importers.convert import convert_source
from lorasmith.importers.detect import is_lorasmiths, read_file
from lorasmith.importers.kohya_gui import NETWORK, OWN, RENAMED, TYPES, read_gui_json
from lorasmith.importers.sd_scripts.argv import read_argv
from lorasmith.importers.sd_scripts.table import ARGUMENTS


def converted(folder: Path, name: str, text: str) -> Conversion:
    (folder / name).write_text(text, encoding="utf-8")
    return convert_source(read_file(folder / name), complete=False)


CONFIG = """
pretrained_model_name_or_path = "base.safetensors"
[any_name]
train_data_dir = "pictures"
network_module = "networks.lora"
network_dim = 16
network_args = ["conv_dim=4"]
[another]
optimizer_args = ["betas=0.9,0.99"]
xformers = true
flip_aug = false
"""


def test_config_file(tmp_path: Path) -> None:
    values = converted(tmp_path, "config.toml", CONFIG).values
    assert values["model.path"] == "base.safetensors"
    assert (values["adapter.type"], values["adapter.rank"]) == ("c3lier", 16)
    assert values["optimizer.args"] == {"betas": (0.9, 0.99)}


def test_the_command_line_wins_over_config_file(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG, encoding="utf-8")
    source = read_argv([f"--config_file={tmp_path / 'config'}", "--network_dim=8"])
    result = convert_source(source)
    assert result.problems == []
    assert result.values["adapter.rank"] == 8
    bad = convert_source(read_argv([f"--config_file={tmp_path / 'nowhere'}"]))
    assert "no such file" in str(bad.problems[0])


def test_unknown_keys_of_a_file_are_noted_as_sd_scripts_ignores_them(tmp_path: Path) -> None:
    text = CONFIG + "\nnetwork_dimm = 3\nlr_restart_cycles = 1\nunset_thing = ''\n"
    (tmp_path / "c.toml").write_text(text, encoding="utf-8")
    read = convert_source(read_file(tmp_path / "c.toml"), complete=False)
    named = convert_source(read_argv([f"--config_file={tmp_path / 'c.toml'}"]), complete=False)
    for result in (read, named):
        assert result.problems == []
        assert result.values["adapter.rank"] == 16
        said = {remark.what: remark.why for remark in result.remarks}
        assert "did you mean --network_dim" in said["c.toml: network_dimm"]
        assert "--lr_scheduler_num_cycles" in said["c.toml: lr_restart_cycles"]
        assert "c.toml: unset_thing" not in said


DATASETS = """
[general]
enable_bucket = true
caption_extension = ".txt"
shuffle_caption = true

[[datasets]]
resolution = [512, 768]
batch_size = 4
keep_tokens = 2

  [[datasets.subsets]]
  image_dir = "hoge"
  num_repeats = 10
  class_tokens = "hoge girl"

  [[datasets.subsets]]
  image_dir = "reg"
  is_reg = true
  class_tokens = "girl"
  keep_tokens = 3
"""


def with_datasets(folder: Path, text: str, *argv: str) -> Conversion:
    (folder / "data.toml").write_text(text, encoding="utf-8")
    base = ["--pretrained_model_name_or_path=demo", "--network_module=networks.lora"]
    source = read_argv([*base, f"--dataset_config={folder / 'data.toml'}", *argv])
    return convert_source(source)


def test_datasets(tmp_path: Path) -> None:
    result = with_datasets(tmp_path, DATASETS, "--train_data_dir=ignored", "--flip_aug")
    assert result.problems == []
    assert result.values["data.folders"] == [
        {"path": "hoge", "repeats": 10, "caption": "hoge girl"},
        {
            "path": "reg", "repeats": 1, "reg": True, "caption": "girl",
            "captions": {"keep_tokens": 3},
        },
    ]  # fmt: skip
    assert result.values["data.resolution"] == [512, 768]
    assert result.values["train.batch"] == 4
    assert result.values["captions.shuffle"] is True
    assert result.values["buckets.enabled"] is True
    assert result.values["augment.flip"] is True
    assert "data.path" not in result.values
    read = load_settings(None, result.overrides(), for_training=True)
    assert read.captions.keep_tokens == 2
    reg = for_folder(read, read.data.folders[1])
    assert (reg.captions.keep_tokens, reg.captions.shuffle) == (3, True)


SEVERAL = """
[general]
enable_bucket = true
caption_extension = ".txt"
[[datasets]]
resolution = 64
batch_size = 2
  [[datasets.subsets]]
  image_dir = "a"
  num_repeats = 3
[[datasets]]
resolution = [96, 128]
batch_size = 1
bucket_no_upscale = true
max_bucket_reso = 512
  [[datasets.subsets]]
  image_dir = "a"
  flip_aug = true
  caption_prefix = "zorp,"
"""


def test_data_sets_of_several_resolutions(tmp_path: Path) -> None:
    result = with_datasets(tmp_path, SEVERAL)
    assert result.problems == []
    read = load_settings(None, result.overrides(), for_training=True)
    first, second = (for_folder(read, folder) for folder in read.data.folders)
    assert (first.data.resolution, first.train.batch, first.augment.flip) == (64, 2, False)
    assert (first.buckets.min, first.buckets.max, first.buckets.upscale) == (None, 1024, True)
    assert (second.data.resolution, second.train.batch, second.augment.flip) == ((96, 128), 1, True)
    assert (second.buckets.min, second.buckets.max, second.buckets.upscale) == (None, None, False)
    assert (first.captions.prefix, second.captions.prefix) == ("", "zorp,")
    written = tmp_path / "out.toml"
    written.write_text(to_toml(result, "test"), encoding="utf-8")
    assert load_settings(written).data == read.data


def test_data_sets_that_are_alike_keep_apart(tmp_path: Path) -> None:
    """Their regularisation images are matched to their own training images."""
    subsets = "".join(
        f"[[datasets]]\nresolution = 64\n  [[datasets.subsets]]\n  image_dir = '{name}'\n"
        f"  [[datasets.subsets]]\n  image_dir = '{name}-reg'\n  is_reg = true\n"
        for name in ("a", "b")
    )
    folders = with_datasets(tmp_path, subsets).values["data.folders"]
    assert [(f["path"], f["group"]) for f in folders] == [
        ("a", "dataset 1"), ("a-reg", "dataset 1"), ("b", "dataset 2"), ("b-reg", "dataset 2"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "where", "says"),
    [
        ("alpha_mask = true", "alpha_mask", "a setting of the whole run"),
        ("metadata_file = 'x'", "metadata_file", "not read"),
        ("num_repeat = 3", "num_repeat", "did you mean num_repeats"),
        ("num_repeats = 'x'", "", "not a whole number"),
        ("batch_size = 2", "batch_size", "not known in this place"),
    ],
)
def test_what_data_sets_cannot_say(tmp_path: Path, change: str, where: str, says: str) -> None:
    problems = with_datasets(tmp_path, f"{DATASETS}  {change}\n").problems
    assert any(where in p.where and says in str(p) for p in problems), problems


def test_data_sets_alone(tmp_path: Path) -> None:
    result = converted(tmp_path, "d.toml", DATASETS)
    values = result.values
    assert result.settings["data.folders"].source == "d.toml: image_dir"
    assert "not given" not in to_toml(result, "").partition("[[data.folders]]")[2]
    assert values["train.batch"] == 4
    assert not any(path.startswith(("adapter.", "optimizer.", "schedule.")) for path in values)


GUI: dict[str, Any] = {
    "LoRA_type": "LyCORIS/LoHa", "LyCORIS_preset": "full", "additional_parameters": "--max_grad_norm=0",
    "adaptive_noise_scale": 0.003, "block_dims": "", "bucket_no_upscale": True, "bucket_reso_steps": 1,
    "cache_latents": True, "caption_extension": ".txt", "clip_skip": "1", "conv_alpha": 4, "conv_dim": 8,
    "enable_bucket": True, "epoch": 2, "factor": -1, "flip_aug": False, "gradient_accumulation_steps": 4.0,
    "keep_tokens": "0", "learning_rate": 0.0001, "lr_scheduler": "cosine_with_restarts",
    "lr_scheduler_num_cycles": "", "lr_warmup": 10, "max_resolution": "512,512", "max_token_length": "75",
    "max_train_epochs": "", "min_snr_gamma": 10, "mixed_precision": "bf16", "multires_noise_discount": 0.2,
    "multires_noise_iterations": 8, "network_alpha": 16, "network_dim": 32, "network_dropout": 0,
    "noise_offset": 0.05, "noise_offset_type": "Multires", "num_cpu_threads_per_process": 2,
    "optimizer": "Prodigy", "optimizer_args": '"d_coef=1.0" "weight_decay=0.4"', "save_every_n_epochs": 1,
    "save_precision": "fp16", "seed": "", "text_encoder_lr": 0.0, "train_batch_size": 1,
    "train_data_dir": "/pics", "unet_lr": 0.0001, "unit": 1, "use_cp": True, "xformers": "xformers",
    "guidance_scale": 3.5, "flux1_checkbox": False, "sd3_text_encoder_batch_size": 1,
}  # fmt: skip


def test_what_is_wrong_in_additional_parameters_names_the_field(tmp_path: Path) -> None:
    table = {**GUI, "additional_parameters": "--foo=1"}
    (problem,) = converted(tmp_path, "preset.json", json.dumps(table)).problems
    assert problem.where == "preset.json: additional_parameters: --foo"


def test_gui_json(tmp_path: Path) -> None:
    result = converted(tmp_path, "preset.json", json.dumps(GUI))
    assert result.problems == []
    expected = {
        "data.path": "/pics", "data.resolution": 512, "captions.extension": ".txt",
        "captions.trigger_in_front": False,
        "buckets.enabled": True, "buckets.step": 8, "buckets.upscale": False,
        "adapter.type": "loha", "adapter.rank": 32, "adapter.alpha": 16.0,
        "adapter.conv_rank": 8, "adapter.conv_alpha": 4.0, "adapter.tucker": True,
        "adapter.text_encoder": False, "adapter.targets": ["full"],
        "optimizer.name": "Prodigy", "optimizer.lr": 1e-4, "optimizer.unet_lr": 1e-4,
        "optimizer.args": {"d_coef": 1.0, "weight_decay": 0.4}, "optimizer.max_grad_norm": 0.0,
        "schedule.name": "cosine_with_restarts", "schedule.cycles": 2, "schedule.warmup": 0.1,
        "loss.min_snr_gamma": 10.0, "loss.zero_terminal_snr": False, "loss.multires_iterations": 8, "loss.multires_discount": 0.2,
        "preservation.enabled": False, "train.epochs": 2, "train.batch": 1,
            "train.accumulation": 4, "train.precision": "bf16",
        "model.prediction": "epsilon", "model.clip_skip": 1, "model.max_tokens": 75,
        "model.defaults": False, "save.name": "last", "save.every_epochs": 1, "save.precision": "fp16",
        "sample.every_epochs": None, "sample.at_start": False, "log.tensorboard": False,
    }  # fmt: skip
    assert result.values == expected


def test_gui_says_what_it_cannot(tmp_path: Path) -> None:
    wrong = {**GUI, "flux1_checkbox": True, "LoRA_type": "Flux1", "shufle_caption": True}
    texts = [str(p) for p in converted(tmp_path, "x.json", json.dumps(wrong)).problems]
    for says in ("neither Stable Diffusion", "'Flux1' is not known"):
        assert any(says in text for text in texts), texts
    remarks = converted(tmp_path, "x.json", json.dumps(wrong)).remarks
    assert any("did you mean shuffle_caption" in remark.why for remark in remarks)


def test_gui_fields_that_a_file_lacks_are_the_windows_own(tmp_path: Path) -> None:
    """As kohya_ss fills them: what its fields show at the start."""
    table = {
        "LoRA_type": "Standard", "epoch": 3, "learning_rate": 1e-4, "unet_lr": 1e-4,
        "text_encoder_lr": 5e-5, "network_dim": 8, "network_alpha": 8, "optimizer": "AdamW",
        "lr_scheduler": "constant", "train_batch_size": 1,
    }  # fmt: skip
    result = converted(tmp_path, "preset.json", json.dumps(table))
    assert result.problems == []
    expected = {
        "captions.extension": ".txt", "buckets.enabled": True, "buckets.upscale": False,
        "train.precision": "fp16", "save.precision": "fp16", "save.every_epochs": 1,
        "data.resolution": 512, "train.epochs": 3, "schedule.warmup": 0.1,
        "schedule.name": "constant_with_warmup",
    }  # fmt: skip
    assert {path: result.values[path] for path in expected} == expected
    said = {remark.what for remark in result.remarks if remark.kind == "noted"}
    for field in ("caption_extension", "enable_bucket", "bucket_no_upscale", "mixed_precision",
                  "max_bucket_reso", "lr_warmup", "save_precision", "max_resolution"):  # fmt: skip
        assert f"no {field} in the file" in said
    assert "no epoch in the file" not in said
    assert not any("network_dim in" in text or "conv_dim" in text for text in said)


def test_gui_has_a_number_of_steps_where_a_file_has_neither(tmp_path: Path) -> None:
    values = converted(tmp_path, "p.json", '{"LoRA_type": "Standard", "epoch": null}').values
    assert (values["train.steps"], values["adapter.rank"], values["optimizer.lr"]) == (
        1600,
        8,
        1e-4,
    )
    assert values["optimizer.text_encoder_lr"] == 1e-4
    eight = converted(tmp_path, "q.json", '{"LoRA_type": "Standard", "use_8bit_adam": true}')
    assert eight.problems == []
    assert eight.values["optimizer.name"] == "AdamW8bit"


@pytest.mark.parametrize(
    ("unet", "text", "parts"),
    [
        (1e-4, "", ("unet",)), (1e-4, 0, ("unet",)), ("", "5e-5", ("text_encoder",)),
        (0, 0, ("unet", "text_encoder")), ("0.0001", "0.00005", ("unet", "text_encoder")),
    ],
)  # fmt: skip
def test_gui_rates_say_what_is_trained(unet: Any, text: Any, parts: tuple[str, ...]) -> None:
    table = {**GUI, "learning_rate": 1e-3, "unet_lr": unet, "text_encoder_lr": text}
    settings_ = load_settings(
        None, convert_source(read_gui_json(table, "x"), complete=False).overrides()
    )
    trained = tuple(p for p in ("unet", "text_encoder") if getattr(settings_.adapter, p))
    assert trained == parts
    if len(parts) == 2 and not unet:
        assert {"unet": 1e-3, "text_encoder": 1e-3}.items() <= settings_.optimizer.lrs.items()


def test_gui_counts_steps_in_the_folder(tmp_path: Path) -> None:
    """ceil(images with repeats / batch / accumulation * epochs), twice that with a reg folder."""
    for number in range(5):
        (tmp_path / "img" / "10_zorp").mkdir(parents=True, exist_ok=True)
        (tmp_path / "img" / "10_zorp" / f"{number}.PNG").touch()
    (tmp_path / "img" / "10_zorp" / "0.txt").touch()
    table = {
        **GUI, "train_data_dir": str(tmp_path / "img"), "train_batch_size": 4, "epoch": 3,
        "gradient_accumulation_steps": 2, "max_train_steps": "",
    }  # fmt: skip
    assert converted(tmp_path, "x.json", json.dumps(table)).values["train.steps"] == 19
    table["reg_data_dir"] = str(tmp_path / "img")
    result = converted(tmp_path, "x.json", json.dumps(table))
    assert result.values["train.steps"] == 38
    assert any("regularisation" in remark.why for remark in result.remarks)
    for field in ("epoch", "train_batch_size", "gradient_accumulation_steps"):
        for odd in ("1e999", "nan", -3, "x", [1]):
            read_gui_json({**table, field: odd}, "x")
    table["max_train_steps"] = "700"
    assert converted(tmp_path, "x.json", json.dumps(table)).values["train.steps"] == 700


@pytest.mark.parametrize(
    ("kind", "has", "lacks"),
    [
        ("LyCORIS/LoHa", {"dora_wd": True, "use_tucker": True}, {"factor": 4, "rescaled": True}),
        ("LyCORIS/LoKr", {"factor": 4, "decompose_both": True}, {"constrain": 1.0}),
        ("LyCORIS/Diag-OFT", {"constrain": 1.0, "rescaled": True}, {"dora_wd": True}),
        ("LyCORIS/BOFT", {}, {"constrain": 1.0, "rescaled": True}),
    ],
)
def test_gui_passes_on_what_a_type_has(
    kind: str, has: dict[str, Any], lacks: dict[str, Any]
) -> None:
    plain = {**GUI, "LoRA_type": kind, "use_cp": False, "use_tucker": False, "factor": -1}

    def network(changes: dict[str, Any]) -> dict[str, Any]:
        result = convert_source(read_gui_json({**plain, **changes}, "x"), complete=False)
        assert result.problems == []
        return {k: v for k, v in result.values.items() if k.startswith("adapter.")}

    assert network(lacks) == network({})
    for field, value in has.items():
        assert network({field: value}) != network({}), field


def test_metadata_of_a_preset_stops_nothing(tmp_path: Path) -> None:
    table = {**GUI, "metadata_description": "x", "metadata_title": "y", "metadata_tags": "z",
             "huggingface_repo_id": "me/x", "wandb_run_name": "w", "log_with": "wandb",
             "save_model_as": "pt", "========== Model ==========": None}  # fmt: skip
    result = converted(tmp_path, "preset.json", json.dumps(table))
    assert result.problems == []
    for name in ("metadata_description", "huggingface_repo_id", "save_model_as"):
        assert any(f"--{name}" in remark.what for remark in result.remarks), name
    assert result.values["log.wandb_name"] == "w"


@pytest.mark.parametrize("kind", TYPES)
def test_every_kind_of_the_gui(kind: str) -> None:
    table = {**GUI, "LoRA_type": kind, "conv_dim": GUI["network_dim"]}
    result = convert_source(read_gui_json(table, "x"), complete=False)
    assert ("adapter.type" in result.values) != bool(result.problems)


def test_gui_fields_do_not_overlap() -> None:
    assert not (set(NETWORK) | set(OWN)) & set(ARGUMENTS)
    assert set(RENAMED.values()) <= set(ARGUMENTS)


# The example of its README.
EASY = """
[[subsets]]
num_repeats = 10
keep_tokens = 1
caption_extension = ".txt"
shuffle_caption = true
flip_aug = false
color_aug = false
random_crop = true
is_reg = false
image_dir = "F:/Desktop/stable diffusion/LoRA/lora_datasets/atla_data/10_atla"

[noise_args]

[sample_args]

[logging_args]

[general_args.args]
pretrained_model_name_or_path = "F:/Desktop/stable diffusion/LoRA/nai-fp16.safetensors"
mixed_precision = "bf16"
seed = 23
clip_skip = 2
xformers = true
max_data_loader_n_workers = 1
persistent_data_loader_workers = true
max_token_length = 225
prior_loss_weight = 1.0
max_train_epochs = 2

[general_args.dataset_args]
resolution = 768
batch_size = 2

[network_args.args]
network_dim = 8
network_alpha = 1.0

[optimizer_args.args]
optimizer_type = "AdamW8bit"
lr_scheduler = "cosine"
learning_rate = 0.0001
lr_scheduler_num_cycles = 2
warmup_ratio = 0.05

[saving_args.args]
output_dir = "F:/Desktop"
save_precision = "fp16"
save_model_as = "safetensors"
output_name = "test"
save_every_n_epochs = 1

[bucket_args.dataset_args]
enable_bucket = true
min_bucket_reso = 256
max_bucket_reso = 1024
bucket_reso_steps = 64

[optimizer_args.args.optimizer_args]
weight_decay = 0.1
betas = "0.9,0.99"
"""


def test_easy_toml(tmp_path: Path) -> None:
    result = converted(tmp_path, "easy.toml", EASY)
    assert result.problems == []
    values = result.values
    folder = "F:/Desktop/stable diffusion/LoRA/lora_datasets/atla_data/10_atla"
    assert values["data.folders"] == [{"path": folder, "repeats": 10}]
    assert result.settings["data.folders"].source == "easy.toml: image_dir"
    assert values["captions.keep_tokens"] == 1
    assert values["data.resolution"] == 768
    assert values["train.batch"] == 2
    assert values["adapter.type"] == "lora"
    assert values["schedule.warmup"] == 0.05
    assert values["optimizer.args"] == {"weight_decay": 0.1, "betas": (0.9, 0.99)}
    assert values["augment.random_crop"] is True
    assert values["buckets.max"] == 1024
    assert load_settings(None, result.overrides(), for_training=True)


def test_easy_toml_of_lycoris(tmp_path: Path) -> None:
    text = EASY + '\n[network_args.args.network_args]\nalgo = "lokr"\nfactor = "4"\nconv_dim = 2\n'
    values = converted(tmp_path, "easy.toml", text).values
    assert (values["adapter.type"], values["adapter.factor"]) == ("lokr", 4)


def test_easy_json(tmp_path: Path) -> None:
    table = {
        "base_model": "nai.ckpt", "img_folder": "pics", "output_folder": "out", "net_dim": 128,
        "alpha": 64, "scheduler": "cosine_with_restarts", "cosine_restarts": 3,
        "warmup_lr_ratio": 0.05, "max_steps": 400, "train_resolution": 512,
        "buckets": True, "min_bucket_resolution": 320, "max_bucket_resolution": 960,
        "shuffle_captions": True, "test_seed": 23, "use_8bit_adam": True, "clip_skip": 2,
        "save_json_only": True, "caption_extension": ".txt", "max_clip_token_length": 150,
    }  # fmt: skip
    result = converted(tmp_path, "easy.json", json.dumps(table))
    assert result.problems == []
    values = result.values
    assert (values["adapter.rank"], values["adapter.alpha"]) == (128, 64.0)
    assert (values["schedule.cycles"], values["schedule.warmup"]) == (3, 0.05)
    assert values["optimizer.lr"] == 1e-3, "its own default"
    assert values["optimizer.name"] == "AdamW8bit"
    assert values["train.seed"] == 23


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("x.cfg", "hello", "is not known"),
        ("x.toml", "[adapter]\nrank = 3", "lorasmith's own"),
        ("x.toml", "a = = 1", "is not TOML"),
        ("x.toml", "zzz = 1", "holds nothing that is known"),
        ("x.toml", "vae = 'x'\nseed = 3", "holds nothing that is known"),
        ("x.json", "[1]", "holds no table"),
        ("x.json", '{"nodes": [{"id": 1}], "links": [], "version": 0.4}', "a ComfyUI workflow"),
        ("x.toml", '{"nodes": [], "links": []}', "a ComfyUI workflow"),
        ("x.json", '{"3": {"class_type": "KSampler", "inputs": {"seed": 1}}}', "API form"),
        ("x.json", '{"_class_name": "StableDiffusionPipeline", "unet": []}', "model_index"),
        (
            "x.json",
            '{"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6"}',
            "a part of a diffusers model",
        ),
        (
            "x.json",
            '{"architectures": ["CLIPTextModel"], "model_type": "clip"}',
            "transformers model",
        ),
        ("x.json", '{"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}', "a tokenizer"),
        (
            "x.json",
            '{"training_method": "LORA", "model_type": "STABLE_DIFFUSION_15"}',
            "OneTrainer",
        ),
        ("x.json", '[{"path": "a", "include_subdirectories": true}]', "OneTrainer"),
        ("x.json", '{"job": "extension", "config": {"process": [{}]}}', "ai-toolkit"),
        ("x.yaml", 'job: extension\nconfig:\n  name: "x"\n  process: []\n', "ai-toolkit"),
        ("x.yaml", "compute_environment: LOCAL_MACHINE\nmixed_precision: fp16\n", "accelerate"),
        (
            "x.json",
            '{"compute_environment": "LOCAL_MACHINE", "mixed_precision": "fp16"}',
            "accelerate",
        ),
        (
            "x.json",
            '{"sd_model_checkpoint": "a", "CLIP_stop_at_last_layers": 2}',
            "web UI's config",
        ),
        ("x.json", '{"txt2img/Prompt/visible": true, "txt2img/Prompt/value": ""}', "ui-config"),
        ("x.json", '{"--model_type": "lora", "--lora_rank": 16, "--seed": 1}', "SimpleTuner"),
        ("x.json", '[{"id": "a", "type": "local", "instance_data_dir": "x"}]', "SimpleTuner"),
        ("x.toml", '[[datasets]]\nimage_directory = "x"\ncache_directory = "y"', "musubi"),
        (
            "x.toml",
            'output_dir = "x"\nmicro_batch_size_per_gpu = 1\n[adapter]\ntype = "lora"',
            "diffusion-pipe",
        ),
        (
            "x.json",
            '{"max_resolution": "512", "epoch": 1, "no_token_padding": false, "learning_rate_te": 0}',
            "DreamBooth",
        ),
        (
            "x.json",
            '{"full_path": true, "create_caption": true, "learning_rate": 1e-5}',
            "fine-tuning",
        ),
        (
            "x.json",
            '{"token_string": "zorp", "init_word": "cat", "learning_rate": 1e-5}',
            "textual inversion",
        ),
        ("x.json", '{"/a/1": {"caption": "x", "tags": "y"}}', "captions and tags of pictures"),
        (
            "x.toml",
            "[model]\nmodels_dir = ''\n[folders]\n[accelerate_launch]\n",
            "kohya_ss window itself",
        ),
        ("x.json", "<!DOCTYPE html><html>", "a web page"),
        ("x.json", "no JSON at all", "is not JSON"),
        ("x.txt", "<!DOCTYPE html><html>", "a web page"),
        ("x.json", "{", "is not JSON"),
    ],
)
def test_what_no_reader_knows(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=says):
        read_file(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.json", CONFIG), ("x.txt", CONFIG), ("x.toml", json.dumps(GUI)), ("x", json.dumps(GUI)),
        ("x.txt", "accelerate launch train_network.py --network_dim=16 --network_module=networks.lora"),
        ("x.toml", "accelerate launch train_network.py --network_dim=16 --network_module=networks.lora"),
    ],
)  # fmt: skip
def test_files_are_told_by_what_they_hold(tmp_path: Path, name: str, text: str) -> None:
    assert converted(tmp_path, name, text).values["adapter.rank"] in (16, 32)


@pytest.mark.parametrize("argv", [["--min_snr_gamma=5", "--flip_aug"], ["--v2", "--vae=x"]])
def test_what_was_converted_is_ours(tmp_path: Path, argv: list[str]) -> None:
    """Sections such as [model] and settings such as unet_lr have sd-scripts' names, or people's."""
    base = ["--pretrained_model_name_or_path=demo", "--network_module=networks.lora"]
    result = convert_source(read_argv([*base, *argv, "--unet_lr=1e-4"]), complete=False)
    (tmp_path / "run.toml").write_text(to_toml(result, "x"), encoding="utf-8")
    assert is_lorasmiths(tmp_path / "run.toml")
    for text in (
        "",
        "version = 1",
        "[optimizer]\nlearning_rate = 1e-4",
        "[adapter]\nrank = 'x",
        "x",
    ):
        (tmp_path / "own.toml").write_text(text, encoding="utf-8")
        assert is_lorasmiths(tmp_path / "own.toml"), "whose mistakes `train` itself explains"
    theirs = '[model]\npretrained_model_name_or_path = "x"\n[optimizer]\nunet_lr = 1e-4\n'
    (tmp_path / "theirs.toml").write_text(theirs, encoding="utf-8")
    assert not is_lorasmiths(tmp_path / "theirs.toml")


def test_a_preset_of_lora_scripts_says_what_it_changes_alone(tmp_path: Path) -> None:
    text = '[metadata]\nname = "n"\nversion = "1"\n[data]\nresolution = "768,768"\nenable_bucket = true\nmax_bucket_reso = 2048\n'
    result = converted(tmp_path, "p.toml", text)
    assert result.problems == []
    assert result.values == {"data.resolution": 768, "buckets.enabled": True, "buckets.max": 2048}


@pytest.mark.parametrize("text", [CONFIG, DATASETS, EASY], ids=["config", "datasets", "easy"])
def test_the_settings_file_says_the_same_and_why(tmp_path: Path, text: str) -> None:
    result = converted(tmp_path, "in.toml", text)
    written = to_toml(result, "Made from in.toml.\nNot by hand.")
    (tmp_path / "out.toml").write_text(written, encoding="utf-8")
    assert load_settings(tmp_path / "out.toml") == load_settings(None, result.overrides())
    for line in written.splitlines():
        assert "#" in line or "=" not in line or line.startswith(("version", *FOLDER_KEYS))


FOLDER_KEYS = ("path", "repeats", "reg", "caption", "keep_tokens", "weight")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(
    changes=st.dictionaries(st.sampled_from([*GUI, *NETWORK, *ARGUMENTS]), json_values, max_size=6)
)
def test_no_json_breaks_it(changes: dict[str, Any]) -> None:
    result = convert_source(read_gui_json({**GUI, **changes}, "x"), complete=False)
    with contextlib.suppress(SettingsError):
        load_settings(None, result.overrides())
