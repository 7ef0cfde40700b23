"""What a stored call asks for: the payload of a request, read and judged without trust.

Shapes from the contract page "Points redemption request" (request body parameters) and dossier §2.1-2.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

from msgspec import Struct

from counterfoil.domain.organisations import Host
from counterfoil.domain.refusals import BadHeaders, BadUri, InvalidPayload, Refusal

TASK: Final = "payload.IntouchAPITask-Payload"
POINTS_MAX: Final = 999_999_999_999_999  # thousandths: twelve digits before the point
_POINTS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,3})?", re.ASCII)
_UNIT_ID = re.compile(r"[0-9]{1,19}", re.ASCII)
_PLACEHOLDER = re.compile(r"\{([A-Za-z0-9_-]{1,100})\}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(\.{_OCTET}){{3}}", re.ASCII)
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
ID_MAX: Final = 2**63 - 1
TEXT_MAX: Final = 1000

# Header values that stay readable; every other one is taken out and kept encrypted (design.md §5).
PLAIN_HEADERS: Final = frozenset({"content-type", "accept", "x-cap-client-signature", "x-cap-api-auth-org-id"})
WITHHELD: Final = "<withheld>"

IDENTIFIER_FIELDS: Final = ("mobile", "external_id", "email", "card_number")


class Redemption(Struct, frozen=True):
    """What the body of /v1.1/points/redeem asks for. Points in thousandths, above 0."""

    points: int
    identifier_kind: str
    identifier_value: str
    external_reference: str | None
    transaction_number: str
    notes: str


def object_at(value: object, path: str) -> Mapping[str, Any]:
    """A JSON object; raises InvalidPayload."""
    if isinstance(value, Mapping):
        return value
    raise InvalidPayload(f"{path} must be a JSON object", path)


def text_at(value: object, path: str, *, maximum: int = TEXT_MAX) -> str:
    """A scalar as text, "" for null; numbers are accepted where the contract says string."""
    match value:
        case None:
            return ""
        case str():
            text = value
        case bool():
            raise InvalidPayload(f"{path} must be a string", path)
        case int() | Decimal():
            text = str(value)
        case _:
            raise InvalidPayload(f"{path} must be a string", path)
    if len(text) > maximum:
        raise InvalidPayload(f"{path} must be at most {maximum} characters long", path)
    return text


def points_from_wire(value: object, path: str) -> int:
    """Points above 0 with at most three decimals, as a string or number, to thousandths."""
    match value:
        case bool():
            raise InvalidPayload(f'{path} must be a number of points such as "100" or 12.5', path)
        case str():
            text = value
        case int():
            text = str(value) if abs(value) <= POINTS_MAX else "too large"
        case Decimal():
            text = format(value, "f") if value.is_finite() and abs(value.adjusted()) < 20 else "too large"
            text = text.rstrip("0").rstrip(".") if "." in text else text
        case _:
            raise InvalidPayload(f'{path} must be a number of points such as "100" or 12.5', path)
    if not _POINTS.fullmatch(text):
        raise InvalidPayload(
            f"{path} must be above 0, in plain digits, with at most 3 decimals and at most 12 digits before them",
            path,
        )
    whole, _, fraction = text.partition(".")
    points = int(whole) * 1000 + int(fraction.ljust(3, "0") or 0)
    if points <= 0:
        raise InvalidPayload(f"{path} must be above 0", path)
    return points


def points_text(points: int) -> str:
    """Thousandths as plain decimal text without trailing zeros: 12500 → "12.5"."""
    whole, fraction = divmod(points, 1000)
    return f"{whole}.{fraction:03d}".rstrip("0") if fraction else str(whole)


def read_entity_info(value: object) -> dict[str, int | None]:
    """The four unit ids of entityInfo, each None when it is absent, null or empty."""
    sent = object_at(value, "entityInfo")
    ids: dict[str, int | None] = {}
    for field in ("tillId", "storeId", "zoneId", "conceptId"):
        path = f"entityInfo.{field}"
        raw = sent.get(field)
        if isinstance(raw, bool) or not isinstance(raw, str | int | None):
            raise InvalidPayload(f"{path} must be a string of digits", path)
        text = "" if raw is None else str(raw)
        if text and (not _UNIT_ID.fullmatch(text) or int(text) > ID_MAX):
            raise InvalidPayload(f"{path} must be a string of at most 19 digits", path)
        ids[field] = int(text) if text else None
    return ids


def read_call(kind: str, path: str, methods: Sequence[str], envelope: Mapping[str, Any]) -> Mapping[str, Any]:
    """The call inside the envelope of a create request, checked for the type's path, method and headers."""
    payload = object_at(envelope.get("payload"), "payload")
    call = object_at(payload.get("IntouchAPITask-Payload"), TASK)
    for field in ("hostname", "path", "method"):
        if not isinstance(call.get(field), str) or not call[field]:
            raise InvalidPayload(f"{TASK}.{field} is mandatory and must be a string", f"{TASK}.{field}")
    for field in ("pathParams", "queryParams"):
        for name, value in object_at(call.get(field) or {}, f"{TASK}.{field}").items():
            text_at(value, f"{TASK}.{field}.{name}")
    if fill_path(call["path"], call.get("pathParams") or {}) != path:
        raise InvalidPayload(f"{TASK}.path must be {path} for {kind}", f"{TASK}.path")
    if call["method"].upper() not in methods:
        raise InvalidPayload(f"{TASK}.method must be {' or '.join(methods)} for {kind}", f"{TASK}.method")
    _check_headers(object_at(call.get("headers"), f"{TASK}.headers"))
    object_at(call.get("body"), f"{TASK}.body")
    return call


def fill_path(path: str, params: Mapping[str, Any]) -> str:
    """The path with its placeholders, such as {id}, filled from pathParams; raises BadUri."""
    if "{" not in path:
        return path

    def fill(found: re.Match[str]) -> str:
        name = found[1]
        if params.get(name) in (None, ""):
            raise BadUri(f"{TASK}.path has the placeholder {found[0]}: give {TASK}.pathParams.{name}", f"{TASK}.path")
        return quote(text_at(params[name], f"{TASK}.pathParams.{name}"), safe="")

    return _PLACEHOLDER.sub(fill, path)


def _check_headers(headers: Mapping[str, Any]) -> None:
    path = f"{TASK}.headers"
    seen: set[str] = set()
    for name, value in headers.items():
        where = f"{path}.{name}"
        if not _TOKEN.fullmatch(name) or name.lower() in seen:
            raise BadHeaders(f"{path} has a name that is not a header name, or has it twice", path)
        seen.add(name.lower())
        if isinstance(value, int) and not isinstance(value, bool) and name.lower() in PLAIN_HEADERS:
            continue  # the goodwill page types X-CAP-API-AUTH-ORG-ID as a number
        if not isinstance(value, str) or len(value) > 8192 or not value.isprintable():
            raise BadHeaders(f"{where} must be a string of printable characters", where)
        if WITHHELD in value:
            raise BadHeaders(
                f"{where} carries the mask {WITHHELD} instead of the credentials: send the real ones", where
            )


def mask(name: str, value: str) -> str:
    """What stands in the stored form for a secret header value: the scheme stays, the rest goes."""
    if name.lower() != "authorization":
        return WITHHELD
    scheme, blank, _ = value.partition(" ")
    return f"{scheme} {WITHHELD}" if blank and scheme in ("Basic", "Bearer") else WITHHELD


def read_redeem_item(body: Mapping[str, Any], prefix: str) -> tuple[Mapping[str, Any], str]:
    """The one item of root.redeem, an object or an array of one, and its path."""
    root = object_at(body.get("root"), f"{prefix}root")
    item: object = root.get("redeem")
    path = f"{prefix}root.redeem"
    if isinstance(item, list):
        if len(item) != 1:
            raise InvalidPayload(f"{path} must hold exactly one redemption: send one request for each", path)
        item, path = item[0], f"{path}[0]"
    return object_at(item, path), path


def read_redemption(body: Mapping[str, Any], prefix: str = f"{TASK}.body.") -> Redemption:
    """What a redeem body asks for; raises InvalidPayload with the field's path."""
    item, path = read_redeem_item(body, prefix)
    if "points_redeemed" not in item:
        raise InvalidPayload(f"{path}.points_redeemed is mandatory", f"{path}.points_redeemed")
    points = points_from_wire(item["points_redeemed"], f"{path}.points_redeemed")
    customer = object_at(item.get("customer"), f"{path}.customer")
    named = {
        kind: text_at(customer.get(kind), f"{path}.customer.{kind}", maximum=200).strip() for kind in IDENTIFIER_FIELDS
    }
    kind = next((each for each in IDENTIFIER_FIELDS if named[each]), None)
    if kind is None:
        raise InvalidPayload(
            f"{path}.customer must name the member by one of {', '.join(IDENTIFIER_FIELDS)}",
            f"{path}.customer",
        )
    text_at(item.get("redemption_time"), f"{path}.redemption_time")
    reference = text_at(item.get("external_reference_number"), f"{path}.external_reference_number", maximum=255)
    return Redemption(
        points,
        kind,
        named[kind],
        reference or None,
        text_at(item.get("transaction_number"), f"{path}.transaction_number"),
        text_at(item.get("notes"), f"{path}.notes"),
    )


def parse_hostname(text: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of a payload's hostname, or None when it is not plainly that.

    Angle brackets, case, a trailing slash and the default port are normalised (design.md §1). Anything
    else that a URL may carry (user, path, query, escapes, non-ASCII) is refused.
    """
    if not text.isascii():  # some other letters are ASCII once they are lower case
        return None
    name = text.strip(" ")
    if name.startswith("<") and name.endswith(">"):
        name = name[1:-1].strip()
    name = name.lower().removesuffix("/")
    scheme, found, rest = name.partition("://")
    if not found:
        scheme, rest = "https", name
    host, colon, port_text = rest.partition(":")
    if scheme not in ("http", "https") or not _HOST_NAME.fullmatch(host) or ".." in host:
        return None
    # 2130706433, 127.1 and 0x7f.1 are addresses to a resolver: only the plain form of one is taken.
    if _NUMERIC.fullmatch(host.rpartition(".")[2]) and not _IPV4.fullmatch(host):
        return None
    if not colon:
        return scheme, host, 443 if scheme == "https" else 80
    if not re.fullmatch(r"[0-9]{1,5}", port_text, re.ASCII) or not 1 <= int(port_text) <= 65535:
        return None
    return scheme, host, int(port_text)


def find_host(hosts: Sequence[Host], hostname: str) -> Host | Refusal:
    """The entry of the host table that routes this hostname; exact names win over longer and shorter suffixes."""
    path = f"{TASK}.hostname"
    address = parse_hostname(hostname)
    if address is None:
        return InvalidPayload(f"{path} must be a scheme and host such as https://api.example.com, nothing more", path)
    scheme, name, port = address
    fitting = [
        host
        for host in hosts
        if host.scheme == scheme
        and host.port == port
        and (host.pattern == name or (host.pattern.startswith("*.") and name.endswith(host.pattern[1:])))
    ]
    if fitting:
        return max(fitting, key=lambda host: (host.pattern == name, len(host.pattern)))
    return InvalidPayload(
        f"{path} names the host {name} (port {port}), which is not in the host table: an operator can add it under "
        "`hosts:` in the organisation file and run `counterfoil org apply`",
        path,
    )
