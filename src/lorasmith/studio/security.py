"""What stands before every request: who may ask, from which page, and how much they may send.

A server on loopback is open to every page that the user's browser shows. So: the ``Host`` must be
one of this computer's names (a page of ``evil.example`` that lets its own name point to 127.0.0.1,
DNS rebinding, sends its own); ``Origin`` and ``Sec-Fetch-Site``, where a browser sends them, must
be of this server; bodies must be JSON, which no foreign form can send, and have a size.
With a token (``--host``), each request must carry it as a cookie.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
from collections.abc import Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES = 4_000_000
"""The most that a request may carry, but for an upload."""
UPLOAD_BYTES = 8_000_000_000
"""The most that one uploaded file may have."""
UPLOAD_PATH = "/api/files"
"""Where uploads go, as they come (PUT); what is there counts and limits them itself."""

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Of every response that does not say otherwise."""

_SAFE_METHODS = frozenset({"GET", "HEAD"})
_METHODS = _SAFE_METHODS | {"POST", "PUT", "DELETE"}


class Refusal(Exception):
    """Why a request is not answered."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class Guard:
    """ASGI middleware around the whole app.

    Args:
        hosts: names of this computer besides those of loopback; any address of numbers is let
            through with a token, as rebinding takes a name.
        token: the secret of whoever may come; "" lets everyone on this computer in.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = (), token: str = "") -> None:
        self._app = app
        self._hosts = LOOPBACK_NAMES | {host.lower() for host in hosts}
        self._token = token
        # Cookies know no ports: two studios on one computer must not overwrite each other's.
        self._cookie = f"lorasmith_{hashlib.sha256(token.encode()).hexdigest()[:12]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        send = _with_headers(send)
        try:
            headers = _headers(scope)
            self._check_source(scope, headers)
            if location := self._token_given(scope):
                await _respond(send, 303, "", {"location": location, "set-cookie": self._set()})
                return
            self._check_token(scope, headers)
            if not (scope["method"] == "PUT" and scope["path"] == UPLOAD_PATH):
                receive = await _read_body(headers, receive)
        except Refusal as refusal:
            await _refuse(scope, send, refusal)
            return
        await self._app(scope, receive, send)

    def _check_source(self, scope: Scope, headers: MutableMapping[str, str]) -> None:
        method, path = scope["method"], scope["path"]
        if method not in _METHODS:
            raise Refusal(405, f"{method} is not answered here")
        host = headers.get("host", "")
        if not self._is_own(_host_name(host)):
            raise Refusal(403, "this address is not one of this studio's")
        origin = headers.get("origin")
        if origin is not None and (
            urlsplit(origin).netloc.lower() != host.lower()
            or urlsplit(origin).scheme not in ("http", "https")
        ):
            raise Refusal(403, "a page of another site asked for this")
        site = headers.get("sec-fetch-site", "none")
        # A link on another page may open one of ours, which itself does nothing.
        is_page = method in _SAFE_METHODS and not path.startswith("/api/")
        is_opened = is_page and headers.get("sec-fetch-mode") == "navigate"
        if site not in ("same-origin", "none") and not is_opened:
            raise Refusal(403, "a page of another site asked for this")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        if method == "POST" and (has_body or kind) and kind != "application/json":
            raise Refusal(415, "send JSON, as application/json")

    def _is_own(self, name: str) -> bool:
        if name in self._hosts:
            return True
        return bool(self._token) and _is_address(name)

    def _token_given(self, scope: Scope) -> str:
        """Where to go on without the token that is in the address; "" if none, or no good one."""
        if not self._token or scope["method"] != "GET" or scope["path"].startswith("/api/"):
            return ""
        query = parse_qs(scope["query_string"].decode("latin-1"))
        token = query.get("token", [""])[0]
        # To a path of ours, never "//elsewhere".
        return "/" + scope["path"].lstrip("/\\") if self._is_token(token) else ""

    def _check_token(self, scope: Scope, headers: MutableMapping[str, str]) -> None:
        if not self._token:
            return
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            cookie = None
        if cookie is None or not self._is_token(cookie.value):
            raise Refusal(
                401, "open the address that the studio showed at its start, with its token"
            )

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self._token.encode())

    def _set(self) -> str:
        return f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"


def _headers(scope: Scope) -> dict[str, str]:
    """By their names in small letters.

    Raises:
        Refusal: one that decides is there twice; programs differ in which of them counts.
    """
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1").lower()
        if name in headers and name != "cookie":
            if name in ("host", "origin", "content-length", "content-type", "transfer-encoding"):
                raise Refusal(400, f"there are several headers {name}")
            continue
        value = raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}; {value}" if name in headers else value
    return headers


def _host_name(host: str) -> str:
    """Of ``name:port``, in small letters; "" of what is no such text."""
    try:
        parts = urlsplit(f"//{host}")
        valid = parts.port is None or parts.port > 0
    except ValueError:
        return ""
    return (parts.hostname or "") if valid and parts.netloc == host and "@" not in host else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _read_body(headers: MutableMapping[str, str], receive: Receive) -> Receive:
    """The whole body, so that what is behind never waits for, or holds, more than it may.

    Raises:
        Refusal: it is longer than it may be; an endless one is not read on.
    """
    length = headers.get("content-length", "0")
    too_long = Refusal(413, f"a request may have {BODY_BYTES // 1_000_000} MB at most")
    if not length.isdecimal() or len(length) > 18 or int(length) > BODY_BYTES:
        raise too_long
    if int(length) == 0 and "transfer-encoding" not in headers:
        return receive
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refusal(400, "the request ended before its body")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > BODY_BYTES:
            raise too_long
    waiting: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _with_headers(send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", []))
            there = {name.lower() for name, _ in headers}
            headers += [
                (name.encode(), value.encode())
                for name, value in HEADERS.items()
                if name.encode() not in there
            ]
            message = {**message, "headers": headers}
        await send(message)

    return sender


async def _refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    if scope["path"].startswith("/api/"):
        text, kind = json.dumps({"detail": refusal.detail}), "application/json"
    else:
        text, kind = f"lorasmith studio: {refusal.detail}\n", "text/plain; charset=utf-8"
    await _respond(send, refusal.status, text, {"content-type": kind})


async def _respond(send: Send, status: int, text: str, headers: dict[str, Any]) -> None:
    body = text.encode()
    headers = {**headers, "content-length": str(len(body))}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
