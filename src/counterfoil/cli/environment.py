"""Who calls, where the environment names the service and the person instead of a session that is kept."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from counterfoil.cli.remote import RemoteError, Session

URL: Final = "COUNTERFOIL_URL"
TOKEN: Final = "COUNTERFOIL_TOKEN"  # noqa: S105 - the name of a variable
CREDENTIALS: Final = "COUNTERFOIL_CREDENTIALS"
VARIABLES: Final = (URL, TOKEN, CREDENTIALS)


def session(environment: Mapping[str, str]) -> Session:
    """The service and the caller that the environment names; raises RemoteError."""
    missing = [name for name in VARIABLES if not environment.get(name)]
    if missing:
        raise RemoteError(f"set {', '.join(missing)}: see docs/cli.md")
    url, token = environment[URL].rstrip("/"), environment[TOKEN]
    if urlsplit(url).scheme not in ("http", "https"):
        raise RemoteError(f"{URL} must be the address of the service, such as http://127.0.0.1:8640")
    login, _, password = environment[CREDENTIALS].partition(":")
    return Session(url, _organisation_of(token), login, "", password, token)


def _organisation_of(token: str) -> int:
    """The number that the token was made for; whether the token is good is the service's to say."""
    try:
        claims = token.split(".")[1]
        return int(json.loads(urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["orgID"])
    except (IndexError, KeyError, TypeError, ValueError):
        raise RemoteError(f"{TOKEN} is no token: get one from POST /counterfoil/v1/ui-token") from None
