"""A conversion as a lorasmith settings file, with a comment on what each line meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from lorasmith.config.dump import VERSION, toml_value
from lorasmith.config.fields import NONE
from lorasmith.core.errors import Problem
from lorasmith.importers.result import Conversion, Derived, Remark


def to_toml(result: Conversion, heading: str) -> str:
    """The settings file; with problems left in it as comments.

    Args:
        heading: what it was made of, one line.
    """
    blocks = ["\n".join(_introduction(result, heading)), f"version = {VERSION}"]
    folders: list[str] = []
    for section, settings in result.by_section():
        lines = [f"[{section}]"]
        for name, made in settings.items():
            if name == "folders":
                folders = [_folder(each, made) for each in made.value]
            else:
                value = NONE if made.value is None else made.value
                lines.append(f"{name} = {toml_value(value)}  # {_comment(made)}")
        if len(lines) > 1:
            blocks.append("\n".join(lines))
        if section == "data":
            blocks += folders
    return "\n\n".join(blocks) + "\n"


def _folder(values: dict[str, object], made: Derived) -> str:
    lines = [f"[[data.folders]]  # {_comment(made)}"]
    return "\n".join([*lines, *(f"{key} = {toml_value(value)}" for key, value in values.items())])


def _comment(made: Derived) -> str:
    return _one_line(f"{made.source} ({made.note})" if made.note else made.source)


def _introduction(result: Conversion, heading: str) -> Iterator[str]:
    yield f"# {_one_line(heading)}"
    groups: Sequence[tuple[str, list[str]]] = (
        ("Refused, and not in this file:", [_problem(each) for each in result.problems]),
        ("To know:", _remarks(result.remarks, "noted")),
        ("Done in any case:", _remarks(result.remarks, "always")),
        ("Not carried over:", _remarks(result.remarks, "dropped")),
    )
    for title, lines in groups:
        if lines:
            yield "#"
            yield f"# {title}"
            yield from (f"#   {line}" for line in lines)


def _remarks(remarks: Sequence[Remark], kind: str) -> list[str]:
    return [_one_line(f"{each.what}: {each.why}") for each in remarks if each.kind == kind]


def _problem(problem: Problem) -> str:
    return _one_line(str(problem))


def _one_line(text: str) -> str:
    """A comment must not end early, nor hold what TOML does not allow in one."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)
