"""Files of textual inversion in diffusers: ``load_textual_inversion`` gives the same features."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.pipelines import encode, pipeline_of
from tests.published import PUBLISHED
from tests.tiny_models import tiny_architecture, tiny_model
from tests.tolerances import NETWORK, assert_near
from tests.unit.training.kinds.test_embedding import built

from lorasmith.models.diffusion_model import DiffusionModel

CAPTIONS = ["a zorp, red", "red, a cat", "zorp zorp"]


def with_embedding(model: DiffusionModel, file: Path) -> Any:
    """diffusers' pipeline of the model, which has loaded the file as its documentation says."""
    pipeline = pipeline_of(model)
    pipeline.tokenizer = copy.deepcopy(pipeline.tokenizer)
    if len(model.text_encoders) == 1:
        pipeline.load_textual_inversion(str(file), token="zorp")
        return pipeline
    pipeline.tokenizer_2 = copy.deepcopy(pipeline.tokenizer_2)
    tensors = load_file(file)
    pipeline.text_encoder_2.to(model.dtype)
    for key, suffix in (("clip_l", ""), ("clip_g", "_2")):
        pipeline.load_textual_inversion(
            tensors[key],
            token="zorp",
            text_encoder=getattr(pipeline, f"text_encoder{suffix}"),
            tokenizer=getattr(pipeline, f"tokenizer{suffix}"),
        )
    return pipeline


def check(model: DiffusionModel, file: Path, vectors: int, roundings: int) -> None:
    trained = built(model, embedding__vectors=str(vectors))
    trained.save(file, {}, torch.float32)
    with torch.no_grad():
        with trained.attached():
            ours = model.encode_text(CAPTIONS)
        hidden, pooled = encode(with_embedding(model, file), CAPTIONS)
    assert_near(ours.prompt_embeds, hidden, roundings)
    if ours.pooled is not None:
        assert_near(ours.pooled, pooled, roundings)


@pytest.mark.parametrize("vectors", [1, 3])
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_diffusers_reads_the_same_features(tmp_path: Path, family: str, vectors: int) -> None:
    model = tiny_model(architecture=tiny_architecture(family=family))
    check(model, tmp_path / "zorp.safetensors", vectors, NETWORK)


@pytest.mark.broad  # The same as above, with text encoders of the published sizes.
@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_diffusers_reads_the_same_features_in_full_size(tmp_path: Path, name: str) -> None:
    published = PUBLISHED[name]
    small = tiny_architecture(family=published.family_name)
    model = tiny_model(torch.bfloat16, architecture=replace(small, texts=published.texts))
    check(model, tmp_path / "zorp.safetensors", 4, 8)
