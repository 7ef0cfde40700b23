"""`counterfoil login` and `logout`: a person's session with a service, for the commands that act for a person."""

from __future__ import annotations

import getpass
import os
import sys

from counterfoil.application.passwords import till_form
from counterfoil.cli import remote
from counterfoil.cli.remote import Refused, RemoteError, Session
from counterfoil.settings import load_settings


def login(*, organisation: int, credential: str, user_name: str = "", url: str = "") -> int:
    """Sign in as a person, and keep the session for the commands that act for that person.

    Asks for the user name if it is not given, then for the password of the credential and for your own. Without a
    terminal they are read from standard input, a line each in this order. Passwords are never arguments.

    Parameters
    ----------
    organisation
        The organisation's number.
    credential
        The login of a calling system of the organisation: the service knows the organisation by it.
    user_name
        Your user name.
    url
        Address of the service; without it, this machine and COUNTERFOIL_PORT.
    """
    settings = load_settings(os.environ)
    url = (url or f"http://127.0.0.1:{settings.port}").rstrip("/")
    user_name = user_name or _ask("User name: ")
    secret = till_form(_ask(f"Password of the credential {credential}: ", secret=True))
    password = _ask(f"Password of {user_name}: ", secret=True)
    body = {"orgId": organisation, "userName": user_name, "password": password}
    token = remote.send(url, "POST", "/counterfoil/v1/ui-token", body, {})["data"]["token"]
    session = Session(url, organisation, credential, user_name, secret, token)
    try:
        # The token call knows no credential: one read shows whether the two belong together.
        session.call("GET", "/api_gateway/v2/request-workflow/requests?limit=1")
    except Refused as refused:
        raise RemoteError(f"you can sign in, but not through the credential {credential}: {refused}") from None
    remote.save(settings.session_path, session)
    print(f"signed in at {url} as {user_name}: the session ends after 24 hours, or with `counterfoil logout`")  # noqa: T201 - the command's own output
    return 0


def logout() -> int:
    """Forget the session."""
    path = load_settings(os.environ).session_path
    path.unlink(missing_ok=True)
    print("signed out")  # noqa: T201 - the command's own output
    return 0


def _ask(prompt: str, *, secret: bool = False) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    return getpass.getpass(prompt) if secret else input(prompt).strip()
