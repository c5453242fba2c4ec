"""Trains a small base's UNet and text encoder on latents of its world.

Both have the architecture of SD1's, small: cross-attention at every level but the last, a CLIP
text encoder with the real vocabulary, noise prediction on SD1's schedule.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from random import Random
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from tools.demo_model.pretrain_loop import Budget, MuonWithAdamW, Run
from tools.demo_model.pretrain_vae import SCALING_FACTOR, to_pixels
from tools.demo_model.worlds import World
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from lorasmith.core.files import ASSETS
from lorasmith.models.load import load_model
from lorasmith.tensors.files import save_tensors

HEADS = 2
TEXT_WIDTH = 64
TEXT_LAYERS = 2
TEXT_HEADS = 4
TOKENS = 77
START, END = 49406, 49407

IMAGES = 16000
BATCH = 48
ENCODE_BATCH = 8  # small batches stay in the cache
EMPTY_CAPTIONS = 0.1
UNKNOWN_WORDS = 0.05  # share of captions with words that mean nothing
MIN_SNR = 5.0
NOT_HIDDEN = ("conv_in", "conv_out", "embedding.weight", "time_embedding")
VOCABULARY = ASSETS / "bpe_simple_vocab_16e6.txt.gz"


def new_unet(channels: tuple[int, ...]) -> UNet2DConditionModel:
    lower = len(channels) - 1
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=channels,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=HEADS,  # diffusers' name for the number of heads
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D",) * lower + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * lower,
    )


def new_text_encoder() -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=END + 1,
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=TEXT_HEADS,
        max_position_embeddings=TOKENS,
        hidden_act="quick_gelu",
        projection_dim=TEXT_WIDTH,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=END,
    )
    return CLIPTextModel(config)


def new_scheduler() -> DDIMScheduler:
    """SD1's schedule."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer from the vocabulary in the assets, written to `folder` and loaded."""
    lines = gzip.decompress(VOCABULARY.read_bytes()).decode().split("\n")
    merges = lines[1 : 49152 - 256 - 2 + 1]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable]
    letters += [chr(256 + k) for k in range(256 - len(printable))]
    words = letters + [f"{letter}</w>" for letter in letters]
    words += ["".join(merge.split()) for merge in merges] + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: index for index, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": TOKENS,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return CLIPTokenizer.from_pretrained(folder)


class Captions:
    """Token ids of captions, varied: tags shuffled and left out, none at all, or unknown words."""

    def __init__(self, tokenizer: CLIPTokenizer, world: World) -> None:
        self.tokenizer, self.world = tokenizer, world
        self.cache: dict[str, list[int]] = {}
        words = [w for w in tokenizer.get_vocab() if w.endswith("</w>") and w[:-4].isalpha()]
        self.unknown = sorted(w[:-4] for w in words if len(w) > 6)

    def ids(self, text: str) -> list[int]:
        if text not in self.cache:
            self.cache[text] = self.tokenizer(text).input_ids[1:-1]
        return self.cache[text]

    def vary(self, image: Any, rng: Random) -> list[str]:
        if rng.random() < EMPTY_CAPTIONS:
            return []
        said = self.world.caption(image, rng)
        if rng.random() < UNKNOWN_WORDS:
            words = rng.sample(self.unknown, rng.randint(1, 2))
            said.insert(rng.randint(0, len(said)), " ".join(words))
        rng.shuffle(said)
        return said

    def batch(self, captions: list[list[str]]) -> Tensor:
        """Lists of tags -> token ids int64 (B, 77), padded with the end token."""
        comma, rows = self.ids(","), []
        for said in captions:
            ids = [START]
            for index, tag in enumerate(said):
                ids += (comma if index else []) + self.ids(tag)
            ids = ids[: TOKENS - 1]
            rows.append(ids + [END] * (TOKENS - len(ids)))
        return torch.tensor(rows)


@torch.no_grad()
def encode_images(
    vae: AutoencoderKL, world: World, work: Path, seed: int, count: int = IMAGES
) -> tuple[list[Any], Tensor, Tensor]:
    """What images show, with the mean and the standard deviation of their latents,
    (N, 4, 16, 16) each, scaled; cached in the work folder."""
    rng, cache = Random(f"pictures {seed}"), work / f"latents_{count}.safetensors"
    drawn = world.draw(count, rng)
    if not cache.exists():
        means, stds = [], []
        for start in range(0, count, ENCODE_BATCH):
            pixels = to_pixels([pixels for _, pixels in drawn[start : start + ENCODE_BATCH]])
            with torch.autocast("cpu", torch.bfloat16):
                posterior = vae.encode(pixels).latent_dist
            means.append(posterior.mean.float() * SCALING_FACTOR)
            stds.append(posterior.std.float() * SCALING_FACTOR)
        save_tensors(cache, {"mean": torch.cat(means), "std": torch.cat(stds)}, {})
    latents = load_file(cache)
    return [shown for shown, _ in drawn], latents["mean"], latents["std"]


def train_unet(work: Path, world: World, budget: Budget, batch: int = BATCH) -> None:
    """Train (or go on training) the UNet and the text encoder on the autoencoder in `work/vae`.

    Args:
        batch: samples of a step, even: each of half as many images comes twice.
    """
    torch.manual_seed(budget.seed)
    vae = AutoencoderKL.from_pretrained(work / "vae").eval()
    images, mean, std = encode_images(vae, world, work, budget.seed)
    captions = Captions(write_tokenizer(work / "tokenizer"), world)
    unet, text_encoder = new_unet(world.channels), new_text_encoder()
    if world.from_demo:
        demo = load_model("demo").text_encoders["text_encoder"]
        text_encoder.load_state_dict(demo.state_dict())
    run = new_run(unet, text_encoder, work, budget)
    alphas = new_scheduler().alphas_cumprod
    snr = alphas / (1 - alphas)
    weights = snr.clamp(max=MIN_SNR) / snr

    def loss_of_step(step: int, used: float) -> dict[str, Tensor]:
        rng = Random(f"unet {budget.seed} {step}")
        noises = torch.Generator().manual_seed(budget.seed * 1_000_003 + step)
        # Each image comes twice, with timesteps t and 999 - t, so the text is encoded once.
        chosen = [rng.randrange(len(images)) for _ in range(batch // 2)]
        ids = captions.batch([captions.vary(images[k], rng) for k in chosen])
        both = torch.tensor(chosen + chosen)
        clean = mean[both] + std[both] * torch.randn(mean[both].shape, generator=noises)
        noise = torch.randn(clean.shape, generator=noises)
        early = torch.randint(0, 500, (batch // 2,), generator=noises)
        t = torch.cat([early, 999 - early])
        alpha = alphas[t][:, None, None, None]
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        with torch.autocast("cpu", torch.bfloat16):
            text = text_encoder(ids).last_hidden_state.repeat(2, 1, 1)
            guess = unet(noisy, t, text).sample
        error = (guess.float() - noise).square().mean((1, 2, 3))
        return {"loss": (error * weights[t]).mean(), "mse": error.detach().mean()}

    run.train(loss_of_step)


def new_run(
    unet: UNet2DConditionModel, text_encoder: CLIPTextModel, work: Path, budget: Budget
) -> Run:
    """The run of both models, as far as its last checkpoint in `work`."""
    named = [(f"unet.{name}", p) for name, p in unet.named_parameters()]
    named += [(f"text_encoder.{name}", p) for name, p in text_encoder.named_parameters()]
    optimizer = MuonWithAdamW(named, not_hidden=NOT_HIDDEN, muon_lr=0.01, adamw_lr=1.2e-3)
    return Run("unet", work, optimizer, budget, ema_decay=0.997, flat_share=0.4)


def averaged_models(work: Path, world: World) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """The UNet and the text encoder with the averaged weights of the last checkpoint."""
    unet, text_encoder = new_unet(world.channels), new_text_encoder()
    run = new_run(unet, text_encoder, work, Budget(minutes=1, seed=0, threads=1))
    if run.step == 0:
        raise FileNotFoundError(f"no checkpoint of the UNet in {work}: train it first")
    run.use_ema()
    return unet.eval(), text_encoder.eval()
