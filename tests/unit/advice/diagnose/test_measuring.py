"""Where measures are kept, and the order of base models."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.advice.diagnose.made import evidence

from lorasmith.advice.diagnose import diagnose as diagnose_module
from lorasmith.advice.diagnose.diagnose import diagnose
from lorasmith.advice.diagnose.measuring import MEASURES, kept_path
from lorasmith.advice.diagnose.subject import Subject
from lorasmith.advice.diagnose.workbench import Workbench
from lorasmith.config.load import load_settings


def bench(precision: str = "auto", triggers: tuple[str, ...] = (), **values: str) -> Workbench:
    subject = SimpleNamespace(
        settings=load_settings(None, {k.replace("__", "."): v for k, v in values.items()}),
        fingerprint="lora",
        base_fingerprint="base",
        eval_set=None,
        triggers=triggers,
        kept=Path("kept"),
    )
    return Workbench(cast(Subject, subject), precision=precision)


def test_a_measure_is_kept_for_what_it_was_measured_with() -> None:
    before = kept_path(MEASURES[1], bench())
    assert kept_path(MEASURES[1], bench(model__path="moved.safetensors")) == before
    others = [
        bench("fp32"),
        bench(triggers=("zorp",)),
        bench(model__vae="other.safetensors"),
        bench(model__prediction="v"),
        bench(model__max_tokens="150"),
        bench(model__clip_skip="2"),
        bench(loss__zero_terminal_snr="true"),
        bench(sample__cfg="3"),
        bench(captions__separator=";"),
    ]
    assert len({before, *(kept_path(MEASURES[1], one) for one in others)}) == len(others) + 1


def test_all_are_measured_on_a_base_model_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[tuple[str, str]] = []

    def opened(path: Path, model: str | None, *_: object) -> Any:
        settings = SimpleNamespace(model=SimpleNamespace(path=model or "own"))
        return SimpleNamespace(name=path.name, settings=settings, kept=tmp_path, eval_set=None)

    def measured(one: Workbench, *_: object) -> tuple[dict[str, Any], list[str]]:
        order.append((str(one.subject.settings.model.path), one.subject.name))
        return {}, []

    monkeypatch.setattr(diagnose_module, "open_subject", opened)
    monkeypatch.setattr(diagnose_module, "measured", measured)
    monkeypatch.setattr(diagnose_module, "facts_of", lambda *_: evidence().facts)
    monkeypatch.setattr(diagnose_module, "_earlier", lambda *_: [])
    found = diagnose(["a", "b"], models=["x", "y"])
    assert order == [(model, name) for model in ("own", "x", "y") for name in "ab"]
    assert [[base.name for base in one.bases] for one in found] == [["own", "x", "y"]] * 2
    assert found[1].bases[1].subject.name == "b"
