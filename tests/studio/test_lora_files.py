"""LoRA files over the API: what one is, the tools' figures, and what they write."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

import torch
from fastapi.testclient import TestClient
from safetensors.torch import save_file

from lorasmith.config.fields import settings_of
from lorasmith.jobs.file_tools.details import seen
from lorasmith.jobs.file_tools.figures import figures
from lorasmith.jobs.file_tools.forms import TOOLS, tool_forms, tool_request
from lorasmith.jobs.lora_files import ResizeRequest
from lorasmith.jobs.queue.ledger import Ledger
from lorasmith.jobs.request import run, words_of

from .conftest import client_of

KEY = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
SCRIPT = "<script>alert(1)</script>\x1b[31m\u202egnp"


def write_lora(path: Path, seed: int = 0, **metadata: str) -> Path:
    torch.manual_seed(seed)
    tensors = {
        f"{KEY}.lora_down.weight": torch.randn(8, 320),
        f"{KEY}.lora_up.weight": torch.randn(320, 8) * torch.tensor([4.0, 2, 1] + [0.1] * 5),
        f"{KEY}.alpha": torch.tensor(8.0),
    }
    save_file(tensors, path, metadata or None)
    return path


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with two LoRAs, beside a third that no page may open."""
    top = tmp_path_factory.mktemp("files")
    folder = top / "workspace" / "loras"
    folder.mkdir(parents=True)
    write_lora(folder / "a.safetensors", ss_training_comment=SCRIPT, **{SCRIPT: "name"})
    write_lora(folder / "b.safetensors", seed=1)
    write_lora(top / "secret.safetensors")
    return top / "workspace"


@pytest.fixture(scope="module")
def client(place: Path) -> Iterator[TestClient]:
    """One process with torch answers all tests."""
    client = client_of(place)
    yield client
    if (engine := getattr(client.app.state, "engine", None)) is not None:  # type: ignore[attr-defined]
        engine.release()


def ask(client: TestClient, what: str, verb: str, **values: Any) -> Any:
    return client.post(f"/api/lora-files/{what}", json={"verb": verb, "values": values})


def test_a_file_gets_another_name(client: TestClient, place: Path) -> None:
    folder = place / "renamed"
    folder.mkdir()
    write_lora(folder / "a.safetensors")
    (folder / "a.png").write_bytes(b"png")

    def rename(path: str, name: str) -> Any:
        return client.post("/api/lora-files/rename", json={"path": path, "name": name})

    answer = rename("renamed/a.safetensors", "b, better")
    assert answer.json() == {"path": str(folder / "b, better.safetensors")}
    assert sorted(each.name for each in folder.iterdir()) == [
        "b, better.png",
        answer.json()["path"].rpartition("/")[2],
    ]
    for path, name, status in (
        ("../secret.safetensors", "x", 403),
        ("renamed/b, better.safetensors", "../x", 422),
        ("renamed/b, better.safetensors", ".x", 422),
        ("renamed/b, better.safetensors", "<b>", 422),
    ):
        assert rename(path, name).status_code == status


def test_forms_have_all_that_the_command_line_takes(client: TestClient) -> None:
    told = client.get("/api/lora-files/tools").json()
    for form in told:
        fields = {item.name for item in settings_of(TOOLS[form["verb"]])}
        assert {field["name"] for field in form["fields"]} == fields - {"dry_run"}
    named = {(form.verb, field.name): field.names for form in tool_forms() for field in form.fields}
    assert named["resize", "out"] == "new"
    paths = [
        (verb, item.name)
        for verb, request in TOOLS.items()
        for item in settings_of(request)
        if Path in item.types or item.name in ("model", "base", "tuned", "sources")
    ]
    assert all(named[each] for each in paths)


def test_a_file_is_told_as_text(client: TestClient) -> None:
    told = client.get("/api/lora-files/file", params={"path": "loras/a.safetensors"}).json()
    assert told["kind"] == "lora"
    assert told["sizes"] == [{"rank": 8, "alpha": 8.0, "modules": 1}]
    assert [block["block"] for block in told["blocks"]] == ["IN04"]
    assert told["blocks"][0]["energy"] == pytest.approx(1.0)
    assert "\x1b" not in json.dumps(told, ensure_ascii=False)
    assert {"name": "ss_training_comment", "text": seen(SCRIPT), "cut": 0} in told["metadata"]
    assert seen(SCRIPT) == "<script>alert(1)</script>␛[31m⟨U+202E⟩gnp"


def test_figures_before_anything_is_written(client: TestClient, place: Path) -> None:
    out = place / "loras" / "small.safetensors"
    values = {"source": "loras/a.safetensors", "out": str(out), "rank": "2"}
    told = ask(client, "figures", "resize", **values).json()
    assert not told["problems"]
    assert not out.exists()
    assert told["command_line"].endswith(f"resize {place}/loras/a.safetensors {out} --rank 2")
    assert told["figures"]["blocks"][0]["most_rank"] == 2
    assert 0.9 < told["figures"]["blocks"][0]["kept"] < 1
    assert told["figures"]["lines"][-1] == f"dry run    {out} not written"
    done = ask(client, "write", "resize", **values).json()["figures"]
    assert done["written"]
    assert out.stat().st_size == done["new_bytes"] == told["figures"]["new_bytes"]
    again = ask(client, "figures", "resize", **values).json()
    assert "exists already" in again["problems"][0]["what"]


def test_a_merge_takes_weights(client: TestClient, place: Path) -> None:
    out = place / "loras" / "both.safetensors"
    sources = ["loras/a.safetensors:0.5:lbw=OUTALL", "loras/b.safetensors"]
    told = ask(client, "figures", "merge", sources=sources, out=str(out)).json()
    assert f"{place}/loras/a.safetensors:0.5:lbw=OUTALL" in told["command_line"]
    assert told["figures"]["lines"][0].startswith("of         a (0.5, by block)")


def test_problems_stand_at_their_fields(client: TestClient) -> None:
    told = ask(client, "figures", "resize", source="loras/a.safetensors", rank="many").json()
    assert {each["where"] for each in told["problems"]} == {"rank", "out"}
    values = {"source": "loras/a.safetensors", "out": "loras/n.safetensors", "retain": 3}
    told = ask(client, "figures", "resize", **values).json()
    assert [each["where"] for each in told["problems"]] == ["retain"]


def test_a_tool_is_queued(client: TestClient, place: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("lorasmith.studio.api.jobs.ensure_runners", lambda ledger: None)
    values = {"source": "loras/a.safetensors", "out": "loras/later.safetensors", "rank": 1}
    job = ask(client, "queue", "resize", **values).json()
    assert job["command"][:2] == ["resize", f"{place}/loras/a.safetensors"]
    assert job["title"] == "resize later.safetensors"
    Ledger(place).remove(job["id"])
    refused = ask(client, "queue", "resize", **values, nonsense=1)
    assert refused.status_code == 422


@pytest.mark.parametrize(
    ("verb", "values"),
    [
        ("resize", {"source": "../secret.safetensors", "out": "x.safetensors", "rank": 1}),
        ("resize", {"source": "loras/a.safetensors", "out": "../x.safetensors", "rank": 1}),
        ("resize", {"source": "loras/a.safetensors", "out": ".lorasmith/x.safetensors", "rank": 1}),
        ("merge", {"sources": ["../secret.safetensors:0.5"], "out": "x.safetensors"}),
        ("merge", {"sources": ["/etc/passwd:nonsense"], "out": "x.safetensors"}),
        (
            "bake",
            {"model": "../secret.safetensors", "sources": ["loras/a.safetensors"], "out": "x"},
        ),
        ("extract", {"base": "demo", "tuned": "/etc/passwd", "out": "x.safetensors", "rank": 1}),
        ("convert", {"source": "loras/link.safetensors", "out": "x.safetensors"}),
        (
            "convert",
            {"source": "loras/a.safetensors", "out": "x.safetensors", "preview": "../s.png"},
        ),
    ],
)
def test_nothing_leads_out(client: TestClient, place: Path, verb: str, values: Any) -> None:
    link = place / "loras" / "link.safetensors"
    if not link.is_symlink():
        link.symlink_to(place.parent / "secret.safetensors")
    before = set(place.rglob("*.safetensors"))
    for what in ("figures", "write", "queue"):
        assert ask(client, what, verb, **values).status_code == 403
    assert (
        client.get("/api/lora-files/file", params={"path": "../secret.safetensors"}).status_code
        == 403
    )
    assert set(place.rglob("*.safetensors")) == before


def test_pickles_never_run(client: TestClient, place: Path) -> None:
    sign = place / "was-run"
    for name in ("evil.pt", "evil.ckpt", "evil.safetensors"):
        (place / name).write_bytes(pickle.dumps({"a": Evil(sign)}))
        torch.save({"a": Evil(sign)}, place / f"zip-{name}")
        for each in (name, f"zip-{name}"):
            assert client.get("/api/lora-files/file", params={"path": each}).status_code == 422
            told = ask(client, "figures", "convert", source=each, out="new.safetensors").json()
            assert told["problems"]
    assert not sign.exists()


def test_the_command_of_a_form() -> None:
    values = {"source": "-a.safetensors", "out": "b.safetensors", "rank": 4, "max_rank": ""}
    request = tool_request("resize", values, dry_run=True)
    assert words_of(request) == ["resize", "--rank", "4", "--", "-a.safetensors", "b.safetensors"]
    values = {"sources": ["a:1", "b"], "out": "c.safetensors", "method": "dare", "seed": -3}
    words = words_of(tool_request("merge", values, dry_run=True))
    assert words == ["merge", "a:1", "b", "--out", "c.safetensors", "--method", "dare", "--seed=-3"]
    bake = {"model": "demo", "sources": ["a", "b"], "out": "c", "hash": True}
    words = words_of(tool_request("bake", bake, dry_run=False))
    assert words == [
        "bake",
        "--model",
        "demo",
        "--lora",
        "a",
        "--lora",
        "b",
        "--out",
        "c",
        "--hash",
    ]


def test_figures_are_the_reports(tmp_path: Path) -> None:
    source = write_lora(tmp_path / "a.safetensors")
    request = ResizeRequest(source=source, out=tmp_path / "b.safetensors", rank=3, dry_run=True)
    report = run(request)
    told = figures(request, report)
    assert (told.old_bytes, told.new_bytes) == (report.old_bytes, report.new_bytes)
    assert told.error == report.error
    assert told.blocks[0].kept == pytest.approx(report.modules[0].retained)


def test_what_is_resized_has_the_preview_of_what_it_was(tmp_path: Path) -> None:
    source = write_lora(tmp_path / "a.v1.safetensors")
    preview = tmp_path / "a.v1.preview.png"
    preview.write_bytes(b"a picture")
    for name in ("b.v1", "c"):
        request = ResizeRequest(source=source, out=tmp_path / f"{name}.safetensors", rank=3)
        run(request.model_copy(update={"dry_run": True}))
        assert not (tmp_path / f"{name}.preview.png").exists()
        run(request)
        assert (tmp_path / f"{name}.preview.png").read_bytes() == b"a picture"
    (tmp_path / "d.png").write_bytes(b"its own")
    run(ResizeRequest(source=source, out=tmp_path / "d.safetensors", rank=3))
    assert not (tmp_path / "d.preview.png").exists()
