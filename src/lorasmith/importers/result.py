"""What a conversion gives: settings with where they come from, remarks, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lorasmith.config.dump import toml_value
from lorasmith.config.fields import NONE
from lorasmith.config.load import Override
from lorasmith.config.schema import all_settings
from lorasmith.core.errors import Problem


@dataclass(frozen=True, slots=True)
class Given:
    """One argument as someone wrote it.

    Args:
        raw: a text from a command line, or a value from TOML or JSON.
        where: ``--network_dim`` or ``run.json: network_dim``: how messages name its place.
        is_content: ``raw`` is what the file that the argument names would hold.
    """

    raw: Any
    where: str
    is_content: bool = False


@dataclass(frozen=True, slots=True)
class Derived:
    """One setting's value.

    Args:
        source: the arguments that it comes from, as written, or sd-scripts' default.
        origin: its place, for messages about the setting.
        note: what was done on the way, where the value is not simply the argument's.
    """

    value: Any
    source: str
    origin: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Remark:
    """An argument that became no setting: done ``always``, ``dropped``, or ``noted`` in general."""

    kind: Literal["always", "dropped", "noted"]
    what: str
    why: str


@dataclass(slots=True)
class Conversion:
    """
    Args:
        settings: path -> value, in the order of the settings.
        problems: what cannot be honoured or is wrong; with any of them nothing should be trained.
    """

    settings: dict[str, Derived] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def values(self) -> dict[str, Any]:
        return {path: made.value for path, made in self.settings.items()}

    def overrides(self) -> list[Override]:
        """The settings as :func:`lorasmith.config.load.load_settings` takes them."""
        return [
            Override(path, NONE if made.value is None else toml_value(made.value), made.origin)
            for path, made in self.settings.items()
        ]

    def sort(self) -> None:
        order = {path: place for place, path in enumerate(all_settings())}
        self.settings = dict(sorted(self.settings.items(), key=lambda item: order[item[0]]))

    def by_section(self) -> Iterator[tuple[str, Mapping[str, Derived]]]:
        """(``adapter``, {``rank``: …}) in order."""
        sections: dict[str, dict[str, Derived]] = {}
        for path, made in self.settings.items():
            section, _, name = path.partition(".")
            sections.setdefault(section, {})[name] = made
        yield from sections.items()
