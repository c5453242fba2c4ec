"""What the next steps work on, made ready while the device computes.

Loading a micro-batch and drawing its noise take the processor milliseconds in which a GPU, given
nothing, does nothing. Here one thread is one micro-batch ahead of the step. What it makes are
functions of the seed and the step, so it makes the same numbers; what needs the model is left to
the thread that trains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from lorasmith.training.batches import Batches
from lorasmith.training.interventions import step_input, void_samples, without
from lorasmith.training.objective import MicroBatch
from lorasmith.training.step import TrainStep


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
                made = self._made(complete, step, void)
                yield _Ready(step, left_out, total, made, last=number == count)

    def _made(
        self, complete: Callable[[], MicroBatch], step: int, void: frozenset[int]
    ) -> Callable[[], MicroBatch]:
        """The micro-batch, with its noise where that can be had without the model."""
        if self._batches.latents.needs_model:
            return lambda: without(complete(), void)
        trainer = self._trainer
        whole = without(complete(), void)
        batch = trainer.objective.with_noise(whole, step, trainer.model.device)
        return lambda: batch
