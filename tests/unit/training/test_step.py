"""One step against the same arithmetic done with diffusers' scheduler and plain autograd."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch
from diffusers import DDPMScheduler
from tests.tiny_models import tiny_model
from tests.tolerances import NETWORK, assert_near
from torch import Tensor, nn

from lorasmith.adapters.dropout import Dropout
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.sections.loss import LossSettings
from lorasmith.config.sections.optimizer import ScheduleSettings
from lorasmith.diffusion.noise import Noise
from lorasmith.diffusion.schedule import DDPMSchedule
from lorasmith.diffusion.timesteps import Timesteps
from lorasmith.diffusion.weights import Weights
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.tensors.rng import normal_per_sample
from lorasmith.tensors.rounding import StochasticRounding
from lorasmith.training.kinds.full_weights import FullWeights
from lorasmith.training.kinds.weight_groups import ParameterwiseOptimizer, WeightGroup
from lorasmith.training.lr_schedules import LearningRate
from lorasmith.training.objective import MicroBatch, NoisyBatch, Objective
from lorasmith.training.optim import FlatGroup, build_optimizer
from lorasmith.training.setup.processes import Processes
from lorasmith.training.step import TrainStep

SEED, LR = 5, 1e-3
SHAPE = (4, 4, 4)


@pytest.fixture
def model() -> DiffusionModel:
    return tiny_model()


def latents(samples: Sequence[int]) -> tuple[Tensor, Tensor]:
    mean = normal_per_sample(SHAPE, 1, "test mean", 0, samples)
    return mean, torch.full_like(mean, 0.1)


def micro_batch(model: DiffusionModel, samples: Sequence[int], weight: float = 1.0) -> MicroBatch:
    mean, std = latents(samples)
    captions = [f"a picture of number {sample}" for sample in samples]
    weights = torch.tensor([weight if sample % 2 else 1.0 for sample in samples])
    return MicroBatch(mean, std, partial(model.encode_text, captions), weights, list(samples))


def make(
    model: DiffusionModel,
    *,
    dropout: Dropout | None = None,
    algorithm: str = "lora",
    compute: torch.dtype | None = None,
    **options: object,
) -> TrainStep:
    network = AdapterNetwork.create(
        model.adapter_roots(), algorithm=algorithm, rank=4, seed=SEED, dropout=dropout
    )
    network.attach()
    with torch.no_grad():  # Up weights of zero would leave half of the gradients zero.
        for group in network.parameter_groups():
            for index, parameter in enumerate(group.parameters):
                parameter += 0.02 * normal_per_sample(parameter.shape, 2, "test up", 0, [index])[0]
    groups = [
        FlatGroup(g.name, g.parameters, LR, compute=compute) for g in network.parameter_groups()
    ]
    objective = Objective(
        DDPMSchedule("epsilon"),
        SEED,
        noise=Noise(LossSettings(noise_offset=0.05)),
        weights=Weights(),
    )
    return TrainStep(
        model,
        network,
        groups,
        build_optimizer("AdamW", groups, {}),
        LearningRate(ScheduleSettings(name="linear", warmup=2), 10),
        objective,
        Processes(torch.device("cpu")),
        **options,  # type: ignore[arg-type]
    )


def gradients(trainer: TrainStep) -> Tensor:
    return torch.cat([group.grads[0].clone() for group in trainer.groups])


def weights(trainer: TrainStep) -> Tensor:
    return torch.cat([group.tensors[0].clone() for group in trainer.groups])


def test_loss_equals_diffusers_arithmetic(model: DiffusionModel) -> None:
    samples, step = [3, 8], 7
    trainer = make(model)
    batch = micro_batch(model, samples, weight=0.5)
    result = trainer(step, [batch], total=2)

    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
    )
    mean, std = latents(samples)
    x0 = mean + std * normal_per_sample(SHAPE, SEED, "latent", step, samples)
    noise = Noise(LossSettings(noise_offset=0.05)).draw(x0, SEED, step, samples)
    t = Timesteps().draw(SEED, step, samples)
    noisy = scheduler.add_noise(x0, noise, t)
    fresh = make(tiny_model())  # The step above has changed the weights already.
    with torch.no_grad():
        hidden = fresh.model.encode_text(
            [f"a picture of number {s}" for s in samples]
        ).prompt_embeds
        predicted = fresh.model.denoiser(noisy, t, hidden).sample
    abar = scheduler.alphas_cumprod[t]
    snr = abar / (1 - abar)
    per_sample = ((predicted - noise) ** 2).mean((1, 2, 3)) * snr.clamp(max=5) / snr
    expected = (per_sample * torch.tensor([0.5, 1.0])).mean()
    assert_near(result.loss, expected, NETWORK)


def test_accumulation_over_uneven_batches_is_the_mean_over_samples(model: DiffusionModel) -> None:
    whole, split = make(model), make(tiny_model())
    once = whole(0, [micro_batch(whole.model, [0, 1, 2, 3])], total=4)
    parts = [micro_batch(split.model, [0, 1, 2]), micro_batch(split.model, [3])]
    twice = split(0, parts, total=4)
    assert_near(twice.loss, once.loss, NETWORK)
    assert_near(gradients(split), gradients(whole), NETWORK)


def test_loss_scaling_changes_nothing_in_float32(model: DiffusionModel) -> None:
    plain, scaled = make(model), make(tiny_model(), scaler=torch.amp.GradScaler("cpu"))
    for step in range(2):
        plain(step, [micro_batch(plain.model, [step])], total=1)
        scaled(step, [micro_batch(scaled.model, [step])], total=1)
    # The scale is a power of two: it moves no digit.
    assert torch.equal(weights(scaled), weights(plain))


def test_overflow_with_loss_scaling_skips_the_step(model: DiffusionModel) -> None:
    trainer = make(model, scaler=torch.amp.GradScaler("cpu", init_scale=2.0**16))
    before = weights(trainer)
    trainer(0, [micro_batch(model, [1], weight=1e38)], total=1)
    assert torch.equal(weights(trainer), before)
    assert trainer.scaler is not None
    assert trainer.scaler.get_scale() == 2.0**15


def test_base_weights_have_no_gradients_and_do_not_change(model: DiffusionModel) -> None:
    frozen = {name: p.clone() for name, p in model.denoiser.named_parameters()}
    trainer = make(model)
    trainer(0, [micro_batch(model, [0, 1])], total=2)
    adapted = dict(model.denoiser.named_parameters())
    for name, before in frozen.items():
        now = next(p for n, p in adapted.items() if n.replace(".layer.", ".") == name)
        assert now.grad is None, name
        assert torch.equal(now, before), name


def test_nothing_is_computed_backward_below_the_first_adapter(model: DiffusionModel) -> None:
    seen: list[bool] = []

    def watch(module: torch.nn.Module, inputs: object, output: Tensor) -> None:
        seen.append(output.requires_grad)

    model.denoiser.conv_in.register_forward_hook(watch)
    model.denoiser.time_embedding.register_forward_hook(watch)
    make(model)(0, [micro_batch(model, [0])], total=1)
    assert seen == [False, False]


def test_learning_rate_follows_the_schedule(model: DiffusionModel) -> None:
    trainer = make(model)
    rates = []
    for step in range(4):
        trainer(step, [micro_batch(model, [step])], total=1)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.5 * LR, LR, LR, 0.875 * LR])


def test_weight_norms_are_limited_after_each_step(model: DiffusionModel) -> None:
    trainer = make(model)
    assert isinstance(trainer.trained, AdapterNetwork)
    trainer.trained.norm_limit = 1e-3
    trainer(0, [micro_batch(model, [0])], total=1)
    assert float(trainer.trained.norms().max()) <= 1e-3 * (1 + 1e-5)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("prepare", [None, DiffusionModel.enable_gradient_checkpointing])
def test_a_step_repeats_bit_for_bit(prepare: Callable[[DiffusionModel], None] | None) -> None:
    outcomes = []
    for _ in range(2):
        model = tiny_model()
        if prepare is not None:
            prepare(model)
        trainer = make(model, dropout=Dropout(0.1, 0.1, 0.1))
        trainer(3, [micro_batch(model, [1, 2])], total=2)
        outcomes.append(weights(trainer))
    assert torch.equal(*outcomes)


@pytest.mark.slow
def test_gradient_checkpointing_changes_no_gradient(model: DiffusionModel) -> None:
    plain = make(model, dropout=Dropout(0.1, 0.1, 0.1))
    plain(0, [micro_batch(plain.model, [0, 1])], total=2)
    saving = tiny_model()
    saving.enable_gradient_checkpointing()
    recomputed = make(saving, dropout=Dropout(0.1, 0.1, 0.1))
    recomputed(0, [micro_batch(saving, [0, 1])], total=2)
    assert_near(gradients(recomputed), gradients(plain), NETWORK)


def half(model: DiffusionModel) -> DiffusionModel:
    for module in (model.denoiser, *model.text_encoders.values()):
        torch.nn.Module.to(module, torch.bfloat16)
    model.dtype = torch.bfloat16
    return model


@pytest.mark.broad_beyond(9)
@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("algorithm", ["lora", "locon", "lokr", "ia3", "dora", "loha", "oft"])
def test_casting_all_factors_at_once_changes_no_gradient(
    algorithm: str, checkpointing: bool
) -> None:
    """Against autograd through the cast of each parameter by itself; the second step shows that
    the weights that the first one made are cast, and has two micro-batches."""
    seen: list[list[Tensor]] = []
    for compute in (None, torch.bfloat16):
        trainer = make(half(tiny_model()), algorithm=algorithm, compute=compute)
        if checkpointing:
            trainer.model.enable_gradient_checkpointing()
        grads: list[Tensor] = []
        for step, batches in enumerate([[[0, 1]], [[2, 3], [4]]]):
            parts = [micro_batch(trainer.model, samples) for samples in batches]
            trainer(step, parts, total=3)
            grads.append(gradients(trainer))
        seen.append(grads)
    by_itself, at_once = seen
    if algorithm == "dora":  # The gradients of its lengths are added in float32, later than else.
        assert_near(at_once[0], by_itself[0], NETWORK)
        return
    assert torch.equal(at_once[0], by_itself[0])
    assert torch.equal(at_once[1], by_itself[1])


def test_outside_a_step_the_newest_weights_apply(model: DiffusionModel) -> None:
    trainer = make(half(model), compute=torch.bfloat16)
    noisy, hidden = torch.ones(1, *SHAPE), torch.zeros(1, 77, 16)

    @torch.no_grad()
    def predict() -> Tensor:
        t = torch.tensor([500])
        return model.denoiser(noisy.bfloat16(), t, hidden.bfloat16()).sample.float()

    trainer(0, [micro_batch(model, [0])], total=1)
    after = predict()
    with torch.no_grad():
        for group in trainer.groups:
            group.tensors[0].zero_()
    none = predict()
    assert not torch.equal(none, after)

    def failing() -> object:
        raise KeyboardInterrupt

    batch = replace(micro_batch(model, [0]), condition=failing)
    with pytest.raises(KeyboardInterrupt):
        trainer(1, [batch], total=1)
    with torch.no_grad():
        for group in trainer.groups:
            group.tensors[0].fill_(0.01)
    assert not torch.equal(predict(), none)


@pytest.mark.slow
def test_gradients_are_whole_after_each_micro_batch(model: DiffusionModel) -> None:
    """The inspector looks there."""
    trainer = make(half(model), compute=torch.bfloat16)
    norms: list[float] = []

    def batches() -> Iterator[MicroBatch]:
        for sample in (0, 1):
            yield micro_batch(model, [sample])
            grads = [p.grad for g in trainer.groups for p in g.members]
            norms.append(sum(float(grad.norm()) for grad in grads if grad is not None))

    trainer(0, batches(), total=2)
    assert 0 < norms[0] != norms[1]


class Rounded:
    """A model's weight in bfloat16, as one of two processes has it."""

    disabled = nullcontext
    device, dtype = torch.device("cpu"), torch.bfloat16

    def __init__(self) -> None:
        self.weight = nn.Parameter(torch.ones(1000, dtype=torch.bfloat16))
        self.trained = FullWeights({}, [], None, StochasticRounding(0))
        group = WeightGroup("unet", [self.weight], None, 1e-3)
        self.step = TrainStep(
            self,  # type: ignore[arg-type]
            self.trained,
            [group],
            ParameterwiseOptimizer("AdamW", [group], {}, self.trained.rounding),
            LearningRate(ScheduleSettings(), 10),
            self,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            max_grad_norm=0.0,
        )

    seed, count = 0, 2

    def with_noise(self, batch: MicroBatch, *_: object) -> MicroBatch:
        timesteps = torch.zeros(len(batch.mean), dtype=torch.int64)
        return replace(batch, noisy=NoisyBatch(batch.mean, timesteps, batch.mean, batch.weight))

    terms = 1

    def losses(self, *_: object) -> Generator[Tensor, None, None]:
        yield self.weight.float().sum()

    def sum_(self, tensor: Tensor) -> None:
        """What both get of the gradients of both."""
        if tensor.ndim:
            tensor.fill_(1.0)


def test_a_process_without_samples_rounds_as_the_others_do(model: DiffusionModel) -> None:
    one, other, batch = Rounded(), Rounded(), micro_batch(model, [3])
    shares: list[tuple[list[MicroBatch], list[MicroBatch]]]
    shares = [([batch], [batch]), ([batch], []), ([], [batch])]
    for step, (ones, others) in enumerate(shares):
        one.step(step, ones, total=2)
        other.step(step, others, total=2)
        assert torch.equal(one.weight, other.weight)
