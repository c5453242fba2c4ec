"""Loss, length, precision, saving, samples and log."""

from __future__ import annotations

from lorasmith.config.checks.run import NO_WANDB, has_wandb
from lorasmith.importers.sd_scripts.builder import ConversionBuilder

WANDB_PROJECT = "network_train"
"""sd-scripts' own, where none is named."""

KEY_STAYS_OUT = "keys are not written into settings; run `wandb login` once, or set WANDB_API_KEY"

PRECISIONS = {"no": "fp32", "fp16": "fp16", "bf16": "bf16"}
SAVE_PRECISIONS = {"float": "fp32", "fp32": "fp32", "fp16": "fp16", "bf16": "bf16"}


def noise(m: ConversionBuilder) -> None:
    gamma = m.value("min_snr_gamma")
    m.put("loss.min_snr_gamma", gamma or None, "min_snr_gamma")
    offset = m.value("noise_offset") or 0.0
    if offset:
        m.put("loss.noise_offset", offset, "noise_offset")
        if m.has("noise_offset_random_strength"):
            m.put("loss.noise_offset_random", True, "noise_offset_random_strength")
        if m.value("adaptive_noise_scale"):
            m.put(
                "loss.adaptive_noise_scale", m.value("adaptive_noise_scale"), "adaptive_noise_scale"
            )
    else:
        m.drop("noise_offset", "0 is off, as here without it")
        m.drop("noise_offset_random_strength", "it does nothing without --noise_offset")
        if m.value("adaptive_noise_scale") and "noise_offset" not in m.given:
            m.refuse(
                "adaptive_noise_scale",
                "needs --noise_offset; sd-scripts stops there too",
                "add --noise_offset 0.05",
            )
        else:
            m.drop("adaptive_noise_scale", "it does nothing without --noise_offset")
    if m.value("multires_noise_iterations"):
        m.put(
            "loss.multires_iterations",
            m.value("multires_noise_iterations"),
            "multires_noise_iterations",
        )
        m.put(
            "loss.multires_discount", m.value("multires_noise_discount"), "multires_noise_discount"
        )
    else:
        m.drop("multires_noise_iterations", "0 is off, as here without it")
        m.drop("multires_noise_discount", "it does nothing without --multires_noise_iterations")
    if m.value("ip_noise_gamma"):
        m.put("loss.input_perturbation", m.value("ip_noise_gamma"), "ip_noise_gamma")
        if m.has("ip_noise_gamma_random_strength"):
            m.put("loss.input_perturbation_random", True, "ip_noise_gamma_random_strength")
    else:
        m.drop("ip_noise_gamma", "0 is off, as here without it")
        m.drop("ip_noise_gamma_random_strength", "it does nothing without --ip_noise_gamma")


def weighing(m: ConversionBuilder) -> None:
    if m.value("loss_type") in ("huber", "smooth_l1"):
        m.put("loss.huber_c", m.value("huber_c"), "huber_c")
        m.put("loss.huber_schedule", m.value("huber_schedule"), "huber_schedule")
        if m.value("huber_schedule") == "snr":
            m.drop("huber_scale", "sd-scripts does not use it with --huber_schedule snr")
        else:
            m.put("loss.huber_scale", m.value("huber_scale"), "huber_scale")
    else:
        for name in ("huber_c", "huber_schedule", "huber_scale"):
            m.drop(name, f"it does nothing with --loss_type {m.value('loss_type')}")
    if m.has("scale_v_pred_loss_like_noise_pred"):
        if m.has("v_parameterization"):
            m.put("loss.scale_v_like_noise", True, "scale_v_pred_loss_like_noise_pred")
        else:
            m.refuse(
                "scale_v_pred_loss_like_noise_pred",
                "is for models that predict velocity; sd-scripts stops there too",
                "add --v_parameterization, or leave it out",
            )
    for name, default in (("min_timestep", 0), ("max_timestep", 1000)):
        value = m.value(name)
        if value is not None and (value or name == "min_timestep"):
            m.put(f"loss.{name}", value, name)
        elif value is not None:
            m.drop(name, f"0 is not said, so {default} as ever")


def length(m: ConversionBuilder) -> None:
    if m.has("max_train_epochs"):
        m.put("train.epochs", m.value("max_train_epochs"), "max_train_epochs")
        m.drop("max_train_steps", "--max_train_epochs decides")
    else:
        m.put("train.steps", m.value("max_train_steps"), "max_train_steps")
    if m.has("seed"):
        m.put("train.seed", m.value("seed"), "seed")
    else:
        m.note("no --seed", "sd-scripts draws one then; here it is 0, so that the run repeats")
    asked = str(m.value("mixed_precision")).lower()
    if asked in PRECISIONS:
        m.put("train.precision", PRECISIONS[asked], "mixed_precision")
    else:
        full = asked in ("fp32", "float", "float32", "32")
        hint = "take no, which computes in fp32" if full else "take bf16"
        m.refuse("mixed_precision", f"{asked!r} is none of no, fp16 and bf16", hint)


def validation(m: ConversionBuilder) -> None:
    names = ("validation_seed", "validate_every_n_epochs", "validate_every_n_steps")
    if not m.value("validation_split"):
        for name in (*names, "max_validation_steps"):
            m.drop(name, "it does nothing without --validation_split")
        return
    seed = m.value("validation_seed")
    if seed is None:
        seed = m.value("seed") or 0
    m.put("validation.seed", seed, "validation_seed", "seed")
    steps, epochs = m.value("validate_every_n_steps"), m.value("validate_every_n_epochs")
    if steps:
        m.put("validation.every_steps", steps, "validate_every_n_steps")
    m.put("validation.every_epochs", epochs or (None if steps else 1), "validate_every_n_epochs")
    batches = m.value("max_validation_steps")
    most = batches * m.value("train_batch_size") if batches else None
    m.put("validation.pictures", most, "max_validation_steps", "train_batch_size")


def saving(m: ConversionBuilder) -> None:
    m.put("save.name", m.value("output_name") or "last", "output_name")
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
        m.put("save.every_epochs", each, "save_n_epoch_ratio", "max_train_epochs")
        m.drop("save_every_n_epochs", "--save_n_epoch_ratio decides")
        every = each
    elif ratio:
        m.put("save.every_epochs", 1, "save_n_epoch_ratio")
        why = "how many epochs the steps are is not known yet, so each one's LoRA is saved"
        m.note(m.shown("save_n_epoch_ratio"), why)
        every = 1
    else:
        m.put("save.every_epochs", every or None, "save_every_n_epochs")
    steps = m.value("save_every_n_steps")
    if steps:
        m.put("save.every_steps", steps, "save_every_n_steps")
    _kept(m, every, steps)
    asked = m.value("save_precision")
    if asked is not None and str(asked).lower() not in SAVE_PRECISIONS:
        m.refuse("save_precision", f"{asked!r} is none of float, fp16 and bf16", "take fp16")
    else:
        m.put("save.precision", SAVE_PRECISIONS[str(asked or "float").lower()], "save_precision")
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
    wanted = m.has("logging_dir") or (bool(tools) and tools != "wandb")
    if tools in ("wandb", "all"):
        project = m.value("log_tracker_name") or WANDB_PROJECT
        m.put("log.wandb", project, "log_with", "log_tracker_name")
        if m.has("wandb_run_name"):
            m.put("log.wandb_name", m.value("wandb_run_name"), "wandb_run_name")
        if not has_wandb():
            m.note(m.shown("log_with"), f"{NO_WANDB} here; without it nothing is sent there")
        if m.has("wandb_api_key"):
            m.drop("wandb_api_key", KEY_STAYS_OUT)
    else:
        if tools not in ("", "tensorboard"):
            m.note(m.shown("log_with"), f"{tools} is not known; the log is TensorBoard's")
        for name in ("log_tracker_name", "wandb_run_name", "wandb_api_key"):
            m.drop(name, "it does nothing without --log_with wandb")
    note = "the files lie in the run's own folder" if wanted else ""
    m.put("log.tensorboard", wanted, "logging_dir", "log_with", note=note)


def memory(m: ConversionBuilder) -> None:
    # Without the flag the setting stays "auto": as sd-scripts, but where that would not fit.
    if m.has("gradient_checkpointing"):
        m.put("train.gradient_checkpointing", True, "gradient_checkpointing")
    asked = [name for name in ("fp8_base", "fp8_base_unet") if m.has(name)]
    if asked:
        m.put("train.base_precision", "fp8", *asked)


def machine(m: ConversionBuilder) -> None:
    asked = [
        name
        for name in ("cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk")
        if m.has(name)
    ]
    if asked:
        m.put("performance.cache_text", True, *asked)
    if m.value("vae_batch_size") and "vae_batch_size" in m.given:
        m.put("performance.vae_batch", m.value("vae_batch_size"), "vae_batch_size")
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
