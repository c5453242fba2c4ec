"""Concept sliders: the formula, the sides, the latents, and what settings may not say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tests.tiny_models import tiny_checkpoint
from torch import Tensor

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.checks.table import warnings
from lorasmith.config.load import load_settings
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import SettingsError
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.models.families.table import FAMILIES
from lorasmith.models.load import load_model
from lorasmith.tensors.rng import normal
from lorasmith.training.kinds.slider import PROMPTS as OF_PROMPTS
from lorasmith.training.kinds.slider import SliderKind, triples_of
from lorasmith.training.kinds.slider_objective import (
    SliderObjective,
    drawing_timesteps,
    slider_target,
)
from lorasmith.training.objective import MicroBatch, build_objective

KIND = SliderKind()
PROMPTS = ("slider.target=a tree", "slider.positive=a tall tree", "slider.negative=a small tree")


class Live:
    """Text features from the model on the spot."""

    def __init__(self, model: DiffusionModel) -> None:
        self.model = model

    def condition(self, captions: Sequence[str]) -> Conditioning:
        with torch.no_grad():
            return self.model.encode_text(list(captions))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("base") / "base.safetensors")


def settings_of(base: Path, *more: str) -> TrainSettings:
    return load_settings(
        None, ["train.kind=slider", f"model.path={base}", "adapter.rank=2", *PROMPTS, *more]
    )


def parts(
    base: Path, *more: str
) -> tuple[DiffusionModel, AdapterNetwork, SliderObjective, MicroBatch]:
    """A model with a slider attached, its objective, and a batch of two samples."""
    settings = settings_of(base, *more)
    model = load_model(base)
    network = KIND.build(settings, model)
    network.attach()
    plain = build_objective(settings, model)
    objective = OF_PROMPTS.objective(settings, plain, network, Live(model), [0, 0])
    assert isinstance(objective, SliderObjective)
    zeros = torch.zeros(2, 4, 8, 8)
    texts = [triples_of(settings)[0].target] * 2

    def condition() -> Conditioning:
        return Live(model).condition(texts).with_size_ids(torch.full((2, 6), 64.0))

    return model, network, objective, MicroBatch(zeros, zeros, condition, torch.ones(2), [0, 1])


def move(network: AdapterNetwork) -> None:
    """Any training."""
    values = network.state_dict()
    for number, (name, value) in enumerate(values.items()):
        if not name.endswith("alpha"):
            values[name] = value + 0.1 * normal(value.shape, 1, "move", number)
    network.load_state_dict(values)


def gradients(
    model: DiffusionModel, network: AdapterNetwork, objective: SliderObjective, batch: MicroBatch
) -> tuple[float, list[Tensor]]:
    losses, total = objective.losses(model, batch, 3, network.disabled), 0.0
    for _ in range(objective.terms):
        loss = next(losses)
        loss.backward()
        total += float(loss.detach())
    losses.close()
    found = [p.grad for group in network.parameter_groups() for p in group.parameters]
    return total, [grad for grad in found if grad is not None]


def test_the_target_is_the_formula_in_float64() -> None:
    target, positive, negative = (normal((2, 4, 3, 3), 0, "e", n) for n in range(3))
    for guidance in (0.5, 4.0):
        for sign in (1.0, -1.0):
            ours = slider_target(target, positive, negative, guidance, sign)
            difference = guidance * (positive.double() - negative.double())
            expected = target.double() + (difference if sign > 0 else -difference)
            torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_loss_is_that_of_both_sides_against_the_base(family: str, tmp_path: Path) -> None:
    base = tiny_checkpoint(tmp_path / "base.safetensors", family=family)
    model, network, objective, batch = parts(base, "slider.latent_steps=0", "slider.guidance=3")
    move(network)
    noisy = objective.add_noise(batch, 3)
    total, _ = gradients(model, network, objective, batch)

    @torch.no_grad()
    def predicted(text: str, strength: float) -> Tensor:
        condition = Live(model).condition([text] * 2).with_size_ids(torch.full((2, 6), 64.0))
        with network.at_strength(strength):
            return model.denoise(noisy.latents, noisy.timesteps, condition).double()

    step = 3 * (predicted("a tall tree", 0) - predicted("a small tree", 0))
    errors = [
        (predicted("a tree", sign) - predicted("a tree", 0) - sign * step).square().mean((1, 2, 3))
        for sign in (1, -1)
    ]
    expected = sum((error * noisy.weight).sum() / 2 for error in errors)
    assert total == pytest.approx(float(expected), rel=1e-4)
    assert float(objective.loss_sum(model, batch, 3, network.disabled)) == pytest.approx(total)


def test_nothing_is_learned_where_positive_is_negative(base: Path) -> None:
    model, network, objective, batch = parts(base, "slider.negative=a tall tree")
    total, grads = gradients(model, network, objective, batch)
    assert grads
    assert total == pytest.approx(0, abs=1e-10)
    assert all(float(grad.abs().max()) < 1e-7 for grad in grads)
    _, others = gradients(*parts(base))
    assert max(float(grad.abs().max()) for grad in others) > 1e-6


def test_latents_are_drawn_by_the_model_and_the_slider(base: Path) -> None:
    assert drawing_timesteps(100, 4) == [999, 749, 499, 249, 100]
    assert drawing_timesteps(600, 4) == [999, 749, 600]
    assert drawing_timesteps(999, 4) == [999]
    model, network, objective, batch = parts(base)
    plain = objective.add_noise(batch, 3).latents
    drawn = objective._latents(model, batch, 3).latents
    assert not torch.allclose(drawn, plain, atol=1e-2)
    assert torch.equal(drawn, objective._latents(model, batch, 3).latents)
    move(network)
    assert not torch.equal(drawn, objective._latents(model, batch, 3).latents)
    assert all(one.strength == 1.0 for one in network.adapters.values())


def test_only_the_unet_is_trained(base: Path) -> None:
    settings = settings_of(base, "adapter.text_encoder=true")
    network = KIND.build(settings, load_model(base))
    assert set(network.parts()) == {"unet"}
    assert not KIND.trains_text(settings)


def test_what_is_preserved_stands_behind_each_prompt(base: Path) -> None:
    triples = triples_of(settings_of(base, 'slider.preserve=["oak", "in snow"]'))
    assert [one.positive for one in triples] == ["a tall tree, oak", "a tall tree, in snow"]
    empty = load_settings(None, ['slider.preserve=["oak"]', "slider.positive=tall"])
    assert triples_of(empty)[0].target == "oak"


@pytest.mark.parametrize(
    ("change", "where", "word"),
    [
        ("data.path=.", "data.path", "one of both"),
        ("data.reg=.", "data.reg", "from prompts"),
        ("adapter.unet=false", "adapter.unet", "UNet alone"),
        ("adapter.targets=te-only", "adapter", "UNet"),
        ("optimizer.lr=find", "optimizer.lr", "a number"),
        ("train.stop=best", "train.stop", "no pictures"),
        ("preservation.enabled=true", "preservation.enabled", "slider.preserve"),
        ("slider.guidance=0", "slider.guidance", "above 0"),
        ("slider.guidance=21", "slider.guidance", "20"),
        ("slider.latent_steps=-1", "slider.latent_steps", "0"),
        ("slider.latent_steps=51", "slider.latent_steps", "50"),
        ("slider.negative=a tall tree", "slider.positive", "nothing to move"),
        ("slider.targt=a", "slider.targt", "target"),
    ],
)
def test_bad_input(base: Path, change: str, where: str, word: str) -> None:
    overrides = ["train.kind=slider", f"model.path={base}", *PROMPTS, change]
    with pytest.raises(SettingsError) as caught:
        load_settings(None, overrides, for_training=True)
    problems = [problem for problem in caught.value.problems if where in problem.where]
    assert problems, caught.value
    assert word in f"{problems[0].what} {problems[0].hint}"


def test_prompts_must_be_given() -> None:
    with pytest.raises(SettingsError, match=r"slider\.positive: no prompts are given"):
        load_settings(None, ["train.kind=slider"], for_training=True)


@pytest.mark.parametrize(
    "change",
    [
        *("captions.shuffle=true", "augment.flip=true", "loss.noise_offset=0.1"),
        *("loss.antithetic_noise=true", "loss.noise_candidates=4", "train.showings=50"),
        *("validation.split=10%", "preservation.share=0.5", "optimizer.text_encoder_lr=1e-5"),
    ],
)
def test_what_is_about_pictures_has_no_effect(base: Path, change: str) -> None:
    path = change.partition("=")[0]
    assert any(one.where == path for one in warnings(settings_of(base, change)))
    assert not [one for one in warnings(settings_of(base)) if "no effect" in one.what]


@pytest.mark.parametrize("change", ["loss.noise_offset=0.5", "loss.noise_candidates=8"])
def test_plain_noise_is_plain(base: Path, change: str) -> None:
    latents = []
    for more in ((), (change,)):
        model, _, objective, batch = parts(base, "slider.latent_steps=0", *more)
        latents.append(objective._latents(model, batch, 3).latents)
    assert torch.equal(*latents)


def test_its_settings_have_no_effect_for_other_kinds() -> None:
    settings = load_settings(None, ["slider.positive=a hat"])
    assert any(one.where == "slider.positive" for one in warnings(settings))
