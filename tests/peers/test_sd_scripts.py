"""The same questions to sd-scripts and to lorasmith: loss, schedules, buckets, captions, batches.

Runs where ``LORASMITH_PEERS`` names a folder with a checkout ``sd-scripts`` and, in
``transformers4``, the libraries that it wants; see CONTRIBUTING.md.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from lorasmith.adapters.file import save_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.load import load_settings
from lorasmith.config.sections.data import CaptionSettings
from lorasmith.config.sections.loss import LossSettings
from lorasmith.config.sections.optimizer import ScheduleSettings
from lorasmith.data.buckets import place, plan_buckets
from lorasmith.data.captions import augment_caption
from lorasmith.diffusion.loss import Loss
from lorasmith.diffusion.schedule import (
    DDPMSchedule,
    scaled_linear_alphas_cumprod,
    zero_terminal_snr,
)
from lorasmith.diffusion.weights import Weights
from lorasmith.importers.convert import convert_source
from lorasmith.importers.detect import read_file
from lorasmith.models.load import load_model
from lorasmith.models.tokenizer import token_rows
from lorasmith.training.lr_schedules import LearningRate
from lorasmith.training.objective import MicroBatch, Objective
from lorasmith.training.setup.preflight import preflight
from tests.peers.sd_scripts import PEERS, ask

pytestmark = pytest.mark.skipif(
    not (PEERS / "sd-scripts").is_dir(), reason="LORASMITH_PEERS names no folder with sd-scripts"
)

BASE = Path(sys.modules["lorasmith"].__file__ or "").parent / "assets" / "demo_base.safetensors"
RANK, ALPHA = 4, 2.0

SCHEDULES: list[dict[str, Any]] = [
    {"name": name, "steps": steps, "warmup": warmup, **more}
    for steps in (100, 157)
    for warmup in (0, 10, 0.05)
    for name, more in (
        ("constant", {}), ("constant_with_warmup", {}), ("linear", {}), ("cosine", {}),
        ("cosine_with_restarts", {"cycles": 3}), ("polynomial", {"power": 2.0}),
        ("cosine_with_min_lr", {"min_ratio": 0.1}), ("inverse_sqrt", {}),
    )
    if not (warmup and name == "constant")
]  # fmt: skip

SIZES = [(512, 512), (1050, 1080), (513, 511), (4000, 300), (64, 64), (63, 900), (1920, 1080)]
SIZES += [(r.randint(300, 2000), r.randint(300, 2000)) for r in map(Random, range(120))]
GRIDS: list[dict[str, Any]] = [
    {"resolution": r, "min": low, "max": high, "step": step, "no_upscale": False, "sizes": SIZES}
    for r, low, high, step in (
        ((512, 512), 256, 1024, 64), ((768, 768), 256, 1024, 64), ((768, 512), 256, 1024, 64),
        ((1024, 1024), 512, 2048, 32), ((512, 512), 320, 960, 8),
    )
]  # fmt: skip

CAPTIONS = [
    "a, b, c", "zorp, closed eyes, open mouth", "one tag", "", "keep1, keep2 ||| x, y",
    "keep ||| x, y ||| tail", "{red|blue} hat, c", "a;b;c, d", "a;;;b, c", "  spaced  ,  out ",
]  # fmt: skip
RULES: list[dict[str, Any]] = [
    {}, {"shuffle": True}, {"shuffle": True, "keep_tokens": 1},
    {"shuffle": True, "keep_tokens_separator": "|||"}, {"tag_dropout": 0.5},
    {"tag_dropout": 0.5, "keep_tokens": 1}, {"dropout": 0.3}, {"wildcards": True},
    {"secondary_separator": ";;;", "shuffle": True}, {"prefix": "pre", "suffix": "suf"},
]  # fmt: skip
TRIES = 400

EPS_CASES = {
    "plain": "", "min-SNR": "--min_snr_gamma 5", "offset": "--noise_offset 0.1",
    "adaptive offset": "--noise_offset 0.1 --adaptive_noise_scale 0.05",
    "debiased": "--debiased_estimation_loss", "perturbed": "--ip_noise_gamma 0.1",
    "pyramid": "--multires_noise_iterations 6 --multires_noise_discount 0.3",
    "zero terminal SNR": "--zero_terminal_snr", "l1": "--loss_type l1",
    "like v": "--v_pred_like_loss 0.5",
    "huber": "--loss_type huber --huber_schedule snr --huber_c 0.2",
    "huber exponential": "--loss_type huber --huber_schedule exponential",
    "smooth l1": "--loss_type smooth_l1 --huber_schedule constant --huber_c 0.2 --huber_scale 0.5",
}  # fmt: skip
V_CASES = {
    "v": "", "v min-SNR": "--min_snr_gamma 5", "v debiased": "--debiased_estimation_loss",
    "v scaled": "--scale_v_pred_loss_like_noise_pred", "v zero terminal": "--zero_terminal_snr",
    "v zero terminal min-SNR": "--zero_terminal_snr --min_snr_gamma 5",
}  # fmt: skip
CASES = {name: text.split() for name, text in EPS_CASES.items()} | {
    name: ["--v_parameterization", *text.split()] for name, text in V_CASES.items()
}
# sd-scripts weighs by the SNR of the schedule as it was before it was changed.
OTHER_SNR = {"v zero terminal min-SNR"}

DATASETS = """
[general]
caption_extension = ".txt"
enable_bucket = true
min_bucket_reso = 32
bucket_reso_steps = 16
[[datasets]]
resolution = 64
batch_size = 2
  [[datasets.subsets]]
  image_dir = "{folder}/img"
  num_repeats = 3
  [[datasets.subsets]]
  image_dir = "{folder}/reg"
  is_reg = true
[[datasets]]
resolution = [96, 64]
batch_size = 4
bucket_no_upscale = true
  [[datasets.subsets]]
  image_dir = "{folder}/img"
  num_repeats = 5
"""
IMAGES = {"img": [(64, 64), (90, 60), (60, 90), (130, 64), (64, 64)], "reg": [(64, 64), (80, 64)]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sd-scripts")


@pytest.fixture(scope="module")
def network() -> AdapterNetwork:
    """A LoRA on the whole demo model, none of whose weights is zero."""
    model = load_model("demo", dtype=torch.float32)
    made = AdapterNetwork.create(model.adapter_roots(), rank=RANK, alpha=ALPHA)
    generator = torch.Generator().manual_seed(3)
    for group in made.parameter_groups():
        for parameter in group.parameters:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return made


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = [token_rows(caption, 75)[0] for caption in CAPTIONS[:4]]
    return {
        "latents": torch.randn(4, 4, 16, 16, generator=generator),
        "timesteps": torch.tensor([3, 250, 700, 999]),
        "weights": torch.tensor([1.0, 0.5, 1.0, 1.0]),
        "ids": torch.tensor(ids).unsqueeze(1),
    }


@pytest.fixture(scope="module")
def theirs(
    folder: Path, network: AdapterNetwork, inputs: dict[str, torch.Tensor]
) -> Mapping[str, list[Any]]:
    """sd-scripts' answers to all questions of this file, from one process of its own."""
    for name, sizes in IMAGES.items():
        (folder / name).mkdir()
        for number, size in enumerate(sizes):
            Image.new("RGB", size, (40 * number, 90, 200)).save(folder / name / f"{number}.png")
            (folder / name / f"{number}.txt").write_text(f"zorp, {number}")
    (folder / "datasets.toml").write_text(DATASETS.format(folder=folder.as_posix()))
    save_lora(folder / "lora.safetensors", network.state_dict(torch.float32), {})
    torch.save(inputs, folder / "inputs.pt")
    questions = {
        "learning_rates": SCHEDULES,
        "buckets": GRIDS,
        "captions": [
            {"rules": rules, "caption": caption, "tries": TRIES}
            for rules in RULES
            for caption in CAPTIONS
        ],
        "dataset_batches": [{"file": str(folder / "datasets.toml")}],
        "losses": [
            {
                "base": str(BASE), "rank": RANK, "alpha": ALPHA, "captions": CAPTIONS[:4],
                "lora": str(folder / "lora.safetensors"), "inputs": str(folder / "inputs.pt"),
                "cases": CASES,
            }
        ],
    }  # fmt: skip
    return ask(folder, questions)


def test_schedules(theirs: Mapping[str, list[Any]]) -> None:
    """Equal after the warm-up, whose first step is 0 there and 1/n here."""
    for asked, rates in zip(SCHEDULES, theirs["learning_rates"], strict=True):
        steps = asked["steps"]
        warmup = asked["warmup"] if asked["warmup"] >= 1 else int(asked["warmup"] * steps)
        name = "cosine" if "min_ratio" in asked else asked["name"]
        schedule = ScheduleSettings(
            name=name, warmup=warmup, cycles=asked.get("cycles", 1), power=asked.get("power", 1.0),
            min_ratio=asked.get("min_ratio", 0.0),
        )  # fmt: skip
        own = LearningRate(schedule, steps)
        # transformers ends a polynomial at 1e-7 of the optimizer's own rate, which is 1 here.
        allowed = 2e-7 if name == "polynomial" else 1e-12
        for step in range(warmup, steps):
            assert own.factor(step) == pytest.approx(rates[step], abs=allowed), (asked, step)
        for step in range(warmup - 1):
            assert own.factor(step) == pytest.approx(rates[step + 1], abs=1e-12), (asked, step)


def test_buckets(theirs: Mapping[str, list[Any]]) -> None:
    for asked, rows in zip(GRIDS, theirs["buckets"], strict=True):
        own = plan_buckets(
            *asked["resolution"], min=asked["min"], max=asked["max"], step=asked["step"]
        )
        for (width, height), (bucket, resized) in zip(SIZES, rows, strict=True):
            placement = place(width, height, own)
            assert placement.bucket == tuple(bucket), (asked["resolution"], width, height)
            # The side that is cropped is rounded in floating point there.
            assert placement.resized == pytest.approx(resized, abs=1)


def test_captions(theirs: Mapping[str, list[Any]]) -> None:
    """The same captions are possible; a rare one may be missed by chance.

    Around an empty caption two spaces stand there and one here: the same tokens.
    """
    answers = iter(theirs["captions"])
    for rules in RULES:
        for caption in CAPTIONS:
            counts = {text.replace("  ", " "): count for text, count in next(answers).items()}
            rng, own = Random(3), {}
            for _ in range(TRIES):
                text = augment_caption(caption, CaptionSettings(**rules), rng=rng).replace(
                    "  ", " "
                )
                own[text] = own.get(text, 0) + 1
            for text in set(own) ^ set(counts):
                assert max(own.get(text, 0), counts.get(text, 0)) <= 6, (rules, caption, text)
            for text in set(own) & set(counts):
                assert abs(own[text] - counts[text]) < 0.15 * TRIES, (rules, caption, text)


def test_batches_of_several_datasets(theirs: Mapping[str, list[Any]], folder: Path) -> None:
    result = convert_source(read_file(folder / "datasets.toml"))
    settings = load_settings(None, result.overrides(), for_training=True)
    dataset = preflight(settings).dataset
    batches: list[dict[str, int]] = [{} for _ in dataset.groups]
    for bucket in dataset.buckets:
        width, height = bucket.size
        count = dataset.batch_count(bucket, settings.train.batch)
        batches[bucket.group][f"{width}x{height}"] = count
    (answers,) = theirs["dataset_batches"]
    assert batches == [answer["batches"] for answer in answers]
    repeats: list[dict[str, int]] = [{} for _ in dataset.groups]
    for item in dataset.items:
        repeats[item.group][str(item.image.path)] = item.repeats
    assert repeats == [answer["repeats"] for answer in answers]


class _Given:
    """Draws what sd-scripts drew."""

    def __init__(self, answer: Mapping[str, Any], inputs: Mapping[str, torch.Tensor]) -> None:
        self.answer, self.inputs = answer, inputs

    def draw(self, *_: object) -> torch.Tensor:
        return self.answer["noise"]

    def perturb(self, noise: torch.Tensor, *_: object) -> torch.Tensor:
        more = self.answer["perturbation"]
        return noise if more is None or not self.perturbs else noise + 0.1 * more

    perturbs = False


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient(
    name: str,
    theirs: Mapping[str, list[Any]],
    network: AdapterNetwork,
    inputs: dict[str, torch.Tensor],
) -> None:
    options = CASES[name]

    def value(option: str, default: float) -> float:
        return float(options[options.index(option) + 1]) if option in options else default

    def text(option: str, default: str) -> str:
        return options[options.index(option) + 1] if option in options else default

    answer = theirs["losses"][0][name]
    model = load_model("demo", dtype=torch.float32)
    own = AdapterNetwork.load(network.state_dict(torch.float32), model.adapter_roots())
    noise = _Given(answer, inputs)
    noise.perturbs = "--ip_noise_gamma" in options
    alphas = scaled_linear_alphas_cumprod()
    schedule = DDPMSchedule(
        "v" if "--v_parameterization" in options else "epsilon",
        alphas_cumprod=zero_terminal_snr(alphas) if "--zero_terminal_snr" in options else alphas,
    )
    settings = LossSettings(
        min_snr_gamma=value("--min_snr_gamma", 0.0) or None,
        debiased="--debiased_estimation_loss" in options,
        scale_v_like_noise="--scale_v_pred_loss_like_noise_pred" in options,
        v_like=value("--v_pred_like_loss", 0.0),
        type=text("--loss_type", "l2"),  # type: ignore[arg-type]
        huber_c=value("--huber_c", 0.1),
        huber_schedule=text("--huber_schedule", "snr"),  # type: ignore[arg-type]
        huber_scale=value("--huber_scale", 1.0),
    )
    objective = Objective(
        schedule,
        0,
        noise,  # type: ignore[arg-type]
        SimpleNamespace(draw=lambda *_: inputs["timesteps"]),  # type: ignore[arg-type]
        Weights(settings),
        Loss(settings),
    )
    latents = inputs["latents"] * 0.18215
    batch = MicroBatch(
        latents,
        torch.zeros_like(latents),
        lambda: model.encode_text(CAPTIONS[:4]),
        inputs["weights"],
        list(range(4)),
    )
    parameters = [p for group in own.parameter_groups() for p in group.parameters]
    with own.attached():
        for parameter in parameters:
            parameter.requires_grad_(True)
        loss = objective.loss_sum(model, batch, 0) / 4
        loss.backward()
    gradient = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
    if name in OTHER_SNR:
        assert abs(loss.item() / answer["loss"] - 1) > 0.01
        return
    # Single precision through a whole UNet: some hundred operations one after the other.
    assert loss.item() == pytest.approx(answer["loss"], rel=1e-4)
    assert gradient.item() == pytest.approx(answer["gradient"], rel=1e-3)
