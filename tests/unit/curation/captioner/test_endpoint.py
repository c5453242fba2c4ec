"""Captions through OpenAI's protocol, against a server of our own on this machine."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from tests.openai_stub import Reply, Server, says, serving

from lorasmith.core.errors import Problem, RunError, SettingsError, Stopped
from lorasmith.core.events import Controls
from lorasmith.curation.captioner import endpoint
from lorasmith.curation.captioner.answers import Answer
from lorasmith.curation.captioner.endpoint import TRIES, EndpointCaptioner, data_url, is_local


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as stub:
        yield stub


def image(colour: str = "red") -> Image.Image:
    return Image.new("RGB", (30, 20), colour)


def captioner(server: Server, **options: Any) -> EndpointCaptioner:
    options = {"sleep": lambda seconds: None, **options}
    return EndpointCaptioner(server.address, "cats", "describe", **options)


def test_what_is_sent(server: Server) -> None:
    model = captioner(server, max_tokens=77, key="secret")
    assert model.answers([image()], Controls()) == [Answer("a cat")]
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["headers"]["Authorization"] == "Bearer secret"
    body = request["body"]
    assert (body["model"], body["max_tokens"], body["stream"]) == ("cats", 77, False)
    text, picture = body["messages"][0]["content"]
    assert text == {"type": "text", "text": "describe"}
    kind, _, data = picture["image_url"]["url"].partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as sent:
        assert sent.size == (30, 20)
        assert sent.getpixel((5, 5))[0] > 240  # type: ignore[index]


def test_the_key_is_no_part_of_what_is_kept(server: Server) -> None:
    assert "secret" not in str(captioner(server, key="secret").identity)
    captioner(server).answers([image()], Controls())
    assert "Authorization" not in server.requests[0]["headers"]


def test_only_pixels_are_sent() -> None:
    picture = image()
    exif = picture.getexif()
    exif[0x010E] = "home"
    picture.info["exif"] = exif.tobytes()
    picture.info["comment"] = b"home"
    assert b"home" not in base64.b64decode(data_url(picture).partition(",")[2])


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://localhost:11434", "http://localhost:11434/v1"),
        ("http://localhost:11434/", "http://localhost:11434/v1"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1"),
        ("http://[::1]:1234/v1/chat/completions", "http://[::1]:1234/v1"),
        ("https://localhost/api/openai", "https://localhost/api/openai"),
    ],
)
def test_addresses_as_people_write_them(url: str, base: str) -> None:
    assert EndpointCaptioner(url, "m", "p").base == base


@pytest.mark.parametrize(
    "url",
    ["", "localhost:11434", "ftp://localhost", "http://", "http://localhost:99999", "http://["],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(SettingsError, match="not the address of a server"):
        EndpointCaptioner(url, "m", "p")


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        EndpointCaptioner("http://me:hunter2@localhost/v1", "m", "p")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "api.openai.com",
        "192.168.1.5",
        "10.0.0.1",
        "localhost.evil.com",
        "0.0.0.0",
        "127.0.0.1.nip.io",
    ],
)
def test_other_machines_need_leave(host: str) -> None:
    assert not is_local(host)
    with pytest.raises(SettingsError, match=r"another machine.*--allow-upload"):
        EndpointCaptioner(f"http://{host}/v1", "m", "p")
    assert not EndpointCaptioner(f"http://{host}/v1", "m", "p", allow_upload=True).local


def test_a_key_goes_to_other_machines_by_https_alone() -> None:
    with pytest.raises(SettingsError, match="for all to read"):
        EndpointCaptioner("http://192.168.1.5/v1", "m", "p", key="k", allow_upload=True)
    EndpointCaptioner("https://192.168.1.5/v1", "m", "p", key="k", allow_upload=True)
    EndpointCaptioner("http://localhost/v1", "m", "p", key="k")


def test_a_redirection_is_not_followed(server: Server) -> None:
    for status in (301, 302, 307, 308):
        server.replies = [(status, {}, {"Location": f"{server.address}/elsewhere"})]
        server.requests.clear()
        with pytest.raises(RunError, match="leads elsewhere"):
            captioner(server).answers([image()], Controls())
        assert len(server.requests) == 1


def test_no_proxy_sees_what_goes_to_this_machine(server: Server, monkeypatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert captioner(server).answers([image()], Controls()) == [Answer("a cat")]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_busy_server_is_asked_again(server: Server, status: int) -> None:
    pauses: list[float] = []
    server.replies = [(status, {}, {}), (status, {}, {"Retry-After": "7"}), says("a cat")]
    model = captioner(server, sleep=pauses.append)
    assert model.answers([image()], Controls()) == [Answer("a cat")]
    assert sum(pauses) == pytest.approx(1 + 7)
    assert len(server.requests) == 3


def test_a_server_that_stays_busy_is_given_up(server: Server) -> None:
    server.replies = [(503, {"error": {"message": "loading the model"}}, {})]
    with pytest.raises(RunError, match=r"503: loading the model, 5 times in a row.*goes on there"):
        captioner(server).answers([image()], Controls())
    assert len(server.requests) == TRIES


def test_a_slow_server_is_asked_again(server: Server) -> None:
    def slow_once(request: dict[str, Any]) -> Reply:
        if len(server.requests) == 1:
            time.sleep(0.5)
        return says("a cat")

    server.answer = slow_once
    assert captioner(server, timeout=0.1).answers([image()], Controls()) == [Answer("a cat")]
    assert len(server.requests) == 2


def test_a_server_that_is_not_there() -> None:
    model = EndpointCaptioner("http://127.0.0.1:9", "m", "p")
    with pytest.raises(RunError, match=r"cannot be reached: Connection refused.*start the server"):
        model.answers([image()], Controls())


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "--key-env"), (403, "--key-env"), (404, "model's name")]
)
def test_what_no_second_try_mends_is_told_at_once(server: Server, status: int, hint: str) -> None:
    server.replies = [(status, {"error": {"message": "no"}}, {})]
    with pytest.raises(RunError, match=hint):
        captioner(server, key="secret").answers([image()], Controls())
    assert len(server.requests) == 1


def test_an_image_that_is_refused_does_not_stop_the_others(server: Server) -> None:
    def pick(request: dict[str, Any]) -> Reply:
        url = request["body"]["messages"][0]["content"][1]["image_url"]["url"]
        return (
            (400, {"error": "too large"}, {}) if url == data_url(image("blue")) else says("a cat")
        )

    server.answer = pick
    answers = captioner(server).answers([image(), image("blue"), image()], Controls())
    assert answers[0] == answers[2] == Answer("a cat")
    assert isinstance(answers[1], Problem)
    assert answers[1].what == "answers 400: too large"


def test_many_at_once_stay_in_order(server: Server) -> None:
    colours = ("red", "blue", "green", "white", "black")
    names = {data_url(image(colour)): colour for colour in colours}

    def late(request: dict[str, Any]) -> Reply:
        name = names[request["body"]["messages"][0]["content"][1]["image_url"]["url"]]
        time.sleep(0.02 * (5 - colours.index(name)))
        return says(name)

    server.answer = late
    answers = captioner(server, batch=5).answers([image(colour) for colour in colours], Controls())
    assert answers == [Answer(colour) for colour in colours]


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (says("a ca", "length"), Answer("a ca", finished=False)),
        (says([{"type": "text", "text": "a "}, {"type": "text", "text": "cat"}]), Answer("a cat")),
        (says(None), Answer("")),
    ],
)
def test_forms_of_answers(server: Server, reply: Reply, answer: Answer) -> None:
    server.replies = [reply]
    assert captioner(server).answers([image()], Controls()) == [answer]


@pytest.mark.parametrize(
    "value",
    [{}, [], {"choices": []}, {"choices": [None]}, {"choices": [{"message": "x"}]}, {"error": "e"}],
)
def test_answers_that_are_none(server: Server, value: Any) -> None:
    server.replies = [(200, value, {})]
    (answer,) = captioner(server).answers([image()], Controls())
    assert isinstance(answer, Problem)
    assert "holds no text" in answer.what


def test_a_refusal_is_told(server: Server) -> None:
    message = {"content": None, "refusal": "I would rather not"}
    server.replies = [(200, {"choices": [{"message": message}]}, {})]
    (answer,) = captioner(server).answers([image()], Controls())
    assert isinstance(answer, Problem)
    assert "I would rather not" in answer.what


def test_a_web_page_is_no_answer(server: Server) -> None:
    server.replies = [(200, b"<html>welcome</html>", {})]
    with pytest.raises(RunError, match="does not answer in JSON"):
        captioner(server).answers([image()], Controls())


def test_the_only_model_need_not_be_named(server: Server) -> None:
    server.replies = [(200, {"data": [{"id": "llava"}]}, {})]
    model = EndpointCaptioner(server.address, "", "describe")
    model.connect(Controls())
    assert model.model == "llava"
    server.replies = [(200, {"data": [{"id": "llava"}, {"id": "qwen"}]}, {})]
    with pytest.raises(SettingsError, match="name one: llava, qwen"):
        EndpointCaptioner(server.address, "", "describe").connect(Controls())
    server.replies = [(200, {"data": []}, {})]
    with pytest.raises(SettingsError, match="names no model"):
        EndpointCaptioner(server.address, "", "describe").connect(Controls())


def test_a_stop_waits_for_no_answer(server: Server) -> None:
    controls = Controls()

    def stop(request: dict[str, Any]) -> Reply:
        controls.stop()
        time.sleep(3)
        return says("late")

    server.answer = stop
    begun = time.monotonic()
    with pytest.raises(Stopped, match="goes on there"):
        captioner(server).answers([image()], controls)
    assert time.monotonic() - begun < 2


def test_a_stop_ends_a_pause(server: Server) -> None:
    controls = Controls()
    server.replies = [(503, {}, {"Retry-After": "100"})]
    with pytest.raises(Stopped):
        captioner(server, sleep=lambda seconds: controls.stop()).answers([image()], controls)


def test_no_pause_is_endless(server: Server, monkeypatch) -> None:
    monkeypatch.setattr(endpoint, "LONGEST_WAIT", 3.0)
    pauses: list[float] = []
    server.replies = [(429, {}, {"Retry-After": "1e9"}), says("a cat")]
    captioner(server, sleep=pauses.append).answers([image()], Controls())
    assert sum(pauses) == pytest.approx(3)
