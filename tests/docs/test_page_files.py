"""Followed from its first command to its last, a page names no file that is not there by then."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import pytest
from tests.docs.test_docs import EXAMPLES, PAGES, ROOT, command_lines

from lorasmith.cli.main import cli

OWN = {"demo", "pictures", "sd15.safetensors", "sdxl.safetensors"}
"""What every reader has: the small model, images, checkpoints."""

# What else a page is about, and its reader has before its first command.
OWN_OF_PAGES = {
    "README.md": {"train.sh"},
    "adapters.md": {"zorp.safetensors"},
    "augmentation.md": {"DIR", "run.toml"},
    "bootstrap.md": {"zorp.png", "side.png"},
    "coming-from-sd-scripts.md": {"train.ps1"},
    "dataset.md": {"DIR"},
    "dataset-walk.md": {"pile", "zorp"},
    "embeddings.md": {"pairs"},
    "file-tools-extract-bake.md": {
        "mine.safetensors",
        "pony.safetensors",
        "style.safetensors",
        "pose.safetensors",
    },
    "file-tools-inspect-convert.md": {"zorp.safetensors", "model.ckpt", "old/zorp.pt"},
    "file-tools-resize-merge.md": {"style.safetensors", "character.safetensors"},
    "full-fine-tuning.md": {"runs/zorp-full/zorp-full.safetensors"},
    "generate.md": {
        *("cat.png", "hand.png", "big.png", "face.png", "their.png"),
        "outputs/00001-7.png",  # What any of the page's other commands may have drawn.
    },
    "grid.md": {"runs/zorp", "runs/zorp/grid"},
    "models.md": {
        *("~/models/v1-5-pruned-emaonly.safetensors", "~/models/sd_xl_base_1.0.safetensors"),
        *("~/models/noob-v.safetensors", "photos"),
    },
    "loss.md": {"vpred.safetensors"},
    "diagnose.md": {
        *("runs/zorp", "runs/zorp/zorp-000004.safetensors", "other.safetensors"),
        "downloaded.safetensors",
    },
    "my-lora-looks-like.md": {"runs/zorp"},
    "pick.md": {"runs/zorp"},
    "sliders.md": {"pairs"},
    "watching.md": {"runs/pictures"},
}

OF_THE_SMALL_MODEL = ("demo-model", "generate", "grid", "library", "pick")
"""Pages whose prompts are for it; others show those of published models too."""

READS = {
    "advise": ("folder", "model"),
    "bake": ("model", "sources"),
    "bootstrap": ("images", "go_on", "model", "models", "style_lora"),
    "control": ("run",),
    "convert": ("source",),
    "convert-config": ("file",),
    "dataset check": ("folders", "reg"),
    "dataset preview": ("folders", "config"),
    "diagnose": ("paths", "model", "data"),
    "extract": ("base", "tuned"),
    "generate": ("model", "init", "mask", "from_png"),
    "grid": ("model", "init", "run"),
    "inspect": ("path",),
    "merge": ("sources",),
    "pick": ("path",),
    "resize": ("source",),
    "train": ("config", "model", "data", "resume"),
    "train-network": ("pretrained_model_name_or_path", "train_data_dir"),
    "votes": ("folder",),
}
WRITES = {
    "advise": "out",
    "bake": "out", "convert": "out", "convert-config": "out", "extract": "out", "merge": "out",
    "resize": "out", "dataset preview": "out",
}  # fmt: skip


def parsed(line: str) -> tuple[str, dict[str, list[str]]]:
    """A command's name, and the texts of its arguments and options."""
    words, names = shlex.split(line, comments=True)[1:], []
    command: click.Command = cli
    context = click.Context(cli, info_name="lorasmith", **cli.context_settings)
    while isinstance(command, click.Group):
        names.append(words.pop(0))
        child = command.get_command(context, names[-1])
        assert child is not None, line
        settings = child.context_settings
        command, context = child, click.Context(child, context, info_name=names[-1], **settings)
    redirect = [words[place + 1] for place, word in enumerate(words[:-1]) if word == ">"]
    words = words[: words.index(">")] if redirect else words
    given, _, _ = command.make_parser(context).parse_args(list(words))
    values = {str(name): _texts(value) for name, value in given.items() if value is not None}
    name = " ".join(names)
    if name == "train-network":
        pairs = (word.partition("=") for word in words if word.startswith("--"))
        values = {key[2:]: [value] for key, _, value in pairs}
    if name == "train":
        values |= {
            option: [words[place + 1]]
            for option in ("model", "data")
            for place, word in enumerate(words)
            if word == f"--{option}"
        }
        folders = [text for text in values.get("config", []) if not Path(text).suffix]
        values |= {"data": folders} if folders else {}
    if name == "grid" and "--epochs" in words:
        values["run"] = [words[words.index("--epochs") + 1]]
    values["redirect"] = redirect
    return name, values


def _texts(value: object) -> list[str]:
    if isinstance(value, list | tuple):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else [str(value)] if isinstance(value, Path) else []


def made_by(name: str, values: dict[str, list[str]]) -> Iterator[str]:
    """The files and folders that a command leaves."""
    yield from values["redirect"]
    if name in WRITES and "--dry-run" not in values:
        yield from values.get(WRITES[name], [])
    if name == "bootstrap":
        for trigger in values.get("trigger", []):
            folder = f"bootstrap/{trigger}"
            yield from (folder, f"{folder}/dataset", f"{folder}/runs/{trigger}")
    if name == "demo":
        yield from ("demo/dataset", "demo/dataset/img", "demo/runs/zorp")
        yield "demo/runs/zorp/zorp.safetensors"
    if name == "train":
        for data in values.get("data", ["zorp.toml's pictures"]):
            yield f"runs/{data}"
            yield f"runs/{data}/{data}.safetensors"
    for name_of in values.get("output_name", []):
        yield from (f"{folder}/{name_of}.safetensors" for folder in values.get("output_dir", []))


def missing(lines: Iterable[str], own: set[str]) -> list[str]:
    there, found = set(own), []
    for line in lines:
        name, values = parsed(line)
        for parameter in READS.get(name, ()):
            for text in values.get(parameter, []):
                path = text.partition(":")[0] if parameter == "sources" else text
                if path not in there:
                    found.append(f"{line}: there is no {path}")
        there.update(made_by(name, values))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    if page.name == "commands.md":
        return
    text = page.read_text(encoding="utf-8")
    shown = set(re.findall(r"^# lorasmith train (\S+\.toml)$", text, re.MULTILINE))
    own = OWN | shown | OWN_OF_PAGES.get(page.name, set())
    assert missing(command_lines(text), own) == []


def test_a_file_that_is_nowhere_is_found() -> None:
    lines = [
        "lorasmith train --data pictures",
        "lorasmith resize runs/pictures/pictures.safetensors a.safetensors --rank 4",
        "lorasmith inspect a.safetensors",
        "lorasmith inspect pictures.safetensors",
    ]
    assert missing(lines, OWN) == [f"{lines[3]}: there is no pictures.safetensors"]


def test_pages_name_only_tags_that_the_small_model_knows() -> None:
    """Prompts of the demo's world are of its tags: other words would draw nothing."""
    from lorasmith.demo.world import VALUES

    known = {"zorp", *(tag for values in VALUES.values() for tag in values)}
    known |= {f"{colour} body" for colour in VALUES["colour"]}
    prompts = [
        (page.name, prompt)
        for page in (ROOT / "docs" / f"{name}.md" for name in OF_THE_SMALL_MODEL)
        for prompt in re.findall(r'"((?:zorp|\w+ body), [^"<{]*)', page.read_text(encoding="utf-8"))
    ]
    assert len(prompts) > 5
    for page, prompt in prompts:
        unknown = {tag.strip() for tag in prompt.strip(" .").split(",")} - known
        assert not unknown, f"{page}: {prompt}"


def test_no_page_names_an_address_of_this_project() -> None:
    """It has none; a made-up one would lead into the void, or to somebody else."""
    pages = [*PAGES, *EXAMPLES, ROOT / "pyproject.toml", ROOT / "CHANGELOG.md"]
    for path in [*pages, *(ROOT / "src").rglob("*.py")]:
        assert not re.search(r"github\.com/lorasmith", path.read_text(encoding="utf-8")), path
