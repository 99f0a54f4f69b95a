"""The token that every request but the bare health check carries."""

import base64
import hmac

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send


class TokenRequired:
    """Lets requests with the token pass.

    Without it, a GET of any /health learns that the process is up, everything else is refused
    before its body is read or its path looked at.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_authorised(Headers(scope=scope), self._token):
            await self._app(scope, receive, send)
        else:
            await _refusal(scope)(scope, receive, send)


def is_authorised(headers: Headers, token: str) -> bool:
    """Whether a request carries the token: as the password of HTTP Basic, or `Token <token>`."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    given = _password(value) if scheme.lower() == "basic" else value.strip().encode()
    known = scheme.lower() in ("basic", "token")
    # Compared in constant time, also when the scheme is wrong.
    return hmac.compare_digest(given, token.encode()) and known


def _password(value: str) -> bytes:
    try:
        return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
    except ValueError:
        return b""


def _refusal(scope: Scope) -> Response:
    if scope["method"] == "GET" and scope["path"].endswith("/health"):
        return JSONResponse({"status": "UP"})
    challenge = {"WWW-Authenticate": 'Basic realm="labloop", charset="UTF-8"'}
    return JSONResponse({"error": "a token is required"}, status_code=401, headers=challenge)
