"""What has changed, told as it happens: server-sent events, so that pages ask anew.

An event ``changed`` has the topics: ``jobs``, ``progress`` of those that run, ``projects``,
``prompts`` of the workspace's lists of prompts and wildcards,
``run:PATH`` of each run that has written something, ``dataset:PATH`` of each dataset that pages
have open, also while it is still being read, ``bootstraps`` of the workspace, and ``drawings`` when
one is asked for, ends, or has a picture more; in the first event it has "any". What has changed is
read off files, whoever changed them.

An event ``drawing`` has a drawing as it is now, a :class:`.DrawingRecord`, at each of its steps.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from lorasmith.core.disk import changed_ns
from lorasmith.core.job_record import EVENTS
from lorasmith.jobs.bootstraps.finding import times_of
from lorasmith.jobs.projects import DATASET, LORAS, PROMPTS, RUNS, WILDCARDS, visible_folders
from lorasmith.jobs.queue.ledger import Ledger
from lorasmith.studio.context import Studio, StudioDep

router = APIRouter(prefix="/api", tags=["changes"])

LOOKS = 0.4
"""Seconds between two looks."""
_SHORT_LOOKS = 0.05
"""Between two looks at drawings, whose steps are watched."""
_SIGN_OF_LIFE = 15.0
"""Seconds after which something is sent in any case, so that ends of a connection are noticed."""
_WRITTEN = ("events.jsonl", "metrics.jsonl", "run.json", "pick/verdict.json")


class Changes:
    """What has changed since the last look."""

    def __init__(self, studio: Studio) -> None:
        self._workspace = studio.workspace
        self._datasets, self._drawings = studio.datasets, studio.drawings
        self._ledger = Ledger(studio.workspace)
        self._seen = self._state()

    def look(self) -> list[str]:
        """The topics, in no order."""
        before, self._seen = self._seen, self._state()
        return [
            topic
            for topic in before.keys() | self._seen.keys()
            if before.get(topic) != self._seen.get(topic)
            # Put away for others that were opened: nothing of its files has changed.
            and (topic in self._seen or not topic.startswith("dataset:"))
        ]

    def _state(self) -> dict[str, object]:
        jobs = self._ledger.jobs()
        running = [job for job in jobs if job.state == "running"]
        told = [changed_ns(self._ledger.try_folder(job) / EVENTS) for job in running]
        folders = [self._workspace, *visible_folders(self._workspace)]
        runs = {Path(job.run) for job in running if job.run}
        runs.update(run for folder in folders for run in visible_folders(folder / RUNS))
        return {
            "jobs": jobs,
            "progress": told,
            "drawings": self._drawings.ends,
            "bootstraps": times_of(self._workspace),
            # Also of what lies in them: pictures that are copied in, runs that are put away.
            "projects": [
                (str(folder), *(changed_ns(folder / name) for name in ("", DATASET, RUNS, LORAS)))
                for folder in folders
            ],
            "prompts": [
                (str(folder), changed_ns(folder))
                for kind in (PROMPTS, WILDCARDS)
                for folder in (self._workspace / kind, *visible_folders(self._workspace / kind))
            ],
            **{
                f"dataset:{one.folder}": (one.folder_times(), one.reading)
                for one in self._datasets.all()
            },
            **{f"run:{run}": [changed_ns(run / name) for name in _WRITTEN] for run in runs},
        }


@router.get("/events", response_class=StreamingResponse)
def events(studio: StudioDep) -> StreamingResponse:
    """A stream that ends with the studio; browsers come again by themselves."""
    return StreamingResponse(_stream(studio), media_type="text/event-stream")


async def _stream(studio: Studio) -> AsyncIterator[str]:
    changes = await run_in_threadpool(Changes, studio)
    # Whoever comes again may have missed something.
    yield _event("any")
    quiet, since_look = 0.0, 0.0
    # What there is of drawings, the page asks for.
    seen = studio.drawings.changes(0)[0]
    while not studio.closing.is_set():
        await asyncio.sleep(_SHORT_LOOKS)
        since_look += _SHORT_LOOKS
        quiet += _SHORT_LOOKS
        seen, drawings = studio.drawings.changes(seen)
        for record in drawings:
            quiet = 0.0
            yield f"event: drawing\ndata: {record.model_dump_json()}\n\n"
        if since_look >= LOOKS:
            since_look = 0.0
            if topics := await run_in_threadpool(changes.look):
                quiet = 0.0
                yield _event(sorted(topics))
        if quiet >= _SIGN_OF_LIFE:
            quiet = 0.0
            yield ": nothing new\n\n"


def _event(topics: list[str] | Literal["any"]) -> str:
    return f"event: changed\ndata: {json.dumps({'topics': topics})}\n\n"
