"""`/api/v2/docs`: the OpenAPI document as a page that people read and try, from our own files alone.

Swagger UI is kept in `swagger_ui/` as its makers publish it, compressed. The page asks nobody else for anything; its
Content-Security-Policy forbids it, too.
"""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files

from litestar import Response, get
from litestar.params import FromPath

from api_gateway.surfaces.access import PUBLIC, AnyRequest, by_address
from kernel.errors import Rejected

_PAGE = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Towpath API v2</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="stylesheet" href="docs/page.css">
</head>
<body>
<main id="page"></main>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/page.js"></script>
</body>
</html>
"""
_SCRIPT = b"""const dark = window.matchMedia("(prefers-color-scheme: dark)");
const dress = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", dress);
dress();
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  filter: true,
  persistAuthorization: false,
  validatorUrl: null,
});
"""
_STYLE = b"""body { margin: 0; }
html.dark-mode body { background: #1c2022; }
"""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "public, max-age=3600",
    "Vary": "Accept-Encoding",
}
_BUNDLED = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_OWN = {"page.js": ("text/javascript", _SCRIPT), "page.css": ("text/css", _STYLE)}


@get("/docs", guards=[by_address], opt=PUBLIC)
async def get_docs() -> Response[bytes]:
    return Response(_PAGE, media_type="text/html", headers=_HEADERS)


@get("/docs/{name:str}", guards=[by_address], opt=PUBLIC)
async def get_docs_file(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
    if name in _OWN:
        media_type, content = _OWN[name]
        return Response(content, media_type=media_type, headers=_HEADERS)
    if name not in _BUNDLED:
        raise Rejected("not_found", "no such file")
    packed = _packed(name)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers = {**_HEADERS, "Content-Encoding": "gzip"}
        return Response(packed, media_type=_BUNDLED[name], headers=headers)
    return Response(gzip.decompress(packed), media_type=_BUNDLED[name], headers=_HEADERS)


@cache
def _packed(name: str) -> bytes:
    return (files("api_gateway.surfaces.api_v2") / "swagger_ui" / f"{name}.gz").read_bytes()


HANDLERS = (get_docs, get_docs_file)
