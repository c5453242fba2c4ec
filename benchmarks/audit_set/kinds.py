"""Which rules of the audit speak of which kind of finding.

Made from the rules' names and titles alone (the table in docs/dataset-audit.md), after the
faults: a kind without a rule can't be found.
"""

from __future__ import annotations

KINDS: dict[str, set[str]] = {
    "unreadable": {"unreadable"},
    "exact duplicate": {"same-file", "in-regularisation"},
    "near duplicate": {"near-duplicates", "mirrored-copies", "cropped-copies"},
    "blurred": {"blurred"},
    "too small": {"too-small"},
    "heavy JPEG": {"heavy-jpeg"},
    "dark": {"dark"},
    "light": {"light"},
    "low information": {"blank"},
    "grey": {"grey"},
    "border": {"borders"},
    "alpha": {"transparent"},
    "EXIF": {"file-oddities"},
    "colour profile": {"file-oddities"},
    "text or watermark": {"text"},
    "face cut": {"face-cut"},
    "other face": {"other-faces"},
    "lonely in bucket": {"lonely-bucket", "bucket-spread"},
    "cropped": {"much-cropped"},
    "unlike all others": {"unlike-others", "unlike-to-a-net"},
    "missing caption": {"no-caption"},
    "caption ending": {"no-caption", "caption-endings"},
    "empty caption": {"empty-caption"},
    "too long": {"long-caption"},
    "trigger missing": {"trigger-missing"},
    "trigger not first": {"trigger-not-first"},
    "trigger twice": {"trigger-twice"},
    "doubled tag": {"tag-twice"},
    "mixed prose": {"two-forms", "shuffled-sentence"},
    "never varies": {"constant-traits", "never-off"},
    "never off": {"never-off", "constant-traits"},
    "always together": {"always-together"},
    "seen once": {"seen-once"},
    "not consolidated": {"implied-tags", "spelled-twice", "singular-plural", "other-forms"},
    "misspelt tag": {"misspelled-tag", "spelled-twice"},
    "underscores": {"underscores", "spelled-twice"},
    "contradiction": {"contradiction"},
    "meta tag": {"meta-tags", "quality-tags", "names-of-artists"},
    "unknown tag": {"unknown-tags", "rare-words"},
    "wrong tag": {"likely-wrong-tag"},
    "missing tag": {"likely-missing-tag", "seldom-off"},
    "same caption": {"equal-captions"},
    "caption encoding": {"caption-encoding"},
    "shared stem": {"shared-caption"},
    "balance": {"unbalanced"},
    "shared trigger": {"shared-trigger"},
    "regularisation count": {"few-regularisation", "unused-regularisation"},
    "regularisation name": {"regularisation-names", "regularisation-class"},
    "regularisation trigger": {"regularisation-trigger"},
}

# Kinds that are true of the set as it is built, with the reason.
TRUE_OF_THE_SET: dict[str, str] = {
    "regularisation count": "70 pictures against 230 times their repeats: there is no room for more"
}
