"""The settings that diffusers keeps in a LoRA file's header: ranks and alphas of peft."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from lorasmith.formats.key_styles import styled_name
from lorasmith.lora_tools.lora_file import LoraModule

KEY = "lora_adapter_metadata"


def peft_config(modules: Iterable[LoraModule], family: str) -> dict[str, str]:
    """The header entry for a file of these modules, all of them LoRA.

    diffusers reads it since 0.35; without it, alpha is taken to be the rank.
    """
    by_part: dict[str, list[tuple[str, LoraModule]]] = {}
    for module in modules:
        name = styled_name(module.key, "lora_down.weight", "diffusers", family)
        assert name is not None
        part, _, path = name.removesuffix(".lora_A.weight").partition(".")
        # Without transformers 4's text_model: peft compares the ends of paths.
        by_part.setdefault(part, []).append((path.removeprefix("text_model."), module))
    settings: dict[str, Any] = {}
    for part, layers in by_part.items():
        own = _peft_settings(layers)
        settings |= {f"{part}.{key}": value for key, value in own.items()}
    return {KEY: json.dumps(settings, sort_keys=True)}


def _peft_settings(layers: list[tuple[str, LoraModule]]) -> dict[str, Any]:
    """Arguments of peft's ``LoraConfig``."""
    rank = Counter(module.rank for _, module in layers).most_common(1)[0][0]
    alpha = Counter(module.alpha for _, module in layers).most_common(1)[0][0]
    return {
        "r": rank,
        "lora_alpha": _number(alpha),
        "rank_pattern": {path: m.rank for path, m in layers if m.rank != rank},
        "alpha_pattern": {path: _number(m.alpha) for path, m in layers if m.alpha != alpha},
        "target_modules": sorted(path for path, _ in layers),
        "use_dora": any(module.decomposed for _, module in layers),
        "peft_type": "LORA",
        "bias": "none",
    }


def _number(value: float) -> float | int:
    return int(value) if value.is_integer() else value
