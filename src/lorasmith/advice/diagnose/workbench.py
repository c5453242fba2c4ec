"""The measures of a diagnosis: a table, what each is taken from, and where they are kept.

::

    RUN/diagnose/            or NAME.diagnose beside a file alone
      MEASURE-KEY.json       what one measure gave; another KEY for another file, base or pictures
    RUN/pick/KEY/            loss, likeness, copying and leak, shared with ``pick``

Each is written as soon as it is there, so that nothing is measured twice after Ctrl-C.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasmith.advice.diagnose.subject import Subject
from lorasmith.advice.diagnose.tag_groups import groups_of
from lorasmith.advice.pick import load_base, measures_key, snapshot_measurer
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.files import parse_json, write_json
from lorasmith.data.captions import split_tags
from lorasmith.measures.records import FULL, KINDS, PARTS, Measures, MeasuresFile
from lorasmith.measures.strength_grid import (
    TEXT_ENCODER,
    UNET,
    StrengthGrid,
    measure_strength_grid,
)
from lorasmith.sampling.from_dataset import stripped

if TYPE_CHECKING:
    from lorasmith.adapters.network import AdapterNetwork
    from lorasmith.data.dataset import Dataset
    from lorasmith.diffusion.schedule import NoiseSchedule
    from lorasmith.measures.noise_probe import Probe, Row
    from lorasmith.measures.told import CaptionFit, TagReadings
    from lorasmith.models.diffusion_model import DiffusionModel

Done = Callable[[], object]

GRID_SEEDS, GRID_IMAGES, GRID_TIMESTEPS = (0, 1, 2), 4, 4
READ_IMAGES, READ_TAGS = 12, 48
SKIPS = (1, 2)


class Workbench:
    """What measures of one LoRA are taken from; each part is loaded when it is first needed.

    Args:
        clip: a folder with a CLIP image encoder to compare drawings by.
    """

    def __init__(
        self,
        subject: Subject,
        *,
        clip: Path | None = None,
        device: str = "auto",
        precision: str = "auto",
        observer: Observer = ignore,
        controls: Controls | None = None,
        model: DiffusionModel | None = None,
    ) -> None:
        self.subject, self.clip = subject, clip
        self._device, self._precision = device, precision
        self.observer, self.controls = observer, controls or Controls()
        self._given_model = model

    @cached_property
    def model(self) -> DiffusionModel:
        if self._given_model is not None:
            return self._given_model
        subject = self.subject
        return load_base(subject.settings, subject.base.architecture, self._device, self._precision)

    @cached_property
    def schedule(self) -> NoiseSchedule:
        from lorasmith.training.objective import build_objective

        return build_objective(self.subject.settings, self.model).schedule

    @cached_property
    def network(self) -> AdapterNetwork:
        from lorasmith.adapters.file import load_lora
        from lorasmith.adapters.network import AdapterNetwork

        tensors = load_lora(self.subject.path).tensors
        return AdapterNetwork.load(
            tensors, self.model.adapter_roots(), where=str(self.subject.path)
        )

    @cached_property
    def pick_measures(self) -> MeasuresFile:
        """Kept where ``pick`` keeps its own."""
        subject = self.subject
        assert subject.eval_set is not None
        key = measures_key(subject.settings, subject.eval_set, subject.base_fingerprint, self.clip)
        place = subject.run.path / "pick" if subject.run is not None else subject.kept
        return MeasuresFile(place / key)

    def rows(self, dataset: Dataset, most: int, *, trigger: bool = True) -> list[Row]:
        """The first images of a dataset, encoded.

        Args:
            trigger: captions keep it.
        """
        from lorasmith.data.holdout import image_number
        from lorasmith.measures.noise_probe import Row
        from lorasmith.measures.snapshot import rendered

        rows: list[Row] = []
        background = self.subject.settings.data.background
        for image, item, view in rendered(dataset, background):
            if len(rows) == most:
                break
            caption = item.caption if trigger else self.without_trigger(item.caption)
            number, size = image_number(item.image), view.size_condition()
            rows.append(Row.of(self.model, image, caption, number, size))
        return rows

    def without_trigger(self, caption: str) -> str:
        separator = self.subject.settings.captions.separator
        return stripped(caption, self.subject.triggers, separator)

    def probes(self) -> list[Probe]:
        """The same images with the noise of each seed."""
        from lorasmith.measures.noise_probe import Probe

        eval_set = self.subject.eval_set
        assert eval_set is not None
        rows = self.rows(eval_set.dataset, GRID_IMAGES)
        return [Probe(self.model, self.schedule, rows, seed, GRID_TIMESTEPS) for seed in GRID_SEEDS]

    @property
    def groups(self) -> dict[str, list[str]]:
        """Tags that pictures can be asked about: of the captions, and those that the base knows."""
        eval_set = self.subject.eval_set
        captions = [item.caption for item in eval_set.references.items] if eval_set else []
        own = [tag for one in captions for tag in split_tags(self.without_trigger(one))]
        known = [tag for prompt in self.subject.plain for tag in split_tags(prompt)]
        by_count = sorted(dict.fromkeys(own), key=lambda tag: -own.count(tag))
        return groups_of([*by_count, *sorted(dict.fromkeys(known))], READ_TAGS)


def measure_snapshot(bench: Workbench, done: Done) -> Measures:
    subject = bench.subject
    assert subject.eval_set is not None
    measurer = snapshot_measurer(
        subject.settings, subject.eval_set, bench.model, bench.pick_measures.folder, bench.clip,
        bench.observer, bench.controls,
    )  # fmt: skip
    measures = measurer.measure(subject.path, subject.fingerprint[:12], done)
    bench.pick_measures.put(subject.fingerprint, measures)
    return measures


def measure_grid(bench: Workbench, done: Done) -> StrengthGrid:
    return measure_strength_grid(bench.network, bench.probes(), cell_done=done)


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
    names = [item.image.path.name for item in references.items]
    return read_tags(bench.model, bench.schedule, rows, names[: len(rows)], bench.groups, done)


def read_drawings(bench: Workbench, done: Done) -> TagReadings:
    from lorasmith.data.images import load_image
    from lorasmith.measures.noise_probe import Row
    from lorasmith.measures.told import read_tags

    eval_set = bench.subject.eval_set
    assert eval_set is not None
    stem, kind = bench.subject.fingerprint[:12], KINDS[FULL]
    rows, names = [], []
    for number, prompt in enumerate(eval_set.prompts):
        path = bench.pick_measures.folder / f"{stem}-{kind}-{number}.png"
        if path.is_file():
            caption = bench.without_trigger(prompt)
            rows.append(Row.of(bench.model, load_image(path), caption, number))
            names.append(path.name)
    return read_tags(bench.model, bench.schedule, rows, names, bench.groups, done)


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
        "shown", "what the pictures show", 1,
        read_pictures, _readings, _tags, _references,
    ),
    Measure(
        "drawn", "what it draws", 1,
        read_drawings, _readings, _tags,
        lambda subject: len(subject.eval_set.prompts) if subject.eval_set else 1,
        after="snapshot",
    ),
    Measure(
        "captions", "how the base takes the captions", 2,
        measure_captions, _caption_fit, _captions,
        lambda subject: len(SKIPS) * _references(subject),
    ),
)  # fmt: skip
"""In the order in which they are taken: what most depends on comes first."""


def kept_path(measure: Measure, subject: Subject) -> Path:
    """Where its result is kept."""
    eval_set = subject.eval_set.fingerprint if subject.eval_set is not None else ""
    facts = (
        measure.version,
        subject.fingerprint,
        subject.base_fingerprint,
        subject.settings.model.clip_skip,
        eval_set,
    )
    key = blake2b(repr(facts).encode(), digest_size=6).hexdigest()
    return subject.kept / f"{measure.name}-{key}.json"


def kept(measure: Measure, bench: Workbench) -> Any | None:
    """What was measured before; ``None`` for nothing, or nothing that can be read."""
    if measure.take is measure_snapshot:
        return bench.pick_measures.get(bench.subject.fingerprint)
    try:
        record = parse_json(kept_path(measure, bench.subject).read_text(encoding="utf-8"))
        return measure.read(record)
    # It holds nothing that cannot be measured again.
    except (OSError, ValueError, TypeError):
        return None


def keep(measure: Measure, bench: Workbench, result: Any) -> None:
    if measure.take is not measure_snapshot:  # It has been kept, with pick's.
        write_json(kept_path(measure, bench.subject), dataclasses.asdict(result))
