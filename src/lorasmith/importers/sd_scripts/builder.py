"""The table that rules work on: what was given, and the settings as they come about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorasmith.config.schema import all_settings
from lorasmith.core.errors import Problem
from lorasmith.importers.conversion import Conversion, Derived, Given, Remark
from lorasmith.importers.sd_scripts.argument import Argument, read_value, unglued
from lorasmith.importers.sd_scripts.table import ARGUMENTS, near

MISSING = "is missing"

SECRETS = ("wandb_api_key", "huggingface_token")
"""Neither printed nor written into a file."""


class ConversionBuilder:
    """A conversion in progress.

    Args:
        given: arguments by name.
        sdxl: whether they are of ``sdxl_train_network.py``.
        complete: a run is to be started with them, so nothing may be missing.
    """

    def __init__(
        self,
        given: Mapping[str, Given],
        *,
        sdxl: bool = False,
        complete: bool = True,
    ) -> None:
        self.given = dict(given)
        self.sdxl, self.complete = sdxl, complete
        self.result = Conversion()
        self._read: dict[str, Any] = {}
        for name in list(self.given):
            self._take(name)

    def _take(self, name: str) -> None:
        given = self.given[name]
        if name not in ARGUMENTS:
            del self.given[name]
            self.result.problems.append(
                Problem(given.where, "is not an argument of sd-scripts", near(name))
            )
            return
        try:
            value = read_value(ARGUMENTS[name], given.raw)
        except ValueError as error:
            del self.given[name]
            self.result.problems.append(Problem(given.where, str(error), "correct it"))
            return
        if value is None:
            del self.given[name]
        else:
            self._read[name] = value

    def give(self, name: str, given: Given) -> None:
        """Take an argument that came later, from a file that another argument named."""
        self.given[name] = given
        self._read.pop(name, None)
        self._take(name)

    def has(self, name: str) -> bool:
        """Whether an argument asks for anything: a flag that is on, a value that is not empty."""
        return name in self._read and self._read[name] is not False

    def value(self, name: str) -> Any:
        """The argument's value, sd-scripts' default where it was not given."""
        return self._read.get(name, ARGUMENTS[name].default)

    def put(self, path: str, value: Any, *names: str, note: str = "") -> None:
        """Make a setting of the arguments ``names``."""
        assert path in all_settings(), path
        used = [name for name in names if name in self.given] or list(names[:1])
        source = ", ".join(self.shown(name) for name in used)
        origin = self.given[used[0]].where if used[0] in self.given else source
        self.result.settings[path] = Derived(value, source, origin, note)

    def put_unless_ours(self, path: str, value: Any, *names: str, note: str = "") -> None:
        """As :meth:`put`, but not for a default of sd-scripts that is ours too."""
        if any(name in self.given for name in names) or value != all_settings()[path].default:
            self.put(path, value, *names, note=note)

    def put_plain(self, row: Argument) -> None:
        """The setting that takes an argument's value as it is, where there is one."""
        if row.plain and (row.name in self.given or row.default is not None):
            self.put_unless_ours(row.paths[0], self.value(row.name), row.name)

    def shown(self, name: str) -> str:
        """``--network_dim 128``, or what sd-scripts does without it."""
        row = ARGUMENTS[name]
        if name not in self.given:
            if row.kind == "flag":
                return f"no --{name}"
            default = "not given" if row.default in (None, "") else f"default {row.default}"
            return f"--{name}: {default}"
        if row.kind == "flag":
            return f"--{name}" if self._read[name] else f"no --{name}"
        if name in SECRETS:
            return f"--{name} …"
        written, value = self.given[name].raw, self._read[name]
        words = [unglued(written)] if isinstance(written, str) else [str(value)]
        if row.kind == "separator":
            words = [value if value.strip() == value else repr(value)]
        if isinstance(value, list):
            words = [str(each) for each in value]
        return " ".join([f"--{name}", *words]).replace("\n", " ")

    def always(self, name: str, why: str) -> None:
        self.result.remarks.append(Remark("always", self.shown(name), why))

    def drop(self, name: str, why: str) -> None:
        if name in self.given:
            self.result.remarks.append(Remark("dropped", self.shown(name), why))

    def note(self, what: str, why: str) -> None:
        self.result.remarks.append(Remark("noted", what, why))

    def refuse(self, name: str, what: str, hint: str = "") -> None:
        where = self.given[name].where if name in self.given else f"--{name}"
        self.result.problems.append(Problem(where, what, hint))

    def missing(self, name: str, hint: str) -> None:
        """Something that sd-scripts cannot do without."""
        if self.complete:
            self.refuse(name, MISSING, hint)
        else:
            self.note(f"no --{name}", f"is not said; {hint}")

    def row(self, name: str) -> Argument:
        return ARGUMENTS[name]
