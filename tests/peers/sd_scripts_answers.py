"""Run inside a checkout of sd-scripts: what it answers to the questions in a JSON file.

    PYTHONPATH=sd-scripts:transformers4 python sd_scripts_answers.py QUESTIONS.json ANSWERS.pt

Its code is imported as it is; only its constants of the UNet's, VAE's and text encoder's sizes are
overwritten, so that it opens the demo base. torchvision, which its image transforms come from, is
stood in for by names: no image is read here.
"""

from __future__ import annotations

import json
import random
import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import torch
from stand_ins import stand_in

stand_in(*(name for name in ("torchvision", "cv2") if find_spec(name) is None))


def learning_rates(question: dict[str, Any]) -> list[float] | str:
    """The rate of every step of a schedule, or what its library says against it."""
    from library import train_util

    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    args = SimpleNamespace(
        lr_scheduler=question["name"],
        max_train_steps=question["steps"],
        lr_warmup_steps=question["warmup"],
        lr_decay_steps=0,
        lr_scheduler_num_cycles=question.get("cycles", 1),
        lr_scheduler_power=question.get("power", 1),
        lr_scheduler_timescale=None,
        lr_scheduler_min_lr_ratio=question.get("min_ratio"),
        lr_scheduler_args=None,
        lr_scheduler_type="",
        optimizer_type="SGD",
        optimizer_schedulefree_wrapper=False,
    )
    scheduler = train_util.get_scheduler_fix(args, optimizer, 1)
    rates = []
    for _ in range(question["steps"]):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def buckets(question: dict[str, Any]) -> list[list[list[int]]]:
    """[bucket, resized] of each image size."""
    from library import train_util

    manager = train_util.BucketManager(
        question["no_upscale"],
        tuple(question["resolution"]),
        question["min"],
        question["max"],
        question["step"],
    )
    if not question["no_upscale"]:
        manager.make_buckets()
    answers = []
    for width, height in question["sizes"]:
        bucket, resized, _ = manager.select_bucket(width, height)
        answers.append([list(map(int, bucket)), list(map(int, resized))])
    return answers


def captions(question: dict[str, Any]) -> dict[str, int]:
    """How often each caption comes out of one, in ``tries`` draws."""
    from library import train_util

    rules = question["rules"]
    subset = SimpleNamespace(
        caption_prefix=rules.get("prefix"),
        caption_suffix=rules.get("suffix"),
        caption_dropout_rate=rules.get("dropout", 0.0),
        caption_dropout_every_n_epochs=0,
        enable_wildcard=rules.get("wildcards", False),
        shuffle_caption=rules.get("shuffle", False),
        token_warmup_step=0,
        token_warmup_min=1,
        caption_tag_dropout_rate=rules.get("tag_dropout", 0.0),
        keep_tokens_separator=rules.get("keep_tokens_separator"),
        caption_separator=rules.get("separator", ","),
        keep_tokens=rules.get("keep_tokens", 0),
        secondary_separator=rules.get("secondary_separator"),
    )
    dataset = SimpleNamespace(current_epoch=1, current_step=0, max_train_steps=100, replacements={})
    random.seed(3)
    counts: dict[str, int] = {}
    for _ in range(question["tries"]):
        text = train_util.BaseDataset.process_caption(dataset, subset, question["caption"])
        counts[text] = counts.get(text, 0) + 1
    return counts


def dataset_batches(question: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each ``[[datasets]]`` of a file: repeats of its images, and batches by bucket."""
    import toml
    from library import config_util

    args = SimpleNamespace(masked_loss=False, debug_dataset=False, train_batch_size=1)
    args.max_train_steps, args.prior_loss_weight = 100, 1.0
    sanitizer = config_util.ConfigSanitizer(True, True, False, True)
    blueprint = config_util.BlueprintGenerator(sanitizer).generate(
        toml.load(question["file"]), args
    )
    made = config_util.generate_dataset_group_by_blueprint(blueprint.dataset_group)
    group = made[0] if isinstance(made, tuple) else made
    answers = []
    for dataset in group.datasets:
        sizes: dict[str, int] = {}
        for index in dataset.buckets_indices:
            size = "x".join(map(str, dataset.bucket_manager.resos[index.bucket_index]))
            sizes[size] = sizes.get(size, 0) + 1
        repeats = {info.absolute_path: info.num_repeats for info in dataset.image_data.values()}
        answers.append({"repeats": repeats, "batches": sizes})
    return answers


def folder_images(question: dict[str, Any]) -> dict[str, Any]:
    """Of a folder of ``N_name`` folders: repeats, caption and size of each image by its name, and
    which image of the folder ``masks`` each of ``masked`` is trained with."""
    from library import config_util, train_util

    args = SimpleNamespace(masked_loss=False, debug_dataset=False, train_batch_size=1)
    args.max_train_steps, args.prior_loss_weight = 100, 1.0
    general = {"resolution": 64, "caption_extension": ".txt", "enable_bucket": True,
               "min_bucket_reso": 32, "bucket_reso_steps": 16}  # fmt: skip
    subsets = config_util.generate_dreambooth_subsets_config_by_subdirs(question["folder"])
    paired = [{"image_dir": question["masked"], "conditioning_data_dir": question["masks"],
               "caption_extension": ".txt"}]  # fmt: skip
    groups = []
    for controlnet, chosen in ((False, subsets), (True, paired)):
        sanitizer = config_util.ConfigSanitizer(not controlnet, False, controlnet, True)
        generator = config_util.BlueprintGenerator(sanitizer)
        blueprint = generator.generate(
            {"general": general, "datasets": [{"subsets": chosen}]}, args
        )
        made = config_util.generate_dataset_group_by_blueprint(blueprint.dataset_group)
        groups.append(made[0] if isinstance(made, tuple) else made)
    plain, masked = (group.datasets[0] for group in groups)
    images = {
        info.absolute_path: [info.num_repeats, info.caption, list(info.image_size)]
        for info in plain.image_data.values()
    }
    pairs = {info.absolute_path: info.cond_img_path for info in masked.image_data.values()}
    alphas = {
        path: train_util.load_image(path, True)[:, :, 3].tolist() for path in question["alpha"]
    }
    return {"images": images, "masks": pairs, "alpha": alphas}


def arguments(question: list[str]) -> dict[str, Any] | None:
    """What ``train_network.py`` reads of a command line; None where it stops."""
    import train_network

    try:
        return vars(train_network.setup_parser().parse_args(question))
    except SystemExit:
        return None


def dataset_settings(question: dict[str, Any]) -> list[dict[str, Any]]:
    """What a data-set file and a command line say of each subset and its data set."""
    import toml
    import train_network
    from library import config_util, train_util

    args = train_network.setup_parser().parse_args(question["arguments"])
    train_util.prepare_dataset_args(args, True)
    sanitizer = config_util.ConfigSanitizer(True, True, False, True)
    table = toml.loads(question["text"])
    blueprint = config_util.BlueprintGenerator(sanitizer).generate(table, args)
    return [
        {**vars(subset.params), **vars(dataset.params)}
        for dataset in blueprint.dataset_group.datasets
        for subset in dataset.subsets
    ]


def _shrink() -> None:
    """The sizes of the demo base in place of Stable Diffusion 1's."""
    import library.model_util as m
    import library.original_unet as u

    u.BLOCK_OUT_CHANNELS = (48, 64, 96)
    u.TIMESTEP_INPUT_DIM, u.TIME_EMBED_DIM = 48, 192
    u.LAYERS_PER_BLOCK, u.LAYERS_PER_BLOCK_UP = 1, 2
    u.NORM_GROUPS = u.TRANSFORMER_NORM_NUM_GROUPS = 8
    u.DOWN_BLOCK_TYPES = ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"]
    u.UP_BLOCK_TYPES = ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]
    m.UNET_PARAMS_MODEL_CHANNELS, m.UNET_PARAMS_CHANNEL_MULT = 16, [3, 4, 6]
    m.UNET_PARAMS_ATTENTION_RESOLUTIONS, m.UNET_PARAMS_IMAGE_SIZE = [1, 2], 16
    m.UNET_PARAMS_NUM_RES_BLOCKS, m.UNET_PARAMS_CONTEXT_DIM, m.UNET_PARAMS_NUM_HEADS = 1, 64, 2
    m.VAE_PARAMS_RESOLUTION, m.VAE_PARAMS_CH, m.VAE_PARAMS_CH_MULT = 64, 32, [1, 2, 3]
    m.VAE_PARAMS_NUM_RES_BLOCKS = 1
    config, vae = m.CLIPTextConfig, m.AutoencoderKL

    def text_config(**values: Any) -> Any:
        values.update(hidden_size=64, intermediate_size=256, num_hidden_layers=2)
        values.update(num_attention_heads=4, projection_dim=64)
        return config(**values)

    m.CLIPTextConfig = text_config
    m.AutoencoderKL = lambda **values: vae(norm_num_groups=8, **values)


class _Draws:
    """What sd-scripts draws at random in a step, its timesteps replaced by given ones."""

    def __init__(self, timesteps: torch.Tensor) -> None:
        self.timesteps = timesteps
        self.values: dict[str, Any] = {}

    def __enter__(self) -> _Draws:
        import library.train_util as train_util

        self._module, self._original = train_util, train_util.get_noise_noisy_latents_and_timesteps
        self._torch = torch.randn_like, torch.randint

        def recorded(args: Any, scheduler: Any, latents: torch.Tensor) -> Any:
            plain: list[torch.Tensor] = []
            randn_like, randint = self._torch

            def recording(*a: Any, **k: Any) -> torch.Tensor:
                plain.append(randn_like(*a, **k))
                return plain[-1].clone()

            torch.randn_like = recording
            torch.randint = lambda *a, **k: self.timesteps.clone()
            try:
                noise, noisy, timesteps = self._original(args, scheduler, latents)
            finally:
                torch.randn_like, torch.randint = randn_like, randint
            self.values = {
                "noise": noise.clone(),
                "perturbation": plain[1] if len(plain) > 1 else None,
                "noisy": noisy.detach().clone(),
            }
            return noise, noisy, timesteps

        train_util.get_noise_noisy_latents_and_timesteps = recorded
        return self

    def __exit__(self, *error: object) -> None:
        self._module.get_noise_noisy_latents_and_timesteps = self._original


def losses(question: dict[str, Any]) -> dict[str, Any]:
    """Loss and norm of the gradient of one step of ``NetworkTrainer``, for each list of options."""
    import train_network
    from accelerate import Accelerator
    from library import model_util, strategy_sd
    from networks import lora

    _shrink()
    loaded = model_util.load_models_from_stable_diffusion_checkpoint(False, question["base"], "cpu")
    text_encoder, vae, unet = loaded
    for module in loaded:
        module.eval().requires_grad_(False)
    unet.set_use_sdpa(True)
    network = lora.create_network(1.0, question["rank"], question["alpha"], vae, text_encoder, unet)
    network.apply_to(text_encoder, unet, True, True)
    network.load_weights(question["lora"])
    network.requires_grad_(True)
    inputs = torch.load(question["inputs"])
    answers: dict[str, Any] = {}
    tokenizer = SimpleNamespace(max_length=77, tokenizer=SimpleNamespace(model_max_length=77))
    for name, options in question["cases"].items():
        args = train_network.setup_parser().parse_args(
            ["--pretrained_model_name_or_path", question["base"], *options]
        )
        trainer = train_network.NetworkTrainer()
        batch = {
            "latents": inputs["latents"],
            "input_ids_list": [inputs["ids"]],
            "captions": question["captions"],
            "loss_weights": inputs["weights"],
        }
        torch.manual_seed(7)
        random.seed(7)
        network.zero_grad()
        with _Draws(inputs["timesteps"]) as draws:
            loss = trainer.process_batch(
                batch, [text_encoder], unet, network, vae,
                trainer.get_noise_scheduler(args, "cpu"), torch.float32, torch.float32,
                Accelerator(cpu=True), args, strategy_sd.SdTextEncodingStrategy(None), tokenizer,
            )  # fmt: skip
        loss.backward()
        norms = [p.grad.norm() for p in network.parameters() if p.grad is not None]
        answers[name] = {
            "loss": loss.item(), "gradient": torch.stack(norms).norm().item(), **draws.values
        }  # fmt: skip
    return answers


def main(questions: str, answers: str) -> None:
    with open(questions, encoding="utf-8") as file:
        asked = json.load(file)
    kinds = {
        "learning_rates": learning_rates, "buckets": buckets, "captions": captions,
        "dataset_batches": dataset_batches, "losses": losses, "arguments": arguments,
        "dataset_settings": dataset_settings, "folder_images": folder_images,
    }  # fmt: skip
    torch.save({kind: [kinds[kind](each) for each in asked[kind]] for kind in asked}, answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
