"""Prompts and wildcards over HTTP: saved, refused where they changed, never outside."""

from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient


def test_a_list_is_saved_and_previewed(client: TestClient, workspace: Path) -> None:
    body = {"kind": "wildcards", "name": "colours", "text": "red\nblue\n"}
    made = client.put("/api/prompts/file", json=body).json()
    assert client.put("/api/prompts/file", json=body).status_code == 409
    (workspace / "wildcards/colours.txt").write_text("green\n", "utf-8")
    stale = client.put("/api/prompts/file", json={**body, "version": made["version"]})
    assert stale.status_code == 409
    assert stale.json()["problems"][0]["what"] == "was changed elsewhere meanwhile"
    ask = {"text": "a __colours__ hat\n__colours__ --d 9", "seed": 3, "count": 2}
    found = client.post("/api/prompts/expand", json=ask).json()
    assert [(one["seed"], one["prompt"]) for one in found["prompts"]] == [
        (3, "a green hat"), (4, "a green hat"), (9, "green"), (10, "green")
    ]  # fmt: skip
    tried = client.post(
        "/api/prompts/expand",
        json={**ask, "wildcard": "colours", "wildcard_text": "black"},
    ).json()
    assert tried["prompts"][0]["prompt"] == "a black hat"

    made = client.put(
        "/api/prompts/file", json={"kind": "prompts", "name": "ten", "text": "a"}
    ).json()
    assert made["command"].endswith(f" --prompts {workspace}/prompts/ten.txt")
    new = {"kind": "prompts", "name": "ten", "new": "eleven"}
    assert client.post("/api/prompts/rename", json=new).json()["name"] == "eleven"
    gone = {"kind": "prompts", "name": "eleven", "version": made["version"]}
    assert Path(client.post("/api/prompts/remove", json=gone).json()["kept"]).read_text() == "a"
    assert [one["name"] for one in client.get("/api/prompts").json()] == ["colours"]


def test_no_name_and_no_link_leads_out(client: TestClient, workspace: Path) -> None:
    (workspace / "wildcards").mkdir()
    (workspace / "wildcards" / "link.txt").symlink_to(workspace.parent / "secret.txt")
    query = {"kind": "wildcards", "name": "link"}
    assert client.get("/api/prompts/file", params=query).status_code == 403
    assert client.put("/api/prompts/file", json={**query, "text": "x"}).status_code == 403
    assert client.get("/api/prompts").json() == []
    told = client.post("/api/prompts/expand", json={"text": "a __link__"}).json()
    assert "there is no such wildcard" in told["prompts"][0]["problem"]
    assert (workspace.parent / "secret.txt").read_text() == "secret"
    for name in ("../../secret", "/etc/passwd", "a/../../../x", ""):
        body = {"kind": "prompts", "name": name, "text": "x"}
        assert client.put("/api/prompts/file", json=body).status_code in (403, 422), name
    assert not (workspace / "prompts").exists()


def test_half_a_character_is_refused_in_words(client: TestClient) -> None:
    """JSON can say one, and no answer can repeat it."""
    body = rb'{"kind": "prompts", "name": "\ud800", "text": "x"}'
    refused = client.put(
        "/api/prompts/file", content=body, headers={"content-type": "application/json"}
    )
    assert refused.status_code in (403, 422)
    assert refused.json()["problems"]
