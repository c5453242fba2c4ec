"""A captioning model of transformers on this machine: its own classes, never code from a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from inspect import signature
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from lorasmith.core.errors import CheckpointError, Problem, SettingsError, UserError
from lorasmith.core.events import Controls
from lorasmith.core.files import quick_fingerprint
from lorasmith.core.installation import package_line
from lorasmith.curation.captioner.answers import STOPPED, Answer
from lorasmith.curation.captioner.conventions import KNOWN, ModelFolder
from lorasmith.models.text_encoder import quiet_transformers
from lorasmith.tensors.device import choose_device, choose_precision

# Modules that stay as they are in 4 bits: those that look, and the last layer. The attention of
# SigLIP's head, which JoyCaption has, fails otherwise.
_NOT_QUANTIZED = [r".*(?:vision|visual|image|projector|connector|qformer|lm_head)[^.]*"]


class LocalCaptioner:
    """
    Args:
        folder: from :func:`lorasmith.curation.captioner.conventions.find_model`.
        prompt: the beginning of the caption, the task or the request, by the model's manner.
        max_tokens: of the model's own that it writes at most.
        min_tokens: that it writes at least.
        beams: captions that are followed at a time, of which the likeliest is taken.
        batch: images at once; fewer where the memory does not suffice.
        four_bit: the language model's weights in 4 bits (NF4).

    Raises:
        UserError: with everything that is wrong; no weights have been read.
    """

    def __init__(
        self,
        folder: ModelFolder,
        prompt: str,
        *,
        max_tokens: int = 256,
        min_tokens: int = 0,
        beams: int = 1,
        batch: int = 1,
        device: str = "auto",
        precision: str = "auto",
        four_bit: bool = False,
    ) -> None:
        check_kind(folder)
        if four_bit and find_spec("bitsandbytes") is None:
            hint = f"install it with `{package_line('bitsandbytes')}`, or leave --four-bit out"
            raise SettingsError.of("four_bit", "bitsandbytes is not installed", hint)
        weights = sum(
            path.stat().st_size
            for suffix in ("safetensors", "bin")
            for path in folder.path.glob(f"*.{suffix}")
        )
        if not weights:
            what = "holds no weights (*.safetensors)"
            raise CheckpointError.of(folder.path, what, "download the model again")
        self.folder, self.prompt, self.batch = folder, prompt, batch
        self.max_tokens, self.min_tokens, self.beams = max_tokens, min_tokens, beams
        self.four_bit = four_bit
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device, weights // 4)

    @property
    def identity(self) -> Mapping[str, Any]:
        return {
            "model": self._fingerprint,
            "prompt": self.prompt,
            "max_tokens": self.max_tokens,
            "min_tokens": self.min_tokens,
            "beams": self.beams,
            "precision": "nf4" if self.four_bit else self.precision.name,
        }

    @cached_property
    def _fingerprint(self) -> str:
        return quick_fingerprint(self.folder.path)

    def answers(self, images: Sequence[Image.Image], controls: Controls) -> list[Answer | Problem]:
        """
        Args:
            images: RGB.

        Raises:
            CheckpointError: the model cannot be loaded, or cannot take images in this way.
            Stopped: by ``controls``, also within a caption.
        """
        try:
            return list(self._generate(list(images), controls))
        except torch.OutOfMemoryError:
            if len(images) == 1:
                raise
        # Out of the handler: its error holds on to the tensors.
        half = len(images) // 2
        self.batch = half
        return [
            answer
            for some in (images[:half], images[half:])
            for answer in self.answers(some, controls)
        ]

    @torch.inference_mode()
    def _generate(self, images: list[Image.Image], controls: Controls) -> list[Answer]:
        model, processor = self._loaded
        watch = _Watch(controls)
        with quiet_transformers(), _explained(self.folder):
            output: Tensor = model.generate(
                **self._inputs(processor, images),
                max_new_tokens=self.max_tokens,
                min_new_tokens=self.min_tokens or None,
                num_beams=self.beams,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                stopping_criteria=[watch],
            )
        ends = self._end_tokens(model, processor)
        answers = []
        for row in output[:, watch.prompt_length :].tolist():
            length = next((n for n, token in enumerate(row) if token in ends), len(row))
            text = processor.decode(row[:length], skip_special_tokens=True).strip()
            if self.folder.convention.manner == "continues" and text:
                text = f"{self.prompt} {text}".strip()
            answers.append(Answer(text, length + 1 < self.max_tokens))
        return answers

    def _inputs(self, processor: Any, images: list[Image.Image]) -> Mapping[str, Any]:
        """What the model is given of the images and the prompt, on its device."""
        options: dict[str, Any] = {"return_tensors": "pt"}
        text = self.prompt
        if self.folder.convention.manner == "chat":
            text = self._chat(processor)
            begin = processor.tokenizer.bos_token
            if begin and text.startswith(begin):
                options["add_special_tokens"] = False
        if text:
            options |= {"text": [text] * len(images), "padding": True}
        inputs = processor(images=images, **options)
        ids = inputs.get("input_ids")
        if self.folder.model_type == "git" and ids is not None:
            # The mark of the end, behind which nothing would be continued.
            last = processor.tokenizer.sep_token_id
            if last is not None and bool((ids[:, -1] == last).all()):
                inputs["input_ids"] = ids[:, :-1]
                inputs["attention_mask"] = inputs["attention_mask"][:, :-1]
        moved: Mapping[str, Any] = inputs.to(device=self.device, dtype=self.precision.dtype)
        return moved

    def _chat(self, processor: Any) -> str:
        """The chat up to the model's turn, with a place for the image.

        Templates differ in how the image is put: as a part of the message, by themselves, or as a
        mark in the text.

        Raises:
            CheckpointError: the template takes none of these.
        """
        from jinja2 import TemplateError

        mark = getattr(processor, "image_token", None) or "<image>"
        system = self.folder.convention.system
        if not getattr(processor, "chat_template", None):
            return f"{mark}\n{self.prompt}"
        parts = [{"type": "image"}, {"type": "text", "text": self.prompt}]
        for content in (parts, self.prompt, f"{mark}\n{self.prompt}"):
            first: Any = system if isinstance(content, str) else [{"type": "text", "text": system}]
            messages = [{"role": "system", "content": first}] if system else []
            messages.append({"role": "user", "content": content})
            try:
                text = processor.apply_chat_template(messages, add_generation_prompt=True)
            except (TypeError, ValueError, TemplateError):
                continue
            if mark in text and self.prompt.strip() in text and "'type'" not in text:
                return str(text)
        what = "its chat template has no place for a picture that is known here"
        raise CheckpointError.of(self.folder.name, what, "use another model")

    @staticmethod
    def _end_tokens(model: Any, processor: Any) -> set[int]:
        ends: list[int | None] = []
        for owner in (processor.tokenizer, model.generation_config, model.config.get_text_config()):
            for name in ("eos_token_id", "sep_token_id", "pad_token_id"):
                known = getattr(owner, name, None)
                ends += known if isinstance(known, list) else [known]
        return {token for token in ends if token is not None}

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """Model and processor.

        Raises:
            CheckpointError: a file is missing or does not fit.
        """
        import transformers

        path = str(self.folder.path)
        options: dict[str, Any] = {"dtype": self.precision.dtype}
        if self.four_bit:
            options["quantization_config"] = transformers.BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=self.precision.dtype,
                llm_int8_skip_modules=_NOT_QUANTIZED,
            )
            options["device_map"] = {"": self.device}
        with quiet_transformers(), _explained(self.folder):
            processor = _processor(path)
            model = transformers.AutoModelForImageTextToText.from_pretrained(
                path, local_files_only=True, trust_remote_code=False, **options
            )
        if not self.four_bit:
            model.to(self.device)
        tokenizer = processor.tokenizer
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        if not model.config.is_encoder_decoder:
            tokenizer.padding_side = "left"  # What is written follows the prompt directly.
        return model.eval(), processor


def check_kind(folder: ModelFolder) -> None:
    """
    Raises:
        UserError: transformers has no model of this kind that writes about images, or needs
            torchvision for it.
    """
    import transformers
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as CLASSES,
    )
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    kind = folder.model_type
    if kind not in CLASSES:
        what = f"it is of the kind {kind or 'none at all'}, which "
        if "auto_map" in folder.config:
            what += "needs code from its page; that is not run here"
        else:
            what += "does not write about pictures"
        raise UserError.of(folder.name, what, f"use one of {', '.join(KNOWN)}, or their like")
    processor = getattr(transformers, PROCESSOR_MAPPING_NAMES.get(kind) or "", None)
    takes_videos = processor is not None and "video_processor" in signature(processor).parameters
    if takes_videos and find_spec("torchvision") is None:
        what = (
            "models of this kind take videos too, and so need torchvision, which is not installed"
        )
        hint = "install the one that belongs to your PyTorch, or use another model"
        raise UserError.of(folder.name, what, hint)


class _Watch:
    """Called by transformers after each token; knows how long the prompt was."""

    def __init__(self, controls: Controls) -> None:
        self.controls = controls
        self.prompt_length = -1

    def __call__(self, ids: Tensor, scores: Any, **rest: Any) -> Tensor:
        self.controls.check(STOPPED)
        if self.prompt_length < 0:
            self.prompt_length = ids.shape[1] - 1
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)


class _Pair:
    """Processor of a model that has none: what sees and what reads, each by itself."""

    def __init__(self, images: Any, tokenizer: Any) -> None:
        self.images, self.tokenizer = images, tokenizer

    def __call__(self, images: Any, text: Any = None, **options: Any) -> Any:
        if text is not None:
            raise ValueError("it takes no prompt")
        return self.images(images=images, return_tensors="pt")

    def decode(self, *arguments: Any, **options: Any) -> str:
        return str(self.tokenizer.decode(*arguments, **options))


def _processor(path: str) -> Any:
    import transformers

    options = {"local_files_only": True, "trust_remote_code": False}
    processor = transformers.AutoProcessor.from_pretrained(path, **options)
    if hasattr(processor, "tokenizer"):
        return processor
    return _Pair(
        transformers.AutoImageProcessor.from_pretrained(path, **options),
        transformers.AutoTokenizer.from_pretrained(path, **options),
    )


_MISFITS = (OSError, ValueError, KeyError, AttributeError, TypeError)


@contextlib.contextmanager
def _explained(folder: ModelFolder) -> Iterator[None]:
    """Within it, what transformers says of files that do not fit is told to the user."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        what = f"needs another package: {' '.join(str(error).split())[:200]}"
        raise CheckpointError.of(folder.name, what, "install it, or use another model") from error
    except (*_MISFITS, SafetensorError) as error:
        what = f"cannot be used: {' '.join(str(error).split())[:300] or type(error).__name__}"
        hint = "download the whole model again, or use another"
        raise CheckpointError.of(folder.name, what, hint) from error
