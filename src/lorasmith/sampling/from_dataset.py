"""Images of captions: regularisation images for a dataset, candidates to grow it with.

Each image stands beside its caption in a folder that training can use as it is. What is there
already is not drawn again, so a stopped command goes on where it was.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lorasmith.config.sample_prompts import OPTIONS
from lorasmith.core.errors import Problem, PromptError
from lorasmith.data.captions import join_tags, split_tags
from lorasmith.data.layout import FolderSpec, find_folders
from lorasmith.data.scan import DatasetImage, scan
from lorasmith.prompts.lora_tags import take_tags
from lorasmith.sampling.request import ImageRequest

# Where the caption goes in a prompt that is given for all.
PLACE = "{caption}"
_NUMBERED = re.compile(r"(\d+)_(.*)", re.DOTALL)
_BRACKET = re.compile(r"\\.|[()\[\]]")
_TAG_HEAD = re.compile(r"<([A-Za-z]\w*):(?=[^<>]*>)")
_KEYWORD = re.compile(r"\b(?:AND|BREAK)\b")
_KINDS: dict[str, type] = {"negative": str, "sampler": str, "cfg": float}
"""Of the values of options in a file of prompts; whole numbers of all others."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """An image to be made for a caption.

    Args:
        path: where the image goes; its caption goes beside it.
        caption: what a training is told.
    """

    request: ImageRequest
    path: Path
    caption: str

    @property
    def caption_path(self) -> Path:
        return self.path.with_suffix(".txt")


def drawings_of_dataset(
    folder: Path,
    base: ImageRequest,
    out: Path,
    *,
    template: str = PLACE,
    without: Sequence[str] = (),
    count: int = 1,
) -> list[Drawing]:
    """One image, or ``count``, for each image of a dataset that has a caption.

    The folders of the dataset are those of ``out``, with the same repeats and names less the
    ``without``, so that a regularisation image is used as often as its original. Seeds count up
    from that of ``base``: equal seeds under like captions make like images.

    Args:
        folder: in any layout that training reads; its regularisation images are left out.
        base: everything but prompt and seed.
        template: the prompt, with ``{caption}`` where the caption goes.
        without: words that are taken out of captions, such as a LoRA's trigger.

    Raises:
        DatasetError: the folder is not there or holds no image.
        PromptError: no image has a caption, or the template has no place for it.
    """
    if PLACE not in template:
        what = f'the prompt "{template}" has no place for the captions'
        raise PromptError.of("PROMPT", what, f"write {PLACE} where each goes, or leave it out")
    scanned = scan([spec for spec in find_folders(folder) if not spec.reg])
    scanned.require_usable()
    captioned = [image for image in scanned.images if image.caption is not None]
    if not captioned:
        raise PromptError.of(folder, "no picture has a caption", "tag them first")
    bases = [replace(base, seed=base.seed + count * n) for n in range(len(captioned))]
    return drawings_of_images(
        scanned.folders, captioned, bases, out, template=template, without=without, count=count
    )


def drawings_of_images(
    specs: Sequence[FolderSpec],
    images: Sequence[DatasetImage],
    bases: Sequence[ImageRequest],
    out: Path,
    *,
    template: str = PLACE,
    without: Sequence[str] = (),
    count: int = 1,
) -> list[Drawing]:
    """One image, or ``count``, for each of these that have captions; see
    :func:`drawings_of_dataset`.

    Args:
        specs: the folders that the images count.
        bases: for each image everything but the prompt; with the seed of its first.
    """
    drawings: list[Drawing] = []
    for image, base in zip(images, bases, strict=True):
        # Of several lines training uses the first, unless it is told to draw one.
        caption = stripped((image.caption or "").split("\n")[0], without)
        prompt = template.replace(PLACE, escaped(caption))
        place = out / out_folder(specs, image, without)
        for number in range(count):
            suffix = f"-{number + 1:02d}" if count > 1 else ""
            path = place / f"{image.path.stem}{suffix}.png"
            request = replace(base, prompt=prompt, seed=base.seed + number)
            drawings.append(Drawing(request, path, caption))
    return _apart(drawings)


def _apart(drawings: list[Drawing]) -> list[Drawing]:
    """Images of one name in one folder (a.jpg and a.png) get names of their own."""
    uses: dict[Path, int] = {}
    renamed = []
    for drawing in drawings:
        number = uses.get(drawing.path, 0)
        uses[drawing.path] = number + 1
        path = drawing.path
        if number:
            path = path.with_stem(f"{path.stem}~{number + 1}")
        renamed.append(replace(drawing, path=path))
    return renamed


def out_folder(specs: Sequence[FolderSpec], image: DatasetImage, without: Sequence[str]) -> str:
    """``REPEATS_NAME`` of an image's folder."""
    spec = specs[image.folder]
    numbered = _NUMBERED.fullmatch(spec.path.resolve().name)
    name = stripped(numbered[2], without) if numbered else ""
    return f"{spec.repeats}_{name or 'reg'}"


def words_in(text: str, words: Sequence[str]) -> bool:
    """Whether one of the words stands in the text by itself, in whatever case."""
    return bool(words) and _words(words).search(text) is not None


def _words(words: Sequence[str]) -> re.Pattern[str]:
    choices = "|".join(map(_spellings, sorted(words, key=len, reverse=True)))
    return re.compile(rf"(?<!\w)(?:{choices})(?!\w)", re.IGNORECASE)


def _spellings(word: str) -> str:
    """As taggers and web UIs write it: with spaces or underscores, brackets escaped or not."""
    plain = re.sub(r"\\(?=[()\[\]])", "", word)
    return "".join(
        "[ _]" if letter in " _" else (r"\\?" if letter in "()[]" else "") + re.escape(letter)
        for letter in plain
    )


def stripped(
    caption: str, without: Sequence[str], separator: str = ",", *, instead: str = ""
) -> str:
    """The caption without some words, or with ``instead`` in their place; tags of which nothing is
    left go too."""
    if not without:
        return caption
    bare = _words(without).sub(lambda _: instead, caption)
    tags = (re.sub(r"\s+", " ", tag).strip() for tag in split_tags(bare, separator))
    return join_tags((tag for tag in tags if tag), separator)


def escaped(caption: str) -> str:
    """The caption as a prompt that means it to the letter: brackets weigh nothing.

    Wildcards and choices are drawn all the same.
    """
    # To the text encoder neither the space nor the case makes a difference.
    caption = _TAG_HEAD.sub(r"<\1 :", caption)
    caption = _KEYWORD.sub(lambda m: m[0].lower(), caption)
    return _BRACKET.sub(lambda m: m[0] if len(m[0]) == 2 else "\\" + m[0], caption)


def shared_tags(drawings: Sequence[Drawing]) -> list[str]:
    """Tags that every caption has: a trigger word is one of them."""
    if len(drawings) < 2:
        return []
    first, *other_captions = (split_tags(drawing.caption) for drawing in drawings)
    return [tag for tag in first if all(tag in other for other in other_captions)]


def drawings_of_file(path: Path, base: ImageRequest, out: Path, *, count: int = 1) -> list[Drawing]:
    """One image, or ``count``, for each line of a file of prompts.

    Blank lines and lines that begin with ``#`` do not count. sd-scripts' options at a line's end
    are read: ``--n`` (negative), ``--w``, ``--h``, ``--d`` (seed), ``--s`` (steps), ``--l`` (CFG),
    ``--ss`` (sampler).

    Raises:
        PromptError: the file cannot be read, holds no prompt, or a line has another option.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError.of(path, "cannot be read as text", "give a UTF-8 file") from error
    problems: list[Problem] = []
    lines = requests_of_text(text, base, str(path), problems, count=count)
    if not lines:
        raise PromptError.of(path, "holds no prompt", "write one a line")
    if problems:
        raise PromptError(problems)
    drawings: list[Drawing] = []
    for number, request, _ in lines:
        caption = caption_of(request.prompt)
        for turn in range(count):
            suffix = f"-{turn + 1:02d}" if count > 1 else ""
            one = replace(request, seed=request.seed + turn)
            drawings.append(Drawing(one, out / f"{number:04d}{suffix}.png", caption))
    return drawings


def requests_of_text(
    text: str, base: ImageRequest, name: str, problems: list[Problem], *, count: int = 1
) -> list[tuple[int, ImageRequest, Collection[str]]]:
    """What the lines of a file of prompts ask for, each with its line's number, from 1, and the
    request's fields that it says by options.

    Args:
        base: what a line does not say; its seed is the first line's.
        name: what problems call the file.
        problems: gets what cannot be read.
        count: of images of each line, whose seeds count on.
    """
    requests: list[tuple[int, ImageRequest, Collection[str]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.strip().startswith("#"):
            continue
        prompt, options = _with_options(line.strip(), f"{name}:{number}", problems)
        values = {"prompt": prompt, "seed": base.seed + count * len(requests), **options}
        requests.append((number, replace(base, **values), options.keys()))
    return requests


def caption_of(prompt: str) -> str:
    """What a training is told of an image of a prompt: all but the tags."""
    return take_tags(prompt)[0].strip().strip(",").strip()


def _with_options(line: str, where: str, problems: list[Problem]) -> tuple[str, dict[str, Any]]:
    """A line's prompt and what its options say."""
    prompt, *option_texts = re.split(r"\s+--(?=[a-z]+\s)", line)
    options: dict[str, Any] = {}
    for text in option_texts:
        name, _, value = text.partition(" ")
        field = OPTIONS.get(name)
        if field is None:
            option_names = ", ".join(f"--{key}" for key in OPTIONS)
            problems.append(Problem(where, f"unknown option --{name}", f"known are {option_names}"))
            continue
        try:
            options[field] = _KINDS.get(field, int)(value.strip())
        except ValueError:
            problems.append(Problem(where, f"--{name} {value} is no number"))
    return prompt, options
