"""Numbers that compare: fixed noise, fixed timesteps, nothing of the run's own."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler
from tests.tiny_models import tiny_model
from tests.tolerances import NETWORK, near
from torch import Tensor

from lorasmith.adapters.dropout import Dropout
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.sections.data import CaptionSettings
from lorasmith.config.sections.optimizer import ScheduleSettings
from lorasmith.core.events import ValidationDone
from lorasmith.data.augmentation.views import View
from lorasmith.data.buckets import plan_buckets
from lorasmith.data.dataset import SampleRef
from lorasmith.data.holdout import ValidationSet, image_number, measuring_dataset
from lorasmith.data.layout import FolderSpec
from lorasmith.data.scan import DatasetImage, Scan
from lorasmith.diffusion.schedule import DDPMSchedule
from lorasmith.tensors.rng import normal, normal_per_sample
from lorasmith.training.ema import Ema
from lorasmith.training.lr_schedules import LearningRate
from lorasmith.training.monitoring.observers import validation_line
from lorasmith.training.monitoring.validation import (
    Losses,
    Validation,
    mean_and_error,
    summarise,
)
from lorasmith.training.objective import MicroBatch, Objective
from lorasmith.training.optim import FlatGroup
from lorasmith.training.setup.processes import Processes
from lorasmith.training.sources import LiveText
from lorasmith.training.step import TrainStep

SHAPE = (4, 4, 4)


class Latents:
    """Latents that follow from the image's name."""

    def __init__(self, measured: ValidationSet) -> None:
        self._items = measured.dataset.items

    def posterior(
        self, samples: Sequence[SampleRef], views: Sequence[View]
    ) -> tuple[Tensor, Tensor]:
        assert not any(view.flip or view.colour for view in views)
        numbers = [image_number(self._items[sample.item].image) for sample in samples]
        mean = normal_per_sample(SHAPE, 1, "latents", 0, numbers)
        return mean, torch.full_like(mean, 9.0)  # Nothing may be drawn from the posterior.

    def masks(self, samples: Sequence[SampleRef], views: Sequence[View]) -> Tensor | None:
        return None


class OneOf(Processes):
    """One of several processes, which keeps its part of a sum to itself."""

    def __init__(self, rank: int, count: int) -> None:
        self._rank, self._count = rank, count

    @property
    def rank(self) -> int:
        return self._rank

    @property
    def count(self) -> int:
        return self._count

    def sum_(self, tensor: Tensor) -> None:
        pass


def images(*names: str) -> list[DatasetImage]:
    return [DatasetImage(Path(f"p/{n}.png"), 0, 64, 64, f"the {n}", None, False) for n in names]


def measured(held_out: Sequence[str], training: Sequence[str]) -> ValidationSet:
    groups = [images(*held_out), images(*training)]
    scan = Scan((FolderSpec(Path("p")),), tuple(groups[1]))
    dataset = measuring_dataset(scan, groups, plan_buckets(64, 64), CaptionSettings(), 0)
    return ValidationSet(dataset, len(held_out))


def trainer_of(
    *, rank: int = 4, seed: int = 0, up: float = 0.05, decay: float = 0.0,
    dropout: Dropout | None = None, processes: Processes | None = None,
) -> TrainStep:  # fmt: skip
    """A trainer of the tiny model whose adapters already change something, unless ``up`` is 0."""
    model = tiny_model()
    network = AdapterNetwork.create(model.adapter_roots(), rank=rank, seed=seed, dropout=dropout)
    network.attach()
    parameters = [p for adapter in network.adapters.values() for p in adapter.parameters()]
    group = FlatGroup("all", parameters, 1e-2)
    with torch.no_grad():
        group.flat += up * normal(group.flat.shape, 2, "up")
    schedule = DDPMSchedule("epsilon")
    return TrainStep(
        model,
        network,
        [group],
        torch.optim.AdamW([{"params": [group.flat], "lr": 1e-2, "name": "all"}]),
        LearningRate(ScheduleSettings(name="constant"), 10),
        Objective(schedule, seed),
        processes or Processes(torch.device("cpu")),
        ema=Ema([group], decay) if decay else None,
    )


def validation_of(trainer: TrainStep, images: ValidationSet, timesteps: int = 4) -> Validation:
    text = LiveText(trainer.model, trained=True)
    schedule = trainer.objective.schedule
    return Validation(trainer, images, Latents(images), text, schedule, seed=0, timesteps=timesteps)


def train_step(trainer: TrainStep, step: int) -> None:
    mean = normal_per_sample(SHAPE, 3, "trained on", 0, [1, 2])
    text = trainer.model.encode_text
    batch = MicroBatch(mean, mean * 0.1, lambda: text(["one", "two"]), torch.ones(2), [1, 2])
    trainer(step, [batch], 2)


def test_equals_diffusers_arithmetic() -> None:
    trainer = trainer_of()
    one = measured(["a"], ["b"])
    found = validation_of(trainer, one, timesteps=10)(5).held_out
    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
    )
    number = image_number(one.dataset.items[0].image)
    x0 = normal_per_sample(SHAPE, 1, "latents", 0, [number])
    losses = []
    with torch.no_grad():
        text = trainer.model.encode_text(["the a"]).prompt_embeds
        for index, t in enumerate(range(50, 1000, 100)):
            noise = normal_per_sample(SHAPE, 0, f"validation/{number}", 0, [index])
            noisy = scheduler.add_noise(x0, noise, torch.tensor([t]))
            predicted = trainer.model.denoiser(noisy, torch.tensor([t]), text).sample
            losses.append(float((predicted - noise).square().mean()))
    assert found == near(statistics.mean(losses), NETWORK)


@pytest.mark.slow
def test_starts_the_same_in_every_run() -> None:
    """Another rank, seed and average: the same noise, so the same number while nothing changed."""
    some = measured(["a", "b", "c"], ["d", "e"])
    first = validation_of(trainer_of(up=0.0), some)(0)
    other = validation_of(trainer_of(up=0.0, rank=2, seed=9, decay=0.9), some)(0)
    assert (first.held_out, first.training) == (other.held_out, other.training)
    assert first.held_out_change == first.training_change == first.gap_growth == 0
    assert first.gap == pytest.approx(first.held_out - first.training)


@pytest.mark.slow
def test_other_images_and_their_order_do_not_matter() -> None:
    trainer = trainer_of()
    together = validation_of(trainer, measured(["a", "b"], ["c"]))(0)
    swapped = validation_of(trainer, measured(["b", "a"], ["d"]))(0)
    alone = [validation_of(trainer, measured([name], ["c"]))(0).held_out for name in "ab"]
    assert together.held_out == near(swapped.held_out, NETWORK)
    assert together.held_out == near(statistics.mean(alone), NETWORK)
    assert alone[0] != near(alone[1], NETWORK)


@pytest.mark.slow
def test_training_goes_on_bit_for_bit() -> None:
    options = {"dropout": Dropout(0.2, 0.2, 0.2), "decay": 0.9}
    watched, alone = trainer_of(**options), trainer_of(**options)  # type: ignore[arg-type]
    validation = validation_of(watched, measured(["a"], ["b"]))
    state = torch.get_rng_state()
    validation(0)
    assert torch.equal(torch.get_rng_state(), state)
    for step in range(3):
        train_step(watched, step)
        validation(step + 1)
        train_step(alone, step)
        assert torch.equal(*watched.groups[0].tensors, *alone.groups[0].tensors)
    assert watched.ema is not None
    assert alone.ema is not None
    assert torch.equal(watched.ema.averages["all"][0], alone.ema.averages["all"][0])


def test_measures_without_dropout() -> None:
    plain, dropping = trainer_of(), trainer_of(dropout=Dropout(0.5, 0.5, 0.5))
    some = measured(["a"], ["b"])
    for trainer in (plain, dropping):
        trainer.trained.begin_step(0, 0, [1])
    assert validation_of(plain, some)(0).held_out == validation_of(dropping, some)(0).held_out


@pytest.mark.slow
def test_measures_the_average_where_that_is_saved() -> None:
    averaged, plain = trainer_of(decay=0.99), trainer_of()
    some = measured(["a"], ["b"])
    for step in range(4):
        train_step(averaged, step)
    assert averaged.ema is not None
    with torch.no_grad():
        plain.groups[0].tensors[0].copy_(averaged.ema.averages["all"][0])
    assert validation_of(averaged, some)(4).held_out == validation_of(plain, some)(4).held_out


@pytest.mark.slow
def test_processes_share_the_images() -> None:
    some = measured(["a", "b", "c"], ["d", "e"])
    whole = validation_of(trainer_of(), some)._measure()
    parts = [
        validation_of(trainer_of(processes=OneOf(rank, 2)), some)._measure() for rank in range(2)
    ]
    assert torch.equal(parts[0].held_out + parts[1].held_out, whole.held_out)
    assert torch.equal(parts[0].training + parts[1].training, whole.training)
    assert all(bool(part.held_out.any()) for part in parts)


# The numbers


def event_of(now: Sequence[Sequence[float]], base: Sequence[Sequence[float]]) -> ValidationDone:
    """From losses by image of two held-out images and as many training ones."""
    tensors = [torch.tensor(rows, dtype=torch.float64) for rows in (now, base)]
    return summarise(7, *(Losses(tensor[:2], tensor[2:]) for tensor in tensors))


def test_standard_error_is_that_of_the_textbook() -> None:
    values = [0.1, 0.4, 0.25, 0.9, 0.33]
    mean, error = mean_and_error(torch.tensor(values, dtype=torch.float64))
    assert mean == pytest.approx(statistics.mean(values))
    assert error == pytest.approx(statistics.stdev(values) / math.sqrt(5))
    assert mean_and_error(torch.tensor([0.5])) == (0.5, None)


def test_changes_are_of_each_image_against_itself() -> None:
    """Images that differ much but fell alike: an exact change, a vague level."""
    event = event_of([[0.9], [0.1], [0.7], [0.3]], [[1.0], [0.2], [0.9], [0.5]])
    assert event.held_out == pytest.approx(0.5)
    assert event.held_out_change == pytest.approx(-0.1)
    assert event.training_change == pytest.approx(-0.2)
    assert event.gap == pytest.approx(0.0)
    assert event.gap_growth == pytest.approx(0.1)
    assert event.errors["held_out"] == pytest.approx(0.4)
    assert event.errors["held_out_change"] == pytest.approx(0.0, abs=1e-12)
    assert event.errors["gap"] == pytest.approx(math.hypot(0.4, 0.2))
    assert "-16.7%" in validation_line(event)


def test_quarters_are_of_the_held_out_images() -> None:
    rows = [[1.0, 2, 3, 4, 5, 6, 7, 8], [3.0, 4, 5, 6, 7, 8, 9, 10], [0.0] * 8, [0.0] * 8]
    assert event_of(rows, rows).quarters == [2.5, 4.5, 6.5, 8.5]
    assert event_of([[1.0]] * 4, [[1.0]] * 4).quarters == [1.0]


def test_a_record_holds_plain_numbers() -> None:
    record = event_of([[0.9], [0.1], [0.7], [0.3]], [[1.0], [0.2], [0.9], [0.5]]).record()
    assert record["event"] == "ValidationDone"
    assert all(isinstance(record[name], float) for name in ("held_out", "training", "gap"))
