"""The measures of a diagnosis: a table, what each is taken from, and where they are kept.

::

    RUN/diagnose/            or NAME.diagnose beside a file alone
      MEASURE-KEY.json       what one measure gave; another KEY for another file, base or pictures
    RUN/pick/KEY/            loss, likeness, copying and leak, shared with ``pick``

Each is written as soon as it is there, so that nothing is measured twice after Ctrl-C.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasmith.advice.diagnose.evidence import constant_answers
from lorasmith.advice.diagnose.subject import Subject
from lorasmith.advice.diagnose.tag_groups import OPTIONAL, is_negation
from lorasmith.advice.diagnose.workbench import (
    ANSWER_ROWS,
    FREQUENT_TAGS,
    OWN_PROMPTS,
    READ_IMAGES,
    SKIPS,
    TOKEN_BATCHES,
    Workbench,
)
from lorasmith.advice.pick import snapshot_measurer
from lorasmith.core.files import parse_json, write_json
from lorasmith.curation.collection import dataset_root
from lorasmith.curation.edit.spelling import bare
from lorasmith.lora_tools.inspect.training_summary import trigger_words
from lorasmith.measures.block_effects import BlockEffects
from lorasmith.measures.records import FULL, KINDS, PARTS, Measures
from lorasmith.measures.strength_grid import (
    TEXT_ENCODER,
    UNET,
    StrengthGrid,
    measure_strength_grid,
)
from lorasmith.sampling.from_dataset import stripped

if TYPE_CHECKING:
    from lorasmith.measures.answers import Answers
    from lorasmith.measures.base_kept import BaseKept
    from lorasmith.measures.tag_effects import TagEffects
    from lorasmith.measures.told import CaptionFit, TagReadings


Done = Callable[[], object]


def measure_snapshot(bench: Workbench, done: Done) -> Measures:
    subject = bench.subject
    assert subject.eval_set is not None
    measurer = snapshot_measurer(
        subject.settings, subject.eval_set, bench.model, bench.pick_measures.folder, bench.clip,
        bench.observer, bench.controls,
    )  # fmt: skip
    measures = measurer.measure(subject.path, bench.stem, done)
    bench.pick_measures.put(subject.fingerprint, measures)
    return measures


def measure_grid(bench: Workbench, done: Done) -> StrengthGrid:
    return measure_strength_grid(bench.network, bench.probes(), UNET, TEXT_ENCODER, done)


def measure_captions(bench: Workbench, done: Done) -> CaptionFit:
    from lorasmith.measures.told import measure_caption_fit

    assert bench.subject.eval_set is not None
    rows = bench.rows(bench.subject.eval_set.references, READ_IMAGES, trigger=False)
    rows = [row for row in rows if row.caption]
    return measure_caption_fit(bench.model, bench.schedule, rows, SKIPS, done)


def read_pictures(bench: Workbench, done: Done) -> TagReadings:
    from lorasmith.measures.told import read_tags

    assert bench.subject.eval_set is not None
    references = bench.subject.eval_set.references
    rows = bench.rows(references, READ_IMAGES, trigger=False)
    names = [place_of(item.image.path, bench.subject.folders) for item in references.items]
    return read_tags(
        bench.model, bench.schedule, rows, names[: len(rows)], bench.groups, done,
        separator=bench.subject.settings.captions.separator,
    )  # fmt: skip


def place_of(path: Path, folders: Sequence[Path]) -> str:
    """A picture's path within its dataset, with ``/``, as filters of ``dataset`` know it; its name
    where it lies in none of the folders."""
    whole = Path(os.path.abspath(path))
    roots = (root for root in map(dataset_root, folders) if whole.is_relative_to(root))
    return next((whole.relative_to(root).as_posix() for root in roots), path.name)


def read_drawings(bench: Workbench, done: Done) -> TagReadings:
    from lorasmith.measures.noise_probe import Row
    from lorasmith.measures.told import read_tags

    eval_set = bench.subject.eval_set
    assert eval_set is not None
    stem, kind = bench.stem, KINDS[FULL]
    # A single picture is nothing to compare drawings with, and ``pick`` draws none.
    prompts = eval_set.prompts if len(eval_set.references.items) > 1 else ()
    with bench.network.attached():
        images = bench.pick_drawings(prompts, stem, kind)
    rows = [
        Row.of(bench.model, image, bench.without_trigger(prompt), number)
        for number, (image, prompt) in enumerate(zip(images, prompts, strict=True))
    ]
    names = [f"{stem}-{kind}-{number}.png" for number in range(len(rows))]
    with bench.network.attached():
        return read_tags(
            bench.model, bench.schedule, rows, names, bench.groups, done, trigger=bench.trigger,
            separator=bench.subject.settings.captions.separator,
        )  # fmt: skip


def measure_kept(bench: Workbench, done: Done) -> BaseKept:
    from lorasmith.measures.base_kept import measure_base_kept

    return measure_base_kept(
        bench.model, bench.schedule, bench.network, bench.own_prompts, bench.trigger,
        bench.drawings, bench.stem, done,
    )  # fmt: skip


def measure_tag_effects(bench: Workbench, done: Done) -> TagEffects:
    from lorasmith.measures.tag_effects import measure_tags

    return measure_tags(
        bench.model, bench.schedule, bench.network, bench.trigger,
        by_question(frequent_tags(bench), bench.groups), bench.groups,
        bench.drawings, bench.stem, done,
    )  # fmt: skip


def frequent_tags(bench: Workbench) -> list[str]:
    """Those of the captions that can be read, the most frequent first, and what all pictures show
    untagged."""
    eval_set = bench.subject.eval_set
    captions = [item.caption for item in eval_set.references.items] if eval_set else []
    own = [bare(tag) for one in captions for tag in bench.tags_of(one)]
    readable = {tag for answers in bench.groups.values() for tag in answers}
    by_count = sorted(dict.fromkeys(own), key=lambda tag: -own.count(tag))
    tags = [tag for tag in by_count if tag in readable][:FREQUENT_TAGS]
    shown = bench.results.get("shown")
    if shown is not None:
        tags += [
            one.tag
            for one in constant_answers(shown)
            if one.question in OPTIONAL and not is_negation(one.tag) and one.tag not in own
        ]
    return tags


def by_question(tags: Sequence[str], groups: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for question, answers in groups.items():
        if some := [tag for tag in tags if tag in answers]:
            found[question] = some
    return found


def measure_answers(bench: Workbench, done: Done) -> Answers:
    from lorasmith.measures import answers
    from lorasmith.measures.base_kept import KIND
    from lorasmith.measures.drawings import kind_of
    from lorasmith.measures.noise_probe import Row

    prompts = bench.own_prompts
    images = bench.drawings(prompts, "base", kind_of(KIND, prompts))[:ANSWER_ROWS]
    rows = [Row.of(bench.model, image, "", number) for number, image in enumerate(images)]
    tags = [*bench.subject.triggers, *said_tags(bench.subject.metadata)]
    return answers.measure_answers(bench.model, bench.schedule, bench.network, tags, rows, done)


def said_tags(metadata: Mapping[str, str], most: int = 12) -> list[str]:
    """The most frequent tags that a file says it was trained with."""
    counts: Counter[str] = Counter()
    for folder in trigger_words(metadata).folders:
        if not folder.reg:
            counts.update(folder.tags)
    return [tag for tag, _ in counts.most_common(most)]


def measure_block_effects(bench: Workbench, done: Done) -> BlockEffects:
    from lorasmith.measures.block_effects import measure_blocks

    blocks = bench.subject.base.architecture.blocks
    return measure_blocks(bench.network, bench.probes(), blocks, done)


# What a measure cannot do without; "" where it is there.


def _pictures(subject: Subject) -> str:
    return "" if subject.eval_set is not None else "needs the training pictures (--data)"


def _captions(subject: Subject) -> str:
    if missing := _pictures(subject):
        return missing
    assert subject.eval_set is not None
    if any(spec.layer is not None for spec in subject.base.architecture.family.text_encoders):
        return "this family of models has one fixed layer of the text encoder"
    separator = subject.settings.captions.separator
    items = subject.eval_set.references.items[:READ_IMAGES]
    captions = [stripped(item.caption, subject.triggers, separator) for item in items]
    return "" if sum(map(bool, captions)) > 1 else "needs captions that say more than the trigger"


def _tags(subject: Subject) -> str:
    if missing := _pictures(subject):
        return missing
    return "" if Workbench(subject).groups else "needs captions of tags, some of them alternatives"


@dataclass(frozen=True, slots=True)
class Measure:
    """One row of the table.

    Args:
        name: of its file.
        title: what it looks at, for people.
        version: raised when its numbers come to mean something else.
        take: measures; ``done`` is to be called ``parts`` times.
        read: from its record.
        missing: what it cannot do without, a clause; "" where all is there.
        parts: of the progress bar.
        after: the measure that leaves what this one looks at.
    """

    name: str
    title: str
    version: int
    take: Callable[[Workbench, Done], Any]
    read: Callable[[dict[str, Any]], Any]
    missing: Callable[[Subject], str]
    parts: Callable[[Subject], int]
    after: str = ""


def _caption_fit(record: dict[str, Any]) -> CaptionFit:
    from lorasmith.measures.told import CaptionFit

    return CaptionFit(**record)


def _tag_effects(record: dict[str, Any]) -> TagEffects:
    from lorasmith.measures.tag_effects import TagEffect, TagEffects

    effects = [TagEffect(**one) for one in record["effects"]]
    return TagEffects(effects, record["count"])


def _base_kept(record: dict[str, Any]) -> BaseKept:
    from lorasmith.measures.base_kept import BaseKept

    return BaseKept(**record)


def _answers(record: dict[str, Any]) -> Answers:
    from lorasmith.measures.answers import Answers

    return Answers(**record)


def _readings(record: dict[str, Any]) -> TagReadings:
    from lorasmith.measures.told import TagReadings

    return TagReadings(**record)


def _references(subject: Subject) -> int:
    return min(READ_IMAGES, len(subject.eval_set.references.items)) if subject.eval_set else 1


MEASURES: tuple[Measure, ...] = (
    Measure(
        "snapshot", "its loss, its drawings and its leak", 1,
        measure_snapshot, lambda record: Measures(**record), _pictures, lambda subject: PARTS,
    ),
    Measure(
        "strengths", "strengths of its parts", 1,
        measure_grid, lambda record: StrengthGrid(**record), _pictures,
        lambda subject: len(UNET) * len(TEXT_ENCODER),
    ),
    Measure(
        "shown", "what the pictures show", 2,
        read_pictures, _readings, _tags, _references,
    ),
    Measure(
        "drawn", "what it draws", 2,
        read_drawings, _readings, _tags,
        lambda subject: len(subject.eval_set.prompts) if subject.eval_set else 1,
        after="snapshot",
    ),
    Measure(
        "captions", "how the base takes the captions", 2,
        measure_captions, _caption_fit, _captions,
        lambda subject: len(SKIPS) * _references(subject),
    ),
    Measure(
        "kept", "whether the base is kept", 1,
        measure_kept, _base_kept, lambda subject: "", lambda subject: OWN_PROMPTS,
    ),
    Measure(
        "tags", "its tags, drawn with and without", 2,
        measure_tag_effects, _tag_effects, _tags, lambda subject: FREQUENT_TAGS,
    ),
    Measure(
        "blocks", "its blocks", 1,
        measure_block_effects, lambda record: BlockEffects(**record), _pictures,
        lambda subject: len(subject.base.architecture.blocks.names),
    ),
    Measure(
        "answers", "what it answers to", 2,
        measure_answers, _answers, lambda subject: "", lambda subject: TOKEN_BATCHES,
    ),
)  # fmt: skip
"""In the order in which they are taken: what most depends on comes first."""


CAUSAL = ("snapshot", "strengths", "shown", "drawn", "captions")
"""Names of the measures that causes are judged by."""


def kept_path(measure: Measure, bench: Workbench) -> Path:
    """Where its result is kept."""
    subject, sample = bench.subject, bench.subject.settings.sample
    facts = (
        measure.version,
        subject.fingerprint,
        bench.base_key,
        (sample.negative, sample.steps, sample.cfg, sample.sampler, sample.size),
        subject.eval_set.fingerprint if subject.eval_set is not None else "",
        subject.triggers,
        subject.settings.captions.separator,
    )
    key = blake2b(repr(facts).encode(), digest_size=6).hexdigest()
    return subject.kept / f"{measure.name}-{key}.json"


def kept(measure: Measure, bench: Workbench) -> Any | None:
    """What was measured before; ``None`` for nothing, or nothing that can be read."""
    if measure.take is measure_snapshot:
        return bench.pick_measures.get(bench.subject.fingerprint)
    try:
        record = parse_json(kept_path(measure, bench).read_text(encoding="utf-8"))
        return measure.read(record)
    # It holds nothing that cannot be measured again.
    except (OSError, ValueError, TypeError):
        return None


def keep(measure: Measure, bench: Workbench, result: Any) -> None:
    if measure.take is not measure_snapshot:  # It has been kept, with pick's.
        write_json(kept_path(measure, bench), dataclasses.asdict(result))
