"""From positions in the order of samples to the tensors of a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from lorasmith.data.augmentation.views import View
from lorasmith.data.dataset import Dataset, SampleRef
from lorasmith.models.diffusion_model import Conditioning
from lorasmith.training.objective import MicroBatch
from lorasmith.training.setup.processes import Processes


class LatentSource(Protocol):
    """Where latents come from: the cache, or the VAE on the spot.

    Args:
        needs_model: it asks the model, which is for the thread that trains alone to use.
    """

    needs_model: bool

    def posterior(
        self, samples: Sequence[SampleRef], views: Sequence[View]
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each (B, C, h, w) float32 on the CPU, scaled."""
        ...

    def ahead(
        self, samples: Sequence[SampleRef], views: Sequence[View]
    ) -> Callable[[], tuple[Tensor, Tensor]]:
        """What of :meth:`posterior` any thread can do; the call does the rest and gives it."""
        ...

    def masks(self, samples: Sequence[SampleRef], views: Sequence[View]) -> Tensor | None:
        """(B, 1, h, w) float32 in [0, 1], ones for images without; ``None``: none has any."""
        ...


class TextSource(Protocol):
    """Where text features come from: the cache, or the text encoder on the spot."""

    def condition(self, captions: Sequence[str]) -> Conditioning: ...

    def ahead(self, captions: Sequence[str]) -> Callable[[], Conditioning]:
        """What of :meth:`condition` any thread can do; the call does the rest and gives it."""
        ...


class Batches:
    """The batches of any step of the run, as a function of the step alone.

    Args:
        batch: samples per process and micro-batch, in groups without a size of their own.
        accumulation: micro-batches per optimizer step; an epoch's last step may have fewer.
    """

    def __init__(
        self,
        dataset: Dataset,
        latents: LatentSource,
        text: TextSource,
        processes: Processes,
        *,
        seed: int,
        batch: int,
        accumulation: int,
    ) -> None:
        self.dataset, self.latents, self.text, self.processes = dataset, latents, text, processes
        self.seed, self.accumulation = seed, accumulation
        self.batch = batch
        self.per_epoch = dataset.batches_per_epoch(batch, processes.count)
        self.steps_per_epoch = -(-self.per_epoch // accumulation)
        # In one piece, as several threads may ask.
        self._order: tuple[int, list[list[SampleRef]]] = (-1, [])

    def epoch_of(self, step: int) -> int:
        """The epoch, from 1, that ``step`` (from 0) belongs to."""
        return step // self.steps_per_epoch + 1

    def ends_epoch(self, step: int) -> bool:
        return (step + 1) % self.steps_per_epoch == 0

    def samples(self, step: int) -> list[list[SampleRef]]:
        """The step's global batches, before they are shared out among processes."""
        epoch, index = divmod(step, self.steps_per_epoch)
        known, order = self._order
        if epoch != known:
            order = self.dataset.batches(
                epoch, seed=self.seed, batch=self.batch, processes=self.processes.count
            )
            self._order = epoch, order
        return order[index * self.accumulation : (index + 1) * self.accumulation]

    def size(self, step: int) -> int:
        """Samples of the step, over all its micro-batches and processes."""
        return sum(map(len, self.samples(step)))

    def micro_batches(self, step: int) -> Iterator[MicroBatch]:
        """This process's part of the step, loaded one by one."""
        return (complete() for complete in self.ahead(step))

    def ahead(self, step: int) -> Iterator[Callable[[], MicroBatch]]:
        """The same, as far as any thread can load it; each call does the rest."""
        return (self._read(share, step) for share in self.shares(step))

    def shares(self, step: int) -> list[list[SampleRef]]:
        """The samples of this process's micro-batches; it may have none."""
        shares = (self.processes.share(group) for group in self.samples(step))
        return [share for share in shares if share]

    def _read(self, samples: Sequence[SampleRef], step: int) -> Callable[[], MicroBatch]:
        epoch = step // self.steps_per_epoch
        captions = [
            self.dataset.caption_for(sample, seed=self.seed, epoch=epoch, step=step)
            for sample in samples
        ]
        views = [self.dataset.view_for(sample, seed=self.seed, epoch=epoch) for sample in samples]
        posterior = self.latents.ahead(samples, views)
        masks = self.latents.masks(samples, views)
        text, sizes = self.text.ahead(captions), size_conditions(views)
        weights = torch.tensor([self.dataset.items[sample.item].weight for sample in samples])
        ids = [sample.id for sample in samples]

        def complete() -> MicroBatch:
            return MicroBatch(
                *posterior(), lambda: text().with_size_ids(sizes), weights, ids, masks
            )

        return complete


def size_conditions(views: Sequence[View]) -> Tensor:
    """(B, 6) float32 what SDXL's UNet is told of the images; other families do not look."""
    return torch.tensor([view.size_condition() for view in views], dtype=torch.float32)
