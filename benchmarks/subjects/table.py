"""The table that results of training subjects make: pooled shares with their intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median

from scipy.stats import binomtest


def share(rows: Sequence[dict], value: str) -> str:
    """Percent over all drawings of some rows, with its 95 % interval (Wilson's)."""
    drawings = sum(row["count"] for row in rows)
    hits = round(sum(row[value] * row["count"] for row in rows))
    interval = binomtest(hits, drawings).proportion_ci(method="wilson")
    return f"{100 * hits / drawings:.1f} ({100 * interval.low:.0f}-{100 * interval.high:.0f})"


def kept(rows: Sequence[dict]) -> str:
    """Mean points lost of shape / colour / hat, where more is kept."""
    return " / ".join(
        f"{100 * fmean(row['kept'][name] - row['before'][name] for row in rows):+.0f}"
        for name in rows[0]["kept"]
    )


def table(results: Sequence[dict], cases: Sequence[str]) -> str:
    """Markdown: a row per case and kind of subject."""
    groups: dict[tuple[str, str, int], list[dict]] = defaultdict(list)
    for row in results:
        if not row["snapshot"]:
            groups[row["case"], row["kind"], row["images"]].append(row)
            if row["kind"] != "pair":
                groups[row["case"], "all", row["images"]].append(row)
    columns = (
        *("settings", "subjects", "images", "runs", "drawings", "fidelity %", "leak %"),
        *("base kept, points", "mixing %", "diversity", "steps", "s of one core"),
    )
    lines = [f"| {' | '.join(columns)} |", "| --- | --- |" + " ---: |" * (len(columns) - 2)]
    order = ["all", "character", "style", "concept", "pair"]
    for case, kind, images in sorted(
        groups, key=lambda key: (cases.index(key[0]), key[2], order.index(key[1]))
    ):
        if case not in cases:
            continue
        rows = groups[case, kind, images]
        lines.append(
            f"| {case} | {kind} | {images} | {len(rows)} | {sum(row['count'] for row in rows)} | "
            f"{share(rows, 'fidelity')} | {share(rows, 'leak')} | {kept(rows)} | "
            f"{share(rows, 'mixing') if kind == 'pair' else ''} | "
            f"{fmean(row['diversity'] for row in rows):.2f} | "
            f"{median(row['steps'] for row in rows):.0f} | "
            f"{fmean(row['seconds'] for row in rows):.0f} |"
        )
    return "\n".join(lines)
