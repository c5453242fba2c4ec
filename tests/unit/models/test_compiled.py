"""How many graphs a UNet's blocks take, and that nothing of them is left as it was in silence."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tests.published import PUBLISHED
from tests.tiny_models import tiny_model
from tests.tolerances import NETWORK, assert_near
from torch import Tensor, nn

from lorasmith.adapters.dropout import Dropout
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.adapter_types import ADAPTERS
from lorasmith.models.compiled import layers_of
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.models.load import assemble, empty_modules, fill_buffers
from lorasmith.tensors.rng import normal
from lorasmith.training.optim import FlatGroup, cast_at_once


class Graphs:
    """A backend that runs what it is given, and counts."""

    def __init__(self) -> None:
        self.count, self.calls = 0, 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        self.count += 1

        def run(*values: Any) -> Any:
            self.calls += 1
            return graph.forward(*values)

        return run


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def blocks_of(model: DiffusionModel) -> list[nn.Module]:
    kinds = model.architecture.family.denoiser.repeated_blocks
    return [module for module in model.denoiser.modules() if type(module).__name__ in kinds]


def step(model: DiffusionModel, height: int, width: int, batch: int = 2) -> list[Tensor]:
    """The prediction for latents of that size, and gradients of what is trained."""
    device, unet = model.device, model.architecture.denoiser
    hidden = normal((batch, 77, unet["cross_attention_dim"]), 3, "text").to(device)
    condition = Conditioning(hidden)
    if model.architecture.family.size_conditioning:
        pooled = unet["projection_class_embeddings_input_dim"] - 6 * unet["addition_time_embed_dim"]
        sizes = torch.zeros(batch, 6, device=device)
        condition = Conditioning(hidden, torch.zeros(batch, pooled, device=device), sizes)
    latents = normal((batch, 4, height, width), 3, "x").to(device)
    times = torch.full((batch,), 7, device=device)
    prediction = model.denoise(latents, times, condition)
    if not prediction.requires_grad:
        return [prediction]
    trained = [p for p in model.denoiser.parameters() if p.requires_grad]
    return [prediction.detach(), *torch.autograd.grad(prediction.square().mean(), trained)]


def network_on(
    model: DiffusionModel, algorithm: str = "lora", dropout: Dropout | None = None
) -> AdapterNetwork:
    network = AdapterNetwork.create(
        model.adapter_roots(), algorithm=algorithm, rank=4, text_encoder=False, dropout=dropout
    )
    for number, adapter in enumerate(network.adapters.values()):
        for parameter in adapter.parameters():
            parameter.data += normal(parameter.shape, 2, "adapter", number) * 0.02
    return network


def full_size(name: str) -> DiffusionModel:
    """Without numbers: dynamo does not ask for any."""
    architecture, meta = PUBLISHED[name], torch.device("meta")
    modules = empty_modules(architecture)
    for module in modules.values():
        fill_buffers(module, meta)
    return assemble(architecture, modules, torch.float32, meta)


@pytest.mark.slow
def test_graphs_are_as_many_as_kinds_of_blocks_whatever_the_sizes() -> None:
    model, graphs, left = tiny_model(), Graphs(), []
    network = network_on(model)
    sizes = [(8, 8), (8, 12), (16, 8), (12, 12), (24, 8)]
    with network.attached():
        eager = [step(model, *size) for size in sizes]
        model.compile(sizes_vary=True, backend=graphs, report=left.append)
        blocks = blocks_of(model)
        kinds = len({layers_of(block) for block in blocks})
        for size, wanted in zip(sizes, eager, strict=True):
            calls = graphs.calls
            assert_near(step(model, *size), wanted, NETWORK)
            assert graphs.calls - calls == len(blocks), "a block ran as it is"
            # Drawing and measuring between steps: the network off and on again, no gradients.
            with network.detached(), torch.inference_mode():
                step(model, 8, 8, batch=1)
        assert graphs.count == kinds
        # One image more or fewer is a size like others; a single one is a case of its own.
        step(model, 8, 12, batch=3)
        assert graphs.count == kinds
        step(model, 8, 12, batch=1)
        step(model, 8, 8, batch=1)
        assert graphs.count == 2 * kinds
        network.set_strength(0.5)
        step(model, 8, 8)
        assert graphs.count == 2 * kinds
    assert left == []


@pytest.mark.slow
def test_trained_numbers_that_are_cast_at_once_reach_compiled_code() -> None:
    """In half precision a copy stands for each parameter, within a step alone."""
    model, graphs, left = tiny_model(torch.bfloat16), Graphs(), []
    network = network_on(model)
    parameters = [p for each in network.parameter_groups() for p in each.parameters]
    group = FlatGroup("unet", parameters, 1.0, compute=torch.bfloat16)
    found: dict[str, list[Tensor]] = {"eager": [], "compiled": []}
    hidden, latents = normal((2, 77, 16), 3, "text"), normal((2, 4, 8, 8), 3, "x")
    with network.attached():
        for name, gradients in found.items():
            if name == "compiled":
                with some_blocks(model):
                    model.compile(sizes_vary=True, backend=graphs, report=left.append)
            for number in range(3):
                group.grad.zero_()
                group.flat.data.fill_(0.01 * (number + 1))
                with cast_at_once([group]):
                    out = model.denoise(latents, torch.tensor([7, 7]), Conditioning(hidden))
                    out.square().mean().backward()
                gradients.append(group.grad.clone())
    assert left == []
    assert (graphs.count, graphs.calls) == (2, 6)
    assert_near(found["compiled"], found["eager"], NETWORK, dtype=torch.bfloat16)


def test_drawing_is_not_compiled() -> None:
    model, graphs = tiny_model(), Graphs()
    plain = step(model, 8, 8)
    model.compile(backend=graphs)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(step(model, 8, 8)[0], plain[0])
    assert graphs.count == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kinds", "blocks"),
    # By hand: residual blocks from and to 12 pairs of numbers of channels in both, transformer
    # blocks of 3 widths in SD1.5 and of 2 in SDXL.
    [("sd15", 12 + 3, 38), pytest.param("sdxl", 12 + 2, 87, marks=pytest.mark.broad)],
)
def test_full_size_models_take_as_many_graphs_as_they_have_kinds_of_blocks(
    name: str, kinds: int, blocks: int
) -> None:
    model, graphs, left = full_size(name), Graphs(), []
    assert len({layers_of(block) for block in blocks_of(model)}) == kinds
    with network_on(model).attached():
        model.compile(sizes_vary=True, backend=graphs, report=left.append)
        step(model, 64, 64)
        assert graphs.calls == blocks
        # Up to the first adapter inputs need no gradients, behind it blocks of the same kind do.
        assert kinds <= graphs.count <= kinds + 2
        for size in ((96, 64), (64, 128), (80, 80)):
            step(model, *size)
        assert graphs.calls == 4 * blocks
        assert graphs.count <= kinds + 3
    assert left == []


@pytest.mark.broad_beyond(4)
@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ADAPTERS)
def test_every_adapter_compiles_whole(algorithm: str) -> None:
    """Several steps, each with masks of its own where it has any, and sampling between them."""
    dropout = Dropout(0.1, 0.1, 0.1) if "dropout" in ADAPTERS[algorithm].options else None
    model, graphs, left = tiny_model(), Graphs(), []
    network = network_on(model, algorithm, dropout)
    with network.attached():
        wanted = []
        for number in range(3):
            network.begin_step(0, number, [1, 2])
            wanted.append(step(model, 8, 8))
        with some_blocks(model):
            model.compile(sizes_vary=True, backend=graphs, report=left.append)
        for number in range(3):
            network.begin_step(0, number, [1, 2])
            assert_near(step(model, 8, 8), wanted[number], NETWORK)
            network.end_step()
            with torch.no_grad():
                step(model, 8, 8)
    assert left == []
    assert graphs.calls == 3 * 2
    assert graphs.count == 2


@contextlib.contextmanager
def some_blocks(model: DiffusionModel) -> Iterator[None]:
    """One of either class is enough for the adapters on it."""
    middle, modules = model.denoiser.mid_block, model.denoiser.modules
    some = [middle.resnets[0], middle.attentions[0].transformer_blocks[0]]
    model.denoiser.modules = lambda: some  # type: ignore[method-assign, assignment]
    yield
    model.denoiser.modules = modules  # type: ignore[method-assign]


@pytest.mark.slow
def test_what_cannot_be_compiled_is_said_once_and_runs_as_it_is() -> None:
    model, left = tiny_model(), []
    with network_on(model).attached():
        eager = step(model, 8, 8)

        def broken(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
            raise FileNotFoundError("no compiler is called c++")

        model.compile(backend=broken, report=left.append)
        for _ in range(2):
            for found, wanted in zip(step(model, 8, 8), eager, strict=True):
                assert torch.equal(found, wanted)
    kinds = {layers_of(block) for block in blocks_of(model)}
    assert len(left) == len(kinds)
    assert {text.split()[0] for text in left} == {"ResnetBlock2D", "BasicTransformerBlock"}
    assert all("no compiler is called c++" in text for text in left)


@pytest.mark.slow
def test_a_limit_that_is_reached_is_said_and_the_programs_own_limit_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, graphs, left = tiny_model(), Graphs(), []
    limit = torch._dynamo.config.recompile_limit
    monkeypatch.setattr("lorasmith.models.compiled.MOST_GRAPHS", 1)
    network = network_on(model)
    model.compile(backend=graphs, report=left.append)
    with network.attached():
        step(model, 8, 8)
        assert torch._dynamo.config.recompile_limit == limit
        assert torch.fx.experimental._config.use_duck_shape
        step(model, 8, 12)
    assert left
    assert all("1 graphs did not do for it" in text for text in left)
