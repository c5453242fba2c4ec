"""The kinds of run: one choice in the settings, one row of facts, one that builds it."""

from __future__ import annotations

from lorasmith.config.kinds import KINDS as FACTS
from lorasmith.config.schema import all_settings, sections
from lorasmith.training.kinds.table import KINDS


def test_each_choice_has_its_facts_and_what_builds_it() -> None:
    assert set(all_settings()["train.kind"].choices) == set(FACTS) == set(KINDS)


def test_facts_name_sections_and_parts_that_there_are() -> None:
    from lorasmith.config.load import load_settings

    for name, facts in FACTS.items():
        settings = load_settings(None, {"train.kind": name})
        assert set(facts.sections) <= set(sections()), name
        rates = {f"{part}_lr" for part in facts.trains(settings)}
        assert rates <= set(type(settings.optimizer).model_fields), name
        assert any(facts.trains(settings).values()), name
