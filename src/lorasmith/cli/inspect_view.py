"""What ``lorasmith inspect`` prints of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lorasmith.core.text import quantity, shortlist
from lorasmith.formats.key_styles import STYLES, UNKNOWN
from lorasmith.lora_tools.family import GUESSED_BLOCKS
from lorasmith.lora_tools.inspect.report import (
    CheckpointReport,
    Coverage,
    EmbeddingReport,
    Folder,
    LoraReport,
)

BAR = 40  # columns of the longest bar
_SHOWN_NAMES = 5
_SHOWN_TAGS = 20
_PRECISIONS = {"F16": "fp16", "BF16": "bf16", "F32": "fp32", "F64": "fp64"}


def lora_lines(report: LoraReport, *, modules: bool = False) -> Iterator[str]:
    """Lines for people, in the order of what they ask first.

    Args:
        modules: every module by itself too.
    """
    types = ", ".join(f"{kind} {count}" for kind, count in report.types.items()) or "nothing"
    yield f"{report.path}: a LoRA for {report.family.title} ({report.family.why})"
    yield _row("modules", f"{sum(report.types.values())} ({types}), in {_style(report.style)}")
    yield _row("ranks", _sizes(report.sizes))
    yield _row("file", f"{_megabytes(report.size)}, {_precision(report.precision)}")
    if report.embeddings:
        yield _row("embeddings", word_sizes(report.embeddings))
    yield from _warnings(report)
    if report.coverage:
        yield "\nlayers adapted"
        yield from (_row(_part(part), text, 20) for part, text in _covered(report.coverage))
    yield "\nnorm of the change, by block"
    yield from bars(report.blocks)
    if report.family.guesses_blocks:
        yield _row("note", GUESSED_BLOCKS)
    yield _row("all", f"{report.norm:.4g}")
    yield from _words(report)
    if report.training:
        yield "\ntraining"
        yield from (_row(name, value, 36) for name, value in report.training.items())
    yield "\nread by"
    for reader in report.read_by:
        yield _row(reader.program, reader.reads + (f": {reader.why}" if reader.why else ""), 16)
    yield "\nhashes"
    hashes = report.hashes
    yield _row("AutoV3", hashes.autov3 or "only safetensors files have one")
    yield _row("AutoV2", hashes.autov2)
    yield _row("AutoV1", hashes.autov1)
    yield _row("tensors", report.tensor_hash)
    if modules:
        yield "\nmodules"
        yield from _modules(report)


def embedding_lines(report: EmbeddingReport) -> Iterator[str]:
    """Lines for people."""
    several = len(report.embeddings) > 1
    yield f"{report.path}: {'embeddings' if several else 'an embedding'} for {report.family}"
    yield _row("words", word_sizes(report.embeddings))
    if report.word and report.word not in report.embeddings:
        yield _row("trained as", report.word)
    widths = ", ".join(f"{name} {width} wide" for name, width in report.widths.items())
    yield _row("file", f"{_megabytes(report.size)}; {widths}")
    yield _row("AutoV3", report.hashes.autov3 or "only safetensors files have one")
    yield _row("SHA-256", report.hashes.sha256)


def checkpoint_lines(report: CheckpointReport) -> Iterator[str]:
    """Lines for people."""
    yield f"{report.path}: a checkpoint of {report.summary}"
    yield _row("file", f"{_megabytes(report.size)}, {_precision(report.precision)}")
    for part, count in report.parameters.items():
        yield _row(part.replace("_", " "), f"{count / 1e6:.1f} million numbers", 16)
    ema = f"{report.ema} averaged weights beside the model's own" if report.ema else "none"
    yield _row("averages", ema)
    for text in report.baked:
        yield _row("baked", text)
    for note in report.notes:
        yield _row("note", note)
    if report.hashes is not None:
        yield _row("AutoV2", report.hashes.autov2)
        yield _row("AutoV1", report.hashes.autov1)
        yield _row("SHA-256", report.hashes.sha256)


def bars(blocks: Mapping[str, float]) -> Iterator[str]:
    """One bar a block, as long as its number, in eighths of a column."""
    largest = max(blocks.values(), default=0.0) or 1.0
    for block, value in blocks.items():
        eighths = round(8 * BAR * value / largest)
        bar = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
        yield f"  {block:<6} {bar:<{BAR}} {value:.3g}"


def _row(name: str, text: str, width: int = 10) -> str:
    return f"  {name:<{width}} {text}"


def word_sizes(words: Mapping[str, int]) -> str:
    """ "zorp (4 vectors)", of each word."""
    return ", ".join(f"{word} ({quantity(n, 'vector')})" for word, n in words.items())


def _warnings(report: LoraReport) -> Iterator[str]:
    kinds = (
        ("malformed", report.problems),
        ("not read", report.unread),
        ("NaN, inf", report.not_finite),
        ("dead", report.dead),
        ("unknown", report.unknown),
    )
    for name, entries in kinds:
        if entries:
            yield _row(name, f"{len(entries)}: {shortlist(list(entries), _SHOWN_NAMES)}")


def _sizes(sizes: tuple[tuple[int, float, int], ...]) -> str:
    shown = [f"{rank} (alpha {alpha:g}): {count}" for rank, alpha, count in sizes[:4]]
    more = f", and {len(sizes) - 4} other sizes" if len(sizes) > 4 else ""
    return (", ".join(shown) + more) or "none"


def _covered(coverage: tuple[Coverage, ...]) -> Iterator[tuple[str, str]]:
    parts = dict.fromkeys(line.part for line in coverage)
    for part in parts:
        lines = [line for line in coverage if line.part == part]
        yield part, ", ".join(f"{c.group} {c.adapted} of {c.layers}" for c in lines)


def _words(report: LoraReport) -> Iterator[str]:
    words = report.words
    if words.triggers or words.folders:
        yield "\nwords"
    if words.said:
        yield _row("trigger", ", ".join(words.triggers))
    for folder in () if words.said else words.folders:
        if folder.triggers:
            yield _row("trigger", _shares(folder))
    for folder in words.folders:
        tags = [f"{tag} {count}" for tag, count in list(folder.tags.items())[:_SHOWN_TAGS]]
        more = f", … ({len(folder.tags)} in all)" if len(folder.tags) > _SHOWN_TAGS else ""
        size = ""
        if folder.pictures:
            size = f" ({quantity(folder.pictures, 'picture')} x {folder.repeats})"
        yield _row(
            "regularisation" if folder.reg else "folder",
            f"{folder.name}{size}: {', '.join(tags)}{more}",
        )


def _shares(folder: Folder) -> str:
    """The tags of nearly all captions of a training folder, and of how many of them."""
    of = f" of {folder.pictures}" if folder.pictures else ""
    tags = ", ".join(f"{tag} ({folder.tags[tag]}{of})" for tag in folder.triggers)
    return f"{tags}, in captions of {folder.name}"


def _modules(report: LoraReport) -> Iterator[str]:
    for module in report.modules:
        norm = "      -" if module.norm is None else f"{module.norm:7.4g}"
        yield f"  {module.block:<6} {module.algorithm:<5} {module.rank:>4} {norm}  {module.key}"


def _part(part: str) -> str:
    return {"unet": "UNet"}.get(part, part.replace("_", " "))


def _style(style: str) -> str:
    row = STYLES.get(style, UNKNOWN)
    return row.title + row.detail


def _precision(counts: Mapping[str, int]) -> str:
    names = [_PRECISIONS.get(name, name) for name in counts]
    return " and ".join(names) or "no numbers"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size} bytes"
