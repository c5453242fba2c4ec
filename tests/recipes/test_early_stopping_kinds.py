"""``train.stop = "best"`` of what is no LoRA: the same judging, of a file of another kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.recipes.matrix import PLAIN

from lorasmith.config.load import load_settings
from lorasmith.core.events import BestKept, Event, SnapshotJudged
from lorasmith.demo.character import write_training_set
from lorasmith.measures.records import FULL, Extent
from lorasmith.training import early_stopping
from lorasmith.training.run import train
from lorasmith.training.runs.folder import RunFolder, read_info, steps_of

OF_LORAS = ("adapter.rank", "save.precision")
SETTINGS = {
    **{name: value for name, value in PLAIN.items() if name not in OF_LORAS},
    "train.stop": "best",
    "save.every_steps": "1",
    "save.every_epochs": "0",
    "save.state_every_steps": "0",
    "save.keep_last": "1",
    "schedule.name": "constant",
    "captions.trigger": "zorp",
    "sample.steps": "2",
    "sample.cfg": "1",
}
BY_KIND = {
    "embedding": {"embedding.vectors": "2", "optimizer.lr": "0.05"},
    "full": {"full.layers": "attn2.*", "optimizer.lr": "1e-4", "full.extract_rank": "2"},
}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("kind", BY_KIND)
def test_snapshots_are_judged_and_the_best_is_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Which it is, is told by the measures; the training is not disturbed by them."""
    monkeypatch.setattr(early_stopping, "SHARE", 1000.0)
    extent = Extent(2, 2, 1, 1, strengths=(1.0,), plain_drawings=False)
    monkeypatch.setattr(early_stopping, "EXTENT", extent)
    monkeypatch.setattr(early_stopping, "DRAWINGS", 2)
    write_training_set(tmp_path / "data", images=3, regularisation=0, repeats=2)
    events: list[Event] = []

    def run_of(name: str, **changes: str) -> RunFolder:
        places = {"data.path": str(tmp_path / "data"), "save.output": str(tmp_path / name)}
        own = {"train.kind": kind, **SETTINGS, **BY_KIND[kind], **places}
        own |= {key.replace("__", "."): value for key, value in changes.items()}
        return RunFolder(train(load_settings(None, own), observer=events.append))

    run = run_of("best")
    records = json.loads((run.path / "best" / "snapshots.json").read_text())["snapshots"]
    judged = [event for event in events if isinstance(event, SnapshotJudged)]
    assert len(records) == len(judged) >= 3
    for record in records:
        assert set(record["measures"]["loss"]) == set(record["measures"]["likeness"]) == {FULL}
    (kept,) = [event for event in events if isinstance(event, BestKept)]
    info = read_info(run)
    assert info["best"]["step"] == kept.step == steps_of(run.result)
    assert info["best"]["after"] == records[-1]["step"]

    whole = run_of("whole", train__stop="end", save__keep_last="0")
    files = {steps_of(path): path for path in whole.lora_files}
    own, same = load_file(run.result), load_file(files[kept.step])
    assert own.keys() == same.keys()
    assert all((own[name] == same[name]).all() for name in own)
