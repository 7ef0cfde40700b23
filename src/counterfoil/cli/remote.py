"""Commands that act for a person go over HTTP with that person's token: the command line is no back door."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

URL: Final = "COUNTERFOIL_URL"
TOKEN: Final = "COUNTERFOIL_TOKEN"  # noqa: S105 - the name of a variable
CREDENTIALS: Final = "COUNTERFOIL_CREDENTIALS"
VARIABLES: Final = (URL, TOKEN, CREDENTIALS)
TIMEOUT_SECONDS: Final = 30


class CannotCall(Exception):
    """The call could not be made or was refused; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A running service, and who calls it."""

    url: str
    headers: Mapping[str, str]

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The answer's body; raises CannotCall with the service's own words."""
        data = None if body is None else json.dumps(body).encode()
        headers = {**self.headers, "Content-Type": "application/json"}
        # The address is the operator's own, and was checked to be http or https.
        request = Request(f"{self.url}{path}", data, headers, method=method)  # noqa: S310
        try:
            with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
                return json.load(answer)
        except HTTPError as error:
            try:
                [told] = json.load(error)["errors"]
                message = f"{told['message']} ({told['code']})"
            except (ValueError, KeyError, TypeError):
                message = f"{self.url} answered HTTP {error.code}"
            raise CannotCall(message) from None
        except (URLError, TimeoutError, ValueError) as error:
            raise CannotCall(f"{self.url} does not answer: {getattr(error, 'reason', error)}") from None


def from_environment(environment: Mapping[str, str]) -> Remote:
    """The service and the caller that the environment names; raises CannotCall."""
    missing = [name for name in VARIABLES if not environment.get(name)]
    if missing:
        raise CannotCall(f"set {', '.join(missing)}: see docs/cli.md")
    url, token = environment[URL].rstrip("/"), environment[TOKEN]
    if urlsplit(url).scheme not in ("http", "https"):
        raise CannotCall(f"{URL} must be the address of the service, such as http://127.0.0.1:8640")
    return Remote(
        url,
        {
            "Authorization": f"Basic {b64encode(environment[CREDENTIALS].encode()).decode()}",
            "X-CAP-API-AUTH-ORG-ID": str(_organisation_of(token)),
            "X-CAP-UI-AUTH-TOKEN": token,
        },
    )


def _organisation_of(token: str) -> int:
    """The number that the token was made for; whether the token is good is the service's to say."""
    try:
        claims = token.split(".")[1]
        return int(json.loads(urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["orgID"])
    except (IndexError, KeyError, TypeError, ValueError):
        raise CannotCall(f"{TOKEN} is no token: get one from POST /counterfoil/v1/ui-token") from None
