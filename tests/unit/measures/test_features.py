"""Distances against numpy, and features against what they are said to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from lorasmith.core.errors import UserError
from lorasmith.diffusion.schedule import DDPMSchedule
from lorasmith.measures.features import (
    ClipImages,
    FeatureExtractor,
    MiddleBlock,
    distances,
    mean_within,
    nearest,
)
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.load import load_model


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return load_model("demo")


def image(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def test_distances_are_numpys() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(4, 7)), rng.normal(size=(5, 7))
    table = np.linalg.norm(one[:, None] - other[None], axis=2)
    found = distances(torch.tensor(one), torch.tensor(other))
    np.testing.assert_allclose(found.numpy(), table, rtol=1e-12)
    found = nearest(torch.tensor(one), torch.tensor(other))
    np.testing.assert_allclose(found.numpy(), table.min(1), rtol=1e-12)
    within = np.linalg.norm(one[:, None] - one[None], axis=2)[np.triu_indices(4, 1)]
    assert mean_within(torch.tensor(one)) == pytest.approx(within.mean(), rel=1e-12)


def test_the_nearest_other_of_a_copy_is_the_copy() -> None:
    features = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]])
    assert nearest(features).tolist() == [0.0, 0.0, 5.0]
    assert mean_within(features[:1]) == 0.0


def test_looks_are_of_the_image_alone(model: DiffusionModel) -> None:
    extractor = FeatureExtractor(model, MiddleBlock(model, DDPMSchedule("epsilon")))
    both = extractor.look([image(1), image(2, (64, 96))])
    alone = extractor.look([image(1)])
    assert torch.equal(both.layout[:1], alone.layout)
    assert torch.equal(both.content[:1], alone.content)
    assert not torch.allclose(both.content[0], both.content[1])


def test_content_hears_a_change_of_the_image_more_than_noise(model: DiffusionModel) -> None:
    extractor = FeatureExtractor(model, MiddleBlock(model, DDPMSchedule("epsilon")))
    pixels = np.asarray(image(1)).astype(int)
    noise = np.random.default_rng(3).integers(-3, 4, pixels.shape)
    noisy = Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))
    features = extractor.look([image(1), noisy, image(2)]).content
    assert (features[0] - features[1]).norm() < 0.3 * (features[0] - features[2]).norm()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        image_size=32, patch_size=8, projection_dim=8,
    )  # fmt: skip
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return folder


def test_clip_embeddings_are_transformers_own(clip: Path) -> None:
    found = ClipImages(clip)(image(1), torch.empty(0))
    encoder = CLIPVisionModelWithProjection.from_pretrained(clip)
    inputs = CLIPImageProcessor.from_pretrained(clip)(image(1), return_tensors="pt")
    with torch.no_grad():
        expected = encoder(**inputs).image_embeds[0]
    torch.testing.assert_close(found.detach(), expected / expected.norm())


def test_a_folder_without_clip_is_told_of(tmp_path: Path, clip: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        ClipImages(tmp_path)
    (tmp_path / "config.json").write_text((clip / "config.json").read_text())
    with pytest.raises(UserError, match="cannot be read"):
        ClipImages(tmp_path)
