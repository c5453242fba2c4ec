"""Run folders written by hand: whole ones, and such as no training leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lorasmith.config.dump import dump_toml
from lorasmith.config.load import load_settings


def metrics_line(step: int, **more: Any) -> str:
    values = {
        "step": step, "steps": 40, "epoch": (step - 1) // 10 + 1, "loss": 1.0 / step,
        "smoothed_loss": 2.0 / step, "preservation_loss": None, "lr": {"unet": 1e-4}, "d_lr": {},
        "grad_norm": 0.5, "weight_norm": 3.0, "loss_scale": None, "samples_per_second": 4.0,
        "seconds_left": 40.0 - step, "memory_bytes": 1000,
    }  # fmt: skip
    return json.dumps({**values, **more}) + "\n"


def safetensors(steps: int) -> bytes:
    header = json.dumps({"__metadata__": {"ss_steps": str(steps)}}).encode()
    return len(header).to_bytes(8, "little") + header


def write_run(folder: Path, **settings: str) -> Path:
    """A run of 40 steps, 10 an epoch, that was stopped after step 20, with samples of two
    prompts."""
    (folder / "samples").mkdir(parents=True)
    overrides = {"data.path": "pictures", "optimizer.lr": "3e-4", **settings}
    (folder / "settings.toml").write_text(dump_toml(load_settings(None, overrides)))
    info = {
        "status": "stopped", "steps": 40, "model": {"path": "demo", "family": "sd1"},
        "interventions": [
            {"step": 5, "by": "request", "lr": 0.5, "left_out": [], "in_fp32": [], "why": ""}
        ],
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(info))
    (folder / "dataset.json").write_text(json.dumps({"steps": {"steps_per_epoch": 10}}))
    (folder / "metrics.jsonl").write_text("".join(map(metrics_line, range(1, 21))))
    for epoch in (1, 2):
        name = f"{folder.name}-{epoch:06d}.safetensors"
        (folder / name).write_bytes(safetensors(epoch * 10))
    events: list[dict[str, Any]] = [
        {"event": "Notice", "level": "warning", "text": "two pictures are alike"},
        {"event": "DatasetChecked", "pictures": [{"path": "a.png"}], "steps": {}},
        {"event": "RunStarted", "folder": str(folder), "steps": 40, "start_step": 0, "epochs": 4},
    ]
    for step in (0, 10, 20):
        for index in (0, 1):
            path = folder / "samples" / f"{step:08d}-{index:02d}-{7 + index}.png"
            path.write_bytes(b"png")
            prompt = ["a cat", "a <b>dog</b>"][index]
            events.append(
                {"event": "SampleSaved", "path": str(path), "step": step, "prompt": prompt,
                 "seed": 7 + index}
            )  # fmt: skip
    events += [
        {"event": "TroubleFound", "step": 12, "what": "the loss is nan", "samples": [],
         "module": "", "found": "the loss is nan at step 12"},
        {"event": "RolledBack", "step": 10, "change": "half the rate", "found": "…"},
        {"event": "SnapshotJudged", "path": f"{folder}/x-000001.safetensors", "step": 10,
         "verdict": "undertrained", "reasons": ["the loss still falls"]},
        {"event": "RequestRefused", "step": 15, "request": "samples", "reason": "no prompts"},
    ]  # fmt: skip
    (folder / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in events))
    return folder
