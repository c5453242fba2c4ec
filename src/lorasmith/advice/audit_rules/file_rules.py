"""Rules about files: pictures that no run takes; what other programs make of caption files, and
which picture they belong to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from lorasmith.advice.audit.captions import WrittenCaption
from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.core.text import quantity, shortlist
from lorasmith.curation.changes.plan import Plan
from lorasmith.data.caption_files import decode
from lorasmith.data.layout import Unused

# Files of captions that lie beside images under other endings.
_ENDINGS = (".txt", ".caption", ".tags", ".cap")


def encodings(inputs: AuditInputs) -> Iterator[Finding]:
    by_encoding: dict[str, list[Path]] = defaultdict(list)
    for image, path in _caption_files(inputs):
        caption = inputs.files.texts.get(path)
        if caption is None or not caption.is_text:
            continue
        if caption.encoding != "UTF-8" or caption.has_mark:
            by_encoding[caption.encoding].append(image)
    for encoding, images in by_encoding.items():
        count = quantity(len(images), "caption", "is")
        mark = ", with a mark in front" if encoding == "UTF-8" else ""
        yield Finding(f"{count} in {encoding}{mark}", tuple(images), value=len(images))


def no_text(inputs: AuditInputs) -> Iterator[Finding]:
    for image, path in _caption_files(inputs):
        caption = inputs.files.texts.get(path)
        if caption is not None and not caption.is_text:
            yield Finding(
                f"{inputs.shown_name(path)} is not a text file; it is taken as empty", (image,)
            )


def _caption_files(inputs: AuditInputs) -> Iterator[tuple[Path, Path]]:
    """Each with its image; the first, where several share one."""
    known = set()
    for image in inputs.images:
        if image.caption_path is not None and image.caption_path not in known:
            known.add(image.caption_path)
            yield image.path, image.caption_path


def endings(inputs: AuditInputs) -> Iterator[Finding]:
    """Beside most images the caption has one ending, beside some another."""
    by_ending: dict[str, list[Path]] = defaultdict(list)
    for image in inputs.images:
        if image.caption_path is not None:
            by_ending[image.caption_path.suffix.lower()].append(image.path)
            continue
        others = {path.suffix.lower() for path in image.companions}
        for ending in sorted(others & set(_ENDINGS)):
            by_ending[ending].append(image.path)
    if len(by_ending) < 2:
        return
    usual = max(by_ending, key=lambda ending: len(by_ending[ending]))
    for ending, images in by_ending.items():
        if ending != usual:
            count = quantity(len(images), "picture", "has")
            what = f"{count} its caption in {ending}, {len(by_ending[usual])} in {usual}"
            yield Finding(what, tuple(images), value=len(images))


def shared_names(inputs: AuditInputs) -> Iterator[Finding]:
    by_file: dict[Path, list[WrittenCaption]] = defaultdict(list)
    for caption in inputs.captions:
        if caption.file is not None and caption.file.stem == caption.image.stem:
            by_file[caption.file].append(caption)
    for path, captions in by_file.items():
        if len(captions) > 1:
            names = shortlist([caption.image.name for caption in captions])
            where = inputs.shown_name(path)
            what = f"{len(captions)} pictures share the caption {where}: {names}"
            yield Finding(what, tuple(one.image for one in captions), value=len(captions))


def as_utf8(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    """The same text in UTF-8, without a mark."""
    plan = inputs.plan(findings[0].rule)
    for image in inputs.of_paths(path for finding in findings for path in finding.images):
        assert image.caption_path is not None
        data = image.caption_path.read_bytes()
        text, _ = decode(data)
        plan.write_text(image.caption_path, data, text.encode("utf-8"))
    return plan


def unused(inputs: AuditInputs) -> Iterator[Finding]:
    """Together: what they are about are no images of the dataset, by which findings are told
    apart."""
    by_advice: dict[tuple[str, str], list[str]] = defaultdict(list)
    for warning in inputs.files.warnings:
        if isinstance(warning, Unused):
            by_advice[warning.what, warning.hint].append(inputs.shown_name(Path(warning.where)))
    if by_advice:
        told = (f"{shortlist(names)}: {what} ({hint})" for (what, hint), names in by_advice.items())
        yield Finding("; ".join(told), value=sum(map(len, by_advice.values())))


FILE_RULES: tuple[Rule, ...] = (
    Rule(
        "not-used",
        "Pictures that are not used",
        "warning",
        unused,
        "They lie in the dataset, and no run takes them as they are.",
    ),
    Rule(
        "caption-encoding",
        "Captions that are not in UTF-8",
        "note",
        encodings,
        "They are read here; other trainers stop at them, or read other letters.",
        fix=as_utf8,
    ),
    Rule(
        "not-text",
        "Captions that are no text",
        "warning",
        no_text,
        "Something else was written under a caption's name: the picture has none.",
    ),
    Rule(
        "caption-endings",
        "Captions with another ending",
        "note",
        endings,
        "A run reads captions of one ending: .txt, else .caption, or what captions.extension says.",
    ),
    Rule(
        "shared-caption",
        "Pictures that share a caption file",
        "warning",
        shared_names,
        "They have one name and different endings, so one caption is of several pictures; rename "
        "one of them.",
    ),
)
