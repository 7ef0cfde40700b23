"""Reads the `hosts` of an organisation file: where payloads are executed, and for an external host how."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from typing import Final

from counterfoil.application.passwords import SECRET_BYTES_MAX
from counterfoil.application.yaml_fields import Fields
from counterfoil.domain.organisation_files import Password
from counterfoil.domain.organisations import Host
from counterfoil.domain.payloads import parse_hostname

_SUFFIX: Final = "*."
AUTHORIZATION: Final = ("authorization", "authorizationEnv", "authorizationFile", "authorizationPrompt")
EXTERNAL: Final = (
    "baseUrl", "plainHttp", "private", "linkLocal", "caBundle", "attemptSeconds", "overallSeconds",
    "absentAfterSeconds", "lookUp", "concurrency", *AUTHORIZATION,
)  # fmt: skip
HOST: Final = ("id", "url", "target", *EXTERNAL)
CA_CHARACTERS_MAX: Final = 100_000
_SECONDS = re.compile(r"[0-9]{1,7}(\.[0-9]{1,3})?", re.ASCII)
_BASE_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*", re.ASCII)


def read_hosts(top: Fields, passwords: dict[str, Password]) -> Iterator[tuple[str, Host]]:
    """The entries by place; where an own credential comes from is kept in `passwords`."""
    for fields in top.entries("hosts", HOST):
        url = fields.text("url", maximum=300)
        scheme, pattern, port = _address(fields, url) if url else ("", "", 0)
        target = fields.choice("target", ("ledger", "external")) or "ledger"
        host = Host(fields.text("id", maximum=100), scheme, pattern, port, target)
        if target == "external":
            yield fields.path, _external(fields, host, passwords)
            continue
        for name in EXTERNAL:
            if name in fields:
                fields.tell(name, "is for a host with target external: take it away, or change the target")
        yield fields.path, host


def _external(fields: Fields, host: Host, passwords: dict[str, Password]) -> Host:
    plain_http = fields.flag("plainHttp", default=False)
    base_url = _base_url(fields) if "baseUrl" in fields else None
    called = base_url or f"{host.scheme}://{host.pattern}"
    if called.startswith("http:") and not plain_http:
        name = "baseUrl" if base_url else "url"
        fields.tell(name, "is plain HTTP, where everybody on the way can read and change: use https or plainHttp: true")
    if "caBundle" in fields and called.startswith("http:"):
        fields.tell("caBundle", "is for https, and this host is called by plain HTTP")
    _credential(fields, passwords)
    attempt_seconds = _seconds(fields, "attemptSeconds", 20.0, 300.0)
    return Host(
        host.host_id, host.scheme, host.pattern, host.port, "external",
        base_url=base_url,
        plain_http=plain_http,
        private=fields.flag("private", default=False),
        link_local=fields.flag("linkLocal", default=False),
        ca_pem=_ca_bundle(fields),
        attempt_seconds=attempt_seconds,
        overall_seconds=_seconds(fields, "overallSeconds", 900.0, 604_800.0),
        absent_after_seconds=_seconds(fields, "absentAfterSeconds", 0.0, 604_800.0) or None,
        look_up=fields.flag("lookUp", default=True),
        concurrency=fields.number("concurrency", default=16, high=1000),
    )  # fmt: skip


def _address(fields: Fields, url: str) -> tuple[str, str, int]:
    """Scheme, name (or *.suffix) and port: what a payload's hostname is compared with."""
    scheme, separator, rest = url.lower().partition("://")
    is_suffix = rest.startswith(_SUFFIX)
    address = parse_hostname(f"{scheme}://{rest.removeprefix(_SUFFIX)}") if separator else None
    if address is None:
        fields.tell("url", "must be a scheme and host such as https://api.example.com or https://*.example.com:8443")
        return "", "", 0
    scheme, name, port = address
    if is_suffix and "." not in name:
        fields.tell("url", f"{_SUFFIX}{name} would stand for too many hosts: name one more part")
    return scheme, f"{_SUFFIX}{name}" if is_suffix else name, port


def _base_url(fields: Fields) -> str | None:
    """Where the calls really go: scheme, host, perhaps a port and the beginning of the path."""
    text = fields.text("baseUrl", maximum=300)
    scheme, separator, rest = text.partition("://")
    name, slash, path = rest.partition("/")
    address = parse_hostname(f"{scheme}://{name}") if separator else None
    path = f"{slash}{path}".rstrip("/")
    if address is None or not _BASE_PATH.fullmatch(path) or any(part in (".", "..") for part in path.split("/")):
        fields.tell("baseUrl", "must be a scheme, a host and perhaps a path such as https://api.example.com/intouch")
        return None
    scheme, name, port = address
    is_default = port == (443 if scheme == "https" else 80)
    return f"{scheme}://{name}{'' if is_default else f':{port}'}{path}"


def _ca_bundle(fields: Fields) -> str | None:
    """The PEM text, checked by reading it as a call will."""
    if "caBundle" not in fields:
        return None
    text = fields.secret("caBundle")
    try:
        ssl.create_default_context(cadata=text[:CA_CHARACTERS_MAX])
    except (ssl.SSLError, ValueError):
        fields.tell("caBundle", "must be the certificates to trust, as PEM text (-----BEGIN CERTIFICATE-----)")
        return None
    return text


def _credential(fields: Fields, passwords: dict[str, Password]) -> None:
    """Keep where the entry's own Authorization comes from; no message may ever repeat a value."""
    given = [name for name in AUTHORIZATION if name in fields]
    if len(given) > 1:
        fields.tell(given[1], f"the credential is also given as {given[0]}: keep one of them")
    for name in given[:1]:
        if name == "authorizationPrompt":
            if fields.flag(name, default=False):
                passwords[fields.path] = Password("prompt", "", word="authorization")
            continue
        value = fields.secret(name)
        if not value or len(value.encode("utf-8", "surrogatepass")) > SECRET_BYTES_MAX or not value.isprintable():
            fields.tell(name, f"must be one line of 1 to {SECRET_BYTES_MAX} bytes, such as Basic dGlsbDpzZWNyZXQ=")
        source = {"authorizationEnv": "env", "authorizationFile": "file"}.get(name, "value")
        passwords[fields.path] = Password(source, value, word="authorization")


def _seconds(fields: Fields, name: str, default: float, maximum: float) -> float:
    """Seconds above 0 with at most three decimals."""
    if name not in fields:
        return default
    text = fields.text(name)
    if not _SECONDS.fullmatch(text) or not 0 < float(text) <= maximum:
        fields.tell(name, f"must be seconds above 0 and at most {maximum:.0f}, such as 20 or 0.5")
        return default
    return float(text)
