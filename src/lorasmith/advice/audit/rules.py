"""The one table of rules, made of those of each subject."""

from __future__ import annotations

from lorasmith.advice.audit.finding import Rule
from lorasmith.advice.audit_rules.balance_rules import BALANCE_RULES
from lorasmith.advice.audit_rules.caption_rules import CAPTION_RULES
from lorasmith.advice.audit_rules.concept_rules import CONCEPT_RULES
from lorasmith.advice.audit_rules.copy_rules import COPY_RULES
from lorasmith.advice.audit_rules.file_rules import FILE_RULES
from lorasmith.advice.audit_rules.framing_rules import FRAMING_RULES
from lorasmith.advice.audit_rules.image_rules import IMAGE_RULES
from lorasmith.advice.audit_rules.model_rules import MODEL_RULES
from lorasmith.advice.audit_rules.tag_rules import TAG_RULES
from lorasmith.advice.audit_rules.tagger_rules import TAGGER_RULES
from lorasmith.advice.audit_rules.trigger_rules import TRIGGER_RULES
from lorasmith.advice.audit_rules.word_rules import WORD_RULES

SUBJECTS: dict[str, tuple[Rule, ...]] = {
    "Pictures": IMAGE_RULES,
    "Copies": COPY_RULES,
    "Framing": FRAMING_RULES,
    "Captions": CAPTION_RULES,
    "Caption files": FILE_RULES,
    "Triggers": TRIGGER_RULES,
    "Tags": TAG_RULES,
    "Words": WORD_RULES,
    "Balance": BALANCE_RULES,
    "Captions against a tagger": TAGGER_RULES,
    "Concepts": CONCEPT_RULES,
    "With models": MODEL_RULES,
}

RULES: tuple[Rule, ...] = tuple(rule for rules in SUBJECTS.values() for rule in rules)
"""In the order in which they are shown."""
