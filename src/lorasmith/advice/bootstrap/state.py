"""The folder of a bootstrap, and the file in it that says how far it has come. Torch-free.

::

    DIR/
      bootstrap.json        what was asked for, and each round: its LoRA, drawings, what was kept
      dataset/              an ordinary dataset, with its journal
        4_zorp/             the images that were given
        1_zorp-drawn/       drawings that were kept; lineage.json says of each what made it
      rounds/01/
        drawings/01.png …   each with its caption
        base/01.png …       the base model's at the same seed, which likeness is measured from
        page.html           to choose by
        choice.json         which are kept, {"keep": [1, 4, 7]}; read where it is there
      runs/zorp-01/ …       a run for each round, and runs/zorp/ for the last one
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Literal, Self

from pydantic import TypeAdapter, ValidationError

from lorasmith.core.errors import DatasetError, Problem, RunError
from lorasmith.core.file_names import safe_stem, shell_word
from lorasmith.core.files import parse_json, write_json
from lorasmith.core.locks import lock_file
from lorasmith.data.images import SUFFIXES
from lorasmith.formats.run_paths import BOOTSTRAP_FILE

VERSION = 1
STATE = BOOTSTRAP_FILE
OUT = "bootstrap"
"""The folder in which bootstraps lie, each by its trigger's name, where nobody names another."""
MOST_DRAWINGS = 200
ROUND_LENGTH = 0.5
LINEAGE = "lineage.json"
LOCK = "bootstrap.lock"

Stage = Literal["train", "draw", "choose", "final", "done"]
"""What comes next. A bootstrap waits for somebody in "choose" alone."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for, as :class:`~lorasmith.jobs.bootstrap.BootstrapRequest` has it.

    Args:
        trigger: the word that calls the subject.
        model: the base model.
        given: how many images were given.
        rounds: at most.
        drawings: of each round.
        choose: "ask" or "auto".
        keep_most: drawings that "auto" keeps of a round.
        weight: how often a kept drawing is shown beside a given image, 0 to 1.
        redraw: of a round's drawings, those that begin with a kept one (img2img).
        denoise: how much of it is drawn anew, 0 to 1.
        round_length: of each round's training, as a share of a whole one; ``None`` is
            :data:`ROUND_LENGTH`, or all of it where the settings say ``train.steps``.
        prompts, wildcards: a file and a folder; "" for none.
        models: further base models that draw from the second round on.
        style_loras: further LoRAs in some of the drawings from the second round on, ``FILE`` or
            ``FILE:STRENGTH``.
        cfg, steps, sampler: of drawings; ``None`` is what the base says, else mild guidance.
        size: width and height, px; ``None`` is the model's own.
        settings, preset: of the trainings.
        seed: of everything.
    """

    trigger: str
    model: str = "demo"
    given: int = 1
    rounds: int = 4
    drawings: int = 16
    choose: Literal["ask", "auto"] = "ask"
    keep_most: int = 6
    weight: float = 0.25
    redraw: int = 4
    denoise: float = 0.5
    round_length: float | None = None
    prompts: str = ""
    wildcards: str = ""
    models: tuple[str, ...] = ()
    style_loras: tuple[str, ...] = ()
    cfg: float | None = None
    steps: int | None = None
    sampler: str | None = None
    negative: str | None = None
    size: tuple[int, int] | None = None
    settings: tuple[str, ...] = ()
    preset: str | None = None
    seed: int = 0
    precision: str = "auto"
    device: str = "auto"


def stem_of(trigger: str) -> str:
    """A trigger, as names of files and folders have it."""
    return safe_stem(trigger.strip().replace(" ", "-")) or "subject"


@dataclass(slots=True)
class DrawingRecord:
    """A drawing of a round and what was measured of it.

    Args:
        number: on the page, from 1.
        caption: what a training would be told.
        prompt: with LoRAs, as it was drawn.
        model: that drew it.
        source: the kept image that it began with, by its name; "" for none.
        likeness: 0 as like the given images as the base model's drawings are, 1 as these are to
            each other; ``None`` before it is measured.
        nearest: name of the image of the set whose layout is nearest.
        copying: how far that is, as a share of how far the base model's drawings are from each
            other. Small is a copy.
        defects: what is wrong with it, in words.
    """

    number: int
    caption: str
    prompt: str
    seed: int
    model: str
    source: str = ""
    likeness: float | None = None
    nearest: str = ""
    copying: float | None = None
    defects: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.number:02d}.png"


@dataclass(slots=True)
class Round:
    """
    Args:
        number: from 1.
        images: of the set that was trained on: given and kept.
        run: the run's folder, relative to that of the bootstrap.
        lora: its file, likewise.
        steps: optimizer steps of its training.
        likeness: mean of its drawings that begin from nothing; ``None`` before they are measured.
        diversity: mean distance of these from each other, as a share of that between the base
            model's.
        copies: how many of these repeat an image of the set.
        suggested: numbers of the drawings that "auto" would keep, the likest first.
        reasons: why it would leave out each of the others, by number.
        kept: numbers of drawings; ``None`` before somebody has chosen.
        repeated: images of the set that stick out: by name, how many drawings repeat them.
        purged: of these, those that were taken out of the set.
        replaced: kept images whose place a drawing of this round took.
    """

    number: int
    images: int = 0
    run: str = ""
    lora: str = ""
    steps: int = 0
    drawings: list[DrawingRecord] = field(default_factory=list)
    likeness: float | None = None
    diversity: float | None = None
    copies: int = 0
    suggested: list[int] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    kept: list[int] | None = None
    repeated: dict[str, int] = field(default_factory=dict)
    purged: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class BaseDistances:
    """How far the base model's drawings of the first round are: what later ones are measured by.

    Args:
        content: in the mean from the given images.
        nearest: from the nearest of each other.
        spread: in the mean from each other.
        layout: from the nearest of each other, in layout.
    """

    content: float
    nearest: float
    spread: float
    layout: float


@dataclass(slots=True)
class Bootstrap:
    """How far a bootstrap has come; :meth:`save` after each piece of work.

    Args:
        folder: its own.
        stage: what comes next.
        base: the base model's distances; ``None`` before the first round is measured.
        ended: why there are no more rounds; "" while there may be.
        results: LoRAs of the usual length, relative to the folder; the last is the newest.
    """

    folder: Path
    options: Options
    stage: Stage = "train"
    rounds: list[Round] = field(default_factory=list)
    base: BaseDistances | None = None
    ended: str = ""
    results: list[str] = field(default_factory=list)

    @property
    def dataset(self) -> Path:
        return self.folder / "dataset"

    @property
    def given_folder(self) -> Path:
        """Its repeats say how much more often than a drawing a given image is shown."""
        repeats = max(1, round(1 / self.options.weight))
        return self.dataset / f"{repeats}_{self.stem}"

    @property
    def drawn_folder(self) -> Path:
        return self.dataset / f"1_{self.stem}-drawn"

    @property
    def lineage(self) -> Path:
        return self.drawn_folder / LINEAGE

    @property
    def stem(self) -> str:
        return stem_of(self.options.trigger)

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def now(self) -> Round:
        """The round that is going on."""
        return self.rounds[-1]

    @property
    def page(self) -> Path:
        """Of the newest round."""
        return self.round_folder(self.now) / "page.html"

    @property
    def choice_file(self) -> Path:
        return self.round_folder(self.now) / "choice.json"

    @property
    def lock(self) -> Path:
        """Whoever works here has it locked."""
        return self.folder / LOCK

    @property
    def busy(self) -> bool:
        """Whether a process is at work here now."""
        return is_busy(self.folder)

    @property
    def command(self) -> str:
        """That goes on with it."""
        return f"lorasmith bootstrap --continue {shell_word(self.folder)}"

    def round_folder(self, one: Round) -> Path:
        return self.folder / "rounds" / f"{one.number:02d}"

    def drawing(self, one: Round, drawing: DrawingRecord) -> Path:
        """The file of a round's drawing."""
        return self.round_folder(one) / "drawings" / drawing.name

    def base_drawing(self, one: Round, drawing: DrawingRecord) -> Path:
        """The base model's at the same seed."""
        return self.round_folder(one) / "base" / drawing.name

    def save(self) -> None:
        """
        Raises:
            RunError: it cannot be written.
        """
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del values["folder"]
        values["options"] = dataclasses.asdict(self.options)
        values["rounds"] = [dataclasses.asdict(one) for one in self.rounds]
        values["base"] = dataclasses.asdict(self.base) if self.base else None
        write_json(self.folder / STATE, {"version": VERSION, **values})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """
        Raises:
            RunError: the folder holds no bootstrap, or its file is damaged.
        """
        path = folder / STATE
        try:
            values = parse_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            what = "holds no bootstrap" if folder.is_dir() else "does not exist"
            hint = "name the folder of one (--out)"
            raise RunError.of(folder, what, hint) from None
        except (OSError, ValueError) as error:
            raise RunError(_damaged(path, error)) from error
        try:
            if values.pop("version") != VERSION:
                raise RunError.of(path, "is of another version of lorasmith", "begin a new one")
            boot = TypeAdapter(cls).validate_python({"folder": folder, **values})
            _require_inside(boot)
            return boot
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise RunError(_damaged(path, error)) from error

    def read_choice(self) -> list[int] | None:
        """What ``choice.json`` keeps; ``None`` where it is not there.

        Raises:
            RunError: it is no list of the round's numbers.
        """
        path = self.choice_file
        try:
            keep = parse_json(path.read_text(encoding="utf-8"))["keep"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise RunError.of(path, "cannot be read", CHOICE_FORM) from error
        if not isinstance(keep, list) or not all(type(number) is int for number in keep):
            raise RunError.of(path, "is no list of numbers", CHOICE_FORM)
        problem = self.choice_problem(keep)
        if problem is not None:
            raise RunError(dataclasses.replace(problem, where=str(path)))
        return sorted(set(keep))

    def choice_problem(self, keep: list[int]) -> Problem | None:
        """What is wrong with a choice; ``None`` where nothing is."""
        wrong = [number for number in keep if not 1 <= number <= len(self.now.drawings)]
        if not wrong:
            return None
        what = f"round {self.now.number} has no drawing {', '.join(map(str, wrong))}"
        return Problem("keep", what, f"choose of 1 to {len(self.now.drawings)}")


CHOICE_FORM = 'write it as {"keep": [1, 4, 7]}'


def is_busy(folder: Path) -> bool:
    """Whether a process is at work on the bootstrap of a folder."""
    try:
        with open(folder / LOCK, "r+", encoding="utf-8") as file:
            return not lock_file(file, shared=True)
    except OSError:
        return False


def _require_inside(boot: Bootstrap) -> None:
    """
    Raises:
        ValueError: it names a file of its own by a way that leads out of its folder, or its numbers
            are such as nobody wrote down.
    """
    if not 0 < boot.options.weight <= 1:
        raise ValueError(f"weight is {boot.options.weight:g}")
    if boot.stage != "train" and not boot.rounds:
        raise ValueError("it has no rounds")
    paths, names = list(boot.results), []
    for number, one in enumerate(boot.rounds, 1):
        drawings = [each.number for each in one.drawings]
        if one.number != number or drawings != list(range(1, len(drawings) + 1)):
            raise ValueError(f"round {number} is not numbered as such")
        paths += [one.run, one.lora]
        names += [*one.repeated, *one.purged, *one.replaced]
        names += [name for each in one.drawings for name in (each.source, each.nearest)]
    for text in paths:
        if PurePath(text).is_absolute() or ".." in PurePath(text).parts:
            raise ValueError(f"{text} leads out of its folder")
    for name in names:
        if name != PurePath(name).name or "\\" in name:
            raise ValueError(f"{name} is no name of a file")


def _damaged(path: Path, error: Exception) -> Problem:
    what = str(error)
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return Problem(str(path), f"is damaged: {what}", "begin a new one in another folder")


def images_of(folder: Path) -> list[Path]:
    """The images of one folder of the set, in the order of their names."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def caption_beside(image: Path) -> str:
    """Of an image of the set, or of a drawing; "" where its file is gone.

    Raises:
        DatasetError: it cannot be read.
    """
    path = image.with_suffix(".txt")
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError.of(path, "cannot be read as text", "give a UTF-8 file") from error


def kept_records(boot: Bootstrap) -> dict[str, DrawingRecord]:
    """The drawings that are in the set, by their names there."""
    there = {path.name for path in images_of(boot.drawn_folder)}
    return {
        name: drawing
        for one in boot.rounds
        for drawing in one.drawings
        if (name := kept_name(one, drawing)) in there
    }


def kept_name(one: Round, drawing: DrawingRecord) -> str:
    """What a drawing is called in the set."""
    return f"r{one.number:02d}-{drawing.number:02d}.png"
