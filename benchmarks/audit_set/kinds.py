"""Which rules of the audit speak of which kind of finding."""

from __future__ import annotations

KINDS: dict[str, set[str]] = {}

# Kinds that are true of the set as it is built, with the reason.
TRUE_OF_THE_SET: dict[str, str] = {}
