"""Settings for a dataset, a base and a machine: rules, then what fits, then each line's reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lorasmith.advice.advise.case import Case
from lorasmith.advice.advise.damping import Damping, damping_of
from lorasmith.advice.advise.guide_tables import CATEGORIES, START
from lorasmith.advice.advise.machine import Fitted, Target, fit
from lorasmith.advice.advise.questions import Question, is_male
from lorasmith.advice.advise.rules import Choice, choices_of
from lorasmith.advice.advise.settings_file import (
    default_line,
    settings_text,
    written_settings,
)
from lorasmith.advice.advise.sources import (
    BASE,
    FAMILY,
    FIND_LR,
    GIVEN,
    LENGTH,
    MACHINE,
    MEMORY,
    PICTURES,
    science,
)
from lorasmith.advice.advise.timing import Timing, measured_time
from lorasmith.config.schema import TrainSettings, replace_settings, value_of
from lorasmith.config.sections.optimizer import USUAL_LR
from lorasmith.core.events import Controls, Notice, Observer, ignore
from lorasmith.core.text import bytes_text, quantity
from lorasmith.training.lr_search import search_size
from lorasmith.training.plan import duration
from lorasmith.training.preservation import preservation_of
from lorasmith.training.setup.preflight import RunPlan, preflight

_MOST_WARNINGS = 8


@dataclass(frozen=True)
class Advised:
    """
    Args:
        settings: as the file has them.
        lines: what is written, by setting, in the file's order.
        answers: to the questions, each with what it was taken from.
        fitted: with the run's plan and its memory.
        timing: ``None`` where no step like it was measured here.
    """

    case: Case
    settings: TrainSettings
    lines: Mapping[str, Choice]
    answers: Mapping[str, tuple[str, str]]
    fitted: Fitted
    target: Target
    damping: Damping
    timing: Timing | None

    @property
    def run_plan(self) -> RunPlan:
        return self.fitted.run_plan

    @property
    def text(self) -> str:
        """The settings file."""
        return settings_text(self.settings, self.lines, list(self.heading))

    @property
    def heading(self) -> Iterator[str]:
        """What is advised for what, and what it takes; lines for people."""
        yield "Settings advised by `lorasmith advise`; each line says why, and by what source."
        yield ""
        yield from self.summary
        if self.case.pictures.warnings:
            yield ""
            yield "Worth a look (lorasmith dataset check says all):"
            yield from (f"  {text}" for text in self.case.pictures.warnings[:_MOST_WARNINGS])

    @property
    def summary(self) -> Iterator[str]:
        pictures, base = self.case.pictures, self.case.base
        yield f"Pictures: {pictures.summary}"
        yield f"Base: {base.path}, {base.architecture.summary}"
        for name, (answer, because) in self.answers.items():
            yield f"{name.capitalize()}: {answer} ({because})"
        yield f"Length: {self._length}"
        yield f"Memory: {self._memory}"
        yield f"Time: {self._time}"
        yield f"Damping: {damping_text(self.damping)}"

    @property
    def _length(self) -> str:
        planned = self.run_plan.length
        return (
            str(planned.length)
            if planned is not None and planned.length is not None
            else f"{self.run_plan.steps} steps"
        )

    @property
    def _memory(self) -> str:
        memory, target = self.fitted.memory, self.target
        text = f"a step takes about {bytes_text(memory.step.total)}"
        if memory.peak is not memory.step:
            text += f", {memory.peak.what} {bytes_text(memory.peak.total)}"
        free = f", of {bytes_text(target.free)} free" if target.free is not None else ""
        return f"{text}{free} on {target.name}{_savings(self.fitted)}"

    @property
    def _time(self) -> str:
        if self.timing is None:
            where = "here" if self.target.here else f"on {self.target.name}"
            return f"not known: no steps like these were measured {where}; run it, and ask again"
        return (
            f"about {duration(self.timing.seconds)} for the steps, at {self.timing.step:.3g} s "
            f"each as measured in {self.timing.run}; drawing and saving come on top"
        )

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        memory = self.fitted.memory
        return {
            "settings": {
                path: {
                    "value": _plain(choice.value),
                    "reason": choice.reason,
                    "source": asdict(choice.source),
                }
                for path, choice in self.lines.items()
            },
            "answers": {
                name: {"value": value, "because": because}
                for name, (value, because) in self.answers.items()
            },
            "pictures": self.case.pictures.summary,
            "base": self.case.base.architecture.summary,
            "steps": self.run_plan.steps,
            "epochs": self.run_plan.epochs,
            "length": self._length,
            "device": self.target.name,
            "memory": {
                "free": self.target.free,
                "blocks_recomputed": memory.checkpointed,
                "estimates": [{**asdict(one), "total": one.total} for one in memory.estimates],
            },
            "seconds": None if self.timing is None else self.timing.seconds,
            "seconds_of_a_step": None if self.timing is None else self.timing.step,
            "damping": self.damping.to_json(),
            "warnings": list(self.case.pictures.warnings),
            "file": self.text,
        }


def advise(
    case: Case,
    questions: Sequence[Question],
    answers: Mapping[str, str],
    target: Target,
    *,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Advised:
    """The settings that rules and the memory plan give.

    Args:
        questions: what was asked, or would have been.
        answers: by question; what is missing is as proposed.
        target: what is to be trained on.

    Raises:
        UserError: nothing fits.
        Stopped: by the controls.
    """
    given: dict[str, Any] = {q.name: answers.get(q.name, q.proposed) for q in questions}
    case = case.answered(**given, male=is_male(case.pictures))
    choices = choices_of(case)
    settings = _with(case.settings, choices)

    observer(Notice("info", f"working out what fits {target.name}"))

    def replan(changed: TrainSettings) -> RunPlan:
        return preflight(changed, observer=observer, controls=controls)

    controls = controls or Controls()
    fitted = fit(case, settings, target, replan, controls)
    controls.check()
    choices |= fitted.choices
    settings = fitted.settings
    rates = {choice.setting: choice for choice in _rates(case, fitted)}
    choices |= rates
    settings = _with(settings, rates)
    settings = replace_settings(settings, {"model.defaults": True})
    run_plan = replace(fitted.run_plan, settings=_with(fitted.run_plan.settings, rates))
    fitted = replace(fitted, settings=settings, run_plan=run_plan)
    damping = damping_of(settings, case.base.architecture)
    regularised = bool(case.pictures.regularisation)
    paths = written_settings(settings, choices, regularised=regularised)
    explained = _explained(case, fitted, target, damping) | choices
    lines = {path: explained.get(path) or _line(case, path, settings) for path in paths}
    told = {q.name: _told(q, answers, case) for q in questions if _counts(q, case)}
    timing = measured_time(run_plan, target.name) if target.here else None
    return Advised(case, settings, lines, told, fitted, target, damping, timing)


def _with(settings: TrainSettings, choices: Mapping[str, Choice]) -> TrainSettings:
    values = {choice.setting: choice.value for choice in choices.values()}
    if values.get("data.folders"):
        values |= {"data.path": None, "data.reg": None}
    return replace_settings(settings, values)


def _rates(case: Case, fitted: Fitted) -> Iterator[Choice]:
    """Learning rates: looked for on the pictures, where the run is long enough for that."""
    if case.base.speaks:
        return
    train = fitted.settings.train
    size = search_size(fitted.run_plan.steps, train.batch * train.accumulation)
    if size is None:
        reason = f"the standard value; {fitted.run_plan.steps} steps are too few to look for one"
        yield Choice("optimizer.lr", USUAL_LR, reason, START)
        return
    reason = "looked for on the pictures, with this rank and alpha, before the first step: at most "
    reason += f"{size.steps / fitted.run_plan.steps:.0%} more time"
    yield Choice("optimizer.lr", "find", reason, FIND_LR)
    if fitted.settings.optimizer.text_encoder_lr is not None:
        reason = "what text_encoder_lr is beside: their ratio stays, whatever is found"
        yield Choice("optimizer.unet_lr", USUAL_LR, reason, START)


def _line(case: Case, path: str, settings: TrainSettings) -> Choice:
    """The reason of a setting that no rule speaks of."""
    value, origin = value_of(settings, path), case.base.suited.origins.get(path)
    if origin is None:
        return default_line(path, value)
    if path in case.base.says:
        return Choice(path, value, "what its maker measured that suits it", BASE)
    return Choice(path, value, f"suits {origin} models", FAMILY)


def _explained(case: Case, fitted: Fitted, target: Target, damping: Damping) -> dict[str, Choice]:
    """Of settings whose value stays, what is known of them here."""
    settings, run_plan = fitted.settings, fitted.run_plan
    planned = run_plan.length
    length = str(planned.length) if planned is not None and planned.length else ""
    kept, why_not = preservation_of(run_plan.settings, run_plan.dataset)
    triggers = "; ".join(dict.fromkeys(str(trigger) for trigger in run_plan.triggers))
    twice = fitted.memory.checkpointed
    blocks = f"{quantity(twice, 'block', 'is')} computed twice to fit" if twice else "all fits"
    texts = {
        "model.path": ("the base model", GIVEN),
        "data.path": ("the pictures", GIVEN),
        "captions.trigger": (f"found by itself: {triggers}", PICTURES),
        "preservation.enabled": (
            f"keeps {kept}" if kept is not None else f"nothing is kept: {why_not}", PICTURES,
        ),
        "train.epochs": (length, LENGTH),
        "train.precision": (target.why, MACHINE),
        "train.gradient_checkpointing": (f"{blocks} on {target.name}", MEMORY),
        "loss.min_snr_gamma": (
            f"steadier learning; damps steps to {damping.min_snr:.2f} by the noise schedule",
            science("Min SNR Gamma"),
        ),
        "loss.noise_offset": (
            "off: of use for pictures that come out dull; 0.1 would damp steps by half a percent",
            science("Noise offset"),
        ),
    }  # fmt: skip
    if "loss.min_snr_gamma" in case.base.says or settings.loss.min_snr_gamma is None:
        del texts["loss.min_snr_gamma"]
    return {
        path: Choice(path, value_of(settings, path), reason, source)
        for path, (reason, source) in texts.items()
        if path not in case.base.says
    }


def _counts(question: Question, case: Case) -> bool:
    """Whether the answer changed anything."""
    return question.name != "difficulty" or case.kind != "style"


def _told(question: Question, answers: Mapping[str, str], case: Case) -> tuple[str, str]:
    """An answer for people, and where it is from."""
    value = answers.get(question.name, question.proposed)
    because = "as said" if question.name in answers else question.because
    if question.name == "difficulty":
        because = f"{CATEGORIES[value].description}; {because}"
    return value, because


def damping_text(damping: Damping) -> str:
    """For people: how far steps go, by what."""
    parts = {"alpha": damping.alpha, "min-SNR": damping.min_snr, "offset": damping.noise_offset}
    text = ", ".join(f"{name} {factor:.2f}" for name, factor in parts.items() if factor != 1)
    text = f"steps go {damping.rate:.2f} times as far as undamped" + (f" ({text})" if text else "")
    if damping.resolution != 1:
        text += f"; {damping.resolution:.2f} times as many noise levels teach shapes"
    return text


def _savings(fitted: Fitted) -> str:
    memory = fitted.memory
    savings = {
        f"{quantity(memory.checkpointed, 'block')} computed twice": bool(memory.checkpointed),
        "pictures encoded one by one": memory.slices,
        "pictures encoded in tiles": memory.tile_encoding,
        "samples decoded in tiles": memory.tile_decoding,
        "samples drawn one by one": memory.draw_batch == 1,
    }
    ways = [what for what, is_done in savings.items() if is_done]
    ways += [f"{choice.setting} changed" for choice in fitted.choices.values()]
    return f"; {', '.join(ways)}" if ways else ""


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_unset=True)
    return value if isinstance(value, str | int | float | bool | None) else str(value)
