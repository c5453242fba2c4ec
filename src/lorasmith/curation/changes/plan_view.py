"""A plan for people: each caption with what goes and what comes, and tags by their counts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from difflib import SequenceMatcher

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lorasmith.core.errors import Problem
from lorasmith.core.terminal import clean
from lorasmith.core.text import quantity
from lorasmith.curation.changes.change import Change, Kind
from lorasmith.curation.changes.plan import Plan

_VERBS = {
    "write": "changed", "new": "new", "move": "moved", "remove": "to the trash", "folder": "new",
}  # fmt: skip
_TAGS_SHOWN = 15
_AROUND = 2  # tags shown before and after what changes
_LONG = 20_000  # characters; comparing takes the square of the tags
# Fewer are fewer than 75 tokens, with a letter or a sign in each and a space between.
_BYTES_OF_A_ROW = 150
_PIECES = re.compile(r"[^,\n]*[,\n]?\s*")


def render(plan: Plan, most: int | None = 20) -> RenderableType:
    """
    Args:
        most: so many changes are shown; ``None`` for all.
    """
    return Group(*_parts(plan, most))


def _parts(plan: Plan, most: int | None) -> Iterator[RenderableType]:
    if not plan.changes:
        yield Text("nothing to change")
    shown = plan.changes if most is None else plan.changes[:most]
    for change in shown:
        yield _change(change, plan)
    if len(shown) < len(plan.changes):
        rest = quantity(len(plan.changes) - len(shown), "more file")
        yield Text(f"… and {rest} (--all shows them)", "dim")
    rows = plan.tag_counts()
    if rows:
        yield Text("")
        yield _tags(rows if most is None else rows[:_TAGS_SHOWN])
        if most is not None and len(rows) > _TAGS_SHOWN:
            yield Text(f"… and {quantity(len(rows) - _TAGS_SHOWN, 'more tag')}", "dim")
    for warning in plan.warnings if most is None else plan.warnings[:most]:
        yield _told("warning: ", warning, plan, "yellow")
    if most is not None and len(plan.warnings) > most:
        rest = quantity(len(plan.warnings) - most, "more warning")
        yield Text(f"… and {rest} (--all shows them)", "yellow")
    for note in plan.notes:
        yield Text(clean(note, lines=False))
    for problem in plan.skipped if most is None else plan.skipped[:most]:
        yield _told("left out: ", problem, plan, "red")
    if most is not None and len(plan.skipped) > most:
        rest = quantity(len(plan.skipped) - most, "more file")
        yield Text(f"… and {rest} left out (--all shows them)", "red")
    if plan.changes:
        counts = ", ".join(
            f"{quantity(count, noun_of(kind))} {_VERBS[kind]}"
            for kind, count in plan.counts().items()
        )
        yield Text.assemble("\n", (counts, "bold"))


def _told(heading: str, problem: Problem, plan: Plan, style: str) -> Text:
    return Text(f"{heading}{plan.shown(problem)}", style)


def noun_of(kind: Kind) -> str:
    """What a change of this kind changes."""
    return "folder" if kind == "folder" else "file"


def _change(change: Change, plan: Plan) -> Text:
    line = Text.assemble((plan.name_of(change.path), "bold"))
    what = clean(change.what, lines=False)
    if change.kind == "folder":
        return line.append("/  new folder", "green")
    if change.target is not None:
        return line.append(f" -> {plan.name_of(change.target)}", "green")
    if change.kind == "remove":
        line.append("  to the trash", "red")
        return line.append(f": {what}" if what else "")
    if what:
        line.append(f"  {what}", "green")
    texts = change.texts()
    if texts is None:
        return line
    return line.append("\n  ").append_text(_difference(*texts)).append_text(_length(texts[1]))


def _length(caption: str) -> Text:
    """How long a caption gets, where that is more than trainers read by default."""
    if len(caption.encode(errors="replace")) <= _BYTES_OF_A_ROW or len(caption) > _LONG:
        return Text()
    from lorasmith.models.tokenizer import ROW, count_tokens

    tokens = count_tokens(caption.strip().split("\n", 1)[0])
    return Text(f"  ({tokens} tokens)", "yellow") if tokens > ROW else Text()


def _difference(before: str, after: str) -> Text:
    """Word by word as git shows it: [-what goes-] {+what comes+}, and two tags around; of what is
    much too long for a caption only how much changes."""
    old, new = _pieces(before), _pieces(after)
    if len(before) + len(after) > _LONG:
        tags_before, tags_after = Counter(map(_tag, old)), Counter(map(_tag, new))
        gone, come = (tags_before - tags_after).total(), (tags_after - tags_before).total()
        return Text(f"{len(old):,} tags, of which {gone:,} go; {come:,} come")
    text = Text()
    # By the tags alone: what comes last has no comma behind it.
    matcher = SequenceMatcher(None, [*map(_tag, old)], [*map(_tag, new)], autojunk=False)
    operations = matcher.get_opcodes()
    for index, (kind, a, b, c, d) in enumerate(operations):
        if kind == "equal":
            first, last = index == 0, index == len(operations) - 1
            text.append_text(_unchanged(new[c:d], first=first, last=last))
            continue
        for sign, pieces, style in (("-", old[a:b], "red"), ("+", new[c:d], "green")):
            going = "".join(pieces).strip()
            if going and text.plain and not text.plain[-1].isspace():
                text.append(" ")
            if going:
                brackets = "[]" if sign == "-" else "{}"
                text.append(f"{brackets[0]}{sign}{going}{sign}{brackets[1]}", style)
                text.append("\n" if sign == "+" and "\n" in pieces[-1] else " ")
    if len(operations) == 1 and operations[0][0] == "equal":
        text = Text(after.strip()).append("  (spaces, commas or line ends)", "yellow")
    text.rstrip()
    return text


def _pieces(text: str) -> list[str]:
    """Tags, each with what stands behind it; without the end of the last line."""
    return [piece for piece in _PIECES.findall("\n".join(text.rstrip().splitlines())) if piece]


def _tag(piece: str) -> str:
    return piece.strip(", \t\r\n")


def _unchanged(pieces: list[str], *, first: bool, last: bool) -> Text:
    before = 0 if first else _AROUND
    after = 0 if last else _AROUND
    if len(pieces) <= before + after + 1:
        return Text("".join(pieces))
    head = "".join(pieces[:before])
    tail = "".join(pieces[len(pieces) - after :])
    return Text.assemble(head, ("… ", "dim"), tail)


def _tags(rows: list[tuple[str, int, int]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("tag", overflow="fold")
    for heading in ("before", "after"):
        table.add_column(heading, justify="right")
    for tag, before, after in rows:
        style = "green" if after > before else "red"
        table.add_row(Text(tag), str(before), Text(str(after), style))
    return table
