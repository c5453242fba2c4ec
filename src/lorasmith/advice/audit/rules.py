"""The one table of rules, made of those of each subject."""

from __future__ import annotations

from lorasmith.advice.audit.finding import Rule
from lorasmith.advice.audit.image_rules import IMAGE_RULES

RULES: tuple[Rule, ...] = (*IMAGE_RULES,)
"""In the order in which they are shown."""
