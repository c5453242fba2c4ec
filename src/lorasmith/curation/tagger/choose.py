"""From scores to tags: thresholds by category, what is left out, replaced, put first; spelling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lorasmith.curation.edit.spelling import TagList, bare, with_spaces
from lorasmith.curation.tagger.labels import CATEGORIES, ONE_OF, Labels
from lorasmith.curation.tagger.scores import ImageScores

OFF = 1.01
"""A threshold that no score reaches."""

THRESHOLDS: dict[str, float] = {
    "general": 0.35,
    "character": 0.85,
    "copyright": 0.85,
    **dict.fromkeys(("artist", "meta", "quality", "rating"), OFF),
}
"""The usual ones: SmilingWolf's own for general tags and characters; copyrights are named as
characters are; what says nothing of what is drawn is off."""


@dataclass(frozen=True)
class TagRules:
    """
    Args:
        thresholds: by category; a tag is written from this score on, and none of a category whose
            threshold is above 1. Of ratings and qualities only the best one is.
        exclude: tags that are never written, in any spelling; ``*`` stands for any letters.
        replace: tags to write in place of others.
        first: these tags go to the front, in this order, where the tagger found them.
        order: "category" writes general tags, then characters and so on, each by score; "score"
            all by score.
        underscores: write tags as the label file does; else with spaces, but for faces like ^_^.
    """

    thresholds: Mapping[str, float] = field(default_factory=lambda: THRESHOLDS)
    exclude: tuple[str, ...] = ()
    replace: Mapping[str, str] = field(default_factory=dict)
    first: tuple[str, ...] = ()
    order: Literal["category", "score"] = "category"
    underscores: bool = False


class TagChooser:
    """The tags of images by their scores, by :class:`TagRules`; ``names`` has them by label."""

    def __init__(self, labels: Labels, rules: TagRules) -> None:
        import numpy as np

        self._rules = rules
        limits = {category: THRESHOLDS[category] for category in CATEGORIES}
        limits |= rules.thresholds
        # Scores are float32: a threshold of 0.35 must take what was rounded to it.
        self._limits = np.array([limits[each] for each in labels.categories], np.float32)
        self._ranks = np.array([CATEGORIES.index(each) for each in labels.categories])
        excluded = TagList(rules.exclude)
        others = {bare(old): new for old, new in rules.replace.items()}
        first = {bare(tag): place for place, tag in enumerate(rules.first)}
        self.names: list[str] = []
        for index, name in enumerate(labels.names):
            spelled = name if rules.underscores else with_spaces(name)
            if spelled in excluded:
                self._limits[index] = np.inf
            spelled = others.get(bare(spelled), spelled)
            self.names.append(spelled)
        self._places = [first.get(bare(tag), len(first)) for tag in self.names]

    def __call__(self, scores: ImageScores) -> list[str]:
        """The tags, each once."""
        import numpy as np

        found = scores.values >= self._limits[scores.labels]
        labels, values = scores.labels[found], scores.values[found]
        ranks = self._ranks[labels]
        # By score, and of equal scores as in the label file.
        by_score = np.lexsort((labels, -values))
        by_category = np.lexsort((labels, -values, ranks))
        order = by_category if self._rules.order == "category" else by_score
        single: set[int] = set()
        for category in ONE_OF:
            rank = CATEGORIES.index(category)
            single.update(int(index) for index in by_score[ranks[by_score] == rank][1:])
        chosen = [int(labels[index]) for index in order if int(index) not in single]
        chosen.sort(key=self._places.__getitem__)
        return list(dict.fromkeys(self.names[label] for label in chosen))
