"""The documentation says what the program does."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from lorasmith.cli.docs import PAGES as MADE
from lorasmith.cli.docs import check_pages, command_helps
from lorasmith.cli.main import cli
from lorasmith.cli.schedule_graph import draw_schedules
from lorasmith.core.errors import UserError

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))


def test_pages_that_the_program_makes_are_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    check_pages()


def test_pages_that_are_not_fresh_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in MADE:
        path.parent.mkdir(exist_ok=True)
        path.write_text((ROOT / path).read_text(encoding="utf-8"), encoding="utf-8")
    check_pages()
    first, second = MADE
    first.unlink()
    second.write_text("as it was", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        check_pages()
    assert [problem.where for problem in caught.value.problems] == [str(first), str(second)]


def test_the_graph_of_schedules_is_fresh() -> None:
    with Image.open(ROOT / "docs" / "images" / "schedules.png") as image:
        drawn = np.asarray(draw_schedules(), dtype=float)
        difference = np.abs(np.asarray(image.convert("RGB"), dtype=float) - drawn)
    assert difference.mean() < 0.5, "run `make docs`"


def test_every_command_has_help_for_itself_and_its_options() -> None:
    helps = dict(command_helps())
    assert len(helps) > 6
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for path in helps:
        assert f"## {path}\n" in page
    for path, command in _all_commands():
        assert command.help, path
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.help, f"{path} {parameter.opts[0]}"


def _all_commands() -> Iterator[tuple[str, click.Command]]:
    waiting: list[tuple[str, click.Command]] = [("lorasmith", cli)]
    while waiting:
        path, command = waiting.pop()
        yield path, command
        if isinstance(command, click.Group):
            context = click.Context(command, info_name=path)
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child is not None
                waiting.append((f"{path} {name}", child))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), target


def command_lines(text: str) -> Iterator[str]:
    """``lorasmith …`` lines of fenced blocks, and of the comments that examples begin with."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if language not in ("", "sh", "bash", "console", "shell"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ").removeprefix(".venv/bin/")
            line = re.sub(r"^(python|accelerate launch.*?) -m lorasmith\b", "lorasmith", line)
            # Brackets and dots stand for what may be there: a synopsis, not a command.
            if line.startswith("lorasmith ") and not re.search(r"[\[…]", line):
                yield line


def documented() -> list[tuple[str, str]]:
    lines = [
        (page.name, line)
        for page in PAGES
        if page.name != "commands.md"
        for line in command_lines(page.read_text(encoding="utf-8"))
    ]
    lines += [
        (example.name, line.removeprefix("#").strip())
        for example in EXAMPLES
        for line in example.read_text(encoding="utf-8").splitlines()
        if line.removeprefix("#").strip().startswith("lorasmith ")
    ]
    return lines


@pytest.mark.parametrize(("page", "line"), documented())
def test_documented_commands_exist_with_their_options(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = cli
    context = click.Context(cli, info_name="lorasmith", **cli.context_settings)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        child = command.get_command(context, words[0])
        assert child is not None, f"{page}: there is no command {words[0]}"
        command, words = child, words[1:]
        settings = command.context_settings
        context = click.Context(command, context, info_name=command.name, **settings)
    # Options and their number of values, without looking at the files that they name.
    given, _, _ = command.make_parser(context).parse_args(words)
    if command.name == "add" and context.parent and context.parent.info_name == "queue":
        line = shlex.join(["lorasmith", *given["command"]])
        test_documented_commands_exist_with_their_options(page, line)


def test_the_documentation_shows_commands() -> None:
    assert len(documented()) >= 5


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_begin_with_their_command_and_are_valid(example: Path) -> None:
    from lorasmith.config.load import load_settings

    first = example.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# lorasmith train "), "an example begins with its own command"
    assert example.name in first
    load_settings(example)


EVERYWHERE = {"--json", "--yes", "--all", "--dry-run", "--where", "--help"}
"""Options of most verbs, which docs/dataset-journal.md and docs/dataset-filter.md speak of."""


def _dataset_verbs() -> list[str]:
    return [path for path, _ in _all_commands() if path.startswith("lorasmith dataset ")]


@pytest.mark.parametrize("path", _dataset_verbs(), ids=lambda path: path.split()[-1])
def test_every_option_of_a_dataset_verb_is_on_its_page(path: str) -> None:
    """On one that shows it at work; the made page of commands does not count."""
    command = dict(_all_commands())[path]
    verb = path.split()[-1]
    texts = [page.read_text(encoding="utf-8") for page in PAGES if page.name != "commands.md"]
    words = "\n".join(text for text in texts if re.search(rf"lorasmith dataset {verb}\b", text))
    options = [
        option
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for option in parameter.opts
        if option.startswith("--") and option not in EVERYWHERE
    ]
    missing = [option for option in options if not re.search(rf"{option}(?![\w-])", words)]
    assert not missing, f"say on a page what they do: {', '.join(missing)}"
