"""Layers from names and shapes are those of the modules themselves."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.published import PUBLISHED

from lorasmith.adapters.targets import Selection, Target, select
from lorasmith.models.load import empty_modules
from lorasmith.models.skeleton import skeleton_roots


def facts(target: Target) -> tuple[object, ...]:
    layer = target.layer
    shape = tuple(layer.weight.shape)
    return target.key, target.path, target.part, shape, layer.bias is None, target.is_spatial


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_models_have_the_layers_of_diffusers(name: str) -> None:
    architecture = PUBLISHED[name]
    modules = empty_modules(architecture)
    shapes = {
        part: {key: tuple(p.shape) for key, p in module.named_parameters()}
        for part, module in modules.items()
    }
    real = architecture.adapter_roots(modules["unet"], modules)
    ours = skeleton_roots(architecture, shapes)
    for selection in (
        Selection(),
        Selection(conv=True),
        Selection(("full",)),
        Selection(("attn",)),
        Selection(("ia3",)),
    ):
        wanted = [facts(target) for target in select(real, selection)]
        assert len(wanted) > 100
        assert [facts(target) for target in select(ours, selection)] == wanted


@pytest.mark.slow
def test_diffusers_is_not_imported() -> None:
    code = (
        "import lorasmith.lora_tools.extract, lorasmith.lora_tools.bake.bake, sys; "
        "assert not {'diffusers', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
