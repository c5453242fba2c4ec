"""The prompt inside an image that was generated: A1111's, ComfyUI's, InvokeAI's, NovelAI's.

PNGs have text chunks; JPEG and WebP files have EXIF, where ComfyUI writes its graph as text that
begins with ``prompt:`` under the names of the camera and its maker.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from PIL import Image

from lorasmith.core.files import parse_json
from lorasmith.curation.sidecars.tags import SideCar, merge_tags, tags_of
from lorasmith.curation.sidecars.text_files import parse_caption_file
from lorasmith.data.image_texts import CHUNK, generation_text, user_comment
from lorasmith.data.images import DECODER_ERRORS, open_image
from lorasmith.prompts.infotext import parse_infotext

MOST_SIGNS = 2_000_000
_MAKE, _MODEL, _DESCRIPTION = 0x010F, 0x0110, 0x010E
# Of a node of ComfyUI, the inputs that hold a part of the positive prompt or lead to it.
_TO_TEXT = re.compile(r"(?!.*neg)(?:positive|cond|text|prompt|string|value|wildcard|populated)")
_MOST_NODES = 10_000
# (word:1.2), ((word)), [word], {word}: brackets of weight, which are no words.
_WEIGHT = re.compile(r":\s*+[+-]?(?:\d++(?:\.\d*+)?|\.\d++)\s*+(?=\))")
_BRACKETS = re.compile(r"(?<!\\)[()\[\]{}]")
_NO_WORDS = re.compile(r"\bBREAK\b|\bAND\b|<(?:lora|lyco|hypernet):[^<>]*+>")


def read_generation(file: Path | IO[bytes]) -> SideCar:
    """What the prompt of an image says; nothing of an image without one, or that is none."""
    return parse_prompt(prompt_in(file))


def prompt_in(file: Path | IO[bytes]) -> str:
    """The positive prompt inside an image, as it stands there; "" for none. Never raises."""
    try:
        with open_image(file) as image:
            info = {str(key): value for key, value in image.info.items()}
            texts = {key: value for key, value in info.items() if isinstance(value, str)}
            infotext = generation_text(image)
            comment = user_comment(image)
            exif = image.getexif()
            texts |= _exif_texts(exif)
    except DECODER_ERRORS:
        return ""
    if max((len(text) for text in (infotext, comment, *texts.values())), default=0) > MOST_SIGNS:
        return ""
    if infotext.lstrip().startswith("{"):
        infotext, texts = "", {**texts, "Comment": infotext}  # Fooocus, NovelAI: JSON
    candidates = (
        parse_infotext(infotext).prompt if CHUNK in texts or _is_infotext(infotext) else "",
        _of_json(texts.get("Comment") or comment),
        _of_json(texts.get("invokeai_metadata", "")),
        _of_json(texts.get("sd-metadata", "")),
        comfy_prompt(texts.get("prompt", "")),
    )
    return next((text.strip() for text in candidates if text.strip()), "")


def parse_prompt(prompt: str) -> SideCar:
    """A prompt as a caption: without LoRAs, weights and brackets that are not escaped."""
    if not prompt:
        return SideCar()
    plain = _BRACKETS.sub("", _WEIGHT.sub("", _NO_WORDS.sub(",", prompt)))
    plain = plain.replace("\\(", "(").replace("\\)", ")")
    lines = [line.strip(" ,") for line in plain.splitlines() if line.strip(" ,")]
    car = parse_caption_file(", ".join(lines))
    if car.text:
        return car
    return SideCar(merge_tags([tags_of(", ".join(lines).split(","))]))


def _is_infotext(text: str) -> bool:
    """Whether it is what a web UI writes: a comment of a camera is text as well."""
    return "Steps: " in text or "Negative prompt:" in text


def _exif_texts(exif: Image.Exif) -> dict[str, str]:
    """ComfyUI's ``prompt:{…}``, by the word before the colon."""
    texts = {}
    for number in (_MAKE, _MODEL, _DESCRIPTION):
        value = exif.get(number)
        if isinstance(value, str) and re.match(r"[a-z]+:\s*\{", value, re.IGNORECASE):
            key, _, text = value.partition(":")
            texts[key.lower()] = text
    return texts


def _of_json(text: str) -> str:
    """The prompt in NovelAI's, Fooocus' and InvokeAI's JSON."""
    try:
        value = parse_json(text) if text.lstrip().startswith("{") else None
    except ValueError:
        return ""
    if not isinstance(value, dict):
        return ""
    places = [value, value.get("image"), value.get("v4_prompt")]
    for place in places:
        if isinstance(place, dict):
            for key in ("positive_prompt", "prompt", "full_prompt"):
                text = _words(place.get(key))
                if text:
                    return text
    return ""


def _words(value: Any) -> str:
    if isinstance(value, list):
        parts = [item.get("prompt") if isinstance(item, dict) else item for item in value]
        return ", ".join(part for part in parts if isinstance(part, str))
    return value if isinstance(value, str) else ""


def comfy_prompt(text: str) -> str:
    """The positive prompt of a graph of ComfyUI's: what flows into its samplers' ``positive``,
    from the largest; "" where that cannot be told."""
    try:
        graph = parse_json(text) if text.lstrip().startswith("{") else None
    except ValueError:
        return ""
    if not isinstance(graph, dict) or len(graph) > _MOST_NODES:
        return ""
    nodes = {str(key): node for key, node in graph.items() if isinstance(node, dict)}
    texts = []
    for node in nodes.values():
        inputs = node.get("inputs")
        # What guides Flux has no negative, and calls the positive its conditioning.
        guides = str(node.get("class_type")).endswith("Guider")
        key = "conditioning" if guides and "positive" not in (inputs or ()) else "positive"
        if isinstance(inputs, dict) and _is_link(inputs.get(key)):
            texts.append(_text_behind(inputs[key], nodes))
    return max(texts, key=len, default="")


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int)


def _text_behind(link: Any, nodes: Mapping[str, Mapping[str, Any]]) -> str:
    """The texts of the nodes that a link comes from, nearest first; each node once."""
    links, names, texts = [link], set[str](), list[str]()
    while links and len(names) < _MOST_NODES:
        name = str(links.pop(0)[0])
        node = nodes.get(name)
        inputs = node.get("inputs") if node is not None else None
        if name in names or not isinstance(inputs, dict):
            continue
        names.add(name)
        values = [value for key, value in inputs.items() if _TO_TEXT.match(key)]
        texts += [value for value in values if isinstance(value, str)]
        links += [value for value in values if _is_link(value)]
    return ", ".join(dict.fromkeys(text.strip() for text in texts if text.strip()))
