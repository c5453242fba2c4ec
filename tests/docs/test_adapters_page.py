"""The tables of readers in docs/adapters.md are the program's own."""

from __future__ import annotations

from pathlib import Path

from lorasmith.lora_tools.inspect.compatibility import FORMS, READERS, VERDICTS

PAGE = Path(__file__).parents[2] / "docs" / "adapters.md"


def readers_table() -> str:
    """One row a form, one column a program."""
    names = [f"{program} {version}" for program, version in READERS.items()]
    lines = [f"| | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    for form, title in FORMS.items():
        cells = [VERDICTS[form][program] for program in READERS]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_page_shows_what_every_program_reads() -> None:
    assert readers_table() in PAGE.read_text(encoding="utf-8"), "\n" + readers_table()
