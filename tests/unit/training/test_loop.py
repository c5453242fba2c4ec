"""What the loop keeps where something cannot be written."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lorasmith.config.load import load_settings
from lorasmith.core.errors import RunError
from lorasmith.training import loop
from lorasmith.training.runs.control import PendingRequests


@pytest.mark.parametrize(("step", "kept"), [(1, [2]), (0, [])])
def test_what_was_trained_is_kept_where_the_result_cannot_be_written(
    step: int, kept: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot on the way is made again by whoever resumes; the last steps need not be."""

    def cannot(*_: object) -> None:
        raise RunError.of("run.safetensors", "cannot be written")

    states: list[int] = []
    monkeypatch.setattr(loop, "save_snapshot", cannot)
    monkeypatch.setattr(loop, "keep_state", lambda run, meter, done: states.append(done))
    run: Any = SimpleNamespace(
        settings=load_settings(None, ["save.every_epochs=1", "save.every_steps=1"]),
        batches=SimpleNamespace(epoch_of=lambda step: 1, ends_epoch=lambda step: False),
        steps=2,
    )
    meter: Any = SimpleNamespace(catch_up=lambda: None)
    with pytest.raises(RunError, match="cannot be written"):
        loop.after_step(run, meter, step, PendingRequests())
    assert states == kept
