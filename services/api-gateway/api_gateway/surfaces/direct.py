"""The short way to the operations that every run needs, past what the framework does for any request besides.

Routes, document and other methods stay the framework's. A request whose method and path say at once what it wants meets
the same guards, the same operation and the same errors here; whatever is unusual about it goes the long way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from litestar import Litestar, Request, Response
from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from api_gateway.surfaces.access import AnyRequest

OPERATIONS = (
    ("POST", "/api/v2/workflow-runs"),
    ("GET", "/api/v2/workflow-runs/{workflow_run_id}/events"),
    ("POST", "/api/v2/jobs/{job_id}/run"),
    ("POST", "/api/v2/job-runs"),
    ("GET", "/api/v2/job-runs/{job_run_id}/events"),
)
"""Method and path of each, as the document has them."""
_USUAL_HOST = re.compile(rb"[0-9A-Za-z.:\[\]-]+")
"""The framework judges others."""
_PARAMETER = re.compile(r"\\{(\w+)\\}")

AnswerError = Callable[[AnyRequest, Exception], Response[bytes]]


@dataclass(frozen=True, slots=True)
class _Operation:
    template: str
    path: re.Pattern[str]
    """Has a group for each parameter."""
    handler: HTTPRouteHandler


class Direct:
    """An ASGI application before the one of the framework."""

    def __init__(self, app: Litestar, answer_error: AnswerError) -> None:
        """Before that of `app` as it is now; `answer_error` is how `app` answers errors, too."""
        self._framework: ASGIApp = app.asgi_handler
        self._answer_error = answer_error
        self._operations: dict[str, list[_Operation]] = {}
        for method, operation in _operations(app):
            self._operations.setdefault(method, []).append(operation)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and _is_usual(scope):
            for operation in self._operations.get(scope["method"], ()):
                if found := operation.path.fullmatch(scope["path"]):
                    scope["path_template"], scope["path_params"] = operation.template, found.groupdict()
                    await self._answer(operation.handler, scope, receive, send)
                    return
        await self._framework(scope, receive, send)

    async def _answer(self, handler: HTTPRouteHandler, scope: HTTPScope, receive: Receive, send: Send) -> None:
        scope["route_handler"] = handler
        request: AnyRequest = Request(scope, receive, send)
        has_begun = False

        async def send_on(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            for guard in handler.resolve_guards():
                await guard(request, handler)  # type: ignore[misc]  # all of ours are to be awaited
            answer = await handler.fn(request, **scope["path_params"])
            await answer.to_asgi_response(app=None, request=request)(scope, receive, send_on)
        except Exception as error:  # the edge of the request, as the framework has it
            if has_begun:
                raise
            answer = self._answer_error(request, error)
            await answer.to_asgi_response(app=None, request=request)(scope, receive, send)


def _is_usual(scope: HTTPScope) -> bool:
    """Whether the framework would find nothing to say about it either."""
    hosts = (value for name, value in scope["headers"] if name == b"host")
    return not scope.get("root_path") and all(map(_USUAL_HOST.fullmatch, hosts))


def _operations(app: Litestar) -> Iterator[tuple[str, _Operation]]:
    routes = {route.path_format: route for route in app.routes if isinstance(route, HTTPRoute)}
    for method, template in OPERATIONS:
        handler = next(one for one in routes[template].route_handlers if method in one.http_methods)
        path = re.compile(_PARAMETER.sub(r"(?P<\1>[^/]+)", re.escape(template)))
        yield method, _Operation(template, path, handler)
