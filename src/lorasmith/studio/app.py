"""The studio's web app: the API's routers, the pages, and how mistakes are answered.

The process that serves it never imports torch: what needs it is done by children.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Sequence
from pathlib import Path

from fastapi import FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.requests import Request

from lorasmith import __version__
from lorasmith.core.errors import Problem, UserError
from lorasmith.jobs.curating.changes import ConflictError
from lorasmith.jobs.runs.logs import plain_text
from lorasmith.jobs.runs.records import problem_records
from lorasmith.studio.api import (
    bootstraps,
    bug_report,
    changes,
    dataset,
    dataset_pictures,
    draw,
    files,
    grids,
    jobs,
    lora_files,
    projects,
    prompts,
    runs,
    session,
    train,
)
from lorasmith.studio.context import Problems, Studio
from lorasmith.studio.paths import OutsideError, Roots
from lorasmith.studio.security import Guard

STATIC = Path(__file__).parent / "static"
PAGES = (
    *("/", "/dataset", "/sort", "/train", "/bootstrap", "/run", "/draw", "/prompts", "/compare"),
    "/files",
)
"""Addresses that the bundle itself makes pages of."""
ROUTERS = tuple(
    each.router
    for each in (
        session,
        runs,
        train,
        bootstraps,
        files,
        projects,
        prompts,
        dataset,
        dataset_pictures,
        draw,
        lora_files,
        grids,
        jobs,
        bug_report,
        changes,
    )
)

NO_BUNDLE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>lorasmith studio</title>
<h1>The studio's pages are missing</h1>
<p>This installation is without them: install lorasmith again, or run <code>make web</code> in its
sources. For programs, <a href="/openapi.json">/openapi.json</a> describes what the server
answers.</p>
</html>
"""


def create_app(
    workspace: Path,
    allowed: Sequence[Path] = (),
    *,
    hosts: Iterable[str] = (),
    token: str = "",
    static: Path = STATIC,
) -> FastAPI:
    """
    Args:
        workspace: an existing folder; what it holds may be read and changed.
        allowed: more folders of which that is so.
        hosts: names that browsers on other computers know this one by.
        token: the secret that each request must carry; "" for none.
        static: where the pages' bundle lies.
    """
    # Its own pages of documentation load scripts from elsewhere.
    app = FastAPI(
        title="lorasmith studio",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        responses={422: {"model": Problems, "description": "what is wrong, by the library"}},
    )
    app.state.studio = Studio(Roots(workspace, allowed))
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(UserError, _answer_user_error)
    app.add_exception_handler(RequestValidationError, _answer_wrong_request)
    _add_pages(app, static)
    app.add_middleware(Guard, hosts=list(hosts), token=token)
    return app


_STATUS: dict[type[UserError], int] = {OutsideError: 403, ConflictError: 409}


async def _answer_user_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, UserError)
    status = next((number for kind, number in _STATUS.items() if isinstance(error, kind)), 422)
    return _refusal(status, error.problems)


async def _answer_wrong_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [
        Problem(".".join(str(part) for part in detail["loc"][1:]), str(detail["msg"]))
        for detail in error.errors()
    ]
    return _refusal(422, problems)


def _refusal(status: int, problems: Sequence[Problem]) -> JSONResponse:
    body = Problems(
        detail=plain_text("\n".join(map(str, problems))), problems=problem_records(problems)
    )
    return JSONResponse(body.model_dump(), status)


def _add_pages(app: FastAPI, static: Path) -> None:
    def page() -> Response:
        index = static / "index.html"
        if not index.is_file():
            return HTMLResponse(NO_BUNDLE)
        return FileResponse(index, headers={"cache-control": "no-cache"})

    for path in PAGES:
        app.get(path, include_in_schema=False)(page)

    @app.get("/{name:path}", include_in_schema=False)
    def asset(name: str) -> Response:
        """A file of the bundle: one of those that are there, so that no name leads out."""
        files = {
            path.relative_to(static).as_posix(): path
            for path in static.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
        if name not in files:
            raise HTTPException(404, "there is nothing at this address")
        kind = _KINDS.get(files[name].suffix) or mimetypes.guess_type(name)[0]
        return FileResponse(files[name], media_type=kind, headers={"cache-control": "no-cache"})


# Windows takes them from its registry, where programs write what they like.
_KINDS = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".woff2": "font/woff2",
}
