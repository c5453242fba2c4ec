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
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

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
from benchmarks.diagnose_runs import (
    IMAGES,
    MISTAKES,
    SPLITS,
    Mistake,
    Split,
    settings_of,
    train_run,
    write_pictures,
)

from lorasmith.advice.diagnose.diagnose import judged, measured
from lorasmith.advice.diagnose.facts import facts_of
from lorasmith.advice.diagnose.measuring import CAUSAL
from lorasmith.advice.diagnose.subject import open_subject
from lorasmith.advice.diagnose.workbench import Workbench
from lorasmith.config.dump import toml_value
from lorasmith.config.fields import NONE
from lorasmith.core.errors import RunError
from lorasmith.core.files import write_json, write_text
from lorasmith.training.runs.folder import existing_run_folder

HERE = Path(__file__).parent
# What the demo's tagger would say of every picture of the character: no word that varies.
CONSTANT = (
    *("zorp", "two-tone body", "antennae", "wings", "scarf", "doodles", "purple body"),
    *("round body", "no hat", "no ears", "spots", "light belly"),
)
OTHER_SEEDS = 2
"""Right runs of further training seeds, which say how far runs differ by chance alone."""


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
    changed = {**settings, **as_settings(first["changes"])}
    if (twin := twin_of(name, first, changed, work)) is not None:
        return twin
    mended = work / "data" / f"{name}-mended"
    if mended.exists():
        shutil.rmtree(mended)
    shutil.copytree(data, mended)
    for command in commands_of(first, data, mended):
        subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL)
    return train_run(run.name, mended, changed, split, work)


def as_settings(changes: Mapping[str, Any]) -> dict[str, str]:
    values = {path: NONE if value is None else value for path, value in changes.items()}
    return {path: toml_value(value) for path, value in values.items()}


def twin_of(
    name: str, first: Mapping[str, Any], settings: Mapping[str, str], work: Path
) -> Path | None:
    """A cured run with the same settings and pictures: what it learned is the same to the bit."""

    def pictures_are_right(one: Mistake) -> bool:
        return one.caption is None and not (one.worn or one.copies)

    if first["command"] or not pictures_are_right(MISTAKES[name]):
        return None
    for other, mistake in MISTAKES.items():
        run = work / "runs" / f"{other}-mended"
        target = work / "results" / f"{other}.json"
        if other == name or not pictures_are_right(mistake) or not target.exists():
            continue
        advice = json.loads(target.read_text(encoding="utf-8")).get("advice")
        if advice is None or not (run / f"{run.name}.safetensors").exists():
            continue
        if settings == {**settings_of(other, work), **as_settings(advice["changes"])}:
            return run
    return None


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
    if "diagnosis" not in result:
        subject = open_subject(folder, "demo")
        # A run that stopped has told enough of itself: its rate is known.
        taken = {} if "stopped" in result else measured(Workbench(subject), only=CAUSAL)[0]
        found = judged(subject, facts_of(subject), taken).to_json()
        result |= {"causes": found["causes"], "state": found["state"], "diagnosis": found}
        write_json(target, result)
    if follow and mistake.cause and result["causes"]:
        first = result["causes"][0]
        # JSON makes lists of tuples.
        advice = json.loads(json.dumps({one: first[one] for one in ("id", "changes", "command")}))
        if result.get("advice", advice) != advice:
            shutil.rmtree(work / "runs" / f"{name}-mended", ignore_errors=True)
        run = followed(name, first, data, settings, split, work)
        result |= {"followed": first["id"], "advice": advice, "cured": run.name}
        write_json(target, result)
    return result


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


def judged_cured(name: str, split: Split, work: Path) -> Judged | None:
    """``None`` where the run was not cured."""
    result = results(split, work).get(name, {})
    if "followed" not in result:
        return None
    cured = result.get("cured", f"{name}-mended")
    return judged_run(cured, [*SPOILED[name].parts, *COMMON], split, work)


def judged_pair(name: str, split: Split, work: Path) -> dict[str, Gain] | None:
    """Wrong and cured run; ``None`` where it was not cured."""
    after = judged_cured(name, split, work)
    if after is None:
        return None
    before = judged_run(name, SPOILED[name].parts, split, work)
    return gains(name, before, after, list(judged_right(split, work).values()))


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
    better = sum(one[NEW].helped for one in cured.values())
    lines += ["", f"### New pictures: predicted better in {better} of {len(cured)}", ""]
    lines += ["| mistake | before | after | difference | right runs | helped |"]
    lines += ["|---|---:|---:|---:|---:|---|"]
    lines += [f"| {name} | {_cells(one[NEW])} |" for name, one in cured.items()]
    heads = ("character", "as asked", "nothing worn", "no leak", "kept")
    lines += ["", "### What is asked of all", "", ALL, ""]
    lines += [f"| run | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    after = {f"{name}, cured": judged_cured(name, split, work) for name in cured}
    for run, values in {**judged_right(split, work), **after}.items():
        assert values is not None
        cells = [f"{mean_of(values, [key(part)]):.2f}" for part in COMMON]
        lines += [f"| {run} | {' | '.join(cells)} |"]
    return [*lines, ""]


def _cells(one: Gain) -> str:
    verdict = "yes" if one.helped else "**worse**" if one.harmed else "no"
    return (
        f"{one.before:.3f} | {one.after:.3f} | {one.difference:+.3f} ± {2 * one.error:.3f} | "
        f"{f'{one.seeds:.3f}' if one.seeds else '–'} | {verdict}"
    )


ABOUT = (
    "Twelve runs on the demo's character, each made wrong in one way, and one with nothing wrong: "
    f"the preset `demo`, {IMAGES} pictures, as long as the model says. `diagnose` is given the run "
    "and the demo model."
)
JUDGE = (
    "The judge is the demo world's classifier, which `diagnose` never sees, and pictures that "
    "nothing was trained on. Each mistake has one figure, written down before it was drawn, from "
    "what its cause says that it spoils (`SPOILED` in diagnose_judge.py). Wrong and cured run "
    "draw the same prompts with the same seeds, 48 to 256 drawings; each drawing counts 0 to 1, "
    "more is better. *Difference*: over pairs of drawings, ± two standard errors. *Right runs*: "
    "the most by which right runs of other training seeds differ in that figure, where there are "
    "any. It *helped* where the difference is more than both. *New pictures*: by how much of the "
    "base's error the LoRA predicts 48 pictures of the character better than the base, by their "
    "captions, at 4 noise levels; nothing was trained on them."
)
ALL = "After the cure, shares of 64 drawings with the trigger and of 48 without it."


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
