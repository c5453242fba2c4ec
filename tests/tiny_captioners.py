"""Captioning models of random weights, a few kilobytes each, in folders as the hub has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel

WORDS = (
    *("a", "girl", "with", "red", "hat", "and", "blue", "eyes", "cat", "on", "mat", "the", "in"),
    *("sky", "star", "smiling", "black", "hair", "sitting", "picture", "of", ".", ",", "describe"),
)
# Of the weights: so large that what is written depends on what is seen.
SPREAD = 0.5
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} : "
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image> "
    "{% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)
SIDE = 16  # px of the images that the models look at


_MARKS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def _tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Words between spaces, and the marks that models need."""
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **_MARKS,
        extra_special_tokens={"image_token": "<image>"},
    )


_TEXT: dict[str, Any] = {
    "vocab_size": len(SPECIAL) + len(WORDS),
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": SPREAD,
}
_VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
    "projection_dim": 16,
    "initializer_range": SPREAD,
}
_SIDES = {"height": SIDE, "width": SIDE}


def tiny_blip(folder: Path, seed: int = 0) -> Path:
    """Continues a prompt, or writes without one."""
    torch.manual_seed(seed)
    text = {**_TEXT, "encoder_hidden_size": 16, "projection_dim": 16, "sep_token_id": 2}
    config = transformers.BlipConfig(text_config=text, vision_config=_VISION, projection_dim=16)
    processor = transformers.BlipProcessor(
        transformers.BlipImageProcessor(size=_SIDES), _tokenizer()
    )
    return _save(folder, transformers.BlipForConditionalGeneration(config), processor)


def tiny_florence2(folder: Path, seed: int = 0) -> Path:
    """Knows its tasks by marks such as <MORE_DETAILED_CAPTION>."""
    torch.manual_seed(seed)
    vision = {
        "depths": [1, 1],
        "patch_size": [7, 3],
        "patch_stride": [4, 2],
        "patch_padding": [3, 1],
        "patch_prenorm": [False, True],
        "embed_dim": [8, 16],
        "num_heads": [2, 2],
        "num_groups": [2, 2],
        "window_size": 2,
        "projection_dim": 16,
        "initializer_range": SPREAD,
    }
    text = {
        "model_type": "bart",
        "vocab_size": _TEXT["vocab_size"],
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
        "max_position_embeddings": 256,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
        "forced_eos_token_id": 2,
        "init_std": SPREAD,
    }
    config = transformers.Florence2Config(
        vision_config=vision, text_config=text, image_token_id=SPECIAL.index("<image>")
    )
    # A token for the whole of the image, and one for each of its places.
    images = transformers.CLIPImageProcessor(
        size=_SIDES, crop_size=_SIDES, do_center_crop=False, image_seq_length=(SIDE // 8) ** 2 + 1
    )
    processor = transformers.Florence2Processor(images, _tokenizer())
    return _save(folder, transformers.Florence2ForConditionalGeneration(config), processor)


def tiny_llava(folder: Path, seed: int = 0, width: int = 16) -> Path:
    """Follows instructions in a chat."""
    torch.manual_seed(seed)
    config = transformers.LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **_VISION},
        text_config={
            "model_type": "llama",
            **_TEXT,
            "hidden_size": width,
            "intermediate_size": width,
        },
        image_token_id=SPECIAL.index("<image>"),
        vision_feature_layer=-1,
    )
    processor = transformers.LlavaProcessor(
        transformers.CLIPImageProcessor(size=_SIDES, crop_size=_SIDES),
        _tokenizer(),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    return _save(folder, transformers.LlavaForConditionalGeneration(config), processor)


def tiny_git(folder: Path, seed: int = 0) -> Path:
    """Continues a prompt; its processor knows no chat."""
    torch.manual_seed(seed)
    config = transformers.GitConfig(vision_config=_VISION, **_TEXT)
    images = transformers.CLIPImageProcessor(size=_SIDES, crop_size=_SIDES)
    processor = transformers.GitProcessor(images, _tokenizer())
    return _save(folder, transformers.GitForCausalLM(config), processor)


def tiny_blip2(folder: Path, seed: int = 3) -> Path:
    """Continues a prompt, by a language model behind a bridge."""
    torch.manual_seed(seed)
    config = transformers.Blip2Config(
        vision_config=_VISION,
        qformer_config={**_TEXT, "encoder_hidden_size": 16},
        text_config={
            "model_type": "opt",
            **_TEXT,
            "word_embed_proj_dim": 16,
            "ffn_dim": 16,
            "init_std": SPREAD,
        },
        num_query_tokens=4,
        image_token_index=SPECIAL.index("<image>"),
    )
    # Its processor wants a tokenizer without a mark of its own for images.
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer().backend_tokenizer, **_MARKS
    )
    processor = transformers.Blip2Processor(
        transformers.BlipImageProcessor(size=_SIDES), tokenizer, num_query_tokens=4
    )
    return _save(folder, transformers.Blip2ForConditionalGeneration(config), processor)


def tiny_idefics3(folder: Path, seed: int = 0) -> Path:
    """Follows instructions in a chat: what SmolVLM is."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    tokenizer.add_tokens(
        ["<fake_token_around_image>", "<global-img>", "<end_of_utterance>"], special_tokens=True
    )
    vision = {**_VISION, "patch_size": 4}
    config = transformers.Idefics3Config(
        vision_config=vision,
        text_config={"model_type": "llama", **_TEXT, "vocab_size": len(tokenizer)},
        image_token_id=SPECIAL.index("<image>"),
        scale_factor=2,
    )
    longest = {"longest_edge": SIDE}
    processor = transformers.Idefics3Processor(
        transformers.Idefics3ImageProcessor(size=longest, max_image_size=longest),
        tokenizer,
        image_seq_len=4,
        chat_template=CHAT_TEMPLATE,
    )
    return _save(folder, transformers.Idefics3ForConditionalGeneration(config), processor)


def tiny_encoder_decoder(folder: Path, seed: int = 0) -> Path:
    """A vision transformer and GPT-2, without a processor for both: takes no prompt."""
    torch.manual_seed(seed)
    vision = {name: value for name, value in _VISION.items() if name != "projection_dim"}
    text = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 256}
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.ViTConfig(**vision), transformers.GPT2Config(**{**_TEXT, **text})
    )
    model = transformers.VisionEncoderDecoderModel(config)
    model.generation_config.update(decoder_start_token_id=1, pad_token_id=0, eos_token_id=2)
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    transformers.ViTImageProcessor(size=_SIDES).save_pretrained(folder)
    return folder


def _save(folder: Path, model: Any, processor: Any) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
