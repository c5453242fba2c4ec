"""Captions by a captioner: a plan for a collection."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from lorasmith.core.errors import DatasetError, Problem, RunError
from lorasmith.core.events import Controls, Notice, Observer, Progress, ignore
from lorasmith.core.file_names import relative_path
from lorasmith.core.files import parse_json
from lorasmith.core.text import quantity
from lorasmith.curation.captioner.answers import STOPPED, Answer, Captioner, KeptAnswers
from lorasmith.curation.captioner.repair import (
    Style,
    cut_loops,
    framed,
    one_line,
    without_unfinished,
    without_words,
)
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import Collection, CollectionImage
from lorasmith.curation.edit.caption_text import CaptionFile
from lorasmith.curation.edit.new_captions import Mode, NewCaptions
from lorasmith.curation.filter import parse_filter
from lorasmith.data.cache.file_memo import hash_bytes, hash_file
from lorasmith.data.captions import join_tags, split_tags
from lorasmith.data.images import decoded_image
from lorasmith.data.recorded_crops import crop_record_of, crop_records, read_crop_record

WHAT = "captioning"
_AHEAD = os.cpu_count() or 1  # images decoded while others are captioned
_REFUSED = 3
"""After so many images, none of which could be captioned for one and the same reason, none will."""
_OTHER = "see that the model takes pictures, or use another"
SIDE = 1024  # px; the longer side of what a captioner is shown at most


def plan_captions(
    collection: Collection,
    captioner: Captioner,
    *,
    where: str = "",
    mode: Mode = "if-empty",
    style: Style = "descriptive",
    prefix: str = "",
    suffix: str = "",
    blacklist: Sequence[str] = (),
    jsonl: Path | None = None,
    fresh: bool = False,
    side: int = SIDE,
    command: str = "caption",
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Plan:
    """What captions the captioner would write.

    What it answers is kept in the dataset's ``.lorasmith``; images that have an answer are not
    shown to it again. Images that get an empty caption are left out.

    Args:
        where: only images that this filter takes.
        style: how the captioner was told to write.
        prefix, suffix: around each caption.
        blacklist: words and phrases that no caption has.
        jsonl: a table of all captions, for Hugging Face's imagefolder; within the dataset.
        fresh: ask again, also where there is an answer.
        side: longer side that images are shrunk to before they are shown, px.
        command: what the history says of it.

    Raises:
        UserError: the captioner cannot work, or caption any of the first images.
        Stopped: by ``controls``; answers are kept.
    """
    controls = controls or Controls()
    plan = Plan(command, collection.roots)
    images = parse_filter(where).select(collection, observer, controls)
    captions = NewCaptions(images, mode, plan)
    chosen = captions.images
    answers = _Answers(captioner, fresh, side, observer, controls).of(chosen, plan)
    empty: list[Path] = []
    cut = 0
    for image in chosen:
        answer = answers.get(image.path)
        if answer is None:
            continue
        text, was_loop = repaired(answer, style, blacklist)
        cut += was_loop
        if text:
            new = framed(text, prefix, suffix, style)
            captions.write(image, new, partial(joined, new=new, mode=mode, style=style))
        else:
            empty.append(image.path)
    for path in empty:
        what = "the captioner wrote nothing of it that can be used"
        plan.skipped.append(Problem(str(path), what, "caption it by hand, or by another model"))
    if cut:
        ending = "itself and was cut" if cut == 1 else "themselves and were cut"
        observer(Notice("info", f"{quantity(cut, 'caption')} repeated {ending}"))
    if jsonl is not None:
        _plan_table(plan, collection, jsonl)
    return plan


def _crop_record(image: CollectionImage) -> Path | None:
    """Where it is recorded which part of the image training uses."""
    return crop_record_of(image.path, crop_records(image.companions))


def _content(image: CollectionImage) -> str:
    """Hash of what is shown of an image.

    Raises:
        OSError: a file cannot be read.
    """
    content, record = hash_file(image.path), _crop_record(image)
    return content if record is None else hash_bytes(content.encode() + record.read_bytes())


def repaired(answer: Answer, style: Style, blacklist: Sequence[str] = ()) -> tuple[str, bool]:
    """A captioner's answer as a caption, and whether it was cut because it repeated itself."""
    line = one_line(answer.text, style)
    text = cut_loops(line, style)
    is_loop = len(text) < len(line)
    # Where a loop was cut, nothing is left unfinished.
    if not answer.finished and not is_loop:
        text = without_unfinished(text, style)
    return without_words(text, blacklist, style).strip(" ,;:"), is_loop


@dataclass
class _Shown:
    """An image on its way to the captioner: shrunk, in RGB, with its content's hash."""

    image: CollectionImage
    content: str
    pixels: Image.Image


@dataclass
class _Answers:
    """Answers for images: those that are kept, and new ones, batch by batch."""

    captioner: Captioner
    fresh: bool
    side: int
    observer: Observer
    controls: Controls
    _kept: dict[Path, KeptAnswers] = field(default_factory=dict)

    def of(self, images: Sequence[CollectionImage], plan: Plan) -> dict[Path, Answer]:
        """By image; those that could not be captioned are left out of the plan."""
        answers: dict[Path, Answer] = {}
        waiting: list[tuple[CollectionImage, str]] = []
        for image in images:
            self.controls.check("stopped; nothing was changed")
            try:
                content = _content(image)
            except OSError as error:
                what = f"cannot be read: {error.strerror}"
                plan.skipped.append(Problem(str(image.path), what))
                continue
            answer = None if self.fresh else self._kept_in(image.root).get(content)
            if answer is None:
                waiting.append((image, content))
            else:
                answers[image.path] = answer
        if answers and waiting:
            text = f"{quantity(len(answers), 'picture')} of an earlier call go on from there"
            self.observer(Notice("info", text))
        self._ask(waiting, answers, plan)
        return answers

    def _kept_in(self, root: Path) -> KeptAnswers:
        if root not in self._kept:
            self._kept[root] = KeptAnswers(root, {**self.captioner.identity, "side": self.side})
        return self._kept[root]

    def _ask(
        self,
        waiting: Sequence[tuple[CollectionImage, str]],
        answers: dict[Path, Answer],
        plan: Plan,
    ) -> None:
        done, total = 0, len(waiting)
        refusals: list[Problem] = []
        if total:
            self.observer(Progress(WHAT, 0, total))
        with ThreadPoolExecutor(_AHEAD) as pool:
            for batch, count in self._batches(waiting, plan, pool):
                self.controls.check(STOPPED)
                results = self.captioner.answers([one.pixels for one in batch], self.controls)
                for one, result in zip(batch, results, strict=True):
                    path = one.image.path
                    if isinstance(result, Problem):
                        refusals.append(result)
                        plan.skipped.append(Problem(str(path), result.what, result.hint))
                    else:
                        answers[path] = result
                        self._kept_in(one.image.root).add(one.content, result)
                done += count
                if len(refusals) == done >= _REFUSED and len(set(refusals)) == 1:
                    raise RunError(Problem("", f"every picture: {refusals[0].what}", _OTHER))
                self.observer(Progress(WHAT, done, total))

    def _batches(
        self,
        waiting: Sequence[tuple[CollectionImage, str]],
        plan: Plan,
        pool: ThreadPoolExecutor,
    ) -> Iterator[tuple[list[_Shown], int]]:
        """Batches of decoded images, others decoded meanwhile; and how many were to be in it."""
        items = iter(waiting)

        def submit(count: int) -> Iterator[Future[_Shown | Problem]]:
            return (pool.submit(self._shown, *item) for item in islice(items, count))

        coming = deque(submit(self.captioner.batch + _AHEAD))
        while coming:
            size = min(max(1, self.captioner.batch), len(coming))
            shown = [coming.popleft().result() for _ in range(size)]
            coming.extend(submit(size))
            plan.skipped += [one for one in shown if isinstance(one, Problem)]
            yield [one for one in shown if isinstance(one, _Shown)], size

    def _shown(self, image: CollectionImage, content: str) -> _Shown | Problem:
        try:
            with decoded_image(image.path) as pixels:
                record = _crop_record(image)
                if record is not None:
                    pixels = pixels.crop(read_crop_record(record, pixels.size).box)
                pixels.thumbnail((self.side, self.side), Image.Resampling.LANCZOS)
                return _Shown(image, content, pixels)
        except DatasetError as error:
            return error.problems[0]


def joined(old: str, new: str, mode: Mode, style: Style) -> str:
    """A caption that is there and the new one, in their order; nothing where it is in it already,
    and of tags those that are missing."""
    if style == "tags":
        present = {tag.casefold() for tag in split_tags(old)}
        new = join_tags(tag for tag in split_tags(new) if tag.casefold() not in present)
    if not new or new.casefold() in old.casefold():
        return old
    first, second = (old.rstrip(), new) if mode == "append" else (new, old.lstrip())
    if style == "descriptive" and first[-1] in ".!?,;:":
        return f"{first} {second}"
    return f"{first.rstrip(' ,')}, {second}"


def _plan_table(plan: Plan, collection: Collection, path: Path) -> None:
    """A line for each image that has a caption after the plan; all other lines stay."""
    planned = {change.path: change.after for change in plan.changes}
    base = path.resolve().parent
    before = None
    if path.exists():
        try:
            before = path.read_bytes()
        except OSError as error:
            plan.problems.append(Problem(str(path), f"cannot be read: {error.strerror}"))
            return
    lines = CaptionFile.of(before or b"").text.splitlines()
    places = {row["file_name"]: n for n, line in enumerate(lines) if (row := _row(line))}
    for image in collection.images:
        after = planned.get(image.new_caption_path)
        caption = CaptionFile.of(after).text if after is not None else image.caption
        name = Path(relative_path(image.path.resolve(), base)).as_posix()
        if not caption.strip():
            continue
        if name not in places:
            places[name] = len(lines)
            lines.append("")
        row = {**_row(lines[places[name]]), "file_name": name, "text": caption.strip()}
        lines[places[name]] = json.dumps(row, ensure_ascii=False)
    data = "".join(f"{line}\n" for line in lines).encode()

    def write(target: Path) -> None:
        target.write_bytes(data)

    if data != before:
        plan.write_file(path, write, what=f"captions of {quantity(len(places), 'picture')}")


def _row(line: str) -> dict[str, Any]:
    """What a line says of an image; nothing where it is no such line."""
    try:
        value = parse_json(line)
    except ValueError:
        return {}
    is_row = isinstance(value, dict) and isinstance(value.get("file_name"), str)
    return value if is_row else {}
