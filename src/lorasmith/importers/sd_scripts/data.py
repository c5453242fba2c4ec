"""Arguments of the model, the images, buckets, augmentation, captions and masks."""

from __future__ import annotations

from lorasmith.importers.sd_scripts.argument import (
    ConversionBuilder,
    always,
    by,
    refused,
    same,
)

# sd-scripts turns the hue by up to 16 degrees or takes a gamma of 0.95 to 1.05, in a third of uses.
COLOUR_STRENGTH = 0.2

LATENT = 8


def model(m: ConversionBuilder) -> None:
    m.fix("model.defaults", False, "what is not given is as in sd-scripts, whatever the model")
    if not m.has("pretrained_model_name_or_path"):
        m.missing("pretrained_model_name_or_path", "name the base model; demo is built in")
    if m.sdxl and m.has("v2"):
        m.refuse("v2", "is Stable Diffusion 2, but this is the script for SDXL", "leave it out")
    elif m.sdxl or m.has("v2"):
        m.take("v2", "sdxl" if m.sdxl else "sd2")
    m.take("v_parameterization", "v" if m.has("v_parameterization") else "epsilon")
    if m.has("clip_skip") and m.sdxl:
        m.drop("clip_skip", "sd-scripts ignores it for SDXL, whose layers are settled")
    elif m.has("clip_skip"):
        m.take("clip_skip", max(1, m.value("clip_skip")))
    if m.has("max_token_length"):
        length = m.value("max_token_length")
        if length not in (75, 150, 225):
            m.refuse("max_token_length", f"{length} is none of 75, 150 and 225", "take 225")
        else:
            m.take("max_token_length", length)


def folders(m: ConversionBuilder) -> None:
    """``train_data_dir`` and ``reg_data_dir``, where no data-set file stands in their place."""
    if "data.folders" in m.result.settings:
        for name in ("train_data_dir", "reg_data_dir"):
            m.drop(name, "the data-set file names the folders; sd-scripts ignores this then too")
        return
    if m.has("train_data_dir"):
        m.take("train_data_dir")
    else:
        m.missing("train_data_dir", "name the folder that holds the N_name folders")
    if m.has("reg_data_dir"):
        m.take("reg_data_dir")
    m.drop("dataset_repeats", "the folders' names say how often their pictures are used")


def size(m: ConversionBuilder) -> None:
    if not m.has("resolution"):
        m.note(
            "no --resolution",
            "sd-scripts stops without it; here the model's own size is taken",
        )
        return
    parts = [part.strip() for part in str(m.value("resolution")).split(",")]
    if not all(part.isdecimal() and len(part) < 10 for part in parts) or len(parts) > 2:
        m.refuse(
            "resolution", f"{m.value('resolution')!r} is no size", "write 512, or 512,768 for w,h"
        )
        return
    sides = [int(part) for part in parts]
    square = len(set(sides)) == 1
    m.take("resolution", sides[0] if square else sides)


def buckets(m: ConversionBuilder) -> None:
    enabled = m.has("enable_bucket")
    m.take("enable_bucket", enabled)
    ends = ("min_bucket_reso", "max_bucket_reso")
    if not enabled:
        for name in (*ends, "bucket_reso_steps", "bucket_no_upscale"):
            if m.has(name):
                m.drop(name, "it does nothing without --enable_bucket")
        return
    step = m.value("bucket_reso_steps")
    note = "latents are 8 pixels wide, so smaller steps are lost" if 0 < step < LATENT else ""
    m.take("bucket_reso_steps", LATENT if note else step, note=note)
    if m.has("bucket_no_upscale"):
        m.take("bucket_no_upscale", False)
        for name in ends:
            m.drop(name, "--bucket_no_upscale makes buckets of any size; so it is in sd-scripts")
        return
    sides = m.result.values.get("data.resolution")
    sides = sides if isinstance(sides, list) else [sides]
    for name in ends:
        end = m.value(name)
        beyond = sides[0] is not None and not (
            end <= min(sides) if name == "min_bucket_reso" else end >= max(sides)
        )
        if beyond and name not in m.given:
            why = "excludes the resolution, at which sd-scripts stops; not taken here"
            m.note(m.shown(name), why)
        else:
            m.take(name)


def augmentation(m: ConversionBuilder) -> None:
    cached = m.has("cache_latents") or m.has("cache_latents_to_disk")
    drawn = []
    if m.has("color_aug"):
        m.take(
            "color_aug",
            COLOUR_STRENGTH,
            note="gentle; sd-scripts changes colours more rarely, and gamma wrongly",
        )
        drawn.append("color_aug")
    if m.has("random_crop"):
        m.take("random_crop", True)
        drawn.append("random_crop")
    if m.has("face_crop_aug_range"):
        if m.has("enable_bucket"):
            m.drop(
                "face_crop_aug_range",
                "sd-scripts ignores it with buckets; set augment.face_crop if you want it: here "
                "it works with them",
            )
        else:
            m.take("face_crop_aug_range")
            drawn.append("face_crop_aug_range")
    if drawn and not cached:
        note = "each use is new, as without --cache_latents"
        m.put("augment.variants", "fresh", *drawn, note=note)
        m.put("performance.cache_latents", False, *drawn, note=note)
        return
    if drawn:
        m.note(
            " ".join(m.shown(name) for name in (*drawn, "cache_latents")),
            "sd-scripts refuses these together; here some views of each picture are cached "
            "(augment.variants)",
        )
    m.always("cache_latents", m.rows["cache_latents"].why)


def captions(m: ConversionBuilder) -> None:
    m.fix("captions.trigger_in_front", False, "captions stay as they are")
    if m.has("caption_extention"):
        m.take("caption_extention", note="an old misspelling, which sd-scripts takes too")
    warmup = m.value("token_warmup_step")
    if warmup >= 1:
        m.take("token_warmup_step", int(warmup))
    elif warmup and m.has("max_train_epochs"):
        m.refuse(
            "token_warmup_step",
            f"{warmup:g} is a share of a run whose steps --max_train_epochs leaves open",
            "write a number of steps",
        )
    elif warmup:
        steps = int(warmup * m.value("max_train_steps"))
        m.take("token_warmup_step", steps, "max_train_steps")
    if m.value("caption_dropout_every_n_epochs"):
        m.take("caption_dropout_every_n_epochs")
    spelled = m.value("caption_extension")
    if spelled and not spelled.startswith("."):
        m.take("caption_extension", f".{spelled}")


def masks(m: ConversionBuilder) -> None:
    if m.has("alpha_mask"):
        m.take("alpha_mask", "alpha")
        if m.has("masked_loss"):
            m.drop("masked_loss", "--alpha_mask says where the masks come from")
    elif m.has("masked_loss") and m.has("conditioning_data_dir"):
        m.take("masked_loss", "folder")
        m.take("conditioning_data_dir")
    elif m.has("masked_loss"):
        m.refuse(
            "masked_loss",
            "needs a folder of masks",
            "add --conditioning_data_dir, or --alpha_mask for pictures that are cut out",
        )
    else:
        m.drop("conditioning_data_dir", "it does nothing without --masked_loss")


MODEL = (
    same("pretrained_model_name_or_path", "text", None, "model.path"),
    same("vae", "text", None, "model.vae"),
    by(model, "v2", "flag", False, "model.family", "model.prediction"),
    by(model, "v_parameterization", "flag", False, "model.prediction"),
    by(model, "clip_skip", "whole", None, "model.clip_skip"),
    by(model, "max_token_length", "whole", None, "model.max_tokens"),
    always("tokenizer_cache_dir", "text", None, "the tokenizer is inside the package"),
)

IMAGES = (
    by(folders, "train_data_dir", "text", None, "data.path"),
    by(folders, "reg_data_dir", "text", None, "data.reg"),
    by(size, "resolution", "text", None, "data.resolution"),
    by(buckets, "enable_bucket", "flag", False, "buckets.enabled"),
    by(buckets, "min_bucket_reso", "whole", 256, "buckets.min"),
    by(buckets, "max_bucket_reso", "whole", 1024, "buckets.max"),
    by(buckets, "bucket_reso_steps", "whole", 64, "buckets.step"),
    by(buckets, "bucket_no_upscale", "flag", False, "buckets.upscale"),
    by(folders, "dataset_repeats", "whole", 1, "data.folders"),
    same("flip_aug", "flag", False, "augment.flip"),
    by(augmentation, "color_aug", "flag", False, "augment.colour", "augment.variants"),
    by(augmentation, "random_crop", "flag", False, "augment.random_crop", "augment.variants"),
    by(augmentation, "face_crop_aug_range", "text", None, "augment.face_crop", "augment.variants"),
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
    by(captions, "caption_extention", "text", None, "captions.extension"),
    same("shuffle_caption", "flag", False, "captions.shuffle"),
    same("caption_separator", "separator", ",", "captions.separator"),
    same("keep_tokens", "whole", 0, "captions.keep_tokens"),
    same("keep_tokens_separator", "separator", "", "captions.keep_tokens_separator"),
    same("secondary_separator", "separator", None, "captions.secondary_separator"),
    same("enable_wildcard", "flag", False, "captions.wildcards"),
    same("caption_prefix", "text", None, "captions.prefix"),
    same("caption_suffix", "text", None, "captions.suffix"),
    same("caption_dropout_rate", "number", 0.0, "captions.dropout"),
    by(captions, "caption_dropout_every_n_epochs", "whole", 0, "captions.dropout_every_n_epochs"),
    same("caption_tag_dropout_rate", "number", 0.0, "captions.tag_dropout"),
    same("token_warmup_min", "whole", 1, "captions.tag_warmup_min", needs="token_warmup_step"),
    by(captions, "token_warmup_step", "number", 0.0, "captions.tag_warmup_steps"),
    refused(
        "weighted_captions", "flag", False, "captions are read as they are, brackets and all",
        "leave it out, and take the weights out of the captions",
    ),
)  # fmt: skip

MASKS = (
    by(masks, "masked_loss", "flag", False, "loss.masked"),
    by(masks, "conditioning_data_dir", "text", None, "loss.mask_folder"),
    by(masks, "alpha_mask", "flag", False, "loss.masked"),
)

DATA = (*MODEL, *IMAGES, *CAPTIONS, *MASKS)
