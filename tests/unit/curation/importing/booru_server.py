"""A small site on this machine, with Danbooru's and Moebooru's API, for gallery-dl."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

import numpy as np
from PIL import Image

PAGE = b"""<ul id="tag-sidebar">
<li class="tag-type-artist"><a href="/post?tags=some_one">some one</a></li>
<li class="tag-type-general"><a href="/post?tags=1girl">1girl</a></li>
<li class="tag-type-general"><a href="/post?tags=long_hair">long hair</a></li></ul>"""


def drawn(number: int, side: int = 48) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


class Booru(ThreadingHTTPServer):
    """Posts 1 to ``count``, the newest first; some of them have trouble.

    Args:
        forbidden: posts whose file answers 403.
        halved: posts whose file ends in the middle, by how often it does.
        busy: posts whose file answers 429, by how often it does.
        films: posts that are no images.
    """

    daemon_threads = True

    def __init__(self, count: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.count = count
        self.forbidden: set[int] = set()
        self.halved: dict[int, int] = {}
        self.busy: dict[int, int] = {}
        self.films: set[int] = set()
        self.asked: list[str] = []
        self.ranges: list[str] = []
        self.pause = threading.Event()
        self.pause.set()

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def search(self, tags: str) -> str:
        """The address of a search, as gallery-dl is told that this is a Danbooru."""
        return f"Danbooru:{self.root}/posts?tags={tags}"

    def moebooru_search(self, tags: str) -> str:
        return f"moebooru:{self.root}/post?tags={tags}"

    def files(self) -> list[str]:
        """The paths of files that were asked for."""
        return [path for path in self.asked if path.startswith("/data/")]

    def post(self, number: int) -> dict[str, Any]:
        data = drawn(number)
        md5 = hashlib.md5(data).hexdigest()
        ending = "mp4" if number in self.films else "png"
        kinds = {
            "general": f"1girl long_hair number_{number}", "artist": "some_one",
            "character": "zorp_(world)", "copyright": "world", "meta": "highres",
        }  # fmt: skip
        return {
            "id": number, "created_at": "2024-01-01T00:00:00.000-05:00", "md5": md5,
            "file_ext": ending, "file_url": f"{self.root}/data/{number}.{ending}", "rating": "s",
            "large_file_url": f"{self.root}/sample/{number}.png", "source": "https://elsewhere.test",
            "tag_string": " ".join(kinds.values()), "file_size": len(data), "image_width": 48,
            "image_height": 48, **{f"tag_string_{kind}": tags for kind, tags in kinds.items()},
        }  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    server: Booru
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        address = urlparse(self.path)
        self.server.asked.append(address.path)
        if address.path == "/posts.json":
            self._posts(parse_qs(address.query))
        elif address.path == "/post.json":
            posts = [
                {"id": number, "created_at": 1700000000, "tags": "1girl long_hair some_one",
                 "rating": "s", "file_url": f"{self.server.root}/data/{number}.png"}
                for number in range(1, self.server.count + 1)
            ]  # fmt: skip
            self._answer(200, json.dumps(posts).encode(), {"Content-Type": "application/json"})
        elif address.path.startswith("/post/show/"):
            self._answer(200, PAGE, {"Content-Type": "text/html"})
        elif address.path.startswith("/data/"):
            self.server.pause.wait(20)
            self._file(int(address.path.removeprefix("/data/").partition(".")[0]))
        else:
            self._answer(404, b"")

    def _posts(self, query: dict[str, list[str]]) -> None:
        tags = query.get("tags", [""])[0]
        if tags == "forbidden":
            self._answer(403, b'{"success": false, "message": "Access denied"}')
        elif tags == "busy":
            self._answer(429, b"", {"Retry-After": "1"})
        else:
            first = int(query.get("page", ["1"])[0]) == 1
            numbers = range(self.server.count, 0, -1) if first and tags != "none" else ()
            posts = [self.server.post(number) for number in numbers]
            self._answer(200, json.dumps(posts).encode(), {"Content-Type": "application/json"})

    def _file(self, number: int) -> None:
        data = drawn(number)
        if number in self.server.forbidden:
            self._answer(403, b"no")
        elif self.server.busy.get(number, 0):
            self.server.busy[number] -= 1
            self._answer(429, b"", {"Retry-After": "1"})
        elif self.server.halved.get(number, 0):
            self.server.halved[number] -= 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        else:
            self._with_range(data)

    def _with_range(self, data: bytes) -> None:
        wanted = self.headers.get("Range", "")
        self.server.ranges.append(wanted)
        if not wanted.startswith("bytes="):
            self._answer(200, data, {"Content-Type": "image/png"})
            return
        start = int(wanted.removeprefix("bytes=").partition("-")[0])
        content_range = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._answer(206, data[start:], {"Content-Range": content_range})

    def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def booru(count: int = 4) -> Iterator[Booru]:
    server = Booru(count)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.pause.set()
        server.shutdown()
        server.server_close()
