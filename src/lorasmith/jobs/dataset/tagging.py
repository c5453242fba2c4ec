"""Requests that write captions by a model: tags by a tagger."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.events import Controls, Notice, Observer
from lorasmith.jobs.dataset.changes import FolderChangeRequest
from lorasmith.jobs.request import option

if TYPE_CHECKING:
    from lorasmith.curation.changes.plan import Plan
    from lorasmith.curation.tagger.choose import TagRules

_OFF = 1.01


def _threshold(default: float, what: str) -> float:
    """From 0.01, the lowest score that is kept, to 2: above 1 is off."""
    off = "none" if default > 1 else ""
    value: float = option(default, what, metavar="SCORE", default_text=off, ge=0.01, le=2)
    return value


class TagRequest(FolderChangeRequest):
    """Write tags by a tagger model into the captions of the pictures in DIR.

    MODEL is "demo" (ships with lorasmith; knows the demo's creatures), a folder with a model and
    its label file, a hub id like SmilingWolf/wd-vit-tagger-v3, or the short name of a known one.
    Its scores are kept in DIR/.lorasmith/scores: other thresholds need no second look.
    """

    verb: ClassVar = "dataset tag"

    tagger: str = option(
        "wd-vit-tagger-v3",
        "Which tagger; see docs/dataset-tag.md for the known ones",
        metavar="MODEL",
    )
    mode: Literal["if-empty", "append", "prepend", "replace"] = option(
        "if-empty", "What becomes of captions that are there"
    )
    general: float = _threshold(
        0.35, "Score, 0.01 to 1, from which a general tag is written; 2 for none"
    )
    character: float = _threshold(0.85, "The same for characters' names")
    copyright: float = _threshold(0.85, "The same for names of series")
    artist: float = _threshold(_OFF, "The same for artists' names")
    meta: float = _threshold(_OFF, "The same for tags about the file, such as highres")
    quality: float = _threshold(_OFF, "The same for the best tag of quality")
    rating: float = _threshold(_OFF, "The same for the best rating")
    exclude: list[str] = option(
        [], "Tags never to write, * for any letters; may be repeated", metavar="TAG,..."
    )
    replace: list[str] = option(
        [], "Write tag B where the tagger says A; may be repeated", metavar="A=B"
    )
    first: list[str] = option(
        [], "Tags that go to the front, in this order, where found", metavar="TAG,..."
    )
    order: Literal["category", "score"] = option(
        "category", "General tags, then characters and so on, each by score; or all by score"
    )
    underscores: bool = option(False, "Keep underscores; spaces else, but for faces like ^_^")
    batch: int = option(8, "Pictures at a time", metavar="N", ge=1, le=1024)
    device: Literal["auto", "cpu", "gpu"] = option("auto", "What to compute on")
    channels: Literal["auto", "bgr", "rgb"] = option(
        "auto", "Order of colours that the model takes, where its colours come out wrong"
    )

    def rules(self) -> TagRules:
        """
        Raises:
            SettingsError: with everything that is wrong.
        """
        from lorasmith.curation.tagger.choose import TagRules
        from lorasmith.curation.tagger.labels import CATEGORIES

        problems, others = [], {}
        for text in self.replace:
            old, _, new = (part.strip() for part in text.partition("="))
            if not old or not new or "," in new:
                hint = "write --replace 'smile=grin'; --exclude leaves a tag out"
                problems.append(Problem("replace", f'"{text}" is not A=B', hint))
            others[old] = new
        if problems:
            raise SettingsError(problems)
        return TagRules(
            thresholds={category: getattr(self, category) for category in CATEGORIES},
            exclude=_tags(self.exclude),
            replace=others,
            first=_tags(self.first),
            order=self.order,
            underscores=self.underscores,
        )

    def plan(self, observer: Observer, controls: Controls) -> Plan:
        from lorasmith.curation.collection import open_collection
        from lorasmith.curation.filter import parse_filter
        from lorasmith.curation.tagger.model import open_tagger
        from lorasmith.curation.tagger.tagging import plan_tags

        def fetching(name: str) -> None:
            observer(Notice("info", f"looking for {name} on the Hugging Face hub"))

        rules = self.rules()
        parse_filter(self.where)  # before anything is fetched
        collection = open_collection(self.folders, observer=observer)
        tagger = open_tagger(
            self.tagger, device=self.device, channels=self.channels, fetching=fetching
        )
        return plan_tags(
            collection,
            tagger,
            rules,
            where=self.where,
            mode=self.mode,
            batch=self.batch,
            command=f"tag --tagger {self.tagger} --mode {self.mode}",
            observer=observer,
            controls=controls,
        )


def _tags(texts: list[str]) -> tuple[str, ...]:
    return tuple(tag.strip() for text in texts for tag in text.split(",") if tag.strip())
