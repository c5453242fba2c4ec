"""Rules about images that are there more than once, or nearly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import CollectionImage, open_collection
from lorasmith.curation.facts import ImageFacts
from lorasmith.curation.sorting.dedupe import DuplicateGroup, find_duplicates, remove_images
from lorasmith.curation.sorting.duplicates import (
    MAX_DISTANCE,
    exact_duplicates,
    grey_difference,
)
from lorasmith.curation.sorting.versions import (
    CROPPED,
    MIRRORED,
    Version,
    cropped_copies,
    mirrored_copies,
)

# Two drawings of one person in one place that differ in expression: 11 to 20. Copies that were made
# smaller or compressed: 0 to 5.
NEARLY = 10.0
_CROPS, _MIRRORED = "crops 1", "mirrored 1"


def same_file(inputs: AuditInputs) -> Iterator[Finding]:
    for same in inputs.contents.values():
        if len(same) > 1:
            for group in find_duplicates(inputs.collection, same, exact=True):
                yield _alike(inputs, group, "the same file")


def near_duplicates(inputs: AuditInputs) -> Iterator[Finding]:
    for group in find_duplicates(inputs.collection, _different(inputs), facts=_facts_of(inputs)):
        best = inputs.facts[group.kept.path]
        nearly = [
            (image, why)
            for image, why in group.dropped
            if grey_difference(best, inputs.facts[image.path]) <= NEARLY
        ]
        if nearly:
            hashes = [inputs.facts[image.path].phash for image, _ in nearly]
            distance = max((best.phash ^ other).bit_count() for other in hashes)
            what = f"nearly the same ({distance} bits of 64 apart)"
            yield _alike(inputs, DuplicateGroup(group.kept, tuple(nearly)), what, distance)


def mirrored(inputs: AuditInputs) -> Iterator[Finding]:
    for whole, copy, difference in _versions(inputs, _MIRRORED, mirrored_copies):
        what = f"the second is the first mirrored ({difference:.0f} of 255 apart)"
        yield Finding(what, (whole, copy), value=round(difference, 1))


def cropped(inputs: AuditInputs) -> Iterator[Finding]:
    def find(facts: dict[Path, ImageFacts]) -> list[Version]:
        return cropped_copies(facts, inputs.controls)

    for whole, part, difference in _versions(inputs, _CROPS, find):
        what = f"the second is a part of the first ({difference:.0f} of 255 apart)"
        yield Finding(what, (whole, part), value=round(difference, 1))


def _versions(
    inputs: AuditInputs, kind: str, find: Callable[[dict[Path, ImageFacts]], list[Version]]
) -> Iterator[tuple[Path, Path, float]]:
    """Pairs with their difference; remembered of these very contents together."""
    facts = _facts_of(inputs)
    by_content = {one.content_hash: path for path, one in facts.items()}
    digest = blake2b("\0".join(sorted(by_content)).encode(), digest_size=16).hexdigest()
    pairs = inputs.looks.get(kind, [digest]).get(digest)
    if pairs is None:
        pairs = [
            (facts[one.whole].content_hash, facts[one.copy].content_hash, one.difference)
            for one in find(facts)
        ]
        inputs.looks.put(kind, {digest: pairs})
    for whole, copy, difference in pairs:
        yield by_content[whole], by_content[copy], difference


def in_regularisation(inputs: AuditInputs) -> Iterator[Finding]:
    training = dict.fromkeys(caption.image for caption in inputs.captions)
    reg = [caption.image for caption in inputs.reg_captions]
    for group in exact_duplicates([*training, *reg]) if reg else ():
        copies = [path for path in group if path not in training]
        if copies and len(copies) < len(group):
            original = next(path for path in group if path in training)
            what = "a regularisation picture is the same file as a training picture"
            yield Finding(what, (original, *copies), value=len(copies))


def _different(inputs: AuditInputs) -> list[CollectionImage]:
    """One of each content."""
    return [same[0] for same in inputs.contents.values()]


def _facts_of(inputs: AuditInputs) -> dict[Path, ImageFacts]:
    return {image.path: inputs.usable[image.path] for image in _different(inputs)}


def _alike(
    inputs: AuditInputs, group: DuplicateGroup, what: str, distance: float | None = None
) -> Finding:
    paths = (group.kept.path, *(image.path for image, _ in group.dropped))
    kept = inputs.shown_name(group.kept.path)
    others = "; ".join(
        f"{inputs.shown_name(image.path)} would go, as {kept} {why}"
        for image, why in group.dropped[:2]
    )
    return Finding(f"{len(paths)} are {what}; {others}", paths, value=distance)


def keep_the_best(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    """The first image of each finding stays, the others go into the trash."""
    plan = inputs.plan(findings[0].rule)
    kept = {path: finding.images[0] for finding in findings for path in finding.images[1:]}
    reasons = {
        image: f"as {inputs.shown_name(kept[image.path])}, which stays"
        for image in inputs.of_paths(kept)
    }
    remove_images(plan, inputs.collection, reasons)
    return plan


def out_of_regularisation(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    """The copies that regularisation has go into the trash of their own dataset."""
    copies = {path: finding.images[0] for finding in findings for path in finding.images[1:]}
    collection = open_collection(list(dict.fromkeys(path.parent for path in copies)))
    plan = Plan(f"audit --fix {findings[0].rule}", collection.roots)
    reasons = {
        image: f"as {inputs.shown_name(copies[image.path])}, which is trained on"
        for image in collection.images
        if image.path in copies
    }
    remove_images(plan, collection, reasons)
    return plan


COPY_RULES: tuple[Rule, ...] = (
    Rule(
        "same-file",
        "The same file twice",
        "warning",
        same_file,
        "What is there twice counts double, and is the first to be learned by heart.",
        fix=keep_the_best,
    ),
    Rule(
        "near-duplicates",
        "Nearly the same",
        "warning",
        near_duplicates,
        "Copies weigh double, and are learned by heart; two versions of one drawing may be meant.",
        threshold=MAX_DISTANCE,
        unit="bits of 64 by which perceptual hashes differ at most, and 24x24 thumbnails by "
        f"{NEARLY:.0f} of 255",
        fix=keep_the_best,
    ),
    Rule(
        "mirrored-copies",
        "Mirrored copies",
        "warning",
        mirrored,
        "A mirrored copy weighs double, and teaches that partings and emblems are on either side; "
        "augment.flip does the same without a second file.",
        threshold=MIRRORED,
        unit="of 255, by which 98 % of the cells of 24x24 thumbnails differ at most",
        fix=keep_the_best,
    ),
    Rule(
        "cropped-copies",
        "Parts of one another",
        "warning",
        cropped,
        "A picture and its crop weigh double, as copies do; a closer view of a face may be meant.",
        threshold=CROPPED,
        unit="of 255, by which 98 % of the cells of 32x32 thumbnails of the same part differ at "
        "most, with up to a quarter cut off each side",
        fix=keep_the_best,
    ),
    Rule(
        "in-regularisation",
        "Training pictures among the regularisation pictures",
        "warning",
        in_regularisation,
        "Regularisation is to keep what the base draws by itself; these teach the subject without "
        "its trigger.",
        fix=out_of_regularisation,
    ),
)
