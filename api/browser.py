"""What a browser fetches: the documentation at /docs, without a network, and /snippet.js."""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from api.keys import SCOPE, ScopedRoute
from api.scopes import PUBLIC

router = APIRouter(route_class=ScopedRoute)

SNIPPET = (Path(__file__).parent / "snippet" / "recsys.js").read_bytes()
SNIPPET_HEADERS = {
    "ETag": f'"{sha256(SNIPPET).hexdigest()[:20]}"',
    "Cache-Control": "public, max-age=3600",  # a shop's pages have a new version within the hour
    "Access-Control-Allow-Origin": "*",  # lets a page check it with an integrity attribute
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}


def install(app: FastAPI) -> None:
    """The documentation of this application; its addresses hold behind a prefix too."""
    assets = Path(fastapi_offline.__file__).parent / "static"
    app.mount("/docs/assets", StaticFiles(directory=assets))
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        swagger_js_url="docs/assets/swagger-ui-bundle.js",
        swagger_css_url="docs/assets/swagger-ui.css",
        swagger_favicon_url="docs/assets/favicon.png",
    )
    html = bytes(page.body).decode()
    headers = {"Content-Security-Policy": _policy(html), "X-Content-Type-Options": "nosniff"}

    @app.get("/docs", include_in_schema=False)  # without a key, as every address below it
    async def docs() -> Response:
        return HTMLResponse(html, headers=headers)


def _policy(html: str) -> str:
    """Nothing from elsewhere, and of the page's own scripts exactly those it has now."""
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    hashes = [f"'sha256-{b64encode(sha256(s.encode()).digest()).decode()}'" for s in scripts]
    return "; ".join(
        [
            "default-src 'none'",
            " ".join(["script-src 'self'", *hashes]),
            "style-src 'self' 'unsafe-inline'",  # Swagger UI sets styles from its script
            "img-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


@router.get("/snippet.js", include_in_schema=False, openapi_extra={SCOPE: PUBLIC})
async def snippet(request: Request) -> Response:
    if request.headers.get("if-none-match") == SNIPPET_HEADERS["ETag"]:
        return Response(status_code=304, headers=SNIPPET_HEADERS)
    return Response(SNIPPET, headers=SNIPPET_HEADERS, media_type="text/javascript")
