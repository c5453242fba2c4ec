"""The thread that loads ahead: the same inputs, in the same order, never more than one ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lorasmith.config.sections.loss import LossSettings
from lorasmith.core.errors import RunError
from lorasmith.data.dataset import SampleRef
from lorasmith.diffusion.noise import Noise
from lorasmith.diffusion.schedule import DDPMSchedule
from lorasmith.models.diffusion_model import Conditioning
from lorasmith.tensors.rng import normal_per_sample
from lorasmith.training.batches import StepInputs
from lorasmith.training.interventions import Intervention, Interventions
from lorasmith.training.objective import MicroBatch, Objective

THREAD = "step-inputs"
STEPS, PER_STEP, SAMPLES = 5, 3, 2


class Batches:
    """Three micro-batches of two samples in each step; notes who loads what, and when."""

    def __init__(self, *, needs_model: bool = False) -> None:
        self.needs_model = needs_model
        self.loaded: list[tuple[int, str]] = []
        self.completed: list[str] = []
        self.fails_at: int | None = None
        self.idle_step: int | None = None

    def samples(self, step: int) -> list[list[SampleRef]]:
        first = step * PER_STEP * SAMPLES
        ids = [range(at, at + SAMPLES) for at in range(first, first + PER_STEP * SAMPLES, SAMPLES)]
        return [[SampleRef(number % 4, 0, number) for number in group] for group in ids]

    def shares(self, step: int) -> list[list[SampleRef]]:
        return [] if step == self.idle_step else self.samples(step)

    def size(self, step: int) -> int:
        return PER_STEP * SAMPLES

    def ahead(self, step: int) -> Iterator[Callable[[], MicroBatch]]:
        for share in self.shares(step):
            number = len(self.loaded)
            self.loaded.append((number, threading.current_thread().name))
            if number == self.fails_at:
                raise RunError.of("cache/a.safetensors", "a file of the cache was damaged")
            yield lambda share=share: self._complete([ref.id for ref in share])

    def _complete(self, ids: Sequence[int]) -> MicroBatch:
        self.completed.append(threading.current_thread().name)
        mean = normal_per_sample((4, 4, 4), 1, "test mean", 0, ids)
        hidden = torch.full((len(ids), 77, 8), float(ids[0]))
        weight = torch.tensor([1.0 + number for number in ids])
        return MicroBatch(mean, mean.abs(), lambda: Conditioning(hidden), weight, list(ids))

    def micro_batches(self, step: int) -> Iterator[MicroBatch]:
        return (complete() for complete in self.ahead(step))


def trainer() -> Any:
    objective = Objective(
        DDPMSchedule(), 3, noise=Noise(LossSettings(noise_offset=0.1, multires_iterations=3))
    )
    model = SimpleNamespace(device=torch.device("cpu"))
    return SimpleNamespace(model=model, objective=objective, interventions=Interventions())


def inputs(batches: Batches, for_: Any, *, ahead: bool = True, steps: int = STEPS) -> StepInputs:
    return StepInputs(batches, for_, steps, ahead=ahead)  # type: ignore[arg-type]


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith(THREAD)]


def noisy(for_: Any, batch: MicroBatch, step: int) -> list[torch.Tensor]:
    """What the step would give the denoiser and the loss."""
    drawn = batch.noisy or for_.objective.add_noise(batch, step)
    return [
        drawn.latents,
        drawn.timesteps,
        drawn.target,
        drawn.weight,
        batch.condition().prompt_embeds,
    ]


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    assert not threads()


@pytest.mark.parametrize("needs_model", [False, True])
@pytest.mark.parametrize("left_out", [(), (1,), (0, 1, 2, 3)])
def test_the_same_numbers_bit_for_bit(needs_model: bool, left_out: tuple[int, ...]) -> None:
    for_ = trainer()
    for_.interventions.add(Intervention(2, "watchdog", left_out=left_out))
    loaded = inputs(Batches(needs_model=needs_model), for_)
    plain = inputs(Batches(needs_model=needs_model), for_, ahead=False)
    for step in range(STEPS):
        (ours, total), (theirs, expected) = loaded.of(step), plain.of(step)
        assert total == expected
        pairs = list(zip(ours, theirs, strict=True))
        assert len(pairs) == PER_STEP
        for one, other in pairs:
            assert list(one.samples) == list(other.samples)
            for left, right in zip(noisy(for_, one, step), noisy(for_, other, step), strict=True):
                assert torch.equal(left, right)
    loaded.close()


def test_the_thread_loads_and_draws_and_leaves_the_model_alone() -> None:
    for needs_model in (False, True):
        batches, for_ = Batches(needs_model=needs_model), trainer()
        loaded = inputs(batches, for_)
        seen = [batch for step in range(STEPS) for batch in loaded.of(step)[0]]
        assert all(name.startswith(THREAD) for _, name in batches.loaded)
        completing = {name.startswith(THREAD) for name in batches.completed}
        assert completing == {not needs_model}
        assert {batch.noisy is None for batch in seen} == {needs_model}
        loaded.close()


def test_never_more_than_one_micro_batch_ahead() -> None:
    batches = Batches()
    loaded, used = inputs(batches, trainer()), 0
    for step in range(STEPS):
        for _ in loaded.of(step)[0]:
            used += 1
            deadline = time.monotonic() + 60
            while len(batches.loaded) < min(used + 1, STEPS * PER_STEP):
                assert time.monotonic() < deadline, "it does not load ahead"
                time.sleep(0.001)
            time.sleep(0.01)  # Time enough to load all of them.
            assert len(batches.loaded) == min(used + 1, STEPS * PER_STEP)
    loaded.close()


def test_an_error_comes_in_the_step_that_it_is_of() -> None:
    batches = Batches()
    batches.fails_at = 2 * PER_STEP + 1  # The second micro-batch of the third step.
    loaded = inputs(batches, trainer())
    for step in range(2):
        assert len(list(loaded.of(step)[0])) == PER_STEP
    micro_batches, _ = loaded.of(2)
    next(micro_batches)
    with pytest.raises(RunError, match="was damaged"):
        next(micro_batches)
    loaded.close()


def test_an_error_that_is_not_come_to_is_not_raised() -> None:
    batches = Batches()
    batches.fails_at = PER_STEP
    loaded = inputs(batches, trainer(), steps=2)
    assert len(list(loaded.of(0)[0])) == PER_STEP
    loaded.close()


def test_what_is_left_out_meanwhile_counts() -> None:
    batches, for_ = Batches(), trainer()
    loaded = inputs(batches, for_)
    list(loaded.of(0)[0])
    while len(batches.loaded) <= PER_STEP:  # The first of the next step is there already.
        time.sleep(0.001)
    for_.interventions.add(Intervention(1, "request", left_out=(0, 2)))
    micro_batches, total = loaded.of(1)
    assert total == PER_STEP * SAMPLES - sum(
        ref.item in (0, 2) for group in batches.samples(1) for ref in group
    )
    for batch in micro_batches:
        expected = [0.0 if number % 4 in (0, 2) else 1.0 + number for number in batch.samples]
        assert batch.weight.tolist() == expected
    loaded.close()


def test_going_back_and_on_after_closing() -> None:
    batches, for_ = Batches(), trainer()
    loaded = inputs(batches, for_)
    first = [batch.samples for batch in loaded.of(3)[0]]
    next(loaded.of(1)[0])  # Not used to its end.
    loaded.close()
    assert not threads()
    assert [batch.samples for batch in loaded.of(3)[0]] == first
    assert [batch.samples for batch in loaded.of(0)[0]] == [
        [ref.id for ref in share] for share in batches.shares(0)
    ]
    loaded.close()


def test_a_process_without_a_part_in_a_step() -> None:
    batches = Batches()
    batches.idle_step = 1
    loaded = inputs(batches, trainer())
    counts = [len(list(loaded.of(step)[0])) for step in range(3)]
    assert counts == [PER_STEP, 0, PER_STEP]
    assert loaded.of(3)[1] == PER_STEP * SAMPLES
    loaded.close()


def test_a_thread_computes_with_as_many_threads_as_the_step() -> None:
    """Sums are shared out among them, so their number decides the last digits."""
    before = torch.get_num_threads()
    seen: list[int] = []
    try:
        for count in (2, 1):
            torch.set_num_threads(count)
            one = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
            one.start()
            one.join()
    finally:
        torch.set_num_threads(before)
    assert seen == [2, 1]
