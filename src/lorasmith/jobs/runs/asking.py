"""What is asked of a training that runs, by whoever knows its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lorasmith.core.errors import RunError, collect_each
from lorasmith.core.events import Request
from lorasmith.training.runs.control import read_status, write_requests
from lorasmith.training.runs.folder import existing_run_folder

HOW_IT_ENDED = {
    "done": "it is finished",
    "stopped": "it was stopped",
    "trouble": "it ended in trouble",
    "killed": "it was killed",
}


def ask_run(run: Path, requests: Sequence[str]) -> Path:
    """Ask the training in the folder ``run`` for one or more things, in order.

    Args:
        requests: each ``samples``, ``snapshot``, ``state``, ``stop`` or ``lr=FACTOR``.

    Returns:
        The file of the request, which vanishes when it is done.

    Raises:
        UserError: with every request that is none; then nothing is asked.
        RunError: it is no run folder, or no training runs in it.
    """
    folder = existing_run_folder(run)
    parsed = collect_each(Request.parse, requests)
    if not folder.busy:
        state = read_status(folder).state
        raise RunError.of(
            run,
            f"no training runs in this folder: {HOW_IT_ENDED.get(state, state)}",
            f"lorasmith train --resume {run} goes on with it"
            if state != "done"
            else "start another run",
        )
    return write_requests(folder.control, *parsed)
