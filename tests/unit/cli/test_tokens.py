from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from lorasmith.cli.main import cli


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["tokens", *map(str, arguments)])


def test_a_short_prompt() -> None:
    assert run("zorp, (red hat:1.3)").output.splitlines() == [
        "5 tokens of 75  zorp, (red hat:1.3)",
        "  in pieces  zorp = zor + p",
    ]


def test_what_is_cut_off_is_shown() -> None:
    lines = run(", ".join(["cat"] * 40)).output.splitlines()
    assert lines[0].startswith("79 tokens, 4 more than 75")
    assert lines[2] == "   76 to 79   , cat, cat  (cut off at 75)"


def test_pieces_with_their_numbers() -> None:
    assert run("zorp", "--pieces").output.splitlines()[1] == "  zor 17605  p 335"


def test_of_many_captions_those_that_are_too_long(tmp_path: Path) -> None:
    for number in range(11):
        (tmp_path / f"{number}.txt").write_text("a cat")
    (tmp_path / "long.txt").write_text(", ".join(["cat"] * 40))
    (tmp_path / "none.txt").write_text("")
    lines = run(tmp_path).output.splitlines()
    assert lines[0] == (
        "Tokens  2 to 79 a caption, median 2; 1 over 75, 0 over 150, 0 over 225 (of 12 captions)"
    )
    assert "long.txt" in lines[1]
    assert "1 caption is empty" in lines[-1]
    assert len(lines) == 5


def test_json_has_all_of_it() -> None:
    report = json.loads(run("zorp", "red hat", "--json").stdout)
    assert [text["tokens"] for text in report["texts"]] == [2, 2]
    assert report["texts"][0]["words"] == [
        {"text": "zorp", "pieces": ["zor", "p"], "ids": [17605, 335]}
    ]


def test_a_file_that_is_not_there() -> None:
    result = run("captions/a.txt")
    assert result.exit_code == 2
    assert "does not exist" in result.output


def test_lines_have_their_own_numbers_and_nothing_is_no_folder(tmp_path: Path) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text("a cat\n\n\na red hat\n")
    sources = [one["source"] for one in json.loads(run(prompts, "--json").output)["texts"]]
    assert sources == [f"{prompts}:1", f"{prompts}:4"]
    prompts.write_text("a cat\n\n")
    assert run(prompts).output.splitlines()[0] == f"2 tokens of 75  {prompts}"
    assert run("").output.splitlines()[0].startswith("0 tokens of 75")
