"""What was found out about a run, in words: by its watchdog, by the judge of its snapshots."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lorasmith.core.growing_log import number_of
from lorasmith.jobs.runs.logs import plain_text, step_of
from lorasmith.jobs.runs.records import Sentence, Speaker


def sentences(
    events: Sequence[Mapping[str, Any]], info: Mapping[str, Any], verdict: Mapping[str, Any]
) -> Iterator[Sentence]:
    """
    Args:
        events: of the run, as logged.
        info: of ``run.json``.
        verdict: what ``lorasmith pick`` found, empty where it was not asked.
    """
    kept = False
    for event in events:
        for sentence in _of_event(event):
            kept |= event.get("event") == "BestKept"
            yield sentence
    best = info.get("best")
    if not kept and isinstance(best, dict) and (why := plain_text(best.get("why"))):
        yield Sentence(by="best", text=why, step=step_of(best))
    for text in (verdict.get("summary"), *_listed(verdict, "advice"), *_listed(verdict, "limits")):
        if said := plain_text(text):
            yield Sentence(by="pick", text=said)


def _of_event(event: Mapping[str, Any]) -> Iterator[Sentence]:
    def text(key: str) -> str:
        return plain_text(event.get(key))

    by: Speaker = "training"
    said, warning = "", False
    match event.get("event"):
        case "Notice":
            said, warning = text("text"), event.get("level") == "warning"
        case "TroubleFound":
            by, said, warning = "watchdog", text("found"), True
        case "RolledBack":
            change = text("change")
            back = f"back to step {step_of(event) or 0}"
            by, said, warning = "watchdog", f"{back}; going on with {change}", True
        case "SnapshotJudged":
            name = os.path.basename(text("path")).removesuffix(".safetensors")
            reasons = "; ".join(map(plain_text, _listed(event, "reasons")))
            by, said = "best", f"{name}: {text('verdict')}: {reasons}"
        case "BestKept":
            by, said = "best", text("why")
        case "RequestDone":
            by, said = "request", f"{_request_words(text('request'))}, as asked"
        case "RequestRefused":
            by, said, warning = "request", f"not done: {text('reason')}", True
        case "RateFound":
            by, said = "rate", "\n".join(map(plain_text, _listed(event, "lines")))
    if said:
        yield Sentence(by=by, text=said, step=step_of(event), warning=warning)


_DONE = {
    "samples": "the sample pictures were drawn",
    "snapshot": "a LoRA was saved",
    "state": "everything was saved",
    "stop": "it stopped with everything saved",
}


def _request_words(request: str) -> str:
    if request.startswith("lr="):
        return f"the learning rate was multiplied by {request.removeprefix('lr=')}"
    return _DONE.get(request, request)


def change_lines(info: Mapping[str, Any]) -> Iterator[str]:
    """A line for each change that was made while the run went on."""
    for change in _listed(info, "interventions"):
        if not isinstance(change, dict):
            continue
        factor, left_out = number_of(change.get("lr")), len(_listed(change, "left_out"))
        in_fp32 = [plain_text(name) for name in _listed(change, "in_fp32")]
        parts = [f"learning rate x {factor:g}"] if factor not in (None, 1) else []
        parts += [f"{left_out} picture(s) left out"] if left_out else []
        parts += [f"{', '.join(in_fp32)} in fp32"] if in_fp32 else []
        if parts:
            by = plain_text(change.get("by"), 20)
            yield f"after step {step_of(change) or 0}: {', '.join(parts)} (by {by})"


def _listed(values: Mapping[str, Any], key: str) -> list[Any]:
    value = values.get(key)
    return value if isinstance(value, list) else []
