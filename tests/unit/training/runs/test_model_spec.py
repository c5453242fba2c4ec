"""What a LoRA's file says to model sites."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from lorasmith.config.load import load_settings
from lorasmith.models.families.table import FAMILIES
from lorasmith.training.runs.metadata import model_spec


@pytest.mark.parametrize(("family", "layer"), [("sd1", "2"), ("sdxl", None)])
def test_the_text_encoders_layer_is_said_where_clip_skip_chooses_it(
    family: str, layer: str | None
) -> None:
    architecture = SimpleNamespace(family=FAMILIES[family], native_resolution=512)
    run = SimpleNamespace(
        settings=load_settings(None, ["model.clip_skip=2"]),
        run_plan=SimpleNamespace(architecture=architecture, triggers=()),
        model=SimpleNamespace(prediction="epsilon"),
        folder=SimpleNamespace(name="zorp"),
    )
    metadata = model_spec(cast(Any, run)).metadata()
    assert metadata.get("modelspec.encoder_layer") == layer
