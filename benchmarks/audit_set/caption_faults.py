"""Faults of captions and of tags."""

from __future__ import annotations

from benchmarks.audit_set.faults import CAPTION_FAULTS, Fault, Planter, fault, register
from benchmarks.audit_set.pictures import COLOURS, Picture, save

plants = register(CAPTION_FAULTS)
NEW = "seen once, unknown tag, always together"  # true of tags that only the fault brings
PEOPLE = ("first", "second")


def alone(picture: Picture) -> bool:
    return "solo" in picture.tags


@plants
def no_caption(planter: Planter) -> Fault:
    pictures = planter.some(1, 3)
    for picture in pictures:
        picture.caption.unlink()
        picture.tags = []
    return fault("no caption file", pictures, "missing caption")


@plants
def empty_caption(planter: Planter) -> Fault:
    pictures = planter.some(1, 2)
    for picture in pictures:
        picture.caption.write_text(planter.rng.choice(["", "\n", " \n"]), encoding="utf-8")
        picture.tags = []
    return fault("an empty caption", pictures, "empty caption", "trigger missing, missing caption")


@plants
def other_ending(planter: Planter) -> Fault:
    pictures = planter.some(2, 5)
    for picture in pictures:
        picture.caption.rename(
            picture.caption.with_suffix(planter.rng.choice([".caption", ".tags"]))
        )
        picture.tags = []
    return fault("captions as .caption or .tags", pictures, "missing caption, caption ending")


@plants
def far_too_long(planter: Planter) -> Fault:
    (picture,) = planter.pick()
    colours, things = list(COLOURS), ["ribbon", "scarf", "button", "pocket", "collar", "sleeve"]
    extra = [f"{c} {t}" for c in colours for t in things]
    picture.tags += planter.rng.sample(extra, planter.rng.randint(34, 44))
    picture.write_tags()
    also = f"{NEW}, contradiction, not consolidated, wrong tag, mixed prose"
    return fault(f"{len(picture.tags)} tags", [picture], "too long", also)


@plants
def trigger_missing(planter: Planter) -> Fault:
    pictures = planter.some(1, 3)
    for picture in pictures:
        picture.tags = picture.tags[1:]
        picture.write_tags()
    return fault("the trigger is not there", pictures, "trigger missing")


@plants
def trigger_last(planter: Planter) -> Fault:
    pictures = planter.some(1, 4, where=lambda p: len(p.tags) > 2)
    for picture in pictures:
        picture.tags = [*picture.tags[1:], picture.tags[0]]
        picture.write_tags()
    return fault("the trigger stands last", pictures, "trigger not first")


@plants
def trigger_twice(planter: Planter) -> Fault:
    pictures = planter.some(1, 2)
    for picture in pictures:
        picture.tags.append(picture.tags[0])
        picture.write_tags()
    return fault("the trigger stands there twice", pictures, "trigger twice, doubled tag")


@plants
def trigger_misspelt(planter: Planter) -> Fault:
    (picture,) = planter.pick()
    word = picture.tags[0]
    place = planter.rng.randint(1, len(word) - 2)
    wrong = word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    wrong = wrong if wrong != word else word[:-1]
    picture.tags[0] = wrong
    picture.write_tags()
    kinds = "trigger missing, seen once, not consolidated, misspelt tag"
    return fault(f"{wrong} for {word}", [picture], kinds, NEW, [wrong, word])


@plants
def two_hair_colours(planter: Planter) -> Fault:
    pictures = planter.some(1, 2, concepts=PEOPLE, where=alone)
    pair = planter.rng.sample(["red hair", "blonde hair", "black hair", "brown hair"], 2)
    for picture in pictures:
        picture.tags += pair
        picture.write_tags()
    what = " and ".join(pair)
    return fault(what, pictures, "contradiction", f"{NEW}, wrong tag", pair)


@plants
def solo_of_two(planter: Planter) -> Fault:
    (picture,) = planter.pick(concepts=PEOPLE, where=alone)
    picture.tags.append("2girls")
    picture.write_tags()
    return fault(
        "solo, 2girls", [picture], "contradiction", "wrong tag, seen once", ["solo", "2girls"]
    )


@plants
def meta_tags(planter: Planter) -> Fault:
    pictures = planter.some(2, 8)
    tags = planter.rng.sample(["highres", "absurdres", "commentary request", "bad id"], 2)
    for picture in pictures:
        picture.tags += tags
        picture.write_tags()
    return fault(", ".join(tags), pictures, "meta tag", NEW, tags)


@plants
def quality_tags(planter: Planter) -> Fault:
    pictures = planter.some(5, 15)
    tags = ["masterpiece", "best quality"]
    for picture in pictures:
        picture.tags[1:1] = tags
        picture.write_tags()
    return fault(", ".join(tags), pictures, "meta tag", NEW, tags)


@plants
def artist_tag(planter: Planter) -> Fault:
    pictures = planter.some(3, 8)
    tag = planter.rng.choice(["artist:odell", "by mira kestrel", "odell (artist)"])
    for picture in pictures:
        picture.tags.append(tag)
        picture.write_tags()
    return fault(tag, pictures, "meta tag", NEW, [tag])


@plants
def colour_and_plain(planter: Planter) -> Fault:
    def dressed(picture: Picture) -> bool:
        return any(tag.endswith(" shirt") for tag in picture.tags)

    pictures = planter.some(6, 12, concepts=["first"], where=dressed)
    for picture in pictures:
        picture.tags.append("shirt")
        picture.write_tags()
    colours = {tag for p in pictures for tag in p.tags if tag.endswith(" shirt")}
    what = "shirt beside a coloured shirt, in some"
    return fault(what, pictures, "not consolidated", "always together", {"shirt"} | colours)


@plants
def other_word(planter: Planter) -> Fault:
    words = {"grin": "grinning", "smile": "smiling", "closed eyes": "eyes closed"}
    word = planter.rng.choice(sorted(words))
    pictures = planter.some(3, 4, concepts=["first"], where=lambda p: word in p.tags)
    for picture in pictures:
        picture.tags[picture.tags.index(word)] = words[word]
        picture.write_tags()
    tags = [word, words[word]]
    what = f"{words[word]} in some, {word} in others"
    return fault(what, pictures, "not consolidated, misspelt tag", NEW, tags)


@plants
def typing_error(planter: Planter) -> Fault:
    words = {"simple background": "simple backgruond", "gradient background": "gradeint background"}
    words |= {"brick wall": "brick wal", "starry sky": "stary sky"}
    (picture,) = planter.pick(where=lambda p: bool(set(p.tags) & set(words)))
    word = next(tag for tag in picture.tags if tag in words)
    picture.tags[picture.tags.index(word)] = words[word]
    picture.write_tags()
    kinds = "seen once, not consolidated, unknown tag, misspelt tag"
    return fault(words[word], [picture], kinds, "always together", [words[word], word])


@plants
def underscores(planter: Planter) -> Fault:
    def of_two_words(picture: Picture) -> bool:
        return any(" " in tag for tag in picture.tags)

    pictures = planter.some(4, 10, where=of_two_words)
    tags = set()
    for picture in pictures:
        tags |= {tag for tag in picture.tags if " " in tag}
        picture.tags = [tag.replace(" ", "_") for tag in picture.tags]
        picture.write_tags()
    tags |= {tag.replace(" ", "_") for tag in tags}
    what = "underscores in some captions, spaces in others"
    return fault(what, pictures, "not consolidated, underscores, misspelt tag", NEW, tags)


@plants
def doubled_tag(planter: Planter) -> Fault:
    pictures = planter.some(1, 3, where=lambda p: len(p.tags) > 2)
    tags = set()
    for picture in pictures:
        tag = planter.rng.choice(picture.tags[1:])
        tags.add(tag)
        picture.tags.append(tag)
        picture.write_tags()
    return fault("a tag twice in one caption", pictures, "doubled tag", "", tags)


@plants
def pasted_caption(planter: Planter) -> Fault:
    pictures = planter.pick(planter.rng.randint(4, 7))
    for picture in pictures[1:]:
        picture.tags = list(pictures[0].tags)
        picture.write_tags()
    what = f"one caption on {len(pictures)} pictures"
    return fault(what, pictures, "same caption", "wrong tag, missing tag")


@plants
def prose_among_tags(planter: Planter) -> Fault:
    pictures = planter.some(1, 3)
    sentences = [
        "it stands in front of the viewer and looks as if nothing had happened today",
        "This picture shows a drawing with thick black lines and a few flat colours.",
        "a drawing of somebody who is waiting for the bus on a cold day in spring",
    ]
    for picture in pictures:
        picture.tags = [picture.tags[0], planter.rng.choice(sentences), *picture.tags[1:]]
        picture.write_tags()
    return fault("a sentence among tags", pictures, "mixed prose", NEW, sentences)


@plants
def caption_of_prose(planter: Planter) -> Fault:
    pictures = planter.some(2, 4)
    for picture in pictures:
        rest = " and ".join(picture.tags[1:])
        text = f"{picture.tags[0]} is shown here with {rest}. The lines are thick, all is flat."
        picture.caption.write_text(text + "\n", encoding="utf-8")
        picture.tags = [text]
    kinds = "mixed prose"
    return fault("prose where the others have tags", pictures, kinds, f"{NEW}, trigger missing")


@plants
def not_to_be_seen(planter: Planter) -> Fault:
    tag = planter.rng.choice(["sunglasses", "eyepatch"])
    pictures = planter.some(
        1,
        3,
        concepts=["first"],
        where=lambda p: not set(p.tags) & {"sunglasses", "eyepatch", "glasses"},
    )
    for picture in pictures:
        picture.tags.append(tag)
        picture.write_tags()
    return fault(f"{tag}, where there is none", pictures, "wrong tag", "", [tag])


@plants
def not_tagged(planter: Planter) -> Fault:
    pictures = planter.some(2, 4, concepts=["first"], where=lambda p: "sunglasses" in p.tags)
    for picture in pictures:
        picture.tags.remove("sunglasses")
        picture.write_tags()
    return fault(
        "sunglasses to be seen, not in the caption", pictures, "missing tag", "", ["sunglasses"]
    )


@plants
def never_off(planter: Planter) -> Fault:
    concept = planter.rng.choice(["second", "style"])
    tag = "bare shoulders" if concept == "second" else "thick outlines"
    pictures = planter.set.of(concept)
    for picture in pictures:
        if picture.tags and picture.caption.exists():
            text = picture.caption.read_bytes().rstrip()
            picture.caption.write_bytes(text + f", {tag}\n".encode())
            picture.tags.append(tag)
    kinds = "never varies, never off"
    return fault(f"{tag} in every caption of a concept", [], kinds, "always together", [tag])


@plants
def always_together(planter: Planter) -> Fault:
    pictures = planter.set.of("second")
    for picture in pictures:
        if "earrings" in picture.tags:
            picture.tags.append("indoors")
            picture.write_tags()
    tags = ["earrings", "indoors"]
    return fault("indoors wherever earrings are", [], "always together", "", tags)


@plants
def made_up_tag(planter: Planter) -> Fault:
    pictures = planter.some(3, 6)
    tag = planter.rng.choice(["blorptastic hat", "vree pose", "mukkelig look"])
    for picture in pictures:
        picture.tags.append(tag)
        picture.write_tags()
    return fault(tag, pictures, "unknown tag", "", [tag])


@plants
def not_utf8(planter: Planter) -> Fault:
    (picture,) = planter.pick()
    picture.tags.append("café")
    encoding = planter.rng.choice(["utf-16", "cp1252"])
    picture.caption.write_bytes(", ".join(picture.tags).encode(encoding))
    return fault(f"a caption in {encoding}", [picture], "caption encoding", NEW, ["café"])


@plants
def shared_name(planter: Planter) -> Fault:
    first, second = planter.pick(2)
    other = next(s for s in (".png", ".jpg") if s != first.path.suffix)
    path = first.path.with_suffix(other)
    second.path.unlink()
    second.caption.unlink()
    second.path = path
    save(second.image, path)
    second.tags = list(first.tags)
    what = "two pictures of one name, so of one caption"
    return fault(what, [first, second], "shared stem, same caption", "wrong tag, missing tag")
