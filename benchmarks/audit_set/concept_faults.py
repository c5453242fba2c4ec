"""Faults of whole concepts and of the regularisation folder."""

from __future__ import annotations

from benchmarks.audit_set.faults import CONCEPT_FAULTS, Fault, Planter, fault, register

plants = register(CONCEPT_FAULTS)


def rename_folder(planter: Planter, concept: str, repeats: int | None, noun: str | None) -> None:
    pictures = planter.set.of(concept)
    old = pictures[0].path.parent
    number, _, name = old.name.partition("_")
    new = old.with_name(f"{repeats or number}_{noun or name}")
    old.rename(new)
    for picture in pictures:
        picture.path = new / picture.name


@plants
def out_of_balance(planter: Planter) -> Fault:
    concept = planter.rng.choice(["first", "style"])
    repeats = planter.rng.choice([30, 50] if concept == "first" else [2, 60])
    rename_folder(planter, concept, repeats, None)
    return fault(f"{repeats} repeats of one concept", [], "balance", "", [])


@plants
def one_trigger_for_two(planter: Planter) -> Fault:
    word, own = planter.set.triggers["first"], planter.set.triggers["third"]
    for picture in planter.set.of("third"):
        picture.tags = [word if tag == own else tag for tag in picture.tags]
        picture.write_tags()
    rename_folder(planter, "third", None, f"{word} cousin")
    return fault("two persons by one name", [], "shared trigger", "", [word])


@plants
def trigger_in_regularisation(planter: Planter) -> Fault:
    pictures = planter.some(3, 12, concepts=["person"])
    word = planter.set.triggers["first"]
    for picture in pictures:
        picture.tags.insert(0, word)
        picture.write_tags()
    return fault(f"{word} in captions of reg", pictures, "regularisation trigger", "", [word])


@plants
def regularisation_of_another_name(planter: Planter) -> Fault:
    rename_folder(planter, "person", None, "landscape")
    return fault("reg is named landscape, not person", [], "regularisation name")


@plants
def copied_into_regularisation(planter: Planter) -> Fault:
    picked = planter.pick(planter.rng.randint(1, 3), concepts=["first"])
    folder = planter.set.of("person")[0].path.parent
    names = set()
    for picture in picked:
        path = folder / f"reg copy of {picture.name}"
        path.write_bytes(picture.path.read_bytes())
        tags = ["person", *picture.tags[1:]]
        path.with_suffix(".txt").write_text(", ".join(tags) + "\n", encoding="utf-8")
        names.add(path.name)
    one = fault(
        "training pictures in reg", picked, "exact duplicate, near duplicate", "same caption"
    )
    one.files |= names
    return one
