"""Does a LoRA of any subject learn it, with which settings, and what does it do to the base?

    python -m benchmarks.subjects --work DIR                       # defaults, those to choose by
    python -m benchmarks.subjects --work DIR --cases before,default --split report --seeds 0,1,2
    python -m benchmarks.subjects --work DIR --cases default,T-LoRA --images 1,2,3,6

Trains on drawings of subjects that the demo model has never seen, laid out as the README shows,
draws with the LoRA at strength 1.0 and lets judges read the drawings. Results are lines of JSON in
DIR, so that it can be stopped and goes on; the table is of all of them. What came of it stands in
benchmarks/subjects.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from benchmarks.subjects.runs import Bench, Case, read_results, run_all
from benchmarks.subjects.subjects import PAIRS, SUBJECTS, of_split
from benchmarks.subjects.table import table

CASES = {
    case.name: case
    for case in (
        # What the preset was before the base said what suits it.
        Case(
            "before",
            (
                "adapter.type=lora",
                "train.epochs=8",
                "optimizer.lr=4e-3",
                "preservation.enabled=false",
            ),
            preset="demo",
        ),
        Case("default"),
        Case("no preservation", ("preservation.enabled=false",)),
        Case("regularisation", regularize=48),
        Case("T-LoRA", ("adapter.type=tlora",)),
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cases", default="default", help="of: " + ", ".join(CASES))
    parser.add_argument("--set", action="append", default=[], dest="overrides",
                        help="section.key=value, for all cases")  # fmt: skip
    parser.add_argument("--split", default="choose", choices=("choose", "report"))
    parser.add_argument("--subjects", default="", help="in place of a split; a+b for two in one")
    parser.add_argument("--pairs", action="store_true", help="two characters in one LoRA, too")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--images", default="14")
    parser.add_argument("--count", type=int, default=64, help="drawings of each kind in a run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [subject.name for subject in of_split(options.split)]
    if options.pairs:
        names += ["+".join(p) for p in PAIRS if SUBJECTS[p[0]].split == options.split]
    names = options.subjects.split(",") if options.subjects else names
    cases = [CASES[name] for name in options.cases.split(",")]
    cases = [
        Case(c.name, (*c.overrides, *options.overrides), c.preset, c.regularize) for c in cases
    ]
    results = options.work / f"{options.split}.jsonl"
    run_all(
        Bench(options.work, options.count),
        cases,
        names,
        [int(seed) for seed in options.seeds.split(",")],
        [int(count) for count in options.images.split(",")],
        results,
    )
    print(table(read_results(results), [case.name for case in CASES.values()]))


if __name__ == "__main__":
    main()
