from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tests.crashes import check_every_kill, contents

from lorasmith.cli.main import cli
from lorasmith.curation.changes.journal import Journal
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import open_collection
from lorasmith.curation.sorting.dedupe import plan_dedupe
from lorasmith.curation.sorting.sort import plan_sort


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, caption in {"a": "hat", "b": "dog", "c": "hat, dog"}.items():
        Image.new("RGB", (32, 32), "red" if name != "b" else "blue").save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(caption, encoding="utf-8")
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["dataset", *map(str, arguments)])


def test_sort_says_and_asks_before_it_moves(folder: Path) -> None:
    before = contents(folder)
    rule = "tag:hat -> hats"
    assert "a.png -> hats/a.png" in run("sort", folder, rule, "--dry-run").output
    result = run("sort", folder, rule)
    assert result.exit_code == 2
    assert "add --yes" in result.stderr
    assert contents(folder) == before
    result = run("sort", folder, rule, "--yes")
    assert result.exit_code == 0
    assert "4 files moved" in result.output
    assert (folder / "hats" / "c.txt").is_file()
    assert run("undo", folder).exit_code == 0
    assert contents(folder) == before


def test_rules_are_told_by_the_commands_name_for_them(folder: Path) -> None:
    result = run("sort", folder, "tga:hat -> a", "no arrow")
    assert result.exit_code == 2
    assert 'RULE...: there is no key "tga:"' in result.stderr
    assert '"no arrow" has no arrow' in result.stderr


def test_a_rule_may_begin_as_an_option_does(folder: Path) -> None:
    for arguments in (
        ("-tag:hat -> y", folder.name, "--dry-run"),
        (folder.name, "--dry-run", "--", "-tag:hat -> y"),
        (folder.name, "--where", '-name:"x->"', "-tag:hat -> y", "--dry-run"),
    ):
        words = [str(folder) if word == folder.name else word for word in arguments]
        if words[0] != str(folder):
            words[:2] = reversed(words[:2])
        result = run("sort", *words)
        assert "b.png -> y/b.png" in result.output, result.output
        assert "a.png" not in result.output


def test_several_datasets_each_within_itself(folder: Path, tmp_path_factory) -> None:
    other = tmp_path_factory.mktemp("other")
    Image.new("RGB", (32, 32)).save(other / "z.png")
    assert run("sort", folder, " -> all", "--also", other, "--yes").exit_code == 0
    assert (folder / "all" / "a.png").is_file()
    assert (other / "all" / "z.png").is_file()


def test_dedupe_says_why(folder: Path) -> None:
    result = run("dedupe", folder, "--keep-tags", "--json", "--yes")
    assert result.exit_code == 0
    changes = json.loads(result.stdout)["changes"]
    assert changes[0]["what"] == "as c.png, which has more tags: 2, not 1"
    assert [path.name for path in sorted(folder.glob("*.png"))] == ["b.png", "c.png"]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["sort", "dedupe"])
def test_a_kill_at_any_file_operation_loses_nothing(verb: str, folder: Path) -> None:
    def plan() -> Plan:
        images = open_collection(folder)
        if verb == "sort":
            return plan_sort(images, ["tag:hat -> hats", "tag:dog -> ."])
        return plan_dedupe(images, exact=True, keep_tags=True)

    def recover() -> None:
        Journal(folder).close()

    assert check_every_kill(folder, lambda: plan().apply(), recover) > 5
