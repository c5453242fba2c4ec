"""Arguments of how a run goes: length, saving, samples, log, and how the machine is used."""

from __future__ import annotations

from lorasmith.importers.sd_scripts.argument import (
    Argument,
    Kind,
    always,
    dropped,
    made,
    refused,
    same,
)

RUN = (
    made("max_train_steps", "whole", 1600, "train.steps"),
    made("max_train_epochs", "whole", None, "train.epochs"),
    same("train_batch_size", "whole", 1, "train.batch"),
    same("gradient_accumulation_steps", "whole", 1, "train.accumulation"),
    made("seed", "whole", None, "train.seed"),
    made("mixed_precision", "text", "no", "train.precision"),
    made("gradient_checkpointing", "flag", False, "train.gradient_checkpointing"),
    same("validation_split", "number", 0.0, "validation.split"),
    made("validation_seed", "whole", None, "validation.seed"),
    made("validate_every_n_epochs", "whole", None, "validation.every_epochs"),
    made("validate_every_n_steps", "whole", None, "validation.every_steps"),
    made("max_validation_steps", "whole", None, "validation.pictures"),
)

_STATES = "states are kept as long as they are of use"

SAVING = (
    same("output_dir", "text", None, "save.output"),
    made("output_name", "text", None, "save.name"),
    made("save_every_n_epochs", "whole", None, "save.every_epochs"),
    made("save_every_n_steps", "whole", None, "save.every_steps"),
    made("save_n_epoch_ratio", "whole", None, "save.every_epochs"),
    made("save_last_n_epochs", "whole", None, "save.keep_last"),
    made("save_last_n_steps", "whole", None, "save.keep_last"),
    made("save_precision", "text", None, "save.precision"),
    made("save_model_as", "text", "safetensors"),
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
    made("sample_prompts", "text", None, "sample.prompts", "sample.negative", "sample.*"),
    made("sample_every_n_steps", "whole", None, "sample.every_steps"),
    made("sample_every_n_epochs", "whole", None, "sample.every_epochs"),
    made("sample_at_first", "flag", False, "sample.at_start"),
    made("sample_sampler", "text", "ddim", "sample.sampler"),
)

LOG = (
    made("logging_dir", "text", None, "log.tensorboard"),
    made("log_with", "text", None, "log.tensorboard", "log.wandb"),
    dropped("log_prefix", "text", None, "the log lies in the run's own folder"),
    made("log_tracker_name", "text", None, "log.wandb"),
    dropped("log_tracker_config", "text", None, "trackers have no settings of their own here"),
    made("wandb_run_name", "text", None, "log.wandb_name"),
    made("wandb_api_key", "text", None),
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
    made("vae_batch_size", "whole", 1, "performance.vae_batch"),
    made("cache_text_encoder_outputs", "flag", False, "performance.cache_text"),
    made("cache_text_encoder_outputs_to_disk", "flag", False, "performance.cache_text"),
    same("torch_compile", "flag", False, "performance.compile"),
    made("dynamo_backend", "text", "inductor"),
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
    made("fp8_base", "flag", False, "train.base_precision"),
    made("fp8_base_unet", "flag", False, "train.base_precision"),
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

RUNNING = (*RUN, *SAVING, *UPLOADS, *SAMPLES, *LOG, *MACHINE, *PROCESSES, *FILES, *WINDOW)
