"""To look a dataset over, and to mend what is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from lorasmith.config.values import Size, UserPath
from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.events import Controls, Observer
from lorasmith.jobs.request import JobRequest, option

if TYPE_CHECKING:
    from lorasmith.advice.audit.audit import Audit
    from lorasmith.advice.audit.inputs import AuditInputs
    from lorasmith.advice.audit.mending import Mending


class AuditRequest(JobRequest):
    """Look DIR over by all rules: what is wrong with pictures and captions, and what mends it.

    Each finding has an id, and says what was measured and why it matters. Several folders are
    looked at together, as one run on all of them sees them. docs/dataset-audit.md lists the rules.
    Exit status 2 if something forbids training.
    """

    verb: ClassVar = "dataset audit"

    folders: list[UserPath] = option(..., "The folders", metavar="DIR...", positional=True)
    reg: UserPath | None = option(None, "Regularisation folder", metavar="DIR")
    kind: Literal["character", "style", "concept", "object"] | None = option(
        None, "What is to be learned; some rules are for one kind alone"
    )
    resolution: Size = option(
        None,
        "Size to train at, in pixels",
        kind="size",
        metavar="N|WxH",
        default_text="as --config says, else 512",
    )
    config: UserPath | None = option(None, "A run's settings", metavar="FILE.toml")
    preset: str | None = option(
        None, "Start from a preset; see `lorasmith presets`", metavar="NAME"
    )
    settings: list[str] = option(
        [],
        "Any setting of a run, as in --set captions.shuffle=true; may be repeated",
        flag="set",
        metavar="section.key=value",
    )
    faces: UserPath | None = option(
        None,
        "What finds faces that the border cuts: a cascade of OpenCV (.xml) or YuNet (.onnx)",
        metavar="FILE",
        default_text="none is looked for",
    )
    vocabulary: str | None = option(
        None,
        "The words that the base was trained with: a tagger's label file (selected_tags.csv, "
        "tag_mapping.json, tags.txt), a folder with one, or demo",
        metavar="FILE|DIR",
        default_text="the labels of a tagger that looked at the pictures",
    )
    page: UserPath | None = option(
        None, "Write a page with the pictures concerned: one file", flag="html", metavar="FILE.html"
    )
    fix: list[str] = option(
        [],
        "Mend what this rule or finding says; all-safe: of all rules whose fix loses nothing. It "
        "can be undone; may be repeated",
        metavar="ID",
    )
    dry_run: bool = option(False, "Of --fix: say what would change, and change nothing")
    ignore: list[str] = option(
        [],
        "Hear no more of this rule or finding in this dataset, unless it is an error; may be "
        "repeated",
        metavar="ID",
    )
    unignore: list[str] = option([], "Hear of it again; may be repeated", metavar="ID")

    def inputs(self, observer: Observer, controls: Controls) -> AuditInputs:
        """What the rules look at, as the files are now.

        Raises:
            SettingsError: with everything that is wrong with the settings.
        """
        from lorasmith.advice.audit.inputs import AuditInputs
        from lorasmith.config.load import load_settings
        from lorasmith.config.schema import replace_settings
        from lorasmith.curation.images.faces import face_finder
        from lorasmith.curation.tagger.folders import find_labels

        if self.dry_run and not self.fix:
            raise SettingsError.of("dry_run", "is for --fix", "name what is to be mended")
        both = [one for one in self.ignore if one in self.unignore]
        if both:
            problem = Problem("unignore", f"{both[0]!r} stands in --ignore, too", "choose one")
            raise SettingsError([problem])
        settings = load_settings(self.config, self.settings, self.preset)
        if self.resolution is not None:
            settings = replace_settings(settings, {"data.resolution": self.resolution})
        if self.faces is not None:
            face_finder(self.faces)  # What cannot be used is told before all is looked at.
        labels = find_labels(self.vocabulary) if self.vocabulary is not None else None
        return AuditInputs(
            self.folders, self.reg, settings, observer, controls, self.kind, self.faces, labels
        )

    def mending(self, observer: Observer, controls: Controls) -> Mending:
        """What ``fix`` would do now.

        Raises:
            UserError: with everything that is wrong with the request.
            Stopped: by ``controls``.
        """
        from lorasmith.advice.audit.ignored import ignored_in
        from lorasmith.advice.audit.mending import plan_fixes
        from lorasmith.advice.audit.rules import RULES

        inputs = self.inputs(observer, controls)
        return plan_fixes(inputs, self.fix, ignored_in(inputs.collection.roots), RULES)

    def run(self, observer: Observer, controls: Controls) -> Audit:
        """What is found, once ``fix`` is done.

        Raises:
            UserError: with everything that is wrong; nothing was changed.
            Stopped: by ``controls``.
        """
        from lorasmith.advice.audit.audit import audit_dataset, check_ids, check_ignorable
        from lorasmith.advice.audit.ignored import ignored_in, remember
        from lorasmith.advice.audit.last import keep_audit
        from lorasmith.advice.audit.report_page import write_page
        from lorasmith.core.files import check_page

        if self.page is not None:
            check_page(self.page)
        later = bool(self.fix) and not self.dry_run
        while later:
            mending = self.mending(observer, controls)
            mending.plan.check()
            applied = mending.plan.apply(observer, controls)
            later = mending.later > 0 and bool(applied.counts)
        inputs = self.inputs(observer, controls)
        roots = inputs.collection.roots
        ignored = ignored_in(roots)
        audit = audit_dataset(inputs, ignored)
        check_ids(self.ignore, audit, "ignore")
        check_ignorable(self.ignore, audit)
        strangers = [one for one in self.unignore if one not in ignored]
        if strangers:
            raise SettingsError(
                Problem("unignore", f"{one!r} is not ignored", f"ignored are: {', '.join(ignored)}")
                for one in strangers
            )
        if self.ignore or self.unignore:
            audit = audit.ignoring(remember(roots, self.ignore, unignore=self.unignore))
        if self.page is not None:
            write_page(self.page, audit, inputs)
        keep_audit(audit, {"kind": self.kind, "resolution": self.resolution})
        return audit
