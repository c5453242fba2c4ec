"""gallery-dl, fetching from a small site on this machine."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.curation.importing.booru_server import Booru, booru, drawn
from tests.unit.curation.importing.test_import_images import said, tree

from lorasmith.core.errors import DatasetError, Stopped, UserError
from lorasmith.core.events import Controls, Event, Notice
from lorasmith.core.installation import extra_line
from lorasmith.curation.changes.journal import Journal
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.importing import gallery_dl
from lorasmith.curation.importing.gather import plan_gather
from lorasmith.curation.sidecars.tags import TagRules

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("gallery_dl"), reason="the extra gather"),
]
CAPTION = "zorp (world), world, some one, 1girl, long hair, number"


@pytest.fixture
def site() -> Iterator[Booru]:
    with booru(3) as server:
        yield server


def gathered(site: Booru, into: Path, tags: str = "zorp", **options: object) -> Plan:
    asked = {"limit": 0, "pause": 0, "wait": 1, **options}
    return plan_gather([site.search(tags)], into, **asked)


def captions(into: Path) -> set[str]:
    return {text for text in tree(into).values() if text}


def test_pictures_come_with_their_tags_and_only_once(site: Booru, tmp_path: Path) -> None:
    plan = gathered(site, tmp_path, rules=TagRules(drop=("meta", "artist")))
    assert tree(tmp_path) == {}, "nothing is in the dataset before it is agreed to"
    plan.apply()
    numbers = {f"{CAPTION.replace('some one, ', '')} {number}" for number in (1, 2, 3)}
    assert captions(tmp_path) == numbers
    pictures = {path.read_bytes() for path in tmp_path.glob("*.png")}
    assert pictures == {drawn(number) for number in (1, 2, 3)}
    assert not list((tmp_path / ".lorasmith" / "gather").rglob("*.png")), "nothing waits any more"
    asked = len(site.files())
    again = gathered(site, tmp_path)
    assert not again.changes
    assert "3 pictures came earlier" in said(again)
    assert len(site.files()) == asked
    with Journal(tmp_path) as journal:
        journal.undo()
    assert tree(tmp_path) == {}
    plan = gathered(site, tmp_path, again=True)
    plan.apply()
    assert len(captions(tmp_path)) == 3


def test_a_site_that_says_kinds_of_tags_on_its_pages(site: Booru, tmp_path: Path) -> None:
    rules = TagRules(drop=("artist",))
    plan_gather([site.moebooru_search("zorp")], tmp_path, limit=0, pause=0, rules=rules).apply()
    assert captions(tmp_path) == {"1girl, long hair"}
    assert len([name for name in tree(tmp_path) if name.endswith(".png")]) == 3


def test_what_was_not_agreed_to_waits(site: Booru, tmp_path: Path) -> None:
    gathered(site, tmp_path)
    asked = len(site.files())
    gathered(site, tmp_path).apply()
    assert len(captions(tmp_path)) == 3
    assert len(site.files()) == asked


def test_a_limit_and_the_rest_later(site: Booru, tmp_path: Path) -> None:
    plan = gathered(site, tmp_path, limit=2)
    plan.apply()
    assert captions(tmp_path) == {f"{CAPTION} 3", f"{CAPTION} 2"}
    assert "the same command goes on from there" in said(plan)
    gathered(site, tmp_path, limit=2).apply()
    assert len(captions(tmp_path)) == 3


def test_what_failed_before_the_limit_is_listed(site: Booru, tmp_path: Path) -> None:
    site.forbidden = {3}
    assert "3_3.png: could not be fetched" in said(gathered(site, tmp_path, limit=1))


def test_two_folders_of_a_dataset_have_each_their_own(site: Booru, tmp_path: Path) -> None:
    for name in ("10_a", "10_b"):
        gathered(site, tmp_path / "img" / name, limit=1).apply()
    assert len([name for name in tree(tmp_path) if name.endswith(".png")]) == 2


def test_trouble_with_single_files(site: Booru, tmp_path: Path) -> None:
    """403 is said; half a file is gone on with; 429 is waited for; what is no picture is not
    asked for."""
    site.count = 5
    site.forbidden = {1}
    site.halved = {2: 1}
    site.busy = {3: 1}
    site.films = {4}
    plan = gathered(site, tmp_path)
    assert "1_1.png: could not be fetched: '403 Forbidden'" in said(plan)
    plan.apply()
    assert captions(tmp_path) == {f"{CAPTION} {number}" for number in (2, 3, 5)}
    assert {path.read_bytes() for path in tmp_path.glob("*.png")} == {drawn(n) for n in (2, 3, 5)}
    assert not [path for path in site.files() if path.endswith("mp4")]
    site.forbidden = set()
    gathered(site, tmp_path).apply()
    assert len(captions(tmp_path)) == 4, "what failed is tried again"


def test_half_a_file_for_ever_is_finished_another_day(
    site: Booru, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery_dl, "RETRIES", 1)
    site.count = 2
    site.halved = {1: 100}
    plan = gathered(site, tmp_path)
    assert "could not be fetched" in said(plan)
    plan.apply()
    assert captions(tmp_path) == {f"{CAPTION} 2"}
    site.halved = {}
    gathered(site, tmp_path).apply()
    assert len(captions(tmp_path)) == 2
    assert site.ranges[-1].startswith("bytes="), "it went on from the half that it had"


@pytest.mark.parametrize(
    ("tags", "what", "hint"),
    [("forbidden", "403 Forbidden", "account or a key"), ("busy", "429 Too Many", "later")],
)
def test_a_site_that_refuses(
    site: Booru, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tags: str, what: str, hint: str
) -> None:
    monkeypatch.setattr(gallery_dl, "RETRIES", 1)
    events: list[Event] = []
    plan = gathered(site, tmp_path, tags, observer=events.append)
    with pytest.raises(DatasetError, match=what) as info:
        plan.apply()
    assert hint in info.value.problems[0].hint
    assert tree(tmp_path) == {}
    waits = [event for event in events if isinstance(event, Notice) and "Waiting" in event.text]
    assert bool(waits) == (tags == "busy")


def test_nothing_is_there(site: Booru, tmp_path: Path) -> None:
    assert "there is no picture" in said(gathered(site, tmp_path, "none"))


def test_a_dry_run_fetches_nothing(site: Booru, tmp_path: Path) -> None:
    plan = gathered(site, tmp_path / "set", simulate=True)
    assert "3 pictures are there" in said(plan)
    assert not site.files()
    assert not (tmp_path / "set").exists()


def test_a_stop_keeps_what_came(site: Booru, tmp_path: Path) -> None:
    controls = Controls()

    def observer(event: Event) -> None:
        site.pause.clear()
        threading.Timer(0.3, controls.stop).start()

    with pytest.raises(Stopped, match="goes on from there"):
        gathered(site, tmp_path, observer=observer, controls=controls)
    assert tree(tmp_path) == {}
    site.pause.set()
    gathered(site, tmp_path).apply()
    assert len(captions(tmp_path)) == 3
    assert site.files().count("/data/3.png") == 1


def test_settings_of_the_users_own(site: Booru, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"extractor": {"filename": "mine_{id}.{extension}"}}))
    gathered(site, tmp_path / "set", own_settings=own).apply()
    assert "mine_1.png" in tree(tmp_path / "set")


def test_mistakes_in_what_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UserError) as info:
        plan_gather(["zorp", "--exec"], tmp_path / "a.txt", own_settings=tmp_path / "gone.json")
    assert len(info.value.problems) == 4
    with pytest.raises(DatasetError, match=r"Unsupported URL.*name the kind of site"):
        plan_gather(["https://nobody.invalid/x"], tmp_path / "set").apply()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as info:
        plan_gather(["https://nobody.invalid/x"], tmp_path / "set")
    assert info.value.problems[0].hint == f"install it: {extra_line('gather')}"
