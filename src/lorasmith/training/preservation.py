"""Output preservation: which steps keep what the base model does, and for which captions.

In these steps the adapter learns a second thing: for the caption without its trigger, to predict
what the model with the adapter off predicts. So what the adapter changes is bound to the trigger,
with no regularisation images. Others call it differential output preservation (sd-scripts,
ai-toolkit), blank prompt preservation where the caption is empty, and prior prediction
(OneTrainer).

They do that on the noisy latents of the training images alone. But drawings without the trigger
pass through other latents, where nothing holds the adapter: images of a style that look like none
of the base's leave those of the base free. So in a share of these steps the latents are the base's
own: it takes a few large steps for the same captions, and what it predicts there is kept. Every
second time they begin with plain noise, every second with the training images, so noisy that little
more than the layout is left: a creature of the subject's shape, but without what makes it the
subject.

Everything here is a function of the seed, the step and the sample. Torch-free.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lorasmith.config.checks.loss import keeps_nothing
from lorasmith.config.schema import TrainSettings
from lorasmith.config.sections.loss import PreservationSettings
from lorasmith.config.values import AUTO
from lorasmith.core.errors import Problem
from lorasmith.core.rng import python_rng
from lorasmith.core.text import quantity, word_list
from lorasmith.data.captions import readings, split_tags
from lorasmith.data.dataset import Dataset, Item, SampleRef
from lorasmith.sampling.from_dataset import stripped, words_in

# Shares are compared as whole numbers of these: a step's place must not hang on rounding.
PARTS = 1_000_000

ALL_NOISE = 999
OWN_STEPS = (ALL_NOISE, 750, 500)
LEAST_STEP = 250
"""Timesteps at which the base draws latents of its own, from plain noise at the first or from the
training images at the second, and how far they are at least from the timestep that is kept, which
is drawn evenly below the second of them. Large steps do: what is kept is a rough drawing."""

OWN_PASSES = 1.75
"""Predictions that this takes in the mean, beside that which is kept."""


@dataclass(frozen=True, slots=True)
class Preservation:
    """What is kept, and when.

    Args:
        triggers: the words that call what is learned; none where only the empty caption is kept.
        empty_is_taught: training shows the empty caption itself, so it is not to be kept.
        seed: the run's.
        levels: lowest timestep that is trained, and that after the highest.
    """

    settings: PreservationSettings
    dataset: Dataset
    triggers: tuple[str, ...]
    empty_is_taught: bool
    seed: int
    levels: tuple[int, int] = (0, 1000)

    def at(self, step: int) -> bool:
        """Whether step ``step`` (from 0) does it: one of each 1 / share steps, drawn among them, so
        that they are spread evenly and have no beat."""
        share = max(1, round(self.settings.share * PARTS))
        number = step * share // PARTS
        first, end = (-(-n * PARTS // share) for n in (number, number + 1))
        return step == first + python_rng(self.seed, "preservation", number).randrange(end - first)

    def own_timesteps(self, step: int) -> tuple[int, ...]:
        """The timesteps that the base model draws through in a step of its own, from
        :data:`ALL_NOISE` or from the noisy training images, down to the one that is kept; none
        where the latents are just those of the training images."""
        rng = python_rng(self.seed, "preservation of own drawings", step)
        if rng.random() >= self.settings.own_share:
            return ()
        start = rng.randrange(2)
        low, high = self.levels[0], min(self.levels[1], OWN_STEPS[start + 1])
        if low >= high:
            return ()
        last = rng.randrange(low, high)
        return (*(t for t in OWN_STEPS[start:] if t >= last + LEAST_STEP), last)

    def captions(
        self, shown: Sequence[str], samples: Sequence[SampleRef], step: int
    ) -> list[str | None]:
        """What is kept for each sample of a batch; ``None`` for nothing.

        Args:
            shown: the captions that the step trains on, as they are shown.
        """
        prompts = self.prompts if self.own_timesteps(step)[:1] == (ALL_NOISE,) else ()
        kept: list[str | None] = []
        for caption, sample in zip(shown, samples, strict=True):
            rng = python_rng(self.seed, "preservation of the empty caption", step, sample.id)
            if rng.random() < self._empty_share:
                kept.append("")
            elif prompts:
                kept.append(rng.choice(prompts))
            else:
                kept.append(self.caption(caption, self._item(sample)))
        return kept

    @property
    def prompts(self) -> tuple[str, ...]:
        """Those of the settings that do not call what is being learned."""
        return tuple(p for p in self.settings.prompts if not words_in(p, self.triggers))

    def caption(self, shown: str, item: Item) -> str | None:
        """The caption that is kept beside ``shown``: that without the trigger; the empty one where
        there is no trigger in it, since what is being learned cannot be kept. ``None`` where the
        empty one is being learned too."""
        if item.reg:
            return shown
        kept = ""
        if words_in(shown, self.triggers):
            separator = self.dataset.rules_of(item).separator
            word = self.settings.class_word
            kept = stripped(shown, self.triggers, separator, instead=word)
        return None if not kept and self.empty_is_taught else kept

    def all_captions(self) -> list[str]:
        """Each caption that is kept once, where the shown ones do not vary."""
        kept: dict[str, None] = {}
        for sample in self.dataset.samples:
            item = self._item(sample)
            # For samples that keep nothing stands the empty caption.
            shown = self.dataset.caption_for(sample, seed=0, epoch=0)
            kept[self.caption(shown, item) or ""] = None
        if self._empty_share:
            kept[""] = None
        return list(kept | dict.fromkeys(self.prompts))

    def _item(self, sample: SampleRef) -> Item:
        return self.dataset.items[sample.item]

    @property
    def _empty_share(self) -> float:
        return 0.0 if self.empty_is_taught else self.settings.empty_share

    def __str__(self) -> str:
        """What is kept, in a sentence's end."""
        words = " or ".join(f'"{trigger}"' for trigger in self.triggers)
        kinds = [f"captions without {words}"] if words else []
        if self._empty_share or not words:
            kinds.append("the empty caption")
        if self.prompts and self.settings.own_share:
            kinds.append(quantity(len(self.prompts), "prompt"))
        return f"{word_list(kinds)}, in {self.settings.share:.0%} of the steps"


def preservation_of(settings: TrainSettings, dataset: Dataset) -> tuple[Preservation | None, str]:
    """What a run keeps, or ``None`` and why it keeps nothing."""
    section = settings.preservation
    if why_not := keeps_nothing(settings):
        return None, why_not
    if section.enabled == "auto" and any(item.reg and item.repeats for item in dataset.items):
        return None, "there are regularisation pictures"
    triggers = triggers_of(dataset)
    in_captions = any(words_in(text, triggers) for text in _taught(dataset))
    if section.enabled == "auto" and not in_captions:
        return None, "no captions have the trigger" if triggers else "there is no trigger"
    empty_is_taught = any(_teaches_empty(item, dataset) for item in dataset.items)
    if empty_is_taught and not in_captions:
        return None, "the captions have no trigger, and the empty one is being learned"
    triggers = triggers if in_captions else ()
    levels = settings.loss.min_timestep, settings.loss.max_timestep
    return Preservation(
        section, dataset, triggers, empty_is_taught, settings.train.seed, levels
    ), ""


def triggers_of(dataset: Dataset) -> tuple[str, ...]:
    """The words that call the subjects, of all folders; a folder's trigger may be several tags."""
    words: dict[str, None] = {}
    for item in dataset.items:
        rules = dataset.rules_of(item)
        if not item.reg and rules.trigger != AUTO:
            words |= dict.fromkeys(split_tags(rules.trigger, rules.separator))
    return tuple(words)


def preservation_warnings(settings: TrainSettings, dataset: Dataset) -> Iterator[Problem]:
    """What is odd about the settings together with the captions."""
    section = settings.preservation
    preservation, why_not = preservation_of(settings, dataset)
    if preservation is None:
        if section.enabled is True:
            hint = "write captions that have a trigger, see captions.trigger"
            yield Problem("preservation.enabled", f"nothing can be kept: {why_not}", hint)
        return
    naming = len(section.prompts) - len(preservation.prompts)
    if naming:
        what = f"{quantity(naming, 'prompt')} with a trigger: what is being learned is not kept"
        yield Problem("preservation.prompts", what, "take the trigger out of them")
    if not preservation.triggers:
        what = "the captions have no trigger, so the empty caption alone is kept"
        yield Problem("preservation", what, "set captions.trigger")
        return
    texts = list(_taught(dataset))
    without = sum(not words_in(text, preservation.triggers) for text in texts)
    if without:
        words = " or ".join(f'"{trigger}"' for trigger in preservation.triggers)
        kept = "nothing" if preservation.empty_is_taught else "the empty caption"
        what = f"{quantity(without, 'caption')} of {len(texts)} do not have {words}: with these, "
        yield Problem(
            "preservation", f"{what}{kept} is kept", "set captions.trigger_in_front to true"
        )


def _taught(dataset: Dataset) -> Iterator[str]:
    """The captions that training teaches, before tags are shuffled or dropped."""
    for item in dataset.items:
        if item.repeats and not item.reg:
            yield readings(item.caption, dataset.rules_of(item))[0]


def _teaches_empty(item: Item, dataset: Dataset) -> bool:
    rules = dataset.rules_of(item)
    drops = rules.dropout > 0 or bool(rules.dropout_every_n_epochs)
    is_empty = not readings(item.caption, rules)[0].strip()
    return bool(item.repeats) and not item.reg and (drops or is_empty)
