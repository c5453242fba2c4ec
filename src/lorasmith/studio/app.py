"""The studio's web app: the API's routers, the pages, and how mistakes are answered.

The process that serves it never imports torch: what needs it is done by children.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from lorasmith import __version__
from lorasmith.core.errors import Problem, UserError
from lorasmith.jobs.curating.changes import ConflictError
from lorasmith.jobs.runs.logs import plain_text
from lorasmith.jobs.runs.records import problem_records
from lorasmith.studio.api import changes, files, jobs, projects, runs, session, train
from lorasmith.studio.context import Problems, Studio
from lorasmith.studio.pages import STATIC, page_routes
from lorasmith.studio.paths import OutsideError, Roots
from lorasmith.studio.security import Guard

FIRST = (session, runs, train, files, projects, jobs, changes)
"""What Home asks, and all other pages."""
LATER = {
    "/api/bootstraps": ("bootstraps",),
    "/api/bug-report": ("bug_report",),
    "/api/dataset": ("dataset", "dataset_pictures"),
    "/api/draw": ("draw",),
    "/api/grids": ("grids",),
    "/api/lora-files": ("lora_files",),
    "/api/prompts": ("prompts",),
}
"""Modules of the API by where their addresses begin. They are imported at the first request that
goes there: all of them would take a fifth of the start, and memory."""


class StudioApp(FastAPI):
    """
    Args:
        static: where the pages' bundle lies.
        options: of :class:`fastapi.FastAPI`.
    """

    def __init__(self, static: Path, **options: Any) -> None:
        super().__init__(**options)
        self._later = dict(LATER)
        self._pages = page_routes(static)
        self._include(FIRST)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._import([start for start in self._later if scope["path"].startswith(start)])
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        self._import(list(self._later))
        return super().openapi()

    def _import(self, starts: Iterable[str]) -> None:
        names = [name for start in starts for name in self._later.pop(start)]
        if names:
            self._include([import_module(f"lorasmith.studio.api.{name}") for name in names])

    def _include(self, modules: Iterable[ModuleType]) -> None:
        routes = self.router.routes
        # Those of the pages are the last: they answer at every address.
        routes[:] = [route for route in routes if route not in self._pages]
        for module in modules:
            self.include_router(module.router)
        routes.extend(self._pages)


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
    app = StudioApp(
        static,
        title="lorasmith studio",
        version=__version__,
        # Its own pages of documentation load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        responses={422: {"model": Problems, "description": "what is wrong, by the library"}},
    )
    app.state.studio = Studio(Roots(workspace, allowed))
    app.add_exception_handler(UserError, _answer_user_error)
    app.add_exception_handler(RequestValidationError, _answer_wrong_request)
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
