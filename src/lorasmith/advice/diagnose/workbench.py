"""What the measures of one LoRA are taken from: the base model, the LoRA, pictures, prompts."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasmith.advice.diagnose.subject import Subject
from lorasmith.advice.diagnose.tag_groups import groups_of
from lorasmith.advice.pick import load_base, measures_key
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.data.captions import split_tags
from lorasmith.measures.records import AT_LEISURE, MeasuresFile
from lorasmith.sampling.from_dataset import stripped
from lorasmith.training.setup.base_model import model_reference

if TYPE_CHECKING:
    from lorasmith.adapters.network import AdapterNetwork
    from lorasmith.data.dataset import Dataset
    from lorasmith.diffusion.schedule import NoiseSchedule
    from lorasmith.measures.drawings import Drawings
    from lorasmith.measures.noise_probe import Probe, Row
    from lorasmith.models.diffusion_model import DiffusionModel
    from lorasmith.models.reference import ModelReference
    from lorasmith.sampling.request import ImageRequest

GRID_SEEDS, GRID_IMAGES, GRID_TIMESTEPS = (0, 1, 2), 4, 4
READ_IMAGES, READ_TAGS = 12, 48
OWN_PROMPTS, OWN_STEPS, ANSWER_ROWS = 8, 12, 3
FREQUENT_TAGS = 8
# Of the progress bar: the vocabulary's batches, and about as many words.
TOKEN_BATCHES = 49 + 36
ELSEWHERE = (
    "a cat on a sofa, indoors",
    "a house by a lake, mountains, morning",
    "a woman in a red coat, street, night",
    "a bowl of fruit on a table",
    "a city seen from above",
    "a knight in armor, forest",
)
"""Other things, for a base that does not say what it knows."""
SKIPS = (1, 2)


class Workbench:
    """What measures of one LoRA are taken from; each part is loaded when it is first needed.

    Args:
        clip: a folder with a CLIP image encoder to compare drawings by.
        loaded: the base model of the workbench before, which is taken over if it is the same.
    """

    def __init__(
        self,
        subject: Subject,
        *,
        clip: Path | None = None,
        device: str = "auto",
        precision: str = "auto",
        observer: Observer = ignore,
        controls: Controls | None = None,
        loaded: dict[ModelReference, DiffusionModel] | None = None,
    ) -> None:
        self.subject, self.clip = subject, clip
        self._device, self._precision = device, precision
        self.observer, self.controls = observer, controls or Controls()
        self._loaded = {} if loaded is None else loaded
        self.results: dict[str, Any] = {}

    @cached_property
    def model(self) -> DiffusionModel:
        subject = self.subject
        key = model_reference(subject.settings)
        if key not in self._loaded:
            self._loaded.clear()  # Two at once may be more than there is memory for.
            self._loaded[key] = load_base(
                subject.settings, subject.base.architecture, self._device, self._precision
            )
        return self._loaded[key]

    @cached_property
    def schedule(self) -> NoiseSchedule:
        from lorasmith.training.objective import build_objective

        return build_objective(self.subject.settings, self.model).schedule

    @cached_property
    def network(self) -> AdapterNetwork:
        from lorasmith.adapters.file import load_lora
        from lorasmith.adapters.network import AdapterNetwork

        tensors = load_lora(self.subject.path, finite=False).tensors  # told by the measures
        return AdapterNetwork.load(
            tensors, self.model.adapter_roots(), where=str(self.subject.path)
        )

    @cached_property
    def pick_measures(self) -> MeasuresFile:
        """Kept where ``pick`` keeps its own."""
        subject = self.subject
        assert subject.eval_set is not None
        key = measures_key(subject.settings, subject.eval_set, subject.base_fingerprint, self.clip)
        place = subject.run.path / "pick" if subject.run is not None else subject.kept
        return MeasuresFile(place / key)

    @cached_property
    def drawings(self) -> Drawings:
        """Of prompts that ``pick`` has none of."""
        from lorasmith.measures.drawings import Drawings

        request = self._request(OWN_STEPS)
        key = blake2b(repr((self.base_key, request)).encode(), digest_size=6).hexdigest()
        folder = self.subject.kept / f"drawings-{key}"
        return Drawings(self.model, folder, request, observer=self.observer, controls=self.controls)

    @cached_property
    def pick_drawings(self) -> Drawings:
        """As ``pick`` draws, and where it keeps them; what is gone is drawn again."""
        from lorasmith.measures.drawings import Drawings

        request = self._request(AT_LEISURE.drawing_steps)
        folder = self.pick_measures.folder
        return Drawings(self.model, folder, request, observer=self.observer, controls=self.controls)

    def _request(self, most_steps: int) -> ImageRequest:
        from lorasmith.training.samples import sample_request

        size = self.subject.base.architecture.native_resolution
        request = sample_request(self.subject.settings.sample, "", 0, size)
        return dataclasses.replace(request, steps=min(request.steps, most_steps))

    @property
    def base_key(self) -> tuple[object, ...]:
        """Changes with the base model's file and whatever settings say of how it is used."""
        # The file may move.
        reference = dataclasses.replace(model_reference(self.subject.settings), path="")
        return (self.subject.base_fingerprint, reference, self._precision)

    @property
    def stem(self) -> str:
        """What the names of the LoRA's drawings begin with."""
        return self.subject.fingerprint[:12]

    @property
    def own_prompts(self) -> list[str]:
        """Of things that are none of the LoRA's business."""
        return list(self.subject.plain or ELSEWHERE)[:OWN_PROMPTS]

    @property
    def trigger(self) -> str:
        return self.subject.triggers[0] if self.subject.triggers else ""

    def rows(self, dataset: Dataset, most: int, *, trigger: bool = True) -> list[Row]:
        """The first images of a dataset, encoded.

        Args:
            trigger: captions keep it.
        """
        from lorasmith.data.holdout import image_number
        from lorasmith.measures.noise_probe import Row
        from lorasmith.measures.snapshot import rendered

        rows: list[Row] = []
        background = self.subject.settings.data.background
        for image, item, view in rendered(dataset, background):
            if len(rows) == most:
                break
            caption = item.caption if trigger else self.without_trigger(item.caption)
            number, size = image_number(item.image), view.size_condition()
            rows.append(Row.of(self.model, image, caption, number, size))
        return rows

    def without_trigger(self, caption: str) -> str:
        separator = self.subject.settings.captions.separator
        return stripped(caption, self.subject.triggers, separator)

    def tags_of(self, caption: str) -> list[str]:
        """Without the trigger's."""
        separator = self.subject.settings.captions.separator
        return split_tags(self.without_trigger(caption), separator)

    def probes(self) -> list[Probe]:
        """The same images with the noise of each seed."""
        from lorasmith.measures.noise_probe import Probe

        eval_set = self.subject.eval_set
        assert eval_set is not None
        rows = self.rows(eval_set.dataset, GRID_IMAGES)
        return [Probe(self.model, self.schedule, rows, seed, GRID_TIMESTEPS) for seed in GRID_SEEDS]

    @property
    def groups(self) -> dict[str, list[str]]:
        """Tags that pictures can be asked about: of the captions, and those that the base knows."""
        eval_set = self.subject.eval_set
        captions = [item.caption for item in eval_set.references.items] if eval_set else []
        own = [tag for one in captions for tag in self.tags_of(one)]
        known = [tag for prompt in self.subject.plain for tag in split_tags(prompt)]
        by_count = sorted(dict.fromkeys(own), key=lambda tag: -own.count(tag))
        return groups_of([*by_count, *sorted(dict.fromkeys(known))], READ_TAGS)
