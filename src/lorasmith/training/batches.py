"""From positions in the order of samples to the tensors of a step, ready while the device computes.

Loading a micro-batch and drawing its noise take the processor milliseconds in which a GPU, given
nothing, does nothing. So one thread is one micro-batch ahead of the step. What it makes are
functions of the seed and the step, so it makes the same numbers; what needs the model is left to
the thread that trains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lorasmith.data.augmentation.views import View
from lorasmith.data.dataset import Dataset, SampleRef
from lorasmith.diffusion.global_batch import GlobalBatch
from lorasmith.training.interventions import Interventions
from lorasmith.training.objective import Kept, MicroBatch
from lorasmith.training.preservation import Preservation
from lorasmith.training.setup.processes import Processes
from lorasmith.training.sources import LatentSource, TextSource
from lorasmith.training.step import TrainStep


class Batches:
    """The batches of any step of the run, as a function of the step alone.

    Args:
        batch: samples per process and micro-batch, in groups without a size of their own.
        accumulation: micro-batches per optimizer step; an epoch's last step may have fewer.
        preservation: of the base model's output, ``None`` for none.
        opposites: of pairs of images, the latents of the other side.
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
        preservation: Preservation | None = None,
        opposites: LatentSource | None = None,
    ) -> None:
        self.dataset, self.latents, self.text, self.processes = dataset, latents, text, processes
        self.opposites = opposites
        self.seed, self.accumulation = seed, accumulation
        self.batch, self.preservation = batch, preservation
        self.per_epoch = dataset.batches_per_epoch(batch, processes.count)
        self.steps_per_epoch = -(-self.per_epoch // accumulation)
        # In one piece, as several threads may ask.
        self._order: tuple[int, list[list[SampleRef]]] = (-1, [])
        self._earlier: tuple[int, dict[int, int]] = (-1, {})

    @property
    def needs_model(self) -> bool:
        """Whether latents come from the model; see :class:`.LatentSource`."""
        sources = (self.latents, self.opposites)
        return any(source.needs_model for source in sources if source is not None)

    def epoch_of(self, step: int) -> int:
        """The epoch, from 1, that ``step`` (from 0) belongs to."""
        return step // self.steps_per_epoch + 1

    def ends_epoch(self, step: int) -> bool:
        return (step + 1) % self.steps_per_epoch == 0

    def samples(self, step: int) -> list[list[SampleRef]]:
        """The step's global batches, before they are shared out among processes."""
        epoch, index = divmod(step, self.steps_per_epoch)
        return self._order_of(epoch)[index * self.accumulation : (index + 1) * self.accumulation]

    def _order_of(self, epoch: int) -> list[list[SampleRef]]:
        known_epoch, order = self._order
        if epoch != known_epoch:
            order = self.dataset.batches(
                epoch, seed=self.seed, batch=self.batch, processes=self.processes.count
            )
            self._order = epoch, order
        return order

    def whole(self, step: int) -> GlobalBatch:
        """The step's samples, and how often the image of each was shown before."""
        epoch = step // self.steps_per_epoch
        refs = [ref for group in self.samples(step) for ref in group]
        earlier = self._earlier_in_epoch(epoch)
        return GlobalBatch(
            tuple(ref.id for ref in refs),
            tuple(ref.item for ref in refs),
            tuple(epoch * self.dataset.items[ref.item].repeats + earlier[ref.id] for ref in refs),
        )

    def _earlier_in_epoch(self, epoch: int) -> dict[int, int]:
        """By the id of a sample, how many of its image come before it in the epoch."""
        known_epoch, earlier = self._earlier
        if epoch != known_epoch:
            count: Counter[int] = Counter()
            earlier = {}
            for group in self._order_of(epoch):
                for ref in group:
                    earlier[ref.id] = count[ref.item]
                    count[ref.item] += 1
            self._earlier = epoch, earlier
        return earlier

    def size(self, step: int) -> int:
        """Samples of the step, over all its micro-batches and processes."""
        return sum(map(len, self.samples(step)))

    def micro_batches(self, step: int) -> Iterator[MicroBatch]:
        """This process's part of the step, loaded one by one."""
        return (complete() for complete in self.ahead(step))

    def ahead(self, step: int) -> Iterator[Callable[[], MicroBatch]]:
        """The same, as far as any thread can load it; each call does the rest."""
        whole = self.whole(step)
        return (self._read(share, step, whole) for share in self.shares(step))

    def shares(self, step: int) -> list[list[SampleRef]]:
        """The samples of this process's micro-batches; it may have none."""
        shares = (self.processes.share(group) for group in self.samples(step))
        return [share for share in shares if share]

    def _read(
        self, samples: Sequence[SampleRef], step: int, whole: GlobalBatch
    ) -> Callable[[], MicroBatch]:
        epoch = step // self.steps_per_epoch
        captions = [
            self.dataset.caption_for(sample, seed=self.seed, epoch=epoch, step=step)
            for sample in samples
        ]
        views = [self.dataset.view_for(sample, seed=self.seed, epoch=epoch) for sample in samples]
        posterior = self.latents.ahead(samples, views)
        other = self.opposites.ahead(samples, views) if self.opposites is not None else None
        masks = self.latents.masks(samples, views)
        text, sizes = self.text.ahead(captions), size_conditions(views)
        weights = torch.tensor([self.dataset.items[sample.item].weight for sample in samples])
        ids = [sample.id for sample in samples]
        if masks is not None and bool((masks == 1.0).all()):
            masks = None  # As without, and nothing is asked of the base model for it.
        kept: Kept | None = None
        if self.preservation is not None and self.preservation.at(step):
            kept = self._kept(self.preservation.captions(captions, samples, step), sizes)

        def complete() -> MicroBatch:
            batch = MicroBatch(
                *posterior(),
                lambda: text().with_size_ids(sizes),
                weights,
                ids,
                masks,
                whole=whole,
                kept=kept,
            )
            if other is None:
                return batch
            mean, std = other()
            return replace(batch, opposite=replace(batch, mean=mean, std=std))

        return complete

    def _kept(self, captions: Sequence[str | None], sizes: Tensor) -> Kept:
        """Of a micro-batch; for samples that keep nothing stands the empty caption, void."""
        text = self.text.ahead([caption or "" for caption in captions])
        weight = torch.tensor([float(caption is not None) for caption in captions])
        return Kept(lambda: text().with_size_ids(sizes), weight)


def size_conditions(views: Sequence[View]) -> Tensor:
    """(B, 6) float32 what SDXL's UNet is told of the images; other families do not look."""
    return torch.tensor([view.size_condition() for view in views], dtype=torch.float32)


def step_input(
    batches: Batches, step: int, interventions: Interventions
) -> tuple[Iterator[MicroBatch], int]:
    """This process's micro-batches of ``step``, and the samples of all of them everywhere.

    A sample that is left out stays in its batch, as nothing with no weight: so the shapes, and the
    random draws of the others, are what they were.
    """
    void, total = void_samples(batches, step, interventions.left_out(step))
    return (without(batch, void) for batch in batches.micro_batches(step)), total


def void_samples(
    batches: Batches, step: int, left_out: Collection[int]
) -> tuple[frozenset[int], int]:
    """The ids of the samples of ``step`` that are of items in ``left_out``, and how many others
    there are, at least 1."""
    if not left_out:
        return frozenset(), batches.size(step)
    samples = [sample for group in batches.samples(step) for sample in group]
    void = frozenset(sample.id for sample in samples if sample.item in left_out)
    return void, max(len(samples) - len(void), 1)


def without(batch: MicroBatch, void: Set[int]) -> MicroBatch:
    """The batch with the samples ``void`` as nothing with no weight."""
    if void.isdisjoint(batch.samples):
        return batch
    keep = torch.tensor([sample not in void for sample in batch.samples])
    nothing = torch.zeros(())
    return replace(
        batch,
        mean=torch.where(keep.view(-1, 1, 1, 1), batch.mean, nothing),
        std=torch.where(keep.view(-1, 1, 1, 1), batch.std, nothing),
        weight=batch.weight * keep,
        opposite=None if batch.opposite is None else without(batch.opposite, void),
    )


@dataclass(frozen=True, slots=True)
class _Ready:
    """A micro-batch of a step.

    Args:
        left_out: the dataset items that the step does not train on.
        total: samples of the step, as of :func:`step_input`.
        complete: does what is left to be done; ``None`` where this process has no part in the step.
        last: of the step.
    """

    step: int
    left_out: frozenset[int]
    total: int
    complete: Callable[[], MicroBatch] | None
    last: bool


class StepInputs:
    """The inputs of a run's steps, of which one micro-batch is loaded ahead.

    Asked for in order they are ready; another order, and changes of what is left out, cost time and
    nothing else.

    Args:
        steps: of the run.
        ahead: whether to load ahead; otherwise all is done when it is asked for.
    """

    def __init__(self, batches: Batches, trainer: TrainStep, steps: int, *, ahead: bool) -> None:
        self._batches, self._trainer, self._steps, self._ahead = batches, trainer, steps, ahead
        self._thread: ThreadPoolExecutor | None = None
        self._coming: Future[_Ready | None] | None = None
        self._stream: Iterator[_Ready] = iter(())

    def of(self, step: int) -> tuple[Iterator[MicroBatch], int]:
        """As :func:`step_input`. What goes wrong in the thread is raised here and in the iterator,
        when its turn comes."""
        left_out = self._trainer.interventions.left_out(step)
        if not self._ahead:
            return step_input(self._batches, step, self._trainer.interventions)
        ready = self._take()
        if ready is None or (ready.step, ready.left_out) != (step, left_out):
            self._begin(step)
            ready = self._take()
        assert ready is not None, step
        return self._micro_batches(ready), ready.total

    def close(self) -> None:
        """Let go of what is ready, and end the thread. It may be asked again after that."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
        self._thread = self._coming = None
        self._stream = iter(())

    def _micro_batches(self, ready: _Ready) -> Iterator[MicroBatch]:
        while True:
            if ready.complete is not None:
                yield ready.complete()
            if ready.last:
                return
            following = self._take()
            assert following is not None, ready.step
            ready = following

    def _begin(self, step: int) -> None:
        self.close()
        self._stream = self._from(step)
        self._thread = ThreadPoolExecutor(1, "step-inputs")
        self._coming = self._thread.submit(next, self._stream, None)

    def _take(self) -> _Ready | None:
        """The next micro-batch, while the thread begins with the one after it; ``None`` where there
        is no more."""
        if self._coming is None or self._thread is None:
            return None
        coming, self._coming = self._coming, None
        ready = coming.result()
        if ready is not None:
            self._coming = self._thread.submit(next, self._stream, None)
        return ready

    def _from(self, first: int) -> Iterator[_Ready]:
        """Everything from step ``first`` on; runs in the thread, a micro-batch at a time."""
        for step in range(first, self._steps):
            left_out = self._trainer.interventions.left_out(step)
            void, total = void_samples(self._batches, step, left_out)
            count = len(self._batches.shares(step))
            if not count:
                yield _Ready(step, left_out, total, None, last=True)
            for number, complete in enumerate(self._batches.ahead(step), 1):
                with_noise = self._with_noise(complete, step, void)
                yield _Ready(step, left_out, total, with_noise, last=number == count)

    def _with_noise(
        self, complete: Callable[[], MicroBatch], step: int, void: frozenset[int]
    ) -> Callable[[], MicroBatch]:
        """The micro-batch, with its noise where that can be had without the model."""
        if self._batches.needs_model:
            return lambda: without(complete(), void)
        trainer = self._trainer
        micro_batch = without(complete(), void)
        batch = trainer.objective.with_noise(micro_batch, step, trainer.model.device)
        return lambda: batch
