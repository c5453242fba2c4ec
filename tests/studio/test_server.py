"""The server as it is started, behind a token: what it says, and whom it answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from lorasmith.studio import app, serve

pytestmark = pytest.mark.skipif(os.name == "nt", reason="is ended by a signal of POSIX")


@dataclass
class Server:
    """``said`` is all that it printed at its start; ``address`` is without the token."""

    process: subprocess.Popen[str]
    said: str
    address: str
    token: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    command = [sys.executable, "-u", "-m", "lorasmith", "studio", "--host", "127.0.0.1"]
    with subprocess.Popen(
        [*command, str(tmp_path_factory.mktemp("workspace"))],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        said = ""
        while "Ctrl-C" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        match = re.search(r"(http://127\.0\.0\.1:\d+)/\S*?token=([\w-]+)", said)
        assert match, said
        yield Server(process, said, match[1], match[2])
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert match[2] not in rest


def test_it_ends_in_the_midst_of_a_request_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "_SECONDS_TO_END", 0.1)
    bare = FastAPI()

    @bare.get("/long")
    async def long() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)

    @bare.get("/bug")
    def bug() -> None:
        raise KeyError("a bug is told")

    def ask() -> None:
        for path in ("bug", "long"):
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"http://127.0.0.1:{port}/{path}", timeout=60, trust_env=False)

    with contextlib.closing(serve._listen("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        asking = threading.Thread(target=ask)
        serve._run(bare, listener, asking.start, lambda: None)
    asking.join(60)
    said = capsys.readouterr().err
    assert "a bug is told" in said
    assert said.count("Traceback") == 1
    assert "task(s)" not in said


def test_pages_are_there_before_what_they_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answers = threading.Event(), []

    def create_app(*args: Any, **options: Any) -> FastAPI:
        assert asked.wait(20)
        return made(*args, **options)

    def browse(address: str) -> None:
        try:
            with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
                answers.append(client.get("/train"))
                answers.append(client.get("/train", headers={"host": "evil.example"}))
                threading.Timer(0.1, asked.set).start()
                answers.append(client.get("/api/session"))
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    made = app.create_app
    monkeypatch.setattr(app, "create_app", create_app)
    serve.serve(tmp_path, browse=browse)
    page, foreign, session = answers
    assert (page.status_code, foreign.status_code, session.status_code) == (200, 403, 200)
    assert "<title>lorasmith studio</title>" in page.text
    assert session.json()["workspace"] == str(tmp_path)


def test_it_ends_when_it_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **options: Any) -> FastAPI:
        raise KeyError("a bug is told")

    monkeypatch.setattr(app, "create_app", broken)
    with pytest.raises(KeyError, match="a bug is told"):
        serve.serve(tmp_path)


def test_small_answers_are_sent_at_once() -> None:
    """TCP may hold the second of two small packets back for 40 ms."""

    async def no_delay() -> int:
        answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted = writer.get_extra_info("socket")
            answered.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with contextlib.closing(serve._listen("127.0.0.1", 0)) as listener:
            async with await asyncio.start_server(answer, sock=listener):
                _, writer = await asyncio.open_connection(*listener.getsockname())
                writer.close()
                return await answered

    assert asyncio.run(no_delay())


@pytest.fixture
def stranger(server: Server) -> Iterator[httpx.Client]:
    """A browser that was never given the token."""
    with httpx.Client(base_url=server.address, timeout=60) as client:
        yield client


@pytest.fixture
def guest(server: Server) -> Iterator[httpx.Client]:
    """A browser that opened the address that was shown."""
    with httpx.Client(base_url=server.address, timeout=60) as client:
        assert client.get("/", params={"token": server.token}).status_code == 303
        yield client


def test_the_token_is_shown_once(server: Server) -> None:
    assert len(server.token) >= 32
    assert server.said.count(server.token) == 1


def test_the_address_gives_a_cookie_and_then_the_page(
    server: Server, stranger: httpx.Client
) -> None:
    answer = stranger.get("/train", params={"token": server.token})
    assert (answer.status_code, answer.headers["location"]) == (303, "/train")
    attributes = [part.strip() for part in answer.headers["set-cookie"].split(";")][1:]
    assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Strict"}
    assert stranger.get("/train").status_code == 200
    assert stranger.get("/api/session").status_code == 200


ANYTHING = ["/", "/api/session", "/api/jobs", "/api/events", "/openapi.json", "/?token=wrong"]


@pytest.mark.parametrize("path", ANYTHING)
def test_without_the_token_nobody_is_answered(
    stranger: httpx.Client, guest: httpx.Client, path: str
) -> None:
    (name,) = guest.cookies
    for headers in ({}, {"cookie": f"{name}=wrong"}):
        answer = stranger.get(path, headers=headers)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7421", "127.0.0.1.evil.example"])
@pytest.mark.parametrize("path", ["/", "/api/session", "/api/events"])
def test_a_name_that_leads_here_is_refused_token_or_not(
    server: Server, guest: httpx.Client, stranger: httpx.Client, host: str, path: str
) -> None:
    assert guest.get(path, headers={"host": host}).status_code == 403
    answer = stranger.get(path, params={"token": server.token}, headers={"host": host})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "headers", [{"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}], ids=str
)
def test_another_sites_page_gets_nothing_with_the_cookie(
    guest: httpx.Client, headers: dict[str, str]
) -> None:
    assert guest.get("/api/events", headers=headers).status_code == 403
    answer = guest.post("/api/projects", json={"name": "theirs"}, headers=headers)
    assert answer.status_code == 403
    assert guest.get("/api/projects").json() == []


def test_the_stream_of_changes_is_for_guests(guest: httpx.Client) -> None:
    with guest.stream("GET", "/api/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        told = (line for line in stream.iter_lines() if line.startswith("data:"))
        next(told)  # All of it, for who comes anew.
        assert guest.post("/api/projects", json={"name": "new"}).status_code == 200
        assert "projects" in next(told)
