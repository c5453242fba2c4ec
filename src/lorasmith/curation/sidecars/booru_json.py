"""JSON of one image: what gallery-dl and Hydrus write beside it, and what sites answer.

=============  ====================================================================================
Danbooru       ``tag_string_general`` … between spaces; gallery-dl adds lists ``tags_general`` …
e621           ``tags: {"general": […], "artist": […]}``, in ``post`` or ``posts``
Gelbooru       ``tags`` between spaces, in ``post``; gallery-dl's ``tags_artist`` … where it asked
Moebooru       ``tags`` between spaces
Philomena      ``tags``: a list with namespaces, in ``image`` or ``images``; ratings are tags
pixiv          ``tags``: a list of texts, or of dicts with a translation
Sankaku        ``tags``: a list of dicts with ``type``, a number or a word
Hydrus         lists of texts under any key that ends in "tags", as deep as the user put them
=============  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lorasmith.core.errors import DatasetError
from lorasmith.core.files import parse_json
from lorasmith.curation.sidecars.tags import (
    CATEGORIES,
    MOST_TAGS,
    SideCar,
    Tag,
    category_of,
    clean_tag,
    merge_tags,
    rating_tag,
    tags_of,
)
from lorasmith.curation.sidecars.text_files import parse_caption_file, text_of

# Keys that hold the posts of an answer.
_WRAPPERS = ("post", "posts", "image", "images", "item", "items", "data", "results")
_TEXT_KEYS = ("caption", "captions", "text", "prompt", "description")
# What tells a post of a site, whose texts are its author's, from a row of captions.
_OF_A_SITE = frozenset(
    {"category", "subcategory", "file_url", "md5", "file", "rating", "score", "source"}
    | {"representations", "image_urls", "uploader"}
)
# The order of kinds in a caption, where a site lists them apart.
_KIND_ORDER = ("character", "copyright", "artist", "species", "general")
# Of Hydrus' lists those of tags that were deleted, or asked to be.
_DELETED = ("2", "3")
# Of a dict that is one tag: its name, best in English, and its kind.
_NAME_KEYS = ("translated_name", "tagName", "name_en", "name", "tag")
_KIND_KEYS = ("category", "type", "kind")
_PHILOMENA_RATINGS = {"safe", "suggestive", "questionable", "explicit", "semi-grimdark", "grimdark"}
_DEEPEST = 6


def parse_json_text(data: bytes, where: object) -> Any:
    """
    Raises:
        DatasetError: it is no JSON.
    """
    try:
        return parse_json(text_of(data, where))
    except ValueError as error:
        what = f"is no JSON that can be read ({str(error)[:80]})"
        raise DatasetError.of(where, what, "get it again or remove it") from error


def posts_in(value: Any) -> list[Mapping[str, Any]]:
    """The posts of a site's answer or of a list, or the one that ``value`` is."""
    if isinstance(value, list):
        return [post for post in value if isinstance(post, dict)]
    if not isinstance(value, dict):
        return []
    for key in _WRAPPERS:
        inner = value.get(key)
        if isinstance(inner, dict) and read_post(inner):
            return [inner]
        if isinstance(inner, list) and any(isinstance(post, dict) for post in inner):
            return posts_in(inner)
    return [value]


def read_post(post: Mapping[str, Any]) -> SideCar:
    """What one post says of its image; nothing is raised, whatever it holds."""
    lists = [_by_kind(post), _all_tags(post), _philomena_ratings(post)]
    if not any(lists):
        lists = [_below(post)]
    lists.append(_rating(post))
    tags = merge_tags(lists)
    has_tags = any(tag.category != "rating" for tag in tags)
    text = "" if has_tags and not _OF_A_SITE.isdisjoint(post) else _text(post)
    caption = parse_caption_file(text)  # Perhaps a list of tags itself.
    return SideCar(merge_tags([caption.tags, tags]), caption.text)


def _by_kind(post: Mapping[str, Any]) -> list[Tag]:
    """Danbooru's ``tag_string_artist``, gallery-dl's ``tags_artist``, e621's ``tags["artist"]``."""
    tags: list[Tag] = []
    by_kind = post.get("tags")
    kinds: dict[str, Any] = dict(by_kind) if isinstance(by_kind, dict) else {}
    for key, value in post.items():
        for prefix in ("tag_string_", "tags_"):
            if isinstance(key, str) and key.startswith(prefix):
                kinds.setdefault(key.removeprefix(prefix), value)
    for kind, value in kinds.items():
        if str(kind).lower() in CATEGORIES or category_of(kind) != "general":
            tags += _listed(value, category_of(kind))
    order = {kind: place for place, kind in enumerate(_KIND_ORDER)}
    return sorted(tags, key=lambda tag: order.get(tag.category, len(order)))


def _all_tags(post: Mapping[str, Any]) -> list[Tag]:
    """The list of all tags, where there is one: it tells their order, or all that is known."""
    for key in ("tags", "tag_string", "tag_list", "wd_tags"):
        if tags := _listed(post.get(key)):
            return tags
    return []


def _listed(value: Any, category: str | None = None) -> list[Tag]:
    if isinstance(value, str):
        pieces = value.split(",") if "," in value else value.split()
        return tags_of(pieces, category)
    if isinstance(value, list):
        tags = (_one(item, category) for item in value[:MOST_TAGS])
        return [tag for tag in tags if tag is not None]
    return []


def _one(item: Any, category: str | None) -> Tag | None:
    if isinstance(item, str):
        return _rated(clean_tag(item, category))
    if not isinstance(item, dict):
        return None
    names = (item.get(key) for key in _NAME_KEYS)
    name = next((name for name in names if isinstance(name, str) and name.strip()), None)
    kind = next((item[key] for key in _KIND_KEYS if isinstance(item.get(key), str | int)), None)
    return clean_tag(name, category if kind is None else category_of(kind)) if name else None


def _rated(tag: Tag | None) -> Tag | None:
    """Pixiv's marks that are no content: counts of bookmarks, ratings."""
    if tag is None or tag.category != "general":
        return tag
    if tag.name.endswith("users入り"):
        return Tag(tag.name, "meta")
    return Tag(tag.name, "rating") if tag.name in ("R-18", "R-18G") else tag


def _philomena_ratings(post: Mapping[str, Any]) -> list[Tag]:
    """There a rating is a tag among the others; such a post is told by its own keys."""
    tags = post.get("tags")
    if not isinstance(tags, list) or not {"tag_ids", "representations"} & set(post):
        return []
    return [Tag(name, "rating") for name in tags if name in _PHILOMENA_RATINGS]


def _rating(post: Mapping[str, Any]) -> list[Tag]:
    tags = rating_tag(post.get("rating"))
    is_danbooru = "tag_string" in post or "tag_string_general" in post
    if is_danbooru and tags == [Tag("safe", "rating")]:
        return [Tag("sensitive", "rating")]  # Danbooru's s; elsewhere it is "safe"
    return tags


def _below(post: Mapping[str, Any]) -> list[Tag]:
    """Hydrus: lists of texts under keys that end in "tags", wherever the user put them."""
    return [tag for value in _tag_lists(post, 0) for tag in _listed(value)]


def _tag_lists(value: Any, depth: int, *, inside: bool = False) -> Iterator[list[Any]]:
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        if inside and any(isinstance(item, str) for item in value):
            yield value
        for item in value[:MOST_TAGS]:
            if isinstance(item, dict):
                yield from _tag_lists(item, depth + 1, inside=inside)
    elif isinstance(value, dict):
        for key, item in value.items():
            if inside and key in _DELETED:
                continue
            named = str(key).lower().endswith("tags")
            yield from _tag_lists(item, depth + 1, inside=inside or named)


def _text(post: Mapping[str, Any]) -> str:
    for key in _TEXT_KEYS:
        value = post.get(key)
        if isinstance(value, list):
            value = next((item for item in value if isinstance(item, str)), None)
        if isinstance(value, str) and value.strip():
            lines = [line.strip() for line in value.splitlines()]
            return "\n".join(line for line in lines if line)[:10_000]
    return ""
