"""Images through a tagger: decoded ahead of it, in batches, and what it says is kept."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Controls, Notice, Observer, Progress, ignore
from lorasmith.core.text import quantity
from lorasmith.curation.tagger.inputs import InputFormat, load_input
from lorasmith.curation.tagger.model import Tagger
from lorasmith.curation.tagger.scores import ImageScores, Scored, ScoreStore


def score_images(
    images: Mapping[Path, Sequence[Path]],
    tagger: Tagger,
    *,
    batch: int = 8,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Scored:
    """The tagger's scores of images; those that are known from earlier without the model.

    Args:
        images: by their dataset's folder, which keeps the scores.
        batch: so many at a time.
        observer: told of progress.
        controls: asked between batches.

    Raises:
        CheckpointError: the tagger cannot be opened, or its scores are not numbers.
        Stopped: by ``controls``; what was scored until then is kept.
    """
    scored = Scored(tagger.labels)
    for root, paths in images.items():
        with ScoreStore(root, tagger.name, tagger.fingerprint, tagger.labels) as store:
            _score(store, paths, tagger, batch, scored, observer, controls or Controls())
    return scored


def _score(
    store: ScoreStore,
    paths: Sequence[Path],
    tagger: Tagger,
    batch: int,
    scored: Scored,
    observer: Observer,
    controls: Controls,
) -> None:
    by_content: dict[str, list[Path]] = {}
    for path, content in store.content_hashes(paths).items():
        if isinstance(content, Problem):
            scored.problems.append(content)
        else:
            by_content.setdefault(content, []).append(path)
    unknown: dict[Path, str] = {}
    for content, same in by_content.items():
        known = store.get(content)
        if known is None:
            unknown[same[0]] = content
        else:
            scored.scores.update(dict.fromkeys(same, known))
    if not unknown:
        return
    controls.check()
    if not scored.tagged:
        pictures = quantity(len(unknown), "picture")
        text = f"{tagger.name} ({tagger.form}) tags {pictures} on the {tagger.place}"
        observer(Notice("info", text))
    begin, done = scored.tagged, 0
    arrays: list[tuple[Path, np.ndarray]] = []
    # A window of two batches: one that waits while the model works on the other.
    for done, (path, future) in enumerate(_decoded(list(unknown), tagger.form, 2 * batch), 1):
        try:
            arrays.append((path, future.result()))
        except DatasetError as error:
            scored.problems += error.problems
        if len(arrays) == batch or (arrays and done == len(unknown)):
            values = tagger.scores(
                np.stack([array for _, array in arrays]), [str(path) for path, _ in arrays]
            )
            new = {
                unknown[path]: ImageScores.of(row)
                for (path, _), row in zip(arrays, values, strict=True)
            }
            store.put(new)
            for content, one in new.items():
                scored.scores.update(dict.fromkeys(by_content[content], one))
            scored.tagged += len(new)
            arrays.clear()
            observer(Progress("tagging", done, len(unknown)))
            kept = quantity(scored.tagged - begin, "picture")
            controls.check(f"stopped; no caption was changed, and the scores of {kept} are kept")


def _decoded(
    paths: Sequence[Path], form: InputFormat, ahead: int
) -> Iterator[tuple[Path, Future[np.ndarray]]]:
    """The images in order, so many of them decoded ahead of who takes them."""
    pool = ThreadPoolExecutor(os.cpu_count() or 1)
    try:
        coming = iter(paths)
        waiting = deque(
            (path, pool.submit(load_input, path, form)) for path in islice(coming, ahead)
        )
        while waiting:
            path, future = waiting.popleft()
            waiting += [(one, pool.submit(load_input, one, form)) for one in islice(coming, 1)]
            yield path, future
    finally:
        pool.shutdown(cancel_futures=True)
