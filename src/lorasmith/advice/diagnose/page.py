"""Diagnoses as one HTML file that compares them: drawings inside, no network, printable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lorasmith.advice.diagnose.cause import Cause
from lorasmith.advice.diagnose.diagnosis import Diagnosis
from lorasmith.advice.diagnose.sections import best_at
from lorasmith.advice.diagnose.view import commands
from lorasmith.advice.html_report import as_html, small_picture, write_report
from lorasmith.core.text import quantity
from lorasmith.measures.records import FULL, KINDS, PLAIN
from lorasmith.measures.strength_grid import StrengthGrid
from lorasmith.measures.verdict import WORDS

_DRAWN = 6  # of each kind
_RUINED = 10.0

_SEVERITY = {"under": "warning", "well": "note", "over": "error"}
_KINDS = {
    "base, with the trigger": ("base", KINDS[FULL]),
    "strength 0.6": ("", KINDS["0.6"]),
    "strength 1": ("", KINDS[FULL]),
    "strength 1.4": ("", KINDS["1.4"]),
    "base, without the trigger": ("base", PLAIN),
    "strength 1, without the trigger": ("", PLAIN),
}


def write_page(path: Path, diagnoses: Sequence[Diagnosis]) -> None:
    """
    Args:
        path: the file.
        diagnoses: one or more.

    Raises:
        RunError: it cannot be written.
    """
    pictures = _Pictures()
    body = "".join(_section(number, one, pictures) for number, one in enumerate(diagnoses))
    write_report(
        path,
        title="Diagnosis: " + ", ".join(one.subject.name for one in diagnoses),
        summary=quantity(len(diagnoses), "LoRA") + " measured." + _comparison(diagnoses),
        body=body,
        more="Numbers after ± are standard errors. Losses are changes since the base model.",
        pictures=pictures.data,
    )


class _Pictures:
    """Each is in the file once; JPEGs in base64, in the order of their numbers."""

    def __init__(self) -> None:
        self.data: list[str] = []

    def add(self, path: Path) -> int | None:
        """Its number; ``None`` where it cannot be read."""
        data = small_picture(path)
        if not data:
            return None
        self.data.append(data)
        return len(self.data) - 1


def _comparison(diagnoses: Sequence[Diagnosis]) -> str:
    heads = ("LoRA", "is", "likeliest cause", "loss", "likeness", "copying", "leak", "best at")
    rows = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in _cells(number, one)) + "</tr>"
        for number, one in enumerate(diagnoses)
    )
    head = "".join(f"<th>{head}</th>" for head in heads)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cells(number: int, one: Diagnosis) -> Iterator[str]:
    measures, grid = one.evidence.measures, one.evidence.grid
    yield f'<a href="#lora-{number}">{as_html(one.subject.name)}</a>'
    yield WORDS[one.verdict.state] if one.verdict else ""
    yield as_html(one.causes[0].rule.title) if one.causes else "none"
    if measures is None:
        yield from ("", "", "", "")
    else:
        errors = measures.errors
        yield _change(measures.loss[FULL])
        likeness = measures.likeness.get(FULL)
        yield "" if likeness is None else _with_error(f"{likeness:.0%}", errors.get("likeness"))
        yield "" if measures.copying is None else f"{measures.copying:.2f}"
        yield "" if measures.plain_moved is None else f"{measures.plain_moved:.2f}"
    if grid is None:
        yield ""
        return
    yield best_at(grid).removeprefix("best at ")


def _with_error(value: str, error: float | None) -> str:
    return value if error is None else f"{value} ± {error:.0%}"


def _change(value: float) -> str:
    return f"{value:+.0%}" if abs(value) < _RUINED else "ruined"


def _section(number: int, one: Diagnosis, pictures: _Pictures) -> str:
    verdict = one.verdict
    severity = _SEVERITY[verdict.state] if verdict else "note"
    state = f'<span class="severity">{WORDS[verdict.state]}</span>' if verdict else ""
    model = f'<span class="id">on {as_html(one.subject.settings.model.path)}</span>'
    head = f'<div class="head">{state}<h2>{as_html(one.subject.name)}</h2>{model}</div>'
    parts = [f'<section class="{severity}" id="lora-{number}">{head}']
    if verdict:
        parts.append(f"<p>{as_html('; '.join(verdict.reasons))}.</p>")
    parts += [_cause(cause) for cause in one.causes]
    if not one.causes:
        parts.append(f"<p>{one.no_cause}</p>")
    for section in one.sections:
        parts.append(f"<article><h3>{as_html(section.title)}</h3>")
        if section.id == "parts" and one.evidence.grid is not None:
            parts.append(_grid(one.evidence.grid))
        if section.id == "blocks":
            parts.append(_blocks(one))
        parts += [f"<p>{as_html(line)}</p>" for line in section.lines]
        parts.append("</article>")
    parts += _drawings(one, pictures)
    parts += [f'<p class="soft">Not answered: {as_html(line)}</p>' for line in one.unknown]
    return "".join(parts) + "</section>"


def _cause(cause: Cause) -> str:
    found = cause.suspicion
    evidence = "".join(f"<li>{as_html(line)}</li>" for line in found.evidence)
    source = f" ({as_html(cause.rule.source)})" if cause.rule.source else ""
    code = "".join(f"<p><code>{as_html(line)}</code></p>" for line in commands(cause))
    return (
        f"<article><h3>{as_html(cause.rule.title)} "
        f'<span class="id">{cause.id}, {found.likelihood:.0%}</span></h3>'
        f"<ul>{evidence}</ul>"
        f'<p class="why">{as_html(cause.rule.why)}{source}</p>'
        f"<p>{as_html(found.todo)}</p>{code}</article>"
    )


def _grid(grid: StrengthGrid) -> str:
    means = grid.means()
    lowest = min(min(row) for row in means)
    head = "".join(f"<th>{strength:g}</th>" for strength in grid.text_encoder)
    rows = "".join(
        f"<tr><th>{strength:g}</th>"
        + "".join(
            f'<td class="best">{_change(value)}</td>'
            if value == lowest
            else f"<td>{_change(value)}</td>"
            for value in row
        )
        + "</tr>"
        for strength, row in zip(grid.unet, means, strict=True)
    )
    return (
        f'<div class="scroll"><table><thead><tr><th>UNet, text encoder</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _blocks(one: Diagnosis) -> str:
    effects = one.results.get("blocks")
    if effects is None:
        return ""
    rows = "".join(
        f'<tr><td>{block}</td><td><span class="bar" style="width:'
        f'{max(0.0, min(1.0, share)) * 200:.0f}px"></span></td>'
        f"<td>{share:.1%} ± {error:.1%}</td></tr>"
        for block, (share, error) in effects.contributions().items()
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _drawings(one: Diagnosis, pictures: _Pictures) -> Iterator[str]:
    """Training pictures, and what was drawn for ``pick``'s measures, a row for each kind."""
    eval_set = one.subject.eval_set
    if eval_set is None:
        return
    references = [item.image.path for item in eval_set.references.items]
    yield _row("training pictures", references[:_DRAWN], pictures)
    if one.drawings is None:
        return
    for title, (name, kind) in _KINDS.items():
        stem = name or one.subject.fingerprint[:12]
        paths = [one.drawings / f"{stem}-{kind}-{number}.png" for number in range(_DRAWN)]
        yield _row(title, [path for path in paths if path.is_file()], pictures)


def _row(title: str, paths: Sequence[Path], pictures: _Pictures) -> str:
    numbers = [number for path in paths if (number := pictures.add(path)) is not None]
    if not numbers:
        return ""
    figures = "".join(f'<figure><img data-number="{number}" alt=""></figure>' for number in numbers)
    return f'<article><h3>{as_html(title)}</h3><div class="pictures">{figures}</div></article>'
