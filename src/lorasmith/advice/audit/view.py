"""An audit on a terminal, 80 columns wide or more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from lorasmith.advice.audit.audit import Audit
from lorasmith.advice.audit.finding import SEVERITIES, Finding, Rule, Severity
from lorasmith.core.terminal import clean
from lorasmith.core.text import quantity, word_list

COLOURS: dict[Severity, str] = {"error": "red", "warning": "yellow", "note": "blue"}
_SHOWN = 3  # findings of a rule
_NAMES = 3
_TAGS = 6


def render(audit: Audit, *, show_all: bool = False) -> RenderableType:
    """
    Args:
        show_all: every finding, and what is ignored.
    """
    return Group(*_parts(audit, None if show_all else _SHOWN))


def _parts(audit: Audit, most: int | None) -> Iterator[RenderableType]:
    folders = ", ".join(clean(str(path), lines=False) for path in audit.folders)
    images = quantity(audit.images, "picture")
    yield Text.assemble(("Dataset  ", "bold"), f"{folders} ({images}, {len(audit.rules)} rules)")
    by_rule = audit.by_rule()
    for severity in SEVERITIES:
        groups = {
            rule: [finding for finding in findings if finding.severity == severity]
            for rule, findings in by_rule.items()
        }
        groups = {rule: findings for rule, findings in groups.items() if findings}
        if not groups:
            continue
        yield Text("")
        count = sum(map(len, groups.values()))
        yield Text(quantity(count, severity), f"bold {COLOURS[severity]}")
        for rule, findings in groups.items():
            yield Padding(Group(*_rule(rule, findings, audit, most)), (0, 0, 0, 2))
    for missing, titles in audit.not_looked_at().items():
        yield Text("")
        yield Text(f"Not looked at: {word_list(titles)}: {missing}", "dim")
    if audit.ignored:
        yield Text("")
        yield from _ignored(audit, most)
    yield Text("")
    yield from _verdict(audit)


def _rule(
    rule: Rule, findings: Sequence[Finding], audit: Audit, most: int | None
) -> Iterator[RenderableType]:
    yield Text.assemble((rule.title, "bold"), (f"  {rule.id}", "cyan"), f"  {len(findings)}")
    shown = findings if most is None else findings[:most]
    for finding in shown:
        yield Padding(_finding(finding, audit), (0, 0, 0, 2))
    if len(shown) < len(findings):
        yield Text(f"  and {len(findings) - len(shown)} more (--all)", "dim")
    why = f"{rule.why} ({rule.source})" if rule.source else rule.why
    yield Padding(Text(why, "dim"), (0, 0, 0, 2))
    commands = list(dict.fromkeys(finding.command for finding in findings if finding.command))
    if rule.fix is not None:
        commands = [f"--fix {rule.id}{'' if rule.safe else '   (look at the plan first)'}"]
    for command in commands[:1] if most is not None else commands:
        yield Padding(Text(f"-> {clean(command, lines=False)}", "cyan"), (0, 0, 0, 2))


def _finding(finding: Finding, audit: Audit) -> Text:
    names = [clean(audit.name_of(path), lines=False) for path in finding.images[:_NAMES]]
    more = len(finding.images) - len(names)
    subject = ", ".join(names) + (f" and {more} more" if more else "")
    tags = ", ".join(clean(tag, lines=False) for tag in finding.tags[:_TAGS])
    tags += ", …" if len(finding.tags) > _TAGS else ""
    line = Text()
    line.append(clean(finding.what, lines=False))
    if tags and not all(tag in finding.what for tag in finding.tags[:1]):
        line.append(f"  [{tags}]")
    if subject:
        line.append(f"  {subject}", "bold")
    _, _, key = finding.key.partition(":")
    if key:
        line.append(f"  :{key}", "dim")
    return line


def _ignored(audit: Audit, most: int | None) -> Iterator[RenderableType]:
    yield Text(f"{quantity(len(audit.ignored), 'finding', 'is')} ignored", "dim")
    if most is None:
        for finding in audit.ignored:
            yield Padding(Text(f"{finding.key}  {finding.what}", "dim"), (0, 0, 0, 2))


def _verdict(audit: Audit) -> Iterator[Text]:
    counts = {severity: count for severity, count in audit.counts().items() if count}
    if not counts:
        yield Text("Nothing is wrong that these rules see.", "green")
        return
    found = ", ".join(quantity(count, severity) for severity, count in counts.items())
    yield Text(f"{found}.", "bold")
    if any(rule.safe for rule in audit.by_rule()):
        yield Text("What loses nothing is mended by --fix all-safe; dataset undo takes it back.")
    yield Text("An id after --ignore (blurred, or blurred:12ab34cd) is told no more.", "dim")
