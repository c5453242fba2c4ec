"""What is told of grids to those who look at them: JSON-ready, whatever the files held."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel

from lorasmith.core.disk import changed_ns
from lorasmith.core.errors import RunError, UserError
from lorasmith.core.files import version_of
from lorasmith.data.images import DECODER_ERRORS, read_header
from lorasmith.formats.run_paths import loras_of
from lorasmith.grids.record import (
    PAGE,
    RECORD,
    SHEET,
    SMALL_SHEET,
    THUMBNAILS,
    DrawnCell,
    DrawnGrid,
    digest_of,
)
from lorasmith.grids.votes import (
    VOTES,
    Pair,
    axes_asked,
    pairs,
    read_votes,
    tally,
    without_vote,
)
from lorasmith.jobs.grids.opening import pick_beside, run_of
from lorasmith.jobs.grids.votes import VotesReport
from lorasmith.jobs.runs.logs import plain_text
from lorasmith.jobs.runs.reader import RunReader
from lorasmith.prompts.parse import parse_prompt

NEXT_PAIRS = 8
"""So that those after the one that is shown are there before they are asked for, also for who is
quicker than his votes are written."""
_MOST_LABEL = 500

Allowed = Callable[[Path], bool]


class GridAxis(BaseModel):
    name: str
    title: str
    values: list[str]


class GridSummary(BaseModel):
    """One grid in a list of them.

    Args:
        title: its prompt.
        drawn, total: images that are there, and places.
        changed: Unix time, s.
        cover, cover_version: a sheet of all of it; "" where none is finished.
        run, run_name: whose snapshots it shows; "" where it shows none that may be opened.
    """

    path: str
    title: str
    axes: list[GridAxis]
    drawn: int
    total: int
    changed: float
    cover: str
    cover_version: str
    run: str
    run_name: str


class GridCell(BaseModel):
    """
    Args:
        place: along x, y and z.
        path, version: of the image; "" where it is not drawn.
        small: its number among the grid's thumbnails; ``None`` where it has none there.
    """

    place: tuple[int, int, int]
    path: str
    version: str
    prompt: str
    small: int | None


class GridThumbnails(BaseModel):
    """All images on one sheet, ``columns`` in a row, each of ``width`` by ``height`` px."""

    path: str
    version: str
    width: int
    height: int
    columns: int
    rows: int


class GridFile(BaseModel):
    path: str
    bytes: int


class GridDetail(GridSummary):
    """
    Args:
        cells: row by row, page by page.
        width, height: of an image, px.
        asked: titles of the axes that are voted on by itself.
        sheet, page: one PNG of all, and one page; ``None`` where none is finished.
    """

    cells: list[GridCell]
    thumbnails: GridThumbnails | None
    width: int
    height: int
    asked: list[str]
    sheet: GridFile | None
    page: GridFile | None


class Candidate(BaseModel):
    """A drawing that is voted on: where it stands, and its image."""

    place: tuple[int, int, int]
    path: str
    version: str = ""


class VotePair(BaseModel):
    """Two drawings, as they stand beside each other.

    Args:
        prompt: of both, without the LoRAs' tags; "" where they differ in it.
        held: what both have in common along the other axes.
    """

    left: Candidate
    right: Candidate
    prompt: str
    held: list[str]


class StandingRecord(BaseModel):
    """As :class:`.votes.Standing`.

    Args:
        judged: what pick says of it: "under", "well" or "over" for trained; "" for nothing.
        picked: it is what pick says to keep.
    """

    item: list[str]
    wins: int
    losses: int
    ties: int
    share: float | None
    low: float
    high: float
    judged: str
    picked: bool


class VotesRecord(BaseModel):
    """What was voted, and what may be voted on next.

    Args:
        by: titles of the axes that are asked about.
        done, total: pairs of this seed that have a vote, and that there are.
        next: those that come next.
        votes: all that count, of any seed.
        lost: votes of images that the grid no longer has.
        leader: the index of the standing that leads, beyond chance where it is ``clear``.
        pick: its verdict in words; "" where there is none of the run.
    """

    by: list[str]
    seed: int
    done: int
    total: int
    next: list[VotePair]
    votes: int
    lost: int
    summary: str
    leader: int | None
    clear: bool
    standings: list[StandingRecord]
    pick: str


def grid_summary(grid: DrawnGrid, allowed: Allowed) -> GridSummary:
    """
    Args:
        allowed: whether a place may be looked at.
    """
    run = run_of(grid, allowed)
    cover = grid.folder / SMALL_SHEET
    version = version_of(cover)
    return GridSummary(
        path=str(grid.folder),
        title=plain_text(grid.title or _first_prompt(grid)),
        axes=[
            GridAxis(
                name=plain_text(axis.name, _MOST_LABEL),
                title=plain_text(axis.title, _MOST_LABEL),
                values=[plain_text(value, _MOST_LABEL) for value in axis.values],
            )
            for axis in grid.axes
        ],
        drawn=grid.drawn,
        total=len(grid.cells),
        changed=max(changed_ns(grid.folder / name) for name in (RECORD, PAGE, VOTES)) / 1e9,
        cover=str(cover) if version else "",
        cover_version=version,
        run=str(run) if run is not None else "",
        run_name=plain_text(loras_of(run)[1]) if run is not None else "",
    )


def grid_detail(grid: DrawnGrid, allowed: Allowed) -> GridDetail:
    """
    Args:
        allowed: whether a place may be looked at.
    """
    versions = {cell.file: version_of(cell.file) for cell in grid.cells if cell.file is not None}
    width, height = _size(versions)
    thumbnails = _thumbnails(grid)
    small = grid.thumbnails.digests if thumbnails and grid.thumbnails else ()
    numbers = {digest: number for number, digest in enumerate(small)}
    return GridDetail(
        **grid_summary(grid, allowed).model_dump(),
        cells=[
            GridCell(
                place=_place(cell),
                path=str(cell.file) if cell.file is not None else "",
                version=versions.get(cell.file, "") if cell.file is not None else "",
                prompt=plain_text(cell.prompt),
                small=numbers.get(digest_of(cell.file.name) or "-") if cell.file else None,
            )
            for cell in grid.cells
        ],
        thumbnails=thumbnails,
        width=width,
        height=height,
        asked=[plain_text(grid.axes[number].title, _MOST_LABEL) for number in axes_asked(grid)],
        sheet=_file(grid.folder / SHEET),
        page=_file(grid.folder / PAGE),
    )


def _thumbnails(grid: DrawnGrid) -> GridThumbnails | None:
    small, path = grid.thumbnails, grid.folder / THUMBNAILS
    version = version_of(path)
    if small is None or not version:
        return None
    return GridThumbnails(
        path=str(path),
        version=version,
        width=small.width,
        height=small.height,
        columns=small.columns,
        rows=-(-len(small.digests) // small.columns),
    )


def votes_record(
    grid: DrawnGrid,
    by: Sequence[str],
    seed: int,
    allowed: Allowed,
    reader: RunReader,
) -> VotesRecord:
    """
    Args:
        by: titles of the axes that are asked about; none for what comes by itself.

    Raises:
        RunError: the grid has no such axis, or the votes cannot be read.
    """
    axes = axes_asked(grid, by)
    ballot = read_votes(grid)
    counted = tally(grid, axes, ballot.votes)
    report = VotesReport(grid, ballot, counted, pick_beside(grid, run_of(grid, allowed), reader))
    every = list(pairs(grid, axes, seed))
    left = list(without_vote(every, seed, ballot.votes))
    total = len(every)
    return VotesRecord(
        by=[plain_text(grid.axes[number].title, _MOST_LABEL) for number in axes],
        seed=seed,
        done=total - len(left),
        total=total,
        next=[_pair(grid, axes, pair) for pair in left[:NEXT_PAIRS]],
        votes=counted.votes,
        lost=ballot.lost,
        summary=plain_text(counted.summary),
        leader=counted.leader,
        clear=counted.clear,
        standings=[
            StandingRecord(
                item=[plain_text(label, _MOST_LABEL) for label in one.item],
                wins=one.wins,
                losses=one.losses,
                ties=one.ties,
                share=one.share,
                low=one.low,
                high=one.high,
                judged=report.judged(one.item),
                picked=report.picked(one.item),
            )
            for one in counted.standings
        ],
        pick=report.pick.summary if report.pick is not None else "",
    )


def chosen_pair(grid: DrawnGrid, left: Candidate, right: Candidate) -> Pair:
    """The two drawings that somebody was shown.

    Raises:
        RunError: they no longer stand there.
    """
    by_place = {(_place(cell), str(cell.file)): cell for cell in grid.cells if cell.file}
    one, other = (by_place.get((each.place, each.path)) for each in (left, right))
    if one is None or other is None or one.file == other.file:
        raise RunError.of(
            grid.folder, "has been drawn anew", "vote on the pictures that it has now"
        )
    return Pair(one, other)


def _pair(grid: DrawnGrid, axes: Sequence[int], pair: Pair) -> VotePair:
    prompts = {_without_loras(cell.prompt) for cell in (pair.left, pair.right)}
    held = [
        plain_text(f"{axis.title} {label}", _MOST_LABEL)
        for number, (axis, label) in enumerate(zip(grid.axes, pair.left.labels, strict=True))
        if number not in axes and label != pair.left.prompt
    ]
    return VotePair(
        left=_candidate(pair.left),
        right=_candidate(pair.right),
        prompt=plain_text(prompts.pop()) if len(prompts) == 1 else "",
        held=held,
    )


def _without_loras(prompt: str) -> str:
    """A prompt that does not say which LoRA it was drawn with."""
    try:
        tags = parse_prompt(prompt).loras
    except UserError:  # Of another version's record; then nothing of it is told.
        return ""
    for tag in tags:
        prompt = prompt.replace(tag.source, "")
    return " ".join(prompt.split())


def _candidate(cell: DrawnCell) -> Candidate:
    assert cell.file is not None
    return Candidate(path=str(cell.file), version=version_of(cell.file), place=_place(cell))


def _place(cell: DrawnCell) -> tuple[int, int, int]:
    x, y, z = (*cell.place, 0, 0)[:3]
    return x, y, z


def _first_prompt(grid: DrawnGrid) -> str:
    return next((cell.prompt for cell in grid.cells if cell.prompt), "")


def _file(path: Path) -> GridFile | None:
    try:
        return GridFile(path=str(path), bytes=path.stat().st_size)
    except OSError:
        return None


def _size(files: Iterable[Path]) -> tuple[int, int]:
    """Of the first image that can be read; a square where none can."""
    for file in files:
        try:
            header = read_header(file)
        except (*DECODER_ERRORS, UserError):
            continue
        return header.width, header.height
    return 1, 1
