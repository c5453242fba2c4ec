"""docs/dataset-audit.md has every rule as it is."""

from __future__ import annotations

from tools import audit_rules

from lorasmith.advice.audit.rules import RULES


def test_the_page_has_the_rules_as_they_are() -> None:
    page = audit_rules.PAGE.read_text(encoding="utf-8")
    assert page == audit_rules.renewed(page), "run `make docs`"
    assert all(page.count(f"| `{rule.id}` |") == 1 for rule in RULES)
