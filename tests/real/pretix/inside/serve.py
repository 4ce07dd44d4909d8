"""pretix as a WSGI application that serves its own pictures and scripts, too. Runs in pretix's environment.

It notes every code of an authenticator app that a browser sends, so that a test can prove that none is sent twice.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from django.conf import settings
from pretix.wsgi import application as pretix
from whitenoise import WhiteNoise

Answer = Iterable[bytes]
CODES = os.environ["PRETIX_CODES_FILE"]


def noting(environ: dict[str, Any], start_response: Callable[..., Any]) -> Answer:
    """pretix; a code that is sent is written down before pretix sees it."""
    if environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"] == "/control/login/2fa":
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        with open(CODES, "a") as codes:  # noqa: PTH123 (one line, appended at once)
            codes.write(parse_qs(body.decode()).get("token", [""])[0] + "\n")
    answer: Answer = pretix(environ, start_response)
    return answer


# Without it every page answers 200 and stands there without styles and scripts.
application = WhiteNoise(noting, root=settings.STATIC_ROOT, prefix=settings.STATIC_URL)
