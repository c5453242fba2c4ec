"""The server itself: an address on this computer, until Ctrl-C or the system ends it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import importlib.util
import ipaddress
import logging
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from lorasmith.core.errors import Problem, UserError
from lorasmith.core.installation import extra_line

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

    from lorasmith.studio.context import Studio

FIRST_PORT = 7421
_PORTS_TRIED = 20
_SECONDS_TO_END = 2
_LOOKS = 3.0
"""Seconds between two looks for a runner of the queue."""
_LARGE_BLOCK = 65_536
"""Bytes from which on memory is mapped, and given back, by itself."""


def serve(
    workspace: Path,
    *,
    host: str = "",
    port: int = 0,
    allowed: Sequence[Path] = (),
    say: Callable[[str], None] = lambda text: None,
    browse: Callable[[str], object] | None = None,
) -> None:
    """Serve until a signal ends it; jobs go on.

    Args:
        workspace: an existing folder.
        host: an address or a name of this computer, by which others may come with the token that
            is said; "" for this computer alone.
        port: 0 for the first free one from 7421 on.
        allowed: more folders that may be opened.
        say: told where the pages are, once they are there.
        browse: told their address then, to open a browser.

    Raises:
        UserError: the extra ``studio`` is not installed, a folder is not there, or nothing can
            listen at that address.
    """
    require_studio()
    _require_folders(workspace, allowed)
    _keep_little_memory()
    from starlette.applications import Starlette

    from lorasmith.studio.pages import page_routes
    from lorasmith.studio.security import Guard

    token = secrets.token_urlsafe(32) if host else ""
    hosts = _names(host)
    pages = Guard(Starlette(routes=page_routes()), hosts, token)

    def make() -> FastAPI:
        from lorasmith.studio.app import create_app

        return create_app(workspace, allowed, hosts=hosts, token=token)

    site = _Site(pages, make)
    with contextlib.closing(_listen(host or "127.0.0.1", port)) as listener:
        address = _address(host, listener.getsockname()[1])
        opened = f"{address}?token={token}" if token else address

        def started() -> None:
            say(f"The studio is at {opened}")
            if token:
                say("Whoever has this address can do what you can; it is shown only now.")
            say("Ctrl-C ends it; jobs that run go on.")
            site.load()
            if browse is not None:
                threading.Thread(target=browse, args=(opened,), daemon=True).start()

        _run(site, listener, started, site.close)
        if site.app.done():
            site.app.result()


class _Site:
    """ASGI: the pages at once, all else when it is loaded. That takes a second, and a browser about
    as long for the pages' own code.

    Args:
        pages: answers for the pages alone, until then.
        make: makes what answers for all.
    """

    def __init__(self, pages: ASGIApp, make: Callable[[], FastAPI]) -> None:
        self._pages, self._make = pages, make
        self.app: Future[FastAPI] = Future()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_page = not scope["path"].startswith(("/api/", "/openapi.json"))
        if is_page and not self.app.done():
            await self._pages(scope, receive, send)
        else:
            app = await asyncio.wrap_future(self.app)
            await app(scope, receive, send)

    def load(self) -> None:
        """Begin to load it; what cannot be loaded ends the server, and is raised there."""
        self.app = ThreadPoolExecutor(1).submit(self._load)
        self.app.add_done_callback(_loaded)

    def _load(self) -> FastAPI:
        # All that is made now stays. To look through it for what is gone takes a twentieth of the
        # start, and of all that is made later.
        gc.disable()
        try:
            return self._make()
        finally:
            gc.freeze()
            gc.enable()

    def close(self) -> None:
        """Have those who wait for an answer, or for what changes next, wait no more."""
        if not self.app.done() or self.app.exception() is not None:
            return
        state = self.app.result().state
        state.studio.closing.set()
        engine = getattr(state, "engine", None)
        if engine is not None:
            threading.Thread(target=engine.release, daemon=True).start()


def _loaded(app: Future[FastAPI]) -> None:
    if app.exception() is not None:
        signal.raise_signal(signal.SIGINT)
    else:
        minding = (app.result().state.studio,)
        threading.Thread(target=_mind_queue, args=minding, daemon=True).start()


def _keep_little_memory() -> None:
    """Have the C library give freed memory back. Call it before there are threads.

    By itself glibc gives each thread an arena of its own, and stops mapping large blocks by
    themselves once some were freed: what was needed for one moment, of many, stays for ever. Other
    systems have other allocators, and nothing is done there.
    """
    if sys.platform != "linux":
        return
    arena_max, mmap_threshold, trim_threshold = -8, -3, -1  # malloc.h
    with contextlib.suppress(OSError, AttributeError):  # musl has no such call
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(arena_max, 2)
        mallopt(mmap_threshold, _LARGE_BLOCK)
        mallopt(trim_threshold, _LARGE_BLOCK)


def require_studio() -> None:
    """
    Raises:
        UserError: what the server is made of is not installed.
    """
    missing = [name for name in ("fastapi", "uvicorn") if not importlib.util.find_spec(name)]
    if missing:
        what = f"the studio takes {' and '.join(missing)}, which {_is(missing)} not installed"
        raise UserError.of("", what, f"install it: {extra_line('studio')}")


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _require_folders(workspace: Path, allowed: Sequence[Path]) -> None:
    problems = [
        Problem(str(path), "is not a folder" if path.exists() else "does not exist", "correct it")
        for path in (workspace, *allowed)
        if not path.is_dir()
    ]
    if problems:
        raise UserError(problems)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens; at the first free port where none is asked for.

    Raises:
        UserError: the port is taken, or the host is no address of this computer.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        what = f"is no address of this computer: {error.strerror}"
        raise UserError.of(f"--host {host}", what, "leave it out, or see `ip address`") from error
    family, place = found[0][0], found[0][4]
    ports = [port] if port else range(FIRST_PORT, FIRST_PORT + _PORTS_TRIED)
    for each in ports:
        # Only where the protocol is named does asyncio send small packets at once; else the second
        # part of an answer waits until the first is acknowledged, for 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        # On Windows it would let two programs share a port.
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((place[0], each, *place[2:]))
            listener.listen(128)
        except OSError as error:
            listener.close()
            reason = error.strerror or str(error)
        else:
            return listener
    if port:
        raise UserError.of(
            f"--port {port}", f"cannot listen there: {reason}", "choose another, or leave it out"
        )
    last = FIRST_PORT + _PORTS_TRIED - 1
    what = f"cannot listen at {host}, at any port from {FIRST_PORT} to {last}: {reason}"
    raise UserError.of("", what, "name a --port, or another --host")


def _names(host: str) -> list[str]:
    """By which browsers elsewhere may know this computer."""
    return [host, socket.gethostname(), socket.getfqdn()] if host else []


def _address(host: str, port: int) -> str:
    host = host or "127.0.0.1"
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:  # All of its addresses; a browser takes none for it.
            host = socket.gethostname()
        elif address.version == 6:
            host = f"[{host}]"
    return f"http://{host}:{port}/"


def _mind_queue(studio: Studio) -> None:
    """While the studio is there, what waits in the queue has a runner, also when one was killed."""
    from lorasmith.jobs.queue.ledger import Ledger
    from lorasmith.jobs.queue.runner import ensure_runners

    while True:
        # A folder that cannot be written to, or a full disk: said where something is queued.
        with contextlib.suppress(UserError, OSError):
            ensure_runners(Ledger(studio.workspace))
        if studio.closing.wait(_LOOKS):
            return


def _run(
    app: ASGIApp, listener: socket.socket, started: Callable[[], None], ending: Callable[[], None]
) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        """One that ends without an error when it is asked to, by whatever signal."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                started()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            names = ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP")
            numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
            # Under nohup a terminal may go away, and nothing ends.
            numbers = [n for n in numbers if signal.getsignal(n) != signal.SIG_IGN or n == 2]
            before = {number: signal.signal(number, self.handle_exit) for number in numbers}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            ending()
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        # Whoever asks is told by the socket, never by a header that anybody may send.
        proxy_headers=False,
        timeout_graceful_shutdown=_SECONDS_TO_END,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_worth_saying)
    Server(config).run(sockets=[listener])


def _is_worth_saying(record: logging.LogRecord) -> bool:
    """Not that requests were given up at the end, as was asked."""
    error = record.exc_info[1] if record.exc_info else None
    is_cancelled = isinstance(error, asyncio.CancelledError)
    return not is_cancelled and "timeout graceful shutdown exceeded" not in str(record.msg)
