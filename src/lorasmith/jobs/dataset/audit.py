"""To look a dataset over, and to mend what is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from lorasmith.config.values import Size, UserPath
from lorasmith.core.events import Controls, Observer
from lorasmith.jobs.request import JobRequest, option

if TYPE_CHECKING:
    from lorasmith.advice.audit.audit import Audit
    from lorasmith.advice.audit.inputs import AuditInputs


class AuditRequest(JobRequest):
    """Look DIR over by all rules: what is wrong with pictures and captions, and what mends it.

    Each finding has an id, says what was measured and why it matters. Of several folders it is
    said what a run on all of them would meet. docs/dataset-audit.md lists the rules.
    """

    verb: ClassVar = "dataset audit"

    folders: list[UserPath] = option(..., "The folders", metavar="DIR...", positional=True)
    reg: UserPath | None = option(None, "Regularisation folder", metavar="DIR")
    kind: Literal["character", "style", "concept", "object"] | None = option(
        None, "What is to be learned; some rules are about one kind alone", default_text="not said"
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

    def inputs(self, observer: Observer, controls: Controls) -> AuditInputs:
        """What the rules look at.

        Raises:
            SettingsError: with everything that is wrong with the settings.
        """
        from lorasmith.advice.audit.inputs import AuditInputs
        from lorasmith.config.load import load_settings
        from lorasmith.config.schema import replace_settings

        settings = load_settings(self.config, self.settings, self.preset)
        if self.resolution is not None:
            settings = replace_settings(settings, {"data.resolution": self.resolution})
        return AuditInputs(self.folders, self.reg, settings, observer, controls, self.kind)

    def run(self, observer: Observer, controls: Controls) -> Audit:
        from lorasmith.advice.audit.audit import audit_dataset
        from lorasmith.advice.audit.ignored import ignored_in
        from lorasmith.advice.audit.rules import RULES

        inputs = self.inputs(observer, controls)
        return audit_dataset(inputs, ignored_in(inputs.collection.roots), RULES)
