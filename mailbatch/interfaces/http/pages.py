"""The few plain pages that the API itself has: the form at ``/login`` and the reference at ``/docs``."""

from __future__ import annotations

from html import escape
from http import HTTPStatus

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

router = APIRouter(include_in_schema=False)

_STYLE = """\
:root { color-scheme: light dark; --line: #8886; --quiet: light-dark(#57606a, #9aa4af);
  --wrong: light-dark(#b3261e, #ffb4ab); --soft: light-dark(#f3f5f7, #1d2227); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
main.narrow { max-width: 24rem; margin: 10vh auto; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; } h3 { font-size: 1rem; margin-bottom: .25rem; }
label { display: block; } input, button { font: inherit; padding: .4rem .7rem; }
input { width: 100%; box-sizing: border-box; margin-bottom: .75rem; }
table { border-collapse: collapse; width: 100%; } .wide { overflow-x: auto; }
th, td { text-align: start; vertical-align: top; padding: .25rem .75rem .25rem 0; }
th, td { border-bottom: 1px solid var(--line); }
code, pre { font: 13px/1.45 ui-monospace, monospace; }
pre { overflow-x: auto; background: var(--soft); padding: .75rem; }
details { margin: .5rem 0; } summary { cursor: pointer; }
.quiet { color: var(--quiet); } .wrong { color: var(--wrong); }
.verb { display: inline-block; min-width: 4.5rem; font-weight: 600; }
"""


@router.get("/plain.css")
def style() -> Response:
    """The style of these pages."""
    return Response(_STYLE, media_type="text/css", headers={"Cache-Control": "max-age=3600"})


def page(title: str, body: str, status: HTTPStatus = HTTPStatus.OK) -> HTMLResponse:
    """A page with ``body``, which is HTML; ``title`` is text."""
    return HTMLResponse(
        f"""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} – mailbatch</title>
<link rel="stylesheet" href="/plain.css">
{body}
</html>
""",
        status,
    )
