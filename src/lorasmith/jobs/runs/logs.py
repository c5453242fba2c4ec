"""The logs of a run, read as they grow: each look reads only what was appended since the last.

What stands in them may be half written, damaged or made up; what has another type than it should
have is left out, and what is no number of a curve is a gap in it.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasmith.core.growing_log import GrowingLog, number_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Row = NDArray[np.float64]

CURVES = (
    *("epoch", "loss", "smoothed_loss", "preservation_loss", "grad_norm", "weight_norm"),
    *("loss_scale", "samples_per_second", "seconds_left", "memory_bytes"),
    *("held_out", "training", "gap", "held_out_change", "training_change", "gap_growth"),
)
"""What is drawn over the steps; the rates of each group beside it."""
RATES = {"lr": "lr", "d_lr": "d*lr"}
"""What holds a number for each group, and how its curves are called: ``lr/unet``."""
MOST_CURVES = 64

# Of every event, what would fill memory: lists of all images.
LARGE = ("report", "pictures", "by_picture", "captions", "near_duplicates", "ignored", "held_out")
MOST_EVENTS = 20_000


def step_of(record: Mapping[str, Any]) -> int | None:
    """The optimizer step (from 0) that a record is of."""
    step = number_of(record.get("step"))
    return int(step) if step is not None and 0 <= step < 1e12 else None


class MetricsLog:
    """``metrics.jsonl`` as columns: one row a step, a curve each."""

    def __init__(self, path: Path) -> None:
        self._log = GrowingLog(path)
        self._steps: array[float] = array("d")
        self._columns: dict[str, array[float]] = {}

    def update(self) -> None:
        """Read what was appended."""
        anew, records = self._log.read()
        if anew:
            self._cut(0)
            self._columns.clear()
        for record in records:
            self._add(record)

    def _add(self, record: Mapping[str, Any]) -> None:
        step = step_of(record)
        if step is None:
            return
        while self._steps and self._steps[-1] > step:  # They are done again.
            self._cut(len(self._steps) - 1)
        if not self._steps or self._steps[-1] < step:
            self._steps.append(step)
            for column in self._columns.values():
                column.append(math.nan)
        for name, value in _curve_values(record):
            if name not in self._columns:
                if len(self._columns) >= MOST_CURVES:
                    continue
                self._columns[name] = array("d", [math.nan]) * len(self._steps)
            self._columns[name][-1] = value

    def _cut(self, rows: int) -> None:
        del self._steps[rows:]
        for column in self._columns.values():
            del column[rows:]

    def columns(self, after: int = -1, points: int = 1000) -> dict[str, list[float | None]]:
        """The curves from the step after ``after`` on, under ``step`` what they lie over.

        Where there are more rows than ``points`` they are brought together so that each curve
        keeps its lowest and its highest value: two rows for as many steps as they stand for.
        """
        import numpy as np

        steps = np.array(self._steps)
        begin = int(np.searchsorted(steps, after, side="right"))
        rows = len(steps) - begin
        width = 1 if rows <= points else math.ceil(rows / max(1, points // 2))
        kept = steps[begin:] if width == 1 else _ends(steps[begin:], width)
        curves: dict[str, list[float | None]] = {"step": [int(step) for step in kept]}
        for name, column in self._columns.items():
            values = np.array(column)[begin:]
            if width > 1:
                values = _extremes(values, width)[: len(kept)]
            curves[name] = [None if math.isnan(value) else value for value in values.tolist()]
        return curves

    @property
    def rows(self) -> int:
        return len(self._steps)


def _curve_values(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name in CURVES:
        if (value := number_of(record.get(name))) is not None:
            yield name, value
    for key, title in RATES.items():
        groups = record.get(key)
        for group, rate in groups.items() if isinstance(groups, dict) else ():
            if (value := number_of(rate)) is not None:
                yield f"{title}/{plain_text(group)}", value


def _ends(steps: Row, width: int) -> Row:
    """The first and the last step of each ``width``."""
    import numpy as np

    first, last = steps[::width], steps[width - 1 :: width]
    if len(last) < len(first):
        last = np.append(last, steps[-1])
    ends = np.stack([first, last], axis=1).reshape(-1)
    return ends[:-1] if len(ends) > 1 and ends[-1] == ends[-2] else ends


def _extremes(values: Row, width: int) -> Row:
    """The lowest and the highest of each ``width`` values, in the order in which they came; a
    single one stands first, and gaps stay gaps."""
    import numpy as np

    padded = np.full(-(-len(values) // width) * width, np.nan)
    padded[: len(values)] = values
    cells = padded.reshape(-1, width)
    gaps = np.isnan(cells)
    at = np.arange(len(cells))
    low = np.where(gaps, np.inf, cells).argmin(axis=1)
    high = np.where(gaps, -np.inf, cells).argmax(axis=1)
    pairs = np.stack([cells[at, np.minimum(low, high)], cells[at, np.maximum(low, high)]], axis=1)
    pairs[(~gaps).sum(axis=1) == 1, 1] = np.nan
    return pairs.reshape(-1)


class EventsLog:
    """``events.jsonl`` without what is too much to keep: the newest :data:`MOST_EVENTS`.

    Each event has a number, from 0, that it keeps as long as the file is not written anew.
    """

    def __init__(self, path: Path) -> None:
        self._log = GrowingLog(path)
        self.first = 0
        self.records: list[dict[str, Any]] = []

    def update(self) -> None:
        """Read what was appended."""
        anew, records = self._log.read()
        if anew:
            self.first, self.records = 0, []
        self.records += [
            {key: value for key, value in record.items() if key not in LARGE} for record in records
        ]
        if (more := len(self.records) - MOST_EVENTS) > 0:
            del self.records[:more]
            self.first += more

    def since(self, number: int) -> list[dict[str, Any]]:
        return self.records[max(0, number - self.first) :]


def plain_text(value: Any, most: int = 20_000) -> str:
    """A text that can be sent: no halves of characters, and not without end; "" of another type."""
    if not isinstance(value, str):
        return ""
    return value[:most].encode("utf-8", "replace").decode()


def plain_value(value: Any, depth: int = 8) -> Any:
    """Any JSON value so that it can be sent as JSON again: finite numbers, whole characters."""
    match value:
        case str():
            return plain_text(value)
        case bool() | None:
            return value
        case int():  # Of thousands of digits, which JSON may hold and few can read.
            return value if abs(value) < 1 << 63 else None
        case float():
            return number_of(value)
        case dict() if depth:
            return {plain_text(str(k)): plain_value(v, depth - 1) for k, v in value.items()}
        case list() if depth:
            return [plain_value(item, depth - 1) for item in value]
    return None
