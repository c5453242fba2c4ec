"""A UNet whose weights are packed, away or recomputed gives the numbers of one that is not."""

from __future__ import annotations

from collections.abc import Collection

import pytest
import torch
from tests.tiny_models import fill_randomly, tiny_architecture, tiny_checkpoint, tiny_model
from tests.tolerances import NETWORK, assert_near
from torch import Tensor, nn

from lorasmith.adapters.base import AdapterOptions
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.adapter_types import ADAPTERS
from lorasmith.models import load as checkpoint
from lorasmith.models import placement as weight_placement
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.models.load import Loading
from lorasmith.models.memory import blocks_by_activations, blocks_by_weight
from lorasmith.models.open import open_checkpoint
from lorasmith.models.placement import WeightPlacement, place_weights
from lorasmith.models.weights import read_weights
from lorasmith.tensors.offload import Prefetcher, StoredLayer
from lorasmith.tensors.rng import normal

CPU = torch.device("cpu")


def kept(placement: WeightPlacement, dtype: torch.dtype = torch.float32) -> DiffusionModel:
    model = tiny_model(dtype)
    paths = model.architecture.block_paths
    place_weights(model.denoiser, paths, placement, CPU)
    return model


def with_plain_layers(held: DiffusionModel) -> DiffusionModel:
    """A model of plain layers whose weights are what the held ones unpack to."""
    model = tiny_model(held.dtype)
    layers = dict(held.denoiser.named_modules())
    for name, layer in model.denoiser.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.weight = nn.Parameter(layers[name].weight.clone(), requires_grad=False)
    return model


def outcome(
    model: DiffusionModel, algorithm: str, options: AdapterOptions | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Prediction, and the gradients of adapters that are not at their start."""
    network = AdapterNetwork.create(
        model.adapter_roots(), algorithm=algorithm, rank=4, conv_rank=4, options=options,
        text_encoder=False,
    )  # fmt: skip
    parameters = [p for adapter in network.adapters.values() for p in adapter.parameters()]
    for number, parameter in enumerate(parameters):
        parameter.data += normal(parameter.shape, 2, "adapter", number) * 0.02
    latents, hidden = normal((2, 4, 8, 8), 3, "x"), normal((2, 77, 16), 3, "text")
    with network.attached():
        prediction = model.denoise(latents, torch.tensor([3, 500]), Conditioning(hidden))
        prediction.square().mean().backward()
    return prediction.detach(), [p.grad for p in parameters]


@pytest.fixture(scope="module")
def pair() -> tuple[DiffusionModel, DiffusionModel]:
    """Linear layers in 4 bits, convolutions in 8, some away; and plain layers of those weights."""
    held = kept(WeightPlacement("nf4", offloaded_blocks=2))
    return held, with_plain_layers(held)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ADAPTERS, "dora out", "loha with dora_scale"])
def test_every_adapter_learns_from_held_weights_as_from_plain_ones(
    name: str, pair: tuple[DiffusionModel, DiffusionModel]
) -> None:
    algorithm, _, decomposed = name.partition(" ")
    options = AdapterOptions(
        weight_decompose=bool(decomposed) or algorithm == "dora",
        decompose_on_output=decomposed == "out",
    )
    found, plain = (outcome(model, algorithm, options) for model in pair)
    assert_near(found, plain, NETWORK)


def test_nothing_of_a_held_weight_is_kept_for_the_backward_pass() -> None:
    sizes: dict[str, int] = {}
    for name, placement in {"held": WeightPlacement("fp8"), "plain": WeightPlacement()}.items():
        saved: list[Tensor] = []
        model = kept(placement)
        weights = {layer.weight.shape for layer in model.denoiser.modules()
                   if isinstance(layer, nn.Linear | nn.Conv2d)}  # fmt: skip
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=saved: s.append(t) or t, id):
            latents = normal((1, 4, 8, 8), 0, "x").requires_grad_()
            model.denoise(latents, torch.tensor([3]), Conditioning(normal((1, 77, 16), 0, "t")))
        sizes[name] = sum(1 for tensor in saved if tensor.shape in weights)
    assert sizes["held"] < sizes["plain"] / 4


def test_norms_embeddings_and_the_first_and_last_convolution_stay_whole() -> None:
    unet = kept(WeightPlacement("nf4")).denoiser
    held = {path for path, layer in unet.named_modules() if isinstance(layer, StoredLayer)}
    assert {path for path in held if not path.startswith(("down", "mid", "up"))} == set()
    assert "down_blocks.0.resnets.0.conv1" in held
    assert not isinstance(unet.conv_in, StoredLayer)
    packings = {unet.get_submodule(path).stored.format.name for path in held}
    assert packings == {"nf4", "fp8"}
    convolution = unet.get_submodule("down_blocks.0.resnets.0.conv1")
    assert convolution.stored.format.name == "fp8"


def test_a_checkpoint_is_packed_weight_by_weight(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At no time is there more than one weight that is not packed yet."""
    import weakref

    path, alive, most = tiny_checkpoint(tmp_path / "tiny.safetensors"), [], 0

    def watched(part, *arguments):
        nonlocal most
        for name, tensor in read_weights(part, *arguments):
            if part == "unet" and name.endswith("ff.net.0.proj.weight"):
                tensor = tensor.clone()
                alive.append(weakref.ref(tensor))
                most = max(most, sum(reference() is not None for reference in alive))
            yield name, tensor

    monkeypatch.setattr(checkpoint, "read_weights", watched)
    loading = Loading(open_checkpoint(path), placement=WeightPlacement("fp8"))
    loading.fill("unet")
    assert len(alive) > 2
    assert most <= 1
    layer = loading.model.denoiser.get_submodule("mid_block.resnets.0.conv1")
    error = layer.weight - tiny_model().denoiser.get_submodule("mid_block.resnets.0.conv1").weight
    assert float(error.abs().max()) < 0.02


def test_weights_that_the_system_does_not_lock_are_said(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoneLocked:
        Stream = staticmethod(lambda device: None)

        def locked(self, size: int) -> Tensor:
            raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(
        weight_placement, "Prefetcher", lambda device: Prefetcher(device, NoneLocked())
    )
    path = tiny_checkpoint(tmp_path / "tiny.safetensors")
    loading = Loading(open_checkpoint(path), placement=WeightPlacement(offloaded_blocks=2))
    loading.fill("vae", "unet")
    assert "the system locked no memory for " in loading.model.notes[-1]
    plain = Loading(open_checkpoint(path), placement=WeightPlacement("fp8"))
    plain.fill("unet")
    assert plain.model.notes == loading.model.notes[:-1]


def test_parts_are_filled_one_after_the_other(tmp_path) -> None:
    loading = Loading(open_checkpoint(tiny_checkpoint(tmp_path / "tiny.safetensors")))
    loading.fill("vae", "text_encoder")
    assert all(p.is_meta for p in loading.model.denoiser.parameters())
    alone = loading.model.encode_text(["a cat"]).prompt_embeds
    whole = checkpoint.load_model(tmp_path / "tiny.safetensors")
    assert torch.equal(alone, whole.encode_text(["a cat"]).prompt_embeds)


def test_blocks_in_both_orders() -> None:
    model = tiny_model()
    unet, blocks = model.denoiser, model.architecture.block_paths
    assert blocks[0] == "down_blocks.0"
    assert blocks[3] == "mid_block"
    outer = blocks_by_activations(blocks)
    assert set(outer[:2]) == {"down_blocks.0", "up_blocks.2"}
    assert outer[-1] == "mid_block"
    heavy = blocks_by_weight(unet, blocks)
    sizes = [sum(p.numel() for p in unet.get_submodule(block).parameters()) for block in heavy]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 7])
def test_gradients_do_not_depend_on_which_blocks_are_recomputed(count: int) -> None:
    plain, placement = tiny_model(), tiny_model()
    blocks = blocks_by_activations(placement.architecture.block_paths)[:count]
    placement.enable_gradient_checkpointing(blocks)
    assert_near(outcome(placement, "lora"), outcome(plain, "lora"), NETWORK)
    assert recomputed(placement) == set(blocks)


def recomputed(model: DiffusionModel) -> Collection[str]:
    return {
        block
        for block in model.architecture.block_paths
        if getattr(model.denoiser.get_submodule(block), "gradient_checkpointing", False)
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "placement",
    [WeightPlacement("none", offloaded_blocks=4), WeightPlacement("fp8", offloaded_blocks=3)],
)
def test_away_and_recomputed_at_once(placement: WeightPlacement) -> None:
    both = kept(placement)
    plain = with_plain_layers(both)
    both.enable_gradient_checkpointing()
    assert_near(outcome(both, "lora"), outcome(plain, "lora"), NETWORK)


def test_parked_parts_come_for_a_call_and_go_again() -> None:
    """Meta stands for a GPU: what is there has no numbers, what is parked has them."""
    model = tiny_model()
    before = {name: p.clone() for name, p in model.text_encoder.named_parameters()}
    model.device = torch.device("meta")
    model.offload("text_encoder", "vae")
    assert not any(p.is_meta for p in model.text_encoder.parameters())
    with torch.inference_mode():
        assert model.encode_text(["a cat"]).prompt_embeds.is_meta
        assert model.decode_latents(torch.zeros(1, 4, 8, 8)).is_meta
    for name, parameter in model.text_encoder.named_parameters():
        assert torch.equal(parameter, before[name])
        assert not parameter.is_inference()
    assert {p.device.type for p in model.vae.parameters()} == {"cpu"}


def test_a_cpu_parks_nothing() -> None:
    model = tiny_model()
    model.offload("vae")
    assert not model.parked


def test_slices_change_nothing_and_tiles_only_large_images() -> None:
    model = tiny_model()
    small, large = normal((2, 3, 64, 64), 0, "p"), normal((1, 3, 640, 64), 0, "p")
    plain = [model.encode_images(pixels)[0] for pixels in (small, large)]
    key = model.vae_fingerprint()
    model.save_vae_memory(slices=True)
    assert_near(model.encode_images(small)[0], plain[0], NETWORK)
    assert model.vae_fingerprint() == key
    model.save_vae_memory(tile_encoding=True)
    assert_near(model.encode_images(small)[0], plain[0], NETWORK)
    tiled = model.encode_images(large)[0]
    assert tiled.shape == plain[1].shape
    assert not torch.equal(tiled, plain[1])
    assert model.vae_fingerprint() != key  # Cached latents are not mixed up.
    assert model.decode_latents(plain[1]).shape == large.shape


@pytest.mark.slow
def test_every_family_can_be_held() -> None:
    architecture = tiny_architecture(family="sdxl")
    model = tiny_model(architecture=architecture)
    fill_randomly(model.denoiser, torch.float32, 5)
    place_weights(
        model.denoiser,
        model.architecture.block_paths,
        WeightPlacement("nf4", offloaded_blocks=2),
        CPU,
    )
    assert sum(isinstance(layer, StoredLayer) for layer in model.denoiser.modules()) > 50
