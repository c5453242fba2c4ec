"""What a run asks of its kind: from settings to what is trained, and what is said of it.

The loop, the step and what is saved, measured and drawn know only the :class:`.Trained` that a kind
builds; what goes by settings alone is here.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from lorasmith.config.kinds import kind_facts
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import Problem
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.data.dataset import Dataset
from lorasmith.data.triggers import Trigger
from lorasmith.models.placeholders import NO_PLACEHOLDERS, Placeholders
from lorasmith.tensors.files import PRECISIONS
from lorasmith.training.kinds.trained import Trained
from lorasmith.training.memory.estimates import values_beside
from lorasmith.training.optim import FlatGroup, Group, build_optimizer, flat_groups

if TYPE_CHECKING:
    from lorasmith.measures.on_model import SnapshotOnModel
    from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
    from lorasmith.models.open import OpenedCheckpoint
    from lorasmith.sampling.request import ImageRequest
    from lorasmith.training.objective import Objective


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """What sd-scripts' metadata say of a network.

    Args:
        module: ``ss_network_module``; ``None`` of what is no network.
        dim, alpha: of most layers that are not convolutions.
        args: ``ss_network_args``.
    """

    module: str | None = None
    dim: int | None = None
    alpha: float | None = None
    args: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MemoryChange:
    """A change of settings that takes less memory, and the settings that it can be made to."""

    path: str
    value: Any
    applies: Callable[[TrainSettings], bool]


@dataclass(frozen=True, slots=True)
class Disk:
    """
    Args:
        what: the files are, in the plural: "LoRA files".
        file, state: bytes of one, and of a training state.
        at_the_end: bytes of what :meth:`Kind.finish` makes, by what that is.
    """

    what: str
    file: int
    state: int
    at_the_end: Mapping[str, int] = field(default_factory=dict)


class Encoder(Protocol):
    """Gives the text features of captions; see :class:`lorasmith.training.sources.TextSource`."""

    def condition(self, captions: Sequence[str]) -> Conditioning: ...


@dataclass(frozen=True, slots=True)
class PromptTriple:
    """Three prompts that differ in one attribute."""

    target: str
    positive: str
    negative: str

    def with_words(self, words: str) -> PromptTriple:
        """The same with ``words`` behind each of the prompts."""
        texts = (self.target, self.positive, self.negative)
        return PromptTriple(*(", ".join(t for t in (text, words) if t) for text in texts))


class ContrastTraining(Protocol):
    """How runs are trained that learn a difference: between prompts, or between the two sides of
    pairs of images. All are functions of settings."""

    has_pairs: bool
    """Whether there are pairs of images; otherwise prompts stand in their place."""

    def captions(self, settings: TrainSettings) -> list[str]:
        """Without images, a prompt for each that would be there; else the caption of all."""

    def further(self, settings: TrainSettings) -> list[str]:
        """All other prompts whose text features are used."""

    def describe(self, settings: TrainSettings) -> list[str]:
        """A line for each of :meth:`captions`, of what is learned with it."""

    def objective(
        self,
        settings: TrainSettings,
        objective: Objective,
        trained: Trained,
        text: Encoder,
        items: Sequence[int],
    ) -> Objective:
        """What is minimised.

        Args:
            objective: of runs on images, for its schedule, timesteps, weights and loss.
            items: for each sample by its id, which of the captions is its own.
        """

    def passes(self, settings: TrainSettings) -> float:
        """As :meth:`Kind.passes`."""


class Kind(Protocol):
    """One value of ``train.kind``. Nothing of it is kept: all methods are functions of settings."""

    size_name: str
    """What :meth:`size` gives, as the heading of a column."""

    modelspec: str
    """What follows the base's architecture in ``modelspec.architecture``: "/lora"."""

    def check_files(self, settings: TrainSettings) -> None:
        """
        Raises:
            UserError: files that the settings name to begin with cannot be read.
        """

    def check_model(self, settings: TrainSettings, checkpoint: OpenedCheckpoint) -> None:
        """
        Raises:
            UserError: the settings name what this model does not have; by its headers alone.
        """

    def with_triggers(self, settings: TrainSettings, triggers: Sequence[Trigger]) -> TrainSettings:
        """The settings with what the kind takes from the words that call what is learned.

        Raises:
            SettingsError: it needs one, and there is none.
        """

    def default_name(self, settings: TrainSettings) -> str:
        """Of a run that has no name, where the kind's files have to be called so; else ""."""

    def problems(self, settings: TrainSettings, dataset: Dataset) -> Iterator[Problem]:
        """What cannot be learned from these images and captions."""

    def oddities(self, settings: TrainSettings, dataset: Dataset) -> Iterator[Problem]:
        """What is odd about the settings together with the images and captions."""

    def placeholders(self, settings: TrainSettings) -> Placeholders:
        """The words of captions that have vectors of their own."""

    def trains_text(self, settings: TrainSettings) -> bool:
        """Whether captions mean something else after each step: then none can be encoded before."""

    def build(
        self, settings: TrainSettings, model: DiffusionModel, observe: Observer = ignore
    ) -> Trained:
        """What a new run trains, not attached; on the meta device for a model that is there.

        Raises:
            UserError: it does not fit the model, or nothing is left to train.
        """

    def planned(self, settings: TrainSettings, checkpoint: OpenedCheckpoint) -> Trained:
        """The same by the model's headers, on the meta device: shapes without memory.

        Raises:
            UserError: as :meth:`build`.
        """

    def groups(
        self, settings: TrainSettings, trained: Trained, compute: torch.dtype
    ) -> Sequence[Group]:
        """What is trained as a step sees it, for a model that computes in ``compute``."""

    def optimizer(
        self, settings: TrainSettings, trained: Trained, groups: Sequence[Group]
    ) -> torch.optim.Optimizer:
        """The optimizer over ``groups``, ready to step; its ``param_groups`` are in their order.

        Raises:
            SettingsError: its library is missing, or an argument is not one of its own.
        """

    def passes(self, settings: TrainSettings) -> float:
        """What a step costs beside one forward and backward pass through frozen weights, in forward
        passes."""

    def packs(self, settings: TrainSettings) -> bool:
        """Whether the UNet's own weights stay as they are, so that they can be kept in fewer bits
        or in main memory."""

    def plan_key(self, settings: TrainSettings) -> Hashable | None:
        """What :meth:`planned` depends on besides the model; ``None`` where files are among it."""

    def size(self, settings: TrainSettings, part: str) -> str:
        """How large that part of it is, as a plan has it: "16 / 16"."""

    def disk(self, settings: TrainSettings, planned: Trained, checkpoint: OpenedCheckpoint) -> Disk:
        """What a run writes; of :meth:`planned`."""

    def memory_changes(self) -> tuple[MemoryChange, ...]:
        """What can be trained less of, where memory does not suffice on a GPU."""

    def network_facts(self, settings: TrainSettings, trained: Trained) -> NetworkFacts:
        """For the file's metadata."""

    def describe(self, settings: TrainSettings, trained: Trained) -> str:
        """What it is, for people: "lora, rank 16, alpha 16"."""

    large_files: bool
    """Whether its files are so large that a run does not begin where there is no room for them."""

    @property
    def strengths(self) -> tuple[float, ...]:
        """Those that each sample is drawn at, in one row; none: each is a drawing as it is."""

    def contrast(self, settings: TrainSettings) -> ContrastTraining | None:
        """How a difference is learned; ``None``: it is trained on images and their captions."""

    def on_model(
        self, settings: TrainSettings, path: Path, model: DiffusionModel
    ) -> SnapshotOnModel:
        """One of its files, to be measured on the base model.

        Raises:
            UserError: it is damaged.
        """

    def next_steps(
        self, settings: TrainSettings, run: str, result: str, *, drawn: bool
    ) -> Mapping[str, str]:
        """The commands that come after training, and what each is for.

        Args:
            run, result: the run and its file, as a command line names them.
            drawn: there are samples, or prompts for them.
        """

    def finish(
        self, settings: TrainSettings, result: Path, observe: Observer, controls: Controls
    ) -> None:
        """What is made of the result, when training is done.

        Args:
            result: the file of :meth:`.Trained.save`.

        Raises:
            Stopped: asked to stop.
        """

    def further_files(self, settings: TrainSettings, result: Path) -> tuple[Path, ...]:
        """What :meth:`finish` makes beside the result, or in folders there."""

    def called(self, settings: TrainSettings, name: str, trigger: str) -> str:
        """The trigger that calls up what is in the file of that name, in any program.

        Args:
            trigger: that of its training.
        """

    def sample(self, settings: TrainSettings, request: ImageRequest) -> ImageRequest:
        """What is drawn while training, for one of the prompts that are to be drawn."""

    def prompt(self, prompt: str, name: str) -> str:
        """A prompt as one writes it in a web UI to draw with the file of that name."""


class PlainKind:
    """What a :class:`Kind` does that asks nothing of captions, files or the finished result."""

    strengths: tuple[float, ...] = ()

    def contrast(self, settings: TrainSettings) -> ContrastTraining | None:
        return None

    def passes(self, settings: TrainSettings) -> float:
        contrast = self.contrast(settings)
        return 0 if contrast is None else contrast.passes(settings)

    def check_files(self, settings: TrainSettings) -> None:
        """There are none."""

    def with_triggers(self, settings: TrainSettings, triggers: Sequence[Trigger]) -> TrainSettings:
        return settings

    def default_name(self, settings: TrainSettings) -> str:
        return ""

    def problems(self, settings: TrainSettings, dataset: Dataset) -> Iterator[Problem]:
        return iter(())

    def oddities(self, settings: TrainSettings, dataset: Dataset) -> Iterator[Problem]:
        return iter(())

    def placeholders(self, settings: TrainSettings) -> Placeholders:
        return NO_PLACEHOLDERS

    def finish(
        self, settings: TrainSettings, result: Path, observe: Observer, controls: Controls
    ) -> None:
        """Nothing: the file is all."""

    def further_files(self, settings: TrainSettings, result: Path) -> tuple[Path, ...]:
        return ()

    def called(self, settings: TrainSettings, name: str, trigger: str) -> str:
        return trigger

    def on_model(
        self, settings: TrainSettings, path: Path, model: DiffusionModel
    ) -> SnapshotOnModel:
        # It takes generating, and who asks what a run would cost needs none of it.
        from lorasmith.measures.on_model import LoraOnModel

        return LoraOnModel(path, model)

    def sample(self, settings: TrainSettings, request: ImageRequest) -> ImageRequest:
        return request

    def comparisons(
        self, settings: TrainSettings, run: str, *, drawn: bool, rows: str = ""
    ) -> dict[str, str]:
        """The commands that compare a run's snapshots, as :meth:`Kind.next_steps` has them.

        Args:
            rows: of the grid; "" for none.
        """
        lines = {}
        if not kind_facts(settings).unjudged(settings):
            lines[f"lorasmith pick {run}"] = "which snapshot to keep, and why"
        if drawn:
            what = f"snapshots by {rows}" if rows else "drawings of each snapshot"
            lines[f"lorasmith grid --epochs {run}"] = f"{what}, as one page"
        return lines


class FlatKind(PlainKind):
    """A :class:`Kind` of parameters beside the base's weights, few enough for one flat tensor."""

    large_files = False
    files = "LoRA files"
    """What it writes, in the plural."""

    def groups(
        self, settings: TrainSettings, trained: Trained, compute: torch.dtype
    ) -> list[FlatGroup]:
        optimizer = settings.optimizer
        pieces = (
            (group.name, group.parameters, optimizer.lr_of(group.part) * group.rate)
            for group in trained.parameter_groups()
        )
        return flat_groups(optimizer.name, pieces, compute)

    def optimizer(
        self, settings: TrainSettings, trained: Trained, groups: Sequence[Group]
    ) -> torch.optim.Optimizer:
        return build_optimizer(settings.optimizer.name, groups, settings.optimizer.args)

    def packs(self, settings: TrainSettings) -> bool:
        return True

    def disk(self, settings: TrainSettings, planned: Trained, checkpoint: OpenedCheckpoint) -> Disk:
        values = sum(group.size for group in planned.parameter_groups())
        file = values * PRECISIONS[settings.save.precision].itemsize
        return Disk(self.files, file, values * int(4 * (1 + values_beside(settings))))
