"""Bootstraps over the API: what there is of each, and how they are begun and gone on with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient
from PIL import Image
from tests.unit.advice.bootstrap.made_up import drawing, new_round, started

from lorasmith.advice.bootstrap.image_set import apply_choice
from lorasmith.advice.bootstrap.state import STATE, Bootstrap
from lorasmith.config.fields import settings_of
from lorasmith.core.errors import Problem, UserError
from lorasmith.core.locks import lock_file
from lorasmith.jobs.bootstrap import BootstrapRequest
from lorasmith.jobs.bootstraps.begin import PlannedBootstrap, folder_for
from lorasmith.jobs.bootstraps.finding import find_bootstraps
from lorasmith.jobs.queue.ledger import Ledger
from lorasmith.jobs.queue.submit import submit
from lorasmith.studio.api.changes import Changes
from lorasmith.studio.context import Studio
from lorasmith.studio.paths import Roots

SCRIPT = "<script>alert(1)</script>"


class Planner:
    """In place of the process with torch: what it is asked, and what it refuses."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.refuses: list[Problem] = []

    def bootstrap(self, values: dict[str, Any]) -> PlannedBootstrap:
        self.asked.append(values)
        if self.refuses:
            raise UserError(self.refuses)
        return PlannedBootstrap(
            given=[], round_steps=6, steps=6, captions=["zorp"], source="", warnings=[]
        )

    def release(self) -> None:
        pass


@pytest.fixture
def planner(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> Planner:
    monkeypatch.setattr("lorasmith.studio.api.jobs.ensure_runners", lambda ledger: None)
    client.app.state.engine = Planner()  # type: ignore[attr-defined]
    return client.app.state.engine  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def boot(workspace: Path, planner: Planner) -> Bootstrap:
    """It waits for the second round's choice; one image was kept of the first."""
    boot = started(workspace / "zorp" / "made", [drawing(1), drawing(2)])
    (workspace / "zorp" / "bootstrap").mkdir()
    boot.folder = boot.folder.rename(workspace / "zorp" / "bootstrap" / "zorp")
    boot.now.kept, boot.now.likeness, boot.now.diversity = [2], 0.6, 0.4
    apply_choice(boot)
    later = [drawing(1, 0.5), drawing(2, 0.4, source="r01-02.png"), drawing(3, 0.2)]
    boot.rounds.append(new_round(boot, 2, later))
    now = boot.now
    now.steps, now.likeness, now.diversity, now.suggested = 6, 0.55, 0.3, [1]
    now.reasons, now.repeated = {3: "not like enough"}, {"r01-02.png": 3, "zorp.png": 3}
    boot.save()
    return boot


def one(client: TestClient, boot: Bootstrap) -> Any:
    return client.get("/api/bootstraps/one", params={"path": str(boot.folder)}).json()


def go_on(client: TestClient, boot: Bootstrap, **body: Any) -> Any:
    return client.post("/api/bootstraps/go-on", json={"path": str(boot.folder), **body})


def problem(answer: Any) -> str:
    assert answer.status_code in (403, 422), answer.text
    return answer.json()["detail"]


def test_what_there_is_of_one_is_told(client: TestClient, boot: Bootstrap) -> None:
    (listed,) = client.get("/api/bootstraps").json()
    assert (listed["trigger"], listed["stage"], listed["round"]) == ("zorp", "choose", 2)
    assert (listed["given"], listed["drawn"], listed["busy"], listed["job"]) == (1, 1, False, None)
    told = one(client, boot)
    first, second = told["history"]
    assert (first["kept"], second["kept"], second["suggested"]) == ([2], None, [1])
    assert [each["reason"] for each in second["drawings"]] == ["", "", "not like enough"]
    assert all(each["version"] for each in second["drawings"])
    kept_note, given_note = second["notes"]
    stays = "it was given, and stays: what is kept thins it out"
    assert given_note == f"zorp.png sticks out: 3 drawings repeat it; {stays}"
    assert kept_note.endswith("3 drawings repeat it; it leaves the set with the choice")
    assert told["last"] == "likeness no longer rises (55% after 60%)"
    assert (
        told["trend"]
        == "round 2 is no better in likeness 55% after 60% and diversity 30% after 40%"
    )
    given, kept = told["images"]
    assert (given["name"], given["round"], given["repeated"]) == ("zorp.png", 0, 3)
    assert (kept["name"], kept["round"], kept["drawing"]) == ("r01-02.png", 1, 2)
    assert told["command_line"] == f"lorasmith bootstrap --continue {boot.folder}"


def test_those_begun_on_the_command_line_are_found(workspace: Path, boot: Bootstrap) -> None:
    """In the workspace's own folder, in a project's, and where somebody named another."""
    for place in ("bootstrap", "bootstrap/a", "b", "zorp/bootstrap/broken"):
        (workspace / place).mkdir(parents=True)
        (workspace / place / STATE).write_text("{}")
    outside = workspace.parent / "outside"
    outside.mkdir()
    (outside / STATE).write_text("{}")
    (workspace / "bootstrap" / "link").symlink_to(outside)
    found = [str(path.relative_to(workspace)) for path in find_bootstraps(workspace)]
    assert found == [
        *("b", "bootstrap", "bootstrap/a", "zorp/bootstrap/broken", "zorp/bootstrap/zorp")
    ]


def test_a_damaged_one_says_so_in_the_list(client: TestClient, boot: Bootstrap) -> None:
    (boot.folder / STATE).write_text('{"version": 1}')
    (listed,) = client.get("/api/bootstraps", params={"project": "zorp"}).json()
    assert "is damaged" in listed["problem"]
    assert "is damaged" in problem(
        client.get("/api/bootstraps/one", params={"path": str(boot.folder)})
    )


HOSTILE: dict[str, tuple[str, Any]] = {
    "a name that leads out": ("repeated", {"../../../../secret.png": 4}),
    "a source that leads out": ("drawings", [{"source": "../../secret.png"}]),
    "a LoRA elsewhere": ("lora", "/etc/passwd"),
    "a run above": ("run", "../../../.."),
    "a number of its own": ("number", 7),
    "no number": ("number", {"a": 1}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_damaged(client: TestClient, boot: Bootstrap, case: str) -> None:
    field, value = HOSTILE[case]
    record = json.loads((boot.folder / STATE).read_text())
    last = record["rounds"][-1]
    last[field] = [last[field][0] | value[0], *last[field][1:]] if field == "drawings" else value
    (boot.folder / STATE).write_text(json.dumps(record))
    assert "is damaged" in problem(go_on(client, boot, keep=[1]))
    (listed,) = client.get("/api/bootstraps").json()
    assert listed["problem"]


def test_one_is_begun_as_a_job(client: TestClient, planner: Planner, workspace: Path) -> None:
    offered = client.get("/api/bootstraps/pictures", params={"project": "zorp"}).json()
    assert (offered["total"], offered["pictures"][0]["caption"]) == (3, "zorp, standing")
    image = offered["pictures"][0]["path"]
    values = {"trigger": "zorp", "drawings": "4", "settings": ["train.steps=2"], "cfg": ""}
    body = {"project": "zorp", "images": [image], "values": values}
    told = client.post("/api/bootstraps/check", json=body).json()
    out = f"{workspace}/zorp/bootstrap/zorp"
    line = f"lorasmith bootstrap {image} --trigger zorp --out {out}"
    assert told["command_line"] == f"{line} --drawings 4 --set train.steps=2"
    assert (told["plan"]["round_steps"], told["problems"]) == (6, [])
    job = client.post("/api/bootstraps", json=body).json()
    assert (job["state"], job["title"]) == ("queued", "bootstrap zorp")
    assert job["command_line"] == told["command_line"]
    assert planner.asked[-1]["images"] == [image]
    again = client.post("/api/bootstraps", json=body)
    assert "is at work on it" in problem(again)


def test_what_is_wrong_stands_at_its_option(client: TestClient, planner: Planner) -> None:
    planner.refuses = [Problem("model.path", "is not there"), Problem("width", "is too large")]
    body = {"project": "zorp", "images": ["zorp/dataset/0.png"], "values": {"trigger": "zorp"}}
    told = client.post("/api/bootstraps/check", json=body).json()
    assert [each["where"] for each in told["problems"]] == ["model", "size"]
    refused = client.post("/api/bootstraps", json=body)
    assert [each["where"] for each in refused.json()["problems"]] == ["model", "size"]
    wrong = {"project": "zorp", "values": {"trigger": "zorp", "drawings": "many"}}
    told = client.post("/api/bootstraps/check", json=wrong).json()
    assert [each["where"] for each in told["problems"]] == ["drawings"]


OUTSIDE: dict[str, dict[str, Any]] = {
    "a picture": {"images": ["../secret.png"]},
    "a model": {"values": {"model": "../secret.txt"}},
    "a further model": {"values": {"models": ["/etc/passwd"]}},
    "a style": {"values": {"style_lora": ["../secret.txt:0.5"]}},
    "prompts": {"values": {"prompts": "../secret.txt"}},
    "wildcards": {"values": {"wildcard_dir": ".."}},
    "a setting": {"values": {"settings": ['model.vae="/etc/passwd"']}},
    "a project": {"project": ".."},
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_nothing_outside_is_begun_with(client: TestClient, planner: Planner, case: str) -> None:
    body: dict[str, Any] = {"project": "zorp", "images": ["zorp/dataset/0.png"], **OUTSIDE[case]}
    body["values"] = {"trigger": "zorp", **body.get("values", {})}
    for address in ("/api/bootstraps", "/api/bootstraps/check"):
        assert client.post(address, json=body).status_code == 403, case
    assert not planner.asked


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("models", ["/etc/passwd"]),
        ("style_loras", ["../../../../secret.txt:1"]),
        ("prompts", "/etc/passwd"),
        ("settings", ['model.vae="/etc/passwd"']),
    ],
)
def test_nor_gone_on_with(client: TestClient, boot: Bootstrap, option: str, value: Any) -> None:
    """Whoever wrote the file of one that lies here may have named anything."""
    record = json.loads((boot.folder / STATE).read_text())
    record["options"][option] = value
    (boot.folder / STATE).write_text(json.dumps(record))
    assert go_on(client, boot, keep=[1]).status_code == 403


def test_nor_where_its_folders_lead_out(client: TestClient, boot: Bootstrap) -> None:
    elsewhere = boot.folder.parents[3] / "elsewhere"
    boot.dataset.rename(elsewhere)
    boot.dataset.symlink_to(elsewhere)
    assert go_on(client, boot, keep=[1]).status_code == 403


def test_captions_that_lead_out_are_not_read(client: TestClient, boot: Bootstrap) -> None:
    secret = boot.folder.parents[3] / "secret.txt"
    for image in (boot.drawing(boot.now, boot.now.drawings[0]), *boot.given_folder.glob("*.png")):
        image.with_suffix(".txt").unlink(missing_ok=True)
        image.with_suffix(".txt").symlink_to(secret)
    told = one(client, boot), client.get("/api/bootstraps").json()
    assert secret.read_text() not in json.dumps(told)


def test_a_choice_goes_on(client: TestClient, boot: Bootstrap) -> None:
    job = go_on(client, boot, keep=[3, 1, 1]).json()
    assert job["command"] == ["bootstrap", "--continue", str(boot.folder), "--keep", "1,3"]
    assert one(client, boot)["job"] == job["id"]
    assert "is at work on it" in problem(go_on(client, boot, keep=[1]))
    client.post(f"/api/jobs/{job['id']}/cancel")
    job = go_on(client, boot, keep=[], finish=True, values={"device": "cpu"}).json()
    assert job["command"][3:] == ["--keep", "none", "--finish", "--device", "cpu"]
    assert job["device"] == "cpu", "what it takes is free for others"


def test_choices_that_cannot_be(client: TestClient, boot: Bootstrap) -> None:
    assert "nothing is chosen" in problem(go_on(client, boot))
    assert "has no drawing 9" in problem(go_on(client, boot, keep=[9]))
    assert "cannot be changed" in problem(go_on(client, boot, keep=[1], values={"seed": 3}))
    boot.stage = "final"
    boot.save()
    assert "nothing to choose any more" in problem(go_on(client, boot, keep=[1]))
    assert go_on(client, boot).json()["command"][1:] == ["--continue", str(boot.folder)]


def test_a_caption_is_mended_before_it_is_kept(client: TestClient, boot: Bootstrap) -> None:
    body = {"path": str(boot.folder), "number": 1, "caption": f" sitting,\n{SCRIPT} "}
    told = client.put("/api/bootstraps/caption", json=body).json()
    assert told == {"caption": f"zorp, sitting, {SCRIPT}"}
    assert one(client, boot)["history"][1]["drawings"][0]["caption"] == told["caption"]
    boot.now.kept = [1]
    apply_choice(boot)
    assert (boot.drawn_folder / "r02-01.txt").read_text() == f"{told['caption']}\n"
    assert "has no drawing 8" in problem(
        client.put("/api/bootstraps/caption", json={**body, "number": 8})
    )
    boot.stage = "train"
    boot.save()
    assert "does not wait" in problem(client.put("/api/bootstraps/caption", json=body))


def test_jobs_of_the_command_line_are_its_own(
    client: TestClient, boot: Bootstrap, workspace: Path
) -> None:
    ledger = Ledger(workspace)
    submit(ledger, ["bootstrap", "a.png", "--trigger", "zorp"], workspace / "zorp")
    assert one(client, boot)["job"] == 1
    submit(ledger, ["bootstrap", "--continue=bootstrap/zorp"], workspace / "zorp")
    submit(ledger, ["train", "zorp"], workspace)
    ledger.cancel(1)
    assert one(client, boot)["job"] == 2


def test_changes_and_work_of_others_are_told(client: TestClient, boot: Bootstrap) -> None:
    changes = Changes(Studio(Roots(boot.folder.parents[2])))
    assert "bootstraps" not in changes.look()
    with open(boot.lock, "a", encoding="utf-8") as file:
        assert lock_file(file)
        assert one(client, boot)["busy"]
        assert changes.look() == ["bootstraps"]
    assert changes.look() == ["bootstraps"]
    new = boot.round_folder(boot.now) / "drawings" / "04.png"
    Image.new("RGB", (8, 8)).save(new)
    os.utime(new.parent, (1, 1))
    assert changes.look() == ["bootstraps"]


def test_the_form_has_all_that_the_command_line_takes(client: TestClient) -> None:
    fields = client.get("/api/bootstraps/form").json()
    names = {field["name"] for field in fields}
    own = {"images", "out", "go_on", "keep", "finish", "wait", "dry_run"}
    assert names == {item.name for item in settings_of(BootstrapRequest)} - own
    assert [field["name"] for field in fields[:2]] == ["trigger", "caption"]


def test_new_ones_take_a_free_name(tmp_path: Path) -> None:
    assert folder_for(tmp_path, "my zorp") == tmp_path / "bootstrap" / "my-zorp"
    (tmp_path / "bootstrap" / "my-zorp").mkdir(parents=True)
    assert folder_for(tmp_path, "my zorp").name == "my-zorp-2"
