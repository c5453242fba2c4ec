"""A captioning model behind an address that the user names, which speaks OpenAI's protocol: Ollama,
vLLM, LM Studio, llama.cpp, or a service elsewhere.

Images leave this machine only where that was allowed. No proxy is used on the way to this machine
itself, and no redirection is followed.
"""

from __future__ import annotations

import base64
import io
import ipaddress
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.parse import SplitResult, urlsplit

from PIL import Image

from lorasmith.core.errors import Problem, RunError, SettingsError
from lorasmith.core.events import Controls
from lorasmith.core.files import parse_json
from lorasmith.core.text import shortlist
from lorasmith.curation.captioner.answers import STOPPED, Answer

TRIES = 5
WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds before the second try and so on, unless the server says how long."""
LONGEST_WAIT = 120.0
QUALITY = 92  # of the JPEGs that are sent
_MOST_BYTES = 4_000_000  # of a server's answer
_LOOK = 0.1  # seconds between two looks at the controls


class _TryAgain(Exception):
    """The server is busy or out of order for now.

    Args:
        wait: seconds that it asks for, if it does.
    """

    def __init__(self, what: str, wait: float | None = None) -> None:
        super().__init__(what)
        self.wait = wait


class Refused(Exception):
    """The server does not caption this one image."""


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """Where it leads nobody has allowed."""


class EndpointCaptioner:
    """
    Args:
        url: of the server: ``http://localhost:11434``, ``…/v1`` or ``…/v1/chat/completions``.
        model: as the server calls it; "" takes the only one that it has.
        prompt: what is asked of each image.
        key: sent as the bearer; "" for none. It is shown nowhere.
        allow_upload: images may go to another machine.
        batch: requests at a time.
        timeout: seconds to wait for an answer.
        sleep: for tests.

    Raises:
        UserError: with everything that is wrong; nothing has been sent.
    """

    def __init__(
        self,
        url: str,
        model: str,
        prompt: str,
        *,
        max_tokens: int = 256,
        key: str = "",
        allow_upload: bool = False,
        batch: int = 1,
        timeout: float = 300.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        place = _parsed(url)
        self.local = is_local(place.hostname or "")
        if not self.local and not allow_upload:
            what = f"{place.hostname} is another machine: your pictures would be sent to it"
            hint = "say --allow-upload if they may, or use a server on this machine"
            raise SettingsError.of("endpoint", what, hint)
        if key and not self.local and place.scheme == "http":
            what = "the key would go through the network for all to read"
            raise SettingsError.of("endpoint", what, "give an address with https")
        path = place.path.rstrip("/").removesuffix("/chat/completions")
        self.base = place._replace(path=path or "/v1").geturl()
        self.model, self.prompt, self.max_tokens = model, prompt, max_tokens
        self.batch, self.timeout = batch, timeout
        self._key, self._sleep = key, sleep
        handlers: list[urllib.request.BaseHandler] = [_NoRedirection()]
        if self.local:
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    @property
    def identity(self) -> Mapping[str, Any]:
        return {
            "endpoint": self.base,
            "model": self.model,
            "prompt": self.prompt,
            "max_tokens": self.max_tokens,
        }

    def connect(self, controls: Controls) -> None:
        """Learn which model there is, where none was named.

        Raises:
            UserError: the server is not there, or has none or several.
        """
        if self.model:
            return
        value = self._ask("/models", None, controls)
        rows = value.get("data") if isinstance(value, dict) else None
        names = [str(row["id"]) for row in rows or [] if isinstance(row, dict) and row.get("id")]
        if len(names) != 1:
            what = f"{self.base} has several models" if names else f"{self.base} names no model"
            hint = f"name one: {shortlist(names, 6)}" if names else "load one there, or name it"
            raise SettingsError.of("model", what, hint)
        self.model = names[0]

    def answers(self, images: Sequence[Image.Image], controls: Controls) -> list[Answer | Problem]:
        """
        Args:
            images: RGB.

        Raises:
            RunError: the server is not there, refuses the key or does not have the model.
            Stopped: by ``controls``.
        """
        futures = [_in_thread(partial(self._answer, image, controls)) for image in images]
        while not all(future.done() for future in futures):
            controls.check(STOPPED)
            time.sleep(_LOOK / 10)
        return [future.result() for future in futures]

    def _answer(self, image: Image.Image, controls: Controls) -> Answer | Problem:
        request = {
            "model": self.model,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": self.prompt},
                        {"type": "image_url", "image_url": {"url": data_url(image)}},
                    ],
                }
            ],
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "stream": False,
        }
        try:
            return read_answer(self._ask("/chat/completions", request, controls))
        except Refused as error:
            return Problem("", str(error), "look at the server's log, or caption it by hand")

    def _ask(self, path: str, body: Any, controls: Controls) -> Any:
        """The server's answer, after some tries."""
        for number in range(TRIES):
            controls.check(STOPPED)
            try:
                return self._ask_once(path, body)
            except _TryAgain as error:
                if number == TRIES - 1:
                    what = f"{error}, {TRIES} times in a row"
                    hint = "run the same command later: it goes on there"
                    raise RunError.of(self.base, what, hint) from error
                wait = WAITS[number] if error.wait is None else error.wait
            left = min(wait, LONGEST_WAIT)
            while left > 0:
                controls.check(STOPPED)
                self._sleep(min(left, _LOOK))
                left -= _LOOK
        raise AssertionError

    def _ask_once(self, path: str, body: Any) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, headers)
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                text = response.read(_MOST_BYTES)
        except urllib.error.HTTPError as error:
            with error:
                raise self._of_status(error) from error
        except TimeoutError as error:
            raise _TryAgain(f"gave no answer within {self.timeout:g} s") from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise _TryAgain(f"gave no answer within {self.timeout:g} s") from error
            if isinstance(error.reason, ConnectionResetError):
                raise _TryAgain("broke the connection off") from error
            what = f"cannot be reached: {getattr(error.reason, 'strerror', '') or error.reason}"
            raise RunError.of(
                self.base, what, "start the server, or correct the address"
            ) from error
        except (HTTPException, ConnectionError) as error:
            raise _TryAgain("broke the connection off") from error
        try:
            return parse_json(text)
        except ValueError as error:
            hint = "give the address of a server that speaks OpenAI's protocol, such as …/v1"
            raise RunError.of(self.base, "does not answer in JSON", hint) from error

    def _of_status(self, error: urllib.error.HTTPError) -> Exception:
        """What to make of an answer that is none."""
        said = _message(error.read(_MOST_BYTES))
        text = f"answers {error.code}" + (f": {said}" if said else "")
        match error.code:
            case 401 | 403:
                hint = "name the variable that holds your key with --key-env"
                return RunError.of(self.base, text, hint)
            case 404:
                hint = "see that the address and the model's name are right"
                return RunError.of(self.base, text, hint)
            case code if 300 <= code < 400:
                hint = "give the address that it leads to, if you trust it"
                return RunError.of(self.base, f"{text}, and leads elsewhere", hint)
            case code if code in (408, 409, 425, 429) or code >= 500:
                return _TryAgain(text, _seconds(error.headers.get("Retry-After")))
            case _:
                return Refused(text)


def _in_thread(work: Callable[[], Answer | Problem]) -> Future[Answer | Problem]:
    """Work in a thread that the program's end does not wait for: a model may take minutes for an
    answer that nobody wants any more."""
    future: Future[Answer | Problem] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
            if not isinstance(error, Exception):
                raise

    threading.Thread(target=run, daemon=True).start()
    return future


def _parsed(url: str) -> SplitResult:
    try:
        place = urlsplit(url.strip())
        fits = place.scheme in ("http", "https") and bool(place.hostname) and place.port != 0
    except ValueError:
        fits = False
    if not fits or place.query or place.fragment:
        what = f"{url!r} is not the address of a server"
        raise SettingsError.of("endpoint", what, "write it as http://localhost:11434/v1")
    if place.username or place.password:
        what = "there is a password in the address"
        raise SettingsError.of("endpoint", what, "put it into a variable; see --key-env")
    return place


def is_local(host: str) -> bool:
    """Whether a name or number means this machine itself, whatever network there is."""
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def data_url(image: Image.Image) -> str:
    """The pixels alone, as JPEG: nothing of what else the file holds, such as a place."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", image.size, image.convert("RGB").tobytes()).save(
        buffer, "JPEG", quality=QUALITY
    )
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def read_answer(value: Any) -> Answer:
    """The text in a server's answer.

    Raises:
        Refused: there is none; says what there is.
    """
    choices = value.get("choices") if isinstance(value, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise Refused(f"the server's answer holds no text ({_message_of(value) or 'no choices'})")
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    if message.get("refusal"):
        raise Refused(f"the model refuses: {_short(message['refusal'])}")
    return Answer(
        content if isinstance(content, str) else "", choice.get("finish_reason") != "length"
    )


def _message(data: bytes) -> str:
    try:
        value = parse_json(data)
    except ValueError:
        return _short(data.decode("utf-8", "replace")) if data.lstrip()[:1] != b"<" else ""
    return _message_of(value)


def _message_of(value: Any) -> str:
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, dict):
        error = error.get("message")
    return _short(error) if isinstance(error, str) else ""


def _short(text: Any) -> str:
    return " ".join(str(text).split())[:200]


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:  # A date: rare, and the usual wait will do.
        return None
