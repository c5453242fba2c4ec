"""The tables of rules in docs/dataset-audit.md, made from the rules themselves.

python -m tools.audit_rules    # renew them
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lorasmith.advice.audit.finding import Rule
from lorasmith.advice.audit.rules import SUBJECTS

PAGE = Path(__file__).parents[1] / "docs" / "dataset-audit.md"
BEGIN, END = "<!-- rules: python -m tools.audit_rules -->", "<!-- end of rules -->"


def tables() -> str:
    """One table for each subject, a row for each rule."""
    return "\n\n".join("\n".join(_table(name, rules)) for name, rules in SUBJECTS.items())


def _table(name: str, rules: tuple[Rule, ...]) -> Iterator[str]:
    yield f"### {name}"
    yield ""
    yield "| id | what is found | severity | number | why | `--fix` |"
    yield "|---|---|---|---|---|---|"
    for rule in rules:
        number = "" if rule.threshold is None else f"{rule.threshold:g} {rule.unit}".rstrip()
        why = rule.why if not rule.source else f"{rule.why.rstrip('.')} ({rule.source})"
        fix = "" if rule.fix is None else "safe" if rule.safe else "after a look"
        severity = "; ".join(filter(None, (rule.severity, rule.otherwise)))
        cells = (f"`{rule.id}`", rule.title, severity, number, why, fix)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def renewed(page: str) -> str:
    """``page`` with the rules as they are now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
