"""``lorasmith tokens``: what it prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from lorasmith.cli.options import command_for, run_shown
from lorasmith.core.terminal import echo, echo_json
from lorasmith.core.text import quantity
from lorasmith.jobs.dataset.stats import TokensRequest

if TYPE_CHECKING:
    from lorasmith.curation.token_counts import TokenizedText, TokenReport

# More texts than this are told in numbers, with those that are cut off.
_FEW = 10
_LONGEST = 20
# Behind what is up to 75 tokens, 150, 225 and more.
_NOTES = ("", "  (cut off at 75)", "  (cut off at 150)", "  (cut off even at 225)")


@command_for(TokensRequest)
@click.option("--pieces", is_flag=True, help="Show every token with its number.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it, as JSON.")
def tokens(request: TokensRequest, pieces: bool, as_json: bool) -> None:
    report = run_shown(request, to_stderr=True)
    if as_json:
        echo_json(report.to_json())
    else:
        echo("\n".join(_lines(report, pieces)))


def _lines(report: TokenReport, pieces: bool) -> Iterator[str]:
    texts = report.texts
    if len(texts) > _FEW and not pieces:
        yield f"Tokens  {report.counts} (of {quantity(len(texts), 'caption')})"
        longest = sorted(texts, key=lambda text: -text.tokens)
        texts = tuple(text for text in longest if text.tokens > 75)[:_LONGEST]
        more = sum(text.tokens > 75 for text in report.texts) - len(texts)
    else:
        more = 0
    for number, text in enumerate(texts):
        if number:
            yield ""
        yield from _of_text(text, pieces)
    if more:
        yield f"… and {more} more over 75 (--json lists all)"
    if report.empty:
        yield f"{quantity(len(report.empty), 'caption', 'is')} empty"


def _of_text(text: TokenizedText, pieces: bool) -> Iterator[str]:
    rows = text.rows()
    count = quantity(text.tokens, "token")
    if len(rows) < 2:
        yield f"{count} of 75  {text.source}"
    else:
        # A prompt follows whole.
        name = text.source if text.from_file else f"{text.source[:50]}…"
        yield f"{count}, {text.tokens - 75} more than 75  {name}"
        for (begin, end, part), note in zip(rows, _NOTES, strict=False):
            yield f"  {begin:>3} to {end:<3}  {part}{note}"
    for name, vectors in text.embeddings.items():
        yield f"  {name} is an embedding of {quantity(vectors, 'vector')}"
    if pieces:
        for word in text.words:
            shown = zip(word.pieces, word.ids, strict=True)
            yield "  " + "  ".join(f"{piece} {number}" for piece, number in shown)
    elif text.split_words:
        words = [f"{word} = {' + '.join(parts)}" for word, parts in text.split_words.items()]
        yield f"  in pieces  {', '.join(words)}"
