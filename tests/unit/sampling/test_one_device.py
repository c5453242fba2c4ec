"""Drawing stays on the model's device: on the meta device, which stands in for CUDA."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tests.meta_runs import meta_model
from tests.one_device import META, OneDevice
from tests.tiny_models import tiny_architecture, tiny_model
from tests.unit.conftest import write_lora
from torch import Tensor

from lorasmith.sampling.denoise import Pass, Start, denoise
from lorasmith.sampling.embeddings import EmbeddingLibrary
from lorasmith.sampling.generate import generate
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.sampling.request import Hires, ImageRequest, Inpaint
from lorasmith.sampling.samplers import SAMPLERS, SCHEDULES, find_sampler

# diffusers' DPM2 takes NumPy's functions of tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")

SPACINGS = [
    (name, schedule)
    for name, sampler in SAMPLERS.items()
    for schedule in ("automatic", *(SCHEDULES if sampler.plain else ()))
]
# UniPC solves a system of two equations on the device, and looks whether that went well.
WAITS = {"unipc": {"diffusers/schedulers/scheduling_unipc_multistep.py"}}
# The finished image, and whether it is one.
AT_THE_END = {
    "lorasmith/sampling/generate.py:_Batch._warn_of_nan", "lorasmith/sampling/generate.py:_decode"
}  # fmt: skip


def latents() -> Tensor:
    return torch.empty(2, 4, 8, 8, device=META)


@pytest.mark.broad_beyond(34)
@pytest.mark.slow_but_first
@pytest.mark.parametrize(("name", "schedule"), SPACINGS)
def test_samplers_compute_where_the_latents_are(
    monkeypatch: pytest.MonkeyPatch, name: str, schedule: str
) -> None:
    """Whatever is begun with and predicted, without waiting, and in 32 bits, as Apple's GPUs have
    no more."""
    sampler = find_sampler(name, schedule)
    one_pass = Pass(sampler, 4, skip=0, eta=0.5 if sampler.takes_eta else 0.0)
    noise_alone = Start(latents())
    masked = Start(latents(), latents(), latents(), torch.empty(2, 1, 8, 8, device=META))

    def guide(noisy: Tensor, timestep: Tensor, step: int) -> Tensor:
        assert (noisy.device, timestep.device) == (META, META)
        return torch.empty_like(noisy)

    for start, prediction in ((noise_alone, "epsilon"), (masked, "v")):
        generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        to_noise = prediction == "v"
        # On the CPU by design, and slow where every operation is looked at.
        begun = Pass.start(one_pass, prediction, zero_terminal_snr=to_noise)
        monkeypatch.setattr(Pass, "start", lambda *_, begun=begun, **__: begun)
        with torch.inference_mode(), OneDevice() as seen:
            drawn = denoise(
                one_pass, start, guide, generators,
                prediction=prediction, zero_terminal_snr=to_noise,
            )  # fmt: skip
        monkeypatch.undo()
        assert (drawn.device, drawn.dtype) == (META, torch.float32)
        assert not seen.mixed
        assert not seen.doubles
        assert {place.partition(":")[0] for place in seen.read} <= WAITS.get(name, set())


def write_images(folder: Path) -> tuple[Path, Path]:
    Image.new("RGB", (64, 64), (90, 20, 10)).save(folder / "picture.png")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    mask.save(folder / "mask.png")
    return folder / "picture.png", folder / "mask.png"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_images_are_drawn_on_one_device(family: str, tmp_path: Path) -> None:
    """Everything that a request can ask for, but for samplers."""
    architecture = tiny_architecture(family=family)
    write_lora(tmp_path / "cat.safetensors", tiny_model(architecture=architecture), 1)
    widths = dict(zip(("clip_l", "clip_g"), (t["hidden_size"] for t in architecture.texts),
                      strict=False))  # fmt: skip
    names = {"clip_l": "emb_params"} if len(widths) == 1 else {}
    vectors = {names.get(part, part): torch.ones(2, width) for part, width in widths.items()}
    save_file(vectors, tmp_path / "zorp.safetensors")
    image, mask = write_images(tmp_path)
    prompt = "a (b:1.2) zorp, [c:d:0.5] BREAK e AND f :0.5 <lora:cat:0.7>"
    usual = {"prompt": prompt, "negative": "", "steps": 2, "cfg_rescale": 0.3, "clip_skip": 2,
             "width": 64, "height": 64}  # fmt: skip
    requests = [
        ImageRequest(**usual),
        *(ImageRequest(**usual, hires=Hires(2.0, upscaler=name)) for name in ("latent", "lanczos")),
        ImageRequest(**usual, init=image),
        ImageRequest(**usual, init=image, denoise=1.0, inpaint=Inpaint(mask)),
        ImageRequest(**usual, init=image, inpaint=Inpaint(mask, content="noise", padding=8)),
    ]
    model = meta_model(architecture)
    with OneDevice() as seen:
        drawn = list(
            generate(
                model,
                requests,
                loras=LoraLibrary(tmp_path),
                embeddings=EmbeddingLibrary(tmp_path),
            )
        )
    assert len(drawn) == len(requests)
    assert not seen.mixed
    assert not seen.doubles
    assert set(seen.read) == AT_THE_END
