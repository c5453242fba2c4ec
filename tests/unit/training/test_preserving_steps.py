"""Steps that keep the base model's output: what they add to the gradient, and what they leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler
from tests.tiny_models import tiny_model
from tests.tolerances import NETWORK, assert_near
from tests.unit.training.test_step import gradients, half, make, micro_batch, weights
from torch import Tensor

from lorasmith.adapters.dropout import Dropout
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.sections.data import CaptionSettings
from lorasmith.config.sections.loss import LossSettings, PreservationSettings
from lorasmith.data.dataset import Dataset
from lorasmith.diffusion.loss import Loss
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.tensors.rng import normal_per_sample
from lorasmith.training.objective import Kept, MicroBatch
from lorasmith.training.preservation import Preservation
from lorasmith.training.step import TrainStep

TYPES = ["lora", "locon", "loha", "lokr", "dora", "dylora", "ia3", "oft", "boft"]


def always(weight: float = 1.0, own_share: float = 0.0) -> Preservation:
    section = PreservationSettings(share=1.0, own_share=own_share, weight=weight)
    return Preservation(section, Dataset((), CaptionSettings(), ()), ("number",), False, 0)


def keeping(batch: MicroBatch, model: DiffusionModel, weight: Sequence[float] = ()) -> MicroBatch:
    captions = [f"a picture of {sample}" for sample in batch.samples]
    kept = Kept(partial(model.encode_text, captions), torch.tensor(weight or [1.0] * len(captions)))
    return replace(batch, kept=kept)


def preserving(
    model: DiffusionModel, weight: float = 1.0, own_share: float = 0.0, **options: object
) -> TrainStep:
    return make(model, preservation=always(weight, own_share), **options)  # type: ignore[arg-type]


def reset(trainer: TrainStep) -> None:
    """As a new LoRA: nothing changes yet."""
    assert isinstance(trainer.trained, AdapterNetwork)
    with torch.no_grad():
        for adapter in trainer.trained.adapters.values():
            adapter.get_parameter("lora_up.weight").zero_()


def distance(trainer: TrainStep, batch: MicroBatch, own: Sequence[int] = ()) -> Tensor:
    objective, disabled = trainer.objective, trainer.trained.disabled
    return objective.preservation_sum(trainer.model, batch, 0, disabled, own)


@pytest.mark.parametrize("own_share", [0.0, 1.0])
def test_where_the_adapter_changes_nothing_it_is_zero_and_so_is_its_gradient(
    own_share: float,
) -> None:
    model, other = tiny_model(), tiny_model()
    trainer, plain = preserving(model, 1000.0, own_share), make(other)
    reset(trainer)
    reset(plain)
    result = trainer(0, [keeping(micro_batch(model, [0, 1]), model)], total=2)
    expected = plain(0, [micro_batch(other, [0, 1])], total=2)
    assert float(result.preservation) == 0.0  # type: ignore[arg-type]
    assert torch.equal(result.loss, expected.loss)
    assert torch.equal(gradients(trainer), gradients(plain))
    # Learned something: now there is something to keep.
    later = trainer(1, [keeping(micro_batch(model, [0, 1]), model)], total=2)
    assert float(later.preservation) > 0  # type: ignore[arg-type]


def test_it_is_the_squared_distance_weighted_as_the_loss() -> None:
    model = tiny_model()
    trainer = preserving(model)
    batch = keeping(micro_batch(model, [3, 4, 5], weight=0.5), model, [1.0, 0.0, 1.0])
    found = distance(trainer, batch)
    noisy = trainer.objective.add_noise(batch, 0)
    with torch.no_grad():
        text = model.encode_text([f"a picture of {sample}" for sample in (3, 4, 5)])
        adapted = model.denoise(noisy.latents, noisy.timesteps, text)
        with trainer.trained.detached():
            text = model.encode_text([f"a picture of {sample}" for sample in (3, 4, 5)])
            base = model.denoise(noisy.latents, noisy.timesteps, text)
    each = torch.nn.functional.mse_loss(adapted, base, reduction="none").flatten(1).mean(1)
    assert (each > 0).all()
    kept = each * noisy.weight * torch.tensor([1.0, 0.0, 1.0])
    assert_near(found.detach(), kept.sum(), NETWORK)


@pytest.mark.parametrize("own", [(999, 750, 412), (999, 3), (750, 130)])
def test_latents_of_its_own_are_what_the_base_draws(own: tuple[int, ...]) -> None:
    """By diffusers' DDIM, with the adapter off; other samples in the batch change nothing."""
    model = tiny_model()
    trainer = preserving(model)
    batch = keeping(micro_batch(model, [3, 4], weight=0.5), model, [1.0, 0.0])
    assert batch.kept is not None
    latents = normal_per_sample(batch.mean.shape[1:], trainer.objective.seed, "own", 0, [3, 4])
    if own[0] < 999:
        start = torch.full((2,), own[0])
        latents = trainer.objective.schedule.add_noise(batch.mean, latents, start)
    kind = "v_prediction" if model.prediction == "v" else "epsilon"
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        clip_sample=False, prediction_type=kind,
    )  # fmt: skip
    last = torch.full((2,), own[-1])
    with torch.no_grad():
        with trainer.trained.detached():
            text = batch.kept.condition()
            for now, then in pairwise(own):
                predicted = model.denoise(latents, torch.full((2,), now), text)
                # The scheduler goes from t to t - 1000 // steps.
                scheduler.num_inference_steps = 1
                scheduler.config.num_train_timesteps = now - then
                latents = scheduler.step(predicted, now, latents).prev_sample
            base = model.denoise(latents, last, text)
        adapted = model.denoise(latents, last, batch.kept.condition())
    each = torch.nn.functional.mse_loss(adapted, base, reduction="none").flatten(1).mean(1)
    weight = trainer.objective.weights.apply(batch.weight, trainer.objective.schedule, last)
    kept = float((each * weight)[0])
    assert kept > 0
    assert float(distance(trainer, batch, own).detach()) == pytest.approx(kept, rel=1e-3)
    alone = keeping(micro_batch(model, [3], weight=0.5), model)
    assert float(distance(trainer, alone, own).detach()) == pytest.approx(kept, rel=1e-3)


def test_a_t_lora_has_the_rank_of_the_level_that_is_kept() -> None:
    """Not that of the training images' noise, which was learned at just before."""
    model = tiny_model()
    trainer = preserving(model, own_share=1.0)
    begun: list[Sequence[float]] = []
    begin = trainer.trained.begin_step

    def note(*args: object, noise_gone: Sequence[float], **options: object) -> None:
        begun.append(noise_gone)
        begin(*args, noise_gone=noise_gone, **options)  # type: ignore[arg-type]

    trainer.trained.begin_step = note  # type: ignore[method-assign, assignment]
    trainer(5, [keeping(micro_batch(model, [0, 1]), model)], total=2)
    assert trainer.preservation is not None
    last = trainer.preservation.own_timesteps(5)[-1]
    assert len(begun) == 2
    assert begun[1] == [(1000 - last) / 1000] * 2 != list(begun[0])


@pytest.mark.slow_but_first
@pytest.mark.parametrize("algorithm", TYPES)
def test_it_pulls_every_type_to_the_base_model_text_encoder_included(algorithm: str) -> None:
    """The base's prediction is that of a model without adapters, and no gradient reaches it."""
    model = tiny_model()
    trainer = preserving(model, algorithm=algorithm)
    batch = keeping(micro_batch(model, [1, 2]), model)
    assert batch.kept is not None
    with torch.no_grad(), trainer.trained.detached():
        noisy = trainer.objective.add_noise(batch, 0)
        base = model.denoise(noisy.latents, noisy.timesteps, batch.kept.condition())
    found = distance(trainer, batch)
    trainer.groups[0].zero_grad()
    found.backward()
    ours = gradients(trainer)
    for group in trainer.groups:
        group.grads[0].zero_()
    adapted = model.denoise(noisy.latents, noisy.timesteps, batch.kept.condition())
    squares = (adapted - base).square().flatten(1).mean(1)
    (squares * noisy.weight).sum().backward()
    assert float(found.detach()) > 0
    assert torch.equal(ours, gradients(trainer))
    text = [group.grads[0] for group in trainer.groups if group.name.startswith("text_encoder")]
    assert text
    assert all(bool(grad.any()) for grad in text)


@pytest.mark.broad_beyond(4)
@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("compute", "own_share"), [(None, 0), (None, 1), (torch.bfloat16, 0)])
def test_the_gradient_is_the_sum_of_both_over_all_micro_batches(
    compute: torch.dtype | None, own_share: float, checkpointing: bool
) -> None:
    def of(weight: float | None) -> Tensor:
        model = tiny_model() if compute is None else half(tiny_model())
        if checkpointing:
            model.enable_gradient_checkpointing()
        options = {"compute": compute, "dropout": Dropout(0.1, 0.1, 0.1)}
        kept = {} if weight is None else {"preservation": always(weight, own_share)}
        trainer = make(model, **options, **kept)  # type: ignore[arg-type]
        trainer.max_grad_norm = 0.0
        batches = [keeping(micro_batch(model, ids), model) for ids in ([0, 1, 2], [3])]
        trainer(0, batches, total=4)
        return gradients(trainer)

    plain, once, twice = of(None), of(1.0), of(2.0)
    assert float((once - plain).norm()) > 1e-4 * float(plain.norm())
    assert_near(twice - plain, 2 * (once - plain), NETWORK if compute is None else 0.1)


@pytest.mark.parametrize("own_share", [0.0, 1.0])
def test_loss_scaling_and_repeats_change_nothing(own_share: float) -> None:
    results = []
    for scaler in (None, None, torch.amp.GradScaler("cpu")):
        model = tiny_model()
        options = {"scaler": scaler, "dropout": Dropout(0.1, 0.1, 0.1)}
        trainer = preserving(model, own_share=own_share, **options)
        result = trainer(0, [keeping(micro_batch(model, [0, 1]), model)], total=2)
        results.append((weights(trainer), result.preservation))
    for found in results[1:]:
        assert torch.equal(found[0], results[0][0])
        assert torch.equal(found[1], results[0][1])  # type: ignore[arg-type]


def test_other_steps_are_what_they_were() -> None:
    section = PreservationSettings(share=0.25)
    some = replace(always(), settings=section)
    model, other = tiny_model(), tiny_model()
    trainer, plain = make(model, preservation=some), make(other)
    step = next(step for step in range(9) if not some.at(step))
    result = trainer(step, [micro_batch(model, [0, 1])], total=2)
    expected = plain(step, [micro_batch(other, [0, 1])], total=2)
    assert result.preservation is None
    assert torch.equal(result.loss, expected.loss)
    assert torch.equal(weights(trainer), weights(plain))


def test_void_samples_keep_nothing() -> None:
    model = tiny_model()
    trainer = preserving(model)
    batch = keeping(micro_batch(model, [0, 1]), model)
    void = replace(batch, weight=batch.weight * torch.tensor([1.0, 0.0]))
    first = replace(batch, kept=replace(batch.kept, weight=torch.tensor([1.0, 0.0])))  # type: ignore[type-var]
    assert torch.equal(distance(trainer, void), distance(trainer, first))


def outside_of(trainer: TrainStep) -> TrainStep:
    loss = Loss(LossSettings(masked="alpha", outside_mask="prior"))
    trainer.objective = replace(trainer.objective, loss=loss)
    return trainer


def masked_batch(model: DiffusionModel, value: float = 0.0) -> MicroBatch:
    mask = torch.ones(2, 1, 4, 4)
    mask[..., 2:] = value
    return replace(micro_batch(model, [1, 2]), mask=mask)


def test_outside_the_mask_the_base_model_is_learned() -> None:
    model = tiny_model()
    trainer = outside_of(make(model))
    batch = masked_batch(model)
    noisy = trainer.objective.add_noise(batch, 0)
    with torch.no_grad():
        found = trainer.objective.loss_sum(model, batch, 0, trainer.trained.disabled)
        adapted = model.denoise(noisy.latents, noisy.timesteps, batch.condition())
        with trainer.trained.detached():
            base = model.denoise(noisy.latents, noisy.timesteps, batch.condition())
    target = torch.where(batch.mask == 1, noisy.target, base)  # type: ignore[arg-type]
    each = torch.nn.functional.mse_loss(adapted, target, reduction="none").flatten(1).mean(1)
    assert_near(found, (each * noisy.weight).sum(), NETWORK)


def test_outside_the_mask_a_new_adapter_has_nothing_to_learn() -> None:
    outcomes = []
    for wrap in (outside_of, lambda trainer: trainer):
        model = tiny_model()
        trainer = wrap(make(model))
        reset(trainer)
        result = trainer(0, [masked_batch(model)], total=2)
        outcomes.append((result.loss, gradients(trainer)))
    assert torch.equal(outcomes[0][0], outcomes[1][0])
    assert torch.equal(outcomes[0][1], outcomes[1][1])
