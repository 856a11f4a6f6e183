"""A browser's way in: a form that takes a key, and a cookie that says for a while whose it was.

The cookie names the key, never holds it, so that it ends with the key. Nothing is kept of it here:
its signature is what makes it good.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import time
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from starlette.requests import ClientDisconnect, Request, cookie_parser
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope

from service import logs
from service.problems import Problem

MAX_FORM = 4096  # bytes
_STYLE = """
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: #f4f6f7;
  color: #12222b; font: 1rem/1.5 system-ui, sans-serif; }
main { width: min(24rem, 100vw - 3rem); }
h1 { margin: 0 0 .25rem; font-size: 1.25rem; color: #0b4f6c; }
label { display: block; margin-top: 1.25rem; font-weight: 600; }
input, button { box-sizing: border-box; width: 100%; margin-top: .5rem; padding: .6rem .75rem;
  border: 1px solid #5c7480; border-radius: 6px; font: inherit; }
button { margin-top: 1rem; border-color: #0b4f6c; background: #0b4f6c; color: #fff; }
[role=alert] { padding: .6rem .75rem; border-left: 4px solid #a3241b; background: #fdeeec; }
.hint { margin-top: 1.25rem; color: #40545e; font-size: .875rem; }
"""
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ECG-DiReNet: sign in</title>
<link rel="icon" href="data:,">
<style>{style}</style>
<main>
<h1>ECG-DiReNet</h1>
{said}
<form method="post" action="session">
<label for="key">Key</label>
<input id="key" name="key" type="password" required autofocus autocomplete="off" spellcheck="false">
<button>Sign in</button>
</form>
<p class="hint">Those who run this service give out keys. Research use only.</p>
</main>
</html>
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_PAGE_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; img-src data:; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    # with none at all, a browser says `Origin: null` of the form, and that may be any site's
    "Referrer-Policy": "same-origin",
}


class Sessions:
    """Cookies that are signed with `secret` and end after `lifetime_s`."""

    def __init__(self, secret: bytes, lifetime_s: float) -> None:
        self._secret, self._lifetime_s = secret, lifetime_s

    def key_id(self, scope: Scope, cookies: str) -> str | None:
        """Which key the request's session is of, if it is signed and still lasts."""
        key_id, _, rest = cookie_parser(cookies).get(_name(scope), "").partition(".")
        ends, _, mac = rest.partition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(key_id, ends).encode()):
            return None
        return key_id if time.time() < int(ends) else None

    def begin(self, scope: Scope, key_id: str) -> Response:
        """On to the page, with a new cookie."""
        ends = str(int(time.time() + self._lifetime_s))
        value = f"{key_id}.{ends}.{self._mac(key_id, ends)}"
        return _on(scope, value, int(self._lifetime_s))

    def end(self, scope: Scope) -> Response:
        return _on(scope, "", 0)

    def _mac(self, key_id: str, ends: str) -> str:
        signed = hmac.digest(self._secret, f"session.{key_id}.{ends}".encode(), "sha256")
        return base64.urlsafe_b64encode(signed).decode().rstrip("=")


def from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Whether something other than this service's own page may have made the browser ask."""
    if (site := headers.get("sec-fetch-site")) is not None:
        return site != "same-origin"
    # browsers leave it out where neither TLS nor loopback is used; Origin comes with every POST
    return urlsplit(headers.get("origin", "")).netloc != headers.get("host", "-")


def wants_page(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Whether a person is looking, at an address from which the form's finds its way."""
    shallow = scope["path"].count("/") == 1
    return shallow and scope["method"] == "GET" and "text/html" in headers.get("accept", "")


def sign_in_page(problem: Problem, request_id: str, said: str = "") -> Response:
    """The problem, as a form that helps. `said`: what was wrong with the key that came with it."""
    alert = f'<p role="alert">{html.escape(said[0].upper() + said[1:])}.</p>' if said else ""
    headers = {**problem.headers, **_PAGE_HEADERS, "X-Request-ID": request_id}
    return HTMLResponse(_PAGE.format(style=_STYLE, said=alert), problem.status, headers)


async def posted_key(scope: Scope, receive: Receive) -> str:
    """What the form holds, or nothing."""
    body = b""
    try:
        async for chunk in Request(scope, receive).stream():
            body += chunk
            if len(body) > MAX_FORM:
                return ""
        fields = parse_qs(body.decode("ascii"), max_num_fields=8)
    except (ClientDisconnect, ValueError):
        return ""
    return fields.get("key", [""])[0].strip()


def _name(scope: Scope) -> str:
    """Under TLS one that no other host and no page without TLS can set."""
    return "__Host-ecg-session" if scope.get("scheme") == "https" else "ecg-session"


def _on(scope: Scope, value: str, lifetime_s: int) -> Response:
    headers = {"Location": "./", "X-Request-ID": logs.new_request_id()}
    response = Response(status_code=303, headers=headers)
    secure = scope.get("scheme") == "https"
    response.set_cookie(
        _name(scope), value, max_age=lifetime_s, httponly=True, samesite="strict", secure=secure
    )
    return response
