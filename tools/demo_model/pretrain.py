"""Pretrains a small base model on a CPU: the autoencoder, then the UNet and the text encoder.

    python -m tools.demo_model.pretrain vae --minutes 21 --work DIR --threads 2
    python -m tools.demo_model.pretrain unet --minutes 68 --work DIR --threads 1
    python -m tools.demo_model.pretrain export --work DIR

makes the demo base; with `--world heads`, which needs Node, a narrower one on drawn heads, which is
written to the work folder. A run that was stopped goes on from its last checkpoint when it is
started again with the same work folder; `--minutes` counts the time of all its parts together.
`export` may be used at any time after the first checkpoint of the UNet.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from tools.demo_model.pretrain_loop import Budget
from tools.demo_model.pretrain_unet import BATCH, averaged_models, train_unet, write_tokenizer
from tools.demo_model.pretrain_vae import train_vae
from tools.demo_model.worlds import WORLDS, World
from tools.demo_model.write_defaults import defaults_entry

from lorasmith.core.files import ASSETS
from lorasmith.demo.world_parts import SIZE
from lorasmith.models.export import save_ldm
from lorasmith.models.open import DEFAULTS_KEY

DEMO_BASE = ASSETS / "demo_base.safetensors"
HEADS_BASE = "heads_base.safetensors"  # in the work folder
TITLES = {
    "creatures": ("lorasmith demo base", "Draws little creatures, 64x64 pixels, from tags."),
    "heads": ("lorasmith heads base", "Draws heads of large pixels, 64x64 pixels, from tags."),
}


def export(work: Path, name: str, path: Path) -> None:
    """Write the last checkpoint's averaged weights, fp16: as diffusers folders in the work folder's
    `snapshot`, and in one file.

    Args:
        work: holds the trained autoencoder and the checkpoint of the UNet.
        name: of the world.
        path: gets all parts in one LDM-format file.
    """
    world, folder = WORLDS[name](work), work / "snapshot"
    unet, text_encoder = averaged_models(work, world)
    vae = AutoencoderKL.from_pretrained(work / "vae")
    parts = {"unet": unet, "text_encoder": text_encoder, "vae": vae}
    part_folder = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part_folder, ignore_errors=True)
    for part, model in parts.items():
        model.half().save_pretrained(part_folder / part)
    write_tokenizer(part_folder / "tokenizer")
    shutil.rmtree(folder, ignore_errors=True)
    part_folder.rename(folder)
    title, description = TITLES[name]
    save_ldm(
        path,
        unet=unet,
        vae=vae,
        text_encoders={"text_encoder": text_encoder},
        metadata={
            DEFAULTS_KEY: defaults_entry() if name == "creatures" else defaults_for(world),
            "modelspec.title": title,
            "modelspec.description": description,
        },
        native_resolution=SIZE,
    )


def defaults_for(world: World) -> str:
    """The demo base's settings, of which only the prompts that are kept are the world's own: what
    can be said of a base that nothing was tuned on."""
    values = json.loads(defaults_entry())
    values["preservation.prompts"] = world.prompts(len(values["preservation.prompts"]))
    return json.dumps(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("vae", "unet", "export"))
    parser.add_argument("--world", choices=tuple(WORLDS), default="creatures")
    parser.add_argument("--minutes", type=float, default=20.0, help="training time in all")
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints and caches")
    parser.add_argument("--batch", type=int, default=BATCH, help="of the UNet's training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args.work.mkdir(parents=True, exist_ok=True)
    budget = Budget(minutes=args.minutes, seed=args.seed, threads=args.threads)
    if args.part == "vae":
        train_vae(args.work, WORLDS[args.world](args.work), budget)
    elif args.part == "unet":
        train_unet(args.work, WORLDS[args.world](args.work), budget, args.batch)
    else:
        path = DEMO_BASE if args.world == "creatures" else args.work / HEADS_BASE
        export(args.work, args.world, path)


if __name__ == "__main__":
    main()
