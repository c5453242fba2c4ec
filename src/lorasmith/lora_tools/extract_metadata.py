"""What an extracted LoRA says of itself."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from lorasmith.adapters.registry import ALGORITHMS
from lorasmith.formats.training_metadata import IMPLEMENTATIONS, ModelSpec
from lorasmith.lora_tools.checkpoint_diff import Differences


def extract_metadata(
    differences: Differences,
    title: str,
    kind: str,
    ranks: Collection[int],
    conv: Collection[int] | None,
    error: float,
) -> dict[str, str]:
    """sd-scripts' minimum of ``ss_`` keys, modelspec, and what was extracted from what.

    Args:
        ranks: which there are among the Linear modules.
        conv: and among the convolutions; None where these were not asked for.
        error: ‖D - what the LoRA adds‖ / ‖D‖.
    """
    architecture = differences.base.architecture
    family, prediction = architecture.family, architecture.prediction
    base, tuned = (Path(opened.source).name for opened in (differences.base, differences.tuned))
    row = ALGORITHMS["c3lier" if kind == "lora" and conv is not None else kind]
    args: dict[str, str] = {} if row.algo is None else {"algo": row.algo}
    if conv is not None:
        args |= {"conv_dim": _dim(conv), "conv_alpha": _dim(conv)}
    side = architecture.native_resolution
    spec = ModelSpec(
        architecture=family.modelspec[prediction],
        implementation=IMPLEMENTATIONS[family.unet_names],
        title=title,
        resolution=(side, side),
        prediction=prediction,
        description=f"the difference of {tuned} to {base}",
    )
    said = {
        "ss_v2": str(family.name == "sd2"),
        "ss_base_model_version": family.base_model_version[prediction],
        "ss_network_module": row.module,
        "ss_network_dim": _dim(ranks),
        "ss_network_alpha": _dim(ranks),
        "ss_output_name": title,
        "ss_sd_model_name": base,
        "ss_training_comment": f"extracted from {tuned} by lorasmith",
        "lorasmith.extract": json.dumps(
            {"base": base, "tuned": tuned, "relative_error": float(f"{error:.6g}")}
        ),
    }
    if args:
        said["ss_network_args"] = json.dumps(args)
    return {**said, **spec.metadata()}


def _dim(ranks: Collection[int]) -> str:
    """As sd-scripts writes ranks that differ."""
    return str(*ranks) if len(ranks) == 1 else "Dynamic"
