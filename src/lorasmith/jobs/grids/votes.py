"""The request for what blind votes say of a grid, with pick's verdict beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lorasmith.config.values import UserPath
from lorasmith.core.events import Controls, Observer
from lorasmith.grids.record import DrawnGrid, read_grid
from lorasmith.grids.votes import Ballot, Item, Tally, axes_asked, read_votes, tally
from lorasmith.jobs.grids.opening import PickBeside, pick_beside, run_of
from lorasmith.jobs.request import JobRequest, option
from lorasmith.jobs.runs.reader import RunReader
from lorasmith.jobs.runs.records import LoraOfRun


class VotesRequest(JobRequest):
    """Say what the votes on a grid's pictures tell: which epoch or strength was liked better.

    The votes are cast in the studio, on its page Compare: two pictures beside each other, without a
    word of what they are. They lie in DIR/votes.jsonl, and stay when the grid is drawn again.
    """

    verb: ClassVar = "votes"

    folder: UserPath = option(..., "The grid's folder", positional=True, metavar="DIR")
    by: str | None = option(
        None,
        "What is compared: axes of the grid, as epoch or epoch,strength",
        metavar="AXES",
        default_text="epoch, else strength, else the grid's first axis",
    )

    def run(self, observer: Observer, controls: Controls) -> VotesReport:
        """
        Raises:
            RunError: there is no such grid, or it has no such axis.
        """
        grid = read_grid(Path(self.folder))
        names = [name for name in (self.by or "").split(",") if name.strip()]
        axes = axes_asked(grid, names)
        ballot = read_votes(grid)
        counted = tally(grid, axes, ballot.votes)
        return VotesReport(grid, ballot, counted, pick_beside(grid, run_of(grid), RunReader()))


@dataclass(frozen=True, slots=True)
class VotesReport:
    """
    Args:
        pick: ``None`` where pick was not asked, or the grid shows no run.
    """

    grid: DrawnGrid
    ballot: Ballot
    tally: Tally
    pick: PickBeside | None

    def judged(self, item: Item) -> str:
        """What pick says of a place along the axes asked about: "under", "well" or "over"; ""
        where it says nothing."""
        lora = self._lora(item)
        return lora.judged if lora is not None else ""

    def picked(self, item: Item) -> bool:
        """Whether it is what pick says to keep."""
        lora = self._lora(item)
        return lora is not None and lora.picked

    def _lora(self, item: Item) -> LoraOfRun | None:
        if self.pick is None or self.pick.axis not in self.tally.axes:
            return None
        return self.pick.loras.get(item[self.tally.axes.index(self.pick.axis)])

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` prints. Keys are only ever added."""
        counted = self.tally
        leader = None if counted.leader is None else counted.standings[counted.leader].item
        return {
            "grid": str(self.grid.folder),
            "by": [self.grid.axes[number].title for number in counted.axes],
            "votes": counted.votes,
            "lost": self.ballot.lost,
            "leader": leader,
            "clear": counted.clear,
            "summary": counted.summary,
            "standings": [
                {
                    "item": one.item,
                    "wins": one.wins,
                    "losses": one.losses,
                    "equal": one.ties,
                    "share": one.share,
                    "low": one.low,
                    "high": one.high,
                    "pick": self.judged(one.item),
                    "picked": self.picked(one.item),
                }
                for one in counted.standings
            ],
            "pick": self.pick.summary if self.pick is not None else "",
        }
