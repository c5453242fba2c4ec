"""What a verb is asked: a model of its options, and :func:`run`, which carries it out.

The options of a command, its ``--help``, the messages about mistakes, the reference page and the
keywords of the Python function all come from the fields of its :class:`JobRequest`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, Protocol, Self, TypeVar

from pydantic import ValidationError, model_validator

from lorasmith.config.fields import Section, Setting, explain, setting, settings_of
from lorasmith.core import job_record
from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.file_names import shell_word

Result_co = TypeVar("Result_co", covariant=True)


def option(
    default: Any,
    description: str,
    *,
    why: str = "",
    unit: str = "",
    kind: str = "",
    metavar: str = "",
    flag: str = "",
    positional: bool = False,
    default_text: str = "",
    **bounds: float,
) -> Any:
    """A field of a :class:`JobRequest`: :func:`lorasmith.config.fields.setting`, and how the
    command line shows it.

    Args:
        description: sentences; the last without its full stop.
        metavar: what stands for the value in ``--help``.
        flag: the option's name, where it is not the field's.
        positional: an argument of the command, not an option.
        default_text: what holds when nothing is said, where the default itself does not say it.
    """
    field = setting(default, description, why=why, unit=unit, kind=kind, **bounds)
    field.json_schema_extra |= {
        "metavar": metavar,
        "flag": flag,
        "positional": positional,
        "default_text": default_text,
    }
    return field


class JobRequest(Section):
    """All that one verb is asked; immutable, and valid in each field."""

    verb: ClassVar[str]
    """As on the command line: ``resize``, ``dataset check``."""
    other_names: ClassVar[Mapping[str, str]] = {}
    """What the parts below call a field in their messages, where that is another name."""

    @model_validator(mode="before")
    @classmethod
    def _tidy(cls, values: Any) -> Any:
        """As for settings, but a text may be "none"."""
        known = {item.name: item for item in settings_of(cls)}

        def tidy(item: Setting | None, value: Any) -> Any:
            is_any_text = item is not None and item.is_text and not item.choices
            return value if item is None or is_any_text else item.tidy(value)

        return {key: tidy(known.get(key), value) for key, value in values.items()}

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """The request with these values; texts are read as on the command line.

        Raises:
            SettingsError: with everything that is wrong, each under its field's name.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            by_field: dict[str, list[Any]] = {}
            for detail in error.errors(include_url=False):
                by_field.setdefault(str(detail["loc"][0]) if detail["loc"] else "", []).append(
                    detail
                )
            known = {item.name: item for item in settings_of(cls)}
            raise SettingsError(
                Problem(name, *explain(known.get(name), details))
                for name, details in by_field.items()
            ) from None

    def given(self, name: str) -> bool:
        """Whether the user said it, rather than leave it at its default."""
        return name in self.model_fields_set

    def values(self) -> dict[str, Any]:
        """Every field, as keywords for the function that does the work."""
        return {name: getattr(self, name) for name in type(self).model_fields}


def option_name(request: type[JobRequest], field: str) -> str:
    """How the command line calls a field: ``--dry-run``, or ``IN`` of an argument."""
    shown = shown_as(request, field)
    if shown["positional"]:
        return (shown["metavar"] or field.upper()).strip("[]")
    return f"--{shown['flag'] or field.replace('_', '-')}"


def shown_as(request: type[JobRequest], field: str) -> dict[str, Any]:
    """How the command line shows a field: what :func:`option` was told of that."""
    extra = request.model_fields[field].json_schema_extra
    assert isinstance(extra, dict)
    return extra


def words_of(request: JobRequest, but: Collection[str] = ()) -> list[str]:
    """The command after ``lorasmith`` that asks the same, with all that was given, also what is so
    by itself: a run or a model's file may say otherwise. A dry run's is that of the real one.

    Args:
        but: fields that are left out.
    """
    kind = type(request)
    words, options = [], []
    for name in kind.model_fields:
        value = getattr(request, name)
        if name in ("dry_run", *but) or not request.given(name) or value is None or value is False:
            continue
        each = list(map(str, value)) if isinstance(value, list) else [str(value)]
        flag = option_name(kind, name)
        if shown_as(kind, name)["positional"]:
            words += each
        elif value is True:
            options.append(flag)
        else:
            for text in each:
                options += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
    if any(word.startswith("-") for word in words):
        return [*request.verb.split(), *options, "--", *words]
    return [*request.verb.split(), *words, *options]


def command_line(request: JobRequest, but: Collection[str] = ()) -> str:
    """:func:`words_of`, as a shell takes it."""
    return " ".join(map(shell_word, ["lorasmith", *words_of(request, but)]))


def named_fields(request: type[JobRequest], problems: Iterable[Problem]) -> list[Problem]:
    """Problems under the names of the fields that they are about, each once."""
    names = {option_name(request, field): field for field in request.model_fields}
    names |= request.other_names
    return [Problem(names.get(p.where, p.where), p.what, p.hint) for p in dict.fromkeys(problems)]


class Runnable(Protocol[Result_co]):
    """A request that can be carried out."""

    def run(self, observer: Observer, controls: Controls) -> Result_co:
        """
        Raises:
            UserError: with everything that is wrong; nothing has been written.
            Stopped: the controls asked for it.
        """


def run(
    request: Runnable[Result_co], observer: Observer = ignore, controls: Controls | None = None
) -> Result_co:
    """Carry out a request; what the command line and other front ends share.

    A job of the queue also writes down what it tells; see :mod:`lorasmith.core.job_record`.

    Args:
        observer: called with each event.
        controls: to stop it, from another thread or a signal.
    """
    controls = controls or Controls()
    record = job_record.current()
    if record is None:
        return request.run(observer, controls)
    with record.heeding(controls):
        return request.run(record.watching(observer), controls)
