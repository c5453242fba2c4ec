"""Does `lorasmith diagnose` name what was made wrong on purpose, and does its advice help?

    python -m benchmarks.diagnose --work DIR --split choose|report [--only NAME …] [--follow]

Trains the demo's character once rightly and twelve times with one mistake, diagnoses each run, and
prints which cause was named first. ``--follow`` does what the first named cause says (its
settings, its command) and trains again; benchmarks/diagnose_judge.py compares what was spoiled.

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
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from benchmarks.diagnose_judge import (
    COMMON,
    NEW,
    SPOILED,
    Gain,
    Judged,
    Part,
    gains,
    judge,
    key,
    mean_of,
    training_pictures,
)
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

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
    draw_zorp,
    varied_zorps,
    zorp_caption,
)
from lorasmith.demo.world import Creature
from lorasmith.models.open import DEMO, open_checkpoint
from lorasmith.training.run import train
from lorasmith.training.runs.folder import existing_run_folder
from lorasmith.training.setup.base_defaults import suit
from lorasmith.training.setup.length import updates_for

HERE = Path(__file__).parent
IMAGES, REPEATS = 12, 25
# What the demo's tagger would say of every picture of the character: no word that varies.
CONSTANT = (
    *("zorp", "two-tone body", "antennae", "wings", "scarf", "doodles", "purple body"),
    *("round body", "no hat", "no ears", "spots", "light belly"),
)
OTHER_SEEDS = 2
"""Right runs of further training seeds, which say how far runs differ by chance alone."""

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
    for name in [one for one in tensors if one.endswith(".to_q.weight")]:
        stem = name.removesuffix("to_q.weight")
        width = tensors[name].shape[0] // heads
        orders = [
            head * width + torch.randperm(width, generator=generator) for head in range(heads)
        ]
        inner = torch.cat(orders)
        values = torch.cat(
            [head * width + torch.randperm(width, generator=generator) for head in range(heads)]
        )
        for part in ("to_q.weight", "to_k.weight"):
            tensors[stem + part] = tensors[stem + part][inner].contiguous()
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


def followed(
    name: str,
    first: Mapping[str, Any],
    data: Path,
    settings: Mapping[str, str],
    split: Split,
    work: Path,
) -> Path:
    """The run that does what the cause says."""
    run = work / "runs" / f"{name}-mended"
    if (run / f"{run.name}.safetensors").exists():
        return run
    mended = work / "data" / f"{name}-mended"
    if mended.exists():
        shutil.rmtree(mended)
    shutil.copytree(data, mended)
    for command in commands_of(first, data, mended):
        subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL)
    changes = {path: NONE if value is None else value for path, value in first["changes"].items()}
    more = {path: toml_value(value) for path, value in changes.items()}
    return train_run(run.name, mended, {**settings, **more}, split, work)


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
    """Trains the run and says what `diagnose` names; what is finished is not done again."""
    mistake = MISTAKES[name]
    work = work / split.name
    target = work / "results" / f"{name}.json"
    result = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    data, folder = work / "data" / name, work / "runs" / name
    settings = settings_of(name, work)
    if "stopped" not in result and not (folder / f"{name}.safetensors").exists():
        write_pictures(data, split, mistake)
        try:
            train_run(name, data, settings, split, work)
        except RunError as error:
            # What it had saved by then can be diagnosed as well.
            result["stopped"] = str(error)
            write_json(target, result)
    if not result.get("causes"):
        subject = open_subject(folder, "demo")
        taken, _ = measured(Workbench(subject), only=CAUSAL)
        found = judged(subject, facts_of(subject), taken).to_json()
        result |= {"causes": found["causes"], "state": found["state"], "diagnosis": found}
        write_json(target, result)
    if follow and mistake.cause and result["causes"]:
        first = result["causes"][0]
        # JSON makes lists of tuples.
        advice = json.loads(json.dumps({one: first[one] for one in ("id", "changes", "command")}))
        if result.get("advice", advice) != advice:
            shutil.rmtree(work / "runs" / f"{name}-mended", ignore_errors=True)
        followed(name, first, data, settings, split, work)
        result |= {"followed": first["id"], "advice": advice}
        write_json(target, result)
    return result


def settings_of(name: str, work: Path) -> dict[str, str]:
    settings = dict(MISTAKES[name].settings)
    if MISTAKES[name].base:
        base = work / "other-base.safetensors"
        if not base.exists():
            write_other_base(base)
        settings["model.path"] = str(base)
    return settings


def right_runs(split: Split, work: Path, *, train: bool) -> list[str]:
    """Names of right runs that differ by the training seed alone; those that are there already,
    or all."""
    work = work / split.name
    names = {"right": split.train_seed}
    names |= {f"right-{seed}": seed for seed in more_seeds(split)}
    for name, seed in names.items():
        if train:
            train_run(name, work / "data" / "right", {"train.seed": f"{seed}"}, split, work)
    return [name for name in names if (work / "runs" / name / f"{name}.safetensors").exists()]


def more_seeds(split: Split) -> range:
    return range(split.train_seed + 1, split.train_seed + 1 + OTHER_SEEDS)


def judged_run(name: str, parts: Iterable[Part], split: Split, work: Path) -> Judged:
    """What the judge reads off drawings of a run's last snapshot."""
    work = work / split.name
    lora = existing_run_folder(work / "runs" / name).lora_files[-1]
    return judge(lora, training_pictures(IMAGES, split.data_seed), parts, work / "judged")


def judged_right(split: Split, work: Path) -> dict[str, Judged]:
    every = [*COMMON, *(part for figure in SPOILED.values() for part in figure.parts)]
    names = right_runs(split, work, train=False)
    return {name: judged_run(name, every, split, work) for name in names}


def judged_cured(name: str, split: Split, work: Path) -> Judged:
    return judged_run(f"{name}-mended", [*SPOILED[name].parts, *COMMON], split, work)


def judged_pair(name: str, split: Split, work: Path) -> dict[str, Gain] | None:
    """Wrong and cured run; ``None`` where it was not cured."""
    if not (work / split.name / "runs" / f"{name}-mended").exists():
        return None
    before = judged_run(name, SPOILED[name].parts, split, work)
    right = list(judged_right(split, work).values())
    return gains(name, before, judged_cured(name, split, work), right)


def is_named(name: str, row: Mapping[str, Any]) -> bool:
    """Whether the mistake is what was named first, by the run itself where that stopped."""
    mistake = MISTAKES[name]
    if "stopped" in row and not (mistake.stops and mistake.stops in row["stopped"]):
        return False
    return bool(row["causes"]) and row["causes"][0]["id"] == mistake.cause


def line(name: str, result: Mapping[str, Any], found: Mapping[str, Gain] | None) -> str:
    expected = MISTAKES[name].cause or "nothing"
    causes = [f"{one['id']} {one['likelihood']:.2f}" for one in result["causes"]]
    first = result["causes"][0]["id"] if result["causes"] else "nothing"
    text = f"{name}: {'right' if first == expected else 'WRONG'}, named {', '.join(causes) or '-'}"
    if found is not None:
        for what, one in found.items():
            text += f"\n    {what}: {one.before:.3f} -> {one.after:.3f}, {said(one)}"
    return text


def said(one: Gain) -> str:
    verdict = "better" if one.helped else "worse" if one.harmed else "not told apart"
    return f"{one.difference:+.3f} ± {2 * one.error:.3f}, seeds {one.seeds:.3f}: {verdict}"


def results(split: Split, work: Path) -> dict[str, dict[str, Any]]:
    """What is finished."""
    found = {}
    for name in MISTAKES:
        target = work / split.name / "results" / f"{name}.json"
        if target.exists():
            found[name] = json.loads(target.read_text(encoding="utf-8"))
    return found


Gains = Mapping[str, Mapping[str, Gain] | None]


def score(rows: Mapping[str, Mapping[str, Any]], found: Gains) -> str:
    """In words: how many were named, how many helped."""
    wrong = {name: row for name, row in rows.items() if MISTAKES[name].cause}
    named = sum(is_named(name, row) for name, row in wrong.items())
    cured = [one for one in found.values() if one is not None]
    helped = sum(one["spoiled"].helped for one in cured)
    text = f"{named} of {len(wrong)} named first"
    return text + (
        f"; following the first named helped in {helped} of {len(cured)}" if cured else ""
    )


def page(work: Path) -> str:
    lines = ["# Does `diagnose` name what is wrong?", ""]
    lines += ["`python -m benchmarks.diagnose --work DIR --split report --follow --page`", ""]
    lines += [ABOUT, "", JUDGE, ""]
    for split in SPLITS.values():
        rows = results(split, work)
        if not rows:
            continue
        found = {name: judged_pair(name, split, work) for name in rows if MISTAKES[name].cause}
        title = "Thresholds were chosen on these" if split.name == "choose" else "Other runs"
        lines += [f"## {title}: {score(rows, found)}", ""]
        lines += ["| mistake | named first | likelihood | next |", "|---|---|---:|---|"]
        lines += [_named_row(name, row) for name, row in rows.items()]
        lines += ["", "Bold: another cause than the mistake.", ""]
        missing = [name for name in MISTAKES if name not in rows]
        lines += [f"Not run: {', '.join(missing)}.", ""] if missing else []
        lines += _cured_tables(found, split, work)
    return "\n".join(lines).rstrip() + "\n"


def _named_row(name: str, row: Mapping[str, Any]) -> str:
    causes = row["causes"]
    expected = MISTAKES[name].cause or "nothing"
    first = causes[0]["id"] if causes else "nothing"
    first_text = first if first == expected else f"**{first}**"
    if "stopped" in row and is_named(name, row):
        first_text += ", and by the run itself, which stopped"
    likelihood = f"{causes[0]['likelihood']:.2f}" if causes else ""
    second = f"{causes[1]['id']} {causes[1]['likelihood']:.2f}" if len(causes) > 1 else ""
    return f"| {name} | {first_text} | {likelihood} | {second} |"


def _cured_tables(found: Gains, split: Split, work: Path) -> list[str]:
    lines = ["### What the mistake is said to spoil, before and after", ""]
    lines += ["| mistake | figure | before | after | difference | right runs | helped |"]
    lines += ["|---|---|---:|---:|---:|---:|---|"]
    cured = {name: one for name, one in found.items() if one is not None}
    for name, one in cured.items():
        lines += [f"| {name} | {SPOILED[name].title} | {_cells(one['spoiled'])} |"]
    lines += ["", "### What is asked of all", "", ALL, ""]
    heads = ("new pictures", "character", "as asked", "nothing worn", "no leak", "kept")
    lines += [f"| mistake | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    names = [NEW, *(key(part) for part in COMMON)]
    for run in right_runs(split, work, train=False):
        right = judged_run(run, SPOILED.values(), split, work)
        values = [f"{mean_of(right, [name]):.2f}" for name in names]
        lines += [f"| {run} | {' | '.join(values)} |"]
    for mistake, one in cured.items():
        cells = [_pair(one[name]) for name in names]
        lines += [f"| {mistake} | {' | '.join(cells)} |"]
    better = sum(one[NEW].helped for one in cured.values())
    worse = [
        f"{name} ({', '.join(what for what in names if one[what].harmed)})"
        for name, one in cured.items()
        if any(one[what].harmed for what in names)
    ]
    lines += ["", f"New pictures are predicted measurably better in {better} of {len(cured)}."]
    lines += [f"Measurably worse after the cure: {'; '.join(worse) or 'nothing'}.", ""]
    return lines


def _cells(one: Gain) -> str:
    verdict = "yes" if one.helped else "**worse**" if one.harmed else "no"
    return (
        f"{one.before:.3f} | {one.after:.3f} | {one.difference:+.3f} ± {2 * one.error:.3f} | "
        f"{one.seeds:.3f} | {verdict}"
    )


def _pair(one: Gain) -> str:
    mark = "↑" if one.helped else "↓" if one.harmed else ""
    return f"{one.before:.2f} → {one.after:.2f}{mark}"


ABOUT = (
    "Twelve runs on the demo's character, each made wrong in one way, and one with nothing wrong: "
    f"the preset `demo`, {IMAGES} pictures, as long as the model says. `diagnose` is given the run "
    "and the demo model."
)
JUDGE = (
    "The judge is the demo world's classifier, which `diagnose` never sees, and pictures that "
    "nothing was trained on. Each mistake has one figure, which was written down before anything "
    "was drawn, from what its cause says that it spoils (`SPOILED` in diagnose_judge.py); wrong "
    "and cured run draw the same prompts with the same seeds, 48 to 256 drawings. *Difference*: over "
    "pairs of drawings, ± two standard errors. *Right runs*: the most by which three right runs, "
    "of three training seeds, differ in that figure. It *helped* where the difference is more than "
    "both."
)
ALL = (
    "*New pictures*: by how much of the base's error the LoRA predicts 48 pictures of the "
    "character that nothing was trained on better than the base, by their captions, at 4 noise levels. The "
    "others: shares of 64 drawings with the trigger and of 48 without it. ↑ and ↓: measurably "
    "better and worse, by the same rule."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--split", choices=list(SPLITS), default="choose")
    parser.add_argument("--only", nargs="*", default=[], choices=list(MISTAKES))
    parser.add_argument("--follow", action="store_true", help="do what is advised, and judge that")
    parser.add_argument("--page", action="store_true", help="write benchmarks/diagnose.md")
    options = parser.parse_args()
    split = SPLITS[options.split]
    if options.follow:
        right_runs(split, options.work, train=True)
    found: dict[str, Mapping[str, Gain] | None] = {}
    for name in options.only or MISTAKES:
        row = measure(name, split, options.work, follow=options.follow)
        if options.follow and MISTAKES[name].cause:
            found[name] = judged_pair(name, split, options.work)
        print(line(name, row, found.get(name)), flush=True)
    print(score(results(split, options.work), found))
    if options.page:
        write_text(HERE / "diagnose.md", page(options.work))


if __name__ == "__main__":
    main()
