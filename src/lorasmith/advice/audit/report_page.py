"""An audit as one HTML file: small pictures inside, no network, printable."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lorasmith.advice.audit.audit import Audit
from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.html_report import as_html, as_prose, small_picture, write_report
from lorasmith.core.text import quantity, word_list

_IMAGES = 12  # of a finding
_FINDINGS = 60  # of a rule
# Of all small pictures; a page with more is slow to open. Each takes 5 kB.
_MOST_IMAGES = 2000


def write_page(path: Path, audit: Audit, inputs: AuditInputs) -> None:
    """
    Args:
        path: the file.
        audit: what was found.
        inputs: of the audit: names of files, and small pictures.

    Raises:
        RunError: it cannot be written.
    """
    pictures = _pictures(audit)
    numbers = {image: number for number, image in enumerate(pictures)}
    groups = audit.by_rule()
    sections = [_section(rule, some, numbers, inputs) for rule, some in groups.items()]
    write_report(
        path,
        title="Audit: " + ", ".join(str(folder) for folder in audit.folders),
        summary=as_html(_summary(audit)),
        contents="".join(_contents(groups)),
        body="".join(sections) or "<p>Nothing is wrong that these rules see.</p>",
        more="".join(_more(audit)),
        pictures=pictures.values(),
    )


def _pictures(audit: Audit) -> dict[Path, str]:
    """JPEGs in base64 of the images that are shown; without those that cannot be decoded."""
    shown = [
        image
        for findings in audit.by_rule().values()
        for finding in findings[:_FINDINGS]
        for image in finding.images[:_IMAGES]
    ]
    images = list(dict.fromkeys(shown))[:_MOST_IMAGES]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        encoded = dict(zip(images, pool.map(small_picture, images), strict=True))
    return {image: data for image, data in encoded.items() if data}


def _summary(audit: Audit) -> str:
    counts = [quantity(count, severity) for severity, count in audit.counts().items() if count]
    images = quantity(audit.images, "picture")
    return (
        f"{images}, {len(audit.rules)} rules: {word_list(counts) if counts else 'nothing found'}."
    )


def _contents(groups: Mapping[Rule, Sequence[Finding]]) -> Iterator[str]:
    for rule, findings in groups.items():
        yield f'<a href="#{rule.id}">{as_html(rule.title)} ({len(findings)})</a>'


def _section(
    rule: Rule, findings: Sequence[Finding], numbers: Mapping[Path, int], inputs: AuditInputs
) -> str:
    severity = findings[0].severity
    head = (
        f'<span class="severity">{severity}</span><h2>{as_html(rule.title)}</h2>'
        f'<span class="id">{rule.id}, {quantity(len(findings), "finding")}</span>'
    )
    parts = [
        f'<section class="{severity}" id="{rule.id}"><div class="head">{head}</div>',
        f'<p class="why">{as_html(rule.why)}</p>',
    ]
    if rule.source:
        parts.append(f'<p class="number">As in {as_html(rule.source)}</p>')
    if rule.threshold is not None:
        parts.append(f'<p class="number">Threshold: {rule.threshold:g} {as_html(rule.unit)}</p>')
    if rule.fix is not None:
        look = "" if rule.safe else " (look at what it would change before you agree)"
        command = inputs.command("audit", "--fix", rule.id)
        parts.append(f"<p><code>{as_html(command)}</code>{look}</p>")
    shown = findings[:_FINDINGS]
    single = all(len(one.images) == 1 and not _has_own(one) for one in shown)
    articles = "".join(_article(finding, numbers, inputs) for finding in shown)
    parts.append(f'<div class="few">{articles}</div>' if single else articles)
    if len(findings) > len(shown):
        parts.append(f'<p class="soft">and {len(findings) - len(shown)} more</p>')
    return "".join(parts) + "</section>"


def _article(finding: Finding, numbers: Mapping[Path, int], inputs: AuditInputs) -> str:
    what = as_html(finding.what)
    tags = "".join(f" <code>{as_html(tag)}</code>" for tag in finding.tags)
    figures = "".join(
        _figure(image, numbers.get(image), inputs) for image in finding.images[:_IMAGES]
    )
    left = len(finding.images) - _IMAGES
    more = f'<p class="soft">and {quantity(left, "more picture")}</p>' if left > 0 else ""
    command = f"<p><code>{as_html(finding.command)}</code></p>" if _has_own(finding) else ""
    pictures = f'<div class="pictures">{figures}</div>' if figures else ""
    key = f'<span class="id">{finding.key}</span>'
    return f"<article><p>{what}{tags} {key}</p>{command}{pictures}{more}</article>"


def _has_own(finding: Finding) -> bool:
    """Whether its command is another one than its rule's."""
    return bool(finding.command) and not finding.command.endswith(f"--fix {finding.key}")


def _figure(image: Path, number: int | None, inputs: AuditInputs) -> str:
    name = as_html(inputs.shown_name(image))
    shown = f'<img data-number="{number}" alt="{name}">' if number is not None else ""
    return f"<figure>{shown}<figcaption>{name}</figcaption></figure>"


def _more(audit: Audit) -> Iterator[str]:
    for missing, titles in audit.not_looked_at().items():
        yield f"<p>Not looked at: {as_prose(word_list(titles))}: {as_prose(missing)}</p>"
    if audit.ignored:
        yield f"<p>Ignored: {as_html(', '.join(one.key for one in audit.ignored))}</p>"
