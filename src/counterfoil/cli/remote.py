"""A person's session with a service, and the one client of the commands that act for a person.

They go through the API with that person's token, so that the command line can do nothing that the API refuses.
"""

from __future__ import annotations

import json
import os
import tempfile
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from counterfoil.settings import load_settings

SECONDS_MAX: Final = 60
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class RemoteError(Exception):
    """The command cannot reach the service as this person; the message says what to do."""


class Refused(RemoteError):
    """The service refused; `errors` are its own, each with code, message and path."""

    def __init__(self, status: int, errors: list[dict[str, Any]]) -> None:
        super().__init__("; ".join(f"{each.get('code')}: {each.get('message')}" for each in errors) or f"HTTP {status}")
        self.status = status
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Session:
    """Where the person is signed in, through which calling system, and as whom."""

    url: str
    org_id: int
    credential: str
    user_name: str
    credential_md5: str = field(repr=False)
    token: str = field(repr=False)

    def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The answer to one call as this person; raises RemoteError."""
        basic = b64encode(f"{self.credential}:{self.credential_md5}".encode()).decode()
        own = {
            "Authorization": f"Basic {basic}",
            "X-CAP-API-AUTH-ORG-ID": str(self.org_id),
            "X-CAP-UI-AUTH-TOKEN": self.token,
        }
        return send(self.url, method, path, body, {**own, **(headers or {})})


def send(url: str, method: str, path: str, body: object, headers: Mapping[str, str]) -> dict[str, Any]:
    """One call; no proxy and no redirect is ever followed, for both would be shown the password."""
    connection = _connection(url)
    content = None if body is None else json.dumps(body, ensure_ascii=False).encode()
    sent = {**headers, **({} if content is None else {"Content-Type": "application/json"})}
    try:
        connection.request(method, urlsplit(url).path.rstrip("/") + path, content, sent)
        answer = connection.getresponse()
        status, text = answer.status, answer.read()
    except (HTTPException, OSError) as error:
        raise RemoteError(f"{url} does not answer ({type(error).__name__}): check that it is served") from None
    finally:
        connection.close()
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RemoteError(
            f"{url} answered HTTP {status} with something else than Counterfoil's JSON: check the address"
        )
    if status != 200:
        raise Refused(status, [each for each in found.get("errors") or [] if isinstance(each, dict)])
    return found


def _connection(url: str) -> HTTPConnection:
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https"):
        raise RemoteError(f"{url} is no address of a service: use one such as https://counterfoil.example.com")
    if parts.scheme == "https":
        return HTTPSConnection(host, port, timeout=SECONDS_MAX)
    if host not in LOOPBACK:
        raise RemoteError(f"{url} would show the password to the network: use https")
    return HTTPConnection(host, port, timeout=SECONDS_MAX)


def save(path: Path, session: Session) -> None:
    """Keep the session in a file that only its owner can read; it replaces the one before."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=".session-")  # made with mode 0600
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(session))
    Path(unfinished).replace(path)


def find(path: Path) -> Session | None:
    """The session that is kept there, None without one; raises RemoteError when it cannot be trusted."""
    try:
        if path.stat().st_mode & 0o077:
            raise RemoteError(f"{path} can be read by others: remove it with `counterfoil logout` and sign in again")
        return msgspec.json.decode(path.read_bytes(), type=Session)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RemoteError(f"{path} cannot be read: {error.strerror}") from None
    except msgspec.MsgspecError:
        raise RemoteError(f"{path} is not a session: sign in again with `counterfoil login`") from None


def signed_in() -> Session:
    """The session of whoever runs the command; raises RemoteError without one."""
    session = find(load_settings(os.environ).session_path)
    if session is None:
        raise RemoteError("you are not signed in: run `counterfoil login` first")
    return session
