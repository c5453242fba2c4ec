"""What is learned from pairs of images, on a tiny model: the formula, and which way it goes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.tiny_models import tiny_checkpoint
from torch import Tensor

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.load import load_settings
from lorasmith.config.schema import TrainSettings
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.models.load import load_model
from lorasmith.tensors.rng import normal
from lorasmith.training.kinds.embedding import NEGATIVE_PAIRS, EmbeddingKind
from lorasmith.training.kinds.pair_objective import BETA, PairSliderObjective
from lorasmith.training.kinds.slider import PAIRS, SliderKind
from lorasmith.training.objective import MicroBatch, build_objective


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("base") / "base.safetensors")


def pair_batch(model: DiffusionModel, low: Tensor, high: Tensor) -> MicroBatch:
    def condition() -> Conditioning:
        with torch.no_grad():
            features = model.encode_text([""] * len(high))
        return features.with_size_ids(torch.full((len(high), 6), 64.0))

    nothing, ids = torch.zeros_like(high), list(range(len(high)))
    batch = MicroBatch(high, nothing, condition, torch.ones(len(high)), ids)
    return replace(batch, opposite=replace(batch, mean=low))


def slider(base: Path, *more: str) -> tuple[DiffusionModel, AdapterNetwork, PairSliderObjective]:
    settings: TrainSettings = load_settings(
        None,
        ["train.kind=slider", f"model.path={base}", "data.path=.", "adapter.rank=2", *more],
    )
    model = load_model(base)
    network = SliderKind().build(settings, model)
    network.attach()
    objective = PAIRS.objective(settings, build_objective(settings, model), network, None, [])  # type: ignore[arg-type]
    return model, network, objective


@pytest.mark.parametrize("family", ["sd1", "sd2"])  # Which predict noise, and velocity.
def test_both_sides_have_the_same_draws_at_opposite_strengths(family: str, tmp_path: Path) -> None:
    base = tiny_checkpoint(tmp_path / "base.safetensors", family=family)
    model, network, objective = slider(base)
    values = network.state_dict()
    network.load_state_dict({
        name: value if name.endswith("alpha") else value + 0.1 * normal(value.shape, 1, name)
        for name, value in values.items()
    })  # fmt: skip
    sides = {-1.0: normal((2, 4, 8, 8), 0, "low"), 1.0: normal((2, 4, 8, 8), 0, "high")}
    batch = pair_batch(model, sides[-1.0], sides[1.0])
    expected = torch.zeros((), dtype=torch.float64)
    plain = objective.add_noise(batch, 3)
    noise = objective.noise.draw(sides[1.0], objective.seed, 3, batch.samples, batch.whole)
    for strength, latents in sides.items():
        t = plain.timesteps
        noisy = objective.schedule.add_noise(latents, noise, t)
        target = objective.schedule.target(latents, noise, t)
        with torch.no_grad(), network.at_strength(strength):
            prediction = model.denoise(noisy, t, batch.condition())
        error = (prediction.double() - target.double()).square().mean((1, 2, 3))
        expected += (error * plain.weight).sum() / 2
    ahead = objective.with_noise(batch, 3, model.device)
    for one in (batch, ahead):
        assert float(objective.loss_sum(model, one, 3)) == pytest.approx(float(expected), rel=1e-4)
    assert all(adapter.strength == 1.0 for adapter in network.adapters.values())


def test_a_pair_of_the_same_leaves_a_slider_nothing_to_learn(base: Path) -> None:
    """To first order, which is where it starts: what the one side asks for, the other undoes."""
    model, network, objective = slider(base)
    same = normal((2, 4, 8, 8), 0, "same")
    other = normal((2, 4, 8, 8), 0, "other")
    parameters = [p for group in network.parameter_groups() for p in group.parameters]
    sizes = []
    for low in (same, other):
        for parameter in parameters:
            parameter.grad = None
        losses = objective.losses(model, pair_batch(model, low, same), 3)
        for _ in range(objective.terms):
            next(losses).backward()
        losses.close()
        grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
        sizes.append(max(float(grad.abs().max()) for grad in grads))
    assert sizes[0] < 1e-7 < 1e-5 < sizes[1]


def test_training_moves_the_two_sides_opposite_ways(base: Path) -> None:
    model, network, objective = slider(base)
    low = 0.1 * normal((2, 4, 8, 8), 0, "pair")
    high = low.clone()
    low[:, 0] -= 1
    high[:, 0] += 1
    batch = pair_batch(model, low, high)
    middle = objective.add_noise(replace(batch, mean=(low + high) / 2), 3)

    def predicted(strength: float) -> Tensor:
        with torch.no_grad(), network.at_strength(strength):
            return model.denoise(middle.latents, middle.timesteps, batch.condition())

    optimizer = torch.optim.Adam(
        [p for group in network.parameter_groups() for p in group.parameters], lr=2e-3
    )
    swapped = replace(batch, mean=low, opposite=replace(batch, mean=high))
    before = float(objective.loss_sum(model, batch, 3))
    for _ in range(6):
        optimizer.zero_grad()
        losses = objective.losses(model, batch, 3)
        for _ in range(objective.terms):
            next(losses).backward()
        losses.close()
        optimizer.step()
    less, none, more = (predicted(strength).flatten() for strength in (-1.0, 0.0, 1.0))
    assert float(torch.cosine_similarity(more - none, less - none, dim=0)) < -0.8
    ours, other = (float(objective.loss_sum(model, one, 3)) for one in (batch, swapped))
    assert ours < before < other


def test_a_negative_word_is_learned_by_the_published_loss(base: Path) -> None:
    """As Diffusion-DPO's code has it, ``inside_term = -0.5 * beta * (model_diff - ref_diff)`` with
    the bad image as the preferred one, in float64; and a pair left out counts as nothing."""
    overrides = ["train.kind=embedding", f"model.path={base}", "embedding.vectors=2"]
    overrides += ["embedding.names=awful", "embedding.negative=true"]
    settings = load_settings(None, overrides)
    model = load_model(base)
    trained = EmbeddingKind().build(settings, model)
    trained.attach()
    objective = NEGATIVE_PAIRS.objective(
        settings, build_objective(settings, model), trained, None, []
    )  # type: ignore[arg-type]
    good, bad = normal((2, 4, 8, 8), 0, "good"), normal((2, 4, 8, 8), 0, "bad")
    batch = pair_batch(model, bad, good)

    def condition() -> Conditioning:
        return model.encode_text(["awful"] * 2).with_size_ids(torch.full((2, 6), 64.0))

    batch = replace(batch, condition=condition)
    batch = replace(batch, opposite=replace(batch, mean=bad))
    first = objective.loss_sum(model, batch, 3, trained.disabled).detach()
    assert float(first) == pytest.approx(2 * math.log(2), rel=1e-5)
    values = trained.state_dict()
    trained.load_state_dict({
        name: value + 0.3 * normal(value.shape, 1, name) for name, value in values.items()
    })  # fmt: skip

    @torch.no_grad()
    def errors(latents: Tensor) -> Tensor:
        noisy = objective.add_noise(replace(batch, mean=latents), 3)
        prediction = model.denoise(noisy.latents, noisy.timesteps, condition())
        return (prediction.double() - noisy.target.double()).square().mean((1, 2, 3))

    model_diff = errors(bad) - errors(good)
    with trained.disabled():
        ref_diff = errors(bad) - errors(good)
    inside_term = -0.5 * BETA * (model_diff - ref_diff)
    expected = -torch.nn.functional.logsigmoid(inside_term)
    for weight in (torch.ones(2), torch.tensor([1.0, 0.0])):
        each = replace(batch, weight=weight, opposite=replace(batch, mean=bad, weight=weight))
        loss = objective.loss_sum(model, each, 3, trained.disabled)
        assert float(loss.detach()) == pytest.approx(float((expected * weight).sum()), rel=2e-3)
    loss.backward()
    for group in trained.parameter_groups():
        assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in group.parameters)
