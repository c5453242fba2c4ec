"""Questions to a checkout of sd-scripts, answered by a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

PEERS = Path(os.environ.get("LORASMITH_PEERS", "none"))


def ask(folder: Path, questions: Mapping[str, list[Any]]) -> Mapping[str, list[Any]]:
    """The answers of ``sd_scripts_answers.py`` by kind, in the questions' order.

    Args:
        folder: for the files that the two processes hand each other.
    """
    (folder / "questions.json").write_text(json.dumps(questions))
    script = Path(__file__).with_name("sd_scripts_answers.py")
    paths = f"{PEERS / 'sd-scripts'}{os.pathsep}{PEERS / 'transformers4'}"
    done = subprocess.run(
        [sys.executable, str(script), str(folder / "questions.json"), str(folder / "answers.pt")],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers: Mapping[str, list[Any]] = torch.load(folder / "answers.pt", weights_only=False)
    return answers
