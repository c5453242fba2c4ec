"""The memory planner against PyTorch's own account of what a step allocates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests.tiny_models import tiny_architecture, tiny_model
from torch import nn

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.load import load_settings
from lorasmith.config.schema import TrainSettings, replace_settings
from lorasmith.demo.character import write_training_set
from lorasmith.models.diffusion_model import Conditioning
from lorasmith.models.placement import place_weights
from lorasmith.tensors.offload import StoredLayer
from lorasmith.training.kinds.adapter import make_network
from lorasmith.training.memory.plan import MemoryPlan, plan_memory
from lorasmith.training.memory.simulate import (
    SimulatedRun,
    Workload,
    checkpointed,
    weight_placement,
)
from lorasmith.training.memory.trace import LiveBytes, backward, bytes_of, peak_bytes, tensors_of
from lorasmith.training.objective import Kept, MicroBatch, build_objective
from lorasmith.training.optim import cast_at_once, flat_groups
from lorasmith.training.setup.preflight import RunPlan, preflight

META = torch.device("meta")
PIXELS = 256
USE = Workload(
    PIXELS, PIXELS, (PIXELS, PIXELS, 2), None, text=False, vae=False, channels_last=False
)


def settings_with(**more: str) -> TrainSettings:
    chosen = {key.replace("__", "."): value for key, value in more.items()}
    usual = {"adapter.text_encoder": "false", "train.batch": "2"}
    return load_settings(None, {**usual, **chosen})


def profiled(action: Callable[[], object]) -> int:
    """Peak bytes that PyTorch's allocator on the CPU hands out within ``action``."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        action()
    events = profile.profiler.kineto_results.events()
    events = sorted(
        (event for event in events if event.name() == "[memory]"),
        key=lambda event: event.start_ns(),
    )
    now = most = 0
    for event in events:
        now += event.nbytes()
        most = max(most, now)
    return most


def real_step(settings: TrainSettings, dtype: torch.dtype = torch.float32) -> int:
    """The activations of a step on the CPU, as the allocator counts them."""
    model = tiny_model()
    nn.Module.to(model.denoiser, dtype)
    model.dtype = dtype
    blocks = checkpointed(settings.train.gradient_checkpointing, model.architecture.block_paths)
    place_weights(
        model.denoiser,
        model.architecture.block_paths,
        weight_placement(settings),
        torch.device("cpu"),
    )
    if blocks:
        model.enable_gradient_checkpointing(blocks)
    network = make_network(settings, model.architecture, model.adapter_roots())
    pieces = [(g.name, g.parameters, 1.0) for g in network.parameter_groups()]
    groups = flat_groups("AdamW", pieces, dtype)
    objective, side = build_objective(settings, model), PIXELS // 8
    shape = (settings.train.batch, 4, side, side)
    hidden = torch.zeros(shape[0], 77, 16)
    batch = MicroBatch(
        torch.zeros(shape), torch.ones(shape), lambda: Conditioning(hidden),
        torch.ones(shape[0]), list(range(shape[0])),
        kept=Kept(lambda: Conditioning(hidden), torch.ones(shape[0])),
    )  # fmt: skip
    if settings.loss.outside_mask == "prior":
        batch = replace(batch, mask=torch.zeros(shape[0], 1, side, side))
    network.attach()

    def step() -> None:
        network.begin_step(0, 0, batch.samples, size=(side, side), dtype=dtype)
        with cast_at_once(groups):
            objective.loss_sum(model, batch, 0, network.disabled).backward()
        if settings.preservation.enabled is True:
            with cast_at_once(groups):
                objective.preservation_sum(model, batch, 0, network.disabled).backward()

    step()  # The masks of a second step are made before it.
    network.end_step()
    return profiled(step)


@pytest.mark.broad_beyond(6)
@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {"train__gradient_checkpointing": "false"},
        {"train__gradient_checkpointing": "true"},
        {"train__gradient_checkpointing": "2"},
        {"train__gradient_checkpointing": "false", "train__base_precision": "fp8"},
        {"train__gradient_checkpointing": "true", "performance__offload_blocks": "3"},
        {"train__gradient_checkpointing": "false", "adapter__type": "dora"},
        {"train__gradient_checkpointing": "false", "adapter__type": "loha"},
        {"train__gradient_checkpointing": "false", "adapter__dropout": "0.1"},
        {"train__gradient_checkpointing": "true", "adapter__dropout": "0.1"},
        {
            "train__gradient_checkpointing": "true",
            "adapter__type": "oft",
            "adapter__dropout": "0.1",
        },
        # What keeps the base model's output takes time, and no memory to speak of.
        {"train__gradient_checkpointing": "false", "preservation__enabled": "true"},
        {"train__gradient_checkpointing": "true", "loss__outside_mask": "prior"},
    ],
)
def test_a_step_takes_what_is_estimated(more: dict[str, str]) -> None:
    settings = settings_with(**more)
    estimated = SimulatedRun(settings, tiny_architecture(), torch.float32, USE).step()
    assert estimated.activations == pytest.approx(real_step(settings), rel=0.1)


@pytest.mark.slow
def test_copies_in_half_precision_and_their_gradients_are_counted() -> None:
    """At a rank at which they are most of a step's memory."""
    settings = settings_with(adapter__rank="256", train__gradient_checkpointing="true")
    run = SimulatedRun(settings, tiny_architecture(), torch.bfloat16, USE)
    values = sum(group.size for group in run.groups)
    estimated = run.step()
    assert estimated.adapter == (4 + 4 + 2) * values
    real = real_step(settings, torch.bfloat16)
    assert real > 2 * values
    assert estimated.activations == pytest.approx(real, rel=0.1)


@pytest.mark.slow
def test_masks_are_counted() -> None:
    """Where everything else is computed twice, those of all modules are there all the time."""

    def run(dropout: str) -> SimulatedRun:
        more = {"train__gradient_checkpointing": "true", "adapter__type": "oft"}
        settings = settings_with(adapter__dropout=dropout, **more)
        return SimulatedRun(settings, tiny_architecture(), torch.float32, USE)

    without, dropping = run("0"), run("0.1")
    more = dropping.step().activations - without.step().activations
    network = dropping.trained
    assert isinstance(network, AdapterNetwork)
    rows = network._masking._rows[(PIXELS // 8, PIXELS // 8)]
    gates = [adapter.gates for adapter in network.adapters.values()]
    masks = 2 * 4 * sum(n * g for n, g in zip(rows, gates, strict=True))
    assert 0 < masks < more < 1.3 * masks


@pytest.mark.slow
def test_weights_are_counted_as_they_are_kept() -> None:
    def weights(**more: str) -> int:
        run = SimulatedRun(settings_with(**more), tiny_architecture(), torch.float32, USE)
        return run.sizes["unet"]

    for precision in ("fp8", "nf4"):
        model = tiny_model()
        settings = settings_with(train__base_precision=precision)
        place_weights(
            model.denoiser,
            model.architecture.block_paths,
            weight_placement(settings),
            torch.device("cpu"),
        )
        assert weights(train__base_precision=precision) == bytes_of(model.denoiser)
    whole = weights()
    assert whole == sum(p.numel() * 4 for p in tiny_model().denoiser.parameters())
    assert weights(performance__offload_blocks="64") < 0.2 * whole


def test_live_bytes_in_a_closed_form() -> None:
    size = 4 * 64 * 64

    def chain() -> None:
        a = torch.empty(64, 64, device=META)
        b = a * 2  # a and b
        b += a.t()  # A view and an operation in place take nothing.
        del a
        c = b + 1  # b and c
        d = torch.cat([b, c])  # b, c and two more
        del b, c
        d.sum()

    assert peak_bytes(chain) == 4 * size


def test_attention_takes_no_square_of_its_length() -> None:
    query = torch.empty(1, 2, 4096, 64, device=META, requires_grad=True)

    def attend() -> None:
        backward(F.scaled_dot_product_attention(query, query, query).sum())

    assert peak_bytes(attend, [query]) < 8 * query.numel() * 4


def test_what_is_there_is_not_counted() -> None:
    layer = nn.Linear(64, 64, device=META)
    x = torch.empty(2, 64, device=META)
    with LiveBytes([*tensors_of(layer), x]) as live:
        out = layer(x).view(-1)
    assert live.now == out.numel() * 4
    del out
    assert live.now == 0


@pytest.fixture(scope="module")
def run_plan(tmp_path_factory: pytest.TempPathFactory) -> RunPlan:
    folder = tmp_path_factory.mktemp("memory")
    write_training_set(folder / "data", images=2, regularisation=0, repeats=1)
    return prepared_with(folder / "data")


def prepared_with(data: Path, **more: str) -> RunPlan:
    more = {
        "data__path": str(data),
        "sample__every_epochs": "0",
        "sample__at_start": "false",
        **more,
    }
    return preflight(settings_with(**more))


def planned(run_plan: RunPlan, free: float, *, device: str = "cuda", **more: object) -> MemoryPlan:
    settings = run_plan.settings
    for path, value in more.items():
        section, _, name = path.partition("__")
        part = getattr(settings, section).model_copy(update={name: value})
        settings = settings.model_copy(update={section: part})
    run_plan = replace(run_plan, settings=settings)
    return plan_memory(
        settings, run_plan, torch.float32, torch.device(device), channels_last=False, free=int(free)
    )


@pytest.mark.slow
def test_what_fits_is_left_alone(run_plan: RunPlan) -> None:
    plan = planned(run_plan, 8e9)
    assert not plan.problems
    assert (plan.checkpointed, plan.slices, plan.tile_encoding, plan.draw_batch) == (0,) * 3 + (
        None,
    )
    assert plan.peak.total >= plan.step.total > plan.step.weights > 0


@pytest.mark.slow
def test_auto_recomputes_no_more_blocks_than_it_takes(run_plan: RunPlan) -> None:
    whole = planned(run_plan, 8e9, train__batch=8).step
    most = planned(run_plan, 8e9, train__batch=8, train__gradient_checkpointing=True).step
    between = (whole.total + most.total) / 2 / 0.92
    plan = planned(run_plan, between, train__batch=8)
    assert 0 < plan.checkpointed < len(tiny_model().architecture.block_paths)
    assert most.total < plan.step.total <= 0.92 * between
    fewer = planned(
        run_plan, 8e9, train__batch=8, train__gradient_checkpointing=plan.checkpointed - 1
    )
    assert fewer.step.total > 0.92 * between
    fixed = planned(run_plan, between, train__batch=8, train__gradient_checkpointing=False)
    assert fixed.checkpointed == 0
    assert fixed.problems


@pytest.mark.slow
def test_advice_is_in_order_of_cost_and_says_what_it_saves(run_plan: RunPlan) -> None:
    plan = planned(run_plan, 1e6, train__batch=4, train__gradient_checkpointing=False)
    names = [advice.setting for advice in plan.advice]
    assert names[:2] == ["train.batch", "train.precision"]
    assert names[-1] == "performance.offload_blocks"
    assert names.index("train.gradient_checkpointing") < names.index("train.base_precision")
    assert all(advice.saves > 0 for advice in plan.advice)
    (problem,) = plan.problems
    assert "training step" in str(problem)
    assert "train.batch = 1 (saves" in str(problem)
    assert "lower data.resolution" in str(problem)


@pytest.mark.slow
def test_advice_ends_where_it_fits(run_plan: RunPlan) -> None:
    free = planned(run_plan, 8e9, train__batch=2).step.total / 0.92
    plan = planned(run_plan, free, train__batch=4, train__gradient_checkpointing=False)
    assert [advice.setting for advice in plan.advice] == ["train.batch"]
    assert "lower data.resolution" not in str(plan.problems[0])


@pytest.mark.slow
def test_a_small_device_encodes_one_by_one_and_then_in_tiles(run_plan: RunPlan) -> None:
    settings = run_plan.settings
    width, height = run_plan.dataset.buckets[0].size
    use = replace(USE, width=width, height=height)
    run = SimulatedRun(settings, run_plan.architecture, torch.float32, use)
    one, four = (run.encoding(batch).total for batch in (1, 4))
    assert four > one
    between = planned(run_plan, (one + four) / 2 / 0.92)
    assert between.slices
    assert not between.tile_encoding
    assert planned(run_plan, one / 2).tile_encoding
    assert not planned(run_plan, (one + four) / 2 / 0.92, device="cpu").slices


@pytest.mark.slow
def test_offloaded_weights_need_main_memory(
    run_plan: RunPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    architecture = run_plan.architecture
    plan = planned(run_plan, 8e9, performance__offload_blocks=64)
    whole = SimulatedRun(run_plan.settings, architecture, torch.float32, USE).sizes["unet"]
    assert 0.8 * whole < plan.away < whole
    assert not plan.problems
    # Two weights are on their way while a third is at work.
    settings = replace_settings(run_plan.settings, {"performance.offload_blocks": 64})
    run = SimulatedRun(settings, architecture, torch.float32, USE)
    held = [
        layer.stored for layer in run.model.denoiser.modules() if isinstance(layer, StoredLayer)
    ]
    largest = max(held, key=lambda one: one.shape.numel()).shape.numel() * 4
    assert run.sizes["unet"] == bytes_of(run.model.denoiser) + 2 * largest

    monkeypatch.setattr("lorasmith.training.memory.plan.free_memory", lambda device: plan.away)
    (problem,) = planned(run_plan, 8e9, performance__offload_blocks=64).problems
    assert "are to stay in main memory" in str(problem)
    assert not planned(run_plan, 8e9).problems


def test_nothing_is_advised_where_memory_is_not_known(run_plan: RunPlan) -> None:
    plan = planned(run_plan, 8e9, train__batch=4)
    assert replace(plan, free=1).problems
    assert not replace(plan, free=None).problems
