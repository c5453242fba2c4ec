"""Arguments of how a run goes: length, validation, saving, log, and how the machine is used."""

from __future__ import annotations

from lorasmith.config.checks.run import NO_WANDB, has_wandb
from lorasmith.importers.sd_scripts.argument import (
    Argument,
    ConversionBuilder,
    always,
    by,
    dropped,
    refused,
    same,
)
from lorasmith.importers.sd_scripts.sample_prompts import samples
from lorasmith.importers.sd_scripts.values import Kind

WANDB_PROJECT = "network_train"
"""sd-scripts' own, where none is named."""

KEY_STAYS_OUT = "keys are not written into settings; run `wandb login` once, or set WANDB_API_KEY"

PRECISIONS = {"no": "fp32", "fp16": "fp16", "bf16": "bf16"}
SAVE_PRECISIONS = {"float": "fp32", "fp32": "fp32", "fp16": "fp16", "bf16": "bf16"}


def length(m: ConversionBuilder) -> None:
    if m.has("max_train_epochs"):
        m.take("max_train_epochs")
        m.drop("max_train_steps", "--max_train_epochs decides")
    else:
        m.take("max_train_steps")


def seed(m: ConversionBuilder) -> None:
    if m.has("seed"):
        m.take("seed")
    else:
        m.note("no --seed", "sd-scripts draws one then; here it is 0, so that the run repeats")


def precision(m: ConversionBuilder) -> None:
    dtype = str(m.value("mixed_precision")).lower()
    if dtype in PRECISIONS:
        m.take("mixed_precision", PRECISIONS[dtype])
    else:
        full = dtype in ("fp32", "float", "float32", "32")
        hint = "take no, which computes in fp32" if full else "take bf16"
        m.refuse("mixed_precision", f"{dtype!r} is none of no, fp16 and bf16", hint)


def validation(m: ConversionBuilder) -> None:
    names = ("validation_seed", "validate_every_n_epochs", "validate_every_n_steps")
    if not m.value("validation_split"):
        for name in (*names, "max_validation_steps"):
            m.drop(name, "it does nothing without --validation_split")
        return
    seed = m.value("validation_seed")
    if seed is None:
        seed = m.value("seed") or 0
    m.take("validation_seed", seed, "seed")
    steps, epochs = m.value("validate_every_n_steps"), m.value("validate_every_n_epochs")
    if steps:
        m.take("validate_every_n_steps", steps)
    m.take("validate_every_n_epochs", epochs or (None if steps else 1))
    batches = m.value("max_validation_steps")
    most = batches * m.value("train_batch_size") if batches else None
    m.take("max_validation_steps", most, "train_batch_size")


def saving(m: ConversionBuilder) -> None:
    m.take("output_name", m.value("output_name") or "last")
    if m.has("output_dir"):
        m.put(
            "save.layout",
            "flat",
            "output_dir",
            note="the LoRA files lie in it, and the run's own folder beside them, hidden",
        )
    else:
        m.note("no --output_dir", "sd-scripts stops without it; here the run's folder is in runs/")
    ratio, every = m.value("save_n_epoch_ratio"), m.value("save_every_n_epochs")
    if ratio and m.has("max_train_epochs"):
        each = m.value("max_train_epochs") // ratio or 1
        m.take("save_n_epoch_ratio", each, "max_train_epochs")
        m.drop("save_every_n_epochs", "--save_n_epoch_ratio decides")
        every = each
    elif ratio:
        m.take("save_n_epoch_ratio", 1)
        why = "how many epochs the steps are is not known yet, so each one's LoRA is saved"
        m.note(m.shown("save_n_epoch_ratio"), why)
        every = 1
    else:
        m.take("save_every_n_epochs", every or None)
    steps = m.value("save_every_n_steps")
    if steps:
        m.take("save_every_n_steps", steps)
    _kept(m, every, steps)
    dtype = m.value("save_precision")
    if dtype is not None and str(dtype).lower() not in SAVE_PRECISIONS:
        m.refuse("save_precision", f"{dtype!r} is none of float, fp16 and bf16", "take fp16")
    else:
        m.take("save_precision", SAVE_PRECISIONS[str(dtype or "float").lower()])
    form = str(m.value("save_model_as")).lower()
    if form != "safetensors":
        m.note(m.shown("save_model_as"), "LoRA files are safetensors, which every program reads")
    elif "save_model_as" in m.given:
        m.always("save_model_as", "LoRA files are safetensors")


def _kept(m: ConversionBuilder, epochs: int | None, steps: int | None) -> None:
    """Both rules of sd-scripts keep a number of the newest files, and so does ours, of all."""
    last_epochs, last_steps = m.value("save_last_n_epochs"), m.value("save_last_n_steps")
    counts = {}
    if epochs and last_epochs:
        counts["save_last_n_epochs"] = last_epochs
    elif last_epochs:
        m.drop("save_last_n_epochs", "it does nothing without --save_every_n_epochs")
    if steps and last_steps:
        counts["save_last_n_steps"] = last_steps // steps + 1
    elif last_steps:
        m.drop("save_last_n_steps", "it does nothing without --save_every_n_steps")
    if counts and bool(epochs) and bool(steps):
        m.note(
            m.shown(next(iter(counts))),
            "files are kept by one number, whether of epochs or of steps; with both, all are kept",
        )
    elif counts:
        ((name, count),) = counts.items()
        note = f"{count} files are within {last_steps} steps" if name.endswith("steps") else ""
        m.put("save.keep_last", count, name, note=note)


def log(m: ConversionBuilder) -> None:
    tools = str(m.value("log_with") or "").lower()
    to_tensorboard = m.has("logging_dir") or (bool(tools) and tools != "wandb")
    if tools in ("wandb", "all"):
        project = m.value("log_tracker_name") or WANDB_PROJECT
        m.put("log.wandb", project, "log_with", "log_tracker_name")
        if m.has("wandb_run_name"):
            m.take("wandb_run_name")
        if not has_wandb():
            m.note(m.shown("log_with"), f"{NO_WANDB} here; without it nothing is sent there")
        if m.has("wandb_api_key"):
            m.drop("wandb_api_key", KEY_STAYS_OUT)
    else:
        if tools not in ("", "tensorboard"):
            m.note(m.shown("log_with"), f"{tools} is not known; the log is TensorBoard's")
        for name in ("log_tracker_name", "wandb_run_name", "wandb_api_key"):
            m.drop(name, "it does nothing without --log_with wandb")
    note = "the files lie in the run's own folder" if to_tensorboard else ""
    m.take("logging_dir", to_tensorboard, "log_with", note=note)


def machine(m: ConversionBuilder) -> None:
    arguments = [
        name
        for name in ("cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk")
        if m.has(name)
    ]
    if arguments:
        m.put("performance.cache_text", True, *arguments)
    if m.value("vae_batch_size") and "vae_batch_size" in m.given:
        m.take("vae_batch_size")
    backend = str(m.value("dynamo_backend")).lower()
    if m.has("torch_compile") and backend != "inductor":
        m.drop("dynamo_backend", f"models are compiled with inductor, not {backend}")
    elif "dynamo_backend" in m.given:
        m.drop(
            "dynamo_backend",
            "inductor is used in any case"
            if m.has("torch_compile")
            else "it does nothing without --torch_compile",
        )
    arguments = [name for name in ("fp8_base", "fp8_base_unet") if m.has(name)]
    if arguments:
        m.put("train.base_precision", "fp8", *arguments)


RUN = (
    by(length, "max_train_steps", "whole", 1600, "train.steps"),
    by(length, "max_train_epochs", "whole", None, "train.epochs"),
    same("train_batch_size", "whole", 1, "train.batch"),
    same("gradient_accumulation_steps", "whole", 1, "train.accumulation"),
    by(seed, "seed", "whole", None, "train.seed"),
    by(precision, "mixed_precision", "text", "no", "train.precision"),
    same("gradient_checkpointing", "flag", False, "train.gradient_checkpointing", on=True),
    same("validation_split", "number", 0.0, "validation.split"),
    by(validation, "validation_seed", "whole", None, "validation.seed"),
    by(validation, "validate_every_n_epochs", "whole", None, "validation.every_epochs"),
    by(validation, "validate_every_n_steps", "whole", None, "validation.every_steps"),
    by(validation, "max_validation_steps", "whole", None, "validation.pictures"),
)

_STATES = "states are kept as long as they are of use"

SAVING = (
    same("output_dir", "text", None, "save.output"),
    by(saving, "output_name", "text", None, "save.name"),
    by(saving, "save_every_n_epochs", "whole", None, "save.every_epochs"),
    by(saving, "save_every_n_steps", "whole", None, "save.every_steps"),
    by(saving, "save_n_epoch_ratio", "whole", None, "save.every_epochs"),
    by(saving, "save_last_n_epochs", "whole", None, "save.keep_last"),
    by(saving, "save_last_n_steps", "whole", None, "save.keep_last"),
    by(saving, "save_precision", "text", None, "save.precision"),
    by(saving, "save_model_as", "text", "safetensors"),
    same("training_comment", "text", None, "save.comment"),
    same("metadata_author", "text", None, "save.author"),
    same("metadata_license", "text", None, "save.license"),
    same("metadata_trigger_phrase", "text", None, "captions.trigger"),
    always("save_state", "flag", False, "what `lorasmith train --resume` needs is always kept"),
    always(
        "save_state_on_train_end", "flag", False,
        "what `lorasmith train --resume` needs is always kept",
    ),
    dropped("save_last_n_epochs_state", "whole", None, _STATES),
    dropped("save_last_n_steps_state", "whole", None, _STATES),
    refused(
        "resume", "text", None, "states of sd-scripts cannot be read",
        "go on from its last LoRA file with --network_weights",
    ),
    refused("initial_epoch", "whole", None, "a run begins at its beginning"),
    refused("initial_step", "whole", None, "a run begins at its beginning"),
    refused("skip_until_initial_step", "flag", False, "a run begins at its beginning"),
    dropped("no_metadata", "flag", False, "the file always says how it was trained"),
    *(
        dropped(f"metadata_{name}", "text", None, "the file's metadata has no place for it here")
        for name in (
            *("title", "description", "tags", "usage_hint", "thumbnail", "merged_from"),
            *("preprocessor", "is_negative_embedding"),
        )
    ),
    dropped("use_safetensors", "flag", False, "LoRA files are safetensors in any case"),
)  # fmt: skip


def _upload(name: str, kind: Kind = "text") -> Argument:
    default = False if kind == "flag" else None
    return dropped(name, kind, default, "nothing is uploaded; upload the file yourself")


UPLOADS = (
    _upload("huggingface_repo_id"),
    _upload("huggingface_repo_type"),
    _upload("huggingface_path_in_repo"),
    _upload("huggingface_token"),
    _upload("huggingface_repo_visibility"),
    _upload("save_state_to_huggingface", "flag"),
    _upload("resume_from_huggingface", "flag"),
    _upload("async_upload", "flag"),
)

SAMPLES = (
    by(samples, "sample_prompts", "text", None, "sample.prompts", "sample.negative", "sample.*"),
    by(samples, "sample_every_n_steps", "whole", None, "sample.every_steps"),
    by(samples, "sample_every_n_epochs", "whole", None, "sample.every_epochs"),
    by(samples, "sample_at_first", "flag", False, "sample.at_start"),
    by(samples, "sample_sampler", "text", "ddim", "sample.sampler"),
)

LOG = (
    by(log, "logging_dir", "text", None, "log.tensorboard"),
    by(log, "log_with", "text", None, "log.tensorboard", "log.wandb"),
    dropped("log_prefix", "text", None, "the log lies in the run's own folder"),
    by(log, "log_tracker_name", "text", None, "log.wandb"),
    dropped("log_tracker_config", "text", None, "trackers have no settings of their own here"),
    by(log, "wandb_run_name", "text", None, "log.wandb_name"),
    by(log, "wandb_api_key", "text", None),
    always("log_config", "flag", False, "the run's folder holds all settings"),
    dropped("console_log_level", "text", None, "what is printed does not change what is learned"),
    dropped("console_log_file", "text", None, "the run's folder holds all that happened"),
    dropped("console_log_simple", "flag", False, "what is printed does not change what is learned"),
)

_ATTENTION = "PyTorch's own attention is always used, which is as fast and as lean"
_LOADER = "pictures are read ahead by threads, and mostly from the cache"
_TRAINED = "what is trained stays fp32: it needs a little more memory and rounds nothing away"
_MODES = "memory is not given back between steps, which is what it asks for"

MACHINE = (
    always("cache_latents", "flag", False,
           "latents are always cached on disk, which changes nothing of what is learned"),
    always("cache_latents_to_disk", "flag", False, "latents are always cached on disk"),
    always("skip_cache_check", "flag", False, "the cache is read by the pictures' contents"),
    always("cache_info", "flag", False, "sizes and captions are read quickly, and always afresh"),
    by(machine, "vae_batch_size", "whole", 1, "performance.vae_batch"),
    by(machine, "cache_text_encoder_outputs", "flag", False, "performance.cache_text"),
    by(machine, "cache_text_encoder_outputs_to_disk", "flag", False, "performance.cache_text"),
    same("torch_compile", "flag", False, "performance.compile"),
    by(machine, "dynamo_backend", "text", "inductor"),
    dropped("xformers", "flag", False, _ATTENTION),
    dropped("sdpa", "flag", False, _ATTENTION),
    dropped("mem_eff_attn", "flag", False, _ATTENTION),
    dropped("max_data_loader_n_workers", "whole", 8, _LOADER),
    dropped("persistent_data_loader_workers", "flag", False, _LOADER),
    dropped("lowram", "flag", False, "checkpoints are read straight to where they are needed"),
    dropped("highvram", "flag", False, _MODES),
    always("no_half_vae", "flag", False, "the VAE computes in fp32"),
    dropped("disable_mmap_load_safetensors", "flag", False, "it is only about how a file is read"),
    dropped("full_fp16", "flag", False, _TRAINED),
    dropped("full_bf16", "flag", False, _TRAINED),
    dropped("cpu_offload_checkpointing", "flag", False, "checkpointed parts stay on the device"),
    by(machine, "fp8_base", "flag", False, "train.base_precision"),
    by(machine, "fp8_base_unet", "flag", False, "train.base_precision"),
)  # fmt: skip

_PROCESSES = "how several processes talk is settled by themselves"
_DEEPSPEED = "it is of DeepSpeed, which is not used"


def _deepspeed(name: str, kind: Kind, default: object = None) -> Argument:
    return dropped(name, kind, default, _DEEPSPEED)


PROCESSES = (
    dropped("ddp_timeout", "whole", None, _PROCESSES),
    dropped("ddp_gradient_as_bucket_view", "flag", False, _PROCESSES),
    dropped("ddp_static_graph", "flag", False, _PROCESSES),
    dropped("deepspeed", "flag", False, "DeepSpeed is not used: a LoRA fits on one device; start "
            "with `accelerate launch -m lorasmith` for several GPUs"),
    _deepspeed("zero_stage", "whole", 2),
    *(_deepspeed(f"offload_{part}_{what}", "text") for part in ("optimizer", "param")
      for what in ("device", "nvme_path")),
    _deepspeed("zero3_init_flag", "flag", False),
    _deepspeed("zero3_save_16bit_model", "flag", False),
    _deepspeed("fp16_master_weights_and_gradients", "flag", False),
)  # fmt: skip

FILES = (
    Argument("config_file", "text", None, "read", why="a TOML file of further arguments"),
    Argument("dataset_config", "text", None, "read", why="a TOML file of data sets, see below"),
    refused("output_config", "flag", False, "it writes a file and does not train",
            "use `lorasmith convert-config`"),
)  # fmt: skip

_GUI = "the kohya_ss window writes it for itself; sd-scripts does not read it"

WINDOW = (
    dropped("epoch", "whole", None, _GUI),
    dropped("noise_offset_type", "text", None, _GUI),
    dropped("stop_text_encoder_training", "whole", None,
            "sd-scripts does not read it for LoRAs; --network_train_unet_only trains none of it"),
    refused("train_inpainting", "flag", False, "inpainting models are not trained"),
)  # fmt: skip

RUNNING = (*RUN, *SAVING, *UPLOADS, *LOG, *MACHINE, *SAMPLES, *PROCESSES, *FILES, *WINDOW)
