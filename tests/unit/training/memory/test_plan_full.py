"""What a step of full fine-tuning is planned to take, against what PyTorch hands out for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.tiny_models import tiny_checkpoint
from tests.unit.training.memory.test_plan import PIXELS, USE, profiled

from lorasmith.config.load import load_settings
from lorasmith.models.diffusion_model import Conditioning
from lorasmith.models.load import load_model
from lorasmith.models.open import read_architecture
from lorasmith.tensors.files import PRECISIONS
from lorasmith.training.kinds.full import FullKind
from lorasmith.training.memory.simulate import SimulatedRun, checkpointed
from lorasmith.training.objective import MicroBatch, build_objective

KIND = FullKind()
WAYS = {
    "fp32": (),
    "fp32, recomputed": ("train.gradient_checkpointing=true",),
    "fp32 beside a bf16 model": ("train.precision=bf16",),
    "fp32, fused": ("full.fused_backward=true", "train.gradient_checkpointing=true"),
    "bf16": ("train.precision=bf16", "full.weights=bf16"),
    "bf16, fused, factored": (
        "train.precision=bf16", "full.weights=bf16", "full.fused_backward=true",
        "optimizer.name=AdaFactor",
    ),
    "attention alone": ("full.layers=attn",),
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("base") / "base.safetensors")


@pytest.mark.parametrize("way", WAYS)
def test_a_step_takes_what_is_planned(way: str, base: Path) -> None:
    settings = load_settings(
        None,
        ["train.kind=full", f"model.path={base}", "train.batch=2", "optimizer.lr=1e-5",
         "train.gradient_checkpointing=false", *WAYS[way]],
    )  # fmt: skip
    dtype = PRECISIONS["fp32" if settings.train.precision == "auto" else settings.train.precision]
    planned = SimulatedRun(settings, read_architecture(base), dtype, USE).step()

    model = load_model(base, dtype=dtype)
    trained = KIND.build(settings, model)
    trained.attach()
    groups = KIND.groups(settings, trained, dtype)
    optimizer = KIND.optimizer(settings, trained, groups)
    blocks = checkpointed(settings.train.gradient_checkpointing, model.architecture.block_paths)
    if blocks:
        model.enable_gradient_checkpointing(blocks)
    side = PIXELS // 8
    hidden = torch.zeros(2, 77, 16)
    batch = MicroBatch(
        torch.zeros(2, 4, side, side), torch.ones(2, 4, side, side),
        lambda: Conditioning(hidden), torch.ones(2), [0, 1],
    )  # fmt: skip
    objective = build_objective(settings, model)

    def step() -> None:
        objective.loss_sum(model, batch, 0, trained.disabled).backward()
        optimizer.step()
        for group in groups:
            group.zero_grad()

    step()  # Which makes the optimizer's state.
    assert planned.activations == pytest.approx(profiled(step), rel=0.1)
    assert planned.adapter == sum(tensor.nbytes for group in groups for tensor in group.held)
    state = sum(
        tensor.nbytes
        for tensor in _tensors(optimizer.state_dict())
        if tensor.numel() > 1  # The count of steps.
    )
    assert planned.optimizer == pytest.approx(state, rel=0.02)
    parameters = sum(p.numel() for p in model.denoiser.parameters())
    assert planned.weights == parameters * dtype.itemsize


def _tensors(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    members = list(value.values()) if isinstance(value, dict) else value
    inner = members if isinstance(members, list) else []
    return [tensor for member in inner for tensor in _tensors(member)]
