"""Arguments that decide what is learned: model, images, captions, network, optimizer, loss."""

from __future__ import annotations

from lorasmith.importers.sd_scripts.argument import always, dropped, made, refused, same

MODEL = (
    same("pretrained_model_name_or_path", "text", None, "model.path"),
    same("vae", "text", None, "model.vae"),
    made("v2", "flag", False, "model.family", "model.prediction"),
    made("v_parameterization", "flag", False, "model.prediction"),
    made("clip_skip", "whole", None, "model.clip_skip"),
    made("max_token_length", "whole", None, "model.max_tokens"),
    always("tokenizer_cache_dir", "text", None, "the tokenizer is inside the package"),
)

IMAGES = (
    made("train_data_dir", "text", None, "data.path"),
    made("reg_data_dir", "text", None, "data.reg"),
    made("resolution", "text", None, "data.resolution"),
    made("enable_bucket", "flag", False, "buckets.enabled"),
    made("min_bucket_reso", "whole", 256, "buckets.min"),
    made("max_bucket_reso", "whole", 1024, "buckets.max"),
    made("bucket_reso_steps", "whole", 64, "buckets.step"),
    made("bucket_no_upscale", "flag", False, "buckets.upscale"),
    made("dataset_repeats", "whole", 1, "data.folders"),
    same("flip_aug", "flag", False, "augment.flip"),
    made("color_aug", "flag", False, "augment.colour", "augment.variants"),
    made("random_crop", "flag", False, "augment.random_crop", "augment.variants"),
    made("face_crop_aug_range", "text", None, "augment.face_crop", "augment.variants"),
    refused(
        "resize_interpolation", "text", None, "pictures are resized in one way",
        "leave it out: lanczos is used when enlarging, area when shrinking",
    ),
    refused(
        "in_json", "text", None, "metadata files of fine-tuning are not read",
        "put the captions beside the pictures as .txt files",
    ),
    refused("dataset_class", "text", None, "it is code of your own, which is not run"),
    refused(
        "debug_dataset", "flag", False, "it shows pictures and does not train",
        "use `lorasmith dataset preview`",
    ),
)  # fmt: skip

CAPTIONS = (
    same("caption_extension", "text", ".caption", "captions.extension"),
    made("caption_extention", "text", None, "captions.extension"),
    same("shuffle_caption", "flag", False, "captions.shuffle"),
    same("caption_separator", "separator", ",", "captions.separator"),
    same("keep_tokens", "whole", 0, "captions.keep_tokens"),
    same("keep_tokens_separator", "separator", "", "captions.keep_tokens_separator"),
    same("secondary_separator", "separator", None, "captions.secondary_separator"),
    same("enable_wildcard", "flag", False, "captions.wildcards"),
    same("caption_prefix", "text", None, "captions.prefix"),
    same("caption_suffix", "text", None, "captions.suffix"),
    same("caption_dropout_rate", "number", 0.0, "captions.dropout"),
    made("caption_dropout_every_n_epochs", "whole", 0, "captions.dropout_every_n_epochs"),
    same("caption_tag_dropout_rate", "number", 0.0, "captions.tag_dropout"),
    same("token_warmup_min", "whole", 1, "captions.tag_warmup_min"),
    made("token_warmup_step", "number", 0.0, "captions.tag_warmup_steps"),
    refused(
        "weighted_captions", "flag", False, "captions are read as they are, brackets and all",
        "leave it out, and take the weights out of the captions",
    ),
)  # fmt: skip

NETWORK = (
    made("network_module", "text", None, "adapter.type"),
    made("network_dim", "whole", 4, "adapter.rank"),
    made("network_alpha", "number", 1.0, "adapter.alpha"),
    same("network_dropout", "number", None, "adapter.dropout"),
    made("network_args", "texts", None, "adapter.* (see below)", "optimizer.loraplus_ratio"),
    made("network_train_unet_only", "flag", False, "adapter.text_encoder"),
    made("network_train_text_encoder_only", "flag", False, "adapter.unet"),
    same("network_weights", "text", None, "adapter.init_from"),
    same("scale_weight_norms", "number", None, "adapter.scale_weight_norms"),
    always(
        "dim_from_weights", "flag", False,
        "training that goes on from a file (adapter.init_from) keeps its types and ranks",
    ),
    refused(
        "base_weights", "texts", None, "LoRAs are not merged into the model before training",
        "merge them into the checkpoint first",
    ),
    dropped(
        "base_weights_multiplier", "numbers", None, "it is of --base_weights, which is not used"
    ),
)  # fmt: skip

OPTIMIZER = (
    made("optimizer_type", "text", "", "optimizer.name"),
    made("use_8bit_adam", "flag", False, "optimizer.name"),
    made("use_lion_optimizer", "flag", False, "optimizer.name"),
    made("optimizer_args", "texts", None, "optimizer.args"),
    made("learning_rate", "number", 2e-6, "optimizer.lr"),
    made("unet_lr", "number", None, "optimizer.unet_lr"),
    made("text_encoder_lr", "numbers", None, "optimizer.text_encoder_lr"),
    same("max_grad_norm", "number", 1.0, "optimizer.max_grad_norm"),
    made("lr_scheduler", "text", "constant", "schedule.name"),
    made("lr_warmup_steps", "share", 0, "schedule.warmup"),
    made("lr_decay_steps", "share", 0, "schedule.*"),
    made("lr_scheduler_num_cycles", "whole", 1, "schedule.cycles"),
    made("lr_scheduler_power", "number", 1.0, "schedule.power"),
    made("lr_scheduler_timescale", "whole", None, "schedule.timescale"),
    made("lr_scheduler_min_lr_ratio", "number", None, "schedule.min_ratio"),
    made("lr_scheduler_type", "text", "", "schedule.name"),
    made("lr_scheduler_args", "texts", None, "schedule.*"),
    dropped(
        "fused_backward_pass", "flag", False,
        "it saves memory by making steps in pieces; the result is the same without",
    ),
)  # fmt: skip

LOSS = (
    same("loss_type", "text", "l2", "loss.type", "l1", "l2", "huber", "smooth_l1"),
    made("huber_c", "number", 0.1, "loss.huber_c"),
    made("huber_schedule", "text", "snr", "loss.huber_schedule"),
    made("huber_scale", "number", 1.0, "loss.huber_scale"),
    made("min_snr_gamma", "number", None, "loss.min_snr_gamma"),
    same("debiased_estimation_loss", "flag", False, "loss.debiased"),
    made("scale_v_pred_loss_like_noise_pred", "flag", False, "loss.scale_v_like_noise"),
    refused("v_pred_like_loss", "number", None, "no second loss is added to the first"),
    made("noise_offset", "number", None, "loss.noise_offset"),
    made("noise_offset_random_strength", "flag", False, "loss.noise_offset_random"),
    made("adaptive_noise_scale", "number", None, "loss.adaptive_noise_scale"),
    made("multires_noise_iterations", "whole", None, "loss.multires_iterations"),
    made("multires_noise_discount", "number", 0.3, "loss.multires_discount"),
    made("ip_noise_gamma", "number", None, "loss.input_perturbation"),
    made("ip_noise_gamma_random_strength", "flag", False, "loss.input_perturbation_random"),
    same("zero_terminal_snr", "flag", False, "loss.zero_terminal_snr"),
    made("min_timestep", "whole", None, "loss.min_timestep"),
    made("max_timestep", "whole", None, "loss.max_timestep"),
    same("prior_loss_weight", "number", 1.0, "loss.prior_weight"),
    made("masked_loss", "flag", False, "loss.masked"),
    made("conditioning_data_dir", "text", None, "loss.mask_folder"),
    made("alpha_mask", "flag", False, "loss.masked"),
)

LEARNING = (*MODEL, *IMAGES, *CAPTIONS, *NETWORK, *OPTIMIZER, *LOSS)
