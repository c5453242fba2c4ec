"""What advice is given about: a dataset and a base, looked at as a run would."""

from __future__ import annotations

import json
from pathlib import Path

from lorasmith.advice.advise.case import Base, Case, read_pictures
from lorasmith.config.load import Override, load_settings
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.files import read_safetensors_header
from lorasmith.models.open import OpenedCheckpoint, locate
from lorasmith.training.setup.base_defaults import read_entry
from lorasmith.training.setup.preflight import open_base, preflight

# Entries of a checkpoint's metadata that may hold its name, or those of what it was merged of.
_NAMING = ("modelspec.title", "modelspec.description", "sd_merge_recipe", "ss_output_name")
_MOST_LETTERS = 20_000


def examine(
    data: Path,
    model: str = "demo",
    *,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Case:
    """
    Args:
        data: folder of images, as ``data.path``.
        model: as ``model.path``.

    Raises:
        UserError: with everything that would stop a run on them.
        Stopped: by the controls.
    """
    overrides = [
        Override("data.path", json.dumps(str(data), ensure_ascii=False), "DIR"),
        Override("model.path", json.dumps(model, ensure_ascii=False), "--model"),
    ]
    settings = load_settings(None, overrides, for_training=True)
    run_plan = preflight(settings, observer=observer, controls=controls)
    checkpoint = open_base(settings)
    assert run_plan.suited is not None
    says, _ = read_entry(checkpoint.defaults, model)
    base = Base(
        model, checkpoint.architecture, run_plan.suited, frozenset(says), _names(checkpoint)
    )
    return Case(read_pictures(run_plan), base, run_plan)


def _names(checkpoint: OpenedCheckpoint) -> str:
    """What the file and its metadata call the model, in lower case."""
    path = locate(checkpoint.reference.path)
    texts = [Path(str(checkpoint.reference.path)).name]
    if path.suffix == ".safetensors":
        metadata = read_safetensors_header(path).metadata
        texts += [metadata.get(name, "")[:_MOST_LETTERS] for name in _NAMING]
    return " ".join(texts).lower()
