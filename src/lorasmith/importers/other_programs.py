"""What a file of another program is, told from what it holds, where it asks for no training here.

Written from those programs' documentation and from files that they write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Table = Mapping[str, Any]

_NOT_SETTINGS = "it holds no settings of a training"
_OWN_TRAINER = "write its values into a settings file, see docs/settings.md; it is not read"
_ENTIRE_MODEL = "it trains the whole model; give a configuration of the window's LoRA tab"


def _tables(value: Any) -> list[Table]:
    """The tables among a list's, or another table's, values."""
    values = value.values() if isinstance(value, Mapping) else value
    return [each for each in values if isinstance(each, Mapping)] if _is_many(values) else []


def _is_many(value: Any) -> bool:
    return not isinstance(value, str | bytes) and hasattr(value, "__iter__")


def _is_prompt(table: Table) -> bool:
    """ComfyUI's form for its API: nodes by number, each with its class; or around it "prompt"."""
    inner = table.get("prompt") if isinstance(table.get("prompt"), Mapping) else table
    nodes = _tables(inner)
    return bool(nodes) and all("class_type" in node for node in nodes)


def _has(*names: str) -> Callable[[Table], bool]:
    return lambda table: all(name in table for name in names)


def _any(*names: str) -> Callable[[Table], bool]:
    return lambda table: any(name in table for name in names)


def _is_vocabulary(table: Table) -> bool:
    return len(table) > 100 and all(isinstance(value, int) for value in table.values())


def _is_accelerate(table: Table) -> bool:
    return "compute_environment" in table or {"distributed_type", "num_machines"} <= table.keys()


def _is_onetrainer(table: Table) -> bool:
    return "training_method" in table or {"concept_file_name", "base_model_name"} <= table.keys()


def _is_musubi(table: Table) -> bool:
    names = {"image_directory", "video_directory", "image_jsonl_file", "video_jsonl_file"}
    return any(names & each.keys() for each in _tables(table.get("datasets", ())))


def _is_ai_toolkit(table: Table) -> bool:
    config = table.get("config")
    return isinstance(config, Mapping) and isinstance(config.get("process"), Sequence)


def _is_simple_tuner(table: Table) -> bool:
    dashed = [name for name in table if str(name).startswith("--")]
    return len(dashed) > 2 or {"model_family", "lora_rank"} <= table.keys()


def _is_diffusion_pipe(table: Table) -> bool:
    return "micro_batch_size_per_gpu" in table or "pipeline_stages" in table


def _is_window_settings(table: Table) -> bool:
    return "use_shell" in table or {"accelerate_launch", "folders"} <= table.keys()


def _is_tagged_images(table: Table) -> bool:
    """The metadata of fine-tuning: images with their captions, tags and sizes."""
    rows = _tables(table)
    names = {"caption", "tags", "train_resolution", "image_size"}
    return bool(rows) and len(rows) == len(table) and all(names & row.keys() for row in rows)


def _is_dreambooth(table: Table) -> bool:
    own = {"no_token_padding", "stop_text_encoder_training", "learning_rate_te1", "model_list"}
    return "max_resolution" in table and bool(own & table.keys())


TABLES: tuple[tuple[Callable[[Table], bool], str, str], ...] = (
    (lambda t: isinstance(t.get("nodes"), list) and "links" in t, "a ComfyUI workflow",
     _NOT_SETTINGS),
    (_is_prompt, "a ComfyUI workflow in API form", _NOT_SETTINGS),
    (lambda t: "_class_name" in t and str(t["_class_name"]).endswith("Pipeline"),
     "the model_index.json of a diffusers model", "give its folder as the base model, --model"),
    (_has("_class_name", "_diffusers_version"), "the configuration of a part of a diffusers model",
     "give the model's folder as the base model, --model"),
    (_has("peft_type"), "the adapter_config.json of a PEFT adapter", _NOT_SETTINGS),
    (_any("tokenizer_class", "added_tokens_decoder"), "the configuration of a tokenizer",
     _NOT_SETTINGS),
    (_has("version", "added_tokens", "model"), "a tokenizer", _NOT_SETTINGS),
    (_is_vocabulary, "the vocabulary of a tokenizer", _NOT_SETTINGS),
    (_any("transformers_version", "architectures"), "the configuration of a transformers model",
     _NOT_SETTINGS),
    (_is_ai_toolkit, "a configuration of ai-toolkit", _OWN_TRAINER),
    (_is_onetrainer, "a configuration of OneTrainer", _OWN_TRAINER),
    (_is_simple_tuner, "a configuration of SimpleTuner", _OWN_TRAINER),
    (_is_musubi, "a data-set file of musubi-tuner", _OWN_TRAINER),
    (_is_diffusion_pipe, "a configuration of diffusion-pipe", _OWN_TRAINER),
    (_is_accelerate, "a configuration of accelerate",
     "it says how a program is started: accelerate launch --config_file FILE -m lorasmith …"),
    (_any("txt2img/Prompt/visible", "txt2img/Prompt/value"), "the web UI's ui-config.json",
     _NOT_SETTINGS),
    (_any("sd_model_checkpoint", "CLIP_stop_at_last_layers", "outdir_txt2img_samples"),
     "the web UI's config.json", _NOT_SETTINGS),
    (_is_window_settings, "the settings of the kohya_ss window itself",
     "give a configuration that the window saved of a training"),
    (_any("num_vectors_per_token", "token_string", "init_word"),
     "a configuration of kohya_ss for textual inversion",
     "give a configuration of the window's LoRA tab"),
    (_any("caption_metadata_filename", "create_caption", "full_path", "image_folder"),
     "a configuration of kohya_ss for fine-tuning", _ENTIRE_MODEL),
    (_is_dreambooth, "a configuration of kohya_ss for DreamBooth", _ENTIRE_MODEL),
    (_is_tagged_images, "a metadata file for fine-tuning: captions and tags of pictures",
     "put the captions beside the pictures as .txt files"),
    (_any("compilerOptions", "devDependencies"), "a configuration of a JavaScript project",
     _NOT_SETTINGS),
    (_any("build-system", "project"), "a configuration of a Python project", _NOT_SETTINGS),
)  # fmt: skip
"""Tests in this order, what passes them, and what to do with it."""

_TEXTS: tuple[tuple[str, str, str], ...] = (
    (r"(?m)^\s*job:\s*[\"']?(extension|train)", "a configuration of ai-toolkit", _OWN_TRAINER),
    (r"(?m)^compute_environment:", "a configuration of accelerate",
     "it says how a program is started: accelerate launch --config_file FILE -m lorasmith …"),
    (r"(?m)^(model|base_model)\s*:.*\n(.*\n)*?\s*target:\s*ldm\.", "a model's configuration",
     "the base model's kind is told from its weights: give those, --model"),
    (r"(?m)^Steps: \d+, Sampler:", "the text of a generated picture",
     "draw it with `lorasmith generate --from`"),
    (r"(?si)\A\s*<(!doctype|html)", "a web page", "save the file itself, not the page around it"),
    (r"\Aversion https://git-lfs", "a pointer of Git LFS", "download the file itself"),
)  # fmt: skip


def kind_of(content: Any) -> tuple[str, str] | None:
    """What a table or list is, and what to do with it; ``None`` where that is not known."""
    if isinstance(content, list):
        rows = _tables(content)
        if rows and all("include_subdirectories" in row or "image" in row for row in rows):
            return "a list of concepts of OneTrainer", _OWN_TRAINER
        if any("instance_data_dir" in row or "caption_strategy" in row for row in rows):
            return "a list of data sets of SimpleTuner", _OWN_TRAINER
        return None
    for test, name, hint in TABLES:
        if test(content):
            return name, hint
    return None


def kind_of_text(text: str) -> tuple[str, str] | None:
    """:func:`kind_of` for YAML and other text."""
    for pattern, name, hint in _TEXTS:
        if re.search(pattern, text[:20_000]):
            return name, hint
    return None
