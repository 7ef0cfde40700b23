"""The HTTP calls of the contract's own example as bytes, so that sending one costs the load generator next to nothing.

Every create call has the same length: only the member's mobile and the external reference are filled in.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Final

import msgspec

CREATE_PATH: Final = "/api_gateway/v2/request-workflow/POINTS-REDEMPTION"
LIST_PATH: Final = "/api_gateway/v2/request-workflow/requests"
TILL_MD5: Final = "202cb962ac59075b964b07152d234b70"
MOBILE_FIRST: Final = 9_810_000_000  # national: the organisation's country code is put before it
_MOBILE: Final = "MOBILE"
_REFERENCE: Final = "REFERENCE"
_NO_ID: Final = "00000000-0000-0000-0000-000000000000"


class Caller(msgspec.Struct):
    """Who calls: an organisation's till, with the tokens of its maker and checker."""

    org_id: int
    members: int
    maker_token: str = ""
    checker_token: str = ""

    @property
    def authorization(self) -> str:
        """The Basic header of the organisation's till."""
        return "Basic " + base64.b64encode(f"till.{self.org_id}:{TILL_MD5}".encode()).decode()


def payload(authorization: str) -> dict[str, object]:
    """The call that a request carries, as in the contract's example."""
    return {
        "hostname": "<https://crm-nightly-new.cc.capillarytech.com>",
        "path": "/v1.1/points/redeem",
        "method": "POST",
        "pathParams": {},
        "queryParams": {"skip_validation": "true", "format": "json"},
        "body": {
            "root": {
                "redeem": {
                    "points_redeemed": "1",
                    "customer": {"mobile": _MOBILE},
                    "redemption_time": "2020-04-15 23:01:46",
                    "transaction_number": "numbr892723330323421971280",
                    "notes": "Redemption by SMS",
                    "external_reference_number": _REFERENCE,
                }
            }
        },
        "headers": {
            "Authorization": authorization,
            "content-type": "application/json",
            "X-CAP-CLIENT-SIGNATURE": "jatin",
        },
    }


def stored_payload() -> str:
    """The payload as it is stored: compact, the credential withheld."""
    return json.dumps(payload("Basic <withheld>"), separators=(",", ":"))


def _head(method: str, path: str, caller: Caller, token: str, length: int | None) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: {caller.authorization}",
        f"X-CAP-API-AUTH-ORG-ID: {caller.org_id}",
        f"X-CAP-UI-AUTH-TOKEN: {token}",
        "Accept: application/json",
    ]
    if length is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {length}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@dataclass(frozen=True, slots=True)
class CreateCall:
    """A create call in three pieces, between which the mobile and the reference go."""

    pieces: tuple[bytes, bytes, bytes]

    def fill(self, member: int, reference: bytes) -> bytes:
        """The bytes of one call; `reference` has the length that was announced."""
        first, second, third = self.pieces
        return b"%b%d%b%b%b" % (first, MOBILE_FIRST + member, second, reference, third)


def create_call(caller: Caller, reference_length: int) -> CreateCall:
    """The create call of this caller's maker."""
    entity = {"tillId": "50682289", "storeId": "50682288", "zoneId": "50682286", "conceptId": "50678331"}
    call = {"entityInfo": entity, "payload": {"IntouchAPITask-Payload": payload(caller.authorization)}}
    body = json.dumps(call, indent=1).encode()  # written for people to read, as the contract's own
    length = len(body) - len(_MOBILE) - len(_REFERENCE) + len(str(MOBILE_FIRST)) + reference_length
    whole = _head("POST", CREATE_PATH, caller, caller.maker_token, length) + body
    first, _, rest = whole.partition(_MOBILE.encode())
    second, _, third = rest.partition(_REFERENCE.encode())
    return CreateCall((first, second, third))


def approve_call(caller: Caller) -> tuple[bytes, bytes]:
    """The call with which the checker approves, in two pieces: the request's id goes between them."""
    task = {"actionDecision": "approved", "actionMessage": "approving the request"}
    call = {"requestId": _NO_ID, "actionName": "AdminTask", "payload": {"AdminTask-Payload": task}}
    body = json.dumps(call, indent=1).encode()
    head, _, tail = body.partition(_NO_ID.encode())
    return _head("PUT", CREATE_PATH, caller, caller.checker_token, len(body)) + head, tail


def get_call(caller: Caller, path: str) -> bytes:
    """A read by the checker."""
    return _head("GET", path, caller, caller.checker_token, None)
