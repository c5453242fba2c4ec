"""What one argument of sd-scripts becomes: a row of the table, and what rules work on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lorasmith.config.schema import all_settings
from lorasmith.core.errors import Problem
from lorasmith.importers.conversion import Conversion, Derived, Given, Remark
from lorasmith.importers.sd_scripts.values import Kind, read_value, unglued

Fate = Literal["setting", "always", "dropped", "refused", "read"]
"""
setting
    becomes one or more settings.
always
    asks for what is done here in any case.
dropped
    says how sd-scripts is to compute, and changes nothing of what is learned.
refused
    cannot be honoured; a run that asks for it does not start.
read
    names a file that further arguments come from.
"""


@dataclass(frozen=True, slots=True)
class Argument:
    """
    Args:
        name: without the hyphens.
        default: sd-scripts' own; ``None`` where it has none, ``False`` of a flag.
        paths: the settings that it becomes.
        rule: decides what becomes of it, for all rows that name it; without one, the setting takes
            the value as it is.
        why: for all but settings: the reason, as a phrase.
        hint: what to do in place of what is refused.
        choices: the texts that it may be, where it is limited to some.
        needs: another argument, without which it does nothing.
        on: only a value that is on is a setting.
    """

    name: str
    kind: Kind
    default: Any
    fate: Fate
    paths: tuple[str, ...] = ()
    rule: Callable[[ConversionBuilder], None] | None = None
    why: str = ""
    hint: str = ""
    choices: tuple[str, ...] = ()
    needs: str = ""
    on: bool = False

    def asks_for_nothing(self, value: Any) -> bool:
        """Whether ``value`` is what sd-scripts does anyhow."""
        return value is None or value is False or value in ("", [], self.default)


def same(
    name: str, kind: Kind, default: Any, path: str, *choices: str, needs: str = "", on: bool = False
) -> Argument:
    """An argument that is one setting under another name."""
    return Argument(name, kind, default, "setting", (path,), choices=choices, needs=needs, on=on)


def by(
    rule: Callable[[ConversionBuilder], None], name: str, kind: Kind, default: Any, *paths: str
) -> Argument:
    """An argument that becomes settings by a rule, often with others."""
    return Argument(name, kind, default, "setting", paths, rule)


def always(name: str, kind: Kind, default: Any, why: str) -> Argument:
    return Argument(name, kind, default, "always", why=why)


def dropped(name: str, kind: Kind, default: Any, why: str) -> Argument:
    return Argument(name, kind, default, "dropped", why=why)


def refused(name: str, kind: Kind, default: Any, why: str, hint: str = "leave it out") -> Argument:
    return Argument(name, kind, default, "refused", why=why, hint=hint)


MISSING = "is missing"

VALUE = object()
"""An argument's own value."""

SECRETS = ("wandb_api_key", "huggingface_token")
"""Neither printed nor written into a file."""


class ConversionBuilder:
    """A conversion in progress.

    Args:
        given: arguments by name.
        rows: the table of all arguments.
        sdxl: whether they are of ``sdxl_train_network.py``.
        complete: a run is to be started with them, so nothing may be missing.
    """

    def __init__(
        self,
        given: Mapping[str, Given],
        rows: Mapping[str, Argument],
        *,
        sdxl: bool = False,
        complete: bool = True,
    ) -> None:
        self.given, self.rows = dict(given), rows
        self.sdxl, self.complete = sdxl, complete
        self.result = Conversion()
        self._read: dict[str, Any] = {}
        for name in list(self.given):
            self._take(name)

    def _take(self, name: str) -> None:
        given, row = self.given[name], self.rows[name]
        try:
            value = read_value(row.kind, given.raw, row.choices)
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
        return self._read.get(name, self.rows[name].default)

    def put(self, path: str, value: Any, *names: str, note: str = "") -> None:
        """Make a setting of the arguments ``names``."""
        assert path in all_settings(), path
        used = [name for name in names if name in self.given] or list(names[:1])
        source = ", ".join(self.shown(name) for name in used)
        origin = self.given[used[0]].where if used[0] in self.given else source
        self.result.settings[path] = Derived(value, source, origin, note)

    def fix(self, path: str, value: Any, why: str) -> None:
        """Make a setting of what sd-scripts always does, whatever its arguments."""
        self.result.settings[path] = Derived(value, "sd-scripts", path, why)

    def take(self, name: str, value: Any = VALUE, *others: str, note: str = "") -> None:
        """Make the argument's own setting, the first of its row, of its value or another."""
        path = self.rows[name].paths[0]
        self.put(path, self.value(name) if value is VALUE else value, name, *others, note=note)

    def put_unless_ours(self, path: str, value: Any, *names: str, note: str = "") -> None:
        """As :meth:`put`, but not for a default of sd-scripts that is ours too."""
        if any(name in self.given for name in names) or value != all_settings()[path].default:
            self.put(path, value, *names, note=note)

    def put_plain(self, row: Argument) -> None:
        """The setting that takes an argument's value as it is."""
        value = self.value(row.name)
        if row.needs and not self.value(row.needs):
            self.drop(row.name, f"it does nothing without --{row.needs}")
        elif row.on and not value:
            if row.kind != "flag":
                self.drop(row.name, "0 is off, as here without it")
        elif row.name in self.given or row.default is not None:
            self.put_unless_ours(row.paths[0], value, row.name)

    def shown(self, name: str) -> str:
        """``--network_dim 128``, or what sd-scripts does without it."""
        row = self.rows[name]
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
