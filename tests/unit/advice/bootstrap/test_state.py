"""The file of a bootstrap, and the page that is chosen by."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.unit.advice.bootstrap.made_up import drawing, new_round, started

from lorasmith.advice.bootstrap.bootstrap import bootstrap
from lorasmith.advice.bootstrap.page import write_page
from lorasmith.advice.bootstrap.state import STATE, BaseDistances, Bootstrap
from lorasmith.core.errors import RunError


def test_everything_comes_back(tmp_path: Path) -> None:
    boot = started(tmp_path, [drawing(1), drawing(2)], size=(64, 96), models=("a", "b"))
    boot.base = BaseDistances(1.0, 0.5, 0.7, 0.3)
    boot.now.reasons, boot.now.repeated = {2: "repeats zorp.png"}, {"zorp.png": 4}
    boot.now.kept, boot.results = [1], ["runs/zorp/zorp.safetensors"]
    boot.rounds.append(new_round(boot, 2, []))
    boot.save()
    assert Bootstrap.load(boot.folder) == boot


def test_a_folder_without_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no bootstrap"):
        Bootstrap.load(tmp_path)
    with pytest.raises(RunError, match="does not exist"):
        Bootstrap.load(tmp_path / "gone")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"version": 1}', '{"version": 7}', '{"version": 1, "options": 3}'],
)
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / STATE).write_text(text)
    with pytest.raises(RunError, match=r"bootstrap\.json.*(is damaged|another version)"):
        Bootstrap.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "cannot be read"),
        ("{}", "cannot be read"),
        ("[1]", "cannot be read"),
        ('{"keep": 1}', "is no list of numbers"),
        ('{"keep": ["1"]}', "is no list of numbers"),
        ('{"keep": [true]}', "is no list of numbers"),
        ('{"keep": [0, 3]}', "round 1 has no drawing 0, 3"),
    ],
)
def test_choices_that_are_none(tmp_path: Path, text: str, what: str) -> None:
    boot = started(tmp_path, [drawing(1), drawing(2)])
    assert boot.read_choice() is None
    boot.choice_file.write_text(text)
    with pytest.raises(RunError, match=what) as caught:
        boot.read_choice()
    assert caught.value.problems[0].where == str(boot.choice_file)


def test_a_choice_is_read_once_each_and_in_order(tmp_path: Path) -> None:
    boot = started(tmp_path, [drawing(1), drawing(2)])
    boot.choice_file.write_text('{"keep": [2, 1, 2]}')
    assert boot.read_choice() == [1, 2]
    boot.choice_file.write_text('{"keep": []}')
    assert boot.read_choice() == []


@pytest.mark.parametrize(("changes", "stay"), [({"rounds": 6}, True), ({"cfg": 5.0}, False)])
def test_drawings_that_are_asked_for_otherwise_are_drawn_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], stay: bool
) -> None:
    monkeypatch.setattr("lorasmith.advice.bootstrap.bootstrap.advance", lambda *_: None)
    boot = started(tmp_path, [drawing(1), drawing(2)])
    boot.stage = "draw"
    boot.save()
    first = boot.drawing(boot.now, boot.now.drawings[0])
    after = bootstrap(go_on=boot.folder, **changes).boot
    assert bool(after.now.drawings) == first.exists() == stay


def test_the_page_holds_everything_and_says_the_command(tmp_path: Path) -> None:
    nasty = "zorp, </script><script>alert(1)</script>\u2028"
    boot = started(tmp_path, [drawing(1, caption=nasty), drawing(2, 0.1)])
    boot.now.suggested, boot.now.reasons = [1], {2: "not like enough"}
    boot.now.repeated = {"zorp.png": 4}
    page = write_page(boot).read_text(encoding="utf-8")
    assert not re.search(r"(src|href)\s*=\s*[\"']?(http|//|file)", page)
    assert "default-src 'none'" in page
    assert "<script>alert" not in page
    assert "\u2028" not in page
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data = json.loads(found[1])
    assert data["command"] == boot.command
    first, second = data["drawings"]
    assert first["caption"] == nasty
    assert (first["suggested"], second["suggested"]) == (True, False)
    assert second["reason"] == "not like enough"
    assert all(one["src"].startswith("data:image/webp;base64,") for one in data["drawings"])
    assert [(one["name"], one["note"]) for one in data["set"]] == [
        ("zorp.png", "given, sticks out: 4 drawings repeat it")
    ]
