"""Does `lorasmith diagnose` name what was made wrong on purpose, and does its advice help?

    python -m benchmarks.diagnose --work DIR --split choose|report [--only NAME …] [--follow]

Trains the demo's character once rightly and twelve times with one mistake, diagnoses each run, and
prints which cause was named first. ``--follow`` does what the first named cause says (its
settings, its command) and trains again; the demo world's classifier, which `diagnose` never sees,
reads the drawings before and after.

Weights and thresholds may be changed by the runs of ``--split choose``; those of ``report`` have
other pictures, seeds and things that are worn. Finished parts are kept in DIR, so that a run that
was stopped goes on. With ``--page`` all that is finished is written to benchmarks/diagnose.md.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.advice.diagnose.diagnose import judged, measured
from lorasmith.advice.diagnose.facts import facts_of
from lorasmith.advice.diagnose.measuring import CAUSAL
from lorasmith.advice.diagnose.subject import open_subject
from lorasmith.advice.diagnose.workbench import Workbench
from lorasmith.config.dump import toml_value
from lorasmith.config.fields import NONE
from lorasmith.config.load import load_settings
from lorasmith.core.errors import RunError
from lorasmith.core.files import write_json, write_text
from lorasmith.demo.character import (
    TRIGGER,
    VARYING,
    draw_zorp,
    plain_prompts,
    trigger_prompts,
    varied_zorps,
    zorp_caption,
)
from lorasmith.demo.judge import character_rate, leak_rate, read, tag_accuracy
from lorasmith.demo.world import VALUES, Creature
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.load import load_model
from lorasmith.models.open import DEMO, open_checkpoint
from lorasmith.sampling.generate import generate
from lorasmith.sampling.request import ImageRequest
from lorasmith.training.run import train
from lorasmith.training.setup.base_defaults import suit
from lorasmith.training.setup.length import updates_for

HERE = Path(__file__).parent
IMAGES, REPEATS = 12, 25
COUNT, STEPS, CFG = 32, 16, 3.0
KEPT = ("shape", "colour", "hat")
# What the demo's tagger would say of every picture of the character: no word that varies.
CONSTANT = (
    *("zorp", "two-tone body", "antennae", "wings", "scarf", "doodles", "purple body"),
    *("round body", "no hat", "no ears", "spots", "light belly"),
)
BETTER = 0.02
"""From so much more of the mean figure on, following the advice has helped."""

Captions = Callable[[Creature, int], str]


@dataclass(frozen=True)
class Split:
    """Pictures and seeds of one half.

    Args:
        worn: what all pictures of the case with the accessory show.
    """

    name: str
    data_seed: int
    train_seed: int
    worn: str


SPLITS = {
    "choose": Split("choose", 101, 31, "crown"),
    "report": Split("report", 202, 62, "beanie"),
}


@dataclass(frozen=True)
class Mistake:
    """
    Args:
        cause: the id that is to be named first; "" for a run with nothing wrong.
        settings: on top of the preset ``demo``.
        caption: of a creature and its number; the right one where it is ``None``.
        worn: all pictures show the split's accessory.
        copies: how many more files show the first picture.
        base: trained on a base whose weights are others.
        stops: what a run says of the cause that ends by itself, before there is a LoRA to diagnose.
    """

    cause: str
    settings: Mapping[str, str] = field(default_factory=dict)
    caption: Captions | None = None
    worn: bool = False
    copies: int = 0
    base: bool = False
    stops: str = ""


def contradictory(creature: Creature, number: int) -> str:
    """Three captions of four have a second answer that the first excludes."""
    caption = zorp_caption(creature)
    if number % 4 == 3:
        return caption
    mouth = {"smile": "frown", "frown": "smile"}.get(creature.mouth, "smile, frown")
    eyes = {"open eyes": "closed eyes", "closed eyes": "open eyes"}
    return f"{caption}, {mouth}, {eyes.get(creature.eyes, 'open eyes, closed eyes')}"


# As the demo model says of itself.
USUAL = suit(load_settings(None, ["model.path=demo"]), open_checkpoint(DEMO)).settings
RATE = USUAL.optimizer.lr
LENGTH, _ = updates_for([IMAGES], USUAL.train.batch, USUAL.train)

MISTAKES: dict[str, Mistake] = {
    "right": Mistake(""),
    "rate-8x": Mistake(
        "rate-high", {"optimizer.lr": f"{8 * RATE}"}, stops="a lower learning rate (optimizer.lr)"
    ),
    "rate-8th": Mistake("rate-low", {"optimizer.lr": f"{RATE / 8}"}),
    "text-encoder-10x": Mistake(
        "text-encoder-rate-high",
        {"optimizer.unet_lr": f"{RATE}", "optimizer.text_encoder_lr": f"{10 * RATE}"},
    ),
    "three-times-too-long": Mistake("too-long", {"train.steps": f"{3 * LENGTH:.0f}"}),
    "tags-missing": Mistake("tags-missing", caption=lambda creature, number: TRIGGER),
    "accessory-untagged": Mistake("untagged-accessory", worn=True),
    "one-image-repeated": Mistake("repeated-image", copies=11),
    "wrong-clip-skip": Mistake("clip-skip", {"model.clip_skip": "2"}),
    "alpha-2x-rank": Mistake("alpha-high", {"adapter.rank": "16", "adapter.alpha": "32"}),
    "wrong-base": Mistake("other-base", base=True),
    "contradicting-tags": Mistake("contradicting-tags", caption=contradictory),
    "no-trigger": Mistake(
        "no-trigger",
        {"captions.trigger": "none"},
        caption=lambda creature, number: zorp_caption(creature).partition(", ")[2],
    ),
}


def write_pictures(folder: Path, split: Split, mistake: Mistake) -> Path:
    """The folder of training pictures, with what is wrong with them."""
    place = folder / "img" / f"{REPEATS}_{TRIGGER}"
    if place.exists():
        shutil.rmtree(folder)
    place.mkdir(parents=True)
    rng = Random(f"diagnose {split.data_seed}")
    for number, creature in enumerate(varied_zorps(IMAGES, rng)):
        if mistake.worn:
            creature = replace(creature, hat=split.worn)
        caption = (mistake.caption or (lambda one, _: zorp_caption(one)))(creature, number)
        image = Image.fromarray(draw_zorp(creature, rng))
        files = [f"zorp_{number:03d}"]
        if number == 0:
            files += [f"zorp_copy_{copy:02d}" for copy in range(mistake.copies)]
        for name in files:
            image.save(place / f"{name}.png")
            write_text(place / f"{name}.txt", caption + "\n")
    return folder


def write_other_base(path: Path) -> None:
    """The demo model with the channels of every attention in another order: it draws the same to
    the last bit but for rounding, and differences from its weights fit no other model."""
    tensors = load_file(DEMO)
    generator = torch.Generator().manual_seed(7)
    heads = 2
    for name in [key for key in tensors if key.endswith(".to_q.weight")]:
        stem = name.removesuffix("to_q.weight")
        width = tensors[name].shape[0] // heads
        orders = [
            head * width + torch.randperm(width, generator=generator) for head in range(heads)
        ]
        inner = torch.cat(orders)
        values = torch.cat(
            [head * width + torch.randperm(width, generator=generator) for head in range(heads)]
        )
        for key in ("to_q.weight", "to_k.weight"):
            tensors[stem + key] = tensors[stem + key][inner].contiguous()
        tensors[stem + "to_v.weight"] = tensors[stem + "to_v.weight"][values].contiguous()
        out = stem + "to_out.0.weight"
        tensors[out] = tensors[out][:, values].contiguous()
    with safe_open(DEMO, "pt") as file:
        metadata = file.metadata()
    save_file(tensors, path, metadata)


def train_run(name: str, data: Path, settings: Mapping[str, str], split: Split, work: Path) -> Path:
    run = work / "runs" / name
    if (run / f"{name}.safetensors").exists():
        return run
    chosen = {
        "data.path": str(data),
        "save.output": str(run.parent),
        "save.name": name,
        "save.every_epochs": "0",
        "sample.every_epochs": "0",
        "sample.at_start": "false",
        "log.tensorboard": "false",
        "train.seed": str(split.train_seed),
        **settings,
    }
    return train(load_settings(None, chosen, "demo"))


def judge_run(run: Path) -> dict[str, float]:
    """Shares, 0 to 1, of drawings by the demo model with the run's LoRA."""
    model = load_model("demo")
    tensors = load_lora(run / f"{run.name}.safetensors").tensors
    with AdapterNetwork.load(tensors, model.adapter_roots()).attached():
        return figures(model)


def figures(model: DiffusionModel) -> dict[str, float]:
    """What the classifier reads: all parts of the character with the trigger; what was asked for
    beside it; no hat, which nobody asked for; without the trigger no part of it, and all as
    asked."""
    prompts, plain = trigger_prompts(COUNT, seed=11), plain_prompts(COUNT, seed=12)
    with_trigger = read(draw(model, [one.text for one in prompts], 1000))
    without = read(draw(model, [one.text for one in plain], 2000))
    asked = tag_accuracy(with_trigger, [one.creature for one in prompts], VARYING)
    kept = tag_accuracy(without, [one.creature for one in plain], KEPT)
    shares = {
        "character": character_rate(with_trigger),
        "asked": sum(asked[name] for name in VARYING) / len(VARYING),
        "nothing worn": sum(one["hat"] == VALUES["hat"][0] for one in with_trigger) / COUNT,
        "no leak": 1 - leak_rate(without),
        "kept": kept["all"],
    }
    return {**shares, "mean": sum(shares.values()) / len(shares)}


def draw(model: DiffusionModel, prompts: Sequence[str], seed: int) -> list[np.ndarray]:
    requests = [
        ImageRequest(prompt=prompt, seed=seed + number, steps=STEPS, cfg=CFG, sampler="ddim")
        for number, prompt in enumerate(prompts)
    ]
    found = sorted(generate(model, requests), key=lambda image: image.index)
    return [np.asarray(image.image) for image in found]


def followed(
    name: str, first: Mapping[str, Any], data: Path, mistake: Mistake, split: Split, work: Path
) -> Path:
    """The run that does what the cause says."""
    mended = work / "data" / f"{name}-mended"
    if mended.exists():
        shutil.rmtree(mended)
    shutil.copytree(data, mended)
    for command in commands_of(first, data, mended):
        subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL)
    settings = dict(mistake.settings)
    if mistake.base:
        settings["model.path"] = str(work / "other-base.safetensors")
    for path, value in first["changes"].items():
        settings[path] = toml_value(NONE if value is None else value)
    return train_run(f"{name}-mended", mended, settings, split, work)


def commands_of(first: Mapping[str, Any], data: Path, mended: Path) -> list[list[str]]:
    """The commands that it names, for the copy of the pictures."""
    commands = [line for line in first["command"].splitlines() if line]
    words = [shlex.split(line.replace(str(data), str(mended))) for line in commands]
    words = [each for each in words if each[2] != "audit"]  # It only shows what there is.
    for each in words:
        if each[:3] == ["lorasmith", "dataset", "tag"]:
            # The tagger for this world; what never varies is the trigger's.
            each += ["--tagger", "demo", "--exclude", ",".join(CONSTANT)]
        each.append("--yes")
    return words


def measure(name: str, split: Split, work: Path, *, follow: bool) -> dict[str, Any]:
    mistake = MISTAKES[name]
    work = work / split.name
    target = work / "results" / f"{name}.json"
    result = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    data = work / "data" / name
    run = work / "runs" / name / f"{name}.safetensors"
    if not run.exists():
        write_pictures(data, split, mistake)
    settings = dict(mistake.settings)
    if mistake.base:
        base = work / "other-base.safetensors"
        if not base.exists():
            write_other_base(base)
        settings["model.path"] = str(base)
    try:
        folder = train_run(name, data, settings, split, work)
    except RunError as error:
        result |= {"stopped": str(error), "causes": []}
        write_json(target, result)
        return result
    subject = open_subject(folder, "demo")
    taken, _ = measured(Workbench(subject), only=CAUSAL)
    found = judged(subject, facts_of(subject), taken).to_json()
    result |= {"causes": found["causes"], "state": found["state"], "diagnosis": found}
    if "before" not in result:
        result["before"] = judge_run(folder)
    write_json(target, result)
    if follow and mistake.cause and found["causes"]:
        first = found["causes"][0]
        advice = {key: first[key] for key in ("id", "changes", "command")}
        # JSON makes lists of tuples.
        if result.get("advice") != json.loads(json.dumps(advice)):
            shutil.rmtree(work / "runs" / f"{name}-mended", ignore_errors=True)
        mended = followed(name, first, data, mistake, split, work)
        result |= {"followed": first["id"], "advice": advice, "after": judge_run(mended)}
        write_json(target, result)
    return result


def is_named(name: str, row: Mapping[str, Any]) -> bool:
    """Whether the mistake is what was named first, by the run itself where that stopped."""
    mistake = MISTAKES[name]
    if "stopped" in row:
        return bool(mistake.stops) and mistake.stops in row["stopped"]
    return bool(row["causes"]) and row["causes"][0]["id"] == mistake.cause


def line(name: str, result: Mapping[str, Any]) -> str:
    if "stopped" in result:
        return f"{name}: {'right' if is_named(name, result) else 'WRONG'}, {result['stopped']}"
    expected = MISTAKES[name].cause or "nothing"
    causes = [f"{one['id']} {one['likelihood']:.2f}" for one in result["causes"]]
    first = result["causes"][0]["id"] if result["causes"] else "nothing"
    text = f"{name}: {'right' if first == expected else 'WRONG'}, named {', '.join(causes) or '-'}"
    if "after" in result:
        text += f"; judge's mean {result['before']['mean']:.2f} -> {result['after']['mean']:.2f}"
    return text


def results(split: Split, work: Path) -> dict[str, dict[str, Any]]:
    """What is finished."""
    found = {}
    for name in MISTAKES:
        target = work / split.name / "results" / f"{name}.json"
        if target.exists():
            found[name] = json.loads(target.read_text(encoding="utf-8"))
    return found


def score(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """In words: how many were named, how many helped."""
    wrong = {name: row for name, row in rows.items() if MISTAKES[name].cause}
    named = sum(is_named(name, row) for name, row in wrong.items())
    after = [row for row in wrong.values() if "after" in row]
    helped = sum(row["after"]["mean"] >= row["before"]["mean"] + BETTER for row in after)
    text = f"{named} of {len(wrong)} named first"
    return text + (
        f"; following the first named helped in {helped} of {len(after)}" if after else ""
    )


def page(work: Path) -> str:
    lines = ["# Does `diagnose` name what is wrong?", ""]
    lines += ["`python -m benchmarks.diagnose --work DIR --split report --follow --page`", ""]
    about = (
        "Twelve runs on the demo's character, each made wrong in one way, and one with nothing "
        f"wrong: the preset `demo`, {IMAGES} pictures, as long as the model says. `diagnose` is "
        "given the run and the demo model. *Judge*: mean of five shares that the demo world's "
        f"classifier, which `diagnose` never sees, reads off {COUNT} drawings with the trigger and "
        f"{COUNT} without: the whole character, what was asked for beside it, nothing worn, no "
        "part of it without the trigger, and the rest as asked; before, and after doing what the "
        f"first named cause says. It helped where the mean rose by {BETTER:g} or more."
    )
    lines += [about, ""]
    for split in SPLITS.values():
        rows = results(split, work)
        if not rows:
            continue
        title = "Thresholds were chosen on these" if split.name == "choose" else "Other runs"
        lines += [f"## {title}: {score(rows)}", ""]
        lines += ["| mistake | named first | likelihood | next | judge before | after |"]
        lines += ["|---|---|---:|---|---:|---:|"]
        lines += [_row(name, row) for name, row in rows.items()]
        lines += [""]
        missing = [name for name in MISTAKES if name not in rows]
        lines += [f"Not run: {', '.join(missing)}.", ""] if missing else []
    lines += ["Bold: another cause than the mistake."]
    return "\n".join(lines) + "\n"


def _row(name: str, row: Mapping[str, Any]) -> str:
    if "stopped" in row:
        said = f"{MISTAKES[name].cause}, by the run itself, which stopped"
        return f"| {name} | {said if is_named(name, row) else '**the run stopped**'} | | | | |"
    causes = row["causes"]
    expected = MISTAKES[name].cause or "nothing"
    first = causes[0]["id"] if causes else "nothing"
    first_text = first if first == expected else f"**{first}**"
    likelihood = f"{causes[0]['likelihood']:.2f}" if causes else ""
    second = f"{causes[1]['id']} {causes[1]['likelihood']:.2f}" if len(causes) > 1 else ""
    after = f"{row['after']['mean']:.2f}" if "after" in row else ""
    before = f"{row['before']['mean']:.2f}"
    return f"| {name} | {first_text} | {likelihood} | {second} | {before} | {after} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--split", choices=list(SPLITS), default="choose")
    parser.add_argument("--only", nargs="*", default=[], choices=list(MISTAKES))
    parser.add_argument("--follow", action="store_true", help="do what is advised, and judge that")
    parser.add_argument("--page", action="store_true", help="write benchmarks/diagnose.md")
    options = parser.parse_args()
    split = SPLITS[options.split]
    for name in options.only or MISTAKES:
        print(line(name, measure(name, split, options.work, follow=options.follow)), flush=True)
    print(score(results(split, options.work)))
    if options.page:
        write_text(HERE / "diagnose.md", page(options.work))


if __name__ == "__main__":
    main()
