"""The pages: one file at the addresses of all of them, and what it loads.

Made of Starlette alone, so that they are there before the API, whose requests take a second to
import.
"""

from __future__ import annotations

import mimetypes
import re
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).parent / "static"
PAGES = (
    *("/", "/dataset", "/sort", "/train", "/bootstrap", "/run", "/draw", "/prompts", "/compare"),
    "/files",
)
"""Addresses that the bundle itself makes pages of."""

NO_BUNDLE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>lorasmith studio</title>
<h1>The studio's pages are missing</h1>
<p>This installation is without them: install lorasmith again, or run <code>make web</code> in its
sources. For programs, <a href="/openapi.json">/openapi.json</a> describes what the server
answers.</p>
</html>
"""
_HASHED = re.compile(r"-[0-9A-Z]{8}\.js$")
# Windows takes them from its registry, where programs write what they like.
for _suffix, _kind in {
    ".js": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".woff2": "font/woff2",
}.items():
    mimetypes.add_type(_kind, _suffix)


def page_routes(static: Path = STATIC) -> list[BaseRoute]:
    """The last of an app's routes: they answer at every address.

    Args:
        static: where the bundle lies.
    """

    async def page(request: Request) -> Response:
        index = static / "index.html"
        if not index.is_file():
            return HTMLResponse(NO_BUNDLE)
        return FileResponse(index, headers={"cache-control": "no-cache"})

    bundle = _Bundle(directory=static, check_dir=False)
    return [*(Route(path, page) for path in PAGES), Mount("/", bundle)]


class _Bundle(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            response = await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code != 404:
                raise
            raise HTTPException(404, "there is nothing at this address") from None
        # A file whose name tells its content is asked for once.
        kept = "max-age=31536000, immutable" if _HASHED.search(path) else "no-cache"
        response.headers["cache-control"] = kept
        return response
