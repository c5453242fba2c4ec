"""Names of drawings."""

from __future__ import annotations

import re

from lorasmith.measures.drawings import kind_of


def test_a_kind_changes_with_what_is_drawn() -> None:
    prompts = (["zorp, a b"], ["zorp, a_b"], ["zorp"], ["none"], ["zorp", "zorp"], ['a:b*?"' * 99])
    kinds = {kind_of("tag", one) for one in prompts}
    assert len(kinds) == len(prompts)
    assert all(re.fullmatch(r"tag-[0-9a-f]{12}", kind) for kind in kinds)
    assert kind_of("tag", prompts[0]) == kind_of("tag", tuple(prompts[0]))
