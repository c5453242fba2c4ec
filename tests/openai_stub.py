"""A server on this machine that speaks as much of OpenAI's protocol as captions need."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any, dict[str, str]]


def says(text: Any, reason: str = "stop") -> Reply:
    return 200, {"choices": [{"message": {"content": text}, "finish_reason": reason}]}, {}


@dataclass
class Server:
    """What was asked, and what is answered: the next of ``replies``, the last again and again."""

    address: str = ""
    replies: list[Reply] = field(default_factory=lambda: [says("a cat")])
    requests: list[dict[str, Any]] = field(default_factory=list)
    answer: Callable[[dict[str, Any]], Reply] | None = None


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    stub, lock = Server(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            request = {"path": self.path, "headers": dict(self.headers), "body": body}
            with lock:
                stub.requests.append(request)
                if stub.answer is not None:
                    reply = None
                else:
                    reply = stub.replies.pop(0) if len(stub.replies) > 1 else stub.replies[0]
            status, value, headers = reply or stub.answer(request)  # type: ignore[misc]
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _respond  # noqa: N815

        def log_message(self, *arguments: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    stub.address = f"http://127.0.0.1:{http.server_port}"
    try:
        yield stub
    finally:
        http.shutdown()
        http.server_close()
