"""Which kinds of run there are: the one place where ``train.kind`` is looked at.

A kind is added so:

1. a row of facts in :data:`lorasmith.config.kinds.KINDS`, and the value in ``train.kind``; sections
   of settings of its own are declared in ``config/sections`` and named in the row, and checks about
   one of them alone are run for the kinds that name it (``config/checks/table.py``);
2. a file beside this one with a :class:`.Kind`: it builds a :class:`.Trained`, which has the
   parameters and knows how they are applied, saved and read back;
3. a row here.

Loop, step, resume, samples, validation, watchdog, plans and cards then do with it what they do with
any other; where they must know more of a kind, they ask through :class:`.Kind` or
:class:`.Trained`.
"""

from __future__ import annotations

from collections.abc import Mapping

from lorasmith.config.schema import TrainSettings
from lorasmith.training.kinds.adapter import AdapterKind
from lorasmith.training.kinds.embedding import EmbeddingKind
from lorasmith.training.kinds.full import FullKind
from lorasmith.training.kinds.kind import Kind
from lorasmith.training.kinds.pivotal import PivotalKind
from lorasmith.training.kinds.slider import SliderKind

KINDS: Mapping[str, Kind] = {
    "lora": AdapterKind(),
    "embedding": EmbeddingKind(),
    "lora+embedding": PivotalKind(),
    "full": FullKind(),
    "slider": SliderKind(),
}


def kind_of(settings: TrainSettings) -> Kind:
    """What the settings choose to train."""
    return KINDS[settings.train.kind]
