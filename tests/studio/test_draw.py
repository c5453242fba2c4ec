"""Drawings over the API; the process that draws is a stub."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.numpy import save_file
from tests.studio.conftest import ADDRESS
from tests.unit.jobs.drawings.stub import STUB

from lorasmith.core.errors import PromptError
from lorasmith.jobs.drawings import queue
from lorasmith.jobs.drawings.queue import Drawings
from lorasmith.jobs.engine.drawing import DrawingEngine
from lorasmith.jobs.engine.giving_way import GivingWay, jobs_of
from lorasmith.jobs.picture_settings import picture_settings
from lorasmith.studio.api.changes import _stream
from lorasmith.studio.app import create_app
from lorasmith.studio.context import Studio

TEXT = "zorp <lora:a:1>\nNegative prompt: tail\nSteps: 5, Sampler: DDIM, Seed: 7, Size: 8x8"


class Page:
    def __init__(self, workspace: Path) -> None:
        app = create_app(workspace)
        self.studio: Studio = app.state.studio
        engine = DrawingEngine(workspace, (sys.executable, "-c", STUB))
        self.studio.guard = GivingWay(engine, jobs_of(workspace))
        self.studio.drawings = Drawings(workspace, self.studio.guard)
        self.client = TestClient(app, base_url=ADDRESS)

    def post(self, path: str = "", **body: Any) -> Any:
        return self.client.post(f"/api/draw{path}", json=body).json()

    def get(self, path: str = "", **query: Any) -> Any:
        return self.client.get(f"/api/draw{path}", params=query).json()

    def ended(self, number: str) -> Any:
        deadline = time.monotonic() + 60
        while (record := self.get(f"/{number}"))["state"] in ("waiting", "drawing"):
            assert time.monotonic() < deadline, record
            time.sleep(0.01)
        return record


@pytest.fixture
def page(workspace: Path) -> Iterator[Page]:
    page = Page(workspace)
    yield page
    page.studio.guard.engine.release()


def write_picture(path: Path, text: str = TEXT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    info = PngInfo()
    info.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)


def write_lora(path: Path, **metadata: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"lora_unet_x.lora_up.weight": np.zeros((1, 1), np.float32)}, path, metadata)


def test_a_drawing_from_its_asking_to_its_end(page: Page, workspace: Path) -> None:
    body = {
        "project": "zorp",
        "prompt": "zorp",
        "steps": 3,
        "loras": [{"name": "a", "strength": 0.5, "blocks": {"IN04": 0}}],
    }
    record = page.post(**body)
    assert record["state"] == "waiting"
    assert record["drawing"]["loras"][0]["blocks"] == {"IN04": 0}
    line = record["command_line"]
    assert line.startswith("lorasmith generate 'zorp <lora:a:0.5:")
    assert f"--out {workspace}/zorp/drawings/20" in line
    assert "<lora:a:0.5:lbw=1,1,1,1,1,0" in line
    record = page.ended(record["id"])
    assert record["state"] == "done"
    assert record["pictures"]
    assert page.get()[0]["id"] == record["id"]


def test_a_trial_is_in_no_list_and_is_kept_for_a_while(
    page: Page, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "MOST_TRIALS", 2)
    trials = workspace / ".lorasmith" / "drawings" / "trials"
    trials.mkdir(parents=True)
    for number in range(4):
        write_picture(trials / f"{number}.png")
    record = page.post(project="zorp", prompt="zorp", trial=True)
    assert f"--out {trials}" in record["command_line"]
    assert page.ended(record["id"])["state"] == "done"
    assert page.get() == page.get("/history", project="zorp")["pictures"] == []
    assert [path.name for path in sorted(trials.iterdir())] == ["2.png", "3.png"]


def test_tokens_are_counted_as_they_are_drawn(page: Page, workspace: Path) -> None:
    loras = workspace / "zorp" / "loras"
    write_lora(loras / "a.safetensors")
    murk = np.zeros((9, 8), np.float32)
    save_file({"emb_params": murk}, loras / "murk.safetensors")
    # One that a LoRA carries is there with the LoRA alone.
    carried = {"bundle_emb.word.emb_params": murk, "lora_unet_x.lora_up.weight": murk}
    save_file(carried, loras / "pair.safetensors")
    body = {"project": "zorp", "prompt": "a murk, (word:1.2)", "negative": "<lora:x:y>"}
    told = page.post("/tokens", **body)
    assert told["prompt"]["tokens"] == 1 + 9 + 1 + 1
    assert told["prompt"]["embeddings"] == {"murk": 9}
    assert told["negative"]["tokens"] is None
    told = page.post("/tokens", **body, loras=[{"name": "pair"}])
    assert told["prompt"]["embeddings"] == {"murk": 9, "word": 9}
    answer = page.client.post("/api/draw/tokens", json={"embedding_dir": ".."})
    assert answer.status_code == 403


def test_wildcards_of_the_workspace_are_completed_and_drawn(page: Page, workspace: Path) -> None:
    assert page.get("/wildcards", prefix="") == []
    folder = workspace / "wildcards"
    (folder / "people").mkdir(parents=True)
    for name in ("colours", "people/hair", "people/hats"):
        (folder / f"{name}.txt").write_text("red\n", encoding="utf-8")
    assert page.get("/wildcards", prefix="ha") == ["hair", "hats", "people/hair", "people/hats"]
    assert page.get("/wildcards", prefix="", folder="wildcards/people") == ["hair", "hats"]
    assert page.client.get("/api/draw/wildcards", params={"folder": ".."}).status_code == 403
    line = page.post("/command-line", prompt="__colours__")["line"]
    assert f"--wildcard-dir {folder}" in line


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


LONG = b"parameters\0" + b"<b>x</b>, " * 1_000_000 + b"\nSteps: 5, Sampler: DDIM, Seed: 7"


@pytest.mark.parametrize(
    ("long", "words"),
    [
        (chunk(b"tEXt", LONG), "more than 100,000 characters"),
        (chunk(b"iTXt", LONG.replace(b"\0", b"\0\0\0\0\0", 1)), "more than 100,000 characters"),
        # Such as become 10 MB when they are unpacked.
        (chunk(b"zTXt", b"parameters\0\0" + zlib.compress(LONG[11:])), "cannot be read"),
        (chunk(b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(LONG[11:])), "cannot be read"),
        (chunk(b"abCd", LONG), "does not say how it was made"),
    ],
    ids=["text", "utf-8", "packed", "packed utf-8", "unknown"],
)
def test_chunks_of_10_mb_are_refused_in_words(
    page: Page, workspace: Path, long: bytes, words: str
) -> None:
    path = workspace / "zorp" / "drawings" / "2026-01-31" / "1.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[:33] + long + data[33:])
    with pytest.raises(PromptError, match=words):
        picture_settings(path)
    answer = page.client.get("/api/draw/history", params={"project": "zorp"})
    assert answer.status_code == 200
    assert len(answer.content) < 500_000


def test_cancelling(page: Page) -> None:
    slow, waiting = page.post(prompt="slow"), page.post(prompt="zorp")
    assert page.post(f"/{waiting['id']}/cancel")["state"] == "cancelled"
    page.post(f"/{slow['id']}/cancel")
    assert page.ended(slow["id"])["state"] == "cancelled"
    assert page.client.post("/api/draw/none/cancel").status_code == 422


def test_what_is_wrong_is_told_at_its_option(page: Page) -> None:
    answer = page.client.post("/api/draw", json={"prompt": "x", "steps": 3, "size": 12})
    assert answer.status_code == 422
    record = page.ended(page.post(prompt="wrong")["id"])
    assert record["problems"] == [{"where": "steps", "what": "too many", "hint": ""}]


@pytest.mark.parametrize("name", ["init", "mask", "lora_dir", "model", "vae", "wildcard_dir"])
@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "zorp/../../secret.png"])
def test_nothing_outside_is_drawn_from(page: Page, name: str, path: str) -> None:
    answer = page.client.post("/api/draw", json={"prompt": "x", name: path})
    assert answer.status_code == 403
    assert answer.json()["problems"][0]["where"] == name
    assert page.get() == []


def test_nothing_outside_is_read_or_written(page: Page, workspace: Path) -> None:
    write_lora(workspace / "loras" / "a.safetensors")
    for query in ({"path": "../secret.png"}, {"path": "x.png", "project": ".."}):
        assert page.client.get("/api/draw/settings", params=query).status_code == 403
    for path in ("/api/draw/history", "/api/draw/loras"):
        name = "project" if "history" in path else "folder"
        assert page.client.get(path, params={name: ".."}).status_code == 403
    (workspace / "loras" / "a.png").symlink_to(workspace.parent / "secret.png")
    body = {"lora": "loras/a.safetensors", "picture": "zorp/dataset/0.png"}
    assert page.client.put("/api/draw/lora-preview", json=body).status_code == 403


def test_steps_are_told_by_the_stream_of_changes(page: Page) -> None:
    async def listen() -> list[tuple[str, Any]]:
        stream, heard = _stream(page.studio), []
        await anext(stream)
        page.post(prompt="zorp")
        async for message in stream:
            kind, data = message.strip().split("\n")
            heard.append((kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
            topics = [told["topics"] for kind, told in heard if kind == "changed"]
            if any(t.get("state") == "done" for _, t in heard) and ["drawings"] in topics:
                return heard
        raise AssertionError("the stream ended")

    heard = asyncio.run(asyncio.wait_for(listen(), 20))
    records = [told for kind, told in heard if kind == "drawing"]
    assert records[-1]["pictures"]
    page.studio.closing.set()


def test_pictures_that_were_drawn_the_newest_first(page: Page, workspace: Path) -> None:
    folder = workspace / "zorp" / "drawings"
    for name in ("2026-01-02/00001-7.png", "2026-01-02/00010-7.png", "2026-01-10/00001-7.png"):
        write_picture(folder / name)
    (folder / "2026-01-10" / "00002-8.png").touch()  # It is being drawn.
    write_picture(folder / "masks" / "1.png")
    first = page.get("/history", project="zorp", limit=2)
    names = [Path(picture["path"]).name for picture in first["pictures"]]
    assert names == ["00001-7.png", "00010-7.png"]
    one = first["pictures"][0]
    assert (one["prompt"], one["negative"]) == ("zorp <lora:a:1>", "tail")
    assert (one["settings"]["Seed"], one["day"]) == ("7", "2026-01-10")
    image = page.client.get("/api/image", params={"path": one["path"], "v": one["version"]})
    assert "immutable" in image.headers["cache-control"]
    second = page.get("/history", project="zorp", limit=2, before=first["before"])
    assert [Path(each["path"]).name for each in second["pictures"]] == ["00001-7.png"]
    assert second["before"] == ""
    assert page.get("/history")["pictures"] == []


def test_cards_of_loras(page: Page, workspace: Path) -> None:
    write_lora(
        workspace / "zorp" / "runs" / "a" / "a.safetensors",
        ss_base_model_version="sd_v1",
        **{"modelspec.trigger_phrase": "zorp"},
    )
    write_lora(workspace / "one" / "b.safetensors")
    write_lora(workspace / "two" / "b.safetensors")
    write_lora(workspace / "zorp" / "runs" / "a" / "state" / "step-1.safetensors")
    card = {"activation text": "zo", "preferred weight": 0.8, "negative text": 3}
    (workspace / "one" / "b.json").write_text(json.dumps(card))
    (workspace / "two" / "b.json").write_text("{")
    cards = {card["name"]: card for card in page.get("/loras")["loras"]}
    assert set(cards) == {"a", "one/b", "two/b"}
    assert (cards["a"]["base"], cards["a"]["trigger"]) == ("sd_v1", "zorp")
    assert (cards["one/b"]["trigger"], cards["one/b"]["strength"]) == ("zo", 0.8)
    assert cards["a"]["preview"] == ""
    picture = workspace / "zorp" / "drawings" / "2026-01-02" / "00001-7.png"
    write_picture(picture)
    body = {"lora": cards["a"]["path"], "picture": str(picture)}
    made = page.client.put("/api/draw/lora-preview", json=body).json()
    assert Path(made["path"]).read_bytes() == picture.read_bytes()
    (again,) = page.get("/loras", folder="zorp")["loras"]
    assert again["preview"] == made["path"]
    assert again["preview_version"] == made["version"]
    (workspace / "x.txt").write_text("x")
    answer = page.client.put("/api/draw/lora-preview", json={**body, "picture": "x.txt"})
    assert answer.status_code == 422


def test_what_a_form_offers(page: Page) -> None:
    options = page.get("/options")
    assert options["samplers"]["euler_a"] == "Euler a"
    assert options["block_presets"]["OUTALL"]["IN04"] == 0
    assert options["limits"]["steps"] == [1, 500]
    assert options["defaults"]["cfg"] == 7


def test_a_page_warms_up_what_it_will_ask(page: Page) -> None:
    assert page.post("/warm-up", prompt="") == {"job": None}
    deadline = time.monotonic() + 60
    while not page.studio.guard.engine.running:
        assert time.monotonic() < deadline
        time.sleep(0.01)


MARKUP = "<script>alert(1)</script>"


def test_markup_and_signs_of_terminals_are_text(page: Page, workspace: Path) -> None:
    write_picture(workspace / "drawings" / "2026-01-02" / "1.png", f"{MARKUP}\n{TEXT}")
    answer = page.client.get("/api/draw/history")
    assert answer.headers["content-type"] == "application/json"
    assert MARKUP in answer.json()["pictures"][0]["prompt"]
    signs = f"{MARKUP} \x1b]0;x\x07\r\nzorp\u202e" + "x" * 10_000
    write_lora(workspace / "a.safetensors", **{"modelspec.trigger_phrase": signs})
    (workspace / "a.json").write_text(json.dumps({"negative text": "\x1b[31mtail\x00"}))
    (card,) = page.get("/loras")["loras"]
    assert card["trigger"].startswith(f"{MARKUP} ]0;x zorp x")
    assert (len(card["trigger"]), card["negative"]) == (500, "[31mtail")
    record = page.post(prompt=MARKUP, loras=[{"name": "a"}])
    assert record["command_line"].startswith(f"lorasmith generate '{MARKUP} <lora:a:1.0>' ")
    text = TEXT.replace("zorp ", "zorp\x1b[31m").replace("tail", "a\x07")
    write_picture(workspace / "b.png", text)
    taken = picture_settings(workspace / "b.png")["drawing"]
    assert taken["prompt"] == "zorp\N{SYMBOL FOR ESCAPE}[31m"
    assert taken["negative"] == "a\N{SYMBOL FOR BELL}"
    answer = page.post(loras=[{"name": "a:1><script"}])
    assert "ends a tag" in answer["problems"][0]["what"]


@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "packed"])
def test_a_chunk_of_ten_megabytes(page: Page, workspace: Path, is_packed: bool) -> None:
    picture = workspace / "drawings" / "2026-01-02" / "1.png"
    picture.parent.mkdir(parents=True)
    info = PngInfo()
    info.add_text("parameters", "a" * 10_000_000 + "\nSteps: 5, Seed: 7", zip=is_packed)
    Image.new("RGB", (8, 8)).save(picture, pnginfo=info)
    answer = page.client.get("/api/draw/history")
    assert answer.status_code == 200
    assert len(answer.content) < 500_000
    with pytest.raises(PromptError, match="cannot be read" if is_packed else "more than 100,000"):
        picture_settings(picture)


def test_the_command_line_before_anything_is_drawn(page: Page) -> None:
    line = page.post("/command-line", prompt="it's", steps=3)["line"]
    assert line.startswith("lorasmith generate")
    assert "--steps 3" in line
    answer = page.client.post("/api/draw/command-line", json={"init": "../secret.png"})
    assert answer.status_code == 403
    assert page.get() == []


def test_words_of_a_prompt_are_completed(page: Page, workspace: Path) -> None:
    words = [each["tag"] for each in page.get("/words", project="zorp", prefix="sta")]
    assert words[0] == "standing"
    assert "starry background" in [each["tag"] for each in page.get("/words", prefix="star")]
    (workspace / "tags.csv").write_text("starfish,0,9,\n", encoding="utf-8")
    found = page.get("/words", prefix="star", words="tags.csv")
    assert (found[0]["tag"], found[0]["source"]) == ("starfish", "list")
    for query in ({"words": "../secret.txt"}, {"project": ".."}):
        answer = page.client.get("/api/draw/words", params={"prefix": "s", **query})
        assert answer.status_code == 403


def test_what_drawings_begin_with_is_no_dataset(page: Page, workspace: Path) -> None:
    write_picture(workspace / "zorp" / "dataset" / "drawings" / "inputs" / "mask.png")
    images = page.client.get("/api/dataset/images", params={"path": "zorp"}).json()
    assert [Path(name).name for name in images["names"]] == ["0.png", "1.png", "2.png"]
