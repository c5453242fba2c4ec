"""What guides each step of an image: which texts, how much each, and which LoRAs.

Prompt editing and alternation give a step its texts, AND gives an image several; a LoRA may come
and go. Every distinct text is encoded once, and while nothing changes nothing is made anew.

Shapes: B images, N >= B prompts (more where AND joins several), C latent channels, h and w
latent size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lorasmith.models.diffusion_model import Conditioning
from lorasmith.prompts.parse import Part, Prompt
from lorasmith.sampling.conditioning import Chunk, PromptEncoder, chunk_count
from lorasmith.sampling.lora_library import AttachedLoras
from lorasmith.tensors.transfer import to_device

Chunks = tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class PromptPair:
    """What one image is guided by.

    Args:
        prompt, negative: the negative is used where :attr:`needs_negative` says so.
        cfg: classifier-free guidance; 1 is none.
        carriers: the LoRA files of the prompt, whose embeddings are known by their names in both.
    """

    prompt: Prompt
    negative: Prompt
    cfg: float
    carriers: tuple[Path, ...] = ()

    @property
    def needs_negative(self) -> bool:
        return self.cfg != 1.0 or self.prompt.composed

    @property
    def parts(self) -> tuple[Part, ...]:
        """The negative prompt's part, if it is needed, and the prompt's."""
        negative = self.negative.parts if self.needs_negative else ()
        return (*negative, *self.prompt.parts)

    def batch_key(self, encoder: PromptEncoder, steps: int) -> tuple[bool, int, int]:
        """Images of equal keys cost no more together than each alone.

        Raises:
            PromptError: an embedding that any step names is damaged.
        """
        chunks = chunk_count(self._chunks(encoder, steps))
        return self.needs_negative, len(self.prompt.parts), chunks

    def embeddings(self, encoder: PromptEncoder, steps: int) -> dict[str, Path]:
        """Files of the embeddings that the texts name, by name; what LoRAs carry is in theirs."""
        return {
            embedding.name: embedding.path
            for chunks in self._chunks(encoder, steps)
            for chunk in chunks
            for _, embedding in chunk.embeddings
            if embedding.path is not None
        }

    def _chunks(self, encoder: PromptEncoder, steps: int) -> list[Chunks]:
        """Of each text that any step has, once."""
        texts = {
            part.sections(step, steps): None
            for part in self.parts
            for step in range(steps if part.changes else 1)
        }
        return [encoder.chunks(text, self.carriers) for text in texts]


@dataclass(frozen=True, slots=True)
class StepGuidance:
    """What the denoiser reads in a step: B negative prompts, if any are needed, then N prompts."""

    conditioning: Conditioning
    negatives: int


class GuidanceSchedule:
    """What guides a batch through the steps of one pass.

    Args:
        images: all need a negative prompt, or none does.
        size: width and height of the pass, px.
        steps: how many steps are taken.
        before: how many the pass before it took; 0 for the first.
        loras: those attached for the batch.
    """

    def __init__(
        self,
        encoder: PromptEncoder,
        images: Sequence[PromptPair],
        *,
        size: tuple[int, int],
        steps: int,
        before: int = 0,
        loras: AttachedLoras | None = None,
    ) -> None:
        self._encoder, self._model = encoder, encoder.model
        self._size, self._steps, self._before, self._loras = size, steps, before, loras
        self._carriers = images[0].carriers
        assert all(image.carriers == self._carriers for image in images), "other LoRAs"
        self._guided = images[0].needs_negative
        assert all(image.needs_negative == self._guided for image in images)
        # The negative prompts, then all parts of all prompts, image after image.
        positive = [(n, part) for n, image in enumerate(images) for part in image.prompt.parts]
        negative = [image.negative.parts[0] for image in images if self._guided]
        self._parts = [*negative, *(part for _, part in positive)]
        device = self._model.device
        self._composed = any(image.prompt.composed for image in images)
        self._owners = to_device(torch.tensor([n for n, _ in positive]), device)
        self._weights = _column([part.weight for _, part in positive], device)
        self._cfg = _column([image.cfg for image in images], device)
        self._now: tuple[Chunks, ...] = ()
        self._current: StepGuidance | None = None

    def at(self, step: int) -> StepGuidance:
        """What guides a step, 0 for the first; the LoRAs are set for it. The same object as long
        as the texts stay the same."""
        if self._loras is not None:
            self._loras.at(step, self._steps, self._before)
        chunks = self._chunks(step)
        if self._current is None or chunks != self._now:
            self._now, self._current = chunks, self._encoded(chunks)
        return self._current

    def predict(self, noisy: Tensor, timestep: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The guided prediction, and that of the prompts without guidance; two of (B, C, h, w).

        One call of the denoiser. With negative prediction n and those p of the prompts it is
        ``n + cfg * sum(weight * (p - n))`` (Liu et al. 2022, "Compositional Visual Generation with
        Composable Diffusion Models"); without guidance it is p.
        """
        now = self.at(step)
        rows = noisy[self._owners] if self._composed else noisy
        if not now.negatives:
            prediction = self._model.denoise(rows, timestep, now.conditioning)
            return prediction, prediction
        prediction = self._model.denoise(torch.cat([noisy, rows]), timestep, now.conditioning)
        negative, positive = prediction[: now.negatives], prediction[now.negatives :]
        if self._composed:
            change = self._weights * (positive - negative[self._owners])
            positive = negative.index_add(0, self._owners, change)
        return negative + self._cfg * (positive - negative), positive

    def _chunks(self, step: int) -> tuple[Chunks, ...]:
        if self._now and not any(part.changes for part in self._parts):
            return self._now
        return tuple(
            self._encoder.chunks(part.sections(step, self._steps, self._before), self._carriers)
            for part in self._parts
        )

    def _encoded(self, chunks: Sequence[Chunks]) -> StepGuidance:
        model, family = self._model, self._model.architecture.family
        state = None if self._loras is None else self._loras.text_encoder
        conditioning = self._encoder.encode(chunks, state).to(model.device, model.dtype)
        negatives = len(self._cfg) if self._guided else 0
        if negatives and family.zero_negative:
            blank = [index < negatives and _blank(each) for index, each in enumerate(chunks)]
            conditioning = conditioning.zeroed(to_device(torch.tensor(blank), model.device))
        if family.size_conditioning:
            width, height = (float(side) for side in self._size)
            row = torch.tensor([height, width, 0.0, 0.0, height, width])
            row = to_device(row, model.device)
            conditioning = conditioning.with_size_ids(row.expand(len(chunks), -1))
        return StepGuidance(conditioning, negatives)


def _blank(chunks: Chunks) -> bool:
    return all(chunk.blank for chunk in chunks)


def _column(values: Sequence[float], device: torch.device) -> Tensor:
    """(len(values), 1, 1, 1)"""
    return to_device(torch.tensor(values), device).view(-1, 1, 1, 1)
