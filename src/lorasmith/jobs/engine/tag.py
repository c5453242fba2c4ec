"""In the process of an engine: one picture through a tagger that stays loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lorasmith.core.errors import DatasetError
from lorasmith.core.events import Controls, Event
from lorasmith.curation.tagger.choose import TagChooser, TagRules
from lorasmith.curation.tagger.model import Tagger, open_tagger
from lorasmith.curation.tagger.scoring import score_images

Tell = Callable[[dict[str, Any]], None]


class KeptTagger:
    """Answers about single pictures; keeps the last tagger."""

    def __init__(self) -> None:
        self._key: tuple[str, str] | None = None
        self._tagger: Tagger | None = None

    def tag(self, question: Mapping[str, Any], tell: Tell, controls: Controls) -> dict[str, Any]:
        """The scores of a picture, which its dataset keeps from then on.

        Args:
            question: ``picture``; ``root``, the folder that keeps its scores; ``tagger``, as in
                `lorasmith dataset tag`; ``device``, "auto" or "cpu"; ``least``, a score.

        Returns:
            ``tagger`` and ``scores``: tag, category and score of each label from ``least`` on, the
            highest first.

        Raises:
            CheckpointError: there is no such tagger, or it cannot be opened.
            DatasetError: the picture cannot be read.
        """

        def observe(event: Event) -> None:
            tell(event.record())

        tagger = self._opened(question["tagger"], question["device"])
        picture = Path(question["picture"])
        scored = score_images(
            {Path(question["root"]): [picture]}, tagger, observer=observe, controls=controls
        )
        if scored.problems:
            raise DatasetError(scored.problems)
        names = TagChooser(tagger.labels, TagRules()).names
        scores = scored.scores[picture]
        pairs = zip(scores.labels.tolist(), scores.values.tolist(), strict=True)
        return {
            "tagger": tagger.name,
            "scores": [
                {"tag": names[label], "category": tagger.labels.categories[label], "score": value}
                for label, value in sorted(pairs, key=lambda pair: -pair[1])
                if value >= question["least"]
            ],
        }

    def _opened(self, source: str, device: Any) -> Tagger:
        if self._tagger is None or self._key != (source, device):
            self._key = self._tagger = None
            tagger = open_tagger(source, device=device)
            self._key, self._tagger = (source, device), tagger
        return self._tagger
