"""What a hostile page, file or neighbour tries: each is refused, and nothing is written."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image, PngImagePlugin
from tests.studio.conftest import ADDRESS, client_of

from lorasmith.jobs.queue.ledger import Ledger
from lorasmith.studio import security
from lorasmith.studio.api import files as files_api
from lorasmith.studio.paths import OutsideError, Roots

SCRIPT = "<script>alert(1)</script>"
DATASET = "zorp/dataset"


def png(text: str = "") -> bytes:
    sink, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_text("parameters", text)
    Image.new("RGB", (32, 32), "red").save(sink, "PNG", pnginfo=info)
    return sink.getvalue()


def put(client: TestClient, name: str, content: bytes, folder: str = DATASET):
    return client.put("/api/files", params={"folder": folder, "name": name}, content=content)


OUTSIDE = {
    "plain": "../secret.png",
    "deep": "zorp/dataset/../../../secret.png",
    "encoded": "%2e%2e%2fsecret.png",
    "double encoded": "%252e%252e%252fsecret.png",
    "absolute": "/etc/passwd",
    "UNC": "\\\\server\\share\\a.png",
    "UNC with slashes": "//server/share/a.png",
    "drive": "C:\\Windows\\win.ini",
    "backslashes": "..\\secret.png",
    "NUL": "zorp\0.png",
    "endless": "a/" * 5000,
    "empty": "",
}


@pytest.mark.parametrize("path", OUTSIDE.values(), ids=OUTSIDE)
@pytest.mark.parametrize("address", ["/api/image", "/api/folders", "/api/project", "/api/run"])
def test_no_path_leads_out(client: TestClient, address: str, path: str) -> None:
    for answer in (
        client.get(address, params={"path": path}),
        client.get(f"{address}?path={path}") if path.startswith("%") else None,
    ):
        assert answer is None or answer.status_code in (403, 404, 422), answer.text
        assert answer is None or "root:" not in answer.text


@pytest.mark.parametrize(
    "path", ["../app.py", "%2e%2e/app.py", "%252e%252e/app.py", "..%5capp.py", "/etc/passwd", "%00"]
)
def test_no_asset_leads_out(client: TestClient, path: str) -> None:
    answer = client.get(f"/{path}")
    assert answer.status_code == 404
    assert "create_app" not in answer.text


def test_links_that_lead_out_are_not_followed(client: TestClient, workspace: Path) -> None:
    outside = workspace.parent
    (workspace / "zorp/dataset/link.png").symlink_to(outside / "secret.png")
    (workspace / "zorp/out").symlink_to(outside, target_is_directory=True)
    assert client.get("/api/image", params={"path": f"{DATASET}/link.png"}).status_code == 403
    assert client.get("/api/image", params={"path": "zorp/out/secret.png"}).status_code == 403
    assert put(client, "new.png", png(), "zorp/out").status_code == 403
    assert put(client, "link.png", png()).status_code == 403
    names = [e["name"] for e in client.get("/api/folders?path=zorp").json()["entries"]]
    assert names == ["dataset"]
    assert not (outside / "new.png").exists()


def test_what_is_allowed_at_start_is_opened(workspace: Path) -> None:
    client = client_of(workspace, allowed=[workspace.parent])
    assert client.get("/api/image", params={"path": "../secret.png"}).status_code == 200


@pytest.mark.parametrize("path", ["a.png:stream", "C:a.png", "con", "zorp/nul.png", "\\\\?\\C:\\a"])
def test_forms_of_windows_are_refused_there(tmp_path: Path, path: str) -> None:
    with pytest.raises(OutsideError):
        Roots(tmp_path, windows=True).resolve(path)


@pytest.mark.parametrize(
    "name",
    ["../a.png", "/a.png", "a\\b.png", ".a.png", "", "con.png", "a\0.png", "a" * 300 + ".png"],
)
def test_uploads_have_plain_names(client: TestClient, workspace: Path, name: str) -> None:
    before = sorted(workspace.parent.rglob("*"))
    assert put(client, name, png()).status_code in (403, 422)
    assert sorted(workspace.parent.rglob("*")) == before


def test_hidden_folders_are_not_written_to(client: TestClient, workspace: Path) -> None:
    assert put(client, "a.txt", b"a", ".lorasmith/queue").status_code == 403
    assert not (workspace / ".lorasmith").exists()


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "user@127.0.0.1", "", "192.168.0.9"]
)
def test_a_name_that_was_bound_to_this_computer_gets_no_answer(client, host: str) -> None:
    for path in ("/", "/api/session", "/openapi.json"):
        assert client.get(path, headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "[::1]:7421"])
def test_names_of_this_computer_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/api/disk", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=str,
)
def test_other_sites_get_no_answer(client: TestClient, workspace: Path, headers: dict) -> None:
    assert client.get("/api/session", headers=headers).status_code == 403
    assert client.post("/api/projects", json={"name": "a"}, headers=headers).status_code == 403
    query = f"/api/files?folder={DATASET}&name=a.png"
    assert client.put(query, content=png(), headers=headers).status_code == 403
    assert not (workspace / "a").exists()


def test_a_link_on_another_page_opens_a_page_and_nothing_else(client: TestClient) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=headers).status_code == 200
    assert client.get("/api/session", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"]
)
def test_forms_of_foreign_pages_are_not_read(client, workspace: Path, kind: str) -> None:
    answer = client.post("/api/projects", content=b'{"name": "a"}', headers={"content-type": kind})
    assert answer.status_code == 415
    assert not (workspace / "a").exists()


def test_without_the_token_nothing_is_answered(workspace: Path) -> None:
    client = client_of(workspace, token="right")
    for path in ("/", "/api/session", "/openapi.json", "/?token=wrong", "/api/session?token=right"):
        assert client.get(path).status_code == 401, path
    answer = client.get("/train?token=right")
    assert (answer.status_code, answer.headers["location"]) == (303, "/train")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert client.get("/api/session").status_code == 200
    client.cookies.clear()
    name = cookie.partition("=")[0]
    assert client.get("/api/session", headers={"cookie": f"{name}=wrong"}).status_code == 401
    assert client.get("//evil.example/?token=right").headers["location"] != "//evil.example/"


def test_every_answer_says_what_a_browser_may_do(client: TestClient) -> None:
    for path in (
        "/",
        "/api/session",
        "/none",
        "/api/image?path=../a",
        f"/api/image?path={DATASET}/0.png",
    ):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith(("default-src 'self'", "default-src 'none'"))
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers


def test_bodies_have_a_limit(client: TestClient) -> None:
    answer = client.post("/api/projects", json={"name": "a" * (security.BODY_BYTES + 1)})
    assert answer.status_code == 413


@pytest.mark.parametrize("upload", [False, True])
def test_endless_bodies_are_not_read_on(
    client: TestClient, workspace: Path, monkeypatch: pytest.MonkeyPatch, upload: bool
) -> None:
    monkeypatch.setattr(files_api, "UPLOAD_BYTES", 2_000_000)
    chunks, sent = 0, []

    async def receive() -> dict:
        nonlocal chunks
        chunks += 1
        assert chunks < 500, "it is read for ever"
        return {"type": "http.request", "body": bytes(100_000), "more_body": True}

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "PUT" if upload else "POST", "scheme": "http",
        "path": "/api/files" if upload else "/api/projects", "http_version": "1.1",
        "query_string": b"folder=zorp/dataset&name=a.png", "root_path": "",
        "raw_path": b"/", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 7421),
        "headers": [(b"host", ADDRESS[7:].encode()), (b"transfer-encoding", b"chunked"),
                    (b"content-type", b"application/json")],
    }  # fmt: skip
    asyncio.run(client.app(scope, receive, send))
    assert sent[0]["status"] == 413
    assert len(list((workspace / DATASET).iterdir())) == 6


def bomb() -> bytes:
    """A PNG of two gigapixels in a hundred bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", 50_000, 40_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


NO_IMAGES = {
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(w) (r) file\nshowpage\n",
    "SVG": f'<svg xmlns="http://www.w3.org/2000/svg">{SCRIPT}</svg>'.encode(),
    "HTML": SCRIPT.encode(),
    "decompression bomb": bomb(),
    "truncated": png()[:60],
    "empty": b"",
}


@pytest.mark.parametrize("content", NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_is_no_image_is_neither_taken_nor_shown(client, workspace, content: bytes) -> None:
    answer = put(client, "a.png", content)
    assert answer.status_code == 422
    assert answer.json()["problems"][0]["where"] == "a.png"
    assert not (workspace / DATASET / "a.png").exists()
    (workspace / DATASET / "b.png").write_bytes(content)
    for size in ("", "&size=64"):
        answer = client.get(f"/api/image?path={DATASET}/b.png{size}")
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/json"


def test_what_hides_in_an_image_is_not_sent(client: TestClient, workspace: Path) -> None:
    (workspace / DATASET / "p.png").write_bytes(png(SCRIPT) + SCRIPT.encode())
    for size in ("", "&size=16"):
        answer = client.get(f"/api/image?path={DATASET}/p.png{size}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] in ("image/png", "image/webp")
        assert b"script" not in answer.content
        with Image.open(io.BytesIO(answer.content)) as image:
            assert image.getpixel((8, 8))[0] > 240


def test_drawings_that_run_scripts_are_not_taken(client: TestClient) -> None:
    assert put(client, "a.svg", NO_IMAGES["SVG"]).status_code == 422
    assert put(client, "a.html", NO_IMAGES["HTML"]).status_code == 422


def test_nothing_that_is_there_is_overwritten(client: TestClient, workspace: Path) -> None:
    before = (workspace / DATASET / "0.png").read_bytes()
    assert put(client, "0.png", png()).status_code == 422
    assert (workspace / DATASET / "0.png").read_bytes() == before


def archive(files: dict[str, bytes], **options) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", **options) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return sink.getvalue()


def test_an_archive_writes_nowhere_else(client: TestClient, workspace: Path) -> None:
    (workspace / DATASET / "out").symlink_to(workspace.parent, target_is_directory=True)
    bad = ["../up.png", "/abs.png", "C:/drive.png", "a/../../up2.png", "out/linked.png", ".h/a.png"]
    content = archive({"good/a.png": png(), **dict.fromkeys(bad, png())})
    answer = put(client, "set.zip", content)
    assert answer.status_code == 200
    assert answer.json()["files"] == [str(workspace / DATASET / "good/a.png")]
    assert len(answer.json()["problems"]) == len(bad)
    names = {path.name for path in workspace.parent.rglob("*")}
    assert not names & {"up.png", "abs.png", "drive.png", "up2.png", "linked.png", ".h"}
    assert not [name for name in names if name.endswith(".tmp")]


def test_an_archive_that_is_a_bomb_is_refused(client: TestClient, workspace: Path) -> None:
    content = archive({"a.txt": bytes(20_000_000)}, compression=zipfile.ZIP_DEFLATED)
    answer = put(client, "set.zip", content)
    assert answer.status_code == 422
    assert "bombs" in answer.json()["detail"]
    assert not (workspace / DATASET / "a.txt").exists()


@pytest.mark.parametrize(
    "name", [SCRIPT, "../up", "/abs", "a\0", "con", "", ".hidden", "-rf", "x" * 300]
)
def test_projects_have_plain_names(client: TestClient, workspace: Path, name: str) -> None:
    answer = client.post("/api/projects", json={"name": name})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/json"
    assert [path.name for path in workspace.iterdir()] == ["zorp"]


def test_names_are_sent_as_text(client: TestClient, workspace: Path) -> None:
    """Whatever a file system takes: a page gets it as JSON, which no browser shows as a page."""
    folder = workspace / "<img src=x onerror=alert(1)>" / "dataset"
    folder.mkdir(parents=True)
    (folder / "<b>.txt").write_text(SCRIPT)
    for path in ("/api/projects", "/api/folders", f"/api/folders?path={folder}"):
        answer = client.get(path)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "<" in str(answer.json())


SECRET_PROMPT, SECRET_KEY = "zzsecretprompt", "zzsecretkey"
NAMING = {
    "config_file": ("toml", 'config_file = "{outside}/secret.toml"\nnetwork_dim = 4\n'),
    "dataset_config": ("toml", 'dataset_config = "{outside}/secret.toml"\nnetwork_dim = 4\n'),
    "sample_prompts": (
        "toml",
        'network_dim = 4\nsample_every_n_epochs = 1\nsample_prompts = "{outside}/prompts.txt"\n',
    ),
    "link": ("toml", 'dataset_config = "{workspace}/link/secret.toml"\nnetwork_dim = 4\n'),
    "relative": ("toml", 'dataset_config = "../secret.toml"\nnetwork_dim = 4\n'),
    "script": (
        "sh",
        "F={outside}/secret.toml; python train_network.py --network_dim=4 --dataset_config=$F",
    ),
    "script's own file": (
        "sh",
        "accelerate launch train_network.py --network_dim=4 --config_file={outside}/secret.toml",
    ),
    "kohya_ss": (
        "json",
        """{{"LoRA_type": "Standard", "train_batch_size": 1, "network_dim": 4, "epoch": 2,
        "additional_parameters": "--dataset_config={outside}/secret.toml"}}""",
    ),
    "a folder of images": ("toml", 'network_dim = 4\ntrain_data_dir = "{outside}/pictures"\n'),
}


@pytest.mark.parametrize("way", ["path", "content", "plan", "job"])
@pytest.mark.parametrize("naming", NAMING)
def test_what_an_imported_file_names_outside_is_not_opened(
    client: TestClient, workspace: Path, monkeypatch: pytest.MonkeyPatch, naming: str, way: str
) -> None:
    outside = workspace.parent / "outside"
    (outside / "pictures" / f"10_{SECRET_KEY}").mkdir(parents=True)
    (outside / "pictures" / f"10_{SECRET_KEY}" / "a.png").write_bytes(png())
    for folder in (outside, workspace.parent):
        (folder / "secret.toml").write_text(f"{SECRET_KEY} = 1\n[[datasets]]\n{SECRET_KEY} = 2\n")
    (outside / "prompts.txt").write_text(SECRET_PROMPT)
    (workspace / "link").symlink_to(outside, target_is_directory=True)
    opened: list[str] = []

    def watched(method):
        def call(self: Path, *args, **options):
            opened.append(os.path.realpath(self))
            return method(self, *args, **options)

        return call

    for name in ("read_bytes", "read_text", "iterdir"):
        monkeypatch.setattr(Path, name, watched(getattr(Path, name)))
    ending, text = NAMING[naming]
    text = text.format(outside=outside, workspace=workspace)
    (workspace / f"run.{ending}").write_text(text)
    if way == "path":
        answer = client.post("/api/import-settings", json={"path": f"run.{ending}"})
    elif way == "content":
        body = {"name": f"run.{ending}", "content": base64.b64encode(text.encode()).decode()}
        answer = client.post("/api/import-settings", json=body)
    else:
        body = {"config": f"run.{ending}", "data": DATASET}
        answer = client.post(f"/api/{'plan' if way == 'plan' else 'jobs'}", json=body)
    assert answer.status_code == (422 if way == "job" else 200)
    # Images that are named beside it take the place of the file's own.
    replaced = naming == "a folder of images" and way in ("plan", "job")
    assert ("outside of the folders" in answer.text) != replaced
    assert SECRET_KEY not in answer.text
    assert SECRET_PROMPT not in answer.text
    inside = os.path.realpath(workspace)
    theirs = [path for path in opened if path.startswith(str(workspace.parent))]
    assert theirs or way == "content"
    assert all(path == inside or path.startswith(f"{inside}{os.sep}") for path in theirs)
    assert Ledger(workspace).jobs() == []


@pytest.mark.parametrize("name", ["../../run.sh", "/etc/run.sh", "C:\\run.sh", "run\0.sh", ""])
def test_a_dropped_file_is_not_looked_for(client: TestClient, name: str) -> None:
    text = b"accelerate launch train_network.py --network_module=networks.lora --network_dim=4"
    body = {"name": name, "content": base64.b64encode(text).decode()}
    answer = client.post("/api/import-settings", json=body)
    assert answer.json()["values"]["adapter.rank"] == 4


def test_only_loras_are_given_away(client: TestClient, workspace: Path) -> None:
    lora = workspace / "zorp" / "a.safetensors"
    lora.write_bytes(b"weights")
    given = client.get("/api/lora", params={"path": str(lora)})
    assert given.content == b"weights"
    assert given.headers["content-disposition"].startswith("attachment")
    assert given.headers["content-type"] == "application/octet-stream"
    secret = workspace.parent / "secret.safetensors"
    secret.write_bytes(b"secret")
    (workspace / "zorp" / "link.safetensors").symlink_to(secret)
    for path in ("../secret.safetensors", str(secret), "zorp/link.safetensors"):
        assert client.get("/api/lora", params={"path": path}).status_code == 403
    for path in ("zorp/dataset/0.png", "zorp", "none.safetensors"):
        assert client.get("/api/lora", params={"path": path}).status_code == 422
