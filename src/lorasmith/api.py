"""What lorasmith does, as functions: those of a training run and of a dataset. The others are
public where they are defined; :mod:`lorasmith` has all of them by name.

Paths are texts or :class:`~pathlib.Path`. What users can mend is a
:class:`~lorasmith.core.errors.UserError`; ``observer`` and ``controls`` may be left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lorasmith.config.dump import toml_value
from lorasmith.config.fields import NONE
from lorasmith.config.load import Override, load_settings
from lorasmith.config.messages import suggestion
from lorasmith.config.schema import TrainSettings, sections
from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.files import parse_json, user_path
from lorasmith.jobs.advise import AdviseRequest
from lorasmith.jobs.dataset.audit import AuditRequest
from lorasmith.jobs.dataset.check import CheckRequest, PreviewReport, PreviewRequest
from lorasmith.jobs.diagnose import DiagnoseRequest
from lorasmith.jobs.request import run
from lorasmith.jobs.settings import ImportReport, ImportRequest
from lorasmith.jobs.training import PlanRequest, ResumeRequest, SettingsRequest, TrainRequest

if TYPE_CHECKING:
    from lorasmith.advice.advise.advise import Advised
    from lorasmith.advice.audit.audit import Audit
    from lorasmith.advice.diagnose.diagnosis import Diagnosis
    from lorasmith.advice.pick import Picked
    from lorasmith.curation.check.check import CheckReport
    from lorasmith.training.plan import Plan

AnyPath = str | Path
R = TypeVar("R", bound=SettingsRequest)


def train(
    data: AnyPath | None = None,
    *,
    model: AnyPath | None = None,
    preset: str | None = None,
    name: str | None = None,
    output: AnyPath | None = None,
    trigger: str | None = None,
    epochs: int | None = None,
    settings: AnyPath | Mapping[str, Any] | TrainSettings | None = None,
    observer: Observer = ignore,
    controls: Controls | None = None,
    **more: Any,
) -> Run:
    """Train a LoRA on a folder of images.

    ::

        run = train("images", model="demo", epochs=4)
        run = train("images", optimizer__lr=5e-5, adapter__rank=16)

    Args:
        data: the folder of images.
        model: "demo", a file, a folder of diffusers' or a hub id.
        preset: see ``lorasmith presets``.
        name, output: of the run, and the folder in which its folder is made; "runs".
        trigger: the word that shall call the LoRA up; by default the first tag that the captions
            of a folder share, else the folder's name.
        epochs: times through all images.
        settings: a settings file, another trainer's file, or settings by section or by path:
            ``{"optimizer": {"lr": 5e-5}}``, ``{"optimizer.lr": 5e-5}``. The arguments above and
            below win.
        observer: gets every event.
        controls: ``stop()`` stops after the step in progress, with everything saved.
        more: any other setting, as ``section__key``.

    Raises:
        UserError: with everything that is wrong; nothing has been written but perhaps caches.
        Stopped: the controls asked for it; :func:`resume` goes on.
    """
    request = _request(
        TrainRequest, preset, settings, more,
        model=model, data=data, name=name, output=output,
        trigger=trigger, epochs=epochs,
    )  # fmt: skip
    return Run(run(request, observer, controls))


def plan(
    data: AnyPath | None = None,
    *,
    model: AnyPath | None = None,
    preset: str | None = None,
    name: str | None = None,
    output: AnyPath | None = None,
    trigger: str | None = None,
    epochs: int | None = None,
    settings: AnyPath | Mapping[str, Any] | TrainSettings | None = None,
    observer: Observer = ignore,
    controls: Controls | None = None,
    **more: Any,
) -> Plan:
    """What :func:`train` with the same arguments would do, how long it would take and how much
    memory. Loads no model.

    Raises:
        UserError: with everything that would stop the run.
    """
    request = _request(
        PlanRequest, preset, settings, more,
        model=model, data=data, name=name, output=output,
        trigger=trigger, epochs=epochs,
    )  # fmt: skip
    return run(request, observer, controls)


def resume(
    path: AnyPath,
    *,
    settings: Mapping[str, Any] | None = None,
    observer: Observer = ignore,
    controls: Controls | None = None,
    **more: Any,
) -> Run:
    """Go on with a run that was stopped.

    Args:
        path: the run's folder.
        settings, more: what changes, as for :func:`train`; only what may (its length, what is
            saved and shown).

    Raises:
        RunError: it is no run, it changed underneath, or a change is not possible.
        Stopped: on a stop request.
    """
    overrides = [*_overrides(settings or {}), *_keywords(more)]
    request = ResumeRequest(path=user_path(path), settings=[*overrides])
    return Run(run(request, observer, controls))


class Run:
    """A training run: its folder and what is in it.

    Args:
        folder: of the run.

    Raises:
        RunError: it is none.
    """

    def __init__(self, folder: AnyPath) -> None:
        from lorasmith.training.runs.folder import existing_run_folder

        self._files = existing_run_folder(user_path(folder))

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def folder(self) -> Path:
        return self._files.path

    @property
    def name(self) -> str:
        return self._files.name

    @property
    def result(self) -> Path:
        """The LoRA of the whole run; it is there when the run is done."""
        return self._files.result

    @property
    def snapshots(self) -> list[Path]:
        """The LoRAs that were saved on the way, in their order."""
        return [path for path in self._files.lora_files if path != self.result]

    @property
    def samples(self) -> list[Path]:
        """The sample images, in the order of their steps."""
        return [path for _, path in sorted(self._files.drawn_samples())]

    @property
    def settings(self) -> TrainSettings:
        """Every value as it was used."""
        return load_settings(self._files.settings)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """What was measured: a row for each logged step and each validation."""
        if not self._files.metrics.exists():
            return []
        return [dict(parse_json(line)) for line in _whole_lines(self._files.metrics)]

    def pick(
        self,
        *,
        images: int = 6,
        plain: Sequence[str] = (),
        observer: Observer = ignore,
        controls: Controls | None = None,
    ) -> Picked:
        """Which snapshot to keep, and why; its file is ``pick().path``. See :func:`.pick`."""
        from lorasmith.advice.pick import pick

        return pick(self.folder, images=images, plain=plain, observer=observer, controls=controls)


def check(
    folders: AnyPath | Sequence[AnyPath],
    *,
    reg: AnyPath | None = None,
    resolution: int | tuple[int, int] = 512,
    batch: int = 1,
    epochs: int | None = None,
    max_tokens: Literal[75, 150, 225] = 75,
    trigger: str = "auto",
    extension: str = "auto",
    upscale: bool = True,
    quick: bool = False,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> CheckReport:
    """What training would see in a folder of images, or in several together, and what is wrong or
    odd about it.

    Args:
        reg: folder of regularisation images.
        resolution: to train at: a side, or width and height, in px.
        batch: images per batch.
        max_tokens: the longest caption, in CLIP tokens.
        trigger: the word that calls up what is shown; "auto" is the first tag that the captions of
            a folder share, else the folder's name.
        extension: of caption files.
        upscale: whether small images are made larger.
        quick: read headers only: find no damage and no duplicates.

    Raises:
        DatasetError: a folder is not there, or has no images.
        SettingsError: a value is out of range.
    """
    values = {
        "folders": _paths(folders), "reg": reg, "resolution": resolution, "batch": batch,
        "epochs": epochs, "max_tokens": max_tokens, "trigger": trigger, "extension": extension,
        "upscale": upscale, "quick": quick,
    }  # fmt: skip
    request = CheckRequest.read(values)
    return run(request, observer, controls)


def audit(
    folders: AnyPath | Sequence[AnyPath],
    *,
    reg: AnyPath | None = None,
    kind: Literal["character", "style", "concept", "object"] | None = None,
    config: AnyPath | None = None,
    fix: Sequence[str] = (),
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Audit:
    """What is wrong or odd about a dataset, rule by rule, and what mends it.

    Args:
        kind: what is to be learned; some rules are for one kind alone.
        config: a run's settings, as that run would see it.
        fix: ids of rules and findings to mend first; "all-safe" is what loses nothing.

    Raises:
        UserError: a folder is not there, or an id is of nothing.
    """
    values = {"folders": _paths(folders), "reg": reg, "kind": kind, "config": config}
    values = {name: v for name, v in values.items() if v is not None}
    return run(AuditRequest.read(values | {"fix": list(fix)}), observer, controls)


def advise(
    folder: AnyPath,
    *,
    model: AnyPath = "demo",
    kind: Literal["character", "style", "concept", "object"] | None = None,
    difficulty: Literal["A", "B", "C", "D", "E", "F", "G", "H", "I"] | None = None,
    use: Literal["balanced", "faithful", "flexible", "combined", "small"] | None = None,
    gpu: str | int | None = None,
    out: AnyPath | None = None,
    overwrite: bool = False,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Advised:
    """Settings for a folder of images, each with its reason; ``str(path)`` of ``out`` is then what
    :func:`train` takes as ``settings``.

    Args:
        model: as for :func:`train`.
        kind, difficulty, use: what is to be learned, how hard it is, what for; by default as the
            captions tell.
        gpu: memory of the card that it is to be trained on, as "8GB" or a number of GB; by default
            that of this machine's device.
        out: settings file to be written.
        overwrite: whether ``out`` may exist.

    Raises:
        UserError: with everything that would stop a run, or nothing fits the card.
    """
    values = {
        "folder": folder, "model": str(model), "kind": kind, "difficulty": difficulty, "use": use,
        "gpu": gpu, "out": out, "overwrite": overwrite,
    }  # fmt: skip
    request = AdviseRequest.read({name: v for name, v in values.items() if v is not None})
    return run(request, observer, controls)


def diagnose(
    paths: AnyPath | Sequence[AnyPath],
    *,
    model: AnyPath | None = None,
    models: Sequence[AnyPath] = (),
    data: AnyPath | None = None,
    images: int = 6,
    page: AnyPath | None = None,
    minutes: float | None = None,
    clip: AnyPath | None = None,
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto",
    device: str = "auto",
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> list[Diagnosis]:
    """What is wrong with LoRAs, why, and what to change; for each of ``paths`` what
    :attr:`~.Diagnosis.causes` says, the likeliest first.

    Args:
        paths: runs, snapshots of runs, or LoRA files.
        model: the base model; that of each run by default.
        models: further base models to try it on.
        data: the training images of a file without a run.
        images: drawings of each kind.
        page: HTML file to be written.
        minutes: no measure is begun after them.
        clip: a folder with a CLIP image encoder to compare drawings by.
        precision, device: in what and where to compute.

    Raises:
        UserError: with everything that is wrong.
        Stopped: the controls asked for it; what was measured is kept.
    """
    values = {
        "paths": _paths(paths), "model": None if model is None else str(model),
        "models": [str(one) for one in models], "data": data, "images": images, "page": page,
        "minutes": minutes, "clip": clip, "precision": precision,
        "device": device,
    }  # fmt: skip
    request = DiagnoseRequest.read({name: v for name, v in values.items() if v is not None})
    return run(request, observer, controls)


def preview(
    folders: AnyPath | Sequence[AnyPath],
    out: AnyPath = "preview.png",
    *,
    config: AnyPath | None = None,
    preset: str | None = None,
    settings: Sequence[str] = (),
    images: int = 8,
    uses: int = 8,
    side: int = 128,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> PreviewReport:
    """Draw what a run sees of the images in a folder, or in several: crops, mirror images, colours,
    masks.

    Args:
        config, preset, settings: of the run; the last as ``section.key=value``.
        images: rows at most.
        uses: of each image.
        side: px of each.

    Raises:
        UserError: with everything that is wrong.
    """
    request = PreviewRequest.read(
        {
            "folders": _paths(folders),
            "out": out,
            "config": config,
            "preset": preset,
            "settings": list(settings),
            "images": images,
            "uses": uses,
            "side": side,
        }
    )
    return run(request, observer, controls)


def _paths(given: AnyPath | Sequence[AnyPath]) -> list[AnyPath]:
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]


def import_settings(
    file: AnyPath,
    out: AnyPath | None = None,
    *,
    overwrite: bool = False,
    partial: bool = False,
) -> ImportReport:
    """Another trainer's settings as a settings file of lorasmith.

    Args:
        file: a script, a TOML or a JSON of sd-scripts, kohya_ss or LoRA_Easy_Training_Scripts, or
            a LoRA.
        out: to be written.
        overwrite: whether ``out`` may exist.
        partial: leave out what is refused.

    Raises:
        SettingsError: with everything that is wrong or cannot be honoured.
    """
    request = ImportRequest.read(
        {"file": file, "out": out, "overwrite": overwrite, "partial": partial}
    )
    return run(request)


# Paths of settings by the names that their arguments have here.
_ARGUMENTS = {
    "model": "model.path",
    "data": "data.path",
    "name": "save.name",
    "output": "save.output",
    "trigger": "captions.trigger",
    "epochs": "train.epochs",
}


def _request(
    request: type[R],
    preset: str | None,
    settings: AnyPath | Mapping[str, Any] | TrainSettings | None,
    more: Mapping[str, Any],
    **arguments: Any,
) -> R:
    """
    Args:
        arguments: by the names of :data:`_ARGUMENTS`.
    """
    config = user_path(settings) if isinstance(settings, str | Path) else None
    values = settings if isinstance(settings, Mapping) else {}
    if isinstance(settings, TrainSettings):
        values = settings.model_dump(exclude_unset=True)
    overrides = {override.path: override for override in _overrides(values)}
    overrides |= {
        _ARGUMENTS[name]: _override(_ARGUMENTS[name], value, name)
        for name, value in arguments.items()
        if value is not None
    }
    overrides |= {override.path: override for override in _keywords(more)}
    return request(config=config, preset=preset, settings=list(overrides.values()))


def _overrides(settings: Mapping[str, Any]) -> Iterator[Override]:
    """Settings by section or by path."""
    for name, value in settings.items():
        if "." not in name and isinstance(value, Mapping):
            for key, inner in value.items():
                yield _override(f"{name}.{key}", inner, "settings")
        else:
            yield _override(name, value, "settings")


def _keywords(more: Mapping[str, Any]) -> Iterator[Override]:
    """``section__key`` arguments.

    Raises:
        SettingsError: with all that are none.
    """
    problems = [
        Problem(name, "is not an argument", f"write settings as section__key; {hint}")
        for name in more
        if name.partition("__")[0] not in sections() and (hint := suggestion("", name))
    ]
    if problems:
        raise SettingsError(problems)
    for name, value in more.items():
        yield _override(name.replace("__", ".", 1), value, name)


def _override(path: str, value: Any, origin: str) -> Override:
    return Override(path, toml_value(NONE if value is None else value), origin)


def _whole_lines(path: Path) -> Iterator[str]:
    """Lines of a file to which a run may be writing."""
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            yield line
